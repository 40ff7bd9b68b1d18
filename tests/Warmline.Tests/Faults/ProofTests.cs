using Xunit;

namespace Warmline.Tests.Faults;

/// <summary>The proofs find what they are there to find.</summary>
public sealed class ProofTests
{
    static readonly Exception NotSent = new PoolConnectException(DialPhase.Tcp, RequestVerdict.NotSent, "", null);

    [Fact]
    public void A_call_that_ran_once_and_was_answered_whole_passes() => Assert.Empty(Proofs.Broken([Answered()], [Whole()]));

    [Fact]
    public void A_call_that_the_server_disowned_first_may_run_again() => Assert.Empty(Proofs.Broken([Answered()], [new Copy(0, 0, 1) { Ran = true, Disowned = true }, Whole()]));

    [Fact]
    public void A_post_that_ran_twice_is_found() =>
        Assert.Equal(["call 0: a POST ran twice", "call 0: a POST was sent again without the server's word that it had not processed it"], Proofs.Broken([Answered()], [new Copy(0, 0, 0) { Ran = true }, Whole()]));

    [Fact]
    public void A_post_that_was_sent_again_on_a_guess_is_found() =>
        Assert.Equal(["call 0: a POST was sent again without the server's word that it had not processed it"], Proofs.Broken([Answered()], [new Copy(0, 0, 0), Whole()]));

    [Fact]
    public void A_get_may_be_sent_again() => Assert.Empty(Proofs.Broken([Answered(new CallKind { Method = HttpMethod.Get })], [new Copy(0, 0, 0) { Ran = true }, Whole()]));

    [Theory]
    [InlineData(RequestVerdict.Unprocessed, 1, true, "lost after 1 sendings, none of which the server processed")]
    [InlineData(RequestVerdict.Unprocessed, 4, true, null)]
    [InlineData(RequestVerdict.Unprocessed, 1, false, "the verdict is Unprocessed, and the server had not said so")]
    [InlineData(RequestVerdict.NotSent, 1, false, "the verdict is NotSent, and it had arrived")]
    [InlineData(RequestVerdict.Unknown, 1, true, Proofs.NeedlesslyUnknown)]
    [InlineData(RequestVerdict.Unknown, 1, false, null)]
    public void A_verdict_that_the_log_does_not_bear_out_is_found(RequestVerdict verdict, int copies, bool disowned, string? expected)
    {
        var call = new Call(0, true, new CallKind()) { Error = new PoolRequestException(verdict, HttpRequestError.Unknown, "", new IOException()) };

        var broken = Proofs.Broken([call], [.. Enumerable.Range(0, copies).Select(at => new Copy(0, at, 1) { Disowned = disowned })]);

        Assert.Equal(expected is null ? [] : [$"call 0: {expected}"], broken);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_call_that_was_not_sent_although_there_was_somewhere_to_send_it_is_found(bool wasAble) =>
        Assert.Equal(wasAble ? 1 : 0, Proofs.Broken([new Call(0, true, new CallKind()) { Error = NotSent, WasAble = wasAble }], []).Count);

    [Fact]
    public void A_call_that_hangs_or_ends_long_after_its_clock_is_found()
    {
        var late = new Call(0, true, new CallKind()) { Error = NotSent, Turned = TimeSpan.FromMinutes(1) };

        Assert.Equal(["call 0: it ended in Timeouts.Connect (00:00:05) after 00:01:00"], Proofs.Broken([late], []));
        Assert.Equal(["call 0: it hung"], Proofs.Broken([new Call(0, true, new CallKind()) { Hangs = true }], []));
    }

    [Fact]
    public void A_broken_answer_that_passed_as_whole_is_found()
    {
        Assert.Equal(["call 0: a broken answer passed as whole"], Proofs.Broken([Answered()], [new Copy(0, 0, 0) { Ran = true, Said = "hello" }]));
        Assert.Equal(["call 0: a broken answer passed as whole"], Proofs.Broken([Answered()], [new Copy(0, 0, 0) { Ran = true, Said = "hello, world", AnsweredWhole = true }]));
    }

    static Call Answered(CallKind? kind = null) => new(0, true, kind ?? new CallKind()) { Status = 200, Text = "hello", IsWhole = true };

    static Copy Whole() => new(0, 1, 0) { Ran = true, SaidHead = true, Said = "hello", AnsweredWhole = true };
}
