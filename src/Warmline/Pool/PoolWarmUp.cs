using Warmline.Options;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline.Pool;

/// <summary>Opens connections ahead of calls, and proves that the server accepts them.</summary>
internal sealed class PoolWarmUp(PoolEngine pool)
{
    /// <summary>Bounds on the wait for a rejection that may be under way. At low latency the server's processing time dominates.</summary>
    static readonly TimeSpan LongestProof = TimeSpan.FromMilliseconds(250), ShortestProof = TimeSpan.FromMilliseconds(50);

    /// <summary>How many connections are ready.</summary>
    public async Task<int> RunAsync(ConnectionKey key, int connections, CancellationToken cancellationToken)
    {
        var avoidedHttp2 = pool.Placement.AvoidsHttp2(key.Origin);
        while (true)
        {
            var warmUp = new WarmUp(connections);
            pool.Core.Play((warmUp, key), static (scheduler, warm, now, actions) => scheduler.WarmUp(warm.warmUp, warm.key, now, actions));
            await warmUp.Ended.Task.WaitAsync(cancellationToken).ConfigureAwait(false);
            if (warmUp.Ready == 0)
            {
                throw warmUp.Reason is PoolRejectionReason.BackOff ? PoolErrors.ConnectFailed(key, warmUp.Error)
                    : PoolErrors.Rejected(warmUp.Reason, pool.Settings, pool.GetStats(), pool.Lifetime.IsDisposed);
            }

            var (ready, cause) = await ProveAsync(warmUp, key, cancellationToken).ConfigureAwait(false);
            if (ready < warmUp.Ready && !avoidedHttp2 && pool.Placement.AvoidsHttp2(key.Origin))
            {
                avoidedHttp2 = true;   // the server asked for HTTP/1.1 just after its SETTINGS: once more, over that
                continue;
            }

            return ready > 0 ? ready : throw PoolErrors.ConnectFailed(key, cause);
        }
    }

    /// <summary>
    /// Waits until the connections that the options want kept ready are ready, or cannot be: how many are, and what prevented the others.
    /// </summary>
    public async Task<(int Ready, Exception? Cause)> TryRunAsync(ConnectionKey key, int connections, CancellationToken cancellationToken)
    {
        try
        {
            return (await RunAsync(key, connections, cancellationToken).ConfigureAwait(false), null);
        }
        catch (Exception error) when (error is PoolConnectException or PoolRejectedException or OperationCanceledException)
        {
            return (pool.Core.Read((scheduler, _) => scheduler.Keys.FirstOrDefault(state => state.Key.Equals(key))?.Ready ?? 0), error);
        }
    }

    /// <summary>
    /// With TLS 1.3 this side believes the handshake to be over when its last flight leaves, and the server may reject that flight, above
    /// all for the lack of a client certificate. On HTTP/1.1 nothing comes before a request, and a server that has too many connections may
    /// say so right behind its SETTINGS. So a fresh connection counts as ready when it has lasted for about as long again as its handshake
    /// took. No call waits for this.
    /// </summary>
    async ValueTask<(int Ready, Exception? Cause)> ProveAsync(WarmUp warmUp, ConnectionKey key, CancellationToken cancellationToken)
    {
        var wait = pool.Core.Read((scheduler, now) =>
            FreshOf(scheduler, key).Select(connection => RemainingProof(connection, now)).DefaultIfEmpty().Max());
        if (wait > TimeSpan.Zero)
        {
            await Task.Delay(wait, pool.Time, cancellationToken).ConfigureAwait(false);
        }

        foreach (var slot in pool.Core.Read((scheduler, _) =>
            FreshOf(scheduler, key).Select(static connection => (Slot)connection.Slot!).ToArray()))
        {
            slot.EndIfUnasked();
        }

        // Connections that ended before the wait began are missing now, too.
        return pool.Core.Read((scheduler, _) => scheduler.Keys.FirstOrDefault(state => state.Key.Equals(key)) is { } state
            ? (Math.Min(warmUp.Ready, state.Ready), state.LastDialError) : (0, null));
    }

    static IEnumerable<ConnectionState> FreshOf(Scheduler scheduler, ConnectionKey key) =>
        scheduler.Keys.Where(state => state.Key.Equals(key)).SelectMany(static state => state.Connections)
            .Where(static connection => connection is { IsUsable: true, LastUse: 0, Slot: Slot });

    static TimeSpan RemainingProof(ConnectionState connection, TimeSpan now)
    {
        var timings = ((Slot)connection.Slot!).Timings;
        var handshake = timings.Tcp + timings.Tls;
        if (handshake <= TimeSpan.Zero)
        {
            return TimeSpan.Zero;   // a clock that stands still
        }

        var proof = handshake < ShortestProof ? ShortestProof : handshake < LongestProof ? handshake : LongestProof;
        return connection.OpenedAt + proof - now;
    }
}
