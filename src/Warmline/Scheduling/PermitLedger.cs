namespace Warmline.Scheduling;

/// <summary>Who may have a connection open: the permits that are out, the idle connections that can give theirs back, and the keys that want one.</summary>
internal sealed class PermitLedger
{
    ConnectionState? _longestIdle;
    ConnectionState? _latestIdle;

    /// <summary>Permits out: every connection that is not closed, told to or not.</summary>
    public int InUse { get; private set; }

    public int PeakInUse { get; private set; }

    /// <summary>Permits that come back without being asked for.</summary>
    public int Returning { get; private set; }

    public int Idle { get; private set; }

    /// <summary>Keys that need a connection and are held back by MaxConnections.</summary>
    public IndexedHeap<KeyState, KeyState.StarvingFirst> Wanting { get; } = new();

    public void Count(ConnectionState connection, int sign)
    {
        InUse += connection.Phase is ConnectionPhase.Closed ? 0 : sign;
        Returning += connection.IsReturningPermit ? sign : 0;
        PeakInUse = Math.Max(PeakInUse, InUse);
        connection.Key.Count(connection, sign);
    }

    public bool HasFree(KeyState key, SchedulerLimits limits) => InUse < limits.MaxConnections && key.Origin.InUse < limits.MaxConnectionsPerHost;

    /// <summary>Permits that a key could have: the free ones and those of other keys' idle connections.</summary>
    public int Obtainable(KeyState key, SchedulerLimits limits)
    {
        var ofPool = limits.MaxConnections - InUse + Idle - key.Idle;
        return Math.Max(0, Math.Min(ofPool, limits.MaxConnectionsPerHost - key.Origin.InUse));
    }

    public void Want(KeyState key, SchedulerLimits limits)
    {
        Unwant(key);
        var heap = IsBoundByHost(key, limits) ? key.Origin.Wanting : Wanting;
        key.WantsFrom = heap;
        heap.Set(key);
    }

    public static void Unwant(KeyState key)
    {
        key.WantsFrom?.Remove(key);
        key.WantsFrom = null;
    }

    public static bool IsBoundByHost(KeyState key, SchedulerLimits limits) => key.Origin.InUse >= limits.MaxConnectionsPerHost;

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
        connection.Key.Idle++;
        Idle++;
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
        connection.Key.Idle--;
        Idle--;
    }

    /// <summary>The connection that has been idle longest; one that is held warm only if there is no other.</summary>
    public ConnectionState? LongestIdle(KeyState? notOf = null, OriginState? origin = null)
    {
        ConnectionState? warm = null;
        for (var at = _longestIdle; at is not null; at = at.NextIdle)
        {
            if (at.Key == notOf || (origin is not null && at.Key.Origin != origin))
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

    /// <summary>The least-loaded connection of the largest key: who gives way when nothing is idle. Looks at all of them, but only once for each starving key.</summary>
    public static ConnectionState? LeastMissed(IEnumerable<KeyState> keys, KeyState? notOf = null, OriginState? origin = null)
    {
        KeyState? largest = null;
        foreach (var key in keys)
        {
            if (key != notOf && (origin is null || key.Origin == origin) && key.Usable > (largest?.Usable ?? 0))
            {
                largest = key;
            }
        }

        ConnectionState? least = null;
        foreach (var connection in largest?.Connections ?? [])
        {
            if (connection.IsUsable && (least is null || ConnectionState.LeastLoadedFirst.Before(connection, least)))
            {
                least = connection;
            }
        }

        return least;
    }

    /// <summary>Starving keys that wait for a permit of the pool, or of one origin.</summary>
    public int Starving(OriginState? origin)
    {
        var count = 0;
        foreach (var key in (origin?.Wanting ?? Wanting).Items)
        {
            count += key.IsStarving ? 1 : 0;
        }

        return count;
    }
}
