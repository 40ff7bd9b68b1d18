using Warmline.Scheduling;

namespace Warmline;

/// <summary>Calls that wait for long while all that they wait for is held by responses whose callers do not read on. Such a wait does not
/// end by itself.</summary>
internal sealed partial class PoolEngine
{
    /// <summary>A wait that may last longer than this is looked at. A shorter one ends in an error that says the same.</summary>
    static readonly TimeSpan LongWait = TimeSpan.FromSeconds(60);

    /// <summary>Between two looks. What was not read on from one to the next is held.</summary>
    static readonly TimeSpan HeldLook = TimeSpan.FromSeconds(30);

    /// <summary>Of one origin's waiting calls so many are asked what they wait for, at most: the lock is held meanwhile.</summary>
    const int MostAsked = 100;

    readonly Lock _heldGate = new();
    readonly HashSet<(string Origin, PoolRejectionReason Reason)> _heldLogged = [];   // by the look alone
    ITimer? _heldTimer;
    volatile bool _looksForHeld;

    /// <summary>The error of a call that got no place.</summary>
    Exception RefusalOf(PooledRequest call, in SchedulerAction action)
    {
        var reason = action.Reason;
        var (stats, held) = Read((scheduler, now) =>
            (scheduler.Stats(now, detailed: false), HeldPlaces.Of(scheduler, call, reason, static lease => lease.IsHeld)));
        return PoolErrors.Refused(call, action, Settings, Complete(stats), Now - call.AskedAt, _disposed, held);
    }

    /// <summary>A call begins to wait. Looks are taken only while one may wait for long: a quiet pool wakes nobody.</summary>
    void WatchHeld(PooledRequest call)
    {
        if (_looksForHeld || call.Deadline - call.AskedAt <= LongWait)
        {
            return;
        }

        lock (_heldGate)
        {
            if (_looksForHeld || _disposed)
            {
                return;
            }

            _looksForHeld = true;
            if (_heldTimer is null)
            {
                using (SuppressFlow())
                {
                    _heldTimer = _time.CreateTimer(
                        static state => ((PoolEngine)state!).CheckHeld(), this, HeldLook, Timeout.InfiniteTimeSpan);
                }
            }
            else
            {
                _heldTimer.Change(HeldLook, Timeout.InfiniteTimeSpan);
            }
        }
    }

    ValueTask StopHeldLooksAsync()
    {
        lock (_heldGate)   // no look begins after this: the pool is disposed
        {
            return _heldTimer?.DisposeAsync() ?? default;
        }
    }

    void CheckHeld()
    {
        var (stuck, goesOn, at) = Read(FindStuck);
        try
        {
            LogHeld(stuck, at);
        }
        catch (Exception)
        {
            // A logger that throws: an exception would end the process here.
        }

        lock (_heldGate)
        {
            _looksForHeld = goesOn && !_disposed;
            if (_looksForHeld)
            {
                _heldTimer!.Change(HeldLook, Timeout.InfiniteTimeSpan);
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
            ((PooledRequest)lease).RecordReads();
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
