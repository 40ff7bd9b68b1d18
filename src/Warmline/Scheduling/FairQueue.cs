namespace Warmline.Scheduling;

/// <summary>
/// The waiters of one key, in fair order: by lane, then by tenant (the one that holds least for its weight), then by priority, then by
/// arrival. The scheduler decides which lanes may be served at all. Tenants at their own limit are left out here, so that no call waits
/// behind them.
/// </summary>
internal sealed class FairQueue(KeyState key)
{
    WaiterList<Arrival> _all;

    public int Count { get; private set; }

    /// <summary>Waiters that no limit of their tenant blocks.</summary>
    public int Eligible { get; set; }

    /// <summary>The waiter that has waited longest.</summary>
    public Waiter? First => _all.First;

    /// <summary>The lanes used on this key.</summary>
    public List<LaneQueue> Lanes { get; } = [];

    /// <summary>Whether any of its waiters have come with a provider's budget.</summary>
    public bool HasBudgets { get; private set; }

    /// <summary>The lane's leases on usable connections of the key.</summary>
    public int StreamsOf(LaneState lane)
    {
        foreach (var known in Lanes)
        {
            if (known.Lane == lane && known.Budget is null)
            {
                return known.Streams;
            }
        }

        return 0;
    }

    /// <summary>The queue of the lane on this key; with a budget, of the lane's waiters for that budget.</summary>
    public LaneQueue LaneOf(LaneState lane, BudgetState? budget = null)
    {
        foreach (var known in Lanes)
        {
            if (known.Lane == lane && known.Budget == budget)
            {
                return known;
            }
        }

        var added = new LaneQueue(key, lane, budget);
        Lanes.Add(added);
        if (budget is not null)
        {
            HasBudgets = true;
            budget.Keys.Add(key);
        }

        return added;
    }

    /// <summary>Forgets a budget; returns false if a call waits for it.</summary>
    public bool Forget(BudgetState budget)
    {
        if (Lanes.Exists(lane => lane.Budget == budget && lane.Waiting > 0))
        {
            return false;
        }

        Lanes.RemoveAll(lane => lane.Budget == budget);
        HasBudgets = Lanes.Exists(static lane => lane.Budget is not null);
        return true;
    }

    /// <summary>Adds a waiter at its place, which it keeps if its lease came to nothing.</summary>
    public void Add(Waiter waiter)
    {
        _all.Add(waiter);
        Count++;
        waiter.Share.Tenant.Waiting++;
        waiter.Lane.Lane.Waiting++;
        (waiter.Budget is null ? waiter.Lane : LaneOf(waiter.Lane.Lane, waiter.Budget)).Add(waiter);
    }

    public void Remove(Waiter waiter)
    {
        _all.Remove(waiter);
        Count--;
        waiter.Share.Tenant.Waiting--;
        waiter.Lane.Lane.Waiting--;
        waiter.Queue!.Lane.Remove(waiter);
    }

    public IEnumerable<Waiter> All()
    {
        for (var at = _all.First; at is not null; at = at.Next)
        {
            yield return at;
        }
    }

    readonly struct Arrival : IWaiterLinks
    {
        public static ref Waiter? Previous(Waiter waiter) => ref waiter.Previous;

        public static ref Waiter? Next(Waiter waiter) => ref waiter.Next;
    }
}
