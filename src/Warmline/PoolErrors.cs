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

    /// <summary>The server answered the TLS handshake, and does not speak the HTTP/2 that was required.</summary>
    internal bool LacksHttp2 { get; init; }

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
    internal RequestStalledException(StallPhase phase, TimeSpan limit, TimeSpan silence, RequestVerdict verdict, string origin, SseWatcher? events)
        : base(string.Create(CultureInfo.InvariantCulture,
            $"{Explain(phase, events)} {origin} for {limit.TotalSeconds:0.###} s (Timeouts.{phase}){Seen(events)}. Raise Timeouts.{phase} if the call may take that long."))
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

    /// <summary>In a stream of server-sent events, the name of the last event that was no ping, at most 48 characters of it; <see langword="null"/> without one.</summary>
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

    static string Seen(SseWatcher? events) => events is { Events: > 0 } ? string.Create(CultureInfo.InvariantCulture, $", after {(events.Events == 1 ? "1 event," : $"{events.Events} events, the last of them")} {events.LastEvent}") : "";
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
    public static Exception Refused(
        PooledCall call, SchedulerAction action, PoolSettings settings, PoolStats stats, TimeSpan waited, bool disposed, HeldPlaces held = default, string detail = "")
    {
        if (action.Refusal is RefusalKind.DialFailed)
        {
            return ConnectFailed(call.Key!.Key, action.Error);
        }

        if (action.Refusal is RefusalKind.Rejected)
        {
            return Rejected(action.Reason, settings, stats, disposed, call, held);
        }

        var limit = LimitOf(action.Reason, settings, call);
        var (clock, longest) = call.Timeouts.TotalEndsWait ? ("Timeouts.Total", call.Timeouts.Total) : (call.Timeouts.PoolClock, call.Timeouts.Pool);
        return new PoolTimeoutException(action.Reason, limit, waited, stats,
            string.Create(CultureInfo.InvariantCulture, $"No place for a request to {call.Key!.Key.Origin} within {longest.TotalSeconds:0.###} s ({clock}): {Explain(action.Reason, limit, stats, call, clock)}{held.Explain()}{detail}"));
    }

    /// <summary>A sentence about the connection that a call has waited for; empty when there is none.</summary>
    public static string Explain(DialPhase? step) => step switch
    {
        null => "",
        DialPhase.Dns => " The DNS lookup had not finished.",
        DialPhase.Tcp => " The TCP connection had not been established yet.",
        DialPhase.Proxy => " The proxy had not opened the tunnel yet.",
        DialPhase.Tls => " The TLS handshake had not finished yet.",
        _ => " The server's HTTP/2 SETTINGS had not arrived yet.",
    };

    /// <summary>A sentence about a thread pool that had no free thread; empty when it had.</summary>
    public static string ExplainLost(TimeSpan lost) => lost < TimeSpan.FromSeconds(1) ? "" : string.Create(CultureInfo.InvariantCulture,
        $" The process's thread pool had no free thread for {lost.TotalSeconds:0.#} s during this time. {StarvationAdvice}.");

    /// <summary>What to do about it.</summary>
    public const string StarvationAdvice =
        "Avoid blocking calls (Send, Result, Wait), or raise ThreadPool.SetMinThreads and open connections ahead with WarmUpAsync";

    public static PoolRejectedException Rejected(
        PoolRejectionReason reason, PoolSettings settings, PoolStats stats, bool disposed, PooledCall? call = null, HeldPlaces held = default)
    {
        reason = disposed && reason is PoolRejectionReason.Draining ? PoolRejectionReason.Disposed : reason;
        var limit = LimitOf(reason, settings, call);
        var why = $"{Explain(reason, limit, stats, call)}{held.Explain()}";
        return new PoolRejectedException(reason, limit, stats, $"The pool refused the request: {why}");
    }

    public static PoolConnectException ConnectFailed(ConnectionKey key, Exception? error) => error is DialException dial
        ? new PoolConnectException(dial.Phase, RequestVerdict.NotSent, dial.Message, dial.InnerException, dial.ProxyStatus) { LacksHttp2 = dial.LacksHttp2 }
        : new PoolConnectException(DialPhase.Tcp, RequestVerdict.NotSent, $"No connection to {key.Origin} could be opened{(error is null ? "" : $": {error.Message}")}.", error);

    static int? LimitOf(PoolRejectionReason reason, PoolSettings settings, PooledCall? call) => reason switch
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

    /// <summary>What is used up, and what to change: a sentence each for every reason. To raise <paramref name="clock"/>, which ended the wait, is a way too; null where there was none.</summary>
    static string Explain(PoolRejectionReason reason, int? limit, PoolStats stats, PooledCall? call, string? clock = null) => reason switch
    {
        PoolRejectionReason.MaxConnections => $"{AllBusy(limit, "", "MaxConnections")}. {Advice(clock, "Raise MaxConnections", "send fewer calls at once")}",
        PoolRejectionReason.MaxConnectionsPerHost => $"{AllBusy(limit, " to this origin", "MaxConnectionsPerHost")}. {Advice(clock, "Raise MaxConnectionsPerHost", "send fewer calls at once")}",
        PoolRejectionReason.MaxConcurrentRequests => $"{Requests(limit, "", "MaxConcurrentRequests")} in flight. {Advice(clock, "Raise MaxConcurrentRequests", "send fewer calls at once")}",
        PoolRejectionReason.StreamLimit => $"the server allows no further stream at present. {Advice(clock, "Send fewer calls at once", "ask the provider for more")}",
        PoolRejectionReason.Dialing => $"a connection was being opened and was not ready in time. Raise {clock ?? "Timeouts.Pool"}, or check the network to the origin",
        PoolRejectionReason.BackOff => "the last connection attempt failed and the next was not due yet. Check that the origin is reachable",
        PoolRejectionReason.Paused => "the origin is paused. Call Resume",
        PoolRejectionReason.QueueFull => $"{Requests(limit, "", "MaxQueueLength")} waiting already. Slow down the callers, or raise MaxQueueLength",
        PoolRejectionReason.Draining => "the pool drains and takes no new requests",
        PoolRejectionReason.Disposed => "the pool was disposed",
        PoolRejectionReason.LaneCeiling => $"the lane {call?.LaneName} may have {Counted(limit, "request")} in flight (Ceiling) and has {(limit == 1 ? "it" : "them")}. {Advice(clock, "Raise it", "send fewer calls of the lane at once")}",
        PoolRejectionReason.LaneReserve => $"what is free is reserved for other lanes. {Advice(clock, "Raise the pool's limits", "lower their Reserve", "give this call's lane one")}",
        PoolRejectionReason.LaneQueueFull => $"{Requests(limit, $" of the lane {call?.LaneName}", "its MaxQueueLength")} waiting already. Slow down the callers, or raise it",
        PoolRejectionReason.TenantLimit => $"the tenant {call?.TenantName} may have {Counted(limit, "request")} in flight (MaxConcurrentRequests) and has {(limit == 1 ? "it" : "them")}. {Advice(clock, "Raise it in Tenants", "let the tenant send fewer calls at once")}",
        PoolRejectionReason.TenantConnections => $"{AllBusy(limit, $" of the tenant {call?.TenantName}", "MaxConnections")}. {Advice(clock, "Raise it in Tenants", "let the tenant send fewer calls at once")}",
        PoolRejectionReason.TenantQueueFull => $"{Requests(limit, $" of the tenant {call?.TenantName}", "its MaxQueueLength")} waiting already. Slow the tenant down, or raise it in Tenants",
        PoolRejectionReason.ProviderLimit => "the provider's rate limit is used up, or it said when to come back (Pacing is on). Ask the provider for more, send fewer calls, or "
            + (clock is null ? "allow a longer wait" : $"raise {clock}"),
        _ => "no place became free",
    } + $" ({stats.Active} in flight, {Counted(stats.Connections, "connection")} of which {stats.Idle} idle, {stats.Queued} waiting).";

    static string Advice(string? clock, params ReadOnlySpan<string> ways)
    {
        string[] all = clock is null ? [.. ways] : [.. ways, $"raise {clock}"];
        return $"{string.Join(", ", all[..^1])}, or {all[^1]}";
    }

    static string AllBusy(int? limit, string whose, string name) => limit == 1 ? $"the only connection{whose} ({name}) is busy" : $"all {limit} connections{whose} ({name}) are busy";

    static string Requests(int? limit, string whose, string name) => $"{Counted(limit, "request")}{whose} ({name}) {(limit == 1 ? "is" : "are")}";

    static string Counted(int? count, string thing) => count == 1 ? $"1 {thing}" : $"{count} {thing}s";
}
