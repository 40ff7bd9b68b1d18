using Warmline.Options;

namespace Warmline.Scheduling;

/// <summary>Whoever shares the pool with others, over all keys and lanes.</summary>
internal sealed class TenantState(string name, TenantLimits limits)
{
    public string Name { get; } = name;

    public TenantLimits Limits { get; set; } = limits;

    public int Leases { get; set; }

    public int Waiting { get; set; }

    public KeyFacts Facts { get; } = new();

    /// <summary>The tenant in each lane that it used.</summary>
    public List<TenantShare> Shares { get; } = [];

    /// <summary>Leases that it may still get.</summary>
    public int Room => Math.Max(0, Limits.MaxConcurrentRequests - Leases);

    public bool IsLimited => Limits.MaxConcurrentRequests < int.MaxValue;

    public bool IsIdle => Leases == 0 && Waiting == 0;

    /// <summary>
    /// Its place among those that could be forgotten, the one first that has been idle for longest; null while it is not idle.
    /// </summary>
    public LinkedListNode<TenantState>? Idle { get; set; }
}

/// <summary>A tenant in a lane: what fairness counts.</summary>
internal sealed class TenantShare(TenantState tenant, LaneState lane)
{
    /// <summary>Divides by every weight up to 20 without a rest.</summary>
    const long OneLease = 232_792_560;

    public TenantState Tenant { get; } = tenant;

    public LaneState Lane { get; } = lane;

    public int Leases { get; private set; }

    /// <summary>
    /// What it was served so far, by weight: among tenants that hold alike the one with the least goes first, so that also a single place
    /// goes round.
    /// </summary>
    public long VirtualTime { get; private set; }

    /// <summary>
    /// The most leases by which any of its queues has its place in an order: while it holds no fewer, none has to move up.
    /// </summary>
    public int Highest { get; set; }

    /// <summary>
    /// Where it waits: once for each key. With the key's lane, so that the right one is found without touching the others.
    /// </summary>
    public List<(LaneQueue Lane, TenantQueue Queue)> Queues { get; } = [];

    /// <summary>It asks. One that was away gets no credit for it.</summary>
    public void CatchUp()
    {
        if (Leases == 0 && Queues.Count == 0)
        {
            VirtualTime = Lane.VirtualTime;
        }
    }

    public void Granted()
    {
        Leases++;
        Lane.Leases++;
        Tenant.Leases++;
        Lane.VirtualTime = VirtualTime;
        VirtualTime += OneLease / Tenant.Limits.Weight;
    }

    public void Ended()
    {
        Leases--;
        Lane.Leases--;
        Tenant.Leases--;
    }
}
