using Warmline.Options;

namespace Warmline.Scheduling;

/// <summary>Who goes next of those that may.</summary>
internal sealed class Turns(Agenda agenda, PoolState pool, KeyTable table, SharingLedger sharing, Admission admission, IdleConnections idling, Leases leases)
{
    /// <summary>Serves who is next on the key, or in one lane of it whom the limits over all keys let go.</summary>
    public bool TryServe(KeyState key, LaneQueue? lane = null)
    {
        if (key.Queue.Eligible == 0 || key.Available.Count == 0 || pool.IsPaused(key))
        {
            return false;
        }

        return (lane is null ? FindNextLane(key) : admission.KeyAdmits(lane) && admission.IsOpen(lane.Budget) ? lane : null) is { } next && FindNextWaiter(next) is { } waiter && idling.FindUsable(key) is { } connection && !DelaysBurst(key, connection) && Serve(waiter, connection);
    }

    bool Serve(Waiter waiter, ConnectionState connection)
    {
        leases.Leave(waiter);
        leases.Grant(waiter, connection);
        return true;
    }

    /// <summary>
    /// Of a cold burst's dials one is through first. Given all that it may carry, it would be crowded and the others, milliseconds later, empty: it gets its share,
    /// and the rest of the burst waits for the others a little, never for one that stalls.
    /// </summary>
    public bool DelaysBurst(KeyState key, ConnectionState leastLoaded)
    {
        if (agenda.Now >= key.SpreadUntil || key.Coming == 0)
        {
            return false;
        }

        var connections = key.Usable + key.Dialing;
        var share = (key.Streams + key.Queue.Eligible + connections - 1) / connections;
        return leastLoaded.Streams >= Math.Max(share, pool.Limits.TargetStreams);
    }

    /// <summary>The lane of the key that goes next; null when none may.</summary>
    LaneQueue? FindNextLane(KeyState key)
    {
        LaneQueue? next = null;
        foreach (var lane in key.Queue.Lanes)
        {
            if (lane.Eligible > 0 && admission.Admits(lane) && (next is null || lane.Before(next)))
            {
                next = lane;
            }
        }

        return next;
    }

    /// <summary>Who goes next of the lane: of the tenant whose turn it is the most urgent call on the key, which may wait for another budget.</summary>
    Waiter? FindNextWaiter(LaneQueue lane)
    {
        var next = lane.FindNext();
        if (next is null || !lane.Key.Queue.HasBudgets)
        {
            return next;
        }

        foreach (var (other, queue) in next.Share.Queues)
        {
            if (other.Key == lane.Key && queue.Head is { } head && (head.Priority != next.Priority ? head.Priority > next.Priority : head.Sequence < next.Sequence) && admission.IsOpen(other.Budget))
            {
                next = head;
            }
        }

        return next;
    }

    /// <summary>The lane on the key that goes next: one that is first only because it was not looked at since gives way to the next.</summary>
    static LaneQueue FindFirstParked(LaneState lane)
    {
        while (true)
        {
            var first = lane.Parked.First!;
            first.FindNext();
            if (lane.Parked.First == first)
            {
                return first;
            }
        }
    }

    public LaneQueue? FindNextParked()
    {
        LaneQueue? next = null;
        foreach (var lane in sharing.Lanes)
        {
            if (lane.Parked.Count > 0 && admission.PoolAdmits(lane))
            {
                var first = FindFirstParked(lane);
                next = next is null || first.Before(next) ? first : next;
            }
        }

        return next;
    }

    /// <summary>New lanes, tenants or weights: every order is made anew.</summary>
    public void SharingChanged(SharingSettings settings)
    {
        foreach (var key in table.Keys)
        {
            WaitLists.UnparkAll(key);
        }

        var waiting = sharing.Tenants.SelectMany(static tenant => tenant.Shares).SelectMany(static share => share.Queues).ToArray();
        foreach (var (lane, queue) in waiting)
        {
            lane.TakeOut(queue);
        }

        sharing.Configure(settings);
        foreach (var (lane, queue) in waiting)
        {
            lane.Refresh(queue);
        }

        foreach (var key in table.Keys)
        {
            key.Queue.Lanes.RemoveAll(lane => !sharing.Knows(lane.Lane));   // no lease and no waiter refers to it
        }
    }
}
