using System.Globalization;
using Warmline.Options;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline;

/// <summary>The errors of calls that get no place: which limit, its value, what is in use, and what to change.</summary>
internal static class PoolErrors
{
    public static Exception Refused(
        PooledCall call, SchedulerAction action, PoolSettings settings, PoolStats stats, TimeSpan waited, bool disposed,
        HeldPlaces held = default, string detail = "")
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
        var timeouts = call.Timeouts;
        var (clock, longest) = timeouts.TotalEndsWait ? ("Timeouts.Total", timeouts.Total) : (timeouts.PoolClock, timeouts.Pool);
        var why = $"{Explain(action.Reason, limit, stats, call, clock)}{held.Explain()}{detail}";
        return new PoolTimeoutException(action.Reason, limit, waited, stats,
            string.Create(CultureInfo.InvariantCulture,
                $"No place for a request to {call.Key!.Key.Origin} within {longest.TotalSeconds:0.###} s ({clock}): {why}"));
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
        PoolRejectionReason reason, PoolSettings settings, PoolStats stats, bool disposed, PooledCall? call = null,
        HeldPlaces held = default)
    {
        reason = disposed && reason is PoolRejectionReason.Draining ? PoolRejectionReason.Disposed : reason;
        var limit = LimitOf(reason, settings, call);
        var why = $"{Explain(reason, limit, stats, call)}{held.Explain()}";
        return new PoolRejectedException(reason, limit, stats, $"The pool refused the request: {why}");
    }

    public static PoolConnectException ConnectFailed(ConnectionKey key, Exception? error) => error is DialException dial
        ? new PoolConnectException(dial.Phase, RequestVerdict.NotSent, dial.Message, dial.InnerException, dial.ProxyStatus)
        {
            LacksHttp2 = dial.LacksHttp2,
        }
        : new PoolConnectException(DialPhase.Tcp, RequestVerdict.NotSent,
            $"No connection to {key.Origin} could be opened{(error is null ? "" : $": {error.Message}")}.", error);

    static int? LimitOf(PoolRejectionReason reason, PoolSettings settings, PooledCall? call) => reason switch
    {
        PoolRejectionReason.LaneCeiling or PoolRejectionReason.LaneQueueFull
            when call is not null && settings.Sharing.Lanes.TryGetValue(call.LaneName, out var lane) =>
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

    /// <summary>
    /// What is used up, and what to change: a sentence each for every reason. Another way is to raise <paramref name="clock"/>, which ended
    /// the wait; null where there was none.
    /// </summary>
    static string Explain(PoolRejectionReason reason, int? limit, PoolStats stats, PooledCall? call, string? clock = null) => reason switch
    {
        PoolRejectionReason.MaxConnections =>
            $"{AllBusy(limit, "", "MaxConnections")}. {Advice(clock, "Raise MaxConnections", "send fewer calls at once")}",
        PoolRejectionReason.MaxConnectionsPerHost =>
            $"{AllBusy(limit, " to this origin", "MaxConnectionsPerHost")}. "
            + $"{Advice(clock, "Raise MaxConnectionsPerHost", "send fewer calls at once")}",
        PoolRejectionReason.MaxConcurrentRequests =>
            $"{Requests(limit, "", "MaxConcurrentRequests")} in flight. "
            + $"{Advice(clock, "Raise MaxConcurrentRequests", "send fewer calls at once")}",
        PoolRejectionReason.StreamLimit =>
            $"the server allows no further stream at present. {Advice(clock, "Send fewer calls at once", "ask the provider for more")}",
        PoolRejectionReason.Dialing =>
            $"a connection was being opened and was not ready in time. Raise {clock ?? "Timeouts.Pool"}, "
            + "or check the network to the origin",
        PoolRejectionReason.BackOff =>
            "the last connection attempt failed and the next was not due yet. Check that the origin is reachable",
        PoolRejectionReason.Paused => "the origin is paused. Call Resume",
        PoolRejectionReason.QueueFull =>
            $"{Requests(limit, "", "MaxQueueLength")} waiting already. Slow down the callers, or raise MaxQueueLength",
        PoolRejectionReason.Draining => "the pool drains and takes no new requests",
        PoolRejectionReason.Disposed => "the pool was disposed",
        PoolRejectionReason.LaneCeiling =>
            $"the lane {call?.LaneName} may have {Counted(limit, "request")} in flight (Ceiling) and has {(limit == 1 ? "it" : "them")}. "
            + $"{Advice(clock, "Raise it", "send fewer calls of the lane at once")}",
        PoolRejectionReason.LaneReserve =>
            "what is free is reserved for other lanes. "
            + $"{Advice(clock, "Raise the pool's limits", "lower their Reserve", "give this call's lane one")}",
        PoolRejectionReason.LaneQueueFull =>
            $"{Requests(limit, $" of the lane {call?.LaneName}", "its MaxQueueLength")} waiting already. "
            + "Slow down the callers, or raise it",
        PoolRejectionReason.TenantLimit =>
            $"the tenant {call?.TenantName} may have {Counted(limit, "request")} in flight (MaxConcurrentRequests) "
            + $"and has {(limit == 1 ? "it" : "them")}. "
            + $"{Advice(clock, "Raise it in Tenants", "let the tenant send fewer calls at once")}",
        PoolRejectionReason.TenantConnections =>
            $"{AllBusy(limit, $" of the tenant {call?.TenantName}", "MaxConnections")}. "
            + $"{Advice(clock, "Raise it in Tenants", "let the tenant send fewer calls at once")}",
        PoolRejectionReason.TenantQueueFull =>
            $"{Requests(limit, $" of the tenant {call?.TenantName}", "its MaxQueueLength")} waiting already. "
            + "Slow the tenant down, or raise it in Tenants",
        PoolRejectionReason.ProviderLimit =>
            "the provider's rate limit is used up, or it said when to come back (Pacing is on). "
            + "Ask the provider for more, send fewer calls, or "
            + (clock is null ? "allow a longer wait" : $"raise {clock}"),
        _ => "no place became free",
    } + $" ({stats.Active} in flight, {Counted(stats.Connections, "connection")} of which {stats.Idle} idle, {stats.Queued} waiting).";

    static string Advice(string? clock, params ReadOnlySpan<string> ways)
    {
        string[] all = clock is null ? [.. ways] : [.. ways, $"raise {clock}"];
        return $"{string.Join(", ", all[..^1])}, or {all[^1]}";
    }

    static string AllBusy(int? limit, string whose, string name) =>
        limit == 1 ? $"the only connection{whose} ({name}) is busy" : $"all {limit} connections{whose} ({name}) are busy";

    static string Requests(int? limit, string whose, string name) =>
        $"{Counted(limit, "request")}{whose} ({name}) {(limit == 1 ? "is" : "are")}";

    static string Counted(int? count, string thing) => count == 1 ? $"1 {thing}" : $"{count} {thing}s";
}
