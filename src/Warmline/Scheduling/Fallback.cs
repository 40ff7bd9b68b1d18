using Warmline.Options;

namespace Warmline.Scheduling;

/// <summary>Origins whose HTTP/2 is avoided: calls that may use HTTP/1.1 do (<see cref="Http2Trust"/>).</summary>
internal sealed class Fallback(Agenda agenda, PoolState pool, Lifecycle lifecycle, Settlement settlement)
{
    /// <summary>Whether calls of the key use HTTP/1.1 although it may offer HTTP/2.</summary>
    public static bool AvoidsHttp2(KeyState key, TimeSpan now) => MayFallBack(key) && key.Origin.Http2.IsAvoided(now);

    /// <summary>How long the key's calls still use HTTP/1.1; null where they do not for this reason.</summary>
    public static TimeSpan? Http2AvoidedFor(KeyState key, TimeSpan now) =>
        AvoidsHttp2(key, now) ? key.Origin.Http2.AvoidedUntil - now : null;

    public static bool MayFallBack(KeyState key) => key.Key is { Protocols: HttpProtocols.Any, IsHttps: true };

    /// <summary>An HTTP/2 connection that nobody needs: opened while its origin fell back.</summary>
    public bool IsUnwanted(ConnectionState connection) => connection.IsHttp2 && AvoidsHttp2(connection.Key, agenda.Now);

    /// <summary>Whether the failure of this connection is answered by HTTP/1.1, or by HTTP/2 after all. Then nobody fails with it, and no pause follows.</summary>
    public bool HasOtherWay(ConnectionState connection, bool wasDialing) => connection.IsHttp1Only
        ? wasDialing && connection.Key.Origin.Http2.Http1Failed(connection.LacksHttp1, agenda.Now) && connection.FailedIn is DialPhase.Tls
        : !pool.IsDraining && MayFallBack(connection.Key) && FallBack(connection, connection.Doubt);

    public bool FallBack(ConnectionState failed, Http2Doubt doubt)
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
                sibling.BackOffUntil = TimeSpan.MinValue;   // the pause was for dials that failed in the same way
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
