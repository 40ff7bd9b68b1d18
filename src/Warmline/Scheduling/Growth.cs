namespace Warmline.Scheduling;

/// <summary>Decides when a key needs more connections: for waiters, to spread calls, and to stay warm.</summary>
internal sealed class Growth(
    Agenda agenda, PoolState pool, Admission admission, Capacity capacities, PermitNeeds needs, Dials dials,
    PermitTurns permitTurns)
{
    /// <summary>
    /// Dials the missing connections. Waiters come first, in the order of the keys that lack permits. The permits that are left serve to
    /// spread calls and to keep connections warm.
    /// </summary>
    public void Grow(KeyState key)
    {
        needs.Update(key);
        permitTurns.PassOn(key);
        if (admission.MayDial(key))
        {
            // Spread only for waiters and new calls. Otherwise an idle connection closed for its age, or as one too many, would be
            // dialled again for nothing.
            var grantable = admission.Grantable(key);
            dials.DialMore(key, grantable > 0 ? Demand.MissingForSpread(key, pool.Limits, grantable) : 0, forWaiter: true);
            dials.DialMore(key, MissingForWarmth(key), forWaiter: false);
        }
    }

    /// <summary>
    /// Number of connections missing from the warm goal. While dials fail, and until one connection has shown that it lasts, only one is
    /// tried at a time.
    /// </summary>
    int MissingForWarmth(KeyState key)
    {
        var missing = Demand.WithinHedge(key, key.WarmGoal - key.ReadyOrComing);
        return key.Failures > 0 ? Math.Min(missing, 1 - key.Coming) : agenda.Now < key.ProbationUntil ? Math.Min(missing, 0) : missing;
    }

    /// <summary>A call was granted at once. Dials ahead so that the next calls find less load, if idle connections may be kept.</summary>
    public void Spread(KeyState key)
    {
        if (pool.Limits.MaxIdleConnections > 0 && Demand.MissingForSpread(key, pool.Limits, 0) is > 0 and var missing
            && admission.MayDial(key))
        {
            dials.DialMore(key, missing, forWaiter: true);
        }
    }

    public bool MayDialAhead(KeyState key) => admission.MayDial(key) && capacities.HasFree(key) && pool.Limits.MaxIdleConnections > 0;
}
