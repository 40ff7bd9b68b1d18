namespace Warmline.Options;

/// <summary>A lane, checked and frozen. <see cref="int.MaxValue"/> means none.</summary>
/// <param name="Name">Empty for the calls that are in no lane.</param>
/// <param name="Reserve">Leases that are never lent.</param>
/// <param name="Ceiling">The most leases.</param>
/// <param name="MaxQueueLength">The most waiters.</param>
/// <param name="Timeouts">The lane's clocks, none of them unset.</param>
internal sealed record LaneSettings(string Name, int Reserve, int Ceiling, int MaxQueueLength, CallTimeouts Timeouts)
{
    public static LaneSettings None(CallTimeouts timeouts) => new("", 0, int.MaxValue, int.MaxValue, timeouts);
}

/// <summary>What one tenant may have. <see cref="int.MaxValue"/> means no limit.</summary>
internal readonly record struct TenantLimits(int Weight, int MaxConcurrentRequests, int MaxConnections, int MaxQueueLength)
{
    public static TenantLimits None { get; } = new(1, int.MaxValue, int.MaxValue, int.MaxValue);
}

/// <summary>Lanes and tenants, checked and frozen; equal when they say the same.</summary>
internal sealed class SharingSettings : IEquatable<SharingSettings>
{
    public static SharingSettings None { get; } = new();

    /// <summary>By name; without the one of the calls that are in no lane.</summary>
    public IReadOnlyDictionary<string, LaneSettings> Lanes
    {
        get;
        init
        {
            field = value;
            Stream = value.GetValueOrDefault("stream");
            Batch = value.GetValueOrDefault("batch");
        }
    } = new Dictionary<string, LaneSettings>();

    /// <summary>The lane of calls that ask for a stream and name no other, if there is one.</summary>
    public LaneSettings? Stream { get; private init; }

    /// <summary>The lane of calls that are bulk work by their path and name no other, if there is one.</summary>
    public LaneSettings? Batch { get; private init; }

    public TenantIsolation Isolation { get; init; }

    /// <summary>What a tenant may have that is not in <see cref="Named"/>.</summary>
    public TenantLimits EachTenant { get; init; } = TenantLimits.None;

    public IReadOnlyDictionary<string, TenantLimits> Named { get; init; } = new Dictionary<string, TenantLimits>();

    public int MaxKnownTenants { get; init; } = 10_000;

    /// <summary>What a tenant may have; calls without a tenant have no limit of their own.</summary>
    public TenantLimits LimitsOf(string tenant) => tenant.Length == 0 ? TenantLimits.None : Named.TryGetValue(tenant, out var limits) ? limits : EachTenant;

    public bool Equals(SharingSettings? other) => other is not null && Isolation == other.Isolation && EachTenant == other.EachTenant && MaxKnownTenants == other.MaxKnownTenants
        && Same(Lanes, other.Lanes) && Same(Named, other.Named);

    public override bool Equals(object? obj) => Equals(obj as SharingSettings);

    public override int GetHashCode() => HashCode.Combine(Isolation, EachTenant, Lanes.Count, Named.Count);

    static bool Same<T>(IReadOnlyDictionary<string, T> left, IReadOnlyDictionary<string, T> right) =>
        left.Count == right.Count && left.All(pair => right.TryGetValue(pair.Key, out var value) && EqualityComparer<T>.Default.Equals(pair.Value, value));
}

/// <summary>Which profile each origin has and whether it is paced; equal when they say the same.</summary>
internal sealed class ProviderChoices(IReadOnlyDictionary<string, (ProviderProfile? Profile, bool? Pacing)> byOrigin) : IEquatable<ProviderChoices>
{
    public static ProviderChoices None { get; } = new(new Dictionary<string, (ProviderProfile?, bool?)>());

    readonly IReadOnlyDictionary<string, (ProviderProfile? Profile, bool? Pacing)> _byOrigin = byOrigin;

    /// <summary>The profile of a key's server: the options', else by its host's name.</summary>
    public ProviderProfile ProfileOf(ConnectionKey key) => _byOrigin.Count > 0 && _byOrigin.TryGetValue(key.Origin, out var choice) && choice.Profile is { } profile ? profile : ProviderProfile.Of(key.Host, key.Port);

    /// <summary>Whether the key's requests are paced, where the options say so of its origin.</summary>
    public bool? PacingOf(ConnectionKey key) => _byOrigin.Count > 0 && _byOrigin.TryGetValue(key.Origin, out var choice) ? choice.Pacing : null;

    public bool Equals(ProviderChoices? other) => other is not null && _byOrigin.Count == other._byOrigin.Count
        && _byOrigin.All(pair => other._byOrigin.TryGetValue(pair.Key, out var choice) && choice.Pacing == pair.Value.Pacing && Equals(choice.Profile, pair.Value.Profile));

    public override bool Equals(object? obj) => Equals(obj as ProviderChoices);

    public override int GetHashCode() => _byOrigin.Count;
}
