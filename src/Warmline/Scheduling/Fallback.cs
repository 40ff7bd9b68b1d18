using Warmline.Options;

namespace Warmline.Scheduling;

/// <summary>Moves calls from HTTP/2 to HTTP/1.1 where an origin's HTTP/2 does not work (<see cref="Http2Trust"/>).</summary>
internal sealed class Fallback(Agenda agenda, PoolState pool, Lifecycle lifecycle, Settlement settlement)
{
    /// <summary>Whether calls of the key use HTTP/1.1 although the key allows HTTP/2.</summary>
    public static bool AvoidsHttp2(KeyState key, TimeSpan now) => MayFallBack(key) && key.Origin.Http2.IsAvoided(now);

    /// <summary>How long the key's calls still use HTTP/1.1; null if HTTP/2 is not avoided.</summary>
    public static TimeSpan? Http2AvoidedFor(KeyState key, TimeSpan now) =>
        AvoidsHttp2(key, now) ? key.Origin.Http2.AvoidedUntil - now : null;

    public static bool MayFallBack(KeyState key) => key.Key is { Protocols: HttpProtocols.Any, IsHttps: true };

    /// <summary>An HTTP/2 connection that is of no use: it opened while its origin fell back to HTTP/1.1.</summary>
    public bool IsUnwanted(ConnectionState connection) => connection.IsHttp2 && AvoidsHttp2(connection.Key, agenda.Now);

    /// <summary>
    /// Tries the other protocol after this connection failed: HTTP/1.1, or HTTP/2 after all. If it returns true no waiter fails and no
    /// back-off follows.
    /// </summary>
    public bool TryOtherWay(ConnectionState connection, bool wasDialing) => connection.IsHttp1Only
        ? wasDialing && connection.Key.Origin.Http2.Http1Failed(connection.LacksHttp1, agenda.Now) && connection.FailedIn is DialPhase.Tls
        : !pool.IsDraining && MayFallBack(connection.Key) && TryFallBack(connection, connection.Doubt);

    public bool TryFallBack(ConnectionState failed, Http2Doubt doubt)
    {
        var origin = failed.Key.Origin;
        if (!origin.Http2.TryAvoid(doubt, failed.DialStartedAt, agenda.Now, out var isNews))
        {
            return false;
        }

        if (isNews)
        {
            foreach (var sibling in origin.Keys)
            {
                if (!MayFallBack(sibling))
                {
                    continue;
                }

                sibling.SpeaksHttp2 = false;
                sibling.Failures = 0;
                sibling.BackOffUntil = TimeSpan.MinValue;   // the back-off was for dials that failed in the same way
                foreach (var connection in sibling.Connections)
                {
                    if (connection is { IsUsable: true, IsHttp2: true })
                    {
                        lifecycle.Drain(connection);
                    }
                }
            }

            agenda.Add(new SchedulerAction(ActionKind.Http2Avoided, failed.Key, Doubt: doubt));
            foreach (var sibling in origin.Keys)
            {
                settlement.Settle(sibling);
            }
        }

        return true;
    }
}
