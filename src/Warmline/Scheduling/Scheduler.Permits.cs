namespace Warmline.Scheduling;

/// <summary>When a connection is dialled, who gets a permit, and who gives one back.</summary>
internal sealed partial class Scheduler
{
    bool MayDial(KeyState key) => !IsDraining && !IsPaused(key) && key.BackOffUntil <= _now;

    /// <summary>Opens what is missing: for waiters that have no place coming, in the order in which keys lack permits; with what is left, so that calls spread
    /// and so that what is to be warm is.</summary>
    void Grow(KeyState key)
    {
        NoteNeed(key);
        PassOn(key.Origin);
        if (MayDial(key))
        {
            // Only waiters and new calls make calls spread: an idle connection that was closed for its age or its number must not come back for nothing.
            var grantable = Grantable(key);
            DialMore(key, grantable > 0 ? key.MissingForSpread(_limits, grantable) : 0, owesFirstUse: true);
            DialMore(key, key.WarmGoal - key.Usable - key.Dialing, owesFirstUse: false);
        }
    }

    /// <summary>A call was placed at once; the next ones may find it less crowded, if an idle connection may wait for them.</summary>
    void Spread(KeyState key)
    {
        if (_limits.MaxIdleConnections > 0 && key.MissingForSpread(_limits, 0) is > 0 and var missing && MayDial(key))
        {
            DialMore(key, missing, owesFirstUse: true);
        }
    }

    void DialMore(KeyState key, int count, bool owesFirstUse)
    {
        for (; count > 0 && key.Dialing < _limits.MaxDialsInFlight && _permits.HasFree(key, _limits); count--)
        {
            Dial(key, owesFirstUse);
        }
    }

    void Dial(KeyState key, bool owesFirstUse)
    {
        var connection = new ConnectionState(++_connectionIds, key) { DialStartedAt = _now, DialSequence = _sequence, OwesFirstUse = owesFirstUse };
        key.Add(connection);
        _permits.Count(connection, +1);
        _actions.Add(new SchedulerAction(ActionKind.Dial, connection, Advice: key.Expiry.Dialed(owesFirstUse, _limits, _now)));
        if (key.Origin.InUse >= _limits.MaxConnectionsPerHost)
        {
            // The origin's other keys may wait for a permit of the pool, which would not help them any more.
            foreach (var sibling in key.Origin.Keys)
            {
                if (sibling.WantsFrom == _permits.Wanting)
                {
                    NoteNeed(sibling);
                }
            }
        }
    }

    /// <summary>Waiters that MaxConcurrentRequests would let ride; below zero after it was lowered.</summary>
    int Grantable(KeyState key) => Math.Min(key.Queue.Count, _limits.MaxConcurrentRequests - Leases);

    /// <summary>Connections that the key's waiters need and that are not coming.</summary>
    int Need(KeyState key)
    {
        var grantable = Grantable(key);
        return grantable <= 0 || key.Available.First is not null || !MayDial(key) ? 0
            : Math.Min(key.MissingForNeed(_limits, grantable), _limits.MaxDialsInFlight - key.Dialing);
    }

    /// <summary>Puts the key among those that want a permit, to its right place there, or out of there. Called when its need may have changed,
    /// or whether it has any connection.</summary>
    void NoteNeed(KeyState key)
    {
        var need = Need(key);
        if (need <= 0)
        {
            key.WantsFrom?.Remove(key);
            NoteCapped(key);   // it may want none only because no place is free
            return;
        }

        if (key.WantsFrom is null || !key.WantsAsStarving)
        {
            key.StarvesSince = ++_sequence;
        }

        _permits.LackOf(key, _limits).Set(key, need);
    }

    /// <summary>Permits that are free go to the keys that want them: who has had no connection for longest first, then who waits longest. For those that are left, others give way.</summary>
    void PassOn(OriginState origin)
    {
        // Where the origin has room again its keys take their turn among all: the permit that came back is also one of the pool.
        while (origin.InUse < _limits.MaxConnectionsPerHost && origin.Wanting.First is { } key)
        {
            NoteNeed(key);
        }

        while (_permits.InUse < _limits.MaxConnections && _permits.Wanting.First is { } key)
        {
            if (_permits.HasFree(key, _limits))
            {
                Dial(key, owesFirstUse: true);
            }

            NoteNeed(key);   // met, smaller, or a lack of the other kind now
            MakeRoom(key.Origin);
        }

        MakeRoom(origin);
        MakeRoom(_permits, _limits.MaxConnections, null);
    }

    void MakeRoom(OriginState origin) => MakeRoom(origin, _limits.MaxConnectionsPerHost, origin);

    /// <summary>No permit is free: idle connections close for whoever lacks one; for keys that have no connection at all, when there is nothing idle, busy ones drain.
    /// In the same way those give way that are too many since a limit was lowered.</summary>
    void MakeRoom(PermitCount permits, int limit, OriginState? origin)
    {
        while (limit - permits.InUse + permits.Closing < permits.Wanting.Wanted && _permits.LongestIdle(origin) is { } idle)
        {
            BeginClose(idle);
        }

        // One busy connection for each starving key, whichever of them gets the permit in the end. Its own key may starve by that, and be next.
        while (permits.Open > 0 && limit - permits.InUse + permits.Closing + permits.GivingWay < permits.Wanting.Starving
            && PermitLedger.LeastMissed(_keys.Values, origin) is { } busy)
        {
            GiveWay(busy);
            MakeRoom(busy.Key.Origin);
        }
    }

    void GiveWay(ConnectionState connection)
    {
        if (connection.Streams == 0)
        {
            BeginClose(connection);
        }
        else
        {
            connection.IsReclaimed = true;
            MoveTo(connection, ConnectionPhase.Draining);
        }

        NoteNeed(connection.Key);
    }
}
