using Warmline.Options;

namespace Warmline.Scheduling;

/// <summary>A tenant, over all keys and lanes.</summary>
internal sealed class TenantState(string name, TenantLimits limits)
{
    public string Name { get; } = name;

    public TenantLimits Limits { get; set; } = limits;

    public int Leases { get; set; }

    public int Waiting { get; set; }

    public KeyFacts Facts { get; } = new();

    /// <summary>The tenant's share of each lane that it used.</summary>
    public List<TenantShare> Shares { get; } = [];

    /// <summary>Number of leases that it may still get.</summary>
    public int Room => Math.Max(0, Limits.MaxConcurrentRequests - Leases);

    public bool IsLimited => Limits.MaxConcurrentRequests < int.MaxValue;

    public bool IsIdle => Leases == 0 && Waiting == 0;

    /// <summary>Its place among the idle tenants, which may be forgotten, the longest idle first; null before it was idle.</summary>
    public LinkedListNode<TenantState>? Idle { get; set; }
}

/// <summary>A tenant in a lane: the unit of fairness.</summary>
internal sealed class TenantShare(TenantState tenant, LaneState lane)
{
    /// <summary>Divisible by every weight up to 20.</summary>
    const long OneLease = 232_792_560;

    public TenantState Tenant { get; } = tenant;

    public LaneState Lane { get; } = lane;

    public int Leases { get; private set; }

    /// <summary>
    /// What it was served so far, divided by its weight. Among tenants that hold equally many leases the one with the least goes first,
    /// so that even a single place goes round.
    /// </summary>
    public long VirtualTime { get; private set; }

    /// <summary>
    /// The most leases on which any of its queues bases its place in an order. While the tenant holds no fewer, none has to move up.
    /// </summary>
    public int Highest { get; set; }

    /// <summary>Its queues, one for each key, with the key's lane so that the right one is found without touching the others.</summary>
    public List<(LaneQueue Lane, TenantQueue Queue)> Queues { get; } = [];

    /// <summary>A call arrives. A tenant that had no calls gets no credit for that time.</summary>
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
