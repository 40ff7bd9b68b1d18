using Warmline.Options;

namespace Warmline.Scheduling;

/// <summary>Who may go: lanes with their reserves and ceilings, tenants with their limits. Who goes next of those that may is the queue's order.</summary>
internal sealed partial class Scheduler
{
    readonly SharingLedger _sharing = new(limits.Sharing);

    /// <summary>Keys with waiters, where there are reserves: how many of them may go depends on what the key can carry, and that on others' permits.</summary>
    readonly List<KeyState> _reserved = [];

    readonly List<KeyState> _unblocked = [];
    long _roomSeen;

    public SharingLedger Sharing => _sharing;

    bool MayGrant(Waiter waiter) => waiter.Share.Tenant.Room > 0 && !IsPaused(waiter.Key!) && IsOpen(waiter.Budget) && Admits(waiter.Lane);

    bool Admits(LaneQueue lane) => PoolAdmits(lane.Lane) && KeyAdmits(lane) && IsOpen(lane.Budget);

    /// <summary>Whether the limits over all keys let one more of the lane go.</summary>
    bool PoolAdmits(LaneState lane)
    {
        var most = _limits.MaxConcurrentRequests;
        if (Leases >= most || lane.Leases >= lane.Settings.Ceiling)
        {
            return false;
        }

        return !_sharing.HasReserves || most == int.MaxValue || lane.Leases < _sharing.Reserved(lane, most) || Leases + Unfilled(most) < most;
    }

    /// <summary>Whether the reserves of other lanes on the key let one more of the lane go.</summary>
    bool KeyAdmits(LaneQueue lane)
    {
        if (!_sharing.HasReserves)
        {
            return true;
        }

        var capacity = Hope(lane.Key);
        return lane.Key.Queue.StreamsOf(lane.Lane) < _sharing.Reserved(lane.Lane, capacity) || lane.Key.Streams + Unfilled(lane.Key, capacity) < capacity;
    }

    /// <summary>What lanes could still take of their reserves, over all keys.</summary>
    long Unfilled(long capacity)
    {
        long unfilled = 0;
        foreach (var lane in _sharing.Reserving)
        {
            unfilled += Math.Max(0, _sharing.Reserved(lane, capacity) - lane.Leases);
        }

        return unfilled;
    }

    /// <summary>What lanes could still take of their reserves on one key.</summary>
    long Unfilled(KeyState key, long capacity)
    {
        long unfilled = 0;
        foreach (var lane in _sharing.Reserving)
        {
            unfilled += Math.Max(0, _sharing.Reserved(lane, capacity) - key.Queue.StreamsOf(lane));
        }

        return unfilled;
    }

    /// <summary>The capacity that the key's waiters may hope for: a key without a connection gets one in the end, and streams beyond a limit that the server lowered take nothing from other connections.</summary>
    long Hope(KeyState key) => Math.Max(Capacity(key) + key.Excess, key.IsStarving ? 1 : 0);

    /// <summary>Waiters that limits and reserves would let ride, if there were connections enough; below zero after a limit was lowered.</summary>
    int Grantable(KeyState key)
    {
        var free = _limits.MaxConcurrentRequests - Leases;
        if ((!_sharing.HasLanes && !key.Queue.HasBudgets) || key.Queue.Eligible == 0)
        {
            return Math.Min(key.Queue.Eligible, free);
        }

        // Lanes may wait for one budget, and one lane for several: what either lets through counts once.
        foreach (var lane in key.Queue.Lanes)
        {
            lane.Lane.Counted = 0;
            lane.Budget?.Counted = 0;
        }

        long own = 0, shared = 0, capacity = _sharing.HasReserves ? Hope(key) : long.MaxValue;
        foreach (var lane in key.Queue.Lanes)
        {
            if (lane.Eligible > 0 && Admits(lane))
            {
                var most = Math.Min(lane.Eligible, lane.Lane.Settings.Ceiling - lane.Lane.Leases - lane.Lane.Counted);
                if (lane.Budget is { } budget)
                {
                    most = Math.Min(most, budget.Rules.Left(_now) - budget.Counted);
                    budget.Counted += most;
                }

                var reserved = _sharing.HasReserves ? Math.Clamp(_sharing.Reserved(lane.Lane, capacity) - key.Queue.StreamsOf(lane.Lane) - lane.Lane.Counted, 0, most) : 0;
                lane.Lane.Counted += most;
                own += reserved;
                shared += most - reserved;
            }
        }

        var room = _sharing.HasReserves ? Math.Max(0, capacity - key.Streams - Unfilled(key, capacity)) : shared;
        return (int)Math.Min(own + Math.Min(shared, room), free);
    }

    /// <summary>The lane of the key that goes next; null when none may.</summary>
    LaneQueue? NextLane(KeyState key)
    {
        LaneQueue? next = null;
        foreach (var lane in key.Queue.Lanes)
        {
            if (lane.Eligible > 0 && Admits(lane) && (next is null || lane.Before(next)))
            {
                next = lane;
            }
        }

        return next;
    }

    /// <summary>Who goes next of the lane: of the tenant whose turn it is the most urgent call on the key, which may wait for another budget.</summary>
    Waiter? NextOf(LaneQueue lane)
    {
        var next = lane.Next;
        if (next is null || !lane.Key.Queue.HasBudgets)
        {
            return next;
        }

        foreach (var (other, queue) in next.Share.Queues)
        {
            if (other.Key == lane.Key && queue.Head is { } head && (head.Priority != next.Priority ? head.Priority > next.Priority : head.Sequence < next.Sequence) && IsOpen(other.Budget))
            {
                next = head;
            }
        }

        return next;
    }

    /// <summary>Notes which lanes of the key wait for a limit over all keys.</summary>
    void NoteHeld(KeyState key)
    {
        if (key.Queue.Eligible == 0 || IsPaused(key))
        {
            return;
        }

        foreach (var lane in key.Queue.Lanes)
        {
            if (lane.Eligible > 0 && !PoolAdmits(lane.Lane) && IsOpen(lane.Budget))
            {
                lane.SetHeld(true);
            }
        }
    }

    /// <summary>All of the key that waits competes with what waits on other keys.</summary>
    void HoldAll(KeyState key)
    {
        if (IsPaused(key))
        {
            return;
        }

        foreach (var lane in key.Queue.Lanes)
        {
            if (lane.Eligible > 0)
            {
                lane.SetHeld(true);
            }
        }
    }

    void HoldUnblocked()
    {
        foreach (var key in _unblocked)
        {
            HoldAll(key);
        }
    }

    static void ReleaseHeld(KeyState key)
    {
        foreach (var lane in key.Queue.Lanes)
        {
            lane.SetHeld(false);
        }
    }

    bool IsAnyHeld()
    {
        foreach (var lane in _sharing.Lanes)
        {
            if (lane.Held.Count > 0)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>The lane on the key that goes next: one that is first only because it was not looked at since gives way to the next.</summary>
    static LaneQueue FirstHeld(LaneState lane)
    {
        while (true)
        {
            var first = lane.Held.First!;
            _ = first.Next;
            if (lane.Held.First == first)
            {
                return first;
            }
        }
    }

    LaneQueue? NextHeld()
    {
        LaneQueue? next = null;
        foreach (var lane in _sharing.Lanes)
        {
            if (lane.Held.Count > 0 && PoolAdmits(lane))
            {
                var first = FirstHeld(lane);
                next = next is null || first.Before(next) ? first : next;
            }
        }

        return next;
    }

    /// <summary>A place that limits over all keys had held back goes to whoever is next over all keys, not to the key that happened to free it.</summary>
    void ServeHeld()
    {
        while (NextHeld() is { } lane)
        {
            if (TryServe(lane.Key, lane))
            {
                continue;
            }

            if (!IsOpen(lane.Budget))
            {
                // Others of its key must not go by that: it is not their turn.
                lane.SetHeld(false);
                NoteClosedBudgets(lane.Key);
                continue;
            }

            // It has no connection that could use the place: it gets one dialled, and the next in line may be quicker.
            lane.SetHeld(false);
            Settle(lane.Key);
        }
    }

    /// <summary>A lease begins (+1) or ends (-1) for a tenant. Where it waits it has to move up, or is looked at when it is first; at its limit it stands aside.</summary>
    void Count(TenantShare share, int sign)
    {
        var tenant = share.Tenant;
        var wasFull = tenant.Room == 0;
        Move(share, sign);
        if (!tenant.IsLimited)
        {
            if (share.Highest > share.Leases)
            {
                foreach (var (lane, queue) in share.Queues)
                {
                    if (queue.IsDue)
                    {
                        lane.Refresh(queue);
                    }
                }

                share.Highest = share.Leases;
            }

            return;
        }

        foreach (var each in tenant.Shares)
        {
            foreach (var (lane, queue) in each.Queues)
            {
                lane.Refresh(queue);
                if (wasFull && queue.Eligible > 0)
                {
                    _unblocked.Add(lane.Key);
                }
            }
        }
    }

    static void Move(TenantShare share, int sign)
    {
        if (sign > 0)
        {
            share.Granted();
        }
        else
        {
            share.Ended();
        }
    }

    /// <summary>A tenant is below its limit again: its waiters on other keys may go, who came first before others.</summary>
    void ServeUnblocked()
    {
        if (_unblocked.Count == 0)
        {
            return;
        }

        var keys = _unblocked.Distinct().OrderBy(static key => key.Queue.First?.Sequence ?? long.MaxValue).ToArray();
        _unblocked.Clear();
        foreach (var key in keys)
        {
            Settle(key);
        }
    }

    /// <summary>Remembers the key while reserves may hold back some of its waiters.</summary>
    void NoteReserved(KeyState key)
    {
        if (_sharing.HasReserves && !key.IsReserved && key.Queue.Eligible > 0 && !IsPaused(key))
        {
            key.IsReserved = true;
            _reserved.Add(key);
        }
    }

    /// <summary>Permits have moved: a key that only reserves held back may carry more by that.</summary>
    void ServeReserved()
    {
        while (_reserved.Count > 0 && _roomSeen != _permits.Moves)
        {
            _roomSeen = _permits.Moves;
            var keys = _reserved.ToArray();
            _reserved.Clear();
            foreach (var key in keys)
            {
                key.IsReserved = false;
            }

            foreach (var key in keys)
            {
                Settle(key);
            }
        }

        _roomSeen = _permits.Moves;
    }

    /// <summary>Why the waiter need not wait: no lease that ends could help it in time, or too many wait already.</summary>
    PoolRejectionReason RefusalOf(Waiter waiter)
    {
        var (key, lane, tenant) = (waiter.Key!, waiter.Share.Lane, waiter.Share.Tenant);
        return tenant.Limits.MaxConcurrentRequests == 0 ? PoolRejectionReason.TenantLimit
            : lane.Settings.Ceiling == 0 ? PoolRejectionReason.LaneCeiling
            : key.IsStarving && key.BackOffUntil > waiter.Deadline ? PoolRejectionReason.BackOff
            : _pausedUntil > waiter.Deadline || key.Origin.PausedUntil > waiter.Deadline ? PoolRejectionReason.Paused
            : waiter.Budget is { } budget && budget.Rules.OpensAt(_now) is var opens && opens > waiter.Deadline && opens < TimeSpan.MaxValue ? PoolRejectionReason.ProviderLimit
            : Waiting >= _limits.MaxQueueLength ? PoolRejectionReason.QueueFull
            : lane.Waiting >= lane.Settings.MaxQueueLength ? PoolRejectionReason.LaneQueueFull
            : tenant.Waiting >= tenant.Limits.MaxQueueLength ? PoolRejectionReason.TenantQueueFull
            : PoolRejectionReason.None;
    }

    /// <summary>What of lanes and tenants a waiter lacks right now.</summary>
    PoolRejectionReason SharingReasonFor(Waiter waiter)
    {
        var lane = waiter.Share.Lane;
        return !IsOpen(waiter.Budget) ? PoolRejectionReason.ProviderLimit
            : waiter.Share.Tenant.Room == 0 ? PoolRejectionReason.TenantLimit
            : lane.Leases >= lane.Settings.Ceiling ? PoolRejectionReason.LaneCeiling
            : Leases >= _limits.MaxConcurrentRequests ? PoolRejectionReason.MaxConcurrentRequests
            : !PoolAdmits(lane) ? PoolRejectionReason.LaneReserve
            : !KeyAdmits(waiter.Lane) && waiter.Key!.Streams < Hope(waiter.Key) ? PoolRejectionReason.LaneReserve
            : PoolRejectionReason.None;
    }

    /// <summary>Leases that a lane could still get: by limits and reserves, and on the key with the most room.</summary>
    public long Available(LaneState lane)
    {
        var most = _limits.MaxConcurrentRequests;
        var ofPool = most == int.MaxValue ? long.MaxValue
            : Math.Max(0, _sharing.Reserved(lane, most) - lane.Leases) + Math.Max(0, most - Leases - Unfilled(most));
        long? ofKeys = null;
        foreach (var key in _keys.Values)
        {
            var capacity = Capacity(key);
            var room = Math.Max(0, _sharing.Reserved(lane, capacity) - key.Queue.StreamsOf(lane)) + Math.Max(0, capacity - key.Streams - Unfilled(key, capacity));
            ofKeys = Math.Max(ofKeys ?? 0, room);
        }

        return Math.Max(0, Math.Min(Math.Min(ofPool, ofKeys ?? long.MaxValue), Math.Min(most - (long)Leases, lane.Settings.Ceiling - (long)lane.Leases)));
    }

    /// <summary>New lanes, tenants or weights: every order is made anew.</summary>
    void SharingChanged(SharingSettings settings)
    {
        foreach (var key in _keys.Values)
        {
            ReleaseHeld(key);
        }

        var waiting = _sharing.Tenants.SelectMany(static tenant => tenant.Shares).SelectMany(static share => share.Queues).ToArray();
        foreach (var (lane, queue) in waiting)
        {
            lane.TakeOut(queue);
        }

        _sharing.Configure(settings);
        foreach (var (lane, queue) in waiting)
        {
            lane.Refresh(queue);
        }

        foreach (var key in _keys.Values)
        {
            key.Queue.Lanes.RemoveAll(lane => !_sharing.Knows(lane.Lane));   // no lease and no waiter refers to it
        }
    }
}
