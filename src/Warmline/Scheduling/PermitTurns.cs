namespace Warmline.Scheduling;

/// <summary>Passes free permits to the keys that need them, and picks the connections that give theirs up.</summary>
internal sealed class PermitTurns(
    Agenda agenda, PoolState pool, KeyTable table, PermitLedger ledger, Capacity capacities, Lifecycle lifecycle, PermitNeeds needs,
    Dials dials)
{
    /// <summary>At most ten connections a second are given up only for fairness.</summary>
    static readonly TimeSpan EvenOutEach = TimeSpan.FromMilliseconds(100);

    TimeSpan _evenOutAt = TimeSpan.MinValue;

    /// <summary>
    /// Gives free permits to the keys that want them: first the key that has had no connection for longest, then the key that waits
    /// longest. Other keys give way for those that are left.
    /// </summary>
    public void PassOn(KeyState giver)
    {
        TakeTurns(giver.Origin);
        TakeTurns(giver.Partition);
        while (ledger.InUse < pool.Limits.MaxConnections && ledger.Wanting.First is { } key)
        {
            needs.Update(key);   // a limit over all keys may have been reached since the last update
            if (ledger.Wanting.First == key && capacities.HasFree(key))
            {
                dials.Dial(key, forWaiter: true);
                needs.Update(key);   // the need is now met, smaller, or blocked by another limit
            }

            MakeRoom(key);
        }

        MakeRoom(giver);
        MakeRoom(ledger, pool.Limits.MaxConnections, null);
        EvenOut();
    }

    /// <summary>
    /// If the group has room again its keys queue for the pool's permits, as the permit that was returned is also one of the pool's.
    /// </summary>
    void TakeTurns(PermitGroup? group)
    {
        while (group is not null && group.InUse < capacities.LimitOf(group) && group.Wanting.First is { } key)
        {
            needs.Update(key);
            MakeRoom(key);   // it may now be blocked by its other group
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

    /// <summary>
    /// No permit is free: closes idle connections for the keys that lack one. If none is idle, drains busy connections for keys that have
    /// no connection at all. The same removes surplus connections after a limit was lowered.
    /// </summary>
    void MakeRoom(PermitCount permits, int limit, PermitGroup? group)
    {
        while (limit - permits.InUse + permits.Closing < permits.Wanting.Wanted && ledger.LongestIdle(group) is { } idle)
        {
            lifecycle.BeginClose(idle);
        }

        // One busy connection for each starving key, whichever of them gets the permit in the end. The connection's own key may starve as
        // a result and be next.
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
    /// Tenants with connections of their own keep them as long as they have calls, so the first tenant would keep the most for good. If
    /// one tenant lacks a permit and moving one from another would bring both closer to their shares, the other gives one up. One at a
    /// time and not often, as each costs a dial and a pass over every key.
    /// </summary>
    void EvenOut()
    {
        if (pool.Limits.Sharing.Isolation is not TenantIsolation.Connections || ledger.Wanting.First is not { Wish.IsStarving: false } poor
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

        if (rich is not null
            && needs.ConnectionShare(rich) - (1 / needs.Weight(rich)) >= needs.ConnectionShare(poor) + (1 / needs.Weight(poor))
            && PermitLedger.CheapestToClose([rich]) is { } busy)
        {
            GiveWay(busy);
            MakeRoom(rich);
        }
    }
}
