namespace Warmline.Scheduling;

/// <summary>Acts when a connection reaches a time limit: ends it, or dials a successor for a connection that is kept warm.</summary>
internal sealed class Ageing(
    Agenda agenda, IdleConnections idling, Lifecycle lifecycle, Growth growth, Dials dials, Settlement settlement,
    DialFailures failures)
{
    public void ConnectionDue(ConnectionState connection)
    {
        var key = connection.Key;
        if (connection.Phase is ConnectionPhase.AwaitingSettings or ConnectionPhase.Dialing)
        {
            failures.CheckDial(connection);
            return;
        }

        if (connection.Phase is not ConnectionPhase.Open)
        {
            return;
        }

        if (agenda.Now >= connection.ExpiresAt)
        {
            if (connection.Served)
            {
                key.Expiry.LifeEnded();
            }

            lifecycle.Drain(connection);
            settlement.Settle(key);
            return;
        }

        if (connection.IsListedIdle && idling.IsOverIdle(connection))
        {
            if (agenda.Now - connection.IdleSince < idling.AllowedIdle(connection))
            {
                key.Expiry.IdledOut(connection.IdleSince);   // our own IdleTimeout ends it, not the server
            }

            lifecycle.BeginClose(connection);
            settlement.Settle(key);   // a warm connection is dialled again
            return;
        }

        if (agenda.Now >= connection.ReplaceAt)
        {
            connection.ReplaceAt = TimeSpan.MaxValue;
            if ((key.Streams > 0 || key.WarmGoal > 0) && growth.MayDialAhead(key))
            {
                key.Expiry.LifeEnded();
                dials.Dial(key, forWaiter: false);
            }
        }

        if (connection.IsListedIdle)
        {
            DialSuccessor(connection);
        }

        agenda.StartTimer(connection, connection.LifeDue);
        if (connection.IsListedIdle)
        {
            idling.StartIdleTimer(connection);
        }
    }

    /// <summary>
    /// Dials the successor of a warm connection before the server's idle limit ends it. The successor opens first if there is a permit
    /// for both.
    /// </summary>
    void DialSuccessor(ConnectionState connection)
    {
        var key = connection.Key;
        var allowed = idling.AllowedIdle(connection);
        if (connection.HasSuccessor || allowed == TimeSpan.MaxValue
            || agenda.Now - connection.IdleSince < allowed - IdleConnections.LeadOf(key, allowed))
        {
            return;
        }

        connection.HasSuccessor = true;
        var staying = 0;
        foreach (var other in key.Connections)
        {
            staying += other is { IsUsable: true, HasSuccessor: false } ? 1 : 0;
        }

        if (staying + key.Dialing < key.WarmGoal && growth.MayDialAhead(key))
        {
            dials.Dial(key, forWaiter: false);
        }
    }
}
