namespace Warmline.Scheduling;

/// <summary>When a connection is dialled.</summary>
internal sealed class Growth(Agenda agenda, PoolState pool, Admission admission, Capacity capacities, PermitNeeds needs, Dials dials, PermitTurns permitTurns)
{
    /// <summary>Opens what is missing: for waiters that have no place coming, in the order in which keys lack permits; with what is left, so that calls spread
    /// and so that what is to be warm is.</summary>
    public void Grow(KeyState key)
    {
        needs.Update(key);
        permitTurns.PassOn(key);
        if (admission.MayDial(key))
        {
            // Only waiters and new calls make calls spread: an idle connection that was closed for its age or its number must not come back for nothing.
            var grantable = admission.Grantable(key);
            dials.DialMore(key, grantable > 0 ? key.MissingForSpread(pool.Limits, grantable) : 0, forWaiter: true);
            dials.DialMore(key, MissingForWarmth(key), forWaiter: false);
        }
    }

    /// <summary>Connections that are missing to what is to be warm. While dials fail, and until one has shown that it lasts, one is tried at a time.</summary>
    int MissingForWarmth(KeyState key)
    {
        var missing = key.WithinHedge(key.WarmGoal - key.ReadyOrComing);
        return key.Failures > 0 ? Math.Min(missing, 1 - key.Coming) : agenda.Now < key.ProbationUntil ? Math.Min(missing, 0) : missing;
    }

    /// <summary>A call was placed at once; the next ones may find it less crowded, if an idle connection may wait for them.</summary>
    public void Spread(KeyState key)
    {
        if (pool.Limits.MaxIdleConnections > 0 && key.MissingForSpread(pool.Limits, 0) is > 0 and var missing && admission.MayDial(key))
        {
            dials.DialMore(key, missing, forWaiter: true);
        }
    }

    public bool MayDialAhead(KeyState key) => admission.MayDial(key) && capacities.HasFree(key) && pool.Limits.MaxIdleConnections > 0;
}
