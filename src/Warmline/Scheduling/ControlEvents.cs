using Warmline.Options;

namespace Warmline.Scheduling;

/// <summary>Events from the pool's owner: warm-up, pause, new limits, drain.</summary>
internal sealed class ControlEvents(
    Agenda agenda, PoolState pool, KeyTable table, PermitLedger ledger, IdleConnections idling, Lifecycle lifecycle, Leasing leases,
    Turns turns, WarmGoals warmth, Settlement settlement)
{
    /// <summary>Opens connections until the number that the warm-up asks for is ready.</summary>
    public void WarmUp(WarmUp warmUp, ConnectionKey connectionKey)
    {
        var key = table.KeyFor(connectionKey);
        key.WarmUps.Add(warmUp);
        warmth.AllotWarmth();
        settlement.Settle(key);
    }

    /// <summary>Keeps this number of connections ready from now on.</summary>
    public void KeepWarm(ConnectionKey connectionKey, int connections)
    {
        var key = table.KeyFor(connectionKey);
        key.WarmConnections = connections;
        warmth.AllotWarmth();
        settlement.Settle(key);
        warmth.RestoreWarmth();   // another key may use what this one gave up
    }

    /// <summary>
    /// Pauses or resumes granting and dialling for one origin, or for all if it is null. The pause lasts at least
    /// <paramref name="atLeast"/>.
    /// </summary>
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

    /// <summary>
    /// Takes no new calls for good. Waiters are refused; idle connections close now, busy ones when their streams have ended.
    /// </summary>
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
