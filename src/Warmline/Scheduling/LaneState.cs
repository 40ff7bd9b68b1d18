using Warmline.Options;

namespace Warmline.Scheduling;

/// <summary>A class of traffic, over all keys.</summary>
internal sealed class LaneState(LaneSettings settings)
{
    public LaneSettings Settings { get; set; } = settings;

    public string Name => Settings.Name;

    /// <summary>Leases, those on draining connections included.</summary>
    public int Leases { get; set; }

    public int Waiting { get; set; }

    /// <summary>Waiters that were counted to get a lease, while those of a key are counted.</summary>
    public int Allotted { get; set; }

    /// <summary>How far its tenants have been served: the virtual time of the one served last, before that counted.</summary>
    public long VirtualTime { get; set; }

    public KeyFacts Facts { get; } = new();

    /// <summary>The lane on keys where limits of the whole pool hold its waiters back.</summary>
    public IndexedHeap<LaneQueue, LaneQueue.FairOrder> Parked { get; } = new();

    /// <summary>What it holds beyond its reserve: among lanes the one with the least goes first.</summary>
    public int Surplus => Math.Max(0, Leases - Settings.Reserve);
}
