namespace Warmline.Scheduling;

/// <summary>Who gets the next permit, and who gives one back.</summary>
internal sealed class PermitTurns(Agenda agenda, PoolState pool, KeyTable table, PermitLedger ledger, Capacity capacities, Lifecycle lifecycle, PermitNeeds needs, Dials dials)
{
    /// <summary>Ten connections in a second may change hands for fairness alone.</summary>
    static readonly TimeSpan EvenOutEach = TimeSpan.FromMilliseconds(100);

    TimeSpan _evenOutAt = TimeSpan.MinValue;

    /// <summary>Permits that are free go to the keys that want them: who has had no connection for longest first, then who waits longest. For those that are left, others give way.</summary>
    public void PassOn(KeyState giver)
    {
        TakeTurns(giver.Origin);
        TakeTurns(giver.Partition);
        while (ledger.InUse < pool.Limits.MaxConnections && ledger.Wanting.First is { } key)
        {
            needs.Update(key);   // a limit over all keys may be used up since it was noted
            if (ledger.Wanting.First == key && capacities.HasFree(key))
            {
                dials.Dial(key, forWaiter: true);
                needs.Update(key);   // met, smaller, or a lack of the other kind now
            }

            MakeRoom(key);
        }

        MakeRoom(giver);
        MakeRoom(ledger, pool.Limits.MaxConnections, null);
        EvenOut();
    }

    /// <summary>Where the group has room again its keys take their turn among all: the permit that came back is also one of the pool.</summary>
    void TakeTurns(PermitGroup? group)
    {
        while (group is not null && group.InUse < capacities.LimitOf(group) && group.Wanting.First is { } key)
        {
            needs.Update(key);
            MakeRoom(key);   // it may lack the permits of its other group now
        }
    }

    void MakeRoom(KeyState key)
    {
        MakeRoom(key.Origin, capacities.LimitOf(key.Origin), key.Origin);
        if (key.Partition is { } partition)
        {
            MakeRoom(partition, capacities.LimitOf(partition), partition);
        }
    }

    /// <summary>No permit is free: idle connections close for whoever lacks one; for keys that have no connection at all, when there is nothing idle, busy ones drain.
    /// In the same way those give way that are too many since a limit was lowered.</summary>
    void MakeRoom(PermitCount permits, int limit, PermitGroup? group)
    {
        while (limit - permits.InUse + permits.Closing < permits.Wanting.Wanted && ledger.LongestIdle(group) is { } idle)
        {
            lifecycle.BeginClose(idle);
        }

        // One busy connection for each starving key, whichever of them gets the permit in the end. Its own key may starve by that, and be next.
        while (permits.Open > 0 && limit - permits.InUse + permits.Closing + permits.GivingWay < permits.Wanting.Starving
            && PermitLedger.CheapestToClose(group is null ? table.Keys : group.Keys) is { } busy)
        {
            GiveWay(busy);
            MakeRoom(busy.Key);
        }
    }

    void GiveWay(ConnectionState connection)
    {
        if (connection.Streams == 0)
        {
            lifecycle.BeginClose(connection);
        }
        else
        {
            connection.IsReclaimed = true;
            lifecycle.MoveTo(connection, ConnectionPhase.Draining);
        }

        needs.Update(connection.Key);
    }

    /// <summary>
    /// Tenants with connections of their own keep them as long as they have calls, so who came first would have the most for good. Where one lacks a permit and another has so many that both would be
    /// nearer to their shares with one more and one less, that other gives one way: one at a time, and not often, as each costs a dial and looks at every key.
    /// </summary>
    void EvenOut()
    {
        if (pool.Limits.Sharing.Isolation is not TenantIsolation.Connections || ledger.Wanting.First is not { WantsAsStarving: false } poor
            || agenda.Now < _evenOutAt || pool.Limits.MaxConnections - ledger.InUse + ledger.Closing + ledger.GivingWay > 0)
        {
            return;
        }

        _evenOutAt = agenda.Now + EvenOutEach;
        KeyState? rich = null;
        foreach (var key in table.Keys)
        {
            if (key.Ready > 0 && (rich is null || needs.ConnectionShare(key) > needs.ConnectionShare(rich)))
            {
                rich = key;
            }
        }

        if (rich is not null && needs.ConnectionShare(rich) - (1 / needs.Weight(rich)) >= needs.ConnectionShare(poor) + (1 / needs.Weight(poor)) && PermitLedger.CheapestToClose([rich]) is { } busy)
        {
            GiveWay(busy);
            MakeRoom(rich);
        }
    }
}
