using System.Numerics;

namespace Warmline.Scheduling;

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

    /// <summary>The tenant; null while the queue is unused.</summary>
    public TenantShare? Share { get; set; }

    public int Count { get; private set; }

    /// <summary>How many of its waiters count as eligible in the totals of the lane and the key.</summary>
    public int Eligible { get; set; }

    public Waiter? Head => _levels == 0 ? null : List(BitOperations.Log2(_levels)).First;

    /// <summary>
    /// Whether its tenant was served since the queue got its place in the order. That can only move it further back, so it is checked
    /// when it is first. Otherwise a tenant that waits on many keys would have to be moved on all of them each time.
    /// </summary>
    public bool IsPassed => _virtualTime != Share!.VirtualTime || _leases != Share.Leases;

    /// <summary>Whether its tenant holds less than when the queue got its place: then it has to move up now.</summary>
    public bool IsDue => _leases > Share!.Leases;

    /// <summary>
    /// Copies what its tenant holds and was served, which decides its place in the order. A copy, as an order must not compare values
    /// that change.
    /// </summary>
    public void UpdateOrder()
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
        /// <summary>
        /// First the tenant that holds less for its weight, then the one that was served less, then the one whose next waiter came first.
        /// </summary>
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
