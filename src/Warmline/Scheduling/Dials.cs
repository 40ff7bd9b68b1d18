namespace Warmline.Scheduling;

/// <summary>Starts dials.</summary>
internal sealed class Dials(Agenda agenda, PoolState pool, PermitLedger ledger, PermitNeeds needs, Capacity capacities)
{
    long _connectionIds;

    public void DialMore(KeyState key, int count, bool owesFirstUse)
    {
        for (; count > 0 && key.Dialing < pool.Limits.MaxDialsInFlight && capacities.HasFree(key); count--)
        {
            Dial(key, owesFirstUse);
        }
    }

    public void Dial(KeyState key, bool owesFirstUse)
    {
        var connection = new ConnectionState(++_connectionIds, key)
        {
            DialStartedAt = agenda.Now, ConnectStartedAt = agenda.Now, AdvancedAt = agenda.Now, DialSequence = pool.LastSequence, SilentBefore = key.SilentInRow, OwesFirstUse = owesFirstUse,
            IsHttp1Only = Fallback.AvoidsHttp2(key, agenda.Now),
        };
        key.Add(connection);
        ledger.Count(connection, +1);
        ledger.Moves++;
        agenda.Add(new SchedulerAction(ActionKind.Dial, connection, Advice: key.Expiry.Dialed(owesFirstUse, pool.Limits, agenda.Now)));
        needs.NoteFull(key.Origin);
        needs.NoteFull(key.Partition);
    }
}
