using Warmline.Options;

namespace Warmline.Scheduling;

/// <summary>Events from those who run the pool: warm-up, pause, new limits, drain.</summary>
internal sealed class ControlEvents(Agenda agenda, PoolState pool, KeyTable table, PermitLedger ledger, IdleConnections idling, Lifecycle lifecycle, Leases leases, Turns turns, WarmGoals warmth, Settlement settlement)
{
    /// <summary>Opens connections until as many are ready as the warm-up asks for.</summary>
    public void WarmUp(WarmUp warmUp, ConnectionKey connectionKey)
    {
        var key = table.KeyFor(connectionKey);
        key.WarmUps.Add(warmUp);
        warmth.AllotWarmth();
        settlement.Settle(key);
    }

    /// <summary>Holds that many connections ready from now on.</summary>
    public void KeepWarm(ConnectionKey connectionKey, int connections)
    {
        var key = table.KeyFor(connectionKey);
        key.WarmConnections = connections;
        warmth.AllotWarmth();
        settlement.Settle(key);
        warmth.RestoreWarmth();   // what one key gives up, another may hold
    }

    /// <summary>Stops, or starts again, to place and to dial for one origin; for all when it is null. <paramref name="atLeast"/>: how long the pause lasts in any case.</summary>
    public void SetPaused(string? origin, bool paused, TimeSpan atLeast = default)
    {
        if (origin is null)
        {
            pool.IsPausedAll = paused;
            pool.PausedUntil = paused ? agenda.Now + atLeast : TimeSpan.MinValue;
        }
        else
        {
            var state = table.OriginFor(origin);
            state.IsPaused = paused;
            state.PausedUntil = paused ? agenda.Now + atLeast : TimeSpan.MinValue;
            table.ForgetIfUnused(state);
        }

        settlement.SettleAll();
    }

    public void LimitsChanged(SchedulerLimits limits)
    {
        if (!pool.Limits.Sharing.Equals(limits.Sharing))
        {
            turns.SharingChanged(limits.Sharing);
        }

        pool.Limits = limits;
        ledger.CapacityVersion++;
        foreach (var key in table.Keys)
        {
            key.IdleLimit.Known = limits.Providers.ProfileOf(key.Key).IdleLimit;
            foreach (var connection in key.Connections)
            {
                idling.LimitsChanged(connection);
            }
        }

        warmth.AllotWarmth();
        settlement.SettleAll();
        idling.TrimIdle();
    }

    /// <summary>Takes nothing new, for good: waiters are refused, idle connections close, busy ones when their streams have ended.</summary>
    public void Drain()
    {
        pool.IsDraining = true;
        foreach (var key in table.Keys)
        {
            key.WarmConnections = 0;
            foreach (var waiter in key.Queue.All().ToArray())
            {
                leases.Leave(waiter);
                leases.Refuse(waiter, RefusalKind.Rejected, PoolRejectionReason.Draining);
            }

            warmth.EndWarmUps(key);
            lifecycle.DrainAll(key);
        }

        warmth.AllotWarmth();
        settlement.SettleAll();
    }
}
