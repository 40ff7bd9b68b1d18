using System.Diagnostics;

namespace Warmline.Scheduling;

/// <summary>The life of connections: opened, drained, closed.</summary>
internal sealed partial class Scheduler
{
    /// <summary>The dial has a connection. The shell has set its slot.</summary>
    public void DialSucceeded(ConnectionState connection, bool isHttp2, TimeSpan handshake, TimeSpan now, List<SchedulerAction> actions)
    {
        if (connection.Phase is not ConnectionPhase.Dialing)
        {
            return;
        }

        Begin(now, actions);
        var key = connection.Key;
        key.SpeaksHttp2 = isHttp2;
        key.Facts.CountDial(handshake);
        Facts.CountDial(handshake);
        connection.IsHttp2 = isHttp2;
        connection.OpenedAt = _now;
        connection.Step = DialPhase.Http2Settings;
        connection.IsGivenUp = false;   // it has come through after all
        NoteHandshake(connection);
        Advanced(connection);
        if (_now >= key.Origin.ResetLimitUntil)
        {
            key.Origin.ResetLimit = int.MaxValue;
        }

        if (_limits.ConnectionLifetime != Timeout.InfiniteTimeSpan)
        {
            var lifetime = _limits.ConnectionLifetime * (1 - (_random.NextDouble() / 10));
            connection.ExpiresAt = _now + lifetime;
            connection.ReplaceAt = connection.ExpiresAt - (lifetime / 10 < MaxReplaceAhead ? lifetime / 10 : MaxReplaceAhead);
        }

        if (IsDraining || IsUnwanted(connection))
        {
            BeginClose(connection);
        }
        else if (isHttp2)
        {
            // A call that rides it before its SETTINGS is tied to it, for better or worse.
            connection.IsPrimed = key.Ready > 0 || key.Failures > 0 || connection.SilentBefore > 0;
            connection.SettingsDue = connection.ConnectStartedAt + _limits.ConnectTimeout;
            MoveTo(connection, ConnectionPhase.AwaitingSettings);
            StartDialTimer(connection);
        }
        else
        {
            GotThrough(key);
            Opened(connection);
        }

        Settle(key);
        if (connection is { Phase: ConnectionPhase.AwaitingSettings, Streams: 0 })
        {
            _actions.Add(new SchedulerAction(ActionKind.Prime, connection));
        }

        NoteIdle(connection);
        End();
    }

    /// <summary>The dial failed, or the server's SETTINGS did not come.</summary>
    public void DialFailed(ConnectionState connection, Exception error, TimeSpan now, List<SchedulerAction> actions)
    {
        if (connection.Phase is not (ConnectionPhase.Dialing or ConnectionPhase.AwaitingSettings))
        {
            return;
        }

        Begin(now, actions);
        FailDial(connection, error, isGone: connection.Phase is ConnectionPhase.Dialing);
        End();
    }

    /// <summary>The server's SETTINGS came, first or anew.</summary>
    public void SettingsSeen(ConnectionState connection, int maxConcurrentStreams, TimeSpan now, List<SchedulerAction> actions)
    {
        if (!connection.IsHttp2 || connection.Phase is ConnectionPhase.Closing or ConnectionPhase.Closed)
        {
            return;
        }

        Begin(now, actions);
        var key = connection.Key;
        connection.AdvertisedLimit = maxConcurrentStreams;
        if (key.AdvertisedLimit != maxConcurrentStreams)
        {
            key.AdvertisedLimit = maxConcurrentStreams;
            foreach (var young in key.Connections)
            {
                SetStreamLimit(young);   // whether one that awaits its SETTINGS may be started with a request depends on it
            }
        }

        if (connection.Phase is ConnectionPhase.AwaitingSettings)
        {
            Advanced(connection);
            GotThrough(key);
            Opened(connection);
            if (key.Ready == 1)
            {
                var quarter = (_now - connection.DialStartedAt) / 4;
                key.SpreadUntil = _now + (quarter < MaxHoldBack ? quarter : MaxHoldBack);
            }
        }
        else
        {
            SetStreamLimit(connection);
        }

        Settle(key);
        NoteIdle(connection);
        End();
    }

    /// <summary>The peer said, or showed, that it will take no more: GOAWAY, FIN, reset.</summary>
    public void ConnectionClosing(ConnectionState connection, ConnectionEnd end, TimeSpan now, List<SchedulerAction> actions)
    {
        if (!connection.IsUsable)
        {
            return;
        }

        Begin(now, actions);
        if (connection.Phase is ConnectionPhase.AwaitingSettings)
        {
            FailDial(connection, connection.EndCause, isGone: false);
        }
        else
        {
            if (!IsEndOfAnswer(connection, end))
            {
                NoteEarlyDeath(connection, end);
            }

            NoteIdleEnd(connection, Rested(connection), end, FlushCause.Loss);
            Drain(connection);
            if (connection.Doubt is Http2Doubt.Refused && MayFallBack(connection.Key))
            {
                FallBack(connection, Http2Doubt.Refused);
            }

            Settle(connection.Key);
        }

        End();
    }

    /// <summary>The transport is gone: the permit is back. Ends no lease; each stream ends by itself.</summary>
    public void ConnectionClosed(ConnectionState connection, TimeSpan now, List<SchedulerAction> actions)
    {
        if (connection.Phase is ConnectionPhase.Closed or ConnectionPhase.Dialing)
        {
            return;
        }

        Begin(now, actions);
        if (connection.Phase is ConnectionPhase.AwaitingSettings)
        {
            FailDial(connection, connection.EndCause, isGone: true);
        }
        else
        {
            if (connection.Phase is ConnectionPhase.Open)
            {
                NoteUnriddenDeath(connection);
                NoteIdleEnd(connection, Rested(connection), ConnectionEnd.Lost, FlushCause.Loss);   // the platform gave it up, unanswered pings above all
            }

            MoveTo(connection, ConnectionPhase.Closed);
            Settle(connection.Key);
            RestoreWarmth();
        }

        End();
    }

    /// <summary>The one place where a phase changes; all sums follow from it.</summary>
    void MoveTo(ConnectionState connection, ConnectionPhase phase)
    {
        Debug.Assert(phase > connection.Phase, $"{connection} cannot become {phase}");
        _permits.Count(connection, -1);
        if (connection.IsUsable && phase > ConnectionPhase.Open)
        {
            for (var lease = connection.FirstLease; lease is not null; lease = lease.Next)
            {
                lease.Lane.Streams--;
            }
        }

        connection.Phase = phase;
        connection.Limit = StreamLimit(connection);
        _permits.Count(connection, +1);
        RefreshAvailability(connection);
        if (!connection.IsIdle)
        {
            _permits.UnlistIdle(connection);
        }

        if (phase is ConnectionPhase.Closed)
        {
            _permits.Moves++;
            connection.Key.Remove(connection);
            _timers.Remove(connection);
        }
    }

    void Opened(ConnectionState connection)
    {
        connection.FailuresBefore = connection.Key.Failures;
        connection.Key.Failures = 0;
        if (connection.FailuresBefore > 0)
        {
            connection.Key.ProbationUntil = _now + EarlyEndUnused;
        }

        if (connection.IsHttp2)
        {
            connection.Key.Origin.Http2.Opened();
        }

        MoveTo(connection, ConnectionPhase.Open);
        StartTimer(connection, LifeDue(connection));
    }

    int StreamLimit(ConnectionState connection) => connection.Phase switch
    {
        // A server that said 0 last, or whose HTTP/2 failed, is not asked to start with a request.
        ConnectionPhase.AwaitingSettings => connection.IsPrimed || connection.Key.AdvertisedLimit == 0 || connection.Key.Origin.Http2.IsDoubted ? 0 : 1,
        ConnectionPhase.Open => connection.IsHttp2 ? Math.Min(_limits.MaxStreamsPerConnection, connection.AdvertisedLimit) : 1,
        _ => 0,
    };

    void SetStreamLimit(ConnectionState connection)
    {
        _permits.Count(connection, -1);
        connection.Limit = StreamLimit(connection);
        _permits.Count(connection, +1);
        RefreshAvailability(connection);
        if (!connection.IsIdle)
        {
            _permits.UnlistIdle(connection);
        }
    }

    void LimitsChanged(ConnectionState connection)
    {
        SetStreamLimit(connection);
        if (connection.IsIdle)
        {
            StartIdleTimer(connection);   // the idle timeout may have become shorter
        }
    }

    static void RefreshAvailability(ConnectionState connection)
    {
        if (connection.CanTakeStream)
        {
            connection.Key.Available.Set(connection);
        }
        else
        {
            connection.Key.Available.Remove(connection);
        }
    }

    /// <summary>Lets a connection end: at once when nothing runs on it.</summary>
    void Drain(ConnectionState connection)
    {
        if (connection.Streams == 0)
        {
            BeginClose(connection);
        }
        else
        {
            MoveTo(connection, ConnectionPhase.Draining);
        }
    }

    void DrainAll(KeyState key)
    {
        foreach (var connection in key.Connections)
        {
            if (connection.IsUsable)
            {
                Drain(connection);
            }
        }
    }

    void BeginClose(ConnectionState connection)
    {
        MoveTo(connection, ConnectionPhase.Closing);
        _timers.Remove(connection);
        _actions.Add(new SchedulerAction(connection.IsLost ? ActionKind.Drop : ActionKind.Close, connection));
    }

    void FailDial(ConnectionState connection, Exception? error, bool isGone)
    {
        var key = connection.Key;
        CountFailedDial(connection, connection is { Phase: ConnectionPhase.AwaitingSettings, EndCause: null } ? DialPhase.Http2Settings : connection.FailedIn);
        key.LastDialError = error;
        var wasDialing = connection.Phase is ConnectionPhase.Dialing;
        if (isGone)
        {
            MoveTo(connection, ConnectionPhase.Closed);
        }
        else
        {
            BeginClose(connection);   // also with the stream that was to start it: that one ends with the connection
        }

        if (HasOtherWay(connection, wasDialing))
        {
            Settle(key);
            RestoreWarmth();
            return;
        }

        if (!connection.IsGivenUp && !connection.HasOtherAddress && key.GotThroughAt <= connection.DialStartedAt)
        {
            BackOff(connection);
            if (connection.IsSilent)
            {
                EndHedges(key);
            }
        }

        if ((key.IsStarving || IsWithoutHope(key)) && !connection.IsGivenUp && !connection.HasOtherAddress)
        {
            FailWaiters(connection, error);
        }

        Settle(key);
        RestoreWarmth();
    }

    /// <summary>Who asked before this dial began has seen its one chance fail. Who came later waits out the back-off: its dial may do better.</summary>
    void FailWaiters(ConnectionState connection, Exception? error)
    {
        foreach (var waiter in connection.Key.Queue.All().Where(waiter => waiter.Sequence <= connection.DialSequence).ToArray())
        {
            Leave(waiter);
            Refuse(waiter, RefusalKind.DialFailed, PoolRejectionReason.Dialing, error);
        }

        GiveUpAll(connection.Key);   // silent ones, if any: they have become nobody's hope
    }

    void BackOff(ConnectionState connection)
    {
        var key = connection.Key;
        if (connection.DialStartedAt < key.FailedAt)
        {
            return;   // it was under way when another failed: the same outage, and a burst of dials must not double the pause with each of them
        }

        key.FailedAt = _now;
        var pause = _limits.BackOff * Math.Pow(2, Math.Min(key.Failures++, 20));
        key.BackOffUntil = _now + (pause < _limits.MaxBackOff ? pause : _limits.MaxBackOff);
    }

    /// <summary>A connection that somebody rides may have answered already: with <c>Connection: close</c> its end is seen before its lease is. The release will tell.</summary>
    void NoteUnriddenDeath(ConnectionState connection)
    {
        if (connection.LastUse == 0)
        {
            NoteEarlyDeath(connection);
        }
    }

    /// <summary>
    /// On HTTP/1.1 a server may end an answer with its connection. It has answered then, and so a new connection is likely to work.
    /// </summary>
    static bool IsEndOfAnswer(ConnectionState connection, ConnectionEnd end) =>
        end is ConnectionEnd.InOrder && connection is { IsHttp2: false, FirstLease.HasAnswer: true };

    /// <summary>It ended before anybody had any use of it: never ridden, or ridden by a request that provably was not started. Early, that is as good as a failed dial.</summary>
    void NoteEarlyDeath(ConnectionState connection, ConnectionEnd end = ConnectionEnd.Lost)
    {
        var lasted = _now - connection.OpenedAt;
        if (connection.Served || lasted >= ShortLife || IsUnwanted(connection))
        {
            return;
        }

        var key = connection.Key;
        var isUnused = connection.LastUse == 0;
        if (isUnused && key.WarmGoal > 0 && !key.HasToldEarlyEnds)
        {
            key.HasToldEarlyEnds = true;
            _actions.Add(new SchedulerAction(ActionKind.WarmthIsCostly, key, At: lasted, Active: key.WarmGoal));
        }

        if (lasted >= (isUnused && end is ConnectionEnd.InOrder ? EarlyEndUnused : EarlyDeath))   // what was lost later has another reason
        {
            return;
        }

        key.LastDialError = connection.EndCause;
        if (connection.IsHttp1Only && key.Origin.Http2.Http1Failed(cannotSpeakIt: false, _now))
        {
            return;   // HTTP/1.1 does no better, and HTTP/2 is offered again
        }

        if (isUnused)
        {
            key.Failures = Math.Max(key.Failures, connection.FailuresBefore);   // nobody had any use of it: the dial's success did not count
            key.ProbationUntil = TimeSpan.MinValue;
            _actions.Add(new SchedulerAction(ActionKind.Distrust, connection));
            CountFailedDial(connection, connection.IsHttp2 ? DialPhase.Http2Settings : key.Key.IsHttps ? DialPhase.Tls : DialPhase.Tcp);
        }

        BackOff(connection);
    }

    void NoteHandshake(ConnectionState connection)
    {
        var took = _now - connection.ConnectStartedAt;
        var origin = connection.Key.Origin;
        origin.UsualHandshake = origin.UsualHandshake == TimeSpan.Zero ? took : ((origin.UsualHandshake * 3) + took) / 4;
    }
}
