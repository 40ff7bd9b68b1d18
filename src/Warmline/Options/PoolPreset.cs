using System.Globalization;

namespace Warmline;

/// <summary>
/// A set of plain values for a kind of application, to start from: <c>options.UsePreset(PoolPreset.BackendApi)</c>. It fills only what the
/// options leave unset.
/// </summary>
public sealed class PoolPreset
{
    PoolPreset(string name, string purpose) => (Name, Purpose) = (name, purpose);

    /// <summary>
    /// A command-line tool: few connections, all of which are kept for the short time that it runs, and a first burst that shares two
    /// handshakes.
    /// </summary>
    public static PoolPreset Cli { get; } = new(nameof(Cli), "a command-line tool")
    {
        MaxConnections = 5,
        MaxIdleConnections = 5,
        IdleTimeout = TimeSpan.FromSeconds(30),
        SpreadConnections = 2,
    };

    /// <summary>A service that calls a provider while it answers its own users.</summary>
    public static PoolPreset BackendApi { get; } = new(nameof(BackendApi), "a service that answers users")
    {
        MaxConnections = 30,
        IdleTimeout = TimeSpan.FromSeconds(120),
    };

    /// <summary>
    /// A job with much to do at once and nothing between two runs. Calls that stream are a lane of their own, as such a job often runs
    /// beside them: <c>stream</c> always has 8 places that no other call takes, and waits 180 s for the first byte and for each silence.
    /// <c>batch</c> stands beside it without limits. See <see cref="ConnectionPoolOptions.Lanes"/>; a lane of the same name there takes
    /// its place.
    /// </summary>
    public static PoolPreset Batch { get; } = new(nameof(Batch), "a job with much to do at once")
    {
        MaxConnections = 80,
        IdleTimeout = TimeSpan.FromSeconds(60),
        StreamReserve = 8,   // a tenth of its connections
    };

    /// <summary>Many customers on one pool: 200 calls in all, 10 for each.</summary>
    public static PoolPreset MultiTenantSaaS { get; } = new(nameof(MultiTenantSaaS), "many customers on one pool")
    {
        MaxConnections = 200,
        MaxConcurrentRequests = 200,
        MaxConcurrentRequestsPerTenant = 10,
        IdleTimeout = TimeSpan.FromSeconds(120),
    };

    /// <summary>All presets.</summary>
    public static IReadOnlyList<PoolPreset> All { get; } = [Cli, BackendApi, Batch, MultiTenantSaaS];

    /// <summary>Its name, as a configuration's <c>Preset</c> gives it.</summary>
    public string Name { get; }

    /// <summary>What it is made for, in a few words.</summary>
    public string Purpose { get; }

    /// <summary>Its <see cref="ConnectionPoolOptions.MaxConnections"/>.</summary>
    public int MaxConnections { get; private init; }

    /// <summary>
    /// Its <see cref="ConnectionPoolOptions.MaxIdleConnections"/>; null leaves the default, half of <see cref="MaxConnections"/>.
    /// </summary>
    public int? MaxIdleConnections { get; private init; }

    /// <summary>Its <see cref="ConnectionPoolOptions.MaxConcurrentRequests"/>; null leaves the default, none.</summary>
    public int? MaxConcurrentRequests { get; private init; }

    /// <summary>Its <see cref="TenantsOptions.MaxConcurrentRequests"/>; null leaves the default, none.</summary>
    public int? MaxConcurrentRequestsPerTenant { get; private init; }

    /// <summary>Its <see cref="ConnectionPoolOptions.IdleTimeout"/>.</summary>
    public TimeSpan IdleTimeout { get; private init; }

    /// <summary>Its <see cref="Http2Options.SpreadConnections"/>; null leaves the default.</summary>
    public int? SpreadConnections { get; private init; }

    /// <summary>What its lane for streams reserves; null when it has no lanes.</summary>
    internal int? StreamReserve { get; private init; }

    /// <summary>The preset of that name, in any case; null when there is none.</summary>
    public static PoolPreset? Find(string name) => All.FirstOrDefault(preset => string.Equals(preset.Name, name, StringComparison.OrdinalIgnoreCase));

    /// <summary>Its name and every value that it sets, as in <c>BackendApi: MaxConnections = 30, IdleTimeout = 120 s</c>.</summary>
    public override string ToString() => $"{Name}: " + string.Join(", ", Values().Where(pair => pair.Value is not null).Select(pair => $"{pair.Name} = {pair.Value}"));

    IEnumerable<(string Name, string? Value)> Values() =>
    [
        ("MaxConnections", Text(MaxConnections)),
        ("MaxIdleConnections", Text(MaxIdleConnections)),
        ("MaxConcurrentRequests", Text(MaxConcurrentRequests)),
        ("Tenants.MaxConcurrentRequests", Text(MaxConcurrentRequestsPerTenant)),
        ("IdleTimeout", $"{Text((int)IdleTimeout.TotalSeconds)} s"),
        ("Http2.SpreadConnections", Text(SpreadConnections)),
        ("Lanes", StreamReserve is { } reserve ? $"stream (Reserve {reserve}, FirstByte and Read 180 s), batch" : null),
    ];

    /// <summary>
    /// The lanes that are configured, and of its own those whose names are not. No ceilings: what it lets through together with them it
    /// lets through without. What it reserves is never more than a pool has left, as it must not make options invalid that are valid
    /// without it.
    /// </summary>
    internal IReadOnlyDictionary<string, LaneOptions> With(IDictionary<string, LaneOptions> configured, int? maxConcurrentRequests)
    {
        var lanes = new Dictionary<string, LaneOptions>(configured, StringComparer.Ordinal);
        if (StreamReserve is { } most)
        {
            var left = (maxConcurrentRequests ?? int.MaxValue) - 1L - configured.Values.Sum(lane => (long)(lane?.Reserve ?? 0));
            lanes.TryAdd("stream", ConnectionPoolOptions.StreamLane(reserve: (int)Math.Clamp(left / 4, 0, most), ceiling: null));
            lanes.TryAdd("batch", new LaneOptions());   // also for calls that name it
        }

        return lanes;
    }

    static string? Text(int? value) => value?.ToString(CultureInfo.InvariantCulture);
}
