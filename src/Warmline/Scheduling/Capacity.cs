namespace Warmline.Scheduling;

/// <summary>How many streams a key can carry, and which permits it could get.</summary>
internal sealed class Capacity(PoolState pool, PermitLedger ledger)
{
    /// <summary>
    /// Number of streams a key can have: on its open connections, on those being dialled, and on those it could still open.
    /// </summary>
    public long Of(KeyState key)
    {
        var isUnknown = key.SpeaksHttp2 is null || (key.SpeaksHttp2 is true && key.AdvertisedLimit is null);
        return key.OpenCapacity + ((key.Dialing + (long)Obtainable(key)) * (isUnknown ? 1 : key.StreamsPerConnection(pool.Limits)));
    }

    /// <summary>
    /// The capacity that the key's waiters can expect. A key without a connection gets one in the end, and streams above a limit that the
    /// server lowered take nothing from other connections.
    /// </summary>
    public long ExpectedOf(KeyState key) => Math.Max(Of(key) + key.Excess, key.IsStarving ? 1 : 0);

    /// <summary>
    /// The leases and the limit that they are closest to: the key's capacity, or MaxConcurrentRequests. Streams on draining connections
    /// count in neither.
    /// </summary>
    public (int Active, long Limit) Utilization(KeyState key)
    {
        var capacity = Of(key);
        return pool.Leases * capacity > key.Streams * (long)pool.Limits.MaxConcurrentRequests
            ? (pool.Leases, pool.Limits.MaxConcurrentRequests) : (key.Streams, capacity);
    }

    /// <summary>Number of permits a key could get: the free ones and those of other keys' idle connections.</summary>
    int Obtainable(KeyState key)
    {
        var obtainable = Math.Min(Of(ledger, pool.Limits.MaxConnections), Of(key.Origin, LimitOf(key.Origin)));
        return Math.Max(0, key.Partition is { } partition ? Math.Min(obtainable, Of(partition, LimitOf(partition))) : obtainable);

        int Of(PermitCount permits, int limit) => limit - permits.InUse + permits.Idle - key.Idle;
    }

    /// <summary>Whether an unused lease could move to another connection of its key.</summary>
    public bool CanMove(Waiter waiter) => waiter is { State: WaiterState.Leased, Connection: { } connection, Key: { } key }
        && (key.Dialing > 0 || key.Available.Count > (connection.CanTakeStream ? 1 : 0) || Obtainable(key) > 0);

    public bool HasFree(KeyState key) =>
        ledger.InUse < pool.Limits.MaxConnections && key.Origin.InUse < LimitOf(key.Origin)
        && (key.Partition is null || key.Partition.InUse < LimitOf(key.Partition));

    /// <summary>The limit that keeps the key from a permit: its origin's, its tenant's or the pool's.</summary>
    public PermitQueue LackOf(KeyState key) => key.Origin.InUse >= LimitOf(key.Origin) ? key.Origin.Wanting
        : key.Partition is { } partition && partition.InUse >= LimitOf(partition) ? partition.Wanting
        : ledger.Wanting;

    public int LimitOf(PermitGroup group) =>
        group is OriginState ? pool.Limits.MaxConnectionsPerHost : pool.Limits.Sharing.LimitsOf(group.Name).MaxConnections;
}
