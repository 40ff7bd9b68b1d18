using Microsoft.Extensions.Diagnostics.HealthChecks;
using Warmline.Pool;

namespace Warmline.Hosting;

/// <summary>
/// Healthy: every warm connection is there and nothing queues. Degraded: the pool works, but not as it should. Unhealthy: calls that come
/// now would fail.
/// </summary>
internal sealed class PoolHealthCheck(PoolSet pools, string name) : IHealthCheck
{
    /// <summary>Shorter waits are those for a dial, which a burst on a cold pool has.</summary>
    static readonly TimeSpan LongWait = TimeSpan.FromSeconds(1);

    /// <summary>An origin whose last dial failed longer ago than that, and for which nobody waits, is not in use.</summary>
    static readonly TimeSpan InUse = TimeSpan.FromMinutes(1);

    public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default)
    {
        var pool = pools.Get(name);
        var (status, why) = Judge(PoolHealth.Of(pool.Engine), pool.GetStats(), context.Registration.FailureStatus);
        return Task.FromResult(new HealthCheckResult(status, why, data: Data(pool.GetStats())));
    }

    static (HealthStatus Status, string Why) Judge(PoolHealth health, PoolStats stats, HealthStatus failure)
    {
        if (health.IsDisposed || health.TakesNothing)
        {
            return (failure, health.IsDisposed ? "The pool was disposed." : "The pool drains and takes no new calls.");
        }

        if (!stats.Enabled)
        {
            return (HealthStatus.Degraded, "The pool is switched off: calls go past it.");
        }

        if (health.Origins.FirstOrDefault(origin => origin is { Ready: 0, FailedDials: > 0 } && (origin.Queued > 0 || origin.WarmWanted > 0 || origin.SinceFailure < InUse)) is { } dead)
        {
            return (failure, $"{dead.Origin} cannot be reached: no connection, and the last {(dead.FailedDials == 1 ? "dial" : $"{dead.FailedDials} dials")} failed.");
        }

        if (health.Origins.FirstOrDefault(origin => origin.Ready < origin.WarmWanted) is { } cold)
        {
            return (cold.Ready == 0 ? failure : HealthStatus.Degraded, $"{cold.Ready} of {cold.WarmWanted} warm connections to {cold.Origin} are ready.");
        }

        if (health.Origins.FirstOrDefault(origin => origin.IsBusy) is { } busy)
        {
            return (HealthStatus.Degraded, $"More than 80 % of what may run to {busy.Origin} is running.");
        }

        return health.LongestWait > LongWait
            ? (HealthStatus.Degraded, $"{stats.Queued} calls wait for a place, the first for {health.LongestWait.TotalSeconds:0.0} s.")
            : (HealthStatus.Healthy, stats.ToString());
    }

    static Dictionary<string, object> Data(PoolStats stats) => new()
    {
        ["requests"] = stats.TotalRequests,
        ["active"] = stats.Active,
        ["queued"] = stats.Queued,
        ["connections"] = stats.Connections,
        ["idle"] = stats.Idle,
        ["newConnections"] = stats.NewConnections,
        ["reuseRate"] = stats.ReuseRate,
        ["failedDials"] = stats.FailedDials,
        ["refused"] = stats.Refused,
        ["enabled"] = stats.Enabled,
        ["bypassed"] = stats.Bypassed,
    };
}
