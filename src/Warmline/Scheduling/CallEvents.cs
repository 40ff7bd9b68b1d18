namespace Warmline.Scheduling;

/// <summary>How calls come, wait, ride and go.</summary>
internal sealed class CallEvents(Agenda agenda, PoolState pool, SharingLedger sharing, Capacity capacities, Admission admission, Lifecycle lifecycle, IdleConnections idling, WaitLists waitLists, Pacing pacing, Leases leases, Turns turns, Growth growth, Settlement settlement, FailedDials failures, Retirement retirement)
{
    public void Acquire(Waiter waiter, KeyState key)
    {
        waiter.Key = key;
        waiter.AskedAt = agenda.Now;
        waiter.Sequence = pool.NextSequence();
        key.Facts.Requests++;
        pool.Facts.Requests++;
        var share = waiter.Share = sharing.ShareOf(waiter.LaneName, waiter.TenantName);
        share.CatchUp();
        share.Lane.Facts.Requests++;
        share.Tenant.Facts.Requests++;
        waiter.Lane = key.Queue.LaneOf(share.Lane);
        waiter.Budget = waiter.BudgetKey is { } budget ? pacing.BudgetFor(budget) : null;
        pacing.ReopenDue(key);
        settlement.ServeReopened();
        while (turns.TryServe(key))
        {
            // A burst that was held back may go by now, and came before.
        }

        if (pool.IsDraining)
        {
            leases.Refuse(waiter, RefusalKind.Rejected, PoolRejectionReason.Draining);
        }
        else if (admission.MayGrant(waiter) && idling.FindUsable(key) is { } connection && (key.Queue.Count == 0 || !turns.DelaysBurst(key, connection)))
        {
            // Others may wait and be overtaken, but only those who may not go: else the place would not be free.
            leases.Grant(waiter, connection);
            growth.Spread(key);
            if (key.WarmGoal > key.ReadyOrComing)
            {
                growth.Grow(key);   // one that had been idle for too long was closed on the way
            }
        }
        else if (admission.RefusalOf(waiter) is not PoolRejectionReason.None and var reason)
        {
            leases.Refuse(waiter, RefusalKind.Rejected, reason);
        }
        else
        {
            waiter.State = WaiterState.Waiting;
            key.Queue.Add(waiter);
            sharing.TrackIdle(share.Tenant);
            pool.Waiting++;
            agenda.StartTimer(waiter, waiter.Deadline);
            settlement.Settle(key);
        }
    }

    /// <summary>The caller gave up. A waiter leaves the queue and takes nothing; a lease is not touched: its holder releases it.</summary>
    public void Cancel(Waiter waiter)
    {
        leases.Leave(waiter);
        sharing.TrackIdle(waiter.Share.Tenant);
        settlement.Settle(waiter.Key!);
    }

    /// <summary>Both bodies have ended. After <see cref="LeaseOutcome.NotSent"/> and <see cref="LeaseOutcome.Unanswered"/> the waiter's state tells whether it waits again or has used up its tries.</summary>
    public void Release(Waiter waiter, LeaseOutcome outcome)
    {
        var connection = waiter.Connection!;
        var isRepeated = outcome is LeaseOutcome.NotSent or LeaseOutcome.Unanswered;
        if (isRepeated && waiter.Redispatches > 0)
        {
            failures.CheckEarlyDeath(connection);   // once may be a coincidence
        }

        leases.EndLease(waiter, outcome);
        if (isRepeated && waiter.Redispatches < pool.Limits.MaxRedispatches && !pool.IsDraining && agenda.Now < waiter.Deadline)
        {
            waiter.Redispatches++;
            leases.PlaceAgain(waiter);
        }

        sharing.TrackIdle(waiter.Share.Tenant);
        Released(connection, keep: outcome is LeaseOutcome.Reusable or LeaseOutcome.Unused);
    }

    /// <summary>
    /// The look before a request was sent found the connection, which had rested, ended, or could not trust it. Nothing was written: the waiter goes back to its place. That is
    /// no try that failed, so it is not counted as one; each time takes a connection away, so it comes to an end.
    /// </summary>
    public void Bypass(Waiter waiter, ConnectionEnd end)
    {
        var connection = waiter.Connection!;
        if (connection.IsUsable)   // else somebody saw the same before
        {
            retirement.LearnFromIdleEnd(connection, waiter.Rested, end, FlushCause.Silence);
        }

        leases.EndLease(waiter, LeaseOutcome.NotSent);
        if (pool.IsDraining)
        {
            leases.Refuse(waiter, RefusalKind.Rejected, PoolRejectionReason.Draining);
        }
        else
        {
            leases.PlaceAgain(waiter);
            sharing.TrackIdle(waiter.Share.Tenant);
        }

        Released(connection, keep: false);
    }

    /// <summary>A connection has one stream less, and its key perhaps one waiter more.</summary>
    void Released(ConnectionState connection, bool keep)
    {
        var key = connection.Key;
        if (connection.IsUsable && (!keep || connection.HasEnded || agenda.Now >= connection.ExpiresAt))
        {
            lifecycle.Drain(connection);
        }
        else if (connection is { Phase: ConnectionPhase.Draining, Streams: 0 })
        {
            lifecycle.BeginClose(connection);
        }

        Lifecycle.RefreshAvailability(connection);
        if (waitLists.IsAnyParked())
        {
            waitLists.ParkAll(key);
            waitLists.ParkUnblocked();
        }

        pacing.ReopenDue(key);
        settlement.ServeReopened();
        settlement.ServeParked();
        settlement.Settle(key);
        settlement.ServeUnblocked();
        idling.ListIfIdle(connection);
        if (key.HasWarned && capacities.Utilization(key) is var (active, limit) && active * 10L < limit * 7)
        {
            key.HasWarned = false;   // looked at after the next waiters had their turn: that is no crossing
        }
    }

    /// <summary>The request body is through: its bytes weigh on the connection no longer.</summary>
    public void UploadEnded(Waiter waiter)
    {
        if (waiter is { State: WaiterState.Leased, WeighingBytes: > 0, Connection: { } connection })
        {
            connection.UploadBytes -= waiter.WeighingBytes;
            waiter.WeighingBytes = 0;
            Lifecycle.RefreshAvailability(connection);
        }
    }

    /// <summary>The head of an answer came.</summary>
    public void Answered(Waiter waiter, BudgetState budget, in RateLimits limits, int status)
    {
        waiter.IsAnswered = true;
        budget.Rules.Answered(limits, status, agenda.Now, waiter.GrantedAt);
        pacing.Reopened(budget);
        settlement.ServeReopened();
    }

    /// <summary>The body of a refusal that came at <paramref name="answeredAt"/> says how long to wait.</summary>
    public void Advised(BudgetState budget, TimeSpan wait, TimeSpan answeredAt)
    {
        budget.Rules.Advised(wait, answeredAt);
        pacing.Reopened(budget);   // it may be open sooner than was guessed
        settlement.ServeReopened();
    }

    /// <summary>The provider asks for slower growth.</summary>
    public void SlowDown(BudgetState budget)
    {
        budget.Rules.SlowDown(agenda.Now);
        pacing.Reopened(budget);   // said again, it may have changed the bound to the better
        settlement.ServeReopened();
    }

    /// <summary>The time to wait is over.</summary>
    public void TimedOut(Waiter waiter)
    {
        var reason = admission.ReasonFor(waiter);
        leases.Leave(waiter);
        leases.Refuse(waiter, RefusalKind.TimedOut, reason);
        settlement.Settle(waiter.Key!);
    }
}
