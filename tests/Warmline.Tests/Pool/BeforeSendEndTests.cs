using System.Net;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>How what runs between a call's grant and its send can end: nothing was sent then, and the place and the connection
/// remain.</summary>
public sealed class BeforeSendEndTests
{
    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    [InlineData(false, false)]
    [InlineData(false, true)]
    public async Task What_it_throws_reaches_the_caller_and_the_place_and_the_connection_remain(bool http2, bool later)
    {
        await using var rig = await Rig.StartAsync(http2, options => options.MaxConcurrentRequests = 1);
        await rig.CallAsync();
        foreach (var own in new Exception[] { new InvalidOperationException("no token"), new HttpRequestException("no token"), new IOException("no token"), new OperationCanceledException("no token") })
        {
            var seen = await Assert.ThrowsAnyAsync<Exception>(() => rig.CallAsync(Calls.Chat().With(new()
            {
                BeforeSend = async (_, _) =>
                {
                    if (later)
                    {
                        await Task.Yield();
                    }

                    throw own;
                },
            })));
            Assert.Equal("no token", seen.Message);
            Assert.True(ReferenceEquals(own, seen) || own is OperationCanceledException, $"{seen}");   // what is cancelled HttpClient makes its own of
        }

        await rig.CallAsync();
        Assert.Equal((1, 2), (rig.Counters.ConnectionsAccepted, rig.Counters.Requests));
        Assert.Equal((0L, 0L), (rig.Stats.Faults.FailedNotSent, rig.Stats.Faults.FailedUnknown));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public async Task The_callers_token_ends_it_also_if_it_takes_no_notice(bool http2, bool heeds)
    {
        await using var rig = await Rig.StartAsync(http2, options => options.MaxConcurrentRequests = 1);
        await rig.CallAsync();
        var (entered, never) = (new TaskCompletionSource(), new TaskCompletionSource());
        using var cancel = new CancellationTokenSource();
        var call = rig.SendAsync(Calls.Chat().With(new()
        {
            BeforeSend = async (_, token) =>
            {
                entered.SetResult();
                await (heeds ? never.Task.WaitAsync(token) : never.Task);
            },
        }), cancel.Token);
        await entered.Task;
        Assert.Equal(1, rig.Stats.Active);
        await cancel.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => call);
        await rig.CallAsync();
        Assert.Equal((1, 2), (rig.Counters.ConnectionsAccepted, rig.Counters.Requests));
        never.SetResult();
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task The_total_clock_covers_it_and_what_it_took(bool http2)
    {
        var time = new ManualTime();
        await using var rig = await Rig.StartAsync(http2, options => options.MaxConcurrentRequests = 1, time: time);
        await rig.CallAsync();
        var entered = new TaskCompletionSource();
        var total = new PoolTimeouts { Total = TimeSpan.FromSeconds(10) };
        var call = rig.SendAsync(Calls.Chat().With(new()
        {
            Timeouts = total,
            BeforeSend = async (_, _) =>
            {
                entered.SetResult();
                await new TaskCompletionSource().Task;
            },
        }));
        await entered.Task;
        time.Advance(TimeSpan.FromSeconds(12));
        var stalled = await Assert.ThrowsAsync<RequestStalledException>(() => call);
        Assert.Equal((StallPhase.Total, RequestVerdict.NotSent), (stalled.Phase, stalled.Verdict));

        // What it took is gone from the total.
        var streaming = await rig.SendAsync(Calls.Stream(gapMilliseconds: 3_600_000).With(new()
        {
            Timeouts = total,
            BeforeSend = (_, _) =>
            {
                time.Advance(TimeSpan.FromSeconds(8));
                return default;
            },
        }));
        var reading = streaming.Content.ReadAsStringAsync(Rig.Ct);
        time.Advance(TimeSpan.FromSeconds(4));
        Assert.Equal(StallPhase.Total, (await Assert.ThrowsAsync<RequestStalledException>(() => reading)).Phase);
        streaming.Dispose();
        Assert.Equal(2, rig.Counters.Requests);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task What_it_makes_unsendable_is_refused_unsent(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2);
        for (var i = 0; i < 8; i++)   // on HTTP/2 the connection's own first frames are out then
        {
            await rig.CallAsync();
        }

        var request = new HttpRequestMessage(HttpMethod.Get, "v1/models").With(new()
        {
            BeforeSend = (request, _) =>
            {
                request.Headers.TransferEncodingChunked = true;
                return default;
            },
        });
        var error = await Assert.ThrowsAsync<PoolRequestException>(() => rig.SendAsync(request));

        Assert.Equal(RequestVerdict.NotSent, error.Verdict);
        Assert.IsType<InvalidOperationException>(error.InnerException);
        await rig.CallAsync();
        Assert.Equal((1, 9), (rig.Counters.ConnectionsAccepted, rig.Counters.Requests));   // the platform kept it, too
    }

    public static TheoryData<string> Forbidden => ["address", "method", "version", "policy", "content", "Host"];

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Forbidden))]
    public async Task What_the_place_was_chosen_by_must_not_change(string what)
    {
        await using var rig = await Rig.StartAsync();
        await rig.CallAsync();
        var error = await Assert.ThrowsAsync<InvalidOperationException>(() => rig.CallAsync(Calls.Chat().With(new()
        {
            BeforeSend = (request, _) =>
            {
                switch (what)
                {
                    case "address":
                        request.RequestUri = new Uri("https://elsewhere.invalid/");
                        break;
                    case "method":
                        request.Method = HttpMethod.Get;
                        break;
                    case "version":
                        request.Version = HttpVersion.Version20;
                        break;
                    case "policy":
                        request.VersionPolicy = HttpVersionPolicy.RequestVersionExact;
                        break;
                    case "content":
                        request.Content = new StringContent("other");
                        break;
                    default:
                        request.Headers.Host = "elsewhere.invalid";
                        break;
                }

                return default;
            },
        })));
        Assert.StartsWith("BeforeSend may change the request's headers only.", error.Message, StringComparison.Ordinal);
        await rig.CallAsync();
        Assert.Equal((1, 2), (rig.Counters.ConnectionsAccepted, rig.Counters.Requests));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_pool_that_is_disposed_meanwhile_ends_it()
    {
        await using var rig = await Rig.StartAsync();
        var entered = new TaskCompletionSource();
        var call = rig.SendAsync(Calls.Chat().With(new()
        {
            BeforeSend = async (_, _) =>
            {
                entered.SetResult();
                await new TaskCompletionSource().Task;
            },
        }));
        await entered.Task;
        await rig.Pool.DisposeAsync();

        Assert.Equal(PoolRejectionReason.Disposed, (await Assert.ThrowsAsync<PoolAbortedException>(() => call)).Reason);
        Assert.Equal(0, rig.Counters.Requests);
    }
}
