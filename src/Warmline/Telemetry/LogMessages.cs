using Microsoft.Extensions.Logging;

namespace Warmline;

/// <summary>Every message that the pool logs. None holds a key, a header or a body.</summary>
internal static partial class LogMessages
{
    [LoggerMessage(1, LogLevel.Information, "{Stats}")]
    public static partial void StatsLine(ILogger logger, PoolStats stats);

    [LoggerMessage(2, LogLevel.Warning, "Pool utilization high: {Active}/{Limit} ({Percent}%) towards {Origin}")]
    public static partial void UtilizationHigh(ILogger logger, int active, int limit, int percent, string origin);

    [LoggerMessage(3, LogLevel.Warning, "Dial to {Origin} failed in phase {Phase}: {Cause}")]
    public static partial void DialFailed(ILogger logger, string origin, DialPhase phase, string cause);

    [LoggerMessage(4, LogLevel.Debug, "Connection {Id} to {Origin} opened: {Protocol}, {Handshake} ms")]
    public static partial void Opened(ILogger logger, long id, string origin, string protocol, double handshake);

    [LoggerMessage(5, LogLevel.Debug, "Connection {Id} to {Origin} closed")]
    public static partial void Closed(ILogger logger, long id, string origin);

    [LoggerMessage(6, LogLevel.Information, "Draining: {Active} requests in flight on {Connections} connections")]
    public static partial void DrainBegins(ILogger logger, int active, int connections);

    [LoggerMessage(7, LogLevel.Warning, "Drain deadline reached: aborted {Count} requests")]
    public static partial void DrainCut(ILogger logger, int count);

    [LoggerMessage(8, LogLevel.Error, "Internal error in the pool. The call concerned has been ended")]
    public static partial void InternalFault(ILogger logger, Exception error);

    [LoggerMessage(9, LogLevel.Warning, "A response from {Origin} was garbage-collected before it was read to the end or disposed, {Seconds:0.0} s after its call was placed. Its stream has been closed. Dispose every response. Taken by: {Stack}")]
    public static partial void ResponseLeaked(ILogger logger, string origin, double seconds, string stack);

    [LoggerMessage(10, LogLevel.Warning, "A response from {Origin} has been held unread for {Seconds:0.0} s (LeakThreshold): it keeps its place on a connection until it is read to its end or disposed. Taken by: {Stack}")]
    public static partial void ResponseHeld(ILogger logger, string origin, double seconds, string stack);

    [LoggerMessage(11, LogLevel.Information, "Still draining: {Active} requests in flight, the oldest running for {Seconds:0} s")]
    public static partial void DrainGoesOn(ILogger logger, int active, double seconds);

    [LoggerMessage(12, LogLevel.Information, "Closed {Count} idle connections to {Origin}: {Cause}")]
    public static partial void Flushed(ILogger logger, int count, string origin, string cause);

    [LoggerMessage(13, LogLevel.Debug, "{Origin} closes idle connections early: from now on they are kept for at most {Limit} s")]
    public static partial void IdleLimitLearned(ILogger logger, string origin, double limit);

    [LoggerMessage(14, LogLevel.Warning, "Calls to {Origin} have waited up to {Seconds:0} s for a place ({Reason}), and none will become free: "
        + "all places ({Count}) are held by responses that are not being read, the oldest for {Oldest:0} s. "
        + "Read each response to its end or dispose it before calling again, or limit the wait (Timeouts.Pool)")]
    public static partial void AllHeld(ILogger logger, string origin, double seconds, PoolRejectionReason reason, int count, double oldest);

    [LoggerMessage(15, LogLevel.Warning, "{Origin} closed an unused connection {Seconds:0.#} s after it was opened. {Consequence}")]
    public static partial void WarmthIsCostly(ILogger logger, string origin, double seconds, string consequence);

    [LoggerMessage(16, LogLevel.Warning, "The process's thread pool had no free thread for {Seconds:0.#} s, "
        + "so calls and connections were stalled. "
        + "The pool's timeouts were paused during that time. Blocked threads are the usual cause. {Advice}")]
    public static partial void Standstill(ILogger logger, double seconds, string advice);

    [LoggerMessage(40, LogLevel.Warning, "{Origin} closed connection {Id} with GOAWAY {Code}{Text}, after {Resets} RST_STREAM and {Pings} PING frames were sent on it")]
    public static partial void GoAwayReceived(ILogger logger, string origin, long id, string code, string text, long resets, long pings);

    [LoggerMessage(41, LogLevel.Warning, "{Origin} closed a connection because it received too many HTTP/2 PINGs (ENHANCE_YOUR_CALM). "
        + "No PINGs will be sent to it for {Hours} h. Raise Http2.PingDelay (now {Delay}), or set it to infinite")]
    public static partial void PingsPaused(ILogger logger, string origin, double hours, string delay);

    [LoggerMessage(42, LogLevel.Warning, "HTTP/2 to {Origin} failed: {Cause}. Calls that allow HTTP/1.1 will use it for {Minutes} min")]
    public static partial void Http2Avoided(ILogger logger, string origin, string cause, double minutes);

    [LoggerMessage(20, LogLevel.Warning, "The pool is switched off (Enabled is false). New calls go through a plain handler, without the pool's limits, timeouts and statistics. Running calls finish in the pool")]
    public static partial void SwitchedOff(ILogger logger);

    [LoggerMessage(21, LogLevel.Information, "The pool is switched on again. New calls go through it")]
    public static partial void SwitchedOn(ILogger logger);

    [LoggerMessage(22, LogLevel.Information, "Pool '{Pool}': {Ready} of {Wanted} warm connections to {Origin} are ready")]
    public static partial void WarmedUp(ILogger logger, string pool, int ready, int wanted, string origin);

    [LoggerMessage(23, LogLevel.Warning, "Pool '{Pool}': {Ready} of {Wanted} warm connections to {Origin} are ready; the application starts all the same, and its first calls may pay handshakes. Cause: {Cause}")]
    public static partial void WarmUpFailed(ILogger logger, string pool, int ready, int wanted, string origin, string cause);

    [LoggerMessage(24, LogLevel.Information, "Pool '{Pool}': the changed options have been applied")]
    public static partial void Reloaded(ILogger logger, string pool);

    [LoggerMessage(25, LogLevel.Warning, "Pool '{Pool}': none of the changed options have been applied, because {Fixed} cannot change while the pool runs. Change the other options only, or restart the application")]
    public static partial void ReloadNeedsRestart(ILogger logger, string pool, string @fixed);

    [LoggerMessage(26, LogLevel.Warning, "Pool '{Pool}': none of the changed options have been applied, because they are invalid: {Problems}")]
    public static partial void ReloadInvalid(ILogger logger, string pool, string problems);

    [LoggerMessage(27, LogLevel.Information, "Pool '{Pool}': the host is stopping. Running calls have {Seconds} s to finish")]
    public static partial void HostStops(ILogger logger, string pool, double seconds);

    [LoggerMessage(30, LogLevel.Warning, "{Pools} pools of this process have opened connections to {Origin} within {Seconds} s. Each pool has its own limits and performs its own TLS handshakes: "
        + "make one ConnectionPool for the application and keep it, instead of one for each request, client or tenant")]
    public static partial void ManyPools(ILogger logger, int pools, string origin, double seconds);

    [LoggerMessage(31, LogLevel.Warning, "Connections to {Origin} expire too early: {Times} times a connection had to be opened again soon after. {Option} = {Value} (now {Current}) would have kept them")]
    public static partial void ExpiresTooEarly(ILogger logger, string origin, int times, string option, string value, string current);

    [LoggerMessage(32, LogLevel.Warning, "{Calls} concurrent calls to {Origin} use {Connections} connections, because {Cause}. Over HTTP/2, {Enough} would be enough. {Remedy}")]
    public static partial void Http2Unused(ILogger logger, int calls, string origin, int connections, string cause, int enough,
        string remedy);

    [LoggerMessage(34, LogLevel.Warning, "NO_PROXY: {Entry} has no effect because .NET does not support this form; "
        + "matching calls still use the proxy. To bypass it, {Instead}")]
    public static partial void NoProxyIgnored(ILogger logger, string entry, string instead);

    [LoggerMessage(35, LogLevel.Warning, "ConnectionPoolOptions.Proxy threw {Error}. "
        + "Affected calls connect directly or without proxy credentials. This warning is logged only once")]
    public static partial void ProxyFailed(ILogger logger, string error);

    [LoggerMessage(36, LogLevel.Debug, "This system refuses the socket option {Option} ({Error}): connections work without it")]
    public static partial void SocketOptionRefused(ILogger logger, string option, string error);

    [LoggerMessage(33, LogLevel.Warning, "A pool was left open: {Cause} with {Active} requests in flight on {Connections} connections. Await DrainAsync to let them end, then DisposeAsync")]
    public static partial void LeftOpen(ILogger logger, string cause, int active, int connections);
}
