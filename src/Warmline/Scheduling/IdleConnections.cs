namespace Warmline.Scheduling;

/// <summary>Idle connections: how long each may stay idle, which one to use next, and when to close them.</summary>
internal sealed class IdleConnections(Agenda agenda, PoolState pool, PermitLedger ledger, Lifecycle lifecycle, PermitTurns permitTurns)
{
    /// <summary>
    /// How long before the end of its lifetime a connection in use gets its successor; a tenth of the lifetime if that is less.
    /// </summary>
    public static readonly TimeSpan MaxReplaceAhead = TimeSpan.FromSeconds(5);

    /// <summary>Lists the connection as idle if no call took it. Called after the key was settled.</summary>
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

    /// <summary>
    /// Returns the least loaded connection. Closes any whose idle time is over first: its timer may be late, and the server is about to
    /// end it.
    /// </summary>
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

    /// <summary>
    /// How long the server lets this connection stay idle, less a margin. This also limits warm connections, which may outlast our own
    /// IdleTimeout.
    /// </summary>
    public TimeSpan AllowedIdle(ConnectionState connection) => connection.Key.AllowedIdle(connection.HintSeconds, pool.Limits, agenda.Now);

    /// <summary>The limit known for a key, as shown in OriginStats.</summary>
    public TimeSpan AllowedIdle(KeyState key) => key.AllowedIdle(key.IdleLimit.LastHint, pool.Limits, agenda.Now);

    public void StartIdleTimer(ConnectionState connection)
    {
        var due = IdleDue(connection);
        if (due < connection.Due)
        {
            agenda.StartTimer(connection, due);   // a later time is checked when the earlier timer is due, so a reuse costs no timer
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

    /// <summary>When an idle connection has to be checked next.</summary>
    TimeSpan IdleDue(ConnectionState connection)
    {
        var idle = agenda.Now - connection.IdleSince;
        var due = pool.Limits.IdleTimeout == Timeout.InfiniteTimeSpan ? TimeSpan.MaxValue

            // A warm connection that outlasts its time is checked again, as it may not stay warm for ever.
            : (HasIdledOut(idle) && connection.Key.Usable <= connection.Key.WarmGoal ? agenda.Now : connection.IdleSince)
                + pool.Limits.IdleTimeout;
        var allowed = AllowedIdle(connection);
        if (allowed < TimeSpan.MaxValue)
        {
            var ahead = allowed - LeadOf(connection.Key, allowed);
            var end = connection.IdleSince + (connection.HasSuccessor || connection.Key.WarmGoal == 0 || idle >= ahead ? allowed : ahead);
            due = end < due ? end : due;
        }

        return due;
    }

    /// <summary>
    /// How long before the end of its idle time a warm connection gets its successor. As long as a dial may take and no longer, as the
    /// successor's own idle time starts with the dial.
    /// </summary>
    public static TimeSpan LeadOf(KeyState key, TimeSpan allowed)
    {
        var dial = key.Origin.UsualHandshake * Hedging.UsualHandshakes;
        dial = dial < allowed / 4 ? dial : allowed / 4;
        var lead = dial > allowed / 10 ? dial : allowed / 10;
        return lead < MaxReplaceAhead ? lead : MaxReplaceAhead;
    }

    /// <summary>How long a connection has been idle; zero if it is in use.</summary>
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
