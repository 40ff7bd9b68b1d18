using System.Collections.Concurrent;
using Warmline.Options;
using Warmline.Scheduling;

namespace Warmline;

/// <summary>The usual mistakes in the use of a pool: each is told once, with its remedy.</summary>
internal sealed partial class PoolEngine
{
    /// <summary>Calls at once above which HTTP/1.1 is worth a word: HTTP/2 carries them on two connections.</summary>
    const int ManyCalls = 16;

    readonly long _id = PoolCensus.NextId();
    readonly ConcurrentDictionary<(string Origin, string What), bool> _told = new();

    /// <summary>After a dial: does every request make its own pool?</summary>
    public void TellManyPools(string origin)
    {
        if (PoolCensus.Dialed(origin, _id, _time.GetUtcNow()) is > 0 and var pools)
        {
            LogMessages.ManyPools(_logger, pools, origin, PoolCensus.Window.TotalSeconds);
        }
    }

    /// <summary>After a dial that agreed on HTTP/1.1: do many calls take a connection each, where a few would do?</summary>
    public void TellHttp1(KeyState key)
    {
        if (!key.Key.IsHttps)
        {
            return;   // without TLS there is nothing to agree by
        }

        int calls, connections;
        lock (_gate)
        {
            (calls, connections) = (key.Streams, key.Usable);
        }

        if (calls >= ManyCalls && _told.TryAdd((key.Key.Origin, "http/1.1"), true))
        {
            var byServer = key.Key.Protocols is HttpProtocols.Any;
            LogMessages.Http2Unused(_logger, calls, key.Key.Origin, connections,
                byServer ? "the server speaks HTTP/1.1 only" : "the application insists on HTTP/1.1",
                (calls + Settings.TargetStreams - 1) / Settings.TargetStreams,
                byServer ? "Ask for HTTP/2 at the server, or at the proxy before it, or make sure that MaxConnections is large enough"
                    : "Set Http2.Mode to Preferred and leave the requests' VersionPolicy as it is");
        }
    }

    /// <summary>A dial became necessary because of an expiry, once again.</summary>
    void TellExpiry(string origin, ExpiryAdvice advice)
    {
        var (option, current) = advice.IsLifetime ? (nameof(ConnectionPoolOptions.ConnectionLifetime), Settings.ConnectionLifetime) : (nameof(ConnectionPoolOptions.IdleTimeout), Settings.IdleTimeout);
        if (_told.TryAdd((origin, option), true))
        {
            LogMessages.ExpiresTooEarly(_logger, origin, advice.Times, option, Duration.Format(advice.Value), Duration.Format(current));
        }
    }

    /// <summary>Nobody can end this pool any more. It is told only where a connection is open.</summary>
    public void TellLeftOpen(string cause)
    {
        try
        {
            if (!_takesNothing && GetStats() is { Connections: > 0 } stats && _told.TryAdd(("", "left open"), true))
            {
                LogMessages.LeftOpen(_logger, cause, stats.Active, stats.Connections);
            }
        }
        catch (Exception)
        {
            // The logger may have ended before the pool; and this runs where an exception would end the process.
        }
    }

    /// <summary>Held by the application's <see cref="ConnectionPool"/> and by nothing else: when it is collected, nobody can end the pool any more. Clients made from it may go on, so
    /// that is only told.</summary>
    internal sealed class Keepsake(PoolEngine engine)
    {
#pragma warning disable MA0055 // It frees nothing; being collected is the very news. Not logged on the finalizer's own thread, which a logger must not hold up.
        ~Keepsake() => ThreadPool.UnsafeQueueUserWorkItem(static engine => engine.TellLeftOpen("its ConnectionPool was forgotten"), engine, preferLocal: false);
#pragma warning restore MA0055
    }
}
