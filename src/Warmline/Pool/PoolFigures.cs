using System.Diagnostics;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline.Pool;

/// <summary>What can go wrong with a call, as far as it is counted. Each is a field of <see cref="FaultStats"/>.</summary>
internal enum Fault
{
    RetriedNotSent,
    RetriedUnprocessed,
    RetriedIdempotent,
    RetriesRefused,
    FailedNotSent,
    FailedUnprocessed,
    FailedUnknown,
    Abandoned,
    Leaked,
    StreamErrors,
}

/// <summary>
/// What the pool counts itself, beside the scheduler: faults and stalls of calls. Assembles <see cref="PoolStats"/> and measures
/// connections.
/// </summary>
internal sealed class PoolFigures(PoolEngine pool)
{
    readonly long[] _faults = new long[Enum.GetValues<Fault>().Length];
    readonly Tally<StallPhase> _stalls = new();
    int _streams;

    public void Count(Fault fault) => Interlocked.Increment(ref _faults[(int)fault]);

    public void CountStall(StallPhase phase) => _stalls.Add(phase);

    public void StreamBegan() => Interlocked.Increment(ref _streams);

    public void StreamEnded() => Interlocked.Decrement(ref _streams);

    public PoolStats GetStats(bool detailed) => Complete(pool.Core.Read((scheduler, now) => scheduler.Stats(now, detailed)));

    /// <summary>The scheduler's figures with those that it does not know.</summary>
    public PoolStats Complete(PoolStats stats) => stats with
    {
        Name = pool.Name,
        Age = pool.Now,
        Streaming = Volatile.Read(ref _streams),
        Enabled = pool.Settings.Enabled,
        Bypassed = pool.Plain.Calls,
        Faults = GetFaults(),
    };

    /// <summary>Measures a dial that succeeded.</summary>
    public void RecordDial(ConnectionState connection, in DialTimings timings)
    {
        if (!pool.Metrics.Metrics.HandshakeDuration.Enabled)
        {
            return;
        }

        var key = connection.Key.Key;
        RecordPhase(connection, DialPhase.Dns, timings.Dns);
        RecordPhase(connection, DialPhase.Tcp, timings.Tcp);
        if (key.Proxy is not null)
        {
            RecordPhase(connection, DialPhase.Proxy, timings.Proxy);
        }

        if (key.IsHttps)
        {
            RecordPhase(connection, DialPhase.Tls, timings.Tls);
        }
    }

    public void RecordPhase(ConnectionState connection, DialPhase phase, TimeSpan time)
    {
        var handshake = pool.Metrics.Metrics.HandshakeDuration;
        if (handshake.Enabled)
        {
            var tags = TagsOf(connection);
            tags.Add("warmline.phase", PoolMetrics.Snake(phase.ToString()));
            PoolMetrics.Record(handshake, time, tags);
        }
    }

    /// <summary>Measures how long a connection was open that is closed now.</summary>
    public void RecordLife(ConnectionState connection)
    {
        var lives = pool.Metrics.Metrics.ConnectionDuration;
        if (lives.Enabled)
        {
            var tags = TagsOf(connection);
            tags.Add("network.protocol.version", connection.IsHttp2 ? "2" : "1.1");
            PoolMetrics.Record(lives, pool.Now - connection.OpenedAt, tags);
        }
    }

    FaultStats GetFaults()
    {
        var stalls = _stalls.Report();
        return new FaultStats
        {
            RetriedNotSent = Of(Fault.RetriedNotSent),
            RetriedUnprocessed = Of(Fault.RetriedUnprocessed),
            RetriedIdempotent = Of(Fault.RetriedIdempotent),
            RetriesRefused = Of(Fault.RetriesRefused),
            FailedNotSent = Of(Fault.FailedNotSent),
            FailedUnprocessed = Of(Fault.FailedUnprocessed),
            FailedUnknown = Of(Fault.FailedUnknown),
            Stalled = stalls.Values.Sum(),
            StalledIn = stalls,
            Abandoned = Of(Fault.Abandoned),
            Leaked = Of(Fault.Leaked),
            StreamErrors = Of(Fault.StreamErrors),
        };

        long Of(Fault fault) => Interlocked.Read(ref _faults[(int)fault]);
    }

    TagList TagsOf(ConnectionState connection)
    {
        var key = connection.Key.Key;
        return pool.Metrics.Tags(key.IsHttps ? "https" : "http", key.Host, key.Port);
    }
}
