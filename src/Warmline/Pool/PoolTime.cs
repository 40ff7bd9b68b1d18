namespace Warmline.Pool;

/// <summary>
/// The time that a pool's clocks go by. It is paused while the process's thread pool has no thread for the pool's work: a response may
/// be waiting unread, and a running timeout would wrongly blame the network. Timers come first in the thread pool's queue,
/// so without this they would fire while what they watch waits behind blocked work.
/// </summary>
/// <param name="inner">The clock beneath.</param>
/// <param name="queue">Puts a work item at the end of the thread pool's queue.</param>
/// <param name="completed">Work items that the thread pool has completed; null if that is not known.</param>
internal sealed class PoolTime(TimeProvider inner, Action<Action> queue, Func<long>? completed = null) : TimeProvider, IDisposable
{
    /// <summary>
    /// How often a work item is queued to see how long it waits. Far more often than a starving thread pool adds threads, or each might
    /// come just before one.
    /// </summary>
    public static readonly TimeSpan Beat = TimeSpan.FromMilliseconds(50);

    /// <summary>
    /// How long no work item may have waited for too long before time goes on: each new thread of a starving pool does a little work, and
    /// is blocked as well.
    /// </summary>
    public static readonly TimeSpan Calm = TimeSpan.FromMilliseconds(500);

    /// <summary>
    /// A work item that waits for longer than that finds no free thread. On a busy machine a few hundredths of a second are usual.
    /// </summary>
    public static readonly TimeSpan Patience = TimeSpan.FromMilliseconds(100);

    const long None = long.MinValue;

    /// <summary>
    /// Work items a second that show a busy thread pool and not a blocked one: there a long wait is load, and time goes on.
    /// </summary>
    const double BusyRate = 5000;

    readonly Lock _gate = new();
    readonly long _between = (long)(Beat.TotalSeconds * inner.TimestampFrequency);
    readonly long _patience = (long)(Patience.TotalSeconds * inner.TimestampFrequency);
    readonly long _calm = (long)(Calm.TotalSeconds * inner.TimestampFrequency);
    ITimer? _beat;
    Func<bool>? _isBusy;
    long _version;        // odd while the next two are being written
    long _lost;           // time that stood still, by the clock beneath, periods that are over
    long _stillSince = None;   // when the present one began
    long _queuedAt = None;     // when the work item that is out was queued
    long _checkedAt;            // when the timer last came
    long _lateAt = None;       // when a work item, or the timer, was last seen to wait for too long
    long _completedBefore;     // work items that were completed then, or when the work item that is out was queued
    int _armed;

    /// <summary>
    /// Called when a standstill is over, with the time that was lost in it. Called on a thread of the thread pool.
    /// </summary>
    public Action<TimeSpan>? StoodStill { get; set; }

    /// <summary>All the time that stood still.</summary>
    public TimeSpan Lost
    {
        get
        {
            var (now, lost, since) = Read();
            return TimeSpan.FromSeconds((double)(since == None ? lost : lost + now - since) / inner.TimestampFrequency);
        }
    }

    public bool IsStill => Volatile.Read(ref _stillSince) != None;

    public override long TimestampFrequency => inner.TimestampFrequency;

    public override TimeZoneInfo LocalTimeZone => inner.LocalTimeZone;

    public override long GetTimestamp()
    {
        var (now, lost, since) = Read();
        return (since == None ? now : since) - lost;
    }

    /// <summary>The wall clock goes on.</summary>
    public override DateTimeOffset GetUtcNow() => inner.GetUtcNow();

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        var timer = new Timer(this, callback, state);
        timer.Change(dueTime, period);
        return timer;
    }

    /// <summary>
    /// Looks after the thread pool from now on, for as long as the pool is busy: calls wait, or run, or connections are being opened.
    /// </summary>
    public void Watch(Func<bool> isBusy)
    {
        if (Volatile.Read(ref _armed) != 0 || Interlocked.Exchange(ref _armed, 1) != 0)
        {
            return;
        }

        using var flow = Background.SuppressFlow();
        lock (_gate)
        {
            _isBusy = isBusy;
            _checkedAt = inner.GetTimestamp() - _between;   // the first check is due now
            _completedBefore = completed?.Invoke() ?? 0;
            _beat ??= inner.CreateTimer(static state => ((PoolTime)state!)
                .CheckQueue(), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
            _beat.Change(TimeSpan.Zero, Beat);
        }
    }

    public void Dispose()
    {
        lock (_gate)
        {
            _isBusy = null;
            _beat?.Dispose();
        }
    }

    /// <summary>
    /// The clock beneath and what has to be taken off it, at one moment: a thread that is suspended between two readings would otherwise
    /// take off a standstill that came later.
    /// </summary>
    (long Now, long Lost, long Since) Read()
    {
        for (var wait = default(SpinWait); ; wait.SpinOnce())
        {
            var version = Volatile.Read(ref _version);
            var (lost, since) = (Volatile.Read(ref _lost), Volatile.Read(ref _stillSince));
            var now = inner.GetTimestamp();
            if ((version & 1) == 0 && Volatile.Read(ref _version) == version)
            {
                return (now, lost, since);
            }
        }
    }

    /// <summary>Needs the gate.</summary>
    void Write(long lost, long since)
    {
        Interlocked.Increment(ref _version);
        Volatile.Write(ref _lost, lost);
        Volatile.Write(ref _stillSince, since);
        Interlocked.Increment(ref _version);
    }

    void CheckQueue()
    {
        lock (_gate)
        {
            var now = inner.GetTimestamp();
            if (_queuedAt != None)
            {
                _checkedAt = now;
                if (now - _queuedAt >= _patience)
                {
                    SeeLate(now, _queuedAt);
                }

                return;
            }

            // The timer needs a thread too. A thread that a starving pool has just added runs it first and the work item next: only the
            // timer shows that both have waited.
            if (now - _checkedAt >= _between + _patience)
            {
                SeeLate(now, _checkedAt);
            }

            _checkedAt = now;

            if (_stillSince == None && _isBusy?.Invoke() != true)
            {
                _beat!.Change(Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
                Volatile.Write(ref _armed, 0);
                return;
            }

            _queuedAt = now;
            _completedBefore = completed?.Invoke() ?? 0;
        }

        queue(CameThrough);
    }

    /// <summary>The work item has its thread.</summary>
    void CameThrough()
    {
        TimeSpan lost;
        lock (_gate)
        {
            var now = inner.GetTimestamp();
            if (now - _queuedAt >= _patience)
            {
                SeeLate(now, _queuedAt);   // also when no check came between: the timers had no thread either
            }

            _queuedAt = None;
            if (_stillSince == None || now - _lateAt < _calm)
            {
                return;
            }

            now = inner.GetTimestamp();   // not the time from before the lock: others may have read later ones meanwhile
            lost = inner.GetElapsedTime(_stillSince, now);
            Write(_lost + now - _stillSince, None);
        }

        StoodStill?.Invoke(lost);
    }

    void SeeLate(long now, long since)
    {
        if (completed is not null && (completed() - _completedBefore) * (double)inner.TimestampFrequency >= BusyRate * (now - since))
        {
            return;
        }

        _lateAt = now;
        if (_stillSince == None)
        {
            Write(_lost, inner.GetTimestamp());
        }
    }

    /// <summary>A timer of the clock beneath. It is set again if it fires before its time has come by this clock.</summary>
    sealed class Timer : ITimer
    {
        readonly Lock _gate = new();
        readonly PoolTime _time;
        readonly TimerCallback _callback;
        readonly object? _state;
        readonly ITimer _timer;
        long _dueAt;
        TimeSpan _period;

        public Timer(PoolTime time, TimerCallback callback, object? state)
        {
            (_time, _callback, _state) = (time, callback, state);
            _timer = time.Inner.CreateTimer(static state => ((Timer)state!)
                .Fire(), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        }

        public bool Change(TimeSpan dueTime, TimeSpan period)
        {
            lock (_gate)
            {
                _period = period;
                _dueAt = dueTime == Timeout.InfiniteTimeSpan
                    ? long.MaxValue : _time.GetTimestamp() + (long)(dueTime.TotalSeconds * _time.TimestampFrequency);
                return _timer.Change(dueTime, period);
            }
        }

        public void Dispose() => _timer.Dispose();

        public ValueTask DisposeAsync() => _timer.DisposeAsync();

        void Fire()
        {
            if (IsDue())
            {
                _callback(_state);
            }
        }

        bool IsDue()
        {
            lock (_gate)
            {
                if (_period > TimeSpan.Zero || _dueAt == long.MaxValue)   // or it was stopped in the moment it fired
                {
                    return _dueAt != long.MaxValue && !_time.IsStill;
                }

                var left = _dueAt - _time.GetTimestamp();
                if (left <= _time.TimestampFrequency / 500 && !_time.IsStill)   // a timer may come a millisecond early
                {
                    return true;
                }

                var wait = TimeSpan.FromSeconds((double)left / _time.TimestampFrequency);
                _timer.Change(_time.IsStill || wait < TimeSpan.Zero ? Beat : wait + TimeSpan.FromMilliseconds(1), _period);
                return false;
            }
        }
    }

    TimeProvider Inner => inner;
}
