using System.Net;
using Warmline.Options;
using Warmline.Scheduling;

namespace Warmline;

/// <summary>What the pool knows beside the proxy's address: whether its object works, what the environment left out, and how its callers
/// introduce themselves.</summary>
internal sealed partial class PoolEngine
{
    static int _noProxyTold;

    /// <summary>Whom to ask for the proxy of a call; null when none is to be used. Never throws.</summary>
    public IWebProxy? Proxy { get; }

    /// <summary>The User-Agent for a tunnel: the last one that a caller sent there. Tenants with connections of their own are kept
    /// apart.</summary>
    string? UserAgentFor(ConnectionKey key) =>
        Read((scheduler, _) => scheduler.Find(key) is { } state ? IsApart(state) ? state.UserAgent : state.Origin.UserAgent : null);

    static void SetUserAgent_NeedsLock(KeyState? key, string userAgent)
    {
        if (key is null)
        {
            return;
        }

        if (IsApart(key))
        {
            key.UserAgent = userAgent;
        }
        else
        {
            key.Origin.UserAgent = userAgent;
        }
    }

    static bool IsApart(KeyState key) => key.Key.Partition.Length > 0;

    QuietProxy? Guard(IWebProxy? proxy) => proxy is null ? null : new QuietProxy(proxy, error =>
        LogMessages.ProxyFailed(_logger, error.GetType().Name));   // not its text, which may hold the call's whole address

    void CheckNoProxy()
    {
        if (!NoProxyForms.IsEnvironments(Settings.Proxy) || Interlocked.Exchange(ref _noProxyTold, 1) != 0)
        {
            return;
        }

        foreach (var (entry, instead) in NoProxyForms.Unsupported(NoProxyForms.OfEnvironment()))
        {
            LogMessages.NoProxyIgnored(_logger, entry, instead);
        }
    }
}
