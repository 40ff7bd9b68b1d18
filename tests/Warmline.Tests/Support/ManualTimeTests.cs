using Xunit;

namespace Warmline.Tests.Support;

public sealed class ManualTimeTests
{
    readonly ManualTime _time = new();
    readonly List<string> _fired = [];

    [Fact]
    public void Timers_fire_in_order_each_at_its_own_time()
    {
        long started = _time.GetTimestamp();
        Timer("b", 20);
        Timer("a", 10);
        Timer("b2", 20);
        Timer("late", 31);
        _time.Advance(TimeSpan.FromMilliseconds(30));
        Assert.Equal(["a@10", "b@20", "b2@20"], _fired);
        Assert.Equal(TimeSpan.FromMilliseconds(30), _time.GetElapsedTime(started));
        Assert.Equal(1, _time.ArmedTimers);
    }

    [Fact]
    public void A_timer_set_by_a_callback_fires_in_the_same_advance_when_it_falls_due()
    {
        using ITimer first = _time.CreateTimer(_ => Timer("second", 5), null, TimeSpan.FromMilliseconds(10), Timeout.InfiniteTimeSpan);
        _time.Advance(TimeSpan.FromMilliseconds(20));
        Assert.Equal(["second@15"], _fired);
    }

    [Fact]
    public void A_period_repeats_until_the_timer_is_disposed()
    {
        ITimer timer = _time.CreateTimer(_ => _fired.Add("tick"), null, TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(1));
        _time.Advance(TimeSpan.FromSeconds(3));
        Assert.Equal(3, _fired.Count);
        timer.Dispose();
        _time.Advance(TimeSpan.FromSeconds(3));
        Assert.Equal(3, _fired.Count);
        Assert.False(timer.Change(TimeSpan.Zero, Timeout.InfiniteTimeSpan));
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task The_platforms_waits_follow_it()
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(5), _time);
        Task delay = Task.Delay(TimeSpan.FromSeconds(5), _time);
        _time.Advance(TimeSpan.FromSeconds(4.999));
        Assert.False(limit.IsCancellationRequested || delay.IsCompleted);
        _time.Advance(TimeSpan.FromMilliseconds(1));
        Assert.True(limit.IsCancellationRequested);
        await delay;
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task Waiting_for_timers_ends_when_they_are_armed()
    {
        Task armed = _time.WaitForTimersAsync(2);
        Timer("a", 1);
        Assert.False(armed.IsCompleted);
        Timer("b", 1);
        await armed;
    }

    void Timer(string name, int milliseconds)
    {
        DateTimeOffset start = new(2030, 1, 1, 0, 0, 0, TimeSpan.Zero);
        _ = _time.CreateTimer(
            _ => _fired.Add($"{name}@{(_time.GetUtcNow() - start).TotalMilliseconds}"), null, TimeSpan.FromMilliseconds(milliseconds), Timeout.InfiniteTimeSpan);
    }
}
