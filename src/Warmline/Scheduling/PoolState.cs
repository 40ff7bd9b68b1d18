namespace Warmline.Scheduling;

/// <summary>State shared by all keys: limits, pause and totals.</summary>
internal sealed class PoolState(SchedulerLimits limits)
{
    public SchedulerLimits Limits { get; set; } = limits;

    public int Leases { get; set; }

    public int Waiting { get; set; }

    public bool IsDraining { get; set; }

    public bool IsPausedAll { get; set; }

    /// <summary>The pause does not end before this time.</summary>
    public TimeSpan PausedUntil { get; set; } = TimeSpan.MinValue;

    /// <summary>The latest sequence number given out.</summary>
    public long LastSequence { get; private set; }

    public KeyFacts Facts { get; } = new();

    public Tally<PoolRejectionReason> RefusedBy { get; } = new();

    public Tally<DialPhase> DialsFailedIn { get; } = new();

    public long NextSequence() => ++LastSequence;

    public bool IsPaused(KeyState key) => IsPausedAll || key.Origin.IsPaused;

    public void CountFailedDial(ConnectionState connection, DialPhase phase)
    {
        connection.Key.Facts.DialsFailed++;
        Facts.DialsFailed++;
        DialsFailedIn.Add(phase);
    }
}
