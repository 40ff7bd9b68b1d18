namespace Warmline.Scheduling;

/// <summary>Brings a key to rest at the end of an event: serves its waiters, dials what is missing, starts its timer.</summary>
internal sealed class Settlement(
    Agenda agenda, PoolState pool, KeyTable table, PermitLedger ledger, Admission admission, WaitLists waitLists, ProviderBudgets budgets,
    Turns turns, Hedging hedging, Growth growth, WarmGoals warmth, PermitNeeds needs)
{
    long _roomSeen;

    /// <summary>Serves every waiter that can be served, dials what is missing, and starts the timer for the rest.</summary>
    public void Settle(KeyState key)
    {
        while (turns.TryServe(key))
        {
        }

        WaitLists.UnparkAll(key);
        Hedging.EndStruggle(key);
        growth.Grow(key);
        hedging.GiveUpSilent(key);
        budgets.AwaitOpening(key);
        warmth.CheckWarmUps(key);
        if (key.Queue.Count > 0 && key.Available.First is { } held && turns.DelaysBurst(key, held))
        {
            agenda.StartTimer(key, key.SpreadUntil);
        }
        else if (key.BackOffUntil > agenda.Now && (key.Queue.Count > 0 || key.WarmConnections > 0))
        {
            agenda.StartTimer(key, key.BackOffUntil);
        }
        else if (key.ProbationUntil > agenda.Now && key.WarmGoal > key.ReadyOrComing)
        {
            agenda.StartTimer(key, key.ProbationUntil);
        }
        else if (key.IsForgettable)
        {
            agenda.StartTimer(key, agenda.Now + pool.Limits.KeyMemory);
        }
    }

    public void SettleAll()
    {
        // All waiters compete for places and permits before any key is served by itself.
        foreach (var key in table.Keys)
        {
            if (key.Queue.Count > 0)
            {
                waitLists.ParkAll(key);
                needs.Update(key);
            }
        }

        ServeParked();
        foreach (var key in table.Keys)
        {
            Settle(key);
        }
    }

    /// <summary>
    /// Gives a place that limits over all keys had blocked to the next waiter over all keys, not to the key that happened to free it.
    /// </summary>
    public void ServeParked()
    {
        while (turns.FindNextParked() is { } lane)
        {
            if (turns.TryServe(lane.Key, lane))
            {
                continue;
            }

            if (!admission.IsOpen(lane.Budget))
            {
                // Do not settle the key here: it is not the turn of its other lanes.
                lane.SetParked(false);
                budgets.AwaitOpening(lane.Key);
                continue;
            }

            // The key has no connection that could use the place. Dial one; the next lane in line may be quicker.
            lane.SetParked(false);
            Settle(lane.Key);
        }
    }

    public void ServeReopened()
    {
        while (budgets.TakeReopened() is { } budget)
        {
            // The budget may admit fewer calls than wait. Its keys compete; otherwise the first would take everything each time.
            var keys = budget.Keys.ToArray();
            if (keys.Length > 1)
            {
                foreach (var key in keys)
                {
                    waitLists.ParkAll(key);
                }
            }

            ServeParked();
            foreach (var key in keys)
            {
                Settle(key);
            }
        }
    }

    /// <summary>A tenant is below its limit again. Serves its waiters on other keys, in the order of arrival.</summary>
    public void ServeUnblocked()
    {
        foreach (var key in waitLists.TakeUnblocked())
        {
            Settle(key);
        }
    }

    /// <summary>Permits have changed hands, so a key that only reserves had blocked may carry more now.</summary>
    public void ServeReserved()
    {
        while (waitLists.HasReserved && _roomSeen != ledger.CapacityVersion)
        {
            _roomSeen = ledger.CapacityVersion;
            foreach (var key in waitLists.TakeReserved())
            {
                Settle(key);
            }
        }

        _roomSeen = ledger.CapacityVersion;
    }
}
