using System.Globalization;
using System.Net;
using System.Security.Authentication;
using Warmline.Options;
using Warmline.Providers;
using Warmline.Scheduling;
using Warmline.Transport;

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

    /// <summary>What the pool was doing at that moment; without <see cref="PoolStats.Tenants"/> and <see cref="PoolStats.RateLimits"/>, which <see cref="ConnectionPool.GetStats"/> has.</summary>
    public PoolStats Stats { get; }
}

/// <summary>The time to wait for a place, <see cref="PoolTimeouts.Pool"/> or <see cref="PoolRequestOptions.MaxQueueTime"/>, was over. The request was not sent.</summary>
public sealed class PoolTimeoutException : PoolRejectedException
{
    internal PoolTimeoutException(PoolRejectionReason reason, int? limit, TimeSpan waited, PoolStats stats, string message)
        : base(reason, limit, stats, message) => Waited = waited;

    /// <summary>How long the request waited.</summary>
    public TimeSpan Waited { get; }
}

/// <summary>No connection could be opened: DNS, TCP, the proxy's tunnel, TLS or the HTTP/2 SETTINGS failed or took longer than <see cref="PoolTimeouts.Connect"/>.</summary>
public sealed class PoolConnectException : HttpRequestException
{
    internal PoolConnectException(DialPhase phase, RequestVerdict verdict, string message, Exception? inner, HttpStatusCode? proxyStatus = null)
        : base(ErrorOf(phase, inner), message, inner, proxyStatus)
    {
        Phase = phase;
        Verdict = verdict;
    }

    /// <summary>Where it failed.</summary>
    public DialPhase Phase { get; }

    /// <summary><see cref="RequestVerdict.NotSent"/>, except for the one request that was to start an HTTP/2 connection whose server never sent SETTINGS.</summary>
    public RequestVerdict Verdict { get; }

    static HttpRequestError ErrorOf(DialPhase phase, Exception? inner) => phase switch
    {
        DialPhase.Dns => HttpRequestError.NameResolutionError,
        DialPhase.Proxy when inner is not AuthenticationException => HttpRequestError.ProxyTunnelError,
        DialPhase.Proxy or DialPhase.Tls => HttpRequestError.SecureConnectionError,
        _ => HttpRequestError.ConnectionError,
    };
}

/// <summary>The request got a place and failed there: the connection broke, the answer was not HTTP.</summary>
public sealed class PoolRequestException : HttpRequestException
{
    internal PoolRequestException(RequestVerdict verdict, HttpRequestError error, string message, Exception inner, HttpStatusCode? statusCode = null)
        : base(error, message, inner, statusCode) => Verdict = verdict;

    /// <summary>Whether the server can have worked on it.</summary>
    public RequestVerdict Verdict { get; }
}

/// <summary>A clock of the call ran out: it was open and silent, or longer than allowed. The exchange was aborted.</summary>
public sealed class RequestStalledException : TimeoutException
{
    internal RequestStalledException(StallPhase phase, TimeSpan limit, TimeSpan silence, RequestVerdict verdict, string origin, SseWatcher? events)
        : base(string.Create(CultureInfo.InvariantCulture,
            $"{Explain(phase)} {origin} for {limit.TotalSeconds:0.###} s (Timeouts.{phase}){Seen(events)}. Raise Timeouts.{phase} if the call may take that long."))
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

    /// <summary>How long nothing had come when the clock ran out: no byte could be written, no headers, no byte, or, in <see cref="StallPhase.Content"/>, no event.
    /// In <see cref="StallPhase.Total"/>, how long the caller had been waiting for a byte just then.</summary>
    public TimeSpan Silence { get; }

    /// <summary>In a stream of server-sent events, the name of the last event that was no ping, at most 48 characters of it; <see langword="null"/> without one.</summary>
    public string? LastEvent { get; }

    /// <summary>In a stream of server-sent events, how many had come, pings not counted.</summary>
    public long EventsSeen { get; }

    /// <summary>Whether the server can have worked on the request.</summary>
    public RequestVerdict Verdict { get; }

    static string Explain(StallPhase phase) => phase switch
    {
        StallPhase.Write => "No byte of the request body could be written to",
        StallPhase.FirstByte => "No response headers came from",
        StallPhase.Read => "No byte of the response body came from",
        StallPhase.Content => "No event but pings came from",
        _ => "The call did not end at",
    };

    static string Seen(SseWatcher? events) => events is { Events: > 0 } ? string.Create(CultureInfo.InvariantCulture, $", after {events.Events} events, the last of them {events.LastEvent}") : "";
}

/// <summary>The pool was disposed, or its drain's deadline was over, while the call was running.</summary>
public sealed class PoolAbortedException : IOException
{
    internal PoolAbortedException(PoolRejectionReason reason)
        : base(reason is PoolRejectionReason.Disposed ? "The pool was disposed while the call was running." : "The drain's deadline was over while the call was running.") => Reason = reason;

    /// <summary><see cref="PoolRejectionReason.Draining"/> or <see cref="PoolRejectionReason.Disposed"/>.</summary>
    public PoolRejectionReason Reason { get; }
}

/// <summary>Makes the pool's own errors of what the scheduler decided.</summary>
internal static class PoolErrors
{
    public static Exception Refused(PooledRequest call, SchedulerAction action, PoolSettings settings, PoolStats stats, TimeSpan waited, bool disposed)
    {
        if (action.Refusal is RefusalKind.DialFailed)
        {
            return ConnectFailed(call.Key!.Key, action.Error);
        }

        if (action.Refusal is RefusalKind.Rejected)
        {
            return Rejected(action.Reason, settings, stats, disposed, call);
        }

        var limit = LimitOf(action.Reason, settings, call);
        var (clock, longest) = call.Timeouts.TotalEndsWait ? ("Timeouts.Total", call.Timeouts.Total) : (call.Timeouts.PoolClock, call.Timeouts.Pool);
        return new PoolTimeoutException(action.Reason, limit, waited, stats,
            $"No place for a request to {call.Key!.Key.Origin} within {longest.TotalSeconds:0.###} s ({clock}): {Explain(action.Reason, limit, stats, call)}");
    }

    public static PoolRejectedException Rejected(PoolRejectionReason reason, PoolSettings settings, PoolStats stats, bool disposed, PooledRequest? call = null)
    {
        reason = disposed && reason is PoolRejectionReason.Draining ? PoolRejectionReason.Disposed : reason;
        var limit = LimitOf(reason, settings, call);
        return new PoolRejectedException(reason, limit, stats, $"The pool refused the request: {Explain(reason, limit, stats, call)}");
    }

    public static PoolConnectException ConnectFailed(ConnectionKey key, Exception? error) => error is DialException dial
        ? new PoolConnectException(dial.Phase, RequestVerdict.NotSent, dial.Message, dial.InnerException ?? dial, dial.ProxyStatus)
        : new PoolConnectException(DialPhase.Http2Settings, RequestVerdict.NotSent, $"{key.Origin} closed the connection before it sent its HTTP/2 SETTINGS.", error);

    static int? LimitOf(PoolRejectionReason reason, PoolSettings settings, PooledRequest? call) => reason switch
    {
        PoolRejectionReason.LaneCeiling or PoolRejectionReason.LaneQueueFull when call is not null && settings.Sharing.Lanes.TryGetValue(call.LaneName, out var lane) =>
            reason is PoolRejectionReason.LaneCeiling ? lane.Ceiling : lane.MaxQueueLength,
        PoolRejectionReason.TenantLimit when call is not null => settings.Sharing.LimitsOf(call.TenantName).MaxConcurrentRequests,
        PoolRejectionReason.TenantQueueFull when call is not null => settings.Sharing.LimitsOf(call.TenantName).MaxQueueLength,
        PoolRejectionReason.TenantConnections when call is not null => settings.Sharing.LimitsOf(call.TenantName).MaxConnections,
        PoolRejectionReason.MaxConnections => settings.MaxConnections,
        PoolRejectionReason.MaxConnectionsPerHost => settings.MaxConnectionsPerHost,
        PoolRejectionReason.MaxConcurrentRequests => settings.MaxConcurrentRequests,
        PoolRejectionReason.QueueFull => settings.MaxQueueLength,
        _ => null,
    };

    /// <summary>One sentence for each reason: what is used up, and what to change.</summary>
    static string Explain(PoolRejectionReason reason, int? limit, PoolStats stats, PooledRequest? call) => reason switch
    {
        PoolRejectionReason.MaxConnections => $"all {limit} connections (MaxConnections) are busy. Raise MaxConnections, or send fewer calls at once",
        PoolRejectionReason.MaxConnectionsPerHost => $"all {limit} connections to this origin (MaxConnectionsPerHost) are busy. Raise MaxConnectionsPerHost, or send fewer calls at once",
        PoolRejectionReason.MaxConcurrentRequests => $"{limit} requests (MaxConcurrentRequests) are in flight. Raise MaxConcurrentRequests, or send fewer calls at once",
        PoolRejectionReason.StreamLimit => "the server allows no further stream at present. Send fewer calls at once, or ask the provider for more",
        PoolRejectionReason.Dialing => "a connection was being opened and was not ready in time. Raise Timeouts.Pool, or check the network to the origin",
        PoolRejectionReason.BackOff => "the last connection attempt failed and the next was not due yet. Check that the origin is reachable",
        PoolRejectionReason.Paused => "the origin is paused. Call Resume",
        PoolRejectionReason.QueueFull => $"{limit} requests (MaxQueueLength) are waiting already. Slow down the callers, or raise MaxQueueLength",
        PoolRejectionReason.Draining => "the pool drains and takes no new requests",
        PoolRejectionReason.Disposed => "the pool was disposed",
        PoolRejectionReason.LaneCeiling => $"the lane {call?.LaneName} may have {limit} requests in flight (Ceiling) and has them. Raise it, or send fewer calls of the lane at once",
        PoolRejectionReason.LaneReserve => "what is free is reserved for other lanes. Raise the pool's limits, lower their Reserve, or give this call's lane one",
        PoolRejectionReason.LaneQueueFull => $"{limit} requests of the lane {call?.LaneName} (its MaxQueueLength) are waiting already. Slow down the callers, or raise it",
        PoolRejectionReason.TenantLimit => $"the tenant {call?.TenantName} may have {limit} requests in flight (MaxConcurrentRequests) and has them. Raise it in Tenants, or let the tenant send fewer calls at once",
        PoolRejectionReason.TenantConnections => $"all {limit} connections of the tenant {call?.TenantName} (MaxConnections) are busy. Raise it in Tenants, or let the tenant send fewer calls at once",
        PoolRejectionReason.TenantQueueFull => $"{limit} requests of the tenant {call?.TenantName} (its MaxQueueLength) are waiting already. Slow the tenant down, or raise it in Tenants",
        PoolRejectionReason.ProviderLimit => "the provider's rate limit is used up, or it said when to come back (Pacing is on). Ask the provider for more, send fewer calls, or allow a longer wait",
        _ => "no place became free",
    } + $" ({stats.Active} in flight, {stats.Connections} connections of which {stats.Idle} idle, {stats.Queued} waiting).";
}
