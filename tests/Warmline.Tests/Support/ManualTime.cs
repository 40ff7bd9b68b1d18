namespace Warmline.Tests.Support;

/// <summary>
/// A clock that moves only when a test says so. Timers fire inside <see cref="Advance"/>, in the order in which they fall due, each with the
/// clock at its own due time; a timer that is set by a callback fires in the same Advance when it falls due in it.
/// </summary>
/// <remarks>
/// A task awaiting a timer continues inline in Advance unless its completion source says otherwise. To step code that runs elsewhere,
/// wait for what it does next (<see cref="WaitForTimersAsync"/>), then advance.
/// </remarks>
public sealed class ManualTime : TimeProvider
{
    readonly Lock _lock = new();
    readonly List<ManualTimer> _armed = [];
    readonly List<(int Count, TaskCompletionSource Reached)> _waiting = [];
    DateTimeOffset _now;
    long _timestamp;
    long _sequence;

    /// <summary>One that is behind the system's. What the process knows of its pools it forgets by their clocks: a test with many origins
    /// must not have those of others forgotten first.</summary>
    public static ManualTime Early => new(new DateTimeOffset(2021, 1, 1, 0, 0, 0, TimeSpan.Zero));

    public ManualTime(DateTimeOffset? start = null) => _now = start ?? new DateTimeOffset(2030, 1, 1, 0, 0, 0, TimeSpan.Zero);

    /// <summary>Timers that wait for their time.</summary>
    public int ArmedTimers
    {
        get
        {
            lock (_lock)
            {
                return _armed.Count;
            }
        }
    }

    /// <summary>Whether a timer is due in exactly this time.</summary>
    public bool HasTimerIn(TimeSpan time)
    {
        lock (_lock)
        {
            return _armed.Any(timer => timer.Due == _timestamp + time.Ticks);
        }
    }

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public override TimeZoneInfo LocalTimeZone => TimeZoneInfo.Utc;

    public override long GetTimestamp()
    {
        lock (_lock)
        {
            return _timestamp;
        }
    }

    public override DateTimeOffset GetUtcNow()
    {
        lock (_lock)
        {
            return _now;
        }
    }

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        var timer = new ManualTimer(this, callback, state);
        timer.Change(dueTime, period);
        return timer;
    }

    /// <summary>Moves the clock, firing on the way what falls due.</summary>
    public void Advance(TimeSpan by)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(by, TimeSpan.Zero);
        long end = GetTimestamp() + by.Ticks;
        while (TakeDue_MovesClock(end) is { } timer)
        {
            timer.Fire();   // outside the lock: a callback may set timers, read the clock, or advance it
        }
    }

    /// <summary>The machine sleeps: the wall clock runs on, this one stands still, and no timer fires.</summary>
    public void Sleep(TimeSpan by)
    {
        lock (_lock)
        {
            _now += by;
        }
    }

    /// <summary>Completes when at least <paramref name="count"/> timers are armed: the code under test has come to wait for time.</summary>
    public Task WaitForTimersAsync(int count)
    {
        lock (_lock)
        {
            if (_armed.Count >= count)
            {
                return Task.CompletedTask;
            }

            var reached = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            _waiting.Add((count, reached));
            return reached.Task;
        }
    }

    ManualTimer? TakeDue_MovesClock(long end)
    {
        lock (_lock)
        {
            ManualTimer? first = null;
            foreach (ManualTimer timer in _armed)
            {
                if (timer.Due <= end && (first is null || timer.Due < first.Due || (timer.Due == first.Due && timer.Sequence < first.Sequence)))
                {
                    first = timer;
                }
            }

            MoveTo_NeedsLock(first is null ? end : Math.Max(first.Due, _timestamp));
            if (first is null)
            {
                return null;
            }

            if (first.Period > TimeSpan.Zero)
            {
                first.Due += first.Period.Ticks;
                first.Sequence = ++_sequence;
            }
            else
            {
                _armed.Remove(first);
            }

            return first;
        }
    }

    void MoveTo_NeedsLock(long timestamp)
    {
        if (timestamp > _timestamp)   // a callback may have advanced further already
        {
            _now = _now.AddTicks(timestamp - _timestamp);
            _timestamp = timestamp;
        }
    }

    bool Arm(ManualTimer timer, TimeSpan dueTime, TimeSpan period)
    {
        lock (_lock)
        {
            if (timer.IsDisposed)
            {
                return false;
            }

            _armed.Remove(timer);
            if (dueTime >= TimeSpan.Zero)
            {
                timer.Due = _timestamp + dueTime.Ticks;
                timer.Period = period;
                timer.Sequence = ++_sequence;
                _armed.Add(timer);
                for (int i = _waiting.Count - 1; i >= 0; i--)
                {
                    if (_armed.Count >= _waiting[i].Count)
                    {
                        _waiting[i].Reached.TrySetResult();
                        _waiting.RemoveAt(i);
                    }
                }
            }

            return true;
        }
    }

    void Disarm(ManualTimer timer)
    {
        lock (_lock)
        {
            timer.IsDisposed = true;
            _armed.Remove(timer);
        }
    }

    sealed class ManualTimer(ManualTime time, TimerCallback callback, object? state) : ITimer
    {
        public long Due { get; set; }

        public TimeSpan Period { get; set; }

        public long Sequence { get; set; }

        public bool IsDisposed { get; set; }

        public void Fire() => callback(state);

        public bool Change(TimeSpan dueTime, TimeSpan period) => time.Arm(this, dueTime, period);

        public void Dispose() => time.Disarm(this);

        public ValueTask DisposeAsync()
        {
            Dispose();
            return ValueTask.CompletedTask;
        }
    }
}
