using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline.Pool;

/// <summary>
/// Warns of calls that wait for long while all they wait for is held by responses whose callers do not read on. Such a wait does not end by
/// itself.
/// </summary>
internal sealed class HeldWatch(PoolEngine pool) : IAsyncDisposable
{
    /// <summary>Waits that may last longer than this are checked. A shorter one ends in an error that says the same.</summary>
    static readonly TimeSpan LongWait = TimeSpan.FromSeconds(60);

    /// <summary>Time between two checks. A response that was not read from one to the next counts as held.</summary>
    static readonly TimeSpan CheckInterval = TimeSpan.FromSeconds(30);

    /// <summary>Upper bound on the waiters examined per origin, as the lock is held during the check.</summary>
    const int MostExamined = 100;

    readonly Lock _gate = new();
    readonly HashSet<(string Origin, PoolRejectionReason Reason)> _logged = [];   // used by the check alone
    ITimer? _timer;
    volatile bool _isChecking;

    /// <summary>A call begins to wait. The timer runs only while some call may wait for long.</summary>
    public void Watch(Waiter call)
    {
        if (_isChecking || call.Deadline - call.AskedAt <= LongWait)
        {
            return;
        }

        lock (_gate)
        {
            if (_isChecking || pool.Lifetime.IsDisposed)
            {
                return;
            }

            _isChecking = true;
            if (_timer is null)
            {
                _timer = pool.Background.CreateTimer(this, static watch => watch.Check(), CheckInterval);
            }
            else
            {
                _timer.TrySet(CheckInterval, Timeout.InfiniteTimeSpan);
            }
        }
    }

    public ValueTask DisposeAsync()
    {
        lock (_gate)   // no check begins after this: the pool is disposed
        {
            return _timer?.DisposeAsync() ?? default;
        }
    }

    void Check()
    {
        // Before the search: a call that begins to wait after it starts the timer again.
        lock (_gate)
        {
            _isChecking = false;
        }

        var (stuck, goesOn, at) = pool.Core.Read(FindStuck);
        pool.Background.Run((Watch: this, stuck, at), static found => found.Watch.Log(found.stuck, found.at));   // the timer is to go on

        lock (_gate)
        {
            if (goesOn && !_isChecking && !pool.Lifetime.IsDisposed)
            {
                _isChecking = true;
                _timer!.TrySet(CheckInterval, Timeout.InfiniteTimeSpan);
            }
        }
    }

    void Log(List<StuckWait> stuck, TimeSpan at)
    {
        _logged.RemoveWhere(logged => !stuck.Exists(found => (found.Origin, found.Reason) == logged));   // once for as long as it lasts
        foreach (var (origin, reason, held, waited) in stuck)
        {
            if (_logged.Add((origin, reason)))
            {
                LogMessages.AllHeld(pool.Logger, origin, waited.TotalSeconds, reason, held.Held, (at - held.OldestGrant).TotalSeconds);
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
            foreach (var waiter in key.Queue.All().Where(static waiter => waiter.Deadline - waiter.AskedAt > LongWait).Take(MostExamined))
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
