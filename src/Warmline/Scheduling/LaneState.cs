using Warmline.Options;

namespace Warmline.Scheduling;

/// <summary>A class of traffic, over all keys.</summary>
internal sealed class LaneState(LaneSettings settings)
{
    public LaneSettings Settings { get; set; } = settings;

    public string Name => Settings.Name;

    /// <summary>All leases, including those on draining connections.</summary>
    public int Leases { get; set; }

    public int Waiting { get; set; }

    /// <summary>Waiters already assigned a lease while the waiters of a key are being counted.</summary>
    public int Allotted { get; set; }

    /// <summary>The virtual time of the tenant served last, from before that lease was counted.</summary>
    public long VirtualTime { get; set; }

    public KeyFacts Facts { get; } = new();

    /// <summary>The lane's queues on the keys where limits over all keys block its waiters.</summary>
    public IndexedHeap<LaneQueue, LaneQueue.FairOrder> Parked { get; } = new();

    /// <summary>Its leases beyond its reserve. The lane with the fewest goes first.</summary>
    public int Surplus => Math.Max(0, Leases - Settings.Reserve);
}
