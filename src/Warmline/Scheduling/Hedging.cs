namespace Warmline.Scheduling;

/// <summary>
/// Dials that stand still. A peer may take the TCP connection and then say nothing: for the caller that is as good as no connection. So what races is not TCP
/// connections but usable ones: beside a dial that has been silent for too long another is started, at another address if there is one. The first that is usable wins.
/// </summary>
internal sealed class Hedging(Agenda agenda, PoolState pool, PermitLedger ledger, Lifecycle lifecycle)
{
    /// <summary>RFC 8305 section 5 gives a TCP handshake as long; a phase of TLS takes a round trip as well.</summary>
    static readonly TimeSpan LeastPatience = TimeSpan.FromMilliseconds(250);

    /// <summary>
    /// The same for TCP, where a dial tries the host's other addresses by itself; for CONNECT, where the proxy has to dial as well; and for the first dial to an origin,
    /// where no handshake shows yet what is usual: in a process that has just started, compiling the TLS code and reading the root certificates can take longer than 250 ms.
    /// </summary>
    static readonly TimeSpan LongerPatience = TimeSpan.FromMilliseconds(500);

    /// <summary>Silence that is too long, in usual handshakes: a phase takes less than one.</summary>
    public const int UsualHandshakes = 2;

    /// <summary>The same in round trips, where no handshake is known yet.</summary>
    const int RoundTrips = 4;

    /// <summary>Silent for so many times its patience, a dial counts as silent even if others of its key get on; and gives its permit to another if there is none.</summary>
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

    /// <summary>It gets on, and so does whatever its key's other dials wait for.</summary>
    public void Advanced(ConnectionState connection)
    {
        connection.AdvancedAt = connection.Key.DialAdvancedAt = agenda.Now;
        SetSilent(connection, false);
    }

    /// <summary>It is usable: so the next dials have no reason to wait for one another.</summary>
    public void GotThrough(KeyState key)
    {
        key.SilentInRow = 0;
        key.HedgesEnd = false;
        key.GotThroughAt = agenda.Now;
    }

    /// <summary>No dial is under way any more: the next begins anew.</summary>
    public static void EndStruggle(KeyState key)
    {
        if (key.SilentInRow > 0 && key.Dialing + key.AwaitingSettings == 0)
        {
            key.SilentInRow = 0;
            key.HedgesEnd = false;
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

    /// <summary>How long the connection may stand still on its way. Four times as long with each dial in a row that fell silent after the first: more connections do not help an
    /// overloaded server.</summary>
    TimeSpan Patience(ConnectionState connection)
    {
        var handshake = connection.Key.Origin.UsualHandshake;
        var least = connection.Step is DialPhase.Tcp or DialPhase.Proxy || (handshake == TimeSpan.Zero && connection.SilentBefore == 0) ? LongerPatience : LeastPatience;
        var usual = handshake > TimeSpan.Zero ? handshake * UsualHandshakes : connection.TcpTook * RoundTrips;
        return (usual > least ? usual : least) * (connection.Key.HedgesEnd ? 1 : 1 << (2 * Math.Clamp(connection.SilentBefore - 1, 0, 6)));
    }

    /// <summary>When it will have stood still for too long. Others of its key that get on show that its server, or this machine, is only slow.</summary>
    public TimeSpan SilenceDue(ConnectionState connection)
    {
        var patience = Patience(connection);
        var own = connection.AdvancedAt + (patience * UtmostPatience);
        var among = (connection.AdvancedAt > connection.Key.DialAdvancedAt ? connection.AdvancedAt : connection.Key.DialAdvancedAt) + patience;
        return connection.IsSilent || own < among ? own : among;
    }

    public void StartDialTimer(ConnectionState connection)
    {
        var due = SilenceDue(connection);
        due = due > agenda.Now ? due : TimeSpan.MaxValue;   // looked at
        agenda.StartTimer(connection, connection.SettingsDue < due ? connection.SettingsDue : due);
    }

    /// <summary>Ends silent dials whose purpose others have fulfilled: they only keep permits.</summary>
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
            foreach (var connection in key.Connections.Where(static connection => connection is { IsSilent: true, IsGivenUp: false, Streams: 0 }).ToArray())
            {
                GiveUp(connection);
            }
        }
    }

    /// <summary>A silent dial has used up its time to connect. No more are started beside it, and those that stand still as well are no hope any more.</summary>
    public void EndHedges(KeyState key)
    {
        key.HedgesEnd = true;
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

    /// <summary>All that is on its way stands still, and no more is tried.</summary>
    public static bool IsOutOfDials(KeyState key) => key is { HedgesEnd: true, Ready: 0, Coming: 0 };

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
