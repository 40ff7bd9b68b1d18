using Warmline.Scheduling;
using Xunit;

namespace Warmline.Tests.Scheduling;

/// <summary>When an origin's HTTP/2 is avoided, and for how long.</summary>
public sealed class Http2TrustTests
{
    static readonly TimeSpan Start = TimeSpan.FromHours(1), Second = TimeSpan.FromSeconds(1);

    readonly Http2Trust _trust = new();

    [Fact]
    public void A_refusal_counts_at_once_and_always()
    {
        _trust.Answered(overHttp2: true);

        Assert.True(_trust.TryAvoid(Http2Doubt.Refused, Start, Start, out var isNews));
        Assert.True(isNews);
        Assert.True(_trust.TryAvoid(Http2Doubt.None, Start, Start + Second, out isNews));
        Assert.False(isNews);
        Assert.True(_trust.IsAvoided(Start + Http2Trust.RefusalMemory - Second));
        Assert.False(_trust.IsAvoided(Start + Http2Trust.RefusalMemory));
    }

    [Theory]
    [InlineData((int)Http2Doubt.Broken)]
    [InlineData((int)Http2Doubt.NoAnswer)]
    public void What_has_worked_is_not_given_up_for_a_guess(int doubt)
    {
        _trust.Answered(overHttp2: true);

        for (var at = 0; at < 5; at++)
        {
            Assert.False(_trust.TryAvoid((Http2Doubt)doubt, Start + (at * Second), Start + (at * Second), out _));
        }
    }

    [Fact]
    public void Calls_without_an_answer_count_once_for_an_outage()
    {
        Assert.False(_trust.TryAvoid(Http2Doubt.NoAnswer, Start, Start + Second, out _));
        Assert.False(_trust.TryAvoid(Http2Doubt.NoAnswer, Start, Start + Second, out _));   // was under way with the first
        Assert.True(_trust.TryAvoid(Http2Doubt.NoAnswer, Start + (2 * Second), Start + (3 * Second), out _));
        Assert.True(_trust.IsAvoided(Start + Http2Trust.BreakMemory));
        Assert.False(_trust.IsAvoided(Start + Http2Trust.BreakMemory + (4 * Second)));
    }

    [Theory]
    [InlineData((int)Http2Doubt.Broken, false, false, true)]
    [InlineData((int)Http2Doubt.Broken, true, false, false)]
    [InlineData((int)Http2Doubt.Broken, true, true, true)]
    [InlineData((int)Http2Doubt.Refused, false, false, false)]
    [InlineData((int)Http2Doubt.Refused, false, true, true)]
    public void Where_HTTP1_fails_as_well_HTTP2_is_offered_again(int doubt, bool http1Answered, bool cannotSpeakIt, bool isOffered)
    {
        Assert.True(_trust.TryAvoid((Http2Doubt)doubt, Start, Start, out _));
        Assert.True(_trust.IsDoubted);
        if (http1Answered)
        {
            _trust.Answered(overHttp2: false);
        }

        Assert.Equal(isOffered, _trust.Http1Failed(cannotSpeakIt, Start + Second));
        Assert.Equal(!isOffered, _trust.IsAvoided(Start + Second));
        Assert.Equal(!isOffered, _trust.TryAvoid((Http2Doubt)doubt, Start + Second, Start + (2 * Second), out _));   // not at once again
    }

    [Fact]
    public void HTTP2_is_doubted_until_it_opens()
    {
        _trust.TryAvoid(Http2Doubt.Broken, Start, Start, out _);
        Assert.True(_trust.IsDoubted);

        _trust.Opened();

        Assert.False(_trust.IsDoubted);
    }
}
