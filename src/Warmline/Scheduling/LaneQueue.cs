namespace Warmline.Scheduling;

/// <summary>A lane on one key: its tenants that wait, in fair order.</summary>
internal sealed class LaneQueue(KeyState key, LaneState lane, BudgetState? budget)
{
    public int ParkedPlace = -1;

    readonly IndexedHeap<TenantQueue, TenantQueue.FairOrder> _tenants = new();
    TenantQueue? _spare;

    public KeyState Key { get; } = key;

    public LaneState Lane { get; } = lane;

    /// <summary>The provider budget of its waiters; null where pacing is off.</summary>
    public BudgetState? Budget { get; } = budget;

    /// <summary>Waiters that no limit of their tenant blocks.</summary>
    public int Eligible { get; private set; }

    /// <summary>The lane's leases on usable connections of the key, including paced ones; counted in the queue without a budget.</summary>
    public int Streams { get; set; }

    public int Waiting { get; private set; }

    /// <summary>
    /// Finds the next waiter if the lane may be served; null if no waiter's tenant may. Moves tenants back whose order is out of date.
    /// </summary>
    public Waiter? FindNext()
    {
        while (_tenants.First is { IsPassed: true } first)
        {
            Refresh(first);
        }

        return _tenants.First?.Head;
    }

    public void Add(Waiter waiter)
    {
        var queue = QueueOf(waiter.Share);
        Waiting++;
        waiter.Queue = queue;
        queue.Add(waiter);
        Refresh(queue);
    }

    public void Remove(Waiter waiter)
    {
        var queue = waiter.Queue!;
        Waiting--;
        waiter.Queue = null;
        queue.Remove(waiter);
        Refresh(queue);
        if (queue.Count == 0)
        {
            queue.Share!.Queues.Remove((this, queue));
            queue.Share = null;
            _spare = queue;
        }
    }

    /// <summary>Moves a tenant to its current place in the order, or removes it if it is at its limit.</summary>
    public void Refresh(TenantQueue queue)
    {
        var eligible = Math.Min(queue.Count, queue.Share!.Tenant.Room);
        Eligible += eligible - queue.Eligible;
        Key.Queue.Eligible += eligible - queue.Eligible;
        queue.Eligible = eligible;
        if (eligible > 0)
        {
            queue.UpdateOrder();
            _tenants.Set(queue);
        }
        else
        {
            _tenants.Remove(queue);
        }

        if (ParkedPlace >= 0)
        {
            SetParked(Eligible > 0);
        }
    }

    /// <summary>Takes a tenant out of the order, whose weight may change.</summary>
    public void TakeOut(TenantQueue queue)
    {
        _tenants.Remove(queue);
        Eligible -= queue.Eligible;
        Key.Queue.Eligible -= queue.Eligible;
        queue.Eligible = 0;
        SetParked(false);
    }

    public void SetParked(bool held)
    {
        if (held)
        {
            Lane.Parked.Set(this);
        }
        else
        {
            Lane.Parked.Remove(this);
        }
    }

    /// <summary>Which of two lanes goes first.</summary>
    public bool Before(LaneQueue other)
    {
        var (next, othersNext) = (FindNext()!, other.FindNext()!);
        if (Lane == other.Lane)
        {
            return FairOrder.Before(this, other);
        }

        int surplus = Lane.Surplus, othersSurplus = other.Lane.Surplus;
        return surplus != othersSurplus ? surplus < othersSurplus : next.Sequence < othersNext.Sequence;
    }

    TenantQueue QueueOf(TenantShare share)
    {
        foreach (var (lane, queue) in share.Queues)
        {
            if (lane == this)
            {
                return queue;
            }
        }

        var added = _spare ?? new TenantQueue(this);
        _spare = null;
        added.Share = share;
        share.Queues.Add((this, added));
        return added;
    }

    /// <summary>The order of the lane's keys: by their first tenants.</summary>
    internal readonly struct FairOrder : IHeapOrder<LaneQueue>
    {
        public static bool Before(LaneQueue left, LaneQueue right) =>
            TenantQueue.FairOrder.Before(left._tenants.First!, right._tenants.First!);

        public static ref int Place(LaneQueue item) => ref item.ParkedPlace;
    }
}
