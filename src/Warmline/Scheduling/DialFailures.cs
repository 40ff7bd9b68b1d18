namespace Warmline.Scheduling;

/// <summary>Failed dials, and connections that end before they were of use: back-off, and refusing the waiters.</summary>
internal sealed class DialFailures(
    Agenda agenda, PoolState pool, Capacity capacities, Lifecycle lifecycle, Leasing leases, Hedging hedging, WarmGoals warmth,
    Settlement settlement, Fallback fallback)
{
    /// <summary>
    /// A connection that ends within this time without having served anything counts as a failed dial. Otherwise a server that closes at
    /// once would be dialled in a loop.
    /// </summary>
    public static readonly TimeSpan EarlyDeath = TimeSpan.FromSeconds(1);

    /// <summary>
    /// The same for a connection that carried no call. Shorter than any server lets an unused connection wait, which is about 3 s.
    /// </summary>
    public static readonly TimeSpan EarlyEndUnused = TimeSpan.FromSeconds(2);

    /// <summary>If a server ends unused connections within this time, keeping them warm is costly. Then a warning is logged.</summary>
    static readonly TimeSpan ShortLife = TimeSpan.FromSeconds(10);

    public void FailDial(ConnectionState connection, Exception? error, bool isGone)
    {
        var key = connection.Key;
        var lacksSettings = connection is { Phase: ConnectionPhase.AwaitingSettings, EndCause: null };
        pool.CountFailedDial(connection, lacksSettings ? DialPhase.Http2Settings : connection.FailedIn);
        key.LastDialError = error;
        var wasDialing = connection.Phase is ConnectionPhase.Dialing;
        if (isGone)
        {
            lifecycle.MoveTo(connection, ConnectionPhase.Closed);
        }
        else
        {
            lifecycle.BeginClose(connection);   // even if a stream was to start it: that stream ends with the connection
        }

        if (fallback.TryOtherWay(connection, wasDialing))
        {
            settlement.Settle(key);
            warmth.RestoreWarmth();
            return;
        }

        if (!connection.IsGivenUp && !connection.HasOtherAddress && key.Hedge.GotThroughAt <= connection.DialStartedAt)
        {
            BackOff(connection);
            if (connection.IsSilent)
            {
                hedging.EndHedges(key);
            }
        }

        if ((key.IsStarving || Hedging.IsOutOfDials(key)) && !connection.IsGivenUp && !connection.HasOtherAddress)
        {
            FailWaiters(connection, error);
        }

        settlement.Settle(key);
        warmth.RestoreWarmth();
    }

    public void CheckDial(ConnectionState connection)
    {
        var key = connection.Key;
        if (connection.IsGivenUp)
        {
            return;
        }

        if (agenda.Now >= connection.SettingsDue)
        {
            connection.SettingsDue = TimeSpan.MaxValue;   // once
            agenda.Add(new SchedulerAction(ActionKind.SettingsOverdue, connection));
            return;
        }

        if (agenda.Now >= hedging.SilenceDue(connection))
        {
            if (!connection.IsSilent)
            {
                key.Hedge.SilentInRow += connection.SilentBefore == key.Hedge.SilentInRow ? 1 : 0;   // the dials of one burst count once
                hedging.SetSilent(connection, true);
                agenda.Add(new SchedulerAction(ActionKind.Distrust, connection));
                if (Hedging.IsOutOfDials(key))
                {
                    FailWaiters(connection, key.LastDialError);
                }
            }
            else if (connection.Streams == 0 && key.Queue.Count > 0 && key.Coming == 0 && !capacities.HasFree(key))
            {
                hedging.GiveUp(connection);
            }
        }

        if (!connection.IsGivenUp)
        {
            hedging.StartDialTimer(connection);
        }

        settlement.Settle(key);
        warmth.RestoreWarmth();
    }

    /// <summary>
    /// Refuses the waiters that arrived before this dial began: it was their only chance. Later waiters wait out the back-off, as their
    /// dial may do better.
    /// </summary>
    void FailWaiters(ConnectionState connection, Exception? error)
    {
        foreach (var waiter in connection.Key.Queue.All().Where(waiter => waiter.Sequence <= connection.DialSequence).ToArray())
        {
            leases.Leave(waiter);
            leases.Refuse(waiter, RefusalKind.DialFailed, PoolRejectionReason.Dialing, error);
        }

        hedging.GiveUpAll(connection.Key);   // no waiter counts on the silent dials any more
    }

    void BackOff(ConnectionState connection)
    {
        var key = connection.Key;
        if (connection.DialStartedAt < key.FailedAt)
        {
            // It was under way when another dial failed: the same outage. A burst of dials must not double the back-off with each of
            // them.
            return;
        }

        key.FailedAt = agenda.Now;
        var pause = pool.Limits.BackOff * Math.Pow(2, Math.Min(key.Failures++, 20));
        key.BackOffUntil = agenda.Now + (pause < pool.Limits.MaxBackOff ? pause : pool.Limits.MaxBackOff);
    }

    /// <summary>
    /// A connection that carries a call may have answered already: with <c>Connection: close</c> its end is seen before the lease ends.
    /// In that case the release decides.
    /// </summary>
    public void CheckUnusedDeath(ConnectionState connection)
    {
        if (connection.LastUse == 0)
        {
            CheckEarlyDeath(connection);
        }
    }

    /// <summary>
    /// On HTTP/1.1 a server may end an answer by closing the connection. The server has answered, so a new connection is likely to work.
    /// </summary>
    public static bool IsEndOfAnswer(ConnectionState connection, ConnectionEnd end) =>
        end is ConnectionEnd.InOrder && connection is { IsHttp2: false, FirstLease.HasAnswer: true };

    /// <summary>
    /// Treats a connection as a failed dial if it ended early and was of no use: it carried no call, or one that the server provably did
    /// not start.
    /// </summary>
    public void CheckEarlyDeath(ConnectionState connection, ConnectionEnd end = ConnectionEnd.Lost)
    {
        var lasted = agenda.Now - connection.OpenedAt;
        if (connection.Served || lasted >= ShortLife || fallback.IsUnwanted(connection))
        {
            return;
        }

        var key = connection.Key;
        var isUnused = connection.LastUse == 0;
        if (isUnused && key.WarmGoal > 0 && !key.HasWarnedOfEarlyEnds)
        {
            key.HasWarnedOfEarlyEnds = true;
            agenda.Add(new SchedulerAction(ActionKind.WarmthIsCostly, key, At: lasted, Active: key.WarmGoal));
        }

        if (lasted >= (isUnused && end is ConnectionEnd.InOrder ? EarlyEndUnused : EarlyDeath))
        {
            return;   // a connection that is lost later has another reason
        }

        key.LastDialError = connection.EndCause;
        if (connection.IsHttp1Only && key.Origin.Http2.Http1Failed(cannotSpeakIt: false, agenda.Now))
        {
            return;   // HTTP/1.1 works no better, so HTTP/2 is offered again
        }

        if (isUnused)
        {
            // The connection was of no use, so the dial's success did not count.
            key.Failures = Math.Max(key.Failures, connection.FailuresBefore);
            key.ProbationUntil = TimeSpan.MinValue;
            agenda.Add(new SchedulerAction(ActionKind.Distrust, connection));
            var phase = connection.IsHttp2 ? DialPhase.Http2Settings : key.Key.IsHttps ? DialPhase.Tls : DialPhase.Tcp;
            pool.CountFailedDial(connection, phase);
        }

        BackOff(connection);
    }
}
