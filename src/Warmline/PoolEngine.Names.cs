using System.Net;
using Warmline.Transport;

namespace Warmline;

/// <summary>Host names in use are looked up again when their answer is no longer fresh: one timer for all of them, armed while there are any.</summary>
internal sealed partial class PoolEngine
{
    readonly DnsCache _names;
    readonly ITimer _namesTimer;
    int _namesArmed;

    void Answered(string host, IPAddress[] addresses)
    {
        Play((host, addresses), static (scheduler, answer, now, actions) => scheduler.Retire(answer.host, answer.addresses, now, actions));
        ArmNames(Settings.Dns.CacheTtl);
    }

    void ArmNames(TimeSpan wait)
    {
        if (wait >= TimeSpan.Zero && Interlocked.Exchange(ref _namesArmed, 1) == 0)
        {
            _namesTimer.TrySet(wait, Timeout.InfiniteTimeSpan);
        }
    }

    void RefreshNames()
    {
        Volatile.Write(ref _namesArmed, 0);
        var hosts = Read(static (scheduler, _) => scheduler.Keys.Where(key => key.Connections.Count > 0).Select(key => key.Key.DialedHost).Distinct(StringComparer.OrdinalIgnoreCase).ToArray());
        if (hosts.Length > 0 && !_disposed)
        {
            ArmNames(_names.Refresh(hosts));
        }
    }
}
