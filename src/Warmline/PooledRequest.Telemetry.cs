using System.Diagnostics;
using System.Runtime.CompilerServices;
using Warmline.Options;
using Warmline.Transport;

namespace Warmline;

/// <summary>
/// What a call tells metrics and spans. Each duration is recorded once for a call, however often it is sent. While nobody listens and the caller has no activity, this is a few looks at flags.
/// </summary>
internal sealed partial class PooledRequest
{
    CallTrace? _trace;
    HttpMethod? _method;

    /// <summary>Its time in the queue is told: once, however often it is placed.</summary>
    public bool IsPlaceTold { get; set; }

    public bool HasSpan => _trace?.Span is not null;

    /// <summary>What it waits for, as of the moment in which it began to; only where it has a span.</summary>
    public PoolRejectionReason WaitsFor { get; set; }

    /// <summary>The call begins: its span, and the context that its request carries on.</summary>
    public void BeginTelling(HttpRequestMessage request)
    {
        _method = request.Method;
        if (Activity.Current is not null || PoolActivities.IsHeard)
        {
            _trace = CallTrace.Begin(request, _engine.Name, LaneName);
        }
    }

    /// <summary>It has to wait for its place.</summary>
    public Activity? BeginWait() => PoolActivities.StartWait(_trace?.Span, WaitsFor);

    /// <summary>It has its place, once more perhaps.</summary>
    public void TellPlace()
    {
        if (_trace is { Span: not null } trace)
        {
            trace.Rides((Connection!.Slot as Slot)?.Span, Redispatches);
        }

        if (IsPlaceTold)
        {
            return;
        }

        IsPlaceTold = true;
        if (_engine.Metrics.Metrics.TimeInQueue.Enabled)
        {
            RecordPlace();
        }
    }

    /// <summary>The answer's headers came.</summary>
    public void TellHeaders(int status)
    {
        if (_engine.Metrics.Metrics.RequestDuration.Enabled)
        {
            RecordHeaders(status);
        }

        _trace?.Answered(status, Connection!.IsHttp2);
    }

    /// <summary>The call failed before an answer came: refused, or for good.</summary>
    public void TellFailure(ConnectionKey key, Exception error)
    {
        var duration = _engine.Metrics.Metrics.RequestDuration;
        if (duration.Enabled && Key is not null)   // it has asked for a place
        {
            var tags = Tags(key, lane: false);
            tags.Add("http.request.method", PoolActivities.MethodOf(_method!));
            tags.Add("error.type", CallTrace.TypeOf(error));
            PoolMetrics.Record(duration, _engine.Now - AskedAt, tags);
        }

        _trace?.Failed(error);
    }

    /// <summary>The caller has his request back.</summary>
    public void EndTelling(HttpRequestMessage request) => _trace?.TakeBack(request);

    /// <summary>Both bodies are over.</summary>
    public void TellEnd()
    {
        if (Interlocked.Exchange(ref _stream, StreamOver) == Streaming)   // a read may find it to be a stream in this moment
        {
            _engine.Figures.StreamEnded();
        }

        var metrics = _engine.Metrics.Metrics;
        if (metrics.LeaseDuration.Enabled || metrics.TimeToFirstToken.Enabled)
        {
            RecordEnd(metrics);
        }

        if (HeadersAt is not null)   // else the failure is still to be told
        {
            _trace?.Ended(Timings, GrantedAt - AskedAt);
        }
    }

    // Apart from what looks whether anybody listens: room for the tags is cleared at the begin of whatever method holds it.
    [MethodImpl(MethodImplOptions.NoInlining)]
    void RecordPlace()
    {
        var tags = Tags(Key!.Key);
        tags.Add("http.request.method", PoolActivities.MethodOf(_method!));
        tags.Add("network.protocol.version", Connection!.IsHttp2 ? "2" : "1.1");
        PoolMetrics.Record(_engine.Metrics.Metrics.TimeInQueue, GrantedAt - AskedAt, tags);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    void RecordHeaders(int status)
    {
        var tags = Tags(Key!.Key, lane: false);
        tags.Add("http.request.method", PoolActivities.MethodOf(_method!));
        tags.Add("http.response.status_code", status);
        tags.Add("network.protocol.version", Connection!.IsHttp2 ? "2" : "1.1");
        if (status >= 400)
        {
            tags.Add("error.type", CallTrace.StatusText(status));
        }

        PoolMetrics.Record(_engine.Metrics.Metrics.RequestDuration, _engine.Now - AskedAt, tags);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    void RecordEnd(PoolMetrics metrics)
    {
        var tags = Tags(Key!.Key);
        PoolMetrics.Record(metrics.LeaseDuration, _engine.Now - GrantedAt, tags);
        if (Events?.FirstContentAt is { } first)
        {
            PoolMetrics.Record(metrics.TimeToFirstToken, first - AskedAt, tags);
        }
    }

    TagList Tags(ConnectionKey key, bool lane = true)
    {
        var tags = _engine.Metrics.Tags(key.IsHttps ? "https" : "http", key.Host, key.Port);
        if (lane && LaneName.Length > 0)
        {
            tags.Add("warmline.lane", LaneName);
        }

        return tags;
    }
}
