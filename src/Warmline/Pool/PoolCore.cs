using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline.Pool;

/// <summary>
/// Owns the pool's lock and timer and executes the scheduler's actions. Every event is played under the lock and returns actions. They run
/// after the lock has been released: dialling, closing or completing a call can take the lock again, on this thread or another.
/// </summary>
internal sealed class PoolCore : IAsyncDisposable
{
    [ThreadStatic]
    static List<SchedulerAction>? _spareActions;

    readonly Lock _gate = new();
    readonly Lock _timerGate = new();
    readonly Scheduler _scheduler;
    readonly SleepWatch _sleep;
    readonly DrainProgress _progress;
    readonly TimeProvider _time;
    readonly Background _background;
    readonly ITimer _timer;
    readonly long _start;
    TimeSpan _wakeAt = TimeSpan.MaxValue;

    /// <param name="scheduler">Decides. Used under the lock only.</param>
    /// <param name="sleep">Checked with each event.</param>
    /// <param name="progress">Updated with each event.</param>
    /// <param name="time">The pool's time.</param>
    /// <param name="background">Logs what an action throws.</param>
    public PoolCore(Scheduler scheduler, SleepWatch sleep, DrainProgress progress, TimeProvider time, Background background)
    {
        _scheduler = scheduler;
        _sleep = sleep;
        _progress = progress;
        _time = time;
        _background = background;
        _start = time.GetTimestamp();
        _timer = background.CreateTimer(this, static core => core.Tick(), Timeout.InfiniteTimeSpan);
    }

    /// <summary>What happens under the lock: plays an event, with its time and the list that takes its actions.</summary>
    public delegate void Event<in T>(Scheduler scheduler, T argument, TimeSpan now, List<SchedulerAction> actions);

    /// <inheritdoc cref="Event{T}"/>
    public delegate TResult Event<in T, out TResult>(Scheduler scheduler, T argument, TimeSpan now, List<SchedulerAction> actions);

    /// <summary>Executes an action. Set before the first event.</summary>
    public required Action<SchedulerAction> Execute { get; init; }

    /// <summary>Time since the pool was created.</summary>
    public TimeSpan Now => _time.GetElapsedTime(_start);

    /// <summary>Plays an event, and executes what follows from it.</summary>
    public void Play<T>(T argument, Event<T> play) => Play((argument, play), static (scheduler, played, now, actions) =>
    {
        played.play(scheduler, played.argument, now, actions);
        return true;
    });

    /// <inheritdoc cref="Play{T}"/>
    /// <returns>What the event returned.</returns>
    public TResult Play<T, TResult>(T argument, Event<T, TResult> play)
    {
        var actions = _spareActions ?? [];
        _spareActions = null;   // a nested event on this thread gets a list of its own
        TResult result;
        lock (_gate)
        {
            var now = Now;
            if (_sleep.TryDetect(now))
            {
                _scheduler.ClockJumped(now, actions);
            }

            result = play(_scheduler, argument, now, actions);
            _progress.Update(_scheduler);
        }

        ExecuteAll(actions);
        return result;
    }

    /// <summary>Reads under the lock.</summary>
    public T Read<T>(Func<Scheduler, TimeSpan, T> read)
    {
        lock (_gate)
        {
            return read(_scheduler, Now);
        }
    }

    /// <summary>Wakes the scheduler at a time that it asked for.</summary>
    public void WakeAt(TimeSpan at)
    {
        // Two threads may bring their requests here in the wrong order. The earlier time stands: the tick asks again.
        lock (_timerGate)
        {
            if (at < _wakeAt)
            {
                _wakeAt = at;
                var wait = at - Now;

                // A timer counts whole milliseconds. Rounded down it would fire just before the time, several times over.
                _timer.TrySet(wait > TimeSpan.Zero ? wait + TimeSpan.FromMilliseconds(1) : TimeSpan.Zero, Timeout.InfiniteTimeSpan);
            }
        }
    }

    public ValueTask DisposeAsync() => _timer.DisposeAsync();

    void Tick()
    {
        lock (_timerGate)
        {
            _wakeAt = TimeSpan.MaxValue;
        }

        Play(0, static (scheduler, _, now, actions) => scheduler.Tick(now, actions));
    }

    void ExecuteAll(List<SchedulerAction> actions)
    {
        foreach (var action in actions)
        {
            try
            {
                Execute(action);
            }
            catch (Exception error)
            {
                _background.LogFault(error);   // the other actions must run all the same
            }
        }

        actions.Clear();
        _spareActions = actions;
    }
}
