using System.Net;
using Warmline.Transport;

namespace Warmline.Pool;

/// <summary>
/// Looks the names of hosts in use up again when their answers are no longer fresh. One timer for all of them, armed while there are any.
/// </summary>
internal sealed class NameRefresh : IAsyncDisposable
{
    readonly PoolEngine _pool;
    readonly DnsCache _names;
    readonly ITimer _timer;
    int _isArmed;

    public NameRefresh(PoolEngine pool, DnsCache names)
    {
        _pool = pool;
        _names = names;
        _timer = pool.Background.CreateTimer(this, static refresh => refresh.Refresh(), Timeout.InfiniteTimeSpan);
        names.Answered = Apply;
    }

    /// <summary>
    /// Replaces the connections to an origin, or to all if it is null, by connections to the addresses that a new lookup gives.
    /// </summary>
    public void Reconnect(string? origin)
    {
        _names.Invalidate(origin is null ? null : new Uri(origin).IdnHost);
        _pool.Core.Play(origin, static (scheduler, origin, now, actions) => scheduler.Retire(origin, now, actions));
    }

    public ValueTask DisposeAsync() => _timer.DisposeAsync();

    /// <summary>A lookup was answered: connections to addresses that have vanished end.</summary>
    void Apply(string host, IPAddress[] addresses)
    {
        _pool.Core.Play((host, addresses), static (scheduler, answer, now, actions) =>
            scheduler.Retire(answer.host, answer.addresses, now, actions));
        Arm(_pool.Settings.Dns.CacheTtl);
    }

    void Arm(TimeSpan wait)
    {
        if (wait >= TimeSpan.Zero && Interlocked.Exchange(ref _isArmed, 1) == 0)
        {
            _timer.TrySet(wait, Timeout.InfiniteTimeSpan);
        }
    }

    void Refresh()
    {
        Volatile.Write(ref _isArmed, 0);
        var hosts = _pool.Core.Read(static (scheduler, _) => scheduler.Keys.Where(key => key.Connections.Count > 0)
            .Select(key => key.Key.DialedHost).Distinct(StringComparer.OrdinalIgnoreCase).ToArray());
        if (hosts.Length > 0 && !_pool.Lifetime.IsDisposed)
        {
            Arm(_names.Refresh(hosts));
        }
    }
}
