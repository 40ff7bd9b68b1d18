namespace Warmline;

/// <summary>
/// A class of traffic with capacity of its own. Calls name it by <see cref="PoolRequestOptions.Lane"/>, or are known by what they ask for:
/// see <see cref="ConnectionPoolOptions.Lanes"/>.
/// </summary>
public sealed class LaneOptions
{
    /// <summary>Requests that the lane can always have in flight: so much of <see cref="ConnectionPoolOptions.MaxConcurrentRequests"/>, and
    /// of what each origin can carry, is never lent to other lanes, as a stream that borrowed it would keep it for minutes. Where capacity
    /// is smaller than all reserves together they shrink in proportion. Default 0. Range: 0 to <see cref="Ceiling"/>; all reserves together
    /// below <see cref="ConnectionPoolOptions.MaxConcurrentRequests"/>.</summary>
    public int Reserve { get; set; }

    /// <summary>Requests of the lane in flight at the same time, over all origins; none by default, so that it may use all that no other
    /// lane reserves. Range: 0 (each is refused at once) and up.</summary>
    public int? Ceiling { get; set; }

    /// <summary>Requests of the lane that may wait at the same time; beyond it a request is refused at once. None by default: then
    /// <see cref="ConnectionPoolOptions.MaxQueueLength"/> alone counts, which all lanes share. Range: 1 and up.</summary>
    public int? MaxQueueLength { get; set; }

    /// <summary>
    /// The lane's clocks, where they differ from the pool's; a call's own win. <see cref="PoolTimeouts.Connect"/> is the pool's alone and
    /// must be left unset.
    /// </summary>
    public PoolTimeouts Timeouts { get; set; } = new();
}

/// <summary>What a tenant has for itself.</summary>
public enum TenantIsolation
{
    /// <summary>Its share of the leases; connections are shared by all, as they are dear.</summary>
    Leases,

    /// <summary>Connections of its own, which nobody else rides: what one tenant does to a connection no other feels. Each tenant pays its
    /// own handshakes: what is held warm (<see cref="ConnectionPool.WarmUpAsync"/>, <see cref="OriginOptions.WarmConnections"/>) is for
    /// calls without a tenant.</summary>
    Connections,
}

/// <summary>How tenants share a pool. A tenant is whoever <see cref="PoolRequestOptions.Tenant"/> names; those that are not listed in
/// <see cref="Named"/> have what stands here. Calls without a tenant share fairly as one more tenant, of weight 1 and without
/// limits.</summary>
public sealed class TenantsOptions
{
    int? _maxConcurrentRequests;

    /// <summary>
    /// Whether tenants share connections. Default <see cref="TenantIsolation.Leases"/>: they do. Fixed for the pool's life.
    /// </summary>
    public TenantIsolation Isolation { get; set; } = TenantIsolation.Leases;

    /// <summary>Requests that each tenant may have in flight at the same time, over all origins and lanes. None by default: shares are fair
    /// without it, and what one tenant does not use others may. Range: 0 (each is refused at once) and up.</summary>
    public int? MaxConcurrentRequests { get => _maxConcurrentRequests ?? Preset?.MaxConcurrentRequestsPerTenant; set => _maxConcurrentRequests = value; }

    /// <summary>Connections that each tenant may have open at the same time, over all origins, where <see cref="Isolation"/> is
    /// <see cref="TenantIsolation.Connections"/>. None by default. Range: 1 to 65,535.</summary>
    public int? MaxConnections { get; set; }

    /// <summary>Requests of each tenant that may wait at the same time; beyond it a request is refused at once. None by default: then
    /// <see cref="ConnectionPoolOptions.MaxQueueLength"/> alone counts, which all tenants share. Range: 1 and up.</summary>
    public int? MaxQueueLength { get; set; }

    /// <summary>Tenants that are remembered, with their figures; beyond it the one that has been without a request for longest is
    /// forgotten. Default 10,000: about 3 MB. One with a request is never forgotten. Range: 1 and up.</summary>
    public int MaxKnown { get; set; } = 10_000;

    /// <summary>Tenants that differ, by name. Names count to the letter.</summary>
    public IDictionary<string, TenantOptions> Named { get; } = new Dictionary<string, TenantOptions>(StringComparer.Ordinal);

    internal PoolPreset? Preset { get; set; }
}

/// <summary>One tenant that differs from the others; what is not set here is as <see cref="TenantsOptions"/> says.</summary>
public sealed class TenantOptions
{
    /// <summary>
    /// Its share beside others: one of weight 2 holds twice as many leases as one of weight 1 while both have calls waiting. Default 1.
    /// Range: 1 to 1,000.
    /// </summary>
    public int Weight { get; set; } = 1;

    /// <summary>As <see cref="TenantsOptions.MaxConcurrentRequests"/>. Range: 0 (each is refused at once) and up.</summary>
    public int? MaxConcurrentRequests { get; set; }

    /// <summary>As <see cref="TenantsOptions.MaxConnections"/>. Range: 1 to 65,535.</summary>
    public int? MaxConnections { get; set; }

    /// <summary>As <see cref="TenantsOptions.MaxQueueLength"/>. Range: 1 and up.</summary>
    public int? MaxQueueLength { get; set; }
}
