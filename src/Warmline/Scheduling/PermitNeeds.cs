namespace Warmline.Scheduling;

/// <summary>Tracks how many permits each key needs, and where it stands in the order of keys that want one.</summary>
internal sealed class PermitNeeds(PoolState pool, Admission admission, Capacity capacities, WaitLists waitLists)
{
    /// <summary>
    /// Adds the key to the permit queue, moves it to its place there, or removes it. Called when its need, or whether it has any
    /// connection, may have changed.
    /// </summary>
    public void Update(KeyState key)
    {
        var need = Need(key);
        waitLists.TrackReserved(key);
        waitLists.ParkBlocked(key);   // it may want fewer only because limits over all keys block it
        if (need <= 0)
        {
            key.Wish.Queue?.Remove(key);
            return;
        }

        if (key.Wish.Queue is null || !key.Wish.IsStarving)
        {
            key.Wish.StarvesSince = pool.NextSequence();
        }

        capacities.LackOf(key).Set(key, need, ConnectionShare(key));
    }

    /// <summary>Number of connections that the key's waiters need and that are not being dialled.</summary>
    int Need(KeyState key)
    {
        var grantable = admission.Grantable(key);
        return grantable <= 0 || key.Available.First is not null || !admission.MayDial(key) ? 0
            : Math.Min(Demand.MissingForNeed(key, pool.Limits, grantable), pool.Limits.MaxDialsInFlight - key.Dialing);
    }

    /// <summary>
    /// If the last permit of an origin or a tenant is in use, its other keys that wait for a permit of the pool have to wait for the
    /// group's instead.
    /// </summary>
    public void UpdateIfFull(PermitGroup? group)
    {
        if (group is null || group.InUse < capacities.LimitOf(group))
        {
            return;
        }

        foreach (var sibling in group.Keys)
        {
            if (sibling.Wish.Queue is { } wanted && wanted != group.Wanting)
            {
                Update(sibling);
            }
        }
    }

    /// <summary>The tenant's connections divided by its weight; 0 where tenants share connections.</summary>
    public double ConnectionShare(KeyState key) => pool.Limits.Sharing.Isolation is not TenantIsolation.Connections ? 0
        : (key.Partition is { } partition ? partition.InUse - partition.Closing - partition.GivingWay : key.Usable + key.Dialing)
            / Weight(key);

    public double Weight(KeyState key) => pool.Limits.Sharing.LimitsOf(key.Key.Partition).Weight;
}
