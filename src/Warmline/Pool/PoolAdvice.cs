using System.Collections.Concurrent;
using Warmline.Options;
using Warmline.Scheduling;

namespace Warmline.Pool;

/// <summary>
/// Logs what the operator should know or change: the usual mistakes in the use of a pool, each once and with its remedy, and decisions that
/// have a cause outside.
/// </summary>
internal sealed class PoolAdvice(PoolEngine pool)
{
    /// <summary>Concurrent calls above which HTTP/1.1 is worth a remark: HTTP/2 carries them on two connections.</summary>
    const int ManyCalls = 16;

    static int _noProxyChecked;

    readonly long _id = ProcessPools.NextId();
    readonly ConcurrentDictionary<(string Origin, string What), bool> _logged = new();

    public void LogSwitch(bool isOn)
    {
        if (isOn)
        {
            LogMessages.SwitchedOn(pool.Logger);
        }
        else
        {
            LogMessages.SwitchedOff(pool.Logger);
        }
    }

    /// <summary>After a dial: does every request create its own pool?</summary>
    public void CheckManyPools(string origin)
    {
        if (ProcessPools.Dialed(origin, _id, pool.Time.GetUtcNow()) is > 0 and var pools)
        {
            LogMessages.ManyPools(pool.Logger, pools, origin, ProcessPools.Window.TotalSeconds);
        }
    }

    /// <summary>After a dial that negotiated HTTP/1.1: do many calls take a connection each, where a few would do?</summary>
    public void CheckHttp1(KeyState key)
    {
        if (!key.Key.IsHttps)
        {
            return;   // protocols are negotiated in TLS
        }

        var (calls, connections) = pool.Core.Read((_, _) => (key.Streams, key.Usable));
        if (calls >= ManyCalls && _logged.TryAdd((key.Key.Origin, "http/1.1"), true))
        {
            var byServer = key.Key.Protocols is HttpProtocols.Any;
            LogMessages.Http2Unused(pool.Logger, calls, key.Key.Origin, connections,
                byServer ? "the server speaks HTTP/1.1 only" : "the application insists on HTTP/1.1",
                (calls + pool.Settings.TargetStreams - 1) / pool.Settings.TargetStreams,
                byServer ? "Ask for HTTP/2 at the server, or at the proxy before it, or make sure that MaxConnections is large enough"
                    : "Set Http2.Mode to Preferred and leave the requests' VersionPolicy as it is");
        }
    }

    /// <summary>Logs entries of NO_PROXY in forms that have no effect, once in a process.</summary>
    public void CheckNoProxy()
    {
        if (!NoProxyForms.IsEnvironments(pool.Settings.Proxy) || Interlocked.Exchange(ref _noProxyChecked, 1) != 0)
        {
            return;
        }

        foreach (var (entry, instead) in NoProxyForms.Unsupported(NoProxyForms.OfEnvironment()))
        {
            LogMessages.NoProxyIgnored(pool.Logger, entry, instead);
        }
    }

    /// <summary>A dial became necessary because of an expiry, once again.</summary>
    public void LogExpiry(string origin, ExpiryAdvice advice)
    {
        var (option, current) = advice.IsLifetime
            ? (nameof(ConnectionPoolOptions.ConnectionLifetime), pool.Settings.ConnectionLifetime)
            : (nameof(ConnectionPoolOptions.IdleTimeout), pool.Settings.IdleTimeout);
        if (_logged.TryAdd((origin, option), true))
        {
            LogMessages.ExpiresTooEarly(pool.Logger, origin, advice.Times, option, Duration.Format(advice.Value), Duration.Format(current));
        }
    }

    /// <summary>The application can end this pool no more. That matters only if a connection is open.</summary>
    public void LogLeftOpen(string cause)
    {
        try
        {
            if (!pool.Lifetime.TakesNothing && pool.GetStats() is { Connections: > 0 } stats && _logged.TryAdd(("", "left open"), true))
            {
                LogMessages.LeftOpen(pool.Logger, cause, stats.Active, stats.Connections);
            }
        }
        catch (Exception)
        {
            // The logger may have ended before the pool, and an exception would end the process here.
        }
    }

    /// <summary>The scheduler ends or keeps connections for a cause outside the pool.</summary>
    public void LogCause(in SchedulerAction action)
    {
        var key = (KeyState?)action.Target;
        switch (action.Kind)
        {
            case ActionKind.Flushed:
                LogMessages.Flushed(pool.Logger, action.Active, key?.Key.Origin ?? "all hosts", action.Cause switch
                {
                    FlushCause.Loss => "an idle one was reset, timed out or answered no ping",
                    FlushCause.Silence => "the system found an idle one reset or without an answer to its probes",
                    FlushCause.Sleep => "the clock jumped, so the machine slept",
                    _ => "the machine lost the address that they come from",
                });
                break;
            case ActionKind.IdleLimitLearned:
                var limit = pool.Core.Read((scheduler, _) => scheduler.AllowedIdle(key!));
                LogMessages.IdleLimitLearned(pool.Logger, key!.Key.Origin, limit.TotalSeconds);
                break;
            case ActionKind.Http2Avoided:
                var isRefused = action.Doubt is Http2Doubt.Refused;
                LogMessages.Http2Avoided(pool.Logger, key!.Key.Origin,
                    isRefused ? "the server asked for HTTP/1.1" : "the connections broke before the first response",
                    (isRefused ? Http2Trust.RefusalMemory : Http2Trust.BreakMemory).TotalMinutes);
                break;
            case ActionKind.WarmthIsCostly:
                LogCostlyWarmth(key!.Key.Origin, action.At, action.Active);
                break;
            case ActionKind.UtilizationHigh:
                LogMessages.UtilizationHigh(pool.Logger, action.Active, action.Limit, (int)(action.Active * 100L / action.Limit),
                    key!.Key.Origin);
                break;
        }
    }

    void LogCostlyWarmth(string origin, TimeSpan lasted, int connections)
    {
        var longestPause = pool.Core.Read(static (scheduler, _) => scheduler.Limits.MaxBackOff).TotalSeconds;
        LogMessages.WarmthIsCostly(pool.Logger, origin, lasted.TotalSeconds, lasted < TimeSpan.FromSeconds(1)
            ? $"To hold {connections} ready, the pool dials again after pauses that grow to {longestPause:0} s. "
                + "Check that the server accepts this client, or set WarmConnections to 0"
            : $"Holding {connections} ready costs about {connections * 60 / lasted.TotalSeconds:0} dials a minute. "
                + "Raise the server's time limit for unused connections, or lower WarmConnections");
    }
}
