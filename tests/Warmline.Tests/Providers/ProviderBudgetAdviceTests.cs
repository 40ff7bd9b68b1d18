using Warmline.Scheduling;
using Xunit;

namespace Warmline.Tests.Providers;

/// <summary>A refusal's body says how long to wait, after its headers were read and acted on.</summary>
public sealed class ProviderBudgetAdviceTests
{
    readonly ProviderBudget _budget = new();
    TimeSpan _now = TimeSpan.FromHours(1);

    [Fact]
    public void A_wait_from_the_body_takes_the_place_of_a_guess_and_counts_from_the_answer()
    {
        _budget.Started(_now);
        _budget.Started(_now);
        _budget.Answered(default, 429, _now);
        var answered = _now;
        Assert.Equal(_now + TimeSpan.FromSeconds(1), _budget.OpensAt(_now));   // guessed
        _now += TimeSpan.FromSeconds(0.5);
        _budget.Advised(TimeSpan.FromSeconds(0.75), answered);
        Assert.Equal(answered + TimeSpan.FromSeconds(0.75), _budget.OpensAt(_now));

        // One burst is one refusal: another of it says more.
        _budget.Answered(default, 429, _now, answered);
        _budget.Advised(TimeSpan.FromSeconds(5.25), _now);
        Assert.Equal(_now + TimeSpan.FromSeconds(5.25), _budget.OpensAt(_now));
        _now += TimeSpan.FromSeconds(5.25);
        Assert.Equal(int.MaxValue, _budget.Left(_now));   // nothing was guessed: all may go

        // And the next guess begins with the first again.
        _budget.Started(_now);
        _budget.Answered(default, 429, _now);
        Assert.Equal(_now + TimeSpan.FromSeconds(1), _budget.OpensAt(_now));
    }

    [Fact]
    public void A_wait_from_the_body_shortens_neither_a_told_wait_nor_a_later_guess_and_hours_are_cut()
    {
        _budget.Started(_now);
        _budget.Answered(new RateLimits { RetryAfter = TimeSpan.FromSeconds(9) }, 429, _now);
        _budget.Advised(TimeSpan.FromSeconds(5), _now);
        Assert.Equal(_now + TimeSpan.FromSeconds(9), _budget.OpensAt(_now));
        var early = _now;
        _now += TimeSpan.FromSeconds(9);
        _budget.Started(_now);
        _budget.Answered(default, 429, _now);
        _budget.Advised(TimeSpan.FromSeconds(0.1), early);   // read late
        Assert.Equal(_now + TimeSpan.FromSeconds(1), _budget.OpensAt(_now));

        _budget.Advised(TimeSpan.FromHours(3), _now);
        Assert.Equal(_now + TimeSpan.FromMinutes(10), _budget.OpensAt(_now));
        _now += TimeSpan.FromSeconds(600);
        Assert.Equal(1, _budget.Left(_now));   // one asks whether it is over
    }

    [Fact]
    public void A_503_that_tells_its_wait_only_in_the_body_cools_down()
    {
        _budget.Started(_now);
        _budget.Answered(default, 503, _now);
        Assert.True(_budget.IsOpen(_now));
        _budget.Advised(TimeSpan.FromSeconds(5), _now);
        Assert.Equal(_now + TimeSpan.FromSeconds(5), _budget.OpensAt(_now));
    }
}
