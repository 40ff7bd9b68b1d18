namespace Warmline.Scheduling;

/// <summary>Warm connections: how many each key keeps, and the warm-ups that wait for them.</summary>
internal sealed class WarmGoals(
    Agenda agenda, PoolState pool, KeyTable table, PermitLedger ledger, Capacity capacities, IdleConnections idling, Growth growth)
{
    bool _isAnyKeptWarm;

    /// <summary>
    /// Divides MaxIdleConnections: first among the keys that keep connections warm, then among warm-ups. If the goals exceeded it
    /// together, keys would close each other's connections in turn.
    /// </summary>
    public void AllotWarmth()
    {
        var room = pool.Limits.MaxIdleConnections;
        foreach (var key in table.Keys)
        {
            key.HadWarmGoal = key.WarmGoal > 0;
            key.WarmGoal = Math.Min(key.WarmConnections, room);
            room -= key.WarmGoal;
        }

        foreach (var key in table.Keys)
        {
            foreach (var warmUp in key.WarmUps)
            {
                var more = Math.Clamp(warmUp.Target - key.WarmGoal, 0, room);
                key.WarmGoal += more;
                room -= more;
            }
        }

        _isAnyKeptWarm = room < pool.Limits.MaxIdleConnections;
        foreach (var key in table.Keys)
        {
            if (key.HadWarmGoal != key.WarmGoal > 0)
            {
                idling.RestartIdleTimers(key);   // warm connections may stay idle for longer
            }
        }
    }

    /// <summary>Gives a permit that no waiter needs to a key that is short of warm connections.</summary>
    public void RestoreWarmth()
    {
        if (!_isAnyKeptWarm || ledger.InUse >= pool.Limits.MaxConnections)
        {
            return;
        }

        foreach (var key in table.Keys)
        {
            if (key.WarmGoal > key.ReadyOrComing)
            {
                growth.Grow(key);
            }
        }
    }

    public void CheckWarmUps(KeyState key)
    {
        if (key.WarmUps.Count > 0)
        {
            EndWarmUpsThatAreOver(key);   // separate, as its closure would cost every event an allocation
        }
    }

    void EndWarmUpsThatAreOver(KeyState key)
    {
        var inProgress = key.Dialing + key.AwaitingSettings > 0;
        if (key.WarmUps.RemoveAll(warmUp => (key.Ready >= warmUp.Target || !inProgress) && EndWarmUp(key, warmUp)) > 0)
        {
            AllotWarmth();
        }
    }

    public void EndWarmUps(KeyState key) => key.WarmUps.RemoveAll(warmUp => EndWarmUp(key, warmUp));

    bool EndWarmUp(KeyState key, WarmUp warmUp)
    {
        warmUp.Ready = key.Ready;
        if (warmUp.Ready < warmUp.Target)
        {
            warmUp.Error = key.BackOffUntil > agenda.Now ? key.LastDialError : null;
            warmUp.Reason = pool.IsDraining ? PoolRejectionReason.Draining
                : pool.IsPaused(key) ? PoolRejectionReason.Paused
                : key.BackOffUntil > agenda.Now ? PoolRejectionReason.BackOff
                : key.Origin.InUse >= pool.Limits.MaxConnectionsPerHost ? PoolRejectionReason.MaxConnectionsPerHost
                : key.Partition is { } partition && partition.InUse >= capacities.LimitOf(partition) ? PoolRejectionReason.TenantConnections
                : PoolRejectionReason.MaxConnections;
        }

        agenda.Add(new SchedulerAction(ActionKind.WarmUpEnded, warmUp));
        return true;
    }
}
