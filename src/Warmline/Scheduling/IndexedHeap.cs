namespace Warmline.Scheduling;

/// <summary>The order of an <see cref="IndexedHeap{T, TOrder}"/>, and the field in which an item keeps its place.</summary>
internal interface IHeapOrder<T>
{
    static abstract bool Before(T left, T right);

    /// <summary>The item's place; -1 when it is not in the heap. One field for each heap that an item can be in.</summary>
    static abstract ref int Place(T item);
}

/// <summary>A binary heap whose items know their place, so that any of them can be moved or removed in O(log n).</summary>
internal sealed class IndexedHeap<T, TOrder>
    where T : class
    where TOrder : struct, IHeapOrder<T>
{
    T[] _items = new T[4];

    public int Count { get; private set; }

    public T? First => Count == 0 ? null : _items[0];

    /// <summary>All items, in no useful order.</summary>
    public ReadOnlySpan<T> Items => _items.AsSpan(0, Count);

    /// <summary>Adds the item, or moves it to where its changed order belongs.</summary>
    public void Set(T item)
    {
        var place = TOrder.Place(item);
        if (place < 0)
        {
            if (Count == _items.Length)
            {
                Array.Resize(ref _items, Count * 2);
            }

            place = Count++;
        }

        Up(item, place);
    }

    public void Remove(T item)
    {
        var place = TOrder.Place(item);
        if (place < 0)
        {
            return;
        }

        TOrder.Place(item) = -1;
        var last = _items[--Count];
        _items[Count] = null!;
        if (!ReferenceEquals(last, item))
        {
            Up(last, place);
        }
    }

    void Up(T item, int place)
    {
        var start = place;
        while (place > 0 && TOrder.Before(item, _items[(place - 1) / 2]))
        {
            Put(_items[(place - 1) / 2], place);
            place = (place - 1) / 2;
        }

        if (place != start)
        {
            Put(item, place);
            return;
        }

        for (int child; (child = place * 2 + 1) < Count; place = child)
        {
            if (child + 1 < Count && TOrder.Before(_items[child + 1], _items[child]))
            {
                child++;
            }

            if (!TOrder.Before(_items[child], item))
            {
                break;
            }

            Put(_items[child], place);
        }

        Put(item, place);
    }

    void Put(T item, int place)
    {
        _items[place] = item;
        TOrder.Place(item) = place;
    }
}
