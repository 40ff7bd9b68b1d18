using System.Globalization;
using System.Net;
using System.Security.Authentication;
using Warmline.Providers;

namespace Warmline;

/// <summary>
/// The pool itself refused the request: it was not sent. Says which limit, its value, how much of it is in use and what to change.
/// Deliberately not an <see cref="HttpRequestException"/>: SDKs retry those at once and would storm a full pool.
/// </summary>
public class PoolRejectedException : Exception
{
    internal PoolRejectedException(PoolRejectionReason reason, int? limit, PoolStats stats, string message)
        : base(message)
    {
        Reason = reason;
        Limit = limit;
        Stats = stats;
    }

    /// <summary>The resource that the request lacked.</summary>
    public PoolRejectionReason Reason { get; }

    /// <summary>The section of the errors page for this reason.</summary>
    public override string? HelpLink => $"docs/errors.md#{Reason.ToString().ToLowerInvariant()}";

    /// <summary>The limit's value, where the reason is a limit.</summary>
    public int? Limit { get; }

    /// <summary>
    /// What the pool was doing at that moment, without <see cref="PoolStats.Tenants"/> and <see cref="PoolStats.RateLimits"/>. For these
    /// see <see cref="ConnectionPool.GetStats"/>.
    /// </summary>
    public PoolStats Stats { get; }
}

/// <summary>
/// The time to wait for a place, <see cref="PoolTimeouts.Pool"/> or <see cref="PoolRequestOptions.MaxQueueTime"/>, was over. The request
/// was not sent.
/// </summary>
public sealed class PoolTimeoutException : PoolRejectedException
{
    internal PoolTimeoutException(PoolRejectionReason reason, int? limit, TimeSpan waited, PoolStats stats, string message)
        : base(reason, limit, stats, message) => Waited = waited;

    /// <summary>How long the request waited.</summary>
    public TimeSpan Waited { get; }
}

/// <summary>
/// No connection could be opened: DNS, TCP, the proxy's tunnel, TLS or the HTTP/2 SETTINGS failed or took longer than
/// <see cref="PoolTimeouts.Connect"/>.
/// </summary>
public sealed class PoolConnectException : HttpRequestException
{
    internal PoolConnectException(
        DialPhase phase, RequestVerdict verdict, string message, Exception? inner, HttpStatusCode? proxyStatus = null)
        : base(ErrorOf(phase, inner), message, inner, proxyStatus)
    {
        Phase = phase;
        Verdict = verdict;
    }

    /// <summary>Where it failed.</summary>
    public DialPhase Phase { get; }

    /// <summary>The server answered the TLS handshake, and does not speak the HTTP/2 that was required.</summary>
    internal bool LacksHttp2 { get; init; }

    /// <summary>
    /// <see cref="RequestVerdict.NotSent"/>, except for the one request that was to start an HTTP/2 connection whose server never sent
    /// SETTINGS.
    /// </summary>
    public RequestVerdict Verdict { get; }

    static HttpRequestError ErrorOf(DialPhase phase, Exception? inner) => phase switch
    {
        DialPhase.Dns => HttpRequestError.NameResolutionError,
        DialPhase.Proxy when inner is not AuthenticationException => HttpRequestError.ProxyTunnelError,
        DialPhase.Proxy or DialPhase.Tls => HttpRequestError.SecureConnectionError,
        _ => HttpRequestError.ConnectionError,
    };
}

/// <summary>The request failed: the connection broke, the answer was not HTTP, or it cannot be sent as it is.
/// <see cref="Exception.InnerException"/> is the same as with .NET's own handler.</summary>
public sealed class PoolRequestException : HttpRequestException
{
    internal PoolRequestException(
        RequestVerdict verdict, HttpRequestError error, string message, Exception? inner, HttpStatusCode? statusCode = null)
        : base(error, message, inner, statusCode) => Verdict = verdict;

    /// <summary>Whether the server can have worked on it.</summary>
    public RequestVerdict Verdict { get; }
}

/// <summary>A clock of the call ran out: it was open and silent, or longer than allowed. The exchange was aborted.</summary>
public sealed class RequestStalledException : TimeoutException
{
    internal RequestStalledException(
        StallPhase phase, TimeSpan limit, TimeSpan silence, RequestVerdict verdict, string origin, SseWatcher? events)
        : base(string.Create(CultureInfo.InvariantCulture,
            $"{Explain(phase, events)} {origin} for {limit.TotalSeconds:0.###} s (Timeouts.{phase}){Seen(events)}. ")
            + $"Raise Timeouts.{phase} if the call may take that long.")
    {
        Phase = phase;
        Limit = limit;
        Silence = silence;
        Verdict = verdict;
        LastEvent = events?.LastEvent;
        EventsSeen = events?.Events ?? 0;
    }

    /// <summary>The clock that ran out.</summary>
    public StallPhase Phase { get; }

    /// <summary>Its limit.</summary>
    public TimeSpan Limit { get; }

    /// <summary>How long nothing had come when the clock ran out: no byte could be written, no headers, no byte, or, in
    /// <see cref="StallPhase.Content"/>, no event, or nothing but whitespace.
    /// In <see cref="StallPhase.Total"/>, how long the caller had been waiting for a byte just then.</summary>
    public TimeSpan Silence { get; }

    /// <summary>
    /// In a stream of server-sent events, the name of the last event that was no ping, at most 48 characters of it;
    /// <see langword="null"/> without one.
    /// </summary>
    public string? LastEvent { get; }

    /// <summary>In a stream of server-sent events, how many had come, pings not counted.</summary>
    public long EventsSeen { get; }

    /// <summary>Whether the server can have worked on the request.</summary>
    public RequestVerdict Verdict { get; }

    static string Explain(StallPhase phase, SseWatcher? events) => phase switch
    {
        StallPhase.Write => "No byte of the request body could be written to",
        StallPhase.FirstByte => "No response headers came from",
        StallPhase.Read => "No byte of the response body came from",
        StallPhase.Content => events is null ? "Nothing but whitespace came from" : "Only pings, and no event, came from",
        _ => "The call did not end at",
    };

    static string Seen(SseWatcher? events) => events is not { Events: > 0 } ? ""
        : string.Create(CultureInfo.InvariantCulture,
            $", after {(events.Events == 1 ? "1 event," : $"{events.Events} events, the last of them")} {events.LastEvent}");
}

/// <summary>The pool was disposed, or its drain's deadline was over, while the call was running.</summary>
public sealed class PoolAbortedException : IOException
{
    internal PoolAbortedException(PoolRejectionReason reason)
        : base(reason is PoolRejectionReason.Disposed ? "The pool was disposed while the call was running."
            : "The drain's deadline was over while the call was running.") => Reason = reason;

    /// <summary><see cref="PoolRejectionReason.Draining"/> or <see cref="PoolRejectionReason.Disposed"/>.</summary>
    public PoolRejectionReason Reason { get; }
}
