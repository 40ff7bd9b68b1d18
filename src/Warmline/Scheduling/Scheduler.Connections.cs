using System.Diagnostics;

namespace Warmline.Scheduling;

/// <summary>The life of connections: dialled, opened, drained, closed, and who gets the permit next.</summary>
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
        if (_limits.ConnectionLifetime != Timeout.InfiniteTimeSpan)
        {
            var lifetime = _limits.ConnectionLifetime * (1 - (_random.NextDouble() / 10));
            connection.ExpiresAt = _now + lifetime;
            connection.ReplaceAt = connection.ExpiresAt - (lifetime / 10 < MaxReplaceAhead ? lifetime / 10 : MaxReplaceAhead);
        }

        if (IsDraining)
        {
            BeginClose(connection);
        }
        else if (isHttp2)
        {
            MoveTo(connection, ConnectionPhase.AwaitingSettings);
            StartTimer(connection, connection.DialStartedAt + _limits.ConnectTimeout);
        }
        else
        {
            key.Failures = 0;
            MoveTo(connection, ConnectionPhase.Open);
            StartTimer(connection, NextDue(connection));
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
        Begin(now, actions);
        if (connection.Phase is ConnectionPhase.Dialing or ConnectionPhase.AwaitingSettings)
        {
            FailDial(connection, error);
        }

        End();
    }

    /// <summary>The server's SETTINGS came, first or anew.</summary>
    public void SettingsSeen(ConnectionState connection, int maxConcurrentStreams, TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        var key = connection.Key;
        connection.AdvertisedLimit = maxConcurrentStreams;
        key.AdvertisedLimit = maxConcurrentStreams;
        if (connection.Phase is ConnectionPhase.AwaitingSettings)
        {
            key.Failures = 0;
            MoveTo(connection, ConnectionPhase.Open);
            StartTimer(connection, NextDue(connection));
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
    public void ConnectionClosing(ConnectionState connection, TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        if (connection.Phase is ConnectionPhase.AwaitingSettings)
        {
            FailDial(connection, null);
        }
        else if (connection.Phase is ConnectionPhase.Open)
        {
            NoteEarlyDeath(connection);
            Drain(connection);
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
            FailDial(connection, null);
        }

        // Closed while it was open: not by the peer, whose end is seen as closing first, but for a call that was left. That says nothing about the server.
        MoveTo(connection, ConnectionPhase.Closed);
        PassOnPermits(connection.Key.Origin);   // first: its own key, always short of one, would take back the permit that it gave way with
        Settle(connection.Key);
        End();
    }

    /// <summary>The one place where a phase changes; all sums follow from it.</summary>
    void MoveTo(ConnectionState connection, ConnectionPhase phase)
    {
        Debug.Assert(phase > connection.Phase, $"{connection} cannot become {phase}");
        _permits.Count(connection, -1);
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
            connection.Key.Remove(connection);
            _timers.Remove(connection);
        }
    }

    int StreamLimit(ConnectionState connection) => connection.Phase switch
    {
        ConnectionPhase.AwaitingSettings => connection.Key.AdvertisedLimit == 0 ? 0 : 1,   // a server that said 0 last is not asked to start with a request
        ConnectionPhase.Open => connection.IsHttp2 ? Math.Min(_limits.MaxStreamsPerConnection, connection.AdvertisedLimit) : 1,
        _ => 0,
    };

    void SetStreamLimit(ConnectionState connection)
    {
        _permits.Count(connection, -1);
        connection.Limit = StreamLimit(connection);
        _permits.Count(connection, +1);
        RefreshAvailability(connection);
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

    /// <summary>Opens what is missing: needed because waiters have no place coming, wanted because calls should spread, or to be held warm.</summary>
    void Grow(KeyState key)
    {
        if (key.Queue.Count == 0)
        {
            key.HasReclaimed = false;
        }

        if (IsDraining || IsPaused(key) || key.BackOffUntil > _now)
        {
            PermitLedger.Unwant(key);
            return;
        }

        var grantable = Math.Min(key.Queue.Count, _limits.MaxConcurrentRequests - Leases);
        var need = grantable > 0 && key.Available.First is null ? key.MissingForNeed(_limits, grantable) : 0;
        var demand = Math.Max(need, key.MissingForSpread(_limits));
        var dials = Math.Min(Math.Max(demand, key.WarmGoal - key.Usable - key.Dialing), _limits.MaxDialsInFlight - key.Dialing);
        var begun = 0;
        while (begun < dials && _permits.HasFree(key, _limits))
        {
            Dial(key, owesFirstUse: begun++ < demand);
        }

        need = Math.Min(need, dials) - begun;
        if (need > 0)
        {
            _permits.Want(key, _limits);
            Reclaim(key, need);
        }
        else
        {
            PermitLedger.Unwant(key);
        }
    }

    void Dial(KeyState key, bool owesFirstUse)
    {
        var connection = new ConnectionState(++_connectionIds, key) { DialStartedAt = _now, DialSequence = _sequence, OwesFirstUse = owesFirstUse };
        key.HasReclaimed = false;
        key.Add(connection);
        _permits.Count(connection, +1);
        _actions.Add(new SchedulerAction(ActionKind.Dial, connection));
    }

    /// <summary>No permit is free: others give way. Idle connections at once; when there is none and the key has no connection at all, a busy one drains for it.</summary>
    void Reclaim(KeyState key, int need)
    {
        var origin = PermitLedger.IsBoundByHost(key, _limits) ? key.Origin : null;
        var returning = origin?.Returning ?? _permits.Returning;
        while (returning < need && _permits.LongestIdle(key, origin) is { } idle)
        {
            BeginClose(idle);
            returning++;
        }

        // Each starving key makes one connection drain. The permit may go to another that waits longer, then that one's comes to this key; should none be on its way
        // any more (it went to a key that never had to ask), the key asks again.
        if (!key.IsStarving || (key.HasReclaimed && returning > 0) || returning >= _permits.Starving(origin))
        {
            return;
        }

        if (PermitLedger.LeastMissed(_keys.Values, key, origin) is { } busy)
        {
            key.HasReclaimed = true;
            Reclaim(busy);
        }
    }

    void Reclaim(ConnectionState busy)
    {
        if (busy.Streams == 0)
        {
            BeginClose(busy);
            return;
        }

        busy.IsReclaimed = true;
        MoveTo(busy, ConnectionPhase.Draining);
    }

    /// <summary>A limit was lowered: one connection has to go, an idle one if there is one.</summary>
    bool TakeBack(KeyState? notOf, OriginState? origin)
    {
        var connection = _permits.LongestIdle(notOf, origin) ?? PermitLedger.LeastMissed(_keys.Values, notOf, origin);
        if (connection is null)
        {
            return false;
        }

        Reclaim(connection);
        return true;
    }

    /// <summary>A permit came back: starving keys first, then who waits longest; then what should be held warm.</summary>
    void PassOnPermits(OriginState origin)
    {
        PassOn(origin.Wanting);
        PassOn(_permits.Wanting);
        if (_permits.InUse >= _limits.MaxConnections)
        {
            return;
        }

        foreach (var key in _keys.Values)
        {
            if (key.WarmConnections > key.Usable + key.Dialing)
            {
                Settle(key);
            }
        }
    }

    void PassOn(IndexedHeap<KeyState, KeyState.StarvingFirst> wanting)
    {
        // Grow takes the key out of the heap when its need is met, and makes others give way for it when it is not.
        for (var rounds = wanting.Count; rounds > 0 && wanting.First is { } key; rounds--)
        {
            var inUse = _permits.InUse;
            Grow(key);
            if (_permits.InUse == inUse && wanting.First == key)
            {
                return;
            }
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
        _actions.Add(new SchedulerAction(ActionKind.Close, connection));
    }

    void FailDial(ConnectionState connection, Exception? error)
    {
        var key = connection.Key;
        key.Facts.DialsFailed++;
        Facts.DialsFailed++;
        key.LastDialError = error;
        var wasOpen = connection.Phase is ConnectionPhase.AwaitingSettings;
        if (wasOpen)
        {
            connection.NeverSentSettings = true;
            BeginClose(connection);   // also with the stream that was to start it: that one ends with the connection
        }
        else
        {
            MoveTo(connection, ConnectionPhase.Closed);
        }

        BackOff(key);
        if (key.IsStarving)
        {
            // Who asked before this dial began has seen its one chance fail. Who came later waits out the back-off: its dial may do better.
            foreach (var waiter in key.Queue.All().Where(waiter => waiter.Sequence <= connection.DialSequence).ToArray())
            {
                Leave(waiter);
                Refuse(waiter, RefusalKind.DialFailed, PoolRejectionReason.Dialing, error);
            }
        }

        Settle(key);
        if (!wasOpen)
        {
            PassOnPermits(key.Origin);
        }
    }

    void BackOff(KeyState key)
    {
        var pause = _limits.BackOff * Math.Pow(2, Math.Min(key.Failures++, 20));
        key.BackOffUntil = _now + (pause < _limits.MaxBackOff ? pause : _limits.MaxBackOff);
    }

    void NoteEarlyDeath(ConnectionState connection)
    {
        if (!connection.Served && _now - connection.OpenedAt < EarlyDeath)
        {
            BackOff(connection.Key);
        }
    }

    /// <summary>After the key was settled: a connection that nobody took is idle from now on.</summary>
    void NoteIdle(ConnectionState connection)
    {
        if (!connection.IsIdle || connection.IsListedIdle)
        {
            return;
        }

        connection.IdleSince = _now;
        _permits.ListIdle(connection);
        var due = NextDue(connection);
        if (due < connection.Due)
        {
            StartTimer(connection, due);   // a later one is looked at when the earlier is due: a reuse costs no timer
        }

        TrimIdle();
        PassOn(connection.Key.Origin.Wanting);
        PassOn(_permits.Wanting);
    }

    void TrimIdle()
    {
        while (_permits.Idle > _limits.MaxIdleConnections && _permits.LongestIdle() is { } idle)
        {
            BeginClose(idle);
        }
    }

    TimeSpan NextDue(ConnectionState connection)
    {
        var due = connection.ReplaceAt < connection.ExpiresAt ? connection.ReplaceAt : connection.ExpiresAt;
        if (connection.IsIdle && _limits.IdleTimeout != Timeout.InfiniteTimeSpan)
        {
            var idleDue = connection.IdleSince + _limits.IdleTimeout;
            due = idleDue <= _now ? due : idleDue < due ? idleDue : due;
        }

        return due;
    }

    void ConnectionDue(ConnectionState connection)
    {
        var key = connection.Key;
        if (connection.Phase is ConnectionPhase.AwaitingSettings)
        {
            _actions.Add(new SchedulerAction(ActionKind.SettingsOverdue, connection));
            return;
        }

        if (connection.Phase is not ConnectionPhase.Open)
        {
            return;
        }

        if (_now >= connection.ExpiresAt)
        {
            Drain(connection);
            Settle(key);
            return;
        }

        var idleOver = connection.IsIdle && _limits.IdleTimeout != Timeout.InfiniteTimeSpan && _now >= connection.IdleSince + _limits.IdleTimeout;
        if (idleOver && key.Usable > key.WarmGoal)
        {
            BeginClose(connection);
            return;
        }

        if (_now >= connection.ReplaceAt)
        {
            connection.ReplaceAt = TimeSpan.MaxValue;
            if ((key.Streams > 0 || key.WarmGoal > 0) && !IsPaused(key) && key.BackOffUntil <= _now && _permits.HasFree(key, _limits))
            {
                Dial(key, owesFirstUse: false);
            }
        }

        StartTimer(connection, NextDue(connection));
    }

    void CheckWarmUps(KeyState key)
    {
        if (key.WarmUps.Count == 0)
        {
            return;
        }

        var inProgress = key.Dialing + key.AwaitingSettings > 0;
        for (var i = key.WarmUps.Count - 1; i >= 0; i--)
        {
            var warmUp = key.WarmUps[i];
            if (key.Ready >= warmUp.Target || !inProgress)
            {
                key.WarmUps.RemoveAt(i);
                EndWarmUp(key, warmUp, IsDraining ? PoolRejectionReason.Draining
                    : IsPaused(key) ? PoolRejectionReason.Paused
                    : key.BackOffUntil > _now ? PoolRejectionReason.None   // no limit: a dial failed, maybe without an error of its own
                    : key.Origin.InUse >= _limits.MaxConnectionsPerHost ? PoolRejectionReason.MaxConnectionsPerHost
                    : PoolRejectionReason.MaxConnections);
            }
        }
    }

    void EndWarmUps(KeyState key, PoolRejectionReason reason)
    {
        foreach (var warmUp in key.WarmUps)
        {
            EndWarmUp(key, warmUp, reason);
        }

        key.WarmUps.Clear();
    }

    void EndWarmUp(KeyState key, WarmUp warmUp, PoolRejectionReason reason)
    {
        warmUp.Ready = key.Ready;
        warmUp.Error = reason is PoolRejectionReason.None ? key.LastDialError : null;
        warmUp.Reason = reason;
        _actions.Add(new SchedulerAction(ActionKind.WarmUpEnded, warmUp));
    }
}
