namespace Warmline.Scheduling;

/// <summary>
/// Handles dials that stall. A peer may accept the TCP connection and then stay silent, which helps the caller no more than no
/// connection. So the race is for a usable connection, not for a TCP connection: when a dial has been silent for too long another one
/// starts beside it, at another address if there is one. The first usable connection wins.
/// </summary>
internal sealed class Hedging(Agenda agenda, PoolState pool, PermitLedger ledger, Lifecycle lifecycle)
{
    /// <summary>RFC 8305 section 5 allows a TCP handshake this time; a phase of TLS takes a round trip as well.</summary>
    static readonly TimeSpan LeastPatience = TimeSpan.FromMilliseconds(250);

    /// <summary>
    /// The longer minimum. It applies to TCP, where a dial tries the host's other addresses by itself, and to CONNECT, where the proxy
    /// has to dial as well. It also applies to the first dial to an origin, as the usual handshake time is not known yet: in a new
    /// process, compiling the TLS code and reading the root certificates can take longer than 250 ms.
    /// </summary>
    static readonly TimeSpan LongerPatience = TimeSpan.FromMilliseconds(500);

    /// <summary>How many usual handshakes of silence are too long. A phase takes less than one.</summary>
    public const int UsualHandshakes = 2;

    /// <summary>The same in round trips, while no handshake time is known.</summary>
    const int RoundTrips = 4;

    /// <summary>
    /// After this multiple of its patience a dial counts as silent even if other dials of its key advance. If no permit is free it gives
    /// up its own.
    /// </summary>
    const int UtmostPatience = 4;

    /// <summary>A dial has come to its next phase.</summary>
    public void DialAdvanced(ConnectionState connection, DialPhase step)
    {
        if (connection.Step is DialPhase.Dns)
        {
            connection.ConnectStartedAt = agenda.Now;
        }
        else if (connection.Step is DialPhase.Tcp)
        {
            connection.TcpTook = agenda.Now - connection.ConnectStartedAt;
        }

        connection.Step = step;
        Advanced(connection);
        agenda.StartTimer(connection, SilenceDue(connection));
    }

    /// <summary>The dial advances, and so does the server that its key's other dials wait for.</summary>
    public void Advanced(ConnectionState connection)
    {
        connection.AdvancedAt = connection.Key.Hedge.AdvancedAt = agenda.Now;
        SetSilent(connection, false);
    }

    /// <summary>A connection is usable, so the next dials need not wait for one another.</summary>
    public void GotThrough(KeyState key)
    {
        key.Hedge.SilentInRow = 0;
        key.Hedge.IsOver = false;
        key.Hedge.GotThroughAt = agenda.Now;
    }

    /// <summary>Resets the hedging state when no dial is under way.</summary>
    public static void EndStruggle(KeyState key)
    {
        if (key.Hedge.SilentInRow > 0 && key.Dialing + key.AwaitingSettings == 0)
        {
            key.Hedge.SilentInRow = 0;
            key.Hedge.IsOver = false;
        }
    }

    public void SetSilent(ConnectionState connection, bool silent)
    {
        if (connection.IsSilent == silent)
        {
            return;
        }

        ledger.Count(connection, -1);
        connection.IsSilent = silent;
        ledger.Count(connection, +1);
    }

    /// <summary>
    /// How long a dial may stall. Four times as long for each further dial in a row that fell silent, as more connections do not help an
    /// overloaded server.
    /// </summary>
    TimeSpan Patience(ConnectionState connection)
    {
        var handshake = connection.Key.Origin.UsualHandshake;
        var isFirst = handshake == TimeSpan.Zero && connection.SilentBefore == 0;
        var least = connection.Step is DialPhase.Tcp or DialPhase.Proxy || isFirst ? LongerPatience : LeastPatience;
        var usual = handshake > TimeSpan.Zero ? handshake * UsualHandshakes : connection.TcpTook * RoundTrips;
        var factor = connection.Key.Hedge.IsOver ? 1 : 1 << (2 * Math.Clamp(connection.SilentBefore - 1, 0, 6));
        return (usual > least ? usual : least) * factor;
    }

    /// <summary>
    /// When the dial will have stalled for too long. Other dials of its key that advance show that the server, or this machine, is only
    /// slow.
    /// </summary>
    public TimeSpan SilenceDue(ConnectionState connection)
    {
        var patience = Patience(connection);
        var own = connection.AdvancedAt + (patience * UtmostPatience);
        var keyAdvancedAt = connection.Key.Hedge.AdvancedAt;
        var among = (connection.AdvancedAt > keyAdvancedAt ? connection.AdvancedAt : keyAdvancedAt) + patience;
        return connection.IsSilent || own < among ? own : among;
    }

    public void StartDialTimer(ConnectionState connection)
    {
        var due = SilenceDue(connection);
        due = due > agenda.Now ? due : TimeSpan.MaxValue;   // already handled
        agenda.StartTimer(connection, connection.SettingsDue < due ? connection.SettingsDue : due);
    }

    /// <summary>Ends silent dials that are no longer needed: they only keep permits.</summary>
    public void GiveUpSilent(KeyState key)
    {
        if (key.SilentDials + key.SilentSettings == 0 || key.Queue.Count > 0 || key.Ready == 0 || key.Ready < key.WarmGoal)
        {
            return;
        }

        GiveUpAll(key);
    }

    public void GiveUpAll(KeyState key)
    {
        if (key.SilentDials + key.SilentSettings > 0)
        {
            foreach (var connection in key.Connections
                .Where(static connection => connection is { IsSilent: true, IsGivenUp: false, Streams: 0 }).ToArray())
            {
                GiveUp(connection);
            }
        }
    }

    /// <summary>
    /// A silent dial has used up its connect timeout. No further dials start beside it, and other stalled dials no longer count.
    /// </summary>
    public void EndHedges(KeyState key)
    {
        key.Hedge.IsOver = true;
        foreach (var other in key.Connections)
        {
            if (other is { Phase: ConnectionPhase.Dialing or ConnectionPhase.AwaitingSettings, IsSilent: false })
            {
                if (agenda.Now >= SilenceDue(other))
                {
                    SetSilent(other, true);
                    agenda.Add(new SchedulerAction(ActionKind.Distrust, other));
                }

                StartDialTimer(other);
            }
        }
    }

    /// <summary>Every dial of the key has stalled, and no further one starts.</summary>
    public static bool IsOutOfDials(KeyState key) => key is { Hedge.IsOver: true, Ready: 0, Coming: 0 };

    public void GiveUp(ConnectionState connection)
    {
        connection.IsGivenUp = true;
        if (connection.Phase is ConnectionPhase.Dialing)
        {
            agenda.Add(new SchedulerAction(ActionKind.GiveUpDial, connection));   // DialFailed follows
        }
        else if (connection.Phase is ConnectionPhase.AwaitingSettings)
        {
            connection.IsLost = true;
            pool.CountFailedDial(connection, DialPhase.Http2Settings);
            lifecycle.Drain(connection);
        }
    }
}
