using System.Diagnostics;
using System.Globalization;

namespace Warmline;

/// <summary>
/// Every span, from one source: <c>Warmline</c>. A call's is of kind Client, by OpenTelemetry's HTTP conventions
/// (https://opentelemetry.io/docs/specs/semconv/http/http-spans/), and lasts until its answer has been read; below it
/// <c>warmline.queue</c>, if it waited. A connection's, <c>warmline.connect</c>, is the root of a trace of its own, as it serves calls of
/// any trace; below it a span for each phase of the dial. A call's span has a link to that of the connection that it rides. No span holds a
/// path's query, a header or a body. Nothing is made while nobody listens.
/// </summary>
internal static class PoolActivities
{
    public const string SourceName = "Warmline";

    static readonly ActivitySource? Source = MakeSource();

    public static bool IsHeard => Source?.HasListeners() == true;

    /// <summary>A call's span; null when nobody wants it. The current activity, from which it comes, is the caller's.</summary>
    public static Activity? StartCall(HttpRequestMessage request, string pool, string lane)
    {
        if (!IsHeard)
        {
            return null;
        }

        var uri = request.RequestUri!;
        var method = MethodOf(request.Method);
        var activity = Start(method is "_OTHER" ? "HTTP" : method, ActivityKind.Client, default(ActivityContext), [
            new("http.request.method", method),
            new("server.address", uri.IdnHost),
            new("server.port", uri.Port),
            new("url.full", WithoutSecrets(uri)),
            new("warmline.pool.name", pool),
        ]);
        if (method is "_OTHER")
        {
            activity?.SetTag("http.request.method_original", request.Method.Method);
        }

        if (lane.Length > 0)
        {
            activity?.SetTag("warmline.lane", lane);
        }

        return activity;
    }

    /// <summary>A call's wait for a place.</summary>
    public static Activity? StartWait(Activity? call, PoolRejectionReason reason)
    {
        var wait = call is null ? null : Start("warmline.queue", ActivityKind.Internal, call.Context);
        wait?.SetTag("warmline.reason", PoolMetrics.Snake(reason.ToString()));
        return wait;
    }

    /// <summary>The way to a connection. It belongs to no call.</summary>
    public static Activity? StartConnect(string host, int port, string pool) => IsHeard
        ? Start("warmline.connect", ActivityKind.Client, default(ActivityContext), [new("server.address", host), new("server.port", port), new("warmline.pool.name", pool)])
        : null;

    /// <summary>A phase of a dial. The dial stays the current activity, as its phases begin and end in methods of several depths.</summary>
    public static Activity? StartPhase(Activity? connect, DialPhase phase)
    {
        if (connect is null)
        {
            return null;
        }

        var span = Start($"warmline.{PoolMetrics.Snake(phase.ToString())}", ActivityKind.Internal, connect.Context);
        PutBack(connect);
        return span;
    }

    /// <summary>Ends it in failure.</summary>
    public static void Fail(this Activity activity, string type, string message)
    {
        activity.SetTag("error.type", type);
        activity.SetStatus(ActivityStatusCode.Error, message);
    }

    /// <summary>
    /// Ends a span where it did not begin: the platform then puts back the current activity of where it did, which is nobody's business
    /// here.
    /// </summary>
    public static void StopAnywhere(this Activity activity)
    {
        var current = Activity.Current;
        try
        {
            activity.Stop();
        }
        catch (Exception)
        {
            // A listener's own fault: it runs in the midst of the pool's steps and must not cost a lease or a permit.
        }

        PutBack(current);
    }

    /// <summary>Makes it the current activity. The application may listen to that as well, once it is so.</summary>
    static void PutBack(Activity? current)
    {
        try
        {
            Activity.Current = current;
        }
        catch (Exception)
        {
            // As above.
        }
    }

    /// <summary>The constructor calls listeners. If one throws, tracing is disabled; letting it escape would break the type initializer
    /// and every call.</summary>
    static ActivitySource? MakeSource()
    {
        try
        {
            return new ActivitySource(SourceName, typeof(PoolActivities).Assembly.GetName().Version!.ToString(3));
        }
        catch (Exception)
        {
            return null;
        }
    }

    /// <summary>A span, by the platform. What a listener throws meanwhile costs the span and nothing else.</summary>
    static Activity? Start(string name, ActivityKind kind, ActivityContext parent, IEnumerable<KeyValuePair<string, object?>>? tags = null)
    {
        var current = Activity.Current;
        try
        {
            return Source?.StartActivity(name, kind, parent, tags);
        }
        catch (Exception)
        {
            PutBack(current);
            return null;
        }
    }

    /// <summary>The few methods that are known; others could be anything: <c>_OTHER</c>, as the conventions want.</summary>
    public static string MethodOf(HttpMethod method) => method.Method switch
    {
        "GET" or "POST" or "PUT" or "DELETE" or "HEAD" or "OPTIONS" or "TRACE" or "PATCH" or "CONNECT" => method.Method,
        _ => "_OTHER",
    };

    /// <summary>Queries carry keys (Gemini's <c>?key=</c>) and user names passwords: neither is shown.</summary>
    static string WithoutSecrets(Uri uri) => $"{uri.Scheme}://{uri.Authority}{uri.AbsolutePath}{(uri.Query.Length > 1 ? "?*" : "")}";
}

/// <summary>
/// One call as its trace sees it. Exists only while somebody listens, or where the caller's own activity is to be carried on.
/// </summary>
internal sealed class CallTrace
{
    List<string>? _headers;

    CallTrace(Activity? span) => Span = span;

    /// <summary>Null where nobody wants spans of calls.</summary>
    public Activity? Span { get; }

    /// <summary>
    /// Starts the span, which becomes the current activity, and writes the context into the request's headers, as the platform's own
    /// handler does: unless the caller did.
    /// </summary>
    public static CallTrace Begin(HttpRequestMessage request, string pool, string lane)
    {
        var trace = new CallTrace(PoolActivities.StartCall(request, pool, lane));
        if (Activity.Current is { } current)
        {
            try
            {
                trace.Inject(current, request);
            }
            catch (Exception)
            {
                // A propagator of the application's: what it throws costs the headers and nothing else.
            }
        }

        return trace;
    }

    void Inject(Activity current, HttpRequestMessage request) =>
        DistributedContextPropagator.Current.Inject(current, (this, request), static (carrier, name, value) =>
        {
            var (trace, request) = ((CallTrace, HttpRequestMessage))carrier!;
            if (!request.Headers.NonValidated.Contains(name) && request.Headers.TryAddWithoutValidation(name, value))
            {
                (trace._headers ??= []).Add(name);
            }
        });

    /// <summary>The caller's request gets back what it was: sent again, it belongs to another span.</summary>
    public void TakeBack(HttpRequestMessage request) => _headers?.ForEach(name => request.Headers.Remove(name));

    /// <summary>It has its place, on the connection that came about in that span.</summary>
    public void Rides(ActivityContext? connection, int resends)
    {
        if (connection is { } context)
        {
            Span!.AddLink(new ActivityLink(context));
        }

        if (resends > 0)
        {
            Span!.SetTag("http.request.resend_count", resends);
        }
    }

    public void Answered(int status, bool isHttp2)
    {
        Span?.SetTag("http.response.status_code", status);
        Span?.SetTag("network.protocol.version", isHttp2 ? "2" : "1.1");
        if (status >= 400)
        {
            Span?.SetTag("error.type", StatusText(status));
            Span?.SetStatus(ActivityStatusCode.Error);
        }
    }

    /// <summary>What went wrong after the answer had begun.</summary>
    public void Broke(Exception error) => Span?.Fail(TypeOf(error), error.Message);

    /// <summary>No answer came; that is the end of it.</summary>
    public void Failed(Exception error)
    {
        Span?.Fail(TypeOf(error), error.Message);
        Span?.StopAnywhere();
    }

    /// <summary>The answer is over.</summary>
    public void Ended(in RequestTimings timings, TimeSpan queue)
    {
        if (Span is null)
        {
            return;
        }

        Span.SetTag("warmline.connection.id", timings.ConnectionId);
        Span.SetTag("warmline.reused", timings.Reused);
        if (timings.FirstToken is { } first)
        {
            Span.AddEvent(new ActivityEvent("warmline.first_token", new DateTimeOffset(Span.StartTimeUtc, TimeSpan.Zero) + queue + first));
        }

        Span.StopAnywhere();
    }

    public static string StatusText(int status) => status.ToString(CultureInfo.InvariantCulture);

    /// <summary>As the platform's handler says it: what kind of network error, or the exception's type.</summary>
    public static string TypeOf(Exception error) => error is HttpRequestException { HttpRequestError: not HttpRequestError.Unknown } failed
        ? PoolMetrics.Snake(failed.HttpRequestError.ToString())
        : error.GetType().FullName!;
}
