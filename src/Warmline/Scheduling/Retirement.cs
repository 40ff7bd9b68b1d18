using System.Net;

namespace Warmline.Scheduling;

/// <summary>Ends all connections that share a cause at once, before each of them costs a call.</summary>
internal sealed class Retirement(
    Agenda agenda, PoolState pool, KeyTable table, Lifecycle lifecycle, IdleConnections idling, Settlement settlement)
{
    /// <summary>
    /// Ends the connections of an origin that are open now, or all if it is null. Busy ones close when their streams have ended.
    /// </summary>
    public void Retire(string? origin)
    {
        foreach (var key in table.Keys)
        {
            if (origin is null || string.Equals(key.Origin.Name, origin, StringComparison.OrdinalIgnoreCase))
            {
                lifecycle.DrainAll(key);
            }
        }

        settlement.SettleAll();
    }

    /// <summary>
    /// A host name now resolves to these addresses. Connections to others take no new stream and close when their streams have ended.
    /// </summary>
    public void Retire(string host, IPAddress[] addresses)
    {
        var vanished = false;
        foreach (var key in table.Keys)
        {
            if (!string.Equals(key.Key.DialedHost, host, StringComparison.OrdinalIgnoreCase))
            {
                continue;
            }

            foreach (var connection in key.Connections)
            {
                if (connection is { IsUsable: true, Address: { } address } && !addresses.Contains(address))
                {
                    lifecycle.Drain(connection);
                    vanished = true;
                }
            }
        }

        if (vanished)
        {
            settlement.SettleAll();
        }
    }

    /// <summary>
    /// The wall clock ran ahead of ours: the machine slept. Servers and NATs did not, so no idle connection is worth trying.
    /// </summary>
    public void ClockJumped()
    {
        var count = 0;
        foreach (var key in table.Keys)
        {
            count += DropIdle(key);
        }

        Flushed(null, count, FlushCause.Sleep);
        settlement.SettleAll();
    }

    /// <summary>
    /// The machine now has these addresses. Connections from others end: idle ones at once, busy ones when their streams have ended, if
    /// they still can.
    /// </summary>
    public void LocalAddresses(IReadOnlyCollection<IPAddress> addresses)
    {
        var count = 0;
        foreach (var key in table.Keys)
        {
            foreach (var connection in key.Connections)
            {
                if (connection is not { IsUsable: true, LocalAddress: { } address } || addresses.Contains(address))
                {
                    continue;
                }

                count++;
                connection.IsLost = true;
                lifecycle.Drain(connection);
            }
        }

        if (count > 0)
        {
            Flushed(null, count, FlushCause.Network);
            settlement.SettleAll();
        }
    }

    /// <summary>
    /// A connection ended after it had been idle. Learns the server's idle limit from it, or ends the key's other idle connections if
    /// they are likely lost as well.
    /// </summary>
    public void LearnFromIdleEnd(ConnectionState connection, TimeSpan rested, ConnectionEnd end, FlushCause cause)
    {
        var key = connection.Key;
        if (rested < IdleLimit.Moment)
        {
            return;   // the end belongs to the previous answer
        }

        if (!connection.Served && end is ConnectionEnd.InOrder)
        {
            return;   // how long a server waits for a first request says nothing about how long it waits for the next
        }

        if (end is ConnectionEnd.Lost)
        {
            connection.IsLost = true;
            Flushed(key, 1 + DropIdle(key, connection), cause);
        }
        else if (end is ConnectionEnd.InOrder && key.IdleLimit.Ended(rested, agenda.Now, pool.Limits.IdleMemory))
        {
            idling.RestartIdleTimers(key);
            agenda.Add(new SchedulerAction(ActionKind.IdleLimitLearned, key));
        }
    }

    /// <summary>Ends all idle connections of the key: they opened before the loss and share its cause.</summary>
    int DropIdle(KeyState key, ConnectionState? except = null)
    {
        var count = 0;
        foreach (var connection in key.Connections)
        {
            if (connection is { Phase: ConnectionPhase.Open, Streams: 0 } && connection != except)
            {
                connection.IsLost = true;
                lifecycle.BeginClose(connection);
                count++;
            }
        }

        return count;
    }

    void Flushed(KeyState? key, int count, FlushCause cause)
    {
        if (count > 0)
        {
            pool.Facts.Lost += count;
            agenda.Add(new SchedulerAction(ActionKind.Flushed, key, Active: count, Cause: cause));
        }
    }
}
