using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline;

/// <summary>Calls that wait for long while all that they wait for is held by responses whose callers do not read on. Such a wait does not
/// end by itself.</summary>
internal sealed partial class PoolEngine
{
    /// <summary>Waits that may last longer than this are checked. A shorter one ends in an error that says the same.</summary>
    static readonly TimeSpan LongWait = TimeSpan.FromSeconds(60);

    /// <summary>Time between two checks. A response that was not read from one to the next counts as held.</summary>
    static readonly TimeSpan CheckInterval = TimeSpan.FromSeconds(30);

    /// <summary>Upper bound on the waiters examined per origin, as the lock is held during the check.</summary>
    const int MostAsked = 100;

    readonly Lock _heldGate = new();
    readonly HashSet<(string Origin, PoolRejectionReason Reason)> _heldLogged = [];   // used by the check alone
    ITimer? _heldTimer;
    volatile bool _isCheckingHeld;

    /// <summary>The error of a call that got no place.</summary>
    Exception RefusalOf(PooledCall call, in SchedulerAction action, TimeSpan lost)
    {
        var reason = action.Reason;
        var (stats, held, step) = Read((scheduler, now) => (
            scheduler.Stats(now, detailed: false),
            HeldPlaces.Of(scheduler, call, reason, static lease => lease.IsHeld),
            reason is PoolRejectionReason.Dialing ? call.Key!.StepOfDials : null));
        return PoolErrors.Refused(call, action, Settings, Complete(stats), Now - call.AskedAt, _disposed, held, $"{PoolErrors.Explain(step)}{PoolErrors.ExplainLost(lost)}");
    }

    /// <summary>A call begins to wait. The timer runs only while some call may wait for long.</summary>
    void WatchHeld(PooledCall call)
    {
        if (_isCheckingHeld || call.Deadline - call.AskedAt <= LongWait)
        {
            return;
        }

        lock (_heldGate)
        {
            if (_isCheckingHeld || _disposed)
            {
                return;
            }

            _isCheckingHeld = true;
            if (_heldTimer is null)
            {
                using (SuppressFlow())
                {
                    _heldTimer = CreateTimer(static engine => engine.CheckHeld(), CheckInterval, Timeout.InfiniteTimeSpan);
                }
            }
            else
            {
                _heldTimer.TrySet(CheckInterval, Timeout.InfiniteTimeSpan);
            }
        }
    }

    ValueTask StopHeldChecksAsync()
    {
        lock (_heldGate)   // no check begins after this: the pool is disposed
        {
            return _heldTimer?.DisposeAsync() ?? default;
        }
    }

    void CheckHeld()
    {
        // Before the look: a call that begins to wait after it starts the timer again by itself.
        lock (_heldGate)
        {
            _isCheckingHeld = false;
        }

        var (stuck, goesOn, at) = Read(FindStuck);
        Safely((stuck, at), static (engine, found) => engine.LogHeld(found.stuck, found.at));   // the timer is to go on

        lock (_heldGate)
        {
            if (goesOn && !_isCheckingHeld && !_disposed)
            {
                _isCheckingHeld = true;
                _heldTimer!.TrySet(CheckInterval, Timeout.InfiniteTimeSpan);
            }
        }
    }

    void LogHeld(List<StuckWait> stuck, TimeSpan at)
    {
        _heldLogged.RemoveWhere(logged => !stuck.Exists(found => (found.Origin, found.Reason) == logged));   // once for as long as it lasts
        foreach (var (origin, reason, held, waited) in stuck)
        {
            if (_heldLogged.Add((origin, reason)))
            {
                LogMessages.AllHeld(_logger, origin, waited.TotalSeconds, reason, held.Held, (at - held.OldestGrant).TotalSeconds);
            }
        }
    }

    static (List<StuckWait> Stuck, bool GoesOn, TimeSpan At) FindStuck(Scheduler scheduler, TimeSpan now)
    {
        var stuck = new List<StuckWait>();
        var goesOn = false;
        foreach (var lease in scheduler.Leased())
        {
            ((PooledCall)lease).RecordReads();
        }

        foreach (var key in scheduler.Keys)
        {
            foreach (var waiter in key.Queue.All().Where(static waiter => waiter.Deadline - waiter.AskedAt > LongWait).Take(MostAsked))
            {
                goesOn = true;
                var (origin, reason) = (key.Key.Origin, scheduler.ReasonFor(waiter));
                if (now - waiter.AskedAt < LongWait || stuck.Exists(found => found.Origin == origin && found.Reason == reason))
                {
                    continue;
                }

                if (HeldPlaces.Of(scheduler, waiter, reason, static lease => lease.IsUnread) is { AreAll: true } held)
                {
                    stuck.Add(new StuckWait(origin, reason, held, now - waiter.AskedAt));
                }
            }
        }

        return (stuck, goesOn, now);
    }

    /// <summary>Calls to an origin that wait for places which are all held.</summary>
    sealed record StuckWait(string Origin, PoolRejectionReason Reason, HeldPlaces Held, TimeSpan Waited);
}
