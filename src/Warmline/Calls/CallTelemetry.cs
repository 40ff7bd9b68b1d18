using System.Diagnostics;
using System.Runtime.CompilerServices;
using Warmline.Options;
using Warmline.Transport;

namespace Warmline;

/// <summary>
/// The metrics and the span of a call. Each duration is recorded once for a call, however often it is sent. Without a listener, and if the
/// caller has no activity, this costs a few checks of flags.
/// </summary>
internal static class CallTelemetry
{
    /// <summary>The call begins: its span, and the context that its request carries on.</summary>
    public static void Begin(PooledCall call, HttpRequestMessage request)
    {
        call.Method = request.Method;
        if (Activity.Current is not null || PoolActivities.IsHeard)
        {
            call.Trace = CallTrace.Begin(request, call.Engine.Name, call.LaneName);
        }
    }

    /// <summary>The call has to wait for its place.</summary>
    public static Activity? BeginWait(PooledCall call) => PoolActivities.StartWait(call.Trace?.Span, call.WaitsFor);

    /// <summary>The call has its place, perhaps not for the first time.</summary>
    public static void RecordPlace(PooledCall call)
    {
        if (call.Trace is { Span: not null } trace)
        {
            trace.Rides((call.Connection!.Slot as Slot)?.Span, call.Redispatches);
        }

        if (call.IsPlaceRecorded)
        {
            return;
        }

        call.IsPlaceRecorded = true;
        if (MetricsOf(call).TimeInQueue.Enabled)
        {
            RecordTimeInQueue(call);
        }
    }

    /// <summary>The answer's headers came.</summary>
    public static void RecordHeaders(PooledCall call, int status)
    {
        if (MetricsOf(call).RequestDuration.Enabled)
        {
            RecordAnswer(call, status);
        }

        call.Trace?.Answered(status, call.Connection!.IsHttp2);
    }

    /// <summary>The call failed before an answer came: refused, or for good.</summary>
    public static void RecordFailure(PooledCall call, ConnectionKey key, Exception error)
    {
        var duration = MetricsOf(call).RequestDuration;
        if (duration.Enabled && call.Key is not null)   // it has asked for a place
        {
            var tags = Tags(call, key, lane: false);
            tags.Add("http.request.method", PoolActivities.MethodOf(call.Method!));
            tags.Add("error.type", CallTrace.TypeOf(error));
            PoolMetrics.Record(duration, call.Now - call.AskedAt, tags);
        }

        call.Trace?.Failed(error);
    }

    /// <summary>Both bodies are over.</summary>
    public static void RecordEnd(PooledCall call)
    {
        var metrics = MetricsOf(call);
        if (metrics.LeaseDuration.Enabled || metrics.TimeToFirstToken.Enabled)
        {
            RecordLease(call, metrics);
        }

        if (call.HeadersAt is not null)   // otherwise the failure is still to be recorded
        {
            call.Trace?.Ended(TimingsOf(call), call.GrantedAt - call.AskedAt);
        }
    }

    public static RequestTimings TimingsOf(PooledCall call)
    {
        var dial = call.Reused || call.Connection?.Slot is not Slot slot ? default : slot.Timings;
        return new RequestTimings
        {
            Queue = call.GrantedAt - call.AskedAt,
            Dns = dial.Dns,
            Tcp = dial.Tcp,
            Proxy = dial.Proxy,
            Tls = dial.Tls,
            Send = (call.Upload.EndedAt ?? call.GrantedAt) - call.GrantedAt,
            FirstByte = (call.HeadersAt ?? call.GrantedAt) - call.GrantedAt,
            LastByte = call.EndedAt - call.GrantedAt,
            FirstToken = call.Events?.FirstContentAt - call.GrantedAt,
            Tokens = call.Events?.Contents ?? 0,
            LongestTokenGap = call.Events?.LongestGap,
            MeanTokenGap = call.Events?.MeanGap,
            ConnectionId = call.Connection?.Id ?? 0,
            ConnectionAge = call.Connection is { } connection ? call.GrantedAt - connection.OpenedAt : TimeSpan.Zero,
            Reused = call.Reused,
        };
    }

    // Apart from what checks for listeners: room for the tags is cleared at the begin of the method that holds it.
    [MethodImpl(MethodImplOptions.NoInlining)]
    static void RecordTimeInQueue(PooledCall call)
    {
        var tags = Tags(call, call.Key!.Key);
        tags.Add("http.request.method", PoolActivities.MethodOf(call.Method!));
        tags.Add("network.protocol.version", call.Connection!.IsHttp2 ? "2" : "1.1");
        PoolMetrics.Record(MetricsOf(call).TimeInQueue, call.GrantedAt - call.AskedAt, tags);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    static void RecordAnswer(PooledCall call, int status)
    {
        var tags = Tags(call, call.Key!.Key, lane: false);
        tags.Add("http.request.method", PoolActivities.MethodOf(call.Method!));
        tags.Add("http.response.status_code", status);
        tags.Add("network.protocol.version", call.Connection!.IsHttp2 ? "2" : "1.1");
        if (status >= 400)
        {
            tags.Add("error.type", CallTrace.StatusText(status));
        }

        PoolMetrics.Record(MetricsOf(call).RequestDuration, call.Now - call.AskedAt, tags);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    static void RecordLease(PooledCall call, PoolMetrics metrics)
    {
        var tags = Tags(call, call.Key!.Key);
        PoolMetrics.Record(metrics.LeaseDuration, call.Now - call.GrantedAt, tags);
        if (call.Events?.FirstContentAt is { } first)
        {
            PoolMetrics.Record(metrics.TimeToFirstToken, first - call.AskedAt, tags);
        }
    }

    static PoolMetrics MetricsOf(PooledCall call) => call.Engine.Metrics.Metrics;

    static TagList Tags(PooledCall call, ConnectionKey key, bool lane = true)
    {
        var tags = call.Engine.Metrics.Tags(key.IsHttps ? "https" : "http", key.Host, key.Port);
        if (lane && call.LaneName.Length > 0)
        {
            tags.Add("warmline.lane", call.LaneName);
        }

        return tags;
    }
}
