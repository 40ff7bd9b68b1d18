using System.Net;
using Warmline.Tests.Http;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>What is sent again is counted and bounded over the whole pool; what may be repeated without proof is what the platform repeats, if it is idempotent.</summary>
public sealed class RetryBudgetTests
{
    static readonly Dictionary<StallPhase, long> NoStalls = [];

    [Fact(Timeout = Rig.Patience)]
    public async Task A_server_that_goes_without_processing_is_asked_again_only_as_often_as_the_budget_allows()
    {
        using var server = new RawHttp2Server();
        await using var pool = server.NewPool(options => options.RetryBudget = 2);
        using var client = pool.CreateClient(server.Address);
        var call = client.SendAsync(Calls.Chat(), Rig.Ct);
        for (var i = 0; i < 3; i++)
        {
            using var going = await server.AcceptAsync();
            await going.ReadRequestAsync();
            await going.GoAwayAsync(0);
        }

        var error = await Assert.ThrowsAsync<PoolRequestException>(() => call);
        Assert.Equal(RequestVerdict.Unprocessed, error.Verdict);
        Assert.Contains("RetryBudget", error.Message);
        Assert.Equal(new FaultStats { StalledIn = NoStalls, RetriedUnprocessed = 2, RetriesRefused = 1, FailedUnprocessed = 1 }, Totals(pool.GetStats().Faults));

        // Five calls that end well earn one more.
        using var good = await server.AcceptAfterAsync(() => call = client.SendAsync(Calls.Chat(), Rig.Ct));
        await good.AnswerAsync(await good.ReadRequestAsync(), ended: true);
        (await call).Dispose();
        for (var i = 0; i < 4; i++)
        {
            call = client.SendAsync(Calls.Chat(), Rig.Ct);
            await good.AnswerAsync(await good.ReadRequestAsync(), ended: true);
            (await call).Dispose();
        }

        await Eventually.TrueAsync(() => pool.GetStats().Active == 0);
        call = client.SendAsync(Calls.Chat(), Rig.Ct);
        await good.ReadRequestAsync();
        using var last = await server.AcceptAfterAsync(() => _ = good.GoAwayAsync(9));   // the five before were processed
        await last.AnswerAsync(await last.ReadRequestAsync(), ended: true);
        Assert.Equal(HttpStatusCode.OK, (await call).StatusCode);
        Assert.Equal(3, pool.GetStats().Faults.RetriedUnprocessed);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_body_that_breaks_off_counts_as_unknown_whatever_became_of_the_attempt_before()
    {
        using var server = new RawHttp2Server();
        await using var pool = server.NewPool();
        using var client = pool.CreateClient(server.Address);
        var call = client.SendAsync(Calls.Chat(), HttpCompletionOption.ResponseHeadersRead, Rig.Ct);
        using var going = await server.AcceptAsync();
        await going.ReadRequestAsync();
        using var good = await server.AcceptAfterAsync(() => _ = going.GoAwayAsync(0));
        var stream = await good.ReadRequestAsync();
        await good.AnswerAsync(stream, ended: false);
        using var response = await call;
        await good.ResetAsync(stream, 2);

        await Assert.ThrowsAnyAsync<Exception>(() => response.Content.ReadAsStringAsync(Rig.Ct));

        Assert.Equal(new FaultStats { StalledIn = NoStalls, RetriedUnprocessed = 1, FailedUnknown = 1 }, Totals(pool.GetStats().Faults));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Streams_that_are_refused_for_ever_end_in_an_error_that_says_unprocessed()
    {
        using var server = new RawHttp2Server();
        await using var pool = server.NewPool(options => options.RetryBudget = 0);
        using var client = pool.CreateClient(server.Address);
        var call = client.SendAsync(Calls.Chat(), Rig.Ct);
        using var connection = await server.AcceptAsync();
        var refusing = RefuseAllAsync(connection);

        var error = await Assert.ThrowsAsync<PoolRequestException>(() => call);
        Assert.Equal(RequestVerdict.Unprocessed, error.Verdict);
        Assert.Equal(1, pool.GetStats().Faults.FailedUnprocessed);
        await pool.DisposeAsync();
        await refusing;

        static async Task RefuseAllAsync(RawHttp2Server.Connection connection)
        {
            try
            {
                while (true)
                {
                    await connection.RefuseAsync(await connection.ReadRequestAsync());
                }
            }
            catch (IOException)
            {
                // The client has closed.
            }
        }
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("GET", false, true)]
    [InlineData("HEAD", false, true)]
    [InlineData("DELETE", false, true)]
    [InlineData("PUT", true, false)]
    [InlineData("POST", false, false)]
    [InlineData("POST", true, false)]
    public async Task Only_an_idempotent_call_without_a_body_is_repeated_when_a_used_connection_ends_unanswered(string method, bool hasBody, bool repeats)
    {
        var requests = 0;
        await using var server = new RawHttp1Server(async connection =>
        {
            for (var answers = connection.Number == 0 ? 1 : int.MaxValue; (await connection.ReadHeadAsync()).Length > 0; answers--)
            {
                Interlocked.Increment(ref requests);
                if (answers == 0)
                {
                    return;   // the end, without an answer
                }

                await connection.SayAsync(RawHttp1.Ok(""));
            }
        });
        await using var pool = new ConnectionPool();
        using var client = pool.CreateClient(new Uri($"http://127.0.0.1:{server.Port}"));
        (await client.GetAsync("first", Rig.Ct)).Dispose();
        await Eventually.TrueAsync(() => pool.GetStats().Active == 0);

        var call = client.SendAsync(new HttpRequestMessage(new HttpMethod(method), "second") { Content = hasBody ? new StringContent("{}") : null }, Rig.Ct);
        if (repeats)
        {
            Assert.Equal(HttpStatusCode.OK, (await call).StatusCode);
        }
        else
        {
            Assert.Equal(RequestVerdict.Unknown, (await Assert.ThrowsAsync<PoolRequestException>(() => call)).Verdict);
        }

        var faults = pool.GetStats().Faults;
        Assert.Equal((repeats ? 3 : 2, repeats ? 1L : 0, repeats ? 0L : 1), (requests, faults.RetriedIdempotent, faults.FailedUnknown));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Stalls_breaks_and_readers_who_leave_are_counted_once_each()
    {
        var time = new ManualTime();
        await using var rig = await Rig.StartAsync(true, time: time, mock: new() { OnRequest = request => request.Header("x-break") is null ? null : new() { AbortAfterTokens = 2 } });
        await rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 1, Rig.Ct);
        using var silent = await rig.SendAsync(Calls.Stream(tokens: 2, gapMilliseconds: 3_600_000));
        var reading = (await silent.Content.ReadAsStreamAsync(Rig.Ct)).CopyToAsync(Stream.Null, Rig.Ct);
        await Eventually.TrueAsync(() => rig.Pool.GetStreams() is [{ Phase: StreamPhase.Reading }]);
        time.Advance(TimeSpan.FromSeconds(140));
        await Assert.ThrowsAsync<RequestStalledException>(() => reading);

        using var broken = await rig.SendAsync(Calls.Stream(tokens: 9, headers: ("x-break", "1")));
        var body = await broken.Content.ReadAsStreamAsync(Rig.Ct);
        await Assert.ThrowsAnyAsync<IOException>(() => body.CopyToAsync(Stream.Null, Rig.Ct));
        await Assert.ThrowsAnyAsync<Exception>(() => body.CopyToAsync(Stream.Null, Rig.Ct));   // asked again: the same fault

        (await rig.SendAsync(Calls.Stream(gapMilliseconds: 20))).Dispose();
        using var cancel = new CancellationTokenSource();
        var cancelled = rig.SendAsync(Calls.Chat(false, ("x-mock-service-ms", "3600000")), cancel.Token);
        await rig.StatsAsync(stats => stats.Active == 1);
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cancelled);

        await rig.QuietAsync();
        Assert.Equal(new FaultStats { StalledIn = NoStalls, Stalled = 1, FailedUnknown = 1, Abandoned = 1 }, Totals(rig.Stats.Faults));
        Assert.Equal(1, Assert.Single(rig.Stats.Faults.StalledIn).Value);
    }

    /// <summary>Without the breakdown, which is another object each time.</summary>
    static FaultStats Totals(FaultStats faults) => faults with { StalledIn = NoStalls };
}
