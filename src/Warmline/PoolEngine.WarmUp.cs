using Warmline.Options;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline;

/// <summary>Whether connections that a warm-up opened are accepted by the server.</summary>
internal sealed partial class PoolEngine
{
    /// <summary>The longest wait for a refusal that may be under way, and the shortest: at low latency, the server's processing time
    /// dominates.</summary>
    static readonly TimeSpan LongestProof = TimeSpan.FromMilliseconds(250), ShortestProof = TimeSpan.FromMilliseconds(50);

    public async Task<int> WarmUpAsync(ConnectionKey key, int connections, CancellationToken cancellationToken)
    {
        var avoidedHttp2 = AvoidsHttp2(key.Origin);
        while (true)
        {
            var warmUp = new WarmUp(connections);
            Play((warmUp, key), static (scheduler, warm, now, actions) => scheduler.WarmUp(warm.warmUp, warm.key, now, actions));
            await warmUp.Ended.Task.WaitAsync(cancellationToken).ConfigureAwait(false);
            if (warmUp.Ready == 0)
            {
                throw warmUp.Reason is PoolRejectionReason.BackOff ? PoolErrors.ConnectFailed(key, warmUp.Error)
                    : PoolErrors.Rejected(warmUp.Reason, Settings, GetStats(), _disposed);
            }

            var (ready, cause) = await ProveAsync(warmUp, key, cancellationToken).ConfigureAwait(false);
            if (ready < warmUp.Ready && !avoidedHttp2 && AvoidsHttp2(key.Origin))
            {
                avoidedHttp2 = true;   // the server asked for HTTP/1.1 just after its SETTINGS: once more, over that
                continue;
            }

            return ready > 0 ? ready : throw PoolErrors.ConnectFailed(key, cause);
        }
    }

    /// <summary>
    /// With TLS 1.3 this side believes the handshake to be over when its last flight leaves, and the server may refuse that flight, for the lack of a client certificate
    /// above all. On HTTP/1.1 nothing comes, and a server that has too many connections may say so right behind its SETTINGS. So a fresh connection counts as ready when it has lasted for about as long again as
    /// its handshake took. No call waits for this.
    /// </summary>
    async ValueTask<(int Ready, Exception? Cause)> ProveAsync(WarmUp warmUp, ConnectionKey key, CancellationToken cancellationToken)
    {
        var wait = Read((scheduler, now) => FreshOf(scheduler, key).Select(connection => RemainingProof(connection, now)).DefaultIfEmpty().Max());
        if (wait > TimeSpan.Zero)
        {
            await Task.Delay(wait, _time, cancellationToken).ConfigureAwait(false);
        }

        foreach (var slot in Read((scheduler, _) => FreshOf(scheduler, key).Select(static connection => (Slot)connection.Slot!).ToArray()))
        {
            slot.EndIfUnasked();
        }

        // Those that ended before the wait began are missing now, too.
        return Read((scheduler, _) => scheduler.Keys.FirstOrDefault(state => state.Key.Equals(key)) is { } state
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
