using Warmline.Pool;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>The pool's time stands still while the thread pool has no thread, here played by a queue that the test serves.</summary>
public sealed class PoolTimeTests : IDisposable
{
    static readonly TimeSpan Second = TimeSpan.FromSeconds(1);

    readonly ManualTime _clock = new();
    readonly Queue<Action> _queue = new();
    readonly List<TimeSpan> _told = [];
    readonly PoolTime _time;
    readonly long _start;
    bool _isBusy = true;

    public PoolTimeTests()
    {
        _time = new PoolTime(_clock, _queue.Enqueue) { StoodStill = _told.Add };
        _start = _time.GetTimestamp();
    }

    TimeSpan Now => _time.GetElapsedTime(_start);

    public void Dispose() => _time.Dispose();

    [Fact]
    public void Goes_on_while_work_gets_its_thread()
    {
        _time.Watch(() => _isBusy);
        Pass(10 * Second);

        Assert.Equal(10 * Second, Now);
        Assert.Empty(_told);
    }

    [Fact]
    public void Stands_still_while_work_waits_and_tells_it_when_it_is_over()
    {
        _time.Watch(() => _isBusy);
        Pass(Second);
        Starve(10 * Second);

        Assert.InRange(Now, Second, 1.3 * Second);
        Assert.Empty(_told);
        Pass(0.4 * Second);
        Assert.Empty(_told);   // the next thread may be blocked as well
        Pass(0.3 * Second);
        var lost = Assert.Single(_told);
        Assert.InRange(lost, 10 * Second, 10.6 * Second);
        Pass(Second);
        Assert.InRange(Now, 2 * Second, 2.5 * Second);
        Assert.Equal(_time.Lost, lost);
    }

    [Fact]
    public void Stands_still_as_long_as_each_work_item_has_to_wait()
    {
        _time.Watch(() => _isBusy);
        for (var i = 0; i < 40; i++)
        {
            Starve(0.25 * Second);   // as a starving thread pool adds threads
            Serve();
        }

        Assert.InRange(Now, TimeSpan.Zero, 0.3 * Second);
        Assert.Empty(_told);
    }

    [Fact]
    public void Stands_still_as_long_as_each_timer_has_to_wait()
    {
        var clock = new LateTimers(_clock);
        using var time = new PoolTime(clock, _queue.Enqueue) { StoodStill = _told.Add };
        time.Watch(() => true);
        for (var i = 0; i < 40; i++)
        {
            _clock.Advance(0.5 * Second);
            clock.Fire();   // the thread that the starving pool adds comes to the timer first,
            Serve();        // and to what it queues at once
        }

        Assert.InRange(time.GetElapsedTime(_start), TimeSpan.Zero, 1.1 * Second);
        Assert.Empty(_told);
    }

    [Fact]
    public void A_timer_waits_for_the_time_that_was_lost()
    {
        var fired = 0;
        using var timer = _time.CreateTimer(_ => fired++, null, 5 * Second, Timeout.InfiniteTimeSpan);
        _time.Watch(() => _isBusy);
        Pass(Second);
        Starve(20 * Second);
        Assert.Equal(0, fired);
        Pass(0.6 * Second);
        Pass(3 * Second);
        Assert.Equal(0, fired);
        Pass(2 * Second);
        Assert.Equal(1, fired);
        Pass(20 * Second);
        Assert.Equal(1, fired);
    }

    [Fact]
    public void A_timer_that_repeats_leaves_out_its_turns()
    {
        var fired = 0;
        using var timer = _time.CreateTimer(_ => fired++, null, Second, Second);
        _time.Watch(() => _isBusy);
        Pass(3 * Second);
        Assert.Equal(3, fired);
        Starve(10 * Second);
        Assert.InRange(fired, 3, 4);
        Pass(0.6 * Second);
        var before = fired;
        Pass(3 * Second);
        Assert.InRange(fired - before, 3, 4);
    }

    [Fact]
    public void A_timer_can_be_stopped_and_set_anew_in_a_standstill()
    {
        var fired = 0;
        using var timer = _time.CreateTimer(_ => fired++, null, 5 * Second, Timeout.InfiniteTimeSpan);
        _time.Watch(() => _isBusy);
        Starve(10 * Second);
        timer.Change(Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        Pass(0.6 * Second);
        Pass(20 * Second);
        Assert.Equal(0, fired);
        timer.Change(Second, Timeout.InfiniteTimeSpan);
        Pass(2 * Second);
        Assert.Equal(1, fired);
    }

    [Fact]
    public void Looks_only_while_the_pool_is_busy_and_again_when_it_is_told_to()
    {
        _time.Watch(() => _isBusy);
        Pass(Second);
        _isBusy = false;
        Pass(Second);
        Assert.Equal(0, _clock.ArmedTimers);
        Starve(10 * Second);
        Assert.Equal(12 * Second, Now);
        _isBusy = true;
        _time.Watch(() => _isBusy);
        Starve(10 * Second);
        Assert.InRange(Now, 12 * Second, 12.6 * Second);
    }

    /// <summary>Timers that fire when the test says so, as they do where no thread is free for them.</summary>
    sealed class LateTimers(ManualTime clock) : TimeProvider
    {
        readonly List<Action> _timers = [];

        public override long TimestampFrequency => clock.TimestampFrequency;

        public override long GetTimestamp() => clock.GetTimestamp();

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            _timers.Add(() => callback(state));
            return clock.CreateTimer(static _ => { }, null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        }

        public void Fire() => _timers.ForEach(static timer => timer());
    }

    void Pass(TimeSpan time)
    {
        for (; time > TimeSpan.Zero; time -= TimeSpan.FromMilliseconds(50))
        {
            _clock.Advance(TimeSpan.FromMilliseconds(50));
            Serve();
        }
    }

    void Starve(TimeSpan time)
    {
        for (; time > TimeSpan.Zero; time -= TimeSpan.FromMilliseconds(50))
        {
            _clock.Advance(TimeSpan.FromMilliseconds(50));
        }
    }

    void Serve()
    {
        for (var count = _queue.Count; count > 0; count--)
        {
            _queue.Dequeue()();
        }
    }
}
