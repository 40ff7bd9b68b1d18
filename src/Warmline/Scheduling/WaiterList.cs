namespace Warmline.Scheduling;

/// <summary>The links of a waiter that a list uses.</summary>
internal interface IWaiterLinks
{
    static abstract ref Waiter? Previous(Waiter waiter);

    static abstract ref Waiter? Next(Waiter waiter);
}

/// <summary>Waiters in the order in which they came.</summary>
internal struct WaiterList<TLinks>
    where TLinks : struct, IWaiterLinks
{
    public Waiter? First { get; private set; }

    public Waiter? Last { get; private set; }

    /// <summary>Adds a waiter at its place: nearly always the end, or near the beginning if its lease came to nothing.</summary>
    public void Add(Waiter waiter)
    {
        var before = Last;
        if (before is not null && before.Sequence > waiter.Sequence)
        {
            before = null;
            for (var at = First; at!.Sequence < waiter.Sequence; at = TLinks.Next(at))
            {
                before = at;
            }
        }

        var after = before is null ? First : TLinks.Next(before);
        TLinks.Previous(waiter) = before;
        TLinks.Next(waiter) = after;
        if (before is null)
        {
            First = waiter;
        }
        else
        {
            TLinks.Next(before) = waiter;
        }

        if (after is null)
        {
            Last = waiter;
        }
        else
        {
            TLinks.Previous(after) = waiter;
        }
    }

    public void Remove(Waiter waiter)
    {
        var (before, after) = (TLinks.Previous(waiter), TLinks.Next(waiter));
        if (before is null)
        {
            First = after;
        }
        else
        {
            TLinks.Next(before) = after;
        }

        if (after is null)
        {
            Last = before;
        }
        else
        {
            TLinks.Previous(after) = before;
        }

        TLinks.Previous(waiter) = TLinks.Next(waiter) = null;
    }
}
