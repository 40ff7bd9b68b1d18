namespace Warmline.Scheduling;

/// <summary>Permits that are out, and the keys that lack one: of the pool, of one origin, or of one tenant.</summary>
internal class PermitCount
{
    /// <summary>Permits out: every connection that is not closed, told to or not.</summary>
    public int InUse { get; private set; }

    /// <summary>Of these, connections that take streams.</summary>
    public int Open { get; private set; }

    /// <summary>Of these, connections told to close: they come back at once.</summary>
    public int Closing { get; private set; }

    /// <summary>Of these, busy connections that drain so that others get the permit: they come back when their streams have ended.</summary>
    public int GivingWay { get; private set; }

    /// <summary>Idle connections: they would be closed for a key that lacks one.</summary>
    public int Idle { get; set; }

    /// <summary>Keys that need a connection and are held back by the limit.</summary>
    public PermitQueue Wanting { get; } = new();

    public virtual void Count(ConnectionState connection, int sign)
    {
        InUse += connection.Phase is ConnectionPhase.Closed ? 0 : sign;
        Open += connection.Phase is ConnectionPhase.Open ? sign : 0;
        Closing += connection.Phase is ConnectionPhase.Closing ? sign : 0;
        GivingWay += connection.Phase is ConnectionPhase.Draining && connection.IsReclaimed ? sign : 0;
    }
}

/// <summary>The permits that keys share within those of the pool: of one origin, or of one tenant that has connections of its own.</summary>
internal class PermitGroup(string name) : PermitCount
{
    public string Name { get; } = name;

    /// <summary>Keys that refer to it; it is forgotten with the last.</summary>
    public List<KeyState> Keys { get; } = [];
}

/// <summary>Keys that lack permits of one kind, and how many permits would do.</summary>
internal sealed class PermitQueue
{
    readonly IndexedHeap<KeyState, KeyState.StarvingFirst> _keys = new();

    /// <summary>Who gets the next permit.</summary>
    public KeyState? First => _keys.First;

    /// <summary>Permits that are lacking, over all its keys.</summary>
    public int Wanted { get; private set; }

    /// <summary>Keys in it that have no connection and none coming.</summary>
    public int Starving { get; private set; }

    /// <summary>Puts the key in, or to its new place.</summary>
    public void Set(KeyState key, int need, double share)
    {
        if (key.WantsFrom != this)
        {
            key.WantsFrom?.Remove(key);
            key.WantsFrom = this;
        }
        else
        {
            Count(key, -1);
        }

        key.Wants = need;
        key.WantsShare = share;
        key.WantsAsStarving = key.IsStarving;
        Count(key, +1);
        _keys.Set(key);
    }

    public void Remove(KeyState key)
    {
        Count(key, -1);
        _keys.Remove(key);
        key.WantsFrom = null;
    }

    void Count(KeyState key, int sign)
    {
        Wanted += sign * key.Wants;
        Starving += key.WantsAsStarving ? sign : 0;
    }
}

/// <summary>Who may have a connection open: the permits of the whole pool, and the idle connections that can give theirs back.</summary>
internal sealed class PermitLedger : PermitCount
{
    ConnectionState? _longestIdle;
    ConnectionState? _latestIdle;

    public int PeakInUse { get; private set; }

    /// <summary>Grows when permits or idle connections become more or fewer: what keys may hope for has changed.</summary>
    public long Moves { get; set; }

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

        Moves++;
    }

    /// <summary>The connection, of one group or of any, that has been idle longest; one that is held warm only if there is no other.</summary>
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

    /// <summary>The least-loaded connection of the largest key: who gives way when nothing is idle. Looks at all of them, but only once for each starving key.
    /// One that awaits SETTINGS is spared: it has carried one stream at most, and a key that got a permit should get some use of it.</summary>
    public static ConnectionState? LeastMissed(IEnumerable<KeyState> keys)
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
