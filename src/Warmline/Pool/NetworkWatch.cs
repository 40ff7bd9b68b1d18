using Warmline.Transport;

namespace Warmline.Pool;

/// <summary>What the machine's network does to connections: its addresses change, and idle connections end unnoticed.</summary>
internal sealed class NetworkWatch : IDisposable
{
    readonly PoolEngine _pool;
    readonly INetwork _network;
    readonly IdleWatch _idle;
    int _isCheckQueued;

    public NetworkWatch(PoolEngine pool, INetwork network)
    {
        _pool = pool;
        _network = network;
        using (Background.SuppressFlow())
        {
            _idle = new IdleWatch(pool.Time, pool.Settings.TcpKeepAlive.Interval, FindQuiet);
        }
    }

    /// <summary>An HTTP/1.1 connection is idle now, or open and may stay unused: its end should be noticed.</summary>
    public void WatchIdle() => _idle.Arm();

    /// <summary>The machine's addresses have changed. Asking for them takes a while, and changes come in groups.</summary>
    public void AddressesChanged()
    {
        if (Interlocked.Exchange(ref _isCheckQueued, 1) == 0)
        {
            Background.Queue(this, static watch => watch._pool.Background.Run(watch, static watch => watch.CheckAddresses()));
        }
    }

    public void Dispose() => _idle.Dispose();

    void CheckAddresses()
    {
        Volatile.Write(ref _isCheckQueued, 0);
        var addresses = _network.LocalAddresses();
        if (addresses.Count > 0 && !_pool.Lifetime.IsDisposed)
        {
            _pool.Core.Play(addresses, static (scheduler, addresses, now, actions) => scheduler.LocalAddresses(addresses, now, actions));
        }
    }

    /// <summary>
    /// Lists HTTP/1.1 connections that have been idle for at least <paramref name="moment"/>. True if others are idle more briefly.
    /// </summary>
    bool FindQuiet(TimeSpan moment, List<(Slot Slot, long Sends, TimeSpan Rested)> quiet) => _pool.Core.Read((scheduler, now) =>
    {
        var hasOthers = false;
        foreach (var connection in scheduler.Keys.SelectMany(static key => key.Connections))
        {
            if (connection is not { IsIdle: true, IsHttp2: false, Slot: Slot slot })
            {
                continue;
            }

            if (now - connection.IdleSince >= moment)
            {
                quiet.Add((slot, slot.Sends, now - connection.IdleSince));
            }
            else
            {
                hasOthers = true;
            }
        }

        return hasOthers;
    });
}
