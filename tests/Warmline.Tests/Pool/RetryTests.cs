using System.Net;
using Warmline.MockLlm;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>A request is sent again only with proof that the server did not start on it.</summary>
public sealed class RetryTests
{
    [Fact(Timeout = Rig.Patience)]
    public async Task A_refused_stream_is_sent_again_and_keeps_its_lease_to_the_end()
    {
        using var server = new RawHttp2Server();
        await using var pool = server.NewPool();
        using var client = pool.CreateClient(server.Address);
        var call = client.SendAsync(Calls.Chat(), HttpCompletionOption.ResponseHeadersRead, Rig.Ct);
        using var connection = await server.AcceptAsync();
        await connection.RefuseAsync(await connection.ReadRequestAsync());
        var again = await connection.ReadRequestAsync();   // its body was pulled a second time
        Assert.Equal(1, pool.GetStats().Active);
        await connection.AnswerAsync(again, ended: false);

        using var response = await call;
        Assert.Equal((HttpStatusCode.OK, 1), (response.StatusCode, pool.GetStats().Active));
        await connection.EndAsync(again);
        Assert.Equal("", await response.Content.ReadAsStringAsync(Rig.Ct));
        await Eventually.TrueAsync(() => pool.GetStats().Active == 0, () => Rig.Describe(pool.GetStats()));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_request_that_a_going_server_did_not_process_moves_to_another_connection_if_it_can_be_given_again(bool replayable)
    {
        using var server = new RawHttp2Server();
        await using var pool = server.NewPool();
        using var client = pool.CreateClient(server.Address);
        var request = Calls.Chat();
        request.Content = replayable ? Calls.Body() : new StreamContent(new MemoryStream("{}"u8.ToArray()));
        var call = client.SendAsync(request, Rig.Ct);
        using var first = await server.AcceptAsync();
        await first.ReadRequestAsync();
        await first.GoAwayAsync(0);
        if (!replayable)
        {
            var error = await Assert.ThrowsAsync<PoolRequestException>(() => call);
            Assert.Equal(RequestVerdict.Unprocessed, error.Verdict);
            Assert.Contains("declared that it had not processed the request", error.Message);
            return;
        }

        using var second = await server.AcceptAsync();
        await second.AnswerAsync(await second.ReadRequestAsync(), ended: true);
        using var response = await call;
        Assert.Equal((HttpStatusCode.OK, 2L, 1L), (response.StatusCode, pool.GetStats().NewConnections, pool.GetStats().TotalRequests));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_stream_below_the_last_of_a_going_server_runs_to_its_end()
    {
        using var server = new RawHttp2Server();
        await using var pool = server.NewPool();
        using var client = pool.CreateClient(server.Address);
        var call = client.SendAsync(Calls.Chat(), HttpCompletionOption.ResponseHeadersRead, Rig.Ct);
        using var connection = await server.AcceptAsync();
        var stream = await connection.ReadRequestAsync();
        await connection.AnswerAsync(stream, ended: false);
        using var response = await call;
        await connection.GoAwayAsync(stream);
        await Eventually.TrueAsync(() => pool.GetStats().Origins.Single() is { Draining: 1, Connections: 0 }, () => Rig.Describe(pool.GetStats()));
        Assert.Equal(1, pool.GetStats().Active);

        await connection.EndAsync(stream);
        await response.Content.ReadAsStringAsync(Rig.Ct);
        await Eventually.TrueAsync(() => pool.GetStats() is { Active: 0, Connections: 0 }, () => Rig.Describe(pool.GetStats()));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task An_idle_connection_that_the_server_closed_is_noticed_before_a_call_meets_it(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2, mock: new() { OnConnection = _ => new MockConnectionPlan { CloseAfterRequests = 1 } });
        for (var i = 0; i < 3; i++)
        {
            await rig.CallAsync();
            await rig.StatsAsync(stats => stats.Connections == 0);   // on HTTP/1.1 without a notice: seen by the watch on idle connections
        }

        Assert.Equal((3L, 3L, 0L), (rig.Counters.Requests, rig.Counters.RequestsCompleted, rig.Stats.FailedDials));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_request_that_may_have_reached_the_server_is_never_sent_twice(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2, mock: new() { OnRequest = request => request.Sequence % 2 == 0 ? new MockReply { Abort = true } : null });
        for (var i = 0; i < 10; i++)
        {
            await rig.CallAsync();
            var error = await Assert.ThrowsAsync<PoolRequestException>(() => rig.CallAsync());
            Assert.Equal(RequestVerdict.Unknown, error.Verdict);
        }

        Assert.Equal(20, rig.Counters.Requests);
    }
}
