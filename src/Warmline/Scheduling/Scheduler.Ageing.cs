namespace Warmline.Scheduling;

/// <summary>How connections age: idle limits, lifetimes, and those that are no longer believed in.</summary>
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
        _permits.ListIdle(connection);
        StartIdleTimer(connection);
        TrimIdle();
        PassOn(connection.Key.Origin);
    }

    void TrimIdle()
    {
        while (_permits.Idle > _limits.MaxIdleConnections && _permits.LongestIdle() is { } idle)
        {
            BeginClose(idle);
        }
    }

    void StartIdleTimer(ConnectionState connection)
    {
        var due = IdleDue(connection.IdleSince);
        if (due < connection.Due)
        {
            StartTimer(connection, due);   // a later one is looked at when the earlier is due: a reuse costs no timer
        }
    }

    TimeSpan IdleDue(TimeSpan since) => _limits.IdleTimeout == Timeout.InfiniteTimeSpan ? TimeSpan.MaxValue : since + _limits.IdleTimeout;

    static TimeSpan LifeDue(ConnectionState connection) => connection.ReplaceAt < connection.ExpiresAt ? connection.ReplaceAt : connection.ExpiresAt;

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
            if (connection.Served)
            {
                key.Expiry.LifeEnded();
            }

            Drain(connection);
            Settle(key);
            return;
        }

        var idleOver = connection.IsIdle && _now >= IdleDue(connection.IdleSince);
        if (idleOver && key.Usable > key.WarmGoal)
        {
            key.Expiry.IdledOut(connection.IdleSince);
            BeginClose(connection);
            return;
        }

        if (_now >= connection.ReplaceAt)
        {
            connection.ReplaceAt = TimeSpan.MaxValue;
            if ((key.Streams > 0 || key.WarmGoal > 0) && MayDial(key) && _permits.HasFree(key, _limits) && _limits.MaxIdleConnections > 0)
            {
                key.Expiry.LifeEnded();
                Dial(key, owesFirstUse: false);
            }
        }

        // One that is held warm beyond its time is looked at again: it may not be held for ever.
        StartTimer(connection, LifeDue(connection));
        if (connection.IsIdle && IdleDue(idleOver ? _now : connection.IdleSince) is var due && due < connection.Due)
        {
            StartTimer(connection, due);
        }
    }
}
