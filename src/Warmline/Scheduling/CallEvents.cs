namespace Warmline.Scheduling;

/// <summary>Events of calls: a call arrives, waits, gets its lease, is answered, and ends.</summary>
internal sealed class CallEvents(
    Agenda agenda, PoolState pool, SharingLedger sharing, Capacity capacities, Admission admission, Lifecycle lifecycle,
    IdleConnections idling, WaitLists waitLists, ProviderBudgets budgets, Leasing leases, Turns turns, Growth growth, Settlement settlement,
    DialFailures failures, Retirement retirement)
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
        waiter.Budget = waiter.BudgetKey is { } budget ? budgets.BudgetFor(budget) : null;
        budgets.ReopenDue(key);
        settlement.ServeReopened();
        while (turns.TryServe(key))
        {
            // Waiters of a delayed burst came first and may be served by now.
        }

        if (pool.IsDraining)
        {
            leases.Refuse(waiter, RefusalKind.Rejected, PoolRejectionReason.Draining);
        }
        else if (admission.MayGrant(waiter) && idling.FindUsable(key) is { } connection
            && (key.Queue.Count == 0 || !turns.DelaysBurst(key, connection)))
        {
            // This overtakes only waiters that are blocked by their own limits; otherwise the place would not be free.
            leases.Grant(waiter, connection);
            growth.Spread(key);
            if (key.WarmGoal > key.ReadyOrComing)
            {
                growth.Grow(key);   // FindUsable may have closed an overdue idle connection
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

    /// <summary>The caller gave up. A waiter leaves the queue. A lease is not touched: its holder releases it.</summary>
    public void Cancel(Waiter waiter)
    {
        leases.Leave(waiter);
        sharing.TrackIdle(waiter.Share.Tenant);
        settlement.Settle(waiter.Key!);
    }

    /// <summary>
    /// Both bodies have ended. After <see cref="LeaseOutcome.NotSent"/> and <see cref="LeaseOutcome.Unanswered"/> the waiter's state
    /// shows whether it waits again or has used up its attempts.
    /// </summary>
    public void Release(Waiter waiter, LeaseOutcome outcome)
    {
        var connection = waiter.Connection!;
        var isRepeated = outcome is LeaseOutcome.NotSent or LeaseOutcome.Unanswered;
        if (isRepeated && waiter.Redispatches > 0)
        {
            failures.CheckEarlyDeath(connection);   // one failure may be a coincidence
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
    /// The check before sending found that the idle connection has ended or cannot be trusted. Nothing was written, so the waiter returns
    /// to its place in the queue. This is not counted as a failed attempt. It cannot repeat without end, as each time removes a
    /// connection.
    /// </summary>
    public void Bypass(Waiter waiter, ConnectionEnd end)
    {
        var connection = waiter.Connection!;
        if (connection.IsUsable)   // otherwise another check has already found the same
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

    /// <summary>A connection carries one stream less, and its key may have one more waiter.</summary>
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

        budgets.ReopenDue(key);
        settlement.ServeReopened();
        settlement.ServeParked();
        settlement.Settle(key);
        settlement.ServeUnblocked();
        idling.ListIfIdle(connection);
        if (key.HasWarned && capacities.Utilization(key) is var (active, limit) && active * 10L < limit * 7)
        {
            key.HasWarned = false;   // checked after the next waiters were served: a brief dip must not re-arm the warning
        }
    }

    /// <summary>The request body was sent. Its bytes no longer count towards the connection's load.</summary>
    public void UploadEnded(Waiter waiter)
    {
        if (waiter is { State: WaiterState.Leased, WeighingBytes: > 0, Connection: { } connection })
        {
            connection.UploadBytes -= waiter.WeighingBytes;
            waiter.WeighingBytes = 0;
            Lifecycle.RefreshAvailability(connection);
        }
    }

    /// <summary>The headers of an answer arrived.</summary>
    public void Answered(Waiter waiter, BudgetState budget, in RateLimits limits, int status)
    {
        waiter.IsAnswered = true;
        budget.Rules.Answered(limits, status, agenda.Now, waiter.GrantedAt);
        budgets.Reopened(budget);
        settlement.ServeReopened();
    }

    /// <summary>The body of a refusal that came at <paramref name="answeredAt"/> says how long to wait.</summary>
    public void Advised(BudgetState budget, TimeSpan wait, TimeSpan answeredAt)
    {
        budget.Rules.Advised(wait, answeredAt);
        budgets.Reopened(budget);   // it may open sooner than the guess
        settlement.ServeReopened();
    }

    /// <summary>The provider asks for slower growth.</summary>
    public void SlowDown(BudgetState budget)
    {
        budget.Rules.SlowDown(agenda.Now);
        budgets.Reopened(budget);   // a repeated slow_down may have raised the bound
        settlement.ServeReopened();
    }

    /// <summary>The waiter's deadline has passed.</summary>
    public void TimedOut(Waiter waiter)
    {
        var reason = admission.ReasonFor(waiter);
        leases.Leave(waiter);
        leases.Refuse(waiter, RefusalKind.TimedOut, reason);
        settlement.Settle(waiter.Key!);
    }
}
