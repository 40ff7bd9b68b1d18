using System.Diagnostics;

namespace Warmline.Scheduling;

/// <summary>Turns a waiter into a lease, and ends either of them.</summary>
internal sealed class Leasing(
    Agenda agenda, PoolState pool, PermitLedger ledger, SharingLedger sharing, Capacity capacities, WaitLists waitLists,
    ProviderBudgets budgets)
{
    long _uses;

    public void Leave(Waiter waiter)
    {
        waiter.Key!.Queue.Remove(waiter);
        waiter.State = WaiterState.Ended;
        agenda.StopTimer(waiter);
        pool.Waiting--;
    }

    public void Refuse(Waiter waiter, RefusalKind kind, PoolRejectionReason reason, Exception? error = null)
    {
        waiter.State = WaiterState.Ended;
        pool.Facts.Refusals++;
        pool.RefusedBy.Add(reason);
        waiter.Share.Lane.Facts.Refusals++;
        waiter.Share.Tenant.Facts.Refusals++;
        sharing.TrackIdle(waiter.Share.Tenant);
        agenda.Add(new SchedulerAction(ActionKind.Refuse, waiter, kind, reason, error));
    }

    public void Grant(Waiter waiter, ConnectionState connection)
    {
        Debug.Assert(connection.CanTakeStream, connection.ToString());
        var key = connection.Key;
        if (connection.IsListedIdle)
        {
            connection.IdleBefore = agenda.Now - connection.IdleSince;
            connection.UsedSince = agenda.Now;
            connection.HasSuccessor = false;   // its idle time starts again
            ledger.UnlistIdle(connection);
        }

        // Until one exchange has succeeded, every stream on this connection shares the doubt whether it is still alive.
        waiter.Rested = agenda.Now - connection.UsedSince < IdleLimit.Moment ? connection.IdleBefore : TimeSpan.Zero;
        ledger.Count(connection, -1);
        connection.Streams++;
        connection.UploadBytes += waiter.UploadBytes;
        connection.LastUse = ++_uses;
        ledger.Count(connection, +1);
        waiter.WeighingBytes = waiter.UploadBytes;
        waiter.Connection = connection;
        waiter.State = WaiterState.Leased;
        waiter.GrantedAt = agenda.Now;
        waiter.Reused = !(connection.DialedForWaiter && waiter.AskedAt <= connection.OpenedAt);
        connection.DialedForWaiter = false;
        connection.AddLease(waiter);
        Lifecycle.RefreshAvailability(connection);
        pool.Leases++;
        key.Leases++;
        waiter.Lane.Streams++;
        Count(waiter.Share, +1);
        budgets.StartPaced(waiter);
        sharing.TrackIdle(waiter.Share.Tenant);
        waiter.Share.Lane.Facts.CountGrant(waiter, waiter.Share.Lane.Leases);
        waiter.Share.Tenant.Facts.CountGrant(waiter, waiter.Share.Tenant.Leases);
        pool.Facts.CountGrant(waiter, pool.Leases);
        key.Facts.CountGrant(waiter, key.Leases);
        waiter.WasGranted = true;
        agenda.Add(new SchedulerAction(ActionKind.Grant, waiter));
        WarnWhenFull(key);
    }

    /// <summary>The stream has ended, and the lease with it.</summary>
    public void EndLease(Waiter waiter, LeaseOutcome outcome)
    {
        var connection = waiter.Connection!;
        var key = connection.Key;
        ledger.Count(connection, -1);
        connection.Streams--;
        connection.UploadBytes -= waiter.WeighingBytes;
        if (outcome is LeaseOutcome.Reusable)
        {
            connection.Served = true;
            key.ProbationUntil = TimeSpan.MinValue;
        }

        ledger.Count(connection, +1);
        if (outcome is LeaseOutcome.Reusable && connection.IdleBefore > TimeSpan.Zero)
        {
            key.IdleLimit.Lasted(connection.IdleBefore, agenda.Now, pool.Limits.IdleMemory);
            connection.IdleBefore = TimeSpan.Zero;
        }

        connection.RemoveLease(waiter);
        waiter.WeighingBytes = 0;
        if (outcome is not (LeaseOutcome.NotSent or LeaseOutcome.Unanswered))
        {
            pool.Facts.CountLease(agenda.Now - waiter.GrantedAt);
        }

        pool.Leases--;
        key.Leases--;
        waiter.Lane.Streams -= connection.IsUsable ? 1 : 0;
        Count(waiter.Share, -1);
        budgets.EndPaced(waiter, outcome);
        waiter.State = WaiterState.Ended;
    }

    public void PlaceAgain(Waiter waiter)
    {
        waiter.Connection = null;
        waiter.State = WaiterState.Waiting;
        waiter.Key!.Queue.Add(waiter);
        pool.Waiting++;
        agenda.StartTimer(waiter, waiter.Deadline);
    }

    void WarnWhenFull(KeyState key)
    {
        if (key.HasWarned)
        {
            return;
        }

        // Before SETTINGS a connection counts as one stream. It may look full only because it is new.
        var (active, limit) = capacities.Utilization(key);
        if (active * 5L > limit * 4 && (key.AwaitingSettings == 0 || limit == pool.Limits.MaxConcurrentRequests))
        {
            key.HasWarned = true;
            agenda.Add(new SchedulerAction(ActionKind.UtilizationHigh, key, Active: active, Limit: (int)Math.Min(int.MaxValue, limit)));
        }
    }

    /// <summary>
    /// A lease begins (+1) or ends (-1) for a tenant. Its queues move up at once, or are moved back when they become first. At its limit
    /// the tenant leaves the order.
    /// </summary>
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
                    waitLists.AddUnblocked(lane.Key);
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
}
