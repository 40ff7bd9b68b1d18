using System.Net;
using Microsoft.Extensions.Logging;
using Warmline.Options;
using Warmline.Scheduling;

namespace Warmline.Pool;

/// <summary>The proxy that calls use, and what a tunnel through it tells the proxy of the caller.</summary>
internal sealed class ProxyAccess(PoolEngine pool)
{
    /// <summary>Asked for the proxy of a call; null if none is used. Never throws.</summary>
    public IWebProxy? Proxy { get; } = pool.Settings.Proxy is { } proxy
        ? new QuietProxy(proxy, error => LogFailure(pool.Logger, error))
        : null;

    /// <summary>
    /// The User-Agent for a tunnel: the last one that a caller sent there. Tenants with connections of their own are kept apart.
    /// </summary>
    public string? UserAgentFor(ConnectionKey key) => pool.Core.Read((scheduler, _) =>
        scheduler.Find(key) is { } state ? IsApart(state) ? state.UserAgent : state.Origin.UserAgent : null);

    /// <summary>Needs the pool's lock.</summary>
    public static void SetUserAgent(KeyState key, string userAgent)
    {
        if (IsApart(key))
        {
            key.UserAgent = userAgent;
        }
        else
        {
            key.Origin.UserAgent = userAgent;
        }
    }

    /// <summary>Without the error's text, which may hold the call's whole address.</summary>
    static void LogFailure(ILogger logger, Exception error) => LogMessages.ProxyFailed(logger, error.GetType().Name);

    static bool IsApart(KeyState key) => key.Key.Partition.Length > 0;
}
