using System.Globalization;

namespace Warmline;

/// <summary>
/// A set of plain values for a kind of application, to start from: <c>options.UsePreset(PoolPreset.BackendApi)</c>. It fills only what the options leave unset.
/// </summary>
public sealed class PoolPreset
{
    PoolPreset(string name, string purpose) => (Name, Purpose) = (name, purpose);

    /// <summary>A command-line tool: few connections, all of which are kept for the short time that it runs, and a first burst that shares two handshakes.</summary>
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

    /// <summary>A job with much to do at once and nothing between two runs.</summary>
    public static PoolPreset Batch { get; } = new(nameof(Batch), "a job with much to do at once")
    {
        MaxConnections = 80,
        IdleTimeout = TimeSpan.FromSeconds(60),
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

    /// <summary>Its <see cref="ConnectionPoolOptions.MaxIdleConnections"/>; null leaves the default, half of <see cref="MaxConnections"/>.</summary>
    public int? MaxIdleConnections { get; private init; }

    /// <summary>Its <see cref="ConnectionPoolOptions.MaxConcurrentRequests"/>; null leaves the default, none.</summary>
    public int? MaxConcurrentRequests { get; private init; }

    /// <summary>Its <see cref="TenantsOptions.MaxConcurrentRequests"/>; null leaves the default, none.</summary>
    public int? MaxConcurrentRequestsPerTenant { get; private init; }

    /// <summary>Its <see cref="ConnectionPoolOptions.IdleTimeout"/>.</summary>
    public TimeSpan IdleTimeout { get; private init; }

    /// <summary>Its <see cref="Http2Options.SpreadConnections"/>; null leaves the default.</summary>
    public int? SpreadConnections { get; private init; }

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
    ];

    static string? Text(int? value) => value?.ToString(CultureInfo.InvariantCulture);
}
