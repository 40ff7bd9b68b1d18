using System.Diagnostics;

namespace Warmline.Scheduling;

/// <summary>Changes the phase and the stream limit of connections: the only place that does.</summary>
internal sealed class Lifecycle(Agenda agenda, PoolState pool, PermitLedger ledger)
{
    /// <summary>The only place where a phase changes; all totals follow from it.</summary>
    public void MoveTo(ConnectionState connection, ConnectionPhase phase)
    {
        Debug.Assert(phase > connection.Phase, $"{connection} cannot become {phase}");
        ledger.Count(connection, -1);
        if (connection.IsUsable && phase > ConnectionPhase.Open)
        {
            for (var lease = connection.FirstLease; lease is not null; lease = lease.Next)
            {
                lease.Lane.Streams--;
            }
        }

        connection.Phase = phase;
        connection.Limit = StreamLimit(connection);
        ledger.Count(connection, +1);
        RefreshAvailability(connection);
        if (!connection.IsIdle)
        {
            ledger.UnlistIdle(connection);
        }

        if (phase is ConnectionPhase.Closed)
        {
            ledger.CapacityVersion++;
            connection.Key.Remove(connection);
            agenda.StopTimer(connection);
        }
    }

    int StreamLimit(ConnectionState connection) => connection.Phase switch
    {
        // Do not start with a request if the server's last limit was 0 or its HTTP/2 has failed.
        ConnectionPhase.AwaitingSettings =>
            connection.IsPrimed || connection.Key.AdvertisedLimit == 0 || connection.Key.Origin.Http2.IsDoubted ? 0 : 1,
        ConnectionPhase.Open => connection.IsHttp2 ? Math.Min(pool.Limits.MaxStreamsPerConnection, connection.AdvertisedLimit) : 1,
        _ => 0,
    };

    public void SetStreamLimit(ConnectionState connection)
    {
        ledger.Count(connection, -1);
        connection.Limit = StreamLimit(connection);
        ledger.Count(connection, +1);
        RefreshAvailability(connection);
        if (!connection.IsIdle)
        {
            ledger.UnlistIdle(connection);
        }
    }

    public static void RefreshAvailability(ConnectionState connection)
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

    /// <summary>Ends a connection: at once if no stream runs on it.</summary>
    public void Drain(ConnectionState connection)
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

    public void DrainAll(KeyState key)
    {
        foreach (var connection in key.Connections)
        {
            if (connection.IsUsable)
            {
                Drain(connection);
            }
        }
    }

    public void BeginClose(ConnectionState connection)
    {
        MoveTo(connection, ConnectionPhase.Closing);
        agenda.StopTimer(connection);
        agenda.Add(new SchedulerAction(connection.IsLost ? ActionKind.Drop : ActionKind.Close, connection));
    }
}
