using Warmline.Scheduling;
using Xunit;

namespace Warmline.Tests.Providers;

/// <summary>When a provider lets the next request through, by what its answers told.</summary>
public sealed class ProviderBudgetTests
{
    readonly ProviderBudget _budget = new();
    TimeSpan _now = TimeSpan.FromHours(1);

    [Fact]
    public void While_nothing_is_known_it_is_open()
    {
        Start(1_000);
        Assert.True(_budget.IsOpen(_now));

        Answer();   // by a server that tells nothing
        Assert.True(_budget.IsOpen(_now));
        Assert.Empty(_budget.Report(_now));
    }

    [Fact]
    public void What_is_left_less_what_is_in_flight_may_start()
    {
        Start(3);
        Answer(left: 2, resetIn: 60);
        Assert.False(_budget.IsOpen(_now));   // two are in flight, which may not be counted yet
        Assert.Equal(_now + Seconds(60), _budget.OpensAt(_now));

        Answer(left: 1, resetIn: 60);
        Answer(left: 0, resetIn: 60);
        Assert.Equal(_now + Seconds(60), _budget.OpensAt(_now));
    }

    [Fact]
    public void Of_two_answers_that_overtook_each_other_the_least_counts()
    {
        Start(2);
        Answer(left: 4, resetIn: 60);
        Answer(left: 5, resetIn: 60);

        Assert.Equal(4, Startable());
    }

    [Fact]
    public void An_answer_to_a_later_request_counts_as_it_is()
    {
        Start(2);
        Answer(left: 1, resetIn: 60);
        _budget.Failed(_now);
        Assert.Equal(0, Startable());

        Pass(1);
        Start(1);
        Pass(1);
        Answer(left: 9, resetIn: 58);   // the failed one had not been counted, or more was granted
        Assert.Equal(9, Startable());
    }

    [Fact]
    public void After_the_reset_all_of_the_limit_is_there_less_what_may_be_on_its_way()
    {
        Exhaust(limit: 10, resetIn: 60);
        Pass(60 - 1);
        Assert.False(_budget.IsOpen(_now));

        Pass(1);
        Assert.Equal(10, Startable());
        Start(10);
        Assert.Equal(TimeSpan.MaxValue, _budget.OpensAt(_now));   // only an answer can tell when this window ends
        Answer(left: 9, resetIn: 59.9);
        Assert.Equal(_now + Seconds(59.9), _budget.OpensAt(_now));
    }

    [Fact]
    public void Answers_that_take_longer_than_a_window_hold_nothing_of_the_next()
    {
        Start(10);
        for (var i = 9; i >= 5; i--)
        {
            Answer(left: i, resetIn: 60);
        }

        Pass(60);
        Assert.Equal(0, Startable(known: false));   // no limit is told: the most that was ever left is taken for it
        Start(1);
        Answer(left: 9, limit: 10, resetIn: 60, startedAt: _now);
        Assert.Equal(9, Startable());   // five of the window before have no answer yet
    }

    [Fact]
    public void An_answer_of_the_window_before_does_not_close_the_next()
    {
        Start(2);
        Answer(left: 0, limit: 10, resetIn: 1);
        Pass(1.01);
        var late = _now;
        Start(1);
        Pass(0.05);
        Answer(left: 0, limit: 10, resetIn: 0.001);   // the second of the two, told before the reset
        Pass(0.01);
        Answer(left: 9, limit: 10, resetIn: 59.9, startedAt: late);

        Assert.Equal(9, Startable());
    }

    [Fact]
    public void A_window_that_ended_before_we_thought_is_seen_by_its_end()
    {
        Start(2);
        Pass(5);
        Answer(left: 0, limit: 10, resetIn: 10);   // told at once, brought late: it ends between 10 and 15 s
        Pass(7);
        Answer(left: 8, limit: 10, resetIn: 60, startedAt: _now - Seconds(1));

        Assert.Equal(8, Startable());
    }

    [Fact]
    public void What_was_counted_when_a_window_may_have_been_over_is_taken_off_the_next()
    {
        Start(1);
        Pass(5);
        Answer(left: 9, limit: 10, resetIn: 10);   // it ends between 10 and 15 s
        Pass(6);
        Start(4);
        for (var i = 0; i < 4; i++)
        {
            _budget.Failed(_now);
        }

        Pass(4);
        Assert.Equal(6, Startable());
    }

    [Fact]
    public void A_bucket_is_known_by_an_end_that_moves_and_lets_one_through_as_it_refills()
    {
        // 60 in a minute: each draws the end a second away.
        Start(60);
        Pass(0.05);
        for (var i = 59; i >= 0; i--)
        {
            Answer(left: i, limit: 60, resetIn: 60 - i);
        }

        Assert.InRange(_budget.OpensAt(_now) - _now, Seconds(1), Seconds(1.01));
        Pass(1.02);
        Assert.Equal(1, Startable());
        Pass(9);
        Assert.Equal(10, Startable());
    }

    [Fact]
    public void A_bucket_that_refuses_is_waited_for_whole()
    {
        Start(60);
        Pass(0.05);
        for (var i = 59; i >= 0; i--)
        {
            Answer(left: i, limit: 60, resetIn: 60 - i);
        }

        Pass(2);
        Start(1);
        Answer(left: 0, limit: 60, resetIn: 60, status: 429, retryAfter: 1);
        Assert.Equal(_now + Seconds(60), _budget.OpensAt(_now));

        Pass(20);
        Start(1);
        Pass(0.1);
        Answer(left: 0, limit: 60, resetIn: 60);   // the end moves again, and it is believed no more
        Assert.Equal(_now + Seconds(60), _budget.OpensAt(_now));
    }

    [Fact]
    public void A_fixed_window_is_never_taken_for_a_bucket()
    {
        Start(60);
        for (var i = 59; i >= 0; i--)
        {
            Pass(0.2);
            Answer(left: i, limit: 60, resetIn: 60 - ((60 - i) * 0.2));
        }

        Assert.InRange(_budget.OpensAt(_now), _now + Seconds(47.9), _now + Seconds(48.1));
    }

    [Fact]
    public void Tokens_close_it_only_when_none_are_left()
    {
        Start(1);
        Answer(kind: RateLimitKind.InputTokens, left: 1, limit: 1_000, resetIn: 10);
        Start(50);
        Assert.True(_budget.IsOpen(_now));

        Pass(1);
        Start(1);
        Answer(kind: RateLimitKind.InputTokens, left: 0, limit: 1_000, resetIn: 7, startedAt: _now);
        Assert.Equal(_now + Seconds(7), _budget.OpensAt(_now));
        Pass(7);
        Assert.True(_budget.IsOpen(_now));
    }

    [Fact]
    public void Nothing_left_and_no_reset_told_opens_by_an_answer_or_for_one_that_asks()
    {
        Start(2);
        Answer(left: 0);
        Assert.Equal(_now + BudgetWindow.Ageing, _budget.OpensAt(_now));   // one in flight will tell, or it is old

        Answer(left: 0);
        Assert.True(_budget.IsOpen(_now));   // nobody is left to tell
        Start(1);
        Assert.False(_budget.IsOpen(_now));
        Pass(60);
        Assert.True(_budget.IsOpen(_now));
    }

    [Fact]
    public void Before_a_reset_that_is_hours_away_one_asks_now_and_then()
    {
        Exhaust(limit: 2, resetIn: 86_400);
        Assert.Equal(_now + ProviderBudget.LongestCoolDown, _budget.OpensAt(_now));
        Pass(600);
        Assert.Equal(1, Startable());

        Start(1);
        Answer(left: 0, limit: 2, resetIn: 85_800);
        Assert.Equal(_now + ProviderBudget.LongestCoolDown, _budget.OpensAt(_now));
        Pass(600);
        Start(1);
        Answer(left: 199, limit: 200, resetIn: 85_200);   // the account was raised
        Assert.Equal(199, Startable());
    }

    [Theory]
    [InlineData(429)]
    [InlineData(529)]
    [InlineData(503)]
    public void A_refusal_cools_down_as_told(int status)
    {
        Start(3);
        Answer(status: status, retryAfter: 7);
        Assert.Equal(_now + Seconds(7), _budget.OpensAt(_now));

        Pass(1);
        Answer(status: status, retryAfter: 2);
        Assert.Equal(_now + Seconds(6), _budget.OpensAt(_now));   // the longer of the two

        Answer(status: status, retryAfter: 100_000);
        Assert.Equal(_now + ProviderBudget.LongestCoolDown, _budget.OpensAt(_now));
        Pass(600);
        Assert.Equal(1, Startable());   // that was cut: one asks, then another
    }

    [Fact]
    public void A_503_that_tells_no_wait_is_an_error_and_no_limit()
    {
        Start(1);
        Answer(status: 503);
        Assert.True(_budget.IsOpen(_now));
    }

    [Fact]
    public void A_refusal_that_tells_no_wait_waits_for_the_reset_of_what_is_exhausted()
    {
        Start(1);
        Answer(kind: RateLimitKind.Tokens, left: 0, limit: 100, resetIn: 42, status: 429);

        Assert.Equal(_now + Seconds(42), _budget.OpensAt(_now));
    }

    [Fact]
    public void A_refusal_that_tells_nothing_waits_twice_as_long_each_time_up_to_a_minute()
    {
        double[] waits = [1, 2, 4, 8, 16, 32, 60, 60];
        foreach (var wait in waits)
        {
            Start(3);
            Answer(status: 529);
            Answer(status: 529);   // refused together: once
            Answer(status: 529);
            Assert.Equal(_now + Seconds(wait), _budget.OpensAt(_now));
            Pass(wait);
        }

        Assert.Equal(1, Startable());   // one in a second
        Start(1);
        Pass(0.9);
        Assert.False(_budget.IsOpen(_now));
        Pass(0.1);
        Assert.True(_budget.IsOpen(_now));
        Answer();
        Start(10);
        Assert.True(_budget.IsOpen(_now));
        Answer(status: 529, startedAt: _now);
        Assert.Equal(_now + Seconds(1), _budget.OpensAt(_now));   // an answer made it forget
    }

    [Fact]
    public void What_fails_may_have_been_counted_and_what_was_not_sent_was_not()
    {
        Start(1);
        Answer(left: 5, resetIn: 60);
        Start(2);
        _budget.Failed(_now);
        Assert.Equal(3, Startable());

        _budget.Unused(_now);
        Assert.Equal(4, Startable());
        Start(1);
        Answer();   // without headers
        Assert.Equal(3, Startable());
        Assert.Equal(0, _budget.InFlight);
    }

    [Fact]
    public void Growth_after_slow_down_is_half_in_fifteen_minutes_and_the_bound_ends_unused()
    {
        for (var i = 0; i < 120; i++)
        {
            Start(1);
            Answer();
            Pass(0.5);
        }

        _budget.SlowDown(_now);
        var first = StartedWithin(TimeSpan.FromMinutes(15));
        var second = StartedWithin(TimeSpan.FromMinutes(15));
        Assert.InRange(first, 120 * 15, (120 * 15 * 1.5) + 3);
        Assert.InRange(second / (double)first, 1.45, 1.55);

        Start(600);
        Assert.False(_budget.IsOpen(_now));
        Pass(180);
        Assert.True(_budget.IsOpen(_now));
        Pass(15 * 60);
        Start(100_000);
        Assert.True(_budget.IsOpen(_now));
    }

    [Fact]
    public void It_reports_what_it_knows()
    {
        Start(2);
        Answer(left: 8, limit: 10, resetIn: 60);
        Answer(kind: RateLimitKind.OutputTokens, left: 500, limit: 1_000, resetIn: 30);
        Pass(10);

        Assert.Equal([new ProviderLimit(RateLimitKind.Requests, 10, 7, Seconds(50), Seconds(10)), new ProviderLimit(RateLimitKind.OutputTokens, 1_000, 500, Seconds(20), Seconds(10))], _budget.Report(_now));
        Assert.False(_budget.IsForgettable(_now));
        Pass(50);
        Assert.Equal(new ProviderLimit(RateLimitKind.Requests, 10, 10, null, Seconds(60)), _budget.Report(_now)[0]);
        Assert.True(_budget.IsForgettable(_now));
    }

    void Exhaust(int limit, double resetIn)
    {
        Start(limit);
        for (var left = limit - 1; left >= 0; left--)
        {
            Answer(left: left, limit: limit, resetIn: resetIn);
        }
    }

    void Start(int count)
    {
        for (var i = 0; i < count; i++)
        {
            _budget.Started(_now);
        }
    }

    void Pass(double seconds) => _now += Seconds(seconds);

    void Answer(long? left = null, long? limit = null, double? resetIn = null, int status = 200, double? retryAfter = null, RateLimitKind kind = RateLimitKind.Requests, TimeSpan? startedAt = null)
    {
        var reading = new RateLimits { RetryAfter = retryAfter is { } wait ? Seconds(wait) : null };
        if (left is not null || limit is not null || resetIn is not null)
        {
            ref var told = ref reading.At(kind);
            (told.Limit, told.Remaining, told.ResetIn) = (limit, left, resetIn is { } reset ? Seconds(reset) : null);
        }

        _budget.Answered(reading, status, _now, startedAt);
    }

    /// <summary>How many it would let start now.</summary>
    int Startable(bool known = true)
    {
        var count = 0;
        while (_budget.IsOpen(_now) && count < 1_000)
        {
            _budget.Started(_now);
            count++;
        }

        for (var i = 0; i < count; i++)
        {
            _budget.Unused(_now, _now);
        }

        Assert.True(count < 1_000 || !known);
        return known ? count : 0;
    }

    int StartedWithin(TimeSpan time)
    {
        var (count, end) = (0, _now + time);
        while (_budget.OpensAt(_now) is var opens && opens < end)
        {
            _now = opens;
            Start(1);
            Answer();
            count++;
        }

        _now = end;
        return count;
    }

    static TimeSpan Seconds(double seconds) => TimeSpan.FromSeconds(seconds);
}
