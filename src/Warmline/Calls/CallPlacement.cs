using Warmline.Options;
using Warmline.Pool;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline;

/// <summary>Gives calls their place and takes it back: every event of a call.</summary>
internal sealed class CallPlacement(PoolEngine pool)
{
    /// <summary>What a call that ends well adds to the retry budget: retries make up at most a sixth of what the servers receive.</summary>
    const double BudgetPerCall = 0.2;

    double _retryBudget = pool.Settings.RetryBudget;   // under the pool's lock
    volatile bool _hasAvoidedHttp2;

    /// <summary>Some origin has fallen back to HTTP/1.1.</summary>
    public void Http2Avoided() => _hasAvoidedHttp2 = true;

    /// <summary>Whether calls to the origin that may use HTTP/1.1 do. Costs nothing as long as no origin has fallen back.</summary>
    public bool AvoidsHttp2(string origin) => _hasAvoidedHttp2 && IsHttp2Avoided(origin);

    /// <summary>Waits until the call has its place.</summary>
    /// <exception cref="PoolRejectedException">It gets none.</exception>
    public ValueTask AcquireAsync(PooledCall call, ConnectionKey key, string? userAgent, CancellationToken caller)
    {
        if (caller.IsCancellationRequested)
        {
            return ValueTask.FromCanceled(caller);
        }

        pool.Core.Play((call, key, userAgent), static (scheduler, asked, now, actions) =>
        {
            var call = asked.call;
            call.Deadline = DeadlineOf(call.Timeouts, now);
            scheduler.Acquire(call, asked.key, now, actions);
            if (asked.userAgent is not null && call.Key is { } key)
            {
                ProxyAccess.SetUserAgent(key, asked.userAgent);   // before its dial begins
            }

            RecordReason(scheduler, call);
        });
        return PlacedAsync(call, caller);
    }

    /// <summary>Waits until the call has its place again.</summary>
    public ValueTask ReacquireAsync(PooledCall call, CancellationToken caller) => PlacedAsync(call, caller);

    public void UploadEnded(PooledCall call) => pool.Core.Play(call, static (scheduler, call, _, _) => scheduler.UploadEnded(call));

    public void Release(PooledCall call, LeaseOutcome outcome)
    {
        var hasEnded = call.Slot.HasEnded;   // before the connection is offered to the next call, which would find it closed
        var isIdle = pool.Core.Play((placement: this, call, outcome, hasEnded), static (scheduler, release, now, actions) =>
        {
            var connection = release.call.Connection!;
            connection.HasEnded |= release.hasEnded;
            scheduler.Release(release.call, release.outcome, now, actions);
            if (release.outcome is LeaseOutcome.Reusable)
            {
                release.placement.EarnRetry();
            }

            return release.call.Connection is { IsIdle: true, IsHttp2: false };
        });
        if (isIdle)
        {
            pool.Network.WatchIdle();
        }
    }

    /// <summary>
    /// The caller gave up. A call that was granted in the same moment goes on and sees the cancelled token at its next step: it has a lease
    /// to give back.
    /// </summary>
    public void Cancel(PooledCall call)
    {
        var gaveUp = pool.Core.Play(call, static (scheduler, call, now, actions) =>
        {
            var isWaiting = call.State is WaiterState.Waiting;
            scheduler.Cancel(call, now, actions);
            return isWaiting;
        });
        if (gaveUp)
        {
            call.GiveUp();
        }
    }

    /// <summary>
    /// Puts the call back to its place in the queue after an attempt that the server provably did not start on, or that may be repeated.
    /// False if the call has used up its tries or, for an attempt that the server saw, the pool its budget.
    /// </summary>
    public bool Redispatch(PooledCall call, Fault asWhat, Http2Doubt doubt)
    {
        var isRepeated = pool.Core.Play((placement: this, call, asWhat, doubt), static (scheduler, failed, now, actions) =>
            failed.placement.Redispatch(scheduler, failed.call, failed.asWhat, failed.doubt, now, actions));
        pool.Figures.Count(isRepeated ? asWhat : Fault.RetriesRefused);
        return isRepeated;
    }

    /// <summary>
    /// Checks the connection of a call that was just placed. If it is gone, the call is put back to its place and has to be awaited again.
    /// </summary>
    public bool TryReplaceStale(PooledCall call)
    {
        var state = call.Slot.Look(call.Rested);
        return state is not WireState.Alive && TryMove(call, always: true, state switch
        {
            WireState.Ended => ConnectionEnd.InOrder,
            WireState.Lost => ConnectionEnd.Lost,
            _ => ConnectionEnd.Alone,
        });
    }

    /// <summary>
    /// Takes a call off a connection on which no request body makes progress, and the connection out of use. False if there is no other
    /// connection: then the call has to wait there.
    /// </summary>
    public bool TryMove(PooledCall call) => TryMove(call, always: false, ConnectionEnd.Alone);

    /// <summary>Lets a connection that takes no request bodies end: it gets no further calls.</summary>
    public void TakeOutOfUse(ConnectionState connection) =>
        pool.Core.Play(connection, static (scheduler, connection, now, actions) => scheduler.TakeOutOfUse(connection, now, actions));

    /// <summary>A call on HTTP/2 failed and is not sent again: what that says about the origin counts for the next.</summary>
    public void DoubtHttp2(PooledCall call, Http2Doubt doubt) =>
        pool.Core.Play((call, doubt), static (scheduler, failed, now, actions) =>
        scheduler.DoubtHttp2(failed.call.Connection!, failed.doubt, now, actions));

    bool TryMove(PooledCall call, bool always, ConnectionEnd end) =>
        pool.Core.Play((call, always, end), static (scheduler, move, now, actions) =>
    {
        if (!move.always && !scheduler.CanMove(move.call))
        {
            return false;
        }

        move.call.ResetPlacement();   // before the event: it may be placed within it
        scheduler.Bypass(move.call, move.end, now, actions);
        RecordReason(scheduler, move.call);
        return true;
    });

    bool Redispatch(Scheduler scheduler, PooledCall call, Fault asWhat, Http2Doubt doubt, TimeSpan now, List<SchedulerAction> actions)
    {
        call.ResetPlacement();   // before the event: it may be placed within it

        // What never reached a server asks no more of it, and dials have a back-off of their own.
        var costs = asWhat is not Fault.RetriedNotSent;
        var isAffordable = !costs || _retryBudget >= 1;
        // A refused stream alone says nothing about HTTP/2.
        var isVain = call.Redispatches >= scheduler.Limits.MaxRedispatches && call.Slot.HasEnded;
        var fallsBack = call.MayFallBack
            && TryFallBack(scheduler, call, isVain && isAffordable && doubt is Http2Doubt.None ? Http2Doubt.Broken : doubt, now, actions);
        if (!fallsBack)
        {
            scheduler.Release(call, OutcomeOf(asWhat, isAffordable), now, actions);
        }

        var isRepeated = call.State is not WaiterState.Ended;
        RecordReason(scheduler, call);
        if (isRepeated && costs && !fallsBack)
        {
            _retryBudget--;
        }

        call.IsOverBudget = !isAffordable && !fallsBack;
        return isRepeated;
    }

    /// <summary>
    /// Puts a call back to its place in the queue if its origin's HTTP/2 is avoided, now at the latest. That does not repeat what failed:
    /// it costs no try, and nothing of the retry budget.
    /// </summary>
    static bool TryFallBack(Scheduler scheduler, PooledCall call, Http2Doubt doubt, TimeSpan now, List<SchedulerAction> actions)
    {
        if (!scheduler.DoubtHttp2(call.Connection!, doubt, now, actions))
        {
            return false;
        }

        if (!call.Timeouts.TotalEndsWait && DeadlineOf(call.Timeouts, now) is var deadline && deadline > call.Deadline)
        {
            call.Deadline = deadline;   // it did not wait while it was on HTTP/2
        }

        if (now >= call.Deadline)
        {
            return false;
        }

        scheduler.Bypass(call, ConnectionEnd.Alone, now, actions);
        return true;
    }

    /// <summary>A provider may have counted a call that it received and did not answer.</summary>
    static LeaseOutcome OutcomeOf(Fault asWhat, bool isAffordable) =>
        !isAffordable ? LeaseOutcome.ConnectionBroken
        : asWhat is Fault.RetriedIdempotent ? LeaseOutcome.Unanswered : LeaseOutcome.NotSent;

    /// <summary>
    /// Records what a call waits for, if its span shows that, at the moment the wait begins: a moment later it may have its place.
    /// </summary>
    static void RecordReason(Scheduler scheduler, PooledCall call)
    {
        if (call.HasSpan && call.State is WaiterState.Waiting)
        {
            call.WaitsFor = scheduler.ReasonFor(call);
        }
    }

    /// <summary>Neither a call nor a dial outlives <see cref="PoolTimeouts.Total"/>, waiting included.</summary>
    static TimeSpan DeadlineOf(CallTimeouts timeouts, TimeSpan now)
    {
        var longest = timeouts.TotalEndsWait ? timeouts.Total : timeouts.Pool;
        return longest > TimeSpan.Zero ? now + longest : TimeSpan.MaxValue;
    }

    async ValueTask PlacedAsync(PooledCall call, CancellationToken caller)
    {
        var placed = call.PlacedAsync();
        var lost = pool.Standstill.Lost;
        if (placed.IsCompleted)
        {
            await placed.ConfigureAwait(false);
        }
        else
        {
            pool.Standstill.Watch();
            pool.Background.Run((pool.Held, call), static wait => wait.Held.Watch(wait.call));
            var wait = CallTelemetry.BeginWait(call);
            try
            {
                using (caller.UnsafeRegister(static state => ((PooledCall)state!).CancelWait(), call))
                {
                    await placed.ConfigureAwait(false);
                }
            }
            finally
            {
                wait?.StopAnywhere();
            }
        }

        if (call.Refusal is { } action)
        {
            throw RefusalOf(call, action, pool.Standstill.Lost - lost);
        }

        pool.Background.Run(call, static call => CallTelemetry.RecordPlace(call));   // the call has its lease: nothing may end it here
    }

    /// <summary>The error of a call that got no place.</summary>
    Exception RefusalOf(PooledCall call, SchedulerAction action, TimeSpan lost)
    {
        var reason = action.Reason;
        var (stats, held, step) = pool.Core.Read((scheduler, now) => (
            scheduler.Stats(now, detailed: false),
            HeldPlaces.Of(scheduler, call, reason, static lease => lease.IsHeld),
            reason is PoolRejectionReason.Dialing ? call.Key!.StepOfDials : null));
        return PoolErrors.Refused(call, action, pool.Settings, pool.Figures.Complete(stats), pool.Now - call.AskedAt,
            pool.Lifetime.IsDisposed, held,
            $"{PoolErrors.Explain(step)}{PoolErrors.ExplainLost(lost)}");
    }

    /// <summary>Needs the pool's lock.</summary>
    void EarnRetry() => _retryBudget = Math.Min(pool.Settings.RetryBudget, _retryBudget + BudgetPerCall);

    bool IsHttp2Avoided(string origin) => pool.Core.Read((scheduler, now) =>
        scheduler.Keys.Any(key => string.Equals(key.Key.Origin, origin, StringComparison.OrdinalIgnoreCase)
            && Scheduler.AvoidsHttp2(key, now)));
}
