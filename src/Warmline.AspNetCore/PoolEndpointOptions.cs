namespace Warmline;

/// <summary>How <c>MapPoolStats</c> behaves.</summary>
public sealed class PoolStatsEndpointOptions
{
    /// <summary>Whether callers from other machines are answered. Default false: the figures tell hosts, lanes and tenants, so that whoever
    /// opens them to a network has to say so, and to protect them (<c>RequireAuthorization</c>, a port of its own that only the inside
    /// reaches, a firewall; not <c>RequireHost</c>, as callers choose that header).</summary>
    public bool AllowRemote { get; set; }

    /// <summary>
    /// Pools that are shown besides those of <c>AddConnectionPool</c>: for applications that make theirs by hand. Empty by default. They
    /// must outlive the application's last answer.
    /// </summary>
    public IList<ConnectionPool> Pools { get; } = [];

    /// <summary>Time from one event of the live feed to the next. Default 1 s: what an eye follows. Range: 100 ms to 1 hour.</summary>
    public TimeSpan LiveInterval { get; set; } = TimeSpan.FromSeconds(1);

    /// <summary>
    /// How many readers the live feed has at most; further ones are told to come back later (503). Default 20: each costs one look at the
    /// pools an interval. Range: 1 to 1,000.
    /// </summary>
    public int MaxLiveReaders { get; set; } = 20;

    /// <summary>
    /// How many waiters, and how many requests in flight, are listed for each pool. Default 100: they are read under the pool's lock.
    /// Range: 1 to 10,000.
    /// </summary>
    public int MaxListed { get; set; } = 100;

    internal PoolStatsEndpointOptions Checked(Action<PoolStatsEndpointOptions>? configure)
    {
        configure?.Invoke(this);
        List<string> problems =
        [
            .. Unless(LiveInterval >= TimeSpan.FromMilliseconds(100) && LiveInterval <= TimeSpan.FromHours(1), $"LiveInterval is {LiveInterval}: must be 100 ms to 1 hour."),
            .. Unless(MaxLiveReaders is >= 1 and <= 1_000, $"MaxLiveReaders is {MaxLiveReaders}: must be 1 to 1,000."),
            .. Unless(MaxListed is >= 1 and <= 10_000, $"MaxListed is {MaxListed}: must be 1 to 10,000."),
            .. Unless(!Pools.Contains(null!), "Pools has a null in it."),
        ];
        return problems.Count == 0 ? this : throw new ArgumentException($"Invalid {nameof(PoolStatsEndpointOptions)}: {string.Join(" ", problems)}", nameof(configure));

        static IEnumerable<string> Unless(bool valid, string problem) => valid ? [] : [problem];
    }
}

/// <summary>How <c>MapPoolMetrics</c> behaves.</summary>
public sealed class PoolMetricsEndpointOptions
{
    /// <summary>
    /// Whether callers from other machines are answered. Default false: see <see cref="PoolStatsEndpointOptions.AllowRemote"/>.
    /// </summary>
    public bool AllowRemote { get; set; }
}
