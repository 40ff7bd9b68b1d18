namespace Warmline.Scheduling;

/// <summary>How connections age: idle limits, lifetimes, and successors for what is to be held ready.</summary>
internal sealed partial class Scheduler
{
    /// <summary>After the key was settled: a connection that nobody took is idle from now on.</summary>
    void NoteIdle(ConnectionState connection)
    {
        if (!connection.IsIdle || connection.IsListedIdle)
        {
            return;
        }

        connection.IdleSince = _now;
        connection.HasSuccessor = false;
        if (connection.HintSeconds >= 0)
        {
            connection.Key.IdleLimit.LastHint = connection.HintSeconds;
        }

        _permits.ListIdle(connection);
        StartIdleTimer(connection);
        TrimIdle();
        PassOn(connection.Key);
    }

    void TrimIdle()
    {
        while (_permits.Idle > _limits.MaxIdleConnections && _permits.LongestIdle() is { } idle)
        {
            BeginClose(idle);
        }
    }

    /// <summary>The least loaded connection. One whose idle time is over goes instead, and the next is looked at: its timer may be late, and the server is about to end it.</summary>
    ConnectionState? FirstFit(KeyState key)
    {
        while (key.Available.First is { } connection)
        {
            if (!connection.IsListedIdle || !IsOverIdle(connection))
            {
                return connection;
            }

            BeginClose(connection);
        }

        return null;
    }

    bool IsOverIdle(ConnectionState connection)
    {
        var idle = _now - connection.IdleSince;
        return idle >= AllowedIdle(connection) || (HasIdledOut(idle) && connection.Key.Usable > connection.Key.WarmGoal);
    }

    bool HasIdledOut(TimeSpan idle) => _limits.IdleTimeout != Timeout.InfiniteTimeSpan && idle >= _limits.IdleTimeout;

    /// <summary>How long the server lets this connection be idle, margin taken off. That binds also what is held warm, which outlasts our own IdleTimeout.</summary>
    public TimeSpan AllowedIdle(ConnectionState connection) => connection.Key.AllowedIdle(connection.HintSeconds, _limits, _now);

    /// <summary>The limit known for a key: what OriginStats tells.</summary>
    public TimeSpan AllowedIdle(KeyState key) => key.AllowedIdle(key.IdleLimit.LastHint, _limits, _now);

    void StartIdleTimer(ConnectionState connection)
    {
        var due = IdleDue(connection);
        if (due < connection.Due)
        {
            StartTimer(connection, due);   // a later one is looked at when the earlier is due: a reuse costs no timer
        }
    }

    void RestartIdleTimers(KeyState key)
    {
        foreach (var connection in key.Connections)
        {
            if (connection.IsListedIdle)
            {
                StartIdleTimer(connection);
            }
        }
    }

    /// <summary>When an idle connection is to be looked at next.</summary>
    TimeSpan IdleDue(ConnectionState connection)
    {
        var idle = _now - connection.IdleSince;
        var due = _limits.IdleTimeout == Timeout.InfiniteTimeSpan ? TimeSpan.MaxValue

            // One that is held warm beyond its time is looked at again: it may not be held for ever.
            : (HasIdledOut(idle) && connection.Key.Usable <= connection.Key.WarmGoal ? _now : connection.IdleSince) + _limits.IdleTimeout;
        var allowed = AllowedIdle(connection);
        if (allowed < TimeSpan.MaxValue)
        {
            var ahead = allowed - LeadOf(connection.Key, allowed);
            var end = connection.IdleSince + (connection.HasSuccessor || connection.Key.WarmGoal == 0 || idle >= ahead ? allowed : ahead);
            due = end < due ? end : due;
        }

        return due;
    }

    static TimeSpan LifeDue(ConnectionState connection) => connection.ReplaceAt < connection.ExpiresAt ? connection.ReplaceAt : connection.ExpiresAt;

    /// <summary>How long before the end of its idle time a connection that is held warm gets its successor: as long as a dial may take, and no longer than needed, as each
    /// successor's own time begins with it.</summary>
    static TimeSpan LeadOf(KeyState key, TimeSpan allowed)
    {
        var dial = key.Origin.UsualHandshake * UsualHandshakes < allowed / 4 ? key.Origin.UsualHandshake * UsualHandshakes : allowed / 4;
        var lead = dial > allowed / 10 ? dial : allowed / 10;
        return lead < MaxReplaceAhead ? lead : MaxReplaceAhead;
    }

    void ConnectionDue(ConnectionState connection)
    {
        var key = connection.Key;
        if (connection.Phase is ConnectionPhase.AwaitingSettings or ConnectionPhase.Dialing)
        {
            LookAtDial(connection);
            return;
        }

        if (connection.Phase is not ConnectionPhase.Open)
        {
            return;
        }

        if (_now >= connection.ExpiresAt)
        {
            if (connection.Served)
            {
                key.Expiry.LifeEnded();
            }

            Drain(connection);
            Settle(key);
            return;
        }

        if (connection.IsListedIdle && IsOverIdle(connection))
        {
            if (_now - connection.IdleSince < AllowedIdle(connection))
            {
                key.Expiry.IdledOut(connection.IdleSince);   // our own option ends it
            }

            BeginClose(connection);
            Settle(key);   // what is held warm comes back
            return;
        }

        if (_now >= connection.ReplaceAt)
        {
            connection.ReplaceAt = TimeSpan.MaxValue;
            if ((key.Streams > 0 || key.WarmGoal > 0) && MayDialAhead(key))
            {
                key.Expiry.LifeEnded();
                Dial(key, owesFirstUse: false);
            }
        }

        if (connection.IsListedIdle)
        {
            Succeed(connection);
        }

        StartTimer(connection, LifeDue(connection));
        if (connection.IsListedIdle)
        {
            StartIdleTimer(connection);
        }
    }

    /// <summary>What is held warm gets its successor before the server's idle limit ends it: the successor is open first, where there is a permit for both.</summary>
    void Succeed(ConnectionState connection)
    {
        var key = connection.Key;
        var allowed = AllowedIdle(connection);
        if (connection.HasSuccessor || allowed == TimeSpan.MaxValue || _now - connection.IdleSince < allowed - LeadOf(key, allowed))
        {
            return;
        }

        connection.HasSuccessor = true;
        var staying = 0;
        foreach (var other in key.Connections)
        {
            staying += other is { IsUsable: true, HasSuccessor: false } ? 1 : 0;
        }

        if (staying + key.Dialing < key.WarmGoal && MayDialAhead(key))
        {
            Dial(key, owesFirstUse: false);
        }
    }

    bool MayDialAhead(KeyState key) => MayDial(key) && HasFree(key) && _limits.MaxIdleConnections > 0;
}
