using System.Numerics;

namespace Warmline.Scheduling;

/// <summary>
/// The waiters of one key: who is next. By lane, there by tenant (who holds least for its weight), there by priority, there by arrival. The scheduler decides which lanes may go at all;
/// tenants that are at their own limit stand aside here, so that nobody waits behind them.
/// </summary>
internal sealed class FairQueue(KeyState key)
{
    WaiterList<Arrival> _all;

    public int Count { get; private set; }

    /// <summary>Waiters that no limit of their tenant holds back.</summary>
    public int Eligible { get; set; }

    /// <summary>Who has waited longest.</summary>
    public Waiter? First => _all.First;

    /// <summary>The lanes that the key has seen.</summary>
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

    /// <summary>The lane on this key; of the waiters that one budget of the provider lets through or holds back, where they have one.</summary>
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

    /// <summary>Lets go of a budget; false when somebody waits for it.</summary>
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

    /// <summary>Puts a waiter at its place, which it keeps when it was served in vain.</summary>
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

/// <summary>A lane on one key: its tenants that wait, in fair order.</summary>
internal sealed class LaneQueue(KeyState key, LaneState lane, BudgetState? budget)
{
    public int HeldPlace = -1;

    readonly IndexedHeap<TenantQueue, TenantQueue.FairOrder> _tenants = new();
    TenantQueue? _spare;

    public KeyState Key { get; } = key;

    public LaneState Lane { get; } = lane;

    /// <summary>What the provider lets its waiters through by; null where they are not paced.</summary>
    public BudgetState? Budget { get; } = budget;

    /// <summary>Waiters that no limit of their tenant holds back.</summary>
    public int Eligible { get; private set; }

    /// <summary>The lane's leases on usable connections of the key, paced ones too; counted where there is no budget.</summary>
    public int Streams { get; set; }

    public int Waiting { get; private set; }

    /// <summary>Who goes next, if the lane may; null when nobody waits whose tenant may.</summary>
    public Waiter? Next
    {
        get
        {
            while (_tenants.First is { IsPassed: true } first)
            {
                Refresh(first);
            }

            return _tenants.First?.Head;
        }
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

    /// <summary>Puts a tenant to where it belongs now, or aside.</summary>
    public void Refresh(TenantQueue queue)
    {
        var eligible = Math.Min(queue.Count, queue.Share!.Tenant.Room);
        Eligible += eligible - queue.Eligible;
        Key.Queue.Eligible += eligible - queue.Eligible;
        queue.Eligible = eligible;
        if (eligible > 0)
        {
            queue.Look();
            _tenants.Set(queue);
        }
        else
        {
            _tenants.Remove(queue);
        }

        if (HeldPlace >= 0)
        {
            SetHeld(Eligible > 0);
        }
    }

    /// <summary>Takes a tenant out of the order, whose weight may change.</summary>
    public void TakeOut(TenantQueue queue)
    {
        _tenants.Remove(queue);
        Eligible -= queue.Eligible;
        Key.Queue.Eligible -= queue.Eligible;
        queue.Eligible = 0;
        SetHeld(false);
    }

    public void SetHeld(bool held)
    {
        if (held)
        {
            Lane.Held.Set(this);
        }
        else
        {
            Lane.Held.Remove(this);
        }
    }

    /// <summary>Which of two lanes goes first.</summary>
    public bool Before(LaneQueue other)
    {
        var (next, othersNext) = (Next!, other.Next!);
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
        public static bool Before(LaneQueue left, LaneQueue right) => TenantQueue.FairOrder.Before(left._tenants.First!, right._tenants.First!);

        public static ref int Place(LaneQueue item) => ref item.HeldPlace;
    }
}

/// <summary>A tenant's waiters in one lane on one key: higher priority first, then first come, first served.</summary>
internal sealed class TenantQueue(LaneQueue lane)
{
    public const int MaxPriority = 10;

    int _place = -1;
    int _leases;
    int _weight;
    long _virtualTime;
    WaiterList<OfTenant> _usual;
    WaiterList<OfTenant>[]? _others;
    uint _levels;

    public LaneQueue Lane { get; } = lane;

    /// <summary>Whose it is; null while it is nobody's.</summary>
    public TenantShare? Share { get; set; }

    public int Count { get; private set; }

    /// <summary>How many of them count as eligible in the sums of the lane and the key.</summary>
    public int Eligible { get; set; }

    public Waiter? Head => _levels == 0 ? null : List(BitOperations.Log2(_levels)).First;

    /// <summary>Whether its tenant was served since it got its place in the order. That can only have put it further back, so it is looked at again when it is first: a tenant that waits at many
    /// keys would have to be moved at all of them each time otherwise.</summary>
    public bool IsPassed => _virtualTime != Share!.VirtualTime || _leases != Share.Leases;

    /// <summary>Whether its tenant holds less than when it got its place: it has to move up now.</summary>
    public bool IsDue => _leases > Share!.Leases;

    /// <summary>What its tenant holds and was served, as its place in the order will say. Kept here, as the order may compare only what does not change under it.</summary>
    public void Look()
    {
        _leases = Share!.Leases;
        Share.Highest = Math.Max(Share.Highest, _leases);
        _virtualTime = Share.VirtualTime;
        _weight = Share.Tenant.Limits.Weight;
    }

    public void Add(Waiter waiter)
    {
        var level = Level(waiter);
        List(level).Add(waiter);
        _levels |= 1u << level;
        Count++;
    }

    public void Remove(Waiter waiter)
    {
        var level = Level(waiter);
        ref var list = ref List(level);
        list.Remove(waiter);
        if (list.First is null)
        {
            _levels &= ~(1u << level);
        }

        Count--;
    }

    ref WaiterList<OfTenant> List(int level)
    {
        if (level == MaxPriority)
        {
            return ref _usual;
        }

        return ref (_others ??= new WaiterList<OfTenant>[2 * MaxPriority + 1])[level];
    }

    static int Level(Waiter waiter) => waiter.Priority + MaxPriority;

    internal readonly struct FairOrder : IHeapOrder<TenantQueue>
    {
        /// <summary>Who holds less for its weight goes first, then who was served less, then whose next waiter came first.</summary>
        public static bool Before(TenantQueue left, TenantQueue right)
        {
            var held = (long)left._leases * right._weight;
            var othersHeld = (long)right._leases * left._weight;
            return held != othersHeld ? held < othersHeld
                : left._virtualTime != right._virtualTime ? left._virtualTime < right._virtualTime
                : left.Head!.Sequence < right.Head!.Sequence;
        }

        public static ref int Place(TenantQueue item) => ref item._place;
    }

    readonly struct OfTenant : IWaiterLinks
    {
        public static ref Waiter? Previous(Waiter waiter) => ref waiter.PreviousOfTenant;

        public static ref Waiter? Next(Waiter waiter) => ref waiter.NextOfTenant;
    }
}
