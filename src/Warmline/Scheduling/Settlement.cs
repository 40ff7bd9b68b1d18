namespace Warmline.Scheduling;

/// <summary>The end of every event: serve who can be served, open what is missing.</summary>
internal sealed class Settlement(Agenda agenda, PoolState pool, KeyTable table, PermitLedger ledger, Admission admission, WaitLists waitLists, Pacing pacing, Turns turns, Hedging hedging, Growth growth, WarmGoals warmth, PermitNeeds needs)
{
    long _roomSeen;

    /// <summary>Serves who can be served, opens what is missing, notes what the rest waits for.</summary>
    public void Settle(KeyState key)
    {
        while (turns.TryServe(key))
        {
        }

        WaitLists.UnparkAll(key);
        Hedging.EndStruggle(key);
        growth.Grow(key);
        hedging.GiveUpSilent(key);
        pacing.AwaitOpening(key);
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
        // All that wait compete, for places as for permits, before any key is served by itself.
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

    /// <summary>A place that limits over all keys had held back goes to whoever is next over all keys, not to the key that happened to free it.</summary>
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
                // Others of its key must not go by that: it is not their turn.
                lane.SetParked(false);
                pacing.AwaitOpening(lane.Key);
                continue;
            }

            // It has no connection that could use the place: it gets one dialled, and the next in line may be quicker.
            lane.SetParked(false);
            Settle(lane.Key);
        }
    }

    public void ServeReopened()
    {
        while (pacing.TakeReopened() is { } budget)
        {
            // What it lets through may be less than waits: its keys compete, or the first would take all of it each time.
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

    /// <summary>A tenant is below its limit again: its waiters on other keys may go, who came first before others.</summary>
    public void ServeUnblocked()
    {
        foreach (var key in waitLists.TakeUnblocked())
        {
            Settle(key);
        }
    }

    /// <summary>Permits have moved: a key that only reserves held back may carry more by that.</summary>
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
