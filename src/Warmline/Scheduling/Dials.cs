namespace Warmline.Scheduling;

/// <summary>Starts dials, within the limits.</summary>
internal sealed class Dials(Agenda agenda, PoolState pool, PermitLedger ledger, PermitNeeds needs, Capacity capacities)
{
    long _connectionIds;

    public void DialMore(KeyState key, int count, bool forWaiter)
    {
        for (; count > 0 && key.Dialing < pool.Limits.MaxDialsInFlight && capacities.HasFree(key); count--)
        {
            Dial(key, forWaiter);
        }
    }

    public void Dial(KeyState key, bool forWaiter)
    {
        var connection = new ConnectionState(++_connectionIds, key)
        {
            DialStartedAt = agenda.Now,
            ConnectStartedAt = agenda.Now,
            AdvancedAt = agenda.Now,
            DialSequence = pool.LastSequence,
            SilentBefore = key.Hedge.SilentInRow,
            DialedForWaiter = forWaiter,
            IsHttp1Only = Fallback.AvoidsHttp2(key, agenda.Now),
        };
        key.Add(connection);
        ledger.Count(connection, +1);
        ledger.CapacityVersion++;
        agenda.Add(new SchedulerAction(ActionKind.Dial, connection, Advice: key.Expiry.Dialed(forWaiter, pool.Limits, agenda.Now)));
        needs.UpdateIfFull(key.Origin);
        needs.UpdateIfFull(key.Partition);
    }
}
