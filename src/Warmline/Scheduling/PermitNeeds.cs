namespace Warmline.Scheduling;

/// <summary>Which keys lack a permit, and how many.</summary>
internal sealed class PermitNeeds(PoolState pool, Admission admission, Capacity capacities, WaitLists waitLists)
{
    /// <summary>Puts the key among those that want a permit, to its right place there, or out of there. Called when its need may have changed,
    /// or whether it has any connection.</summary>
    public void Update(KeyState key)
    {
        var need = Need(key);
        waitLists.TrackReserved(key);
        waitLists.ParkBlocked(key);   // it may want fewer only because limits over all keys hold it back
        if (need <= 0)
        {
            key.WantsFrom?.Remove(key);
            return;
        }

        if (key.WantsFrom is null || !key.WantsAsStarving)
        {
            key.StarvesSince = pool.NextSequence();
        }

        capacities.LackOf(key).Set(key, need, ConnectionShare(key));
    }

    /// <summary>Connections that the key's waiters need and that are not coming.</summary>
    int Need(KeyState key)
    {
        var grantable = admission.Grantable(key);
        return grantable <= 0 || key.Available.First is not null || !admission.MayDial(key) ? 0
            : Math.Min(key.MissingForNeed(pool.Limits, grantable), pool.Limits.MaxDialsInFlight - key.Dialing);
    }

    /// <summary>The last permit of an origin or a tenant is out: its other keys may wait for a permit of the pool, which would not help them any more.</summary>
    public void UpdateIfFull(PermitGroup? group)
    {
        if (group is null || group.InUse < capacities.LimitOf(group))
        {
            return;
        }

        foreach (var sibling in group.Keys)
        {
            if (sibling.WantsFrom is { } wanted && wanted != group.Wanting)
            {
                Update(sibling);
            }
        }
    }

    /// <summary>What a tenant with connections of its own has of the pool's, by weight; 0 where tenants share them.</summary>
    public double ConnectionShare(KeyState key) => pool.Limits.Sharing.Isolation is not TenantIsolation.Connections ? 0
        : (key.Partition is { } partition ? partition.InUse - partition.Closing - partition.GivingWay : key.Usable + key.Dialing) / Weight(key);

    public double Weight(KeyState key) => pool.Limits.Sharing.LimitsOf(key.Key.Partition).Weight;
}
