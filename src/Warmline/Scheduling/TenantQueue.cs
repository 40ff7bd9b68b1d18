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

    /// <summary>Whose it is; null while it is nobody's.</summary>
    public TenantShare? Share { get; set; }

    public int Count { get; private set; }

    /// <summary>How many of them count as eligible in the sums of the lane and the key.</summary>
    public int Eligible { get; set; }

    public Waiter? Head => _levels == 0 ? null : List(BitOperations.Log2(_levels)).First;

    /// <summary>
    /// Whether its tenant was served since it got its place in the order. That can only have put it further back, so it is looked at
    /// again when it is first: a tenant that waits at many keys would have to be moved at all of them each time otherwise.
    /// </summary>
    public bool IsPassed => _virtualTime != Share!.VirtualTime || _leases != Share.Leases;

    /// <summary>Whether its tenant holds less than when it got its place: it has to move up now.</summary>
    public bool IsDue => _leases > Share!.Leases;

    /// <summary>
    /// What its tenant holds and was served, as its place in the order will say. Kept here, as the order may compare only what does not
    /// change under it.
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
