namespace Warmline.Scheduling;

/// <summary>When a connection is dialled, who gets a permit, and who gives one back.</summary>
internal sealed partial class Scheduler
{
    /// <summary>Ten connections in a second may change hands for fairness alone.</summary>
    static readonly TimeSpan EvenOutEach = TimeSpan.FromMilliseconds(100);

    TimeSpan _evenOutAt = TimeSpan.MinValue;

    bool MayDial(KeyState key) => !IsDraining && !IsPaused(key) && key.BackOffUntil <= _now;

    /// <summary>Opens what is missing: for waiters that have no place coming, in the order in which keys lack permits; with what is left, so that calls spread
    /// and so that what is to be warm is.</summary>
    void Grow(KeyState key)
    {
        NoteNeed(key);
        PassOn(key);
        if (MayDial(key))
        {
            // Only waiters and new calls make calls spread: an idle connection that was closed for its age or its number must not come back for nothing.
            var grantable = Grantable(key);
            DialMore(key, grantable > 0 ? key.MissingForSpread(_limits, grantable) : 0, owesFirstUse: true);
            DialMore(key, MissingForWarmth(key), owesFirstUse: false);
        }
    }

    /// <summary>Connections that are missing to what is to be warm. While dials fail, and until one has shown that it lasts, one is tried at a time.</summary>
    int MissingForWarmth(KeyState key)
    {
        var missing = key.WithinHedge(key.WarmGoal - key.ReadyOrComing);
        return key.Failures > 0 ? Math.Min(missing, 1 - key.Coming) : _now < key.ProbationUntil ? Math.Min(missing, 0) : missing;
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
        for (; count > 0 && key.Dialing < _limits.MaxDialsInFlight && HasFree(key); count--)
        {
            Dial(key, owesFirstUse);
        }
    }

    void Dial(KeyState key, bool owesFirstUse)
    {
        var connection = new ConnectionState(++_connectionIds, key)
        {
            DialStartedAt = _now, ConnectStartedAt = _now, AdvancedAt = _now, DialSequence = _sequence, SilentBefore = key.SilentInRow, OwesFirstUse = owesFirstUse,
            IsHttp1Only = AvoidsHttp2(key, _now),
        };
        key.Add(connection);
        _permits.Count(connection, +1);
        _permits.Moves++;
        _actions.Add(new SchedulerAction(ActionKind.Dial, connection, Advice: key.Expiry.Dialed(owesFirstUse, _limits, _now)));
        NoteFull(key.Origin);
        NoteFull(key.Partition);
    }

    /// <summary>The last permit of an origin or a tenant is out: its other keys may wait for a permit of the pool, which would not help them any more.</summary>
    void NoteFull(PermitGroup? group)
    {
        if (group is null || group.InUse < LimitOf(group))
        {
            return;
        }

        foreach (var sibling in group.Keys)
        {
            if (sibling.WantsFrom is { } wanted && wanted != group.Wanting)
            {
                NoteNeed(sibling);
            }
        }
    }

    /// <summary>Permits that a tenant with connections of its own has out.</summary>
    public int PermitsOf(string tenant) => _partitions.TryGetValue(tenant, out var partition) ? partition.InUse : 0;

    int LimitOf(PermitGroup group) => group is OriginState ? _limits.MaxConnectionsPerHost : _limits.Sharing.LimitsOf(group.Name).MaxConnections;

    bool HasFree(KeyState key) => _permits.InUse < _limits.MaxConnections && key.Origin.InUse < LimitOf(key.Origin) && (key.Partition is null || key.Partition.InUse < LimitOf(key.Partition));

    /// <summary>Whose permits the key lacks when it cannot have one: its origin's, its tenant's or the pool's.</summary>
    PermitQueue LackOf(KeyState key) => key.Origin.InUse >= LimitOf(key.Origin) ? key.Origin.Wanting
        : key.Partition is { } partition && partition.InUse >= LimitOf(partition) ? partition.Wanting
        : _permits.Wanting;

    /// <summary>Permits that a key could have: the free ones and those of other keys' idle connections.</summary>
    int Obtainable(KeyState key)
    {
        var obtainable = Math.Min(Of(_permits, _limits.MaxConnections), Of(key.Origin, LimitOf(key.Origin)));
        return Math.Max(0, key.Partition is { } partition ? Math.Min(obtainable, Of(partition, LimitOf(partition))) : obtainable);

        int Of(PermitCount permits, int limit) => limit - permits.InUse + permits.Idle - key.Idle;
    }

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
        NoteReserved(key);
        NoteHeld(key);   // it may want fewer only because limits over all keys hold it back
        if (need <= 0)
        {
            key.WantsFrom?.Remove(key);
            return;
        }

        if (key.WantsFrom is null || !key.WantsAsStarving)
        {
            key.StarvesSince = ++_sequence;
        }

        LackOf(key).Set(key, need, ConnectionShare(key));
    }

    /// <summary>Permits that are free go to the keys that want them: who has had no connection for longest first, then who waits longest. For those that are left, others give way.</summary>
    void PassOn(KeyState giver)
    {
        TakeTurns(giver.Origin);
        TakeTurns(giver.Partition);
        while (_permits.InUse < _limits.MaxConnections && _permits.Wanting.First is { } key)
        {
            NoteNeed(key);   // a limit over all keys may be used up since it was noted
            if (_permits.Wanting.First == key && HasFree(key))
            {
                Dial(key, owesFirstUse: true);
                NoteNeed(key);   // met, smaller, or a lack of the other kind now
            }

            MakeRoom(key);
        }

        MakeRoom(giver);
        MakeRoom(_permits, _limits.MaxConnections, null);
        EvenOut();
    }

    /// <summary>What a tenant with connections of its own has of the pool's, by weight; 0 where tenants share them.</summary>
    double ConnectionShare(KeyState key) => _limits.Sharing.Isolation is not TenantIsolation.Connections ? 0
        : (key.Partition is { } partition ? partition.InUse - partition.Closing - partition.GivingWay : key.Usable + key.Dialing) / Weight(key);

    double Weight(KeyState key) => _limits.Sharing.LimitsOf(key.Key.Partition).Weight;

    /// <summary>
    /// Tenants with connections of their own keep them as long as they have calls, so who came first would have the most for good. Where one lacks a permit and another has so many that both would be
    /// nearer to their shares with one more and one less, that other gives one way: one at a time, and not often, as each costs a dial and looks at every key.
    /// </summary>
    void EvenOut()
    {
        if (_limits.Sharing.Isolation is not TenantIsolation.Connections || _permits.Wanting.First is not { WantsAsStarving: false } poor
            || _now < _evenOutAt || _limits.MaxConnections - _permits.InUse + _permits.Closing + _permits.GivingWay > 0)
        {
            return;
        }

        _evenOutAt = _now + EvenOutEach;
        KeyState? rich = null;
        foreach (var key in _keys.Values)
        {
            if (key.Ready > 0 && (rich is null || ConnectionShare(key) > ConnectionShare(rich)))
            {
                rich = key;
            }
        }

        if (rich is not null && ConnectionShare(rich) - (1 / Weight(rich)) >= ConnectionShare(poor) + (1 / Weight(poor)) && PermitLedger.LeastMissed([rich]) is { } busy)
        {
            GiveWay(busy);
            MakeRoom(rich);
        }
    }

    /// <summary>Where the group has room again its keys take their turn among all: the permit that came back is also one of the pool.</summary>
    void TakeTurns(PermitGroup? group)
    {
        while (group is not null && group.InUse < LimitOf(group) && group.Wanting.First is { } key)
        {
            NoteNeed(key);
            MakeRoom(key);   // it may lack the permits of its other group now
        }
    }

    void MakeRoom(KeyState key)
    {
        MakeRoom(key.Origin, LimitOf(key.Origin), key.Origin);
        if (key.Partition is { } partition)
        {
            MakeRoom(partition, LimitOf(partition), partition);
        }
    }

    /// <summary>No permit is free: idle connections close for whoever lacks one; for keys that have no connection at all, when there is nothing idle, busy ones drain.
    /// In the same way those give way that are too many since a limit was lowered.</summary>
    void MakeRoom(PermitCount permits, int limit, PermitGroup? group)
    {
        while (limit - permits.InUse + permits.Closing < permits.Wanting.Wanted && _permits.LongestIdle(group) is { } idle)
        {
            BeginClose(idle);
        }

        // One busy connection for each starving key, whichever of them gets the permit in the end. Its own key may starve by that, and be next.
        while (permits.Open > 0 && limit - permits.InUse + permits.Closing + permits.GivingWay < permits.Wanting.Starving
            && PermitLedger.LeastMissed(group is null ? _keys.Values : group.Keys) is { } busy)
        {
            GiveWay(busy);
            MakeRoom(busy.Key);
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
