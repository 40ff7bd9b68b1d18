namespace Warmline.Scheduling;

/// <summary>What a key can carry, and which permits it could have.</summary>
internal sealed class Capacity(PoolState pool, PermitLedger ledger)
{
    /// <summary>Streams that a key can have: on its open connections, on those being opened, and on those that it could still open.</summary>
    public long Of(KeyState key) =>
        key.OpenCapacity + ((key.Dialing + (long)Obtainable(key)) * (key.SpeaksHttp2 is null || (key.SpeaksHttp2 is true && key.AdvertisedLimit is null) ? 1 : key.StreamsPerConnection(pool.Limits)));

    /// <summary>The capacity that the key's waiters may hope for: a key without a connection gets one in the end, and streams beyond a limit that the server lowered take nothing from other connections.</summary>
    public long ExpectedOf(KeyState key) => Math.Max(Of(key) + key.Excess, key.IsStarving ? 1 : 0);

    /// <summary>Leases and the limit that they come closest to: the key's capacity, or MaxConcurrentRequests. What still runs on draining connections is in neither.</summary>
    public (int Active, long Limit) Utilization(KeyState key)
    {
        var capacity = Of(key);
        return pool.Leases * capacity > key.Streams * (long)pool.Limits.MaxConcurrentRequests ? (pool.Leases, pool.Limits.MaxConcurrentRequests) : (key.Streams, capacity);
    }

    /// <summary>Permits that a key could have: the free ones and those of other keys' idle connections.</summary>
    int Obtainable(KeyState key)
    {
        var obtainable = Math.Min(Of(ledger, pool.Limits.MaxConnections), Of(key.Origin, LimitOf(key.Origin)));
        return Math.Max(0, key.Partition is { } partition ? Math.Min(obtainable, Of(partition, LimitOf(partition))) : obtainable);

        int Of(PermitCount permits, int limit) => limit - permits.InUse + permits.Idle - key.Idle;
    }

    /// <summary>Whether a lease that has not been used could be had on another connection of its key.</summary>
    public bool CanMove(Waiter waiter) => waiter is { State: WaiterState.Leased, Connection: { } connection, Key: { } key }
        && (key.Dialing > 0 || key.Available.Count > (connection.CanTakeStream ? 1 : 0) || Obtainable(key) > 0);

    public bool HasFree(KeyState key) => ledger.InUse < pool.Limits.MaxConnections && key.Origin.InUse < LimitOf(key.Origin) && (key.Partition is null || key.Partition.InUse < LimitOf(key.Partition));

    /// <summary>Whose permits the key lacks when it cannot have one: its origin's, its tenant's or the pool's.</summary>
    public PermitQueue LackOf(KeyState key) => key.Origin.InUse >= LimitOf(key.Origin) ? key.Origin.Wanting
        : key.Partition is { } partition && partition.InUse >= LimitOf(partition) ? partition.Wanting
        : ledger.Wanting;

    public int LimitOf(PermitGroup group) => group is OriginState ? pool.Limits.MaxConnectionsPerHost : pool.Limits.Sharing.LimitsOf(group.Name).MaxConnections;
}
