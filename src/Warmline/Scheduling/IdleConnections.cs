namespace Warmline.Scheduling;

/// <summary>Idle connections: how long they may be idle, which is taken, and when they close.</summary>
internal sealed class IdleConnections(Agenda agenda, PoolState pool, PermitLedger ledger, Lifecycle lifecycle, PermitTurns permitTurns)
{
    /// <summary>How long before the end of its lifetime a connection in use gets its successor, or a tenth of the lifetime if that is less.</summary>
    public static readonly TimeSpan MaxReplaceAhead = TimeSpan.FromSeconds(5);

    /// <summary>After the key was settled: a connection that nobody took is idle from now on.</summary>
    public void ListIfIdle(ConnectionState connection)
    {
        if (!connection.IsIdle || connection.IsListedIdle)
        {
            return;
        }

        connection.IdleSince = agenda.Now;
        connection.HasSuccessor = false;
        if (connection.HintSeconds >= 0)
        {
            connection.Key.IdleLimit.LastHint = connection.HintSeconds;
        }

        ledger.ListIdle(connection);
        StartIdleTimer(connection);
        TrimIdle();
        permitTurns.PassOn(connection.Key);
    }

    public void TrimIdle()
    {
        while (ledger.Idle > pool.Limits.MaxIdleConnections && ledger.LongestIdle() is { } idle)
        {
            lifecycle.BeginClose(idle);
        }
    }

    /// <summary>The least loaded connection. One whose idle time is over goes instead, and the next is looked at: its timer may be late, and the server is about to end it.</summary>
    public ConnectionState? FindUsable(KeyState key)
    {
        while (key.Available.First is { } connection)
        {
            if (!connection.IsListedIdle || !IsOverIdle(connection))
            {
                return connection;
            }

            lifecycle.BeginClose(connection);
        }

        return null;
    }

    public bool IsOverIdle(ConnectionState connection)
    {
        var idle = agenda.Now - connection.IdleSince;
        return idle >= AllowedIdle(connection) || (HasIdledOut(idle) && connection.Key.Usable > connection.Key.WarmGoal);
    }

    bool HasIdledOut(TimeSpan idle) => pool.Limits.IdleTimeout != Timeout.InfiniteTimeSpan && idle >= pool.Limits.IdleTimeout;

    /// <summary>How long the server lets this connection be idle, margin taken off. That binds also what is held warm, which outlasts our own IdleTimeout.</summary>
    public TimeSpan AllowedIdle(ConnectionState connection) => connection.Key.AllowedIdle(connection.HintSeconds, pool.Limits, agenda.Now);

    /// <summary>The limit known for a key: what OriginStats tells.</summary>
    public TimeSpan AllowedIdle(KeyState key) => key.AllowedIdle(key.IdleLimit.LastHint, pool.Limits, agenda.Now);

    public void StartIdleTimer(ConnectionState connection)
    {
        var due = IdleDue(connection);
        if (due < connection.Due)
        {
            agenda.StartTimer(connection, due);   // a later one is looked at when the earlier is due: a reuse costs no timer
        }
    }

    public void RestartIdleTimers(KeyState key)
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
        var idle = agenda.Now - connection.IdleSince;
        var due = pool.Limits.IdleTimeout == Timeout.InfiniteTimeSpan ? TimeSpan.MaxValue

            // One that is held warm beyond its time is looked at again: it may not be held for ever.
            : (HasIdledOut(idle) && connection.Key.Usable <= connection.Key.WarmGoal ? agenda.Now : connection.IdleSince) + pool.Limits.IdleTimeout;
        var allowed = AllowedIdle(connection);
        if (allowed < TimeSpan.MaxValue)
        {
            var ahead = allowed - LeadOf(connection.Key, allowed);
            var end = connection.IdleSince + (connection.HasSuccessor || connection.Key.WarmGoal == 0 || idle >= ahead ? allowed : ahead);
            due = end < due ? end : due;
        }

        return due;
    }

    /// <summary>How long before the end of its idle time a connection that is held warm gets its successor: as long as a dial may take, and no longer than needed, as each
    /// successor's own time begins with it.</summary>
    public static TimeSpan LeadOf(KeyState key, TimeSpan allowed)
    {
        var dial = key.Origin.UsualHandshake * Hedging.UsualHandshakes < allowed / 4 ? key.Origin.UsualHandshake * Hedging.UsualHandshakes : allowed / 4;
        var lead = dial > allowed / 10 ? dial : allowed / 10;
        return lead < MaxReplaceAhead ? lead : MaxReplaceAhead;
    }

    /// <summary>How long a connection has been idle by now; zero when it is not.</summary>
    public TimeSpan IdleTime(ConnectionState connection) => connection.IsListedIdle ? agenda.Now - connection.IdleSince : TimeSpan.Zero;

    public void LimitsChanged(ConnectionState connection)
    {
        lifecycle.SetStreamLimit(connection);
        if (connection.IsIdle)
        {
            StartIdleTimer(connection);   // the idle timeout may have become shorter
        }
    }
}
