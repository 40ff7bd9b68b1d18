namespace Warmline;

/// <summary>What a lane has and uses.</summary>
public sealed record LaneStats
{
    /// <summary>Its name.</summary>
    public required string Lane { get; init; }

    /// <summary>Its <see cref="LaneOptions.Reserve"/>.</summary>
    public int Reserve { get; init; }

    /// <summary>Its <see cref="LaneOptions.Ceiling"/>; <see langword="null"/> for none.</summary>
    public int? Ceiling { get; init; }

    /// <summary>Requests in flight.</summary>
    public int Active { get; init; }

    /// <summary>Of these, answers that are streams of server-sent events: they hold their places until the stream ends.</summary>
    public int Streaming { get; init; }

    /// <summary>Requests that could still be placed, as far as <see cref="ConnectionPoolOptions.MaxConcurrentRequests"/>, the lane's
    /// ceiling, the other lanes' reserves and the connections to the origin with the most room allow; as long as nothing was sent to any
    /// origin, as far as the limits allow.</summary>
    public long Available { get; init; }

    /// <summary>The most requests that were in flight at the same time.</summary>
    public int PeakActive { get; init; }

    /// <summary>Requests that asked for a place.</summary>
    public long TotalRequests { get; init; }

    /// <summary>Requests that wait for a place.</summary>
    public int Queued { get; init; }

    /// <summary>Requests that were refused a place.</summary>
    public long Refused { get; init; }

    /// <summary>Time from asking for a place to having it, averaged over all requests.</summary>
    public TimeSpan QueueWait { get; init; }

    /// <summary>The longest such time.</summary>
    public TimeSpan MaxQueueWait { get; init; }
}

/// <summary>What a tenant has and uses.</summary>
public sealed record TenantStats
{
    /// <summary>Its name; empty for calls without a tenant.</summary>
    public required string Tenant { get; init; }

    /// <summary>Its <see cref="TenantOptions.Weight"/>.</summary>
    public int Weight { get; init; }

    /// <summary>Its <see cref="TenantOptions.MaxConcurrentRequests"/>; <see langword="null"/> for none.</summary>
    public int? MaxConcurrentRequests { get; init; }

    /// <summary>Requests in flight.</summary>
    public int Active { get; init; }

    /// <summary>The most requests that were in flight at the same time.</summary>
    public int PeakActive { get; init; }

    /// <summary>
    /// Its connections that are open or being opened or closed, where <see cref="TenantIsolation.Connections"/> rules; 0 elsewhere.
    /// </summary>
    public int Connections { get; init; }

    /// <summary>Requests that asked for a place.</summary>
    public long TotalRequests { get; init; }

    /// <summary>Requests that wait for a place.</summary>
    public int Queued { get; init; }

    /// <summary>Requests that were refused a place.</summary>
    public long Refused { get; init; }

    /// <summary>Time from asking for a place to having it, averaged over all requests.</summary>
    public TimeSpan QueueWait { get; init; }

    /// <summary>The longest such time.</summary>
    public TimeSpan MaxQueueWait { get; init; }
}

/// <summary>A provider's limits for one origin, as its answers told them last.</summary>
/// <param name="Origin">The origin that told them.</param>
/// <param name="Model">The model that they were told for; empty where that is not known, as bodies are looked at only for
/// <see cref="ConnectionPoolOptions.Pacing"/>.</param>
/// <param name="Limits">The limits, one for each kind that was told.</param>
public sealed record RateLimitStats(string Origin, string Model, IReadOnlyList<ProviderLimit> Limits);
