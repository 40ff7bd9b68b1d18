namespace Warmline.Scheduling;

/// <summary>
/// Decides which waiters may get a lease: every limit over keys, lanes, tenants and providers. Also says which resource a waiter lacks.
/// </summary>
internal sealed class Admission(Agenda agenda, PoolState pool, KeyTable table, SharingLedger sharing, Capacity capacities)
{
    public bool MayGrant(Waiter waiter) => waiter.Share.Tenant.Room > 0 && !pool.IsPaused(waiter.Key!) && IsOpen(waiter.Budget)
        && Admits(waiter.Lane);

    public bool Admits(LaneQueue lane) => PoolAdmits(lane.Lane) && KeyAdmits(lane) && IsOpen(lane.Budget);

    /// <summary>Whether the limits over all keys admit one more call of the lane.</summary>
    public bool PoolAdmits(LaneState lane)
    {
        var most = pool.Limits.MaxConcurrentRequests;
        if (pool.Leases >= most || lane.Leases >= lane.Settings.Ceiling)
        {
            return false;
        }

        return !sharing.HasReserves || most == int.MaxValue || lane.Leases < sharing.Reserved(lane, most)
            || pool.Leases + Unfilled(most) < most;
    }

    /// <summary>Whether the reserves of other lanes on the key admit one more call of the lane.</summary>
    public bool KeyAdmits(LaneQueue lane)
    {
        if (!sharing.HasReserves)
        {
            return true;
        }

        var capacity = capacities.ExpectedOf(lane.Key);
        return lane.Key.Queue.StreamsOf(lane.Lane) < sharing.Reserved(lane.Lane, capacity)
            || lane.Key.Streams + Unfilled(lane.Key, capacity) < capacity;
    }

    /// <summary>The unused part of all reserves, over all keys.</summary>
    long Unfilled(long capacity)
    {
        long unfilled = 0;
        foreach (var lane in sharing.Reserving)
        {
            unfilled += Math.Max(0, sharing.Reserved(lane, capacity) - lane.Leases);
        }

        return unfilled;
    }

    /// <summary>The unused part of all reserves on one key.</summary>
    long Unfilled(KeyState key, long capacity)
    {
        long unfilled = 0;
        foreach (var lane in sharing.Reserving)
        {
            unfilled += Math.Max(0, sharing.Reserved(lane, capacity) - key.Queue.StreamsOf(lane));
        }

        return unfilled;
    }

    /// <summary>
    /// Number of waiters that limits and reserves would admit if there were enough connections. Below zero after a limit was lowered.
    /// </summary>
    public int Grantable(KeyState key)
    {
        var free = pool.Limits.MaxConcurrentRequests - pool.Leases;
        if ((!sharing.HasLanes && !key.Queue.HasBudgets) || key.Queue.Eligible == 0)
        {
            return Math.Min(key.Queue.Eligible, free);
        }

        // Several lanes may wait for one budget, and one lane for several budgets. What a lane or a budget admits must count once.
        foreach (var lane in key.Queue.Lanes)
        {
            lane.Lane.Allotted = 0;
            lane.Budget?.Allotted = 0;
        }

        long own = 0, shared = 0, capacity = sharing.HasReserves ? capacities.ExpectedOf(key) : long.MaxValue;
        foreach (var lane in key.Queue.Lanes)
        {
            if (lane.Eligible > 0 && Admits(lane))
            {
                var most = Math.Min(lane.Eligible, lane.Lane.Settings.Ceiling - lane.Lane.Leases - lane.Lane.Allotted);
                if (lane.Budget is { } budget)
                {
                    most = Math.Min(most, budget.Rules.Left(agenda.Now) - budget.Allotted);
                    budget.Allotted += most;
                }

                var reserved = sharing.HasReserves
                    ? Math.Clamp(sharing.Reserved(lane.Lane, capacity) - key.Queue.StreamsOf(lane.Lane) - lane.Lane.Allotted, 0, most) : 0;
                lane.Lane.Allotted += most;
                own += reserved;
                shared += most - reserved;
            }
        }

        var room = sharing.HasReserves ? Math.Max(0, capacity - key.Streams - Unfilled(key, capacity)) : shared;
        return (int)Math.Min(own + Math.Min(shared, room), free);
    }

    public bool IsOpen(BudgetState? budget) => budget is null || budget.Rules.IsOpen(agenda.Now);

    public bool MayDial(KeyState key) => !pool.IsDraining && !pool.IsPaused(key) && key.BackOffUntil <= agenda.Now;

    /// <summary>The reason to refuse the waiter at once: no lease that ends could help it in time, or the queue is full.</summary>
    public PoolRejectionReason RefusalOf(Waiter waiter)
    {
        var (key, lane, tenant) = (waiter.Key!, waiter.Share.Lane, waiter.Share.Tenant);
        return tenant.Limits.MaxConcurrentRequests == 0 ? PoolRejectionReason.TenantLimit
            : lane.Settings.Ceiling == 0 ? PoolRejectionReason.LaneCeiling
            : key.IsStarving && key.BackOffUntil > waiter.Deadline ? PoolRejectionReason.BackOff
            : pool.PausedUntil > waiter.Deadline || key.Origin.PausedUntil > waiter.Deadline ? PoolRejectionReason.Paused
            : waiter.Budget is { } budget && budget.Rules.OpensAt(agenda.Now) is var opens
                && opens > waiter.Deadline && opens < TimeSpan.MaxValue ? PoolRejectionReason.ProviderLimit
            : pool.Waiting >= pool.Limits.MaxQueueLength ? PoolRejectionReason.QueueFull
            : lane.Waiting >= lane.Settings.MaxQueueLength ? PoolRejectionReason.LaneQueueFull
            : tenant.Waiting >= tenant.Limits.MaxQueueLength ? PoolRejectionReason.TenantQueueFull
            : PoolRejectionReason.None;
    }

    /// <summary>The resource that a waiter lacks right now.</summary>
    public PoolRejectionReason ReasonFor(Waiter waiter)
    {
        var key = waiter.Key!;
        return pool.IsDraining ? PoolRejectionReason.Draining
            : pool.IsPaused(key) ? PoolRejectionReason.Paused
            : SharingReasonFor(waiter) is not PoolRejectionReason.None and var reason ? reason
            : key.Wish.Queue is { } lacking ? LackReasonFor(key, lacking)
            : key.Due == key.BackOffUntil && key.Dialing == 0 ? PoolRejectionReason.BackOff
            : key.Dialing + key.AwaitingSettings > 0 ? PoolRejectionReason.Dialing
            : key.Usable > 0 && key.StreamsPerConnection(pool.Limits) == 0 ? PoolRejectionReason.StreamLimit
            : KeyAdmits(waiter.Lane) ? PoolRejectionReason.None
            : LackReasonFor(key, capacities.LackOf(key));   // a key whose whole capacity is in use asks for no permit
    }

    /// <summary>The limit of a lane, tenant or provider that blocks a waiter right now.</summary>
    PoolRejectionReason SharingReasonFor(Waiter waiter)
    {
        var lane = waiter.Share.Lane;
        return !IsOpen(waiter.Budget) ? PoolRejectionReason.ProviderLimit
            : waiter.Share.Tenant.Room == 0 ? PoolRejectionReason.TenantLimit
            : lane.Leases >= lane.Settings.Ceiling ? PoolRejectionReason.LaneCeiling
            : pool.Leases >= pool.Limits.MaxConcurrentRequests ? PoolRejectionReason.MaxConcurrentRequests
            : !PoolAdmits(lane) ? PoolRejectionReason.LaneReserve
            : !KeyAdmits(waiter.Lane) && waiter.Key!.Streams < capacities.ExpectedOf(waiter.Key) ? PoolRejectionReason.LaneReserve
            : PoolRejectionReason.None;
    }

    static PoolRejectionReason LackReasonFor(KeyState key, PermitQueue lacking) =>
        lacking == key.Origin.Wanting ? PoolRejectionReason.MaxConnectionsPerHost
        : lacking == key.Partition?.Wanting ? PoolRejectionReason.TenantConnections
        : PoolRejectionReason.MaxConnections;

    /// <summary>Number of leases that a lane could still get, within limits and reserves, on the key with the most room.</summary>
    public long Available(LaneState lane)
    {
        var most = pool.Limits.MaxConcurrentRequests;
        var ofPool = most == int.MaxValue ? long.MaxValue
            : Math.Max(0, sharing.Reserved(lane, most) - lane.Leases) + Math.Max(0, most - pool.Leases - Unfilled(most));
        long? ofKeys = null;
        foreach (var key in table.Keys)
        {
            var capacity = capacities.Of(key);
            var room = Math.Max(0, sharing.Reserved(lane, capacity) - key.Queue.StreamsOf(lane))
                + Math.Max(0, capacity - key.Streams - Unfilled(key, capacity));
            ofKeys = Math.Max(ofKeys ?? 0, room);
        }

        var left = Math.Min(most - (long)pool.Leases, lane.Settings.Ceiling - (long)lane.Leases);
        return Math.Max(0, Math.Min(Math.Min(ofPool, ofKeys ?? long.MaxValue), left));
    }
}
