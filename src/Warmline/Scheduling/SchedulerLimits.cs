using Warmline.Options;

namespace Warmline.Scheduling;

/// <summary>The limits in force: the options, frozen. <see cref="int.MaxValue"/> means none.</summary>
internal sealed record SchedulerLimits
{
    public int MaxConnections { get; init; } = 50;

    public int MaxConnectionsPerHost { get; init; } = int.MaxValue;

    public int MaxConcurrentRequests { get; init; } = int.MaxValue;

    public int MaxIdleConnections { get; init; } = 25;

    public int MaxQueueLength { get; init; } = 10_000;

    public TimeSpan IdleTimeout { get; init; } = TimeSpan.FromSeconds(120);

    public TimeSpan ConnectionLifetime { get; init; } = TimeSpan.FromMinutes(15);

    /// <summary>From the end of the DNS lookup to the server's SETTINGS.</summary>
    public TimeSpan ConnectTimeout { get; init; } = TimeSpan.FromSeconds(5);

    public int TargetStreams { get; init; } = 8;

    public int SpreadConnections { get; init; } = 8;

    public int MaxStreamsPerConnection { get; init; } = 32;

    /// <summary>
    /// Maximum number of concurrent dials of one key. 64 covers the default of MaxConnections at once, yet is no SYN flood.
    /// </summary>
    public int MaxDialsInFlight { get; init; } = 64;

    /// <summary>The back-off after the first failed dial; doubles with each further failure up to <see cref="MaxBackOff"/>.</summary>
    public TimeSpan BackOff { get; init; } = TimeSpan.FromMilliseconds(100);

    public TimeSpan MaxBackOff { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How often a request that the server provably did not start may be queued again.</summary>
    public int MaxRedispatches { get; init; } = 3;

    /// <summary>
    /// How long a learned idle limit is kept. Afterwards connections may stay idle for longer again and show whether the server still
    /// ends them.
    /// </summary>
    public TimeSpan IdleMemory { get; init; } = TimeSpan.FromHours(1);

    /// <summary>How long what was learned about a key (ALPN, stream limit) is kept after its last use.</summary>
    public TimeSpan KeyMemory { get; init; } = TimeSpan.FromHours(1);

    /// <summary>Lanes and tenants.</summary>
    public SharingSettings Sharing { get; init; } = SharingSettings.None;

    /// <summary>What is known about servers before the first call.</summary>
    public ProviderChoices Providers { get; init; } = ProviderChoices.None;

    public static SchedulerLimits From(PoolSettings settings) => new()
    {
        MaxConnections = settings.MaxConnections,
        MaxConnectionsPerHost = settings.MaxConnectionsPerHost,
        MaxConcurrentRequests = settings.MaxConcurrentRequests,
        MaxIdleConnections = settings.MaxIdleConnections,
        MaxQueueLength = settings.MaxQueueLength,
        IdleTimeout = settings.IdleTimeout,
        ConnectionLifetime = settings.ConnectionLifetime,
        ConnectTimeout = settings.ConnectTimeout > TimeSpan.Zero ? settings.ConnectTimeout : TimeSpan.FromDays(24),
        TargetStreams = settings.TargetStreams,
        SpreadConnections = settings.SpreadConnections,
        MaxStreamsPerConnection = settings.MaxStreamsPerConnection,
        Sharing = settings.Sharing,
        Providers = settings.Providers,
    };
}
