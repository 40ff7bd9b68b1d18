using System.Net;
using Warmline.Options;

namespace Warmline.Scheduling;

/// <summary>What the scheduler holds, as the public sees it. Called under the pool's lock.</summary>
internal static class Snapshot
{
    public static PoolStats Stats(this Scheduler scheduler)
    {
        var facts = scheduler.Facts;
        var saved = scheduler.TimeSavedByForgotten;
        var origins = new List<OriginStats>();
        foreach (var key in scheduler.Keys)
        {
            saved += key.Facts.TimeSaved;
            origins.Add(Origin(scheduler, key));
        }

        return new PoolStats
        {
            TotalRequests = facts.Requests,
            ReusedConnections = facts.Reused,
            NewConnections = facts.Dials,
            FailedDials = facts.DialsFailed,
            ReuseRate = facts.Granted == 0 ? 0 : (double)facts.Reused / facts.Granted,
            Active = scheduler.Leases,
            PeakActive = facts.PeakLeases,
            Connections = scheduler.Permits.InUse,
            PeakConnections = scheduler.Permits.PeakInUse,
            Idle = scheduler.Permits.Idle,
            LostConnections = facts.Lost,
            Queued = scheduler.Waiting,
            Refused = facts.Refusals,
            QueueWait = facts.AverageWait,
            MaxQueueWait = facts.MaxWait,
            AverageHandshake = facts.AverageHandshake,
            TimeSaved = saved,
            Origins = origins,
        };
    }

    public static IReadOnlyList<WaiterInfo> Waiters(this Scheduler scheduler, TimeSpan now, int max) =>
        [.. scheduler.Keys
            .SelectMany(key => key.Queue.All().Select(waiter => new WaiterInfo(key.Key.Origin, now - waiter.AskedAt, scheduler.ReasonFor(waiter), waiter.LaneName, waiter.TenantName, waiter.Priority)))
            .Take(max)];

    /// <summary>Everyone who holds a lease on a connection that is not closed yet.</summary>
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

    static OriginStats Origin(Scheduler scheduler, KeyState key) => new()
    {
        Origin = key.Key.Origin,
        Partition = string.Join(' ', new[] { key.Key.Protocols is HttpProtocols.Any ? "" : $"{key.Key.Protocols}", key.Key.Partition, key.Key.Proxy is { } proxy ? $"through {proxy}" : "" }.Where(part => part.Length > 0)),
        HttpVersion = key.SpeaksHttp2 switch { true => HttpVersion.Version20, false => HttpVersion.Version11, null => null },
        StreamLimit = key.AdvertisedLimit,
        TotalRequests = key.Facts.Requests,
        ReusedConnections = key.Facts.Reused,
        NewConnections = key.Facts.Dials,
        Active = key.Leases,
        PeakActive = key.Facts.PeakLeases,
        Connections = key.Usable,
        Draining = key.Connections.Count(connection => connection.Phase is ConnectionPhase.Draining),
        Dialing = key.Dialing,
        Queued = key.Queue.Count,
        Capacity = scheduler.Capacity(key),
        AverageHandshake = key.Facts.AverageHandshake,
        IdleLimit = scheduler.AllowedIdle(key) is var allowed && allowed < TimeSpan.MaxValue ? allowed : null,
    };
}
