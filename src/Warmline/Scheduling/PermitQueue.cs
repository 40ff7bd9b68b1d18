namespace Warmline.Scheduling;

/// <summary>Keys that lack permits of one kind, and how many they need.</summary>
internal sealed class PermitQueue
{
    readonly IndexedHeap<KeyState, KeyState.StarvingFirst> _keys = new();

    /// <summary>The key that gets the next permit.</summary>
    public KeyState? First => _keys.First;

    /// <summary>Permits that its keys need together.</summary>
    public int Wanted { get; private set; }

    /// <summary>Its keys that have no connection and no dial.</summary>
    public int Starving { get; private set; }

    /// <summary>Adds the key, or moves it to its new place.</summary>
    public void Set(KeyState key, int need, double share)
    {
        if (key.Wish.Queue != this)
        {
            key.Wish.Queue?.Remove(key);
            key.Wish.Queue = this;
        }
        else
        {
            Count(key, -1);
        }

        key.Wish.Count = need;
        key.Wish.Share = share;
        key.Wish.IsStarving = key.IsStarving;
        Count(key, +1);
        _keys.Set(key);
    }

    public void Remove(KeyState key)
    {
        Count(key, -1);
        _keys.Remove(key);
        key.Wish.Queue = null;
    }

    void Count(KeyState key, int sign)
    {
        Wanted += sign * key.Wish.Count;
        Starving += key.Wish.IsStarving ? sign : 0;
    }
}
