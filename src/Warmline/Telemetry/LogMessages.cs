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

    [LoggerMessage(6, LogLevel.Information, "Drain begins: {Active} requests in flight on {Connections} connections")]
    public static partial void DrainBegins(ILogger logger, int active, int connections);

    [LoggerMessage(7, LogLevel.Warning, "Drain's deadline is over: {Count} requests cut")]
    public static partial void DrainCut(ILogger logger, int count);

    [LoggerMessage(8, LogLevel.Error, "A fault inside the pool; the call concerned was ended")]
    public static partial void InternalFault(ILogger logger, Exception error);
}
