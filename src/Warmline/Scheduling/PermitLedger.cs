namespace Warmline.Scheduling;

/// <summary>The permits of the whole pool, and the idle connections in the order in which they became idle.</summary>
internal sealed class PermitLedger : PermitCount
{
    ConnectionState? _longestIdle;
    ConnectionState? _latestIdle;

    public int PeakInUse { get; private set; }

    /// <summary>Grows when the number of permits or idle connections changes, and with it the capacity that keys can expect.</summary>
    public long CapacityVersion { get; set; }

    public override void Count(ConnectionState connection, int sign)
    {
        base.Count(connection, sign);
        PeakInUse = Math.Max(PeakInUse, InUse);
        connection.Key.Origin.Count(connection, sign);
        connection.Key.Partition?.Count(connection, sign);
        connection.Key.Count(connection, sign);
    }

    public void ListIdle(ConnectionState connection)
    {
        connection.IsListedIdle = true;
        connection.PreviousIdle = _latestIdle;
        connection.NextIdle = null;
        if (_latestIdle is { } latest)
        {
            latest.NextIdle = connection;
        }
        else
        {
            _longestIdle = connection;
        }

        _latestIdle = connection;
        CountIdle(connection, +1);
    }

    public void UnlistIdle(ConnectionState connection)
    {
        if (!connection.IsListedIdle)
        {
            return;
        }

        connection.IsListedIdle = false;
        if (connection.PreviousIdle is { } previous)
        {
            previous.NextIdle = connection.NextIdle;
        }
        else
        {
            _longestIdle = connection.NextIdle;
        }

        if (connection.NextIdle is { } next)
        {
            next.PreviousIdle = connection.PreviousIdle;
        }
        else
        {
            _latestIdle = connection.PreviousIdle;
        }

        connection.PreviousIdle = connection.NextIdle = null;
        CountIdle(connection, -1);
    }

    void CountIdle(ConnectionState connection, int sign)
    {
        var key = connection.Key;
        Idle += sign;
        key.Idle += sign;
        key.Origin.Idle += sign;
        if (key.Partition is { } partition)
        {
            partition.Idle += sign;
        }

        CapacityVersion++;
    }

    /// <summary>The connection, of one group or of any, that has been idle longest; a warm one only if there is no other.</summary>
    public ConnectionState? LongestIdle(PermitGroup? group = null)
    {
        ConnectionState? warm = null;
        for (var at = _longestIdle; at is not null; at = at.NextIdle)
        {
            if (group is not null && at.Key.Origin != group && at.Key.Partition != group)
            {
                continue;
            }

            if (at.Key.Usable > at.Key.WarmGoal)
            {
                return at;
            }

            warm ??= at;
        }

        return warm;
    }

    /// <summary>
    /// The least loaded connection of the largest key, which gives way if none is idle. Scans all connections, but only once for each
    /// starving key. A connection that awaits SETTINGS is spared: it has carried at most one stream, and a key that got a permit should
    /// get some use of it.
    /// </summary>
    public static ConnectionState? CheapestToClose(IEnumerable<KeyState> keys)
    {
        KeyState? largest = null;
        foreach (var key in keys)
        {
            if (key.Ready > (largest?.Ready ?? 0))
            {
                largest = key;
            }
        }

        ConnectionState? least = null;
        foreach (var connection in largest?.Connections ?? [])
        {
            if (connection.Phase is ConnectionPhase.Open && (least is null || ConnectionState.LeastLoadedFirst.Before(connection, least)))
            {
                least = connection;
            }
        }

        return least;
    }
}
