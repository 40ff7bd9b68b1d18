using Warmline.Options;

namespace Warmline.Scheduling;

/// <summary>Picks the next waiter among those that may be served: its lane, its tenant and its connection.</summary>
internal sealed class Turns(
    Agenda agenda, PoolState pool, KeyTable table, SharingLedger sharing, Admission admission, IdleConnections idling,
    Leasing leases)
{
    /// <summary>Serves the next waiter of the key, or of one of its lanes that the limits over all keys admit.</summary>
    public bool TryServe(KeyState key, LaneQueue? lane = null)
    {
        if (key.Queue.Eligible == 0 || key.Available.Count == 0 || pool.IsPaused(key))
        {
            return false;
        }

        var next = lane is null ? FindNextLane(key) : admission.KeyAdmits(lane) && admission.IsOpen(lane.Budget) ? lane : null;
        if (next is null || FindNextWaiter(next) is not { } waiter
            || idling.FindUsable(key) is not { } connection || DelaysBurst(key, connection))
        {
            return false;
        }

        leases.Leave(waiter);
        leases.Grant(waiter, connection);
        return true;
    }

    /// <summary>
    /// In a cold burst one dial finishes first. If it took every waiting call it would be full, and the connections that open
    /// milliseconds later would stay empty. So it takes only its share, and the rest of the burst waits briefly for the other dials, but
    /// never for one that stalls.
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

    /// <summary>Finds the lane of the key that goes next; null when none may.</summary>
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

    /// <summary>
    /// Finds the next waiter of the lane: the most urgent call on the key of the tenant whose turn it is. It may wait for another budget.
    /// </summary>
    Waiter? FindNextWaiter(LaneQueue lane)
    {
        var next = lane.FindNext();
        if (next is null || !lane.Key.Queue.HasBudgets)
        {
            return next;
        }

        foreach (var (other, queue) in next.Share.Queues)
        {
            if (other.Key == lane.Key && queue.Head is { } head
                && (head.Priority != next.Priority ? head.Priority > next.Priority : head.Sequence < next.Sequence)
                && admission.IsOpen(other.Budget))
            {
                next = head;
            }
        }

        return next;
    }

    /// <summary>Finds the first parked lane. One that is first only because its order is out of date is moved back.</summary>
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

    /// <summary>Lanes, tenants or weights have changed: rebuilds every order.</summary>
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
