using System.Diagnostics;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline;

/// <summary>What metrics and spans are told of the pool as a whole and of its connections.</summary>
internal sealed partial class PoolEngine : IMeasuredPool
{
    int _streams;

    public string Name { get; }

    public bool NamesTenants => Settings.Sharing.Named.Count > 0;

    /// <summary>The pool among those that the metrics show.</summary>
    public PoolMetrics.Membership Metrics { get; }

    public void StreamBegan() => Interlocked.Increment(ref _streams);

    public void StreamEnded() => Interlocked.Decrement(ref _streams);

    /// <summary>Notes what a call waits for, if somebody wants to know, in the moment in which it begins to: a moment later it may have its place.</summary>
    void NoteReason_NeedsLock(PooledCall call)
    {
        Debug.Assert(_gate.IsHeldByCurrentThread);
        if (call.HasSpan && call.State is WaiterState.Waiting)
        {
            call.WaitsFor = _scheduler.ReasonFor(call);
        }
    }

    /// <summary>A dial has succeeded.</summary>
    public void NoteDial(ConnectionState connection, in DialTimings timings)
    {
        var handshake = Metrics.Metrics.HandshakeDuration;
        if (!handshake.Enabled)
        {
            return;
        }

        var key = connection.Key.Key;
        Record(DialPhase.Dns, timings.Dns);
        Record(DialPhase.Tcp, timings.Tcp);
        if (key.Proxy is not null)
        {
            Record(DialPhase.Proxy, timings.Proxy);
        }

        if (key.IsHttps)
        {
            Record(DialPhase.Tls, timings.Tls);
        }

        void Record(DialPhase phase, TimeSpan time) => NotePhase(connection, phase, time);
    }

    public void NotePhase(ConnectionState connection, DialPhase phase, TimeSpan time)
    {
        var handshake = Metrics.Metrics.HandshakeDuration;
        if (handshake.Enabled)
        {
            var tags = TagsOf(connection);
            tags.Add("warmline.phase", PoolMetrics.Snake(phase.ToString()));
            PoolMetrics.Record(handshake, time, tags);
        }
    }

    /// <summary>A connection is closed that had been open since <see cref="ConnectionState.OpenedAt"/>.</summary>
    public void NoteLife(ConnectionState connection)
    {
        var lives = Metrics.Metrics.ConnectionDuration;
        if (lives.Enabled)
        {
            var tags = TagsOf(connection);
            tags.Add("network.protocol.version", connection.IsHttp2 ? "2" : "1.1");
            PoolMetrics.Record(lives, Now - connection.OpenedAt, tags);
        }
    }

    TagList TagsOf(ConnectionState connection)
    {
        var key = connection.Key.Key;
        return Metrics.Tags(key.IsHttps ? "https" : "http", key.Host, key.Port);
    }
}
