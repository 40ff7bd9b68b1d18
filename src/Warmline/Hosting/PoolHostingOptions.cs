namespace Warmline;

/// <summary>What the host does with a pool when the application starts and stops.</summary>
public sealed class PoolHostingOptions
{
    /// <summary>How long the start waits for <see cref="OriginOptions.WarmConnections"/>. Default 10 s: two dials that each take all of
    /// <see cref="PoolTimeouts.Connect"/>. Range: above 0, at most 10 minutes.</summary>
    public TimeSpan WarmUpTimeout { get; set; } = TimeSpan.FromSeconds(10);

    /// <summary>Whether the application refuses to start when the warm connections are not ready in time. Default false: a provider that is
    /// down must not keep the application from what it can do without it.</summary>
    public bool RequireWarmUp { get; set; }

    /// <summary>How long running calls may go on once the host stops; what still runs then is aborted with
    /// <see cref="PoolAbortedException"/>. None by default: the host's shutdown timeout less a tenth of it, 2 s at most, in which the
    /// application can still tell its own callers. Range: 0 and up.</summary>
    public TimeSpan? DrainTimeout { get; set; }

    internal List<string> ConfigurationProblems { get; } = [];

    internal IEnumerable<string> Problems()
    {
        if (WarmUpTimeout <= TimeSpan.Zero || WarmUpTimeout > TimeSpan.FromMinutes(10))
        {
            yield return $"Hosting.WarmUpTimeout is {WarmUpTimeout}: must be above 0 and at most 10 minutes.";
        }

        if (DrainTimeout is { } drain && (drain < TimeSpan.Zero || drain.TotalDays > 24))
        {
            yield return $"Hosting.DrainTimeout is {drain}: must be 0 to 24 days.";
        }
    }
}
