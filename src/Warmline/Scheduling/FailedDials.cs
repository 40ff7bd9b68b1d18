namespace Warmline.Scheduling;

/// <summary>Dials that fail, and connections that end before they were of use.</summary>
internal sealed class FailedDials(Agenda agenda, PoolState pool, Capacity capacities, Lifecycle lifecycle, Leases leases, Hedging hedging, WarmGoals warmth, Settlement settlement, Fallback fallback)
{
    /// <summary>A connection that dies this young without having served anything counts as a failed dial, or a server that closes at once would be dialled in a loop.</summary>
    public static readonly TimeSpan EarlyDeath = TimeSpan.FromSeconds(1);

    /// <summary>The same for one that nobody rode: below the shortest time that servers let an unused connection wait, which is about 3 s.</summary>
    public static readonly TimeSpan EarlyEndUnused = TimeSpan.FromSeconds(2);

    /// <summary>A server that ends unused connections this soon makes warmth costly: that is told.</summary>
    static readonly TimeSpan ShortLife = TimeSpan.FromSeconds(10);

    public void FailDial(ConnectionState connection, Exception? error, bool isGone)
    {
        var key = connection.Key;
        pool.CountFailedDial(connection, connection is { Phase: ConnectionPhase.AwaitingSettings, EndCause: null } ? DialPhase.Http2Settings : connection.FailedIn);
        key.LastDialError = error;
        var wasDialing = connection.Phase is ConnectionPhase.Dialing;
        if (isGone)
        {
            lifecycle.MoveTo(connection, ConnectionPhase.Closed);
        }
        else
        {
            lifecycle.BeginClose(connection);   // also with the stream that was to start it: that one ends with the connection
        }

        if (fallback.HasOtherWay(connection, wasDialing))
        {
            settlement.Settle(key);
            warmth.RestoreWarmth();
            return;
        }

        if (!connection.IsGivenUp && !connection.HasOtherAddress && key.GotThroughAt <= connection.DialStartedAt)
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
                key.SilentInRow += connection.SilentBefore == key.SilentInRow ? 1 : 0;   // those of one burst count once
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

    /// <summary>Who asked before this dial began has seen its one chance fail. Who came later waits out the back-off: its dial may do better.</summary>
    void FailWaiters(ConnectionState connection, Exception? error)
    {
        foreach (var waiter in connection.Key.Queue.All().Where(waiter => waiter.Sequence <= connection.DialSequence).ToArray())
        {
            leases.Leave(waiter);
            leases.Refuse(waiter, RefusalKind.DialFailed, PoolRejectionReason.Dialing, error);
        }

        hedging.GiveUpAll(connection.Key);   // silent ones, if any: they have become nobody's hope
    }

    void BackOff(ConnectionState connection)
    {
        var key = connection.Key;
        if (connection.DialStartedAt < key.FailedAt)
        {
            return;   // it was under way when another failed: the same outage, and a burst of dials must not double the pause with each of them
        }

        key.FailedAt = agenda.Now;
        var pause = pool.Limits.BackOff * Math.Pow(2, Math.Min(key.Failures++, 20));
        key.BackOffUntil = agenda.Now + (pause < pool.Limits.MaxBackOff ? pause : pool.Limits.MaxBackOff);
    }

    /// <summary>A connection that somebody rides may have answered already: with <c>Connection: close</c> its end is seen before its lease is. The release will tell.</summary>
    public void CheckUnusedDeath(ConnectionState connection)
    {
        if (connection.LastUse == 0)
        {
            CheckEarlyDeath(connection);
        }
    }

    /// <summary>
    /// On HTTP/1.1 a server may end an answer with its connection. It has answered then, and so a new connection is likely to work.
    /// </summary>
    public static bool IsEndOfAnswer(ConnectionState connection, ConnectionEnd end) =>
        end is ConnectionEnd.InOrder && connection is { IsHttp2: false, FirstLease.HasAnswer: true };

    /// <summary>It ended before anybody had any use of it: never ridden, or ridden by a request that provably was not started. Early, that is as good as a failed dial.</summary>
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

        if (lasted >= (isUnused && end is ConnectionEnd.InOrder ? EarlyEndUnused : EarlyDeath))   // what was lost later has another reason
        {
            return;
        }

        key.LastDialError = connection.EndCause;
        if (connection.IsHttp1Only && key.Origin.Http2.Http1Failed(cannotSpeakIt: false, agenda.Now))
        {
            return;   // HTTP/1.1 does no better, and HTTP/2 is offered again
        }

        if (isUnused)
        {
            key.Failures = Math.Max(key.Failures, connection.FailuresBefore);   // nobody had any use of it: the dial's success did not count
            key.ProbationUntil = TimeSpan.MinValue;
            agenda.Add(new SchedulerAction(ActionKind.Distrust, connection));
            pool.CountFailedDial(connection, connection.IsHttp2 ? DialPhase.Http2Settings : key.Key.IsHttps ? DialPhase.Tls : DialPhase.Tcp);
        }

        BackOff(connection);
    }
}
