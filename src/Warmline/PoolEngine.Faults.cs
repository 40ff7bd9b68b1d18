using System.Diagnostics;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline;

/// <summary>What can go wrong with a call, as far as it is counted. Each is a field of <see cref="FaultStats"/>.</summary>
internal enum Fault
{
    RetriedNotSent,
    RetriedUnprocessed,
    RetriedIdempotent,
    RetriesRefused,
    FailedNotSent,
    FailedUnprocessed,
    FailedUnknown,
    Abandoned,
    Leaked,
    StreamErrors,
}

/// <summary>What went wrong with calls, the budget for sending them again, and the watch for responses that nobody reads.</summary>
internal sealed partial class PoolEngine
{
    /// <summary>What a call that ends well adds to the budget: retries make up a sixth of what the servers get at most.</summary>
    const double BudgetPerCall = 0.2;

    readonly long[] _faults = new long[Enum.GetValues<Fault>().Length];
    readonly Tally<StallPhase> _stalls = new();
    readonly ITimer _leakTimer;
    double _retryBudget;

    public void Count(Fault fault) => Interlocked.Increment(ref _faults[(int)fault]);

    public void CountStall(StallPhase phase) => _stalls.Add(phase);

    /// <summary>
    /// Puts the call back to its place in the queue after an attempt that the server provably did not start on, or that may be repeated; false when it has used up its
    /// tries or, for an attempt that the server saw, the pool its budget.
    /// </summary>
    public bool Redispatch(PooledCall call, Fault asWhat, Http2Doubt doubt)
    {
        var costs = asWhat is not Fault.RetriedNotSent;   // what never reached a server asks no more of it; dials have a back-off of their own
        var actions = RentActions();
        bool again;
        lock (_gate)
        {
            call.ResetPlacement();   // before the event: it may be placed within it
            var isAffordable = !costs || _retryBudget >= 1;
            var isVain = call.Redispatches >= _scheduler.Limits.MaxRedispatches && call.Slot.HasEnded;   // a refused stream alone says nothing about HTTP/2
            var fallsBack = call.MayFallBack
                && TryFallBack_NeedsLock(call, isVain && isAffordable && doubt is Http2Doubt.None ? Http2Doubt.Broken : doubt, actions);
            if (!fallsBack)
            {
                _scheduler.Release(call, OutcomeOf(asWhat, isAffordable), Now, actions);
            }

            again = call.State is not WaiterState.Ended;
            NoteReason_NeedsLock(call);
            if (again && costs && !fallsBack)
            {
                _retryBudget--;
            }

            NoteEnds();
            call.IsOverBudget = !isAffordable && !fallsBack;
        }

        Run(actions);
        Count(again ? asWhat : Fault.RetriesRefused);
        return again;
    }

    /// <summary>A provider may have counted a call that it got and did not answer.</summary>
    static LeaseOutcome OutcomeOf(Fault asWhat, bool isAffordable) =>
        !isAffordable ? LeaseOutcome.ConnectionBroken
        : asWhat is Fault.RetriedIdempotent ? LeaseOutcome.Unanswered : LeaseOutcome.NotSent;

    /// <summary>A response was let go, neither read to its end nor disposed; the garbage collector found it.</summary>
    public void ReportLeak(PooledCall call)
    {
        Count(Fault.Leaked);
        LogMessages.ResponseLeaked(_logger, call.Key!.Key.Origin, (Now - call.GrantedAt).TotalSeconds, call.TakenBy?.ToString() ?? "unknown; set LeakThreshold to have the stack recorded");
    }

    /// <summary>Earns a part of a retry.</summary>
    void EarnRetry_NeedsLock()
    {
        Debug.Assert(_gate.IsHeldByCurrentThread);
        _retryBudget = Math.Min(Settings.RetryBudget, _retryBudget + BudgetPerCall);
    }

    FaultStats GetFaults()
    {
        var stalls = _stalls.Report();
        return new FaultStats
        {
            RetriedNotSent = Of(Fault.RetriedNotSent),
            RetriedUnprocessed = Of(Fault.RetriedUnprocessed),
            RetriedIdempotent = Of(Fault.RetriedIdempotent),
            RetriesRefused = Of(Fault.RetriesRefused),
            FailedNotSent = Of(Fault.FailedNotSent),
            FailedUnprocessed = Of(Fault.FailedUnprocessed),
            FailedUnknown = Of(Fault.FailedUnknown),
            Stalled = stalls.Values.Sum(),
            StalledIn = stalls,
            Abandoned = Of(Fault.Abandoned),
            Leaked = Of(Fault.Leaked),
            StreamErrors = Of(Fault.StreamErrors),
        };

        long Of(Fault fault) => Interlocked.Read(ref _faults[(int)fault]);
    }

    /// <summary>Looks at every response twice within the threshold: one that nobody has begun to read on for as long is held. Each is told once.</summary>
    void SetLeakWatch()
    {
        var period = Settings.LeakThreshold is { } threshold ? threshold / 4 : Timeout.InfiniteTimeSpan;
        _leakTimer.TrySet(period, period);
    }

    void LookForLeaks()
    {
        if (Settings.LeakThreshold is not { } threshold)
        {
            return;
        }

        var now = Now;
        foreach (var call in Read(static (scheduler, _) => scheduler.Leased().Cast<PooledCall>().ToArray()))
        {
            if (call.CheckHeld(threshold, now) is { } held)
            {
                LogMessages.ResponseHeld(_logger, call.Key!.Key.Origin, held.TotalSeconds, call.TakenBy?.ToString() ?? "unknown");
            }
        }
    }
}
