namespace Warmline.Scheduling;

/// <summary>How connections age: idle limits, lifetimes, and successors for what is to be held ready.</summary>
internal sealed class Ageing(Agenda agenda, IdleConnections idling, Lifecycle lifecycle, Growth growth, Dials dials, Settlement settlement, FailedDials failures)
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
                key.Expiry.IdledOut(connection.IdleSince);   // our own option ends it
            }

            lifecycle.BeginClose(connection);
            settlement.Settle(key);   // what is held warm comes back
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

    /// <summary>What is held warm gets its successor before the server's idle limit ends it: the successor is open first, where there is a permit for both.</summary>
    void DialSuccessor(ConnectionState connection)
    {
        var key = connection.Key;
        var allowed = idling.AllowedIdle(connection);
        if (connection.HasSuccessor || allowed == TimeSpan.MaxValue || agenda.Now - connection.IdleSince < allowed - IdleConnections.LeadOf(key, allowed))
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
