using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Warmline;
using Warmline.AspNetCore;

namespace Microsoft.AspNetCore.Builder;

/// <summary>Endpoints that show what connection pools do.</summary>
public static class PoolEndpointExtensions
{
    /// <summary>
    /// Maps GET <c>{pattern}/stats</c>, all pools of the application as one JSON document, and GET <c>{pattern}/live</c>, the same as
    /// server-sent events, one a second. <c>?pool=name</c> shows one pool alone. Callers from other machines are refused (403) unless
    /// <see cref="PoolStatsEndpointOptions.AllowRemote"/> is set.
    /// </summary>
    /// <param name="endpoints">The application.</param>
    /// <param name="pattern">Where. Default <c>/warmline</c>.</param>
    /// <param name="configure">Sets options.</param>
    /// <returns>A builder for both endpoints, as for <c>RequireAuthorization</c>.</returns>
    /// <exception cref="ArgumentException">Options are out of range; the message lists every problem.</exception>
    /// <exception cref="InvalidOperationException">There is no pool to show: neither registered by <c>AddConnectionPool</c> nor in
    /// <see cref="PoolStatsEndpointOptions.Pools"/>.</exception>
    public static IEndpointConventionBuilder MapPoolStats(this IEndpointRouteBuilder endpoints, string pattern = "/warmline", Action<PoolStatsEndpointOptions>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(endpoints);
        ArgumentNullException.ThrowIfNull(pattern);
        var options = new PoolStatsEndpointOptions().Checked(configure);
        var shown = new StatsEndpoint(ShownPools.Of(endpoints.ServiceProvider, options.Pools), options, endpoints.ServiceProvider);
        var group = endpoints.MapGroup(pattern);   // the application's own figures and descriptions are not about these endpoints
        group.MapGet("/stats", CallerCheck.Guard(nameof(MapPoolStats), options.AllowRemote, shown.StatsAsync)).WithDisplayName("Warmline stats");
        group.MapGet("/live", CallerCheck.Guard(nameof(MapPoolStats), options.AllowRemote, shown.LiveAsync)).WithDisplayName("Warmline live stats").DisableRequestTimeout();   // it lasts as long as its reader
        return group.DisableHttpMetrics().ExcludeFromDescription();
    }

    /// <summary>
    /// Maps GET <c>{pattern}</c>: the metrics of the application's pools in Prometheus's text format 0.0.4, or as OpenMetrics 1.0.0 to a
    /// caller who asks for that. Only the instruments of the meter <c>Warmline</c> are in it. It counts from the moment it is mapped.
    /// Callers from other machines are refused (403) unless <see cref="PoolMetricsEndpointOptions.AllowRemote"/> is set.
    /// </summary>
    /// <param name="endpoints">The application.</param>
    /// <param name="pattern">Where. Default <c>/metrics</c>.</param>
    /// <param name="configure">Sets options.</param>
    /// <returns>A builder for the endpoint, as for <c>RequireAuthorization</c>.</returns>
    public static IEndpointConventionBuilder MapPoolMetrics(this IEndpointRouteBuilder endpoints, string pattern = "/metrics", Action<PoolMetricsEndpointOptions>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(endpoints);
        ArgumentNullException.ThrowIfNull(pattern);
        var options = new PoolMetricsEndpointOptions();
        configure?.Invoke(options);
        var metrics = MetricsEndpoint.Of(endpoints.ServiceProvider);
        return endpoints.MapGet(pattern, CallerCheck.Guard(nameof(MapPoolMetrics), options.AllowRemote, metrics.MetricsAsync)).WithDisplayName("Warmline metrics").DisableHttpMetrics().ExcludeFromDescription();
    }
}
