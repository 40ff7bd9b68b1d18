using System.Net;
using Warmline.Options;

namespace Warmline.Scheduling;

/// <summary>Builds the public statistics from the scheduler's state. Called under the pool's lock.</summary>
internal static class Snapshot
{
    /// <summary>With thousands of tenants, more would make the snapshot in an error expensive.</summary>
    const int MaxTenants = 1_000;
    const int MaxRateLimits = 100;

    /// <param name="scheduler">What is shown.</param>
    /// <param name="now">The time.</param>
    /// <param name="detailed">With tenants and rate limits. There may be thousands, which is too expensive for each of many refusals, as
    /// the lock is held meanwhile.</param>
    public static PoolStats Stats(this Scheduler scheduler, TimeSpan now = default, bool detailed = true)
    {
        var facts = scheduler.Facts;
        var saved = scheduler.TimeSavedByForgotten;
        var origins = new List<OriginStats>();
        var utilization = 0.0;
        foreach (var key in scheduler.Keys)
        {
            saved += key.Facts.TimeSaved;
            var origin = Origin(scheduler, key, now);
            utilization = Math.Max(utilization, origin.Utilization);
            origins.Add(origin);
        }

        return new PoolStats
        {
            TotalRequests = facts.Requests,
            Granted = facts.Granted,
            ReusedConnections = facts.Reused,
            NewConnections = facts.Dials,
            FailedDials = facts.DialsFailed,
            FailedDialsIn = scheduler.DialsFailedIn.Report(),
            ReuseRate = facts.Granted == 0 ? 0 : (double)facts.Reused / facts.Granted,
            Active = scheduler.Leases,
            PeakActive = facts.PeakLeases,
            Connections = scheduler.Permits.InUse,
            PeakConnections = scheduler.Permits.PeakInUse,
            Idle = scheduler.Permits.Idle,
            LostConnections = facts.Lost,
            Queued = scheduler.Waiting,
            Refused = facts.Refusals,
            RefusedBy = scheduler.RefusedBy.Report(),
            Utilization = utilization,
            MaxConnections = scheduler.Limits.MaxConnections,
            MaxIdleConnections = scheduler.Limits.MaxIdleConnections,
            MaxConcurrentRequests = Limit(scheduler.Limits.MaxConcurrentRequests),
            AverageLease = facts.AverageLease,
            QueueWait = facts.AverageWait,
            MaxQueueWait = facts.MaxWait,
            AverageHandshake = facts.AverageHandshake,
            TimeSaved = saved,
            Origins = origins,
            Lanes = Lanes(scheduler),
            Tenants = detailed ? Tenants(scheduler) : [],
            NamedTenants = !detailed ? [] : [.. scheduler.Limits.Sharing.Named.Keys],
            RateLimits = detailed ? RateLimits(scheduler, now) : [],
        };
    }

    public static IReadOnlyList<WaiterInfo> Waiters(this Scheduler scheduler, TimeSpan now, int max) =>
        [.. scheduler.Keys
            .SelectMany(key => key.Queue.All().Select(waiter => new WaiterInfo(
                key.Key.Origin, now - waiter.AskedAt, scheduler.ReasonFor(waiter), waiter.LaneName, waiter.TenantName, waiter.Priority)))
            .Take(max)];

    /// <summary>Every call with a lease on a connection that is not closed yet.</summary>
    public static IEnumerable<Waiter> Leased(this Scheduler scheduler)
    {
        foreach (var key in scheduler.Keys)
        {
            foreach (var connection in key.Connections)
            {
                for (var at = connection.FirstLease; at is not null; at = at.Next)
                {
                    yield return at;
                }
            }
        }
    }

    static IReadOnlyList<LaneStats> Lanes(Scheduler scheduler)
    {
        if (scheduler.Limits.Sharing.Lanes.Count == 0)
        {
            return [];
        }

        var streaming = new Dictionary<LaneState, int>();
        foreach (var waiter in scheduler.Leased())
        {
            if (waiter.IsStreaming)
            {
                streaming[waiter.Share.Lane] = streaming.GetValueOrDefault(waiter.Share.Lane) + 1;
            }
        }

        return [.. scheduler.Sharing.Lanes.Where(lane => scheduler.Limits.Sharing.Lanes.ContainsKey(lane.Name))
            .Select(lane => Lane(scheduler, lane, streaming.GetValueOrDefault(lane)))];
    }

    static IReadOnlyList<TenantStats> Tenants(Scheduler scheduler) =>
        [.. scheduler.Sharing.Tenants.Where(static tenant => !tenant.IsIdle)
            .OrderByDescending(static tenant => tenant.Leases + tenant.Waiting).Take(MaxTenants)
            .Select(tenant => Tenant(scheduler, tenant))];

    static IReadOnlyList<RateLimitStats> RateLimits(Scheduler scheduler, TimeSpan now) =>
        [.. scheduler.Budgets.Select(budget => new RateLimitStats(budget.Key.Origin, budget.Key.Model, budget.Rules.Report(now)))
            .Concat(scheduler.Keys.Where(static key => key.Limits is not null)
                .Select(key => new RateLimitStats(key.Key.Origin, "", key.Limits!.Report(now))))
            .Where(static reported => reported.Limits.Count > 0).Take(MaxRateLimits)];

    static LaneStats Lane(Scheduler scheduler, LaneState lane, int streaming) => new()
    {
        Lane = lane.Name,
        Reserve = lane.Settings.Reserve,
        Ceiling = Limit(lane.Settings.Ceiling),
        Active = lane.Leases,
        Streaming = streaming,
        Available = scheduler.Available(lane),
        PeakActive = lane.Facts.PeakLeases,
        TotalRequests = lane.Facts.Requests,
        Queued = lane.Waiting,
        Refused = lane.Facts.Refusals,
        QueueWait = lane.Facts.AverageWait,
        MaxQueueWait = lane.Facts.MaxWait,
    };

    static TenantStats Tenant(Scheduler scheduler, TenantState tenant) => new()
    {
        Tenant = tenant.Name,
        Weight = tenant.Limits.Weight,
        MaxConcurrentRequests = Limit(tenant.Limits.MaxConcurrentRequests),
        Active = tenant.Leases,
        PeakActive = tenant.Facts.PeakLeases,
        Connections = scheduler.PermitsOf(tenant.Name),
        TotalRequests = tenant.Facts.Requests,
        Queued = tenant.Waiting,
        Refused = tenant.Facts.Refusals,
        QueueWait = tenant.Facts.AverageWait,
        MaxQueueWait = tenant.Facts.MaxWait,
    };

    static string Partition(ConnectionKey key)
    {
        var protocols = key.Protocols is HttpProtocols.Any ? "" : $"{key.Protocols}";
        var proxy = key.Proxy is { } through ? $"through {through}" : "";
        return string.Join(' ', new[] { protocols, key.Partition, proxy }.Where(part => part.Length > 0));
    }

    static int? Limit(int limit) => limit == int.MaxValue ? null : limit;

    static OriginStats Origin(Scheduler scheduler, KeyState key, TimeSpan now) => new()
    {
        Origin = key.Key.Origin,
        Partition = Partition(key.Key),
        HttpVersion = key.SpeaksHttp2 switch { true => HttpVersion.Version20, false => HttpVersion.Version11, null => null },
        StreamLimit = key.AdvertisedLimit,
        TotalRequests = key.Facts.Requests,
        ReusedConnections = key.Facts.Reused,
        NewConnections = key.Facts.Dials,
        Active = key.Leases,
        PeakActive = key.Facts.PeakLeases,
        Connections = key.Usable,
        Idle = key.Connections.Count(static connection => connection.IsIdle),
        Draining = key.Connections.Count(static connection => connection.Phase is ConnectionPhase.Draining),
        Dialing = key.Dialing,
        Queued = key.Queue.Count,
        Capacity = scheduler.Capacity(key),
        Utilization = scheduler.Utilization(key) is (var active, > 0 and var limit) ? (double)active / limit : 0,
        AverageHandshake = key.Facts.AverageHandshake,
        ResetsSent = key.Sent.Resets,
        PingsSent = key.Sent.Pings,
        Http2AvoidedFor = Scheduler.Http2AvoidedFor(key, now),
        IdleLimit = scheduler.AllowedIdle(key) is var allowed && allowed < TimeSpan.MaxValue ? allowed : null,
    };
}
