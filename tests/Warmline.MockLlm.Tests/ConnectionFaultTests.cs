using System.Net;
using Warmline.Tests.Support;

namespace Warmline.MockLlm.Tests;

/// <summary>Faults of whole connections: idle, on reuse, under many streams, GOAWAY; and what the server's log says was never processed.</summary>
public sealed class ConnectionFaultTests
{
    static readonly Version Http11 = new(1, 1), Http20 = new(2, 0);

    [Theory]
    [InlineData(false, MockFault.Fin, RawEnd.Fin)]
    [InlineData(false, MockFault.Reset, RawEnd.Reset)]
    [InlineData(false, MockFault.GoAway, RawEnd.Fin)]
    [InlineData(true, MockFault.Fin, RawEnd.Fin)]
    [InlineData(true, MockFault.Reset, RawEnd.Reset)]
    [InlineData(true, MockFault.GoAway, RawEnd.Fin)]
    public async Task An_idle_connection_ends_after_exactly_its_time(bool http2, MockFault fault, RawEnd expected)
    {
        var time = new ManualTime();
        await using var server = await MockLlmServer.StartAsync(
            new() { RecordRequests = true, OnConnection = _ => new() { IdleTimeout = TimeSpan.FromSeconds(30), IdleFault = fault } }, time);
        using var h1 = http2 ? null : await RawHttp1.ConnectAsync(server);
        using var h2 = http2 ? await RawHttp2.ConnectAsync(server) : null;
        for (var i = 0; i < 3; i++)
        {
            await CallAsync(i);
            await server.WaitForAsync(c => c.RequestsCompleted == i + 1);
            time.Advance(TimeSpan.FromSeconds(29));   // 29 s after an answer, not 30
        }

        await CallAsync(3);
        await server.WaitForAsync(c => c.RequestsCompleted == 4);
        time.Advance(TimeSpan.FromSeconds(31));
        var (frames, end) = h2 is null ? ([], (await h1!.ToEndAsync()).End) : await h2.ToEndAsync();

        Assert.Equal(expected, end);
        Assert.Equal(http2 && fault == MockFault.GoAway ? [7] : [], frames.Where(f => f.Type == RawFrame.GoAway).Select(f => f.Number));
        await server.WaitForAsync(c => c.ConnectionsOpen == 0);
        Assert.Equal((MockConnectionEnd.Server, 4), (server.GetCounters().Connections[0].End, server.GetCounters().Connections[0].Requests));
        Assert.Equal([1, 2, 3, 4], server.GetRequests().Select(r => r.NumberOnConnection));

        async Task CallAsync(int i)
        {
            if (h2 is not null)
            {
                await h2.PostAsync((2 * i) + 1);
                await h2.UntilAsync(f => f.EndStream);
            }
            else
            {
                await h1!.PostAsync(true);
                await h1.UntilAsync("\r\n0\r\n\r\n");
            }
        }
    }

    [Fact]
    public async Task A_busy_connection_is_not_idle()
    {
        var time = new ManualTime();
        await using var server = await MockLlmServer.StartAsync(new() { OnConnection = _ => new() { IdleTimeout = TimeSpan.FromSeconds(30) } }, time);
        using var client = server.Client(version: Http11);
        var call = client.ChatAsync(("x-mock-service-ms", "100000"));
        await server.WaitForAsync(c => c.StreamsOpen == 1);
        await time.WaitForTimersAsync(2);
        time.Advance(TimeSpan.FromSeconds(40));
        time.Advance(TimeSpan.FromSeconds(40));
        Assert.Equal(1, server.GetCounters().ConnectionsOpen);
        time.Advance(TimeSpan.FromSeconds(40));

        using var response = await call;
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
    }

    [Theory]
    [InlineData("1.1")]
    [InlineData("2.0")]
    public async Task A_connection_that_vanishes_while_idle_takes_requests_and_answers_nothing(string version)
    {
        var time = new ManualTime();
        await using var server = await MockLlmServer.StartAsync(new()
        {
            RecordRequests = true, OnConnection = c => c.Id == 1 ? new() { IdleTimeout = TimeSpan.FromSeconds(30), IdleFault = MockFault.Vanish } : null,
        }, time);
        using var client = server.Client(version: Version.Parse(version));
        using (await client.ChatAsync())
        {
        }

        await server.WaitForAsync(c => c.RequestsCompleted == 1);
        time.Advance(TimeSpan.FromSeconds(31));
        using var stop = new CancellationTokenSource();
        var call = client.SendAsync(client.Chat(), stop.Token);
        await server.WaitForAsync(c => c.RequestsUnprocessed == 1);
        Assert.False(call.IsCompleted);
        Assert.Equal((1, 0), (server.GetCounters().ConnectionsOpen, server.GetCounters().StreamsOpen));
        await stop.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => call);
        Assert.Equal([true, false], server.GetRequests().Select(r => r.Processed));
    }

    [Fact]
    public async Task A_vanished_connection_acknowledges_no_ping()
    {
        await using var server = await MockLlmServer.StartAsync();
        using var raw = await RawHttp2.ConnectAsync(server);
        await raw.PingAsync();
        await raw.UntilAsync(f => f.Type == RawFrame.Ping);
        Assert.Equal(1, server.FailConnections(MockFault.Vanish));
        await raw.PingAsync();
        await raw.PostAsync(1);
        await server.WaitForAsync(c => c.RequestsUnprocessed == 1);   // so the PING before it has been read
        server.FailConnections(MockFault.Fin);

        var (frames, end) = await raw.ToEndAsync();
        Assert.Equal(RawEnd.Fin, end);
        Assert.Empty(frames);
    }

    [Theory]
    [InlineData(false, MockFault.Fin, false)]
    [InlineData(false, MockFault.Fin, true)]
    [InlineData(false, MockFault.Reset, false)]
    [InlineData(false, MockFault.Reset, true)]
    [InlineData(true, MockFault.Fin, false)]
    [InlineData(true, MockFault.Fin, true)]
    [InlineData(true, MockFault.Reset, false)]
    [InlineData(true, MockFault.Reset, true)]
    public async Task A_connection_ends_on_reuse_before_or_after_the_request_was_read(bool http2, MockFault fault, bool beforeBody)
    {
        await using var server = await MockLlmServer.StartAsync(new()
        {
            RecordRequests = true, OnRequest = r => r.NumberOnConnection == 2 ? new() { Fault = fault, BeforeBody = beforeBody } : null,
        });
        RawEnd end;
        if (http2)
        {
            using var raw = await RawHttp2.ConnectAsync(server);
            await raw.PostAsync(1);
            await raw.UntilAsync(f => f.EndStream);
            try
            {
                await raw.PostAsync(3);
            }
            catch (IOException) when (fault is MockFault.Reset && beforeBody)
            {
                // The reset may come between its HEADERS and its DATA.
            }

            (var frames, end) = await raw.ToEndAsync();
            Assert.DoesNotContain(frames, f => f.Stream == 3);
        }
        else
        {
            using var raw = await RawHttp1.ConnectAsync(server);
            await raw.PostAsync(true);
            await raw.UntilAsync("\r\n0\r\n\r\n");
            await raw.PostAsync(true);
            (var text, end) = await raw.ToEndAsync();
            Assert.Empty(text);
        }

        Assert.Equal(fault == MockFault.Fin ? RawEnd.Fin : RawEnd.Reset, end);
        await server.WaitForAsync(c => c.ConnectionsOpen == 0);
        var second = server.GetRequests()[1];
        Assert.Equal((!beforeBody, 0, 2, false), (second.Processed, second.Status, second.NumberOnConnection, second.Aborted));
        Assert.Equal(beforeBody, second.BodyLength == 0);
        Assert.NotNull(second.Ended);
        Assert.Equal((1L, beforeBody ? 1L : 0L, MockConnectionEnd.Server), (server.GetCounters().RequestsCompleted, server.GetCounters().RequestsUnprocessed, server.GetCounters().Connections[0].End));
    }

    [Theory]
    [InlineData(MockFault.Reset)]
    [InlineData(MockFault.Fin)]
    public async Task A_connection_dies_under_forty_streams(MockFault fault)
    {
        await using var server = await MockLlmServer.StartAsync(new() { RecordRequests = true });
        using var client = server.Client(version: Http20);
        using var other = server.Client(version: Http20);
        using (await client.ChatAsync())
        {
        }

        var calls = Enumerable.Range(0, 40).Select(i => client.ChatAsync(("x-mock-service-ms", "600000"), ("x-mock-id", $"{i}"))).ToArray();
        var survivor = other.ChatAsync(("x-mock-service-ms", "200"));
        await server.WaitForAsync(c => c.StreamsOpen == 41);
        Assert.Equal(1, server.FailConnections(fault, c => c.StreamsOpen == 40));

        foreach (var call in calls)
        {
            await Assert.ThrowsAsync<HttpRequestException>(() => call);
        }

        using var response = await survivor;
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        await server.WaitForAsync(c => c.StreamsOpen == 0);
        var cut = server.GetRequests().Where(r => r.MockId is not null).ToArray();
        Assert.Equal(40, cut.Select(r => r.MockId).Distinct().Count());
        Assert.All(cut, r => Assert.Equal((true, false, 0), (r.Processed, r.Aborted, r.Status)));
    }

    [Fact]
    public async Task A_goaway_names_a_stream_below_those_in_flight()
    {
        await using var server = await MockLlmServer.StartAsync(
            new() { RecordRequests = true, OnConnection = _ => new() { GoAwayAfterRequests = 2, GoAwayAtRequest = 4 } });
        using var raw = await RawHttp2.ConnectAsync(server);
        foreach (var stream in new[] { 1, 3, 5, 7 })
        {
            await raw.PostAsync(stream, ("x-mock-service-ms", "30"), ("x-mock-id", $"{stream}"));
        }

        var (frames, end) = await raw.ToEndAsync();

        Assert.Equal(RawEnd.Fin, end);
        Assert.Equal(3, Assert.Single(frames, f => f.Type == RawFrame.GoAway).Number);
        Assert.Equal([1, 3], frames.Where(f => f.EndStream).Select(f => f.Stream).Order());
        Assert.DoesNotContain(frames, f => f.Stream > 3);
        Assert.Equal([("1", true), ("3", true), ("5", false), ("7", false)], server.GetRequests().Select(r => (r.MockId, r.Processed)).OrderBy(r => r.MockId, StringComparer.Ordinal));
        Assert.Equal((2L, 2L, 2), (server.GetCounters().RequestsCompleted, server.GetCounters().RequestsUnprocessed, server.GetCounters().PeakStreams));
    }

    [Theory]
    [InlineData(0, 1)]
    [InlineData(4, 10)]
    [InlineData(10, 10)]
    public async Task What_a_goaway_left_out_is_sent_again_and_processed_once(int processed, int at)
    {
        await using var server = await MockLlmServer.StartAsync(
            new() { RecordRequests = true, OnConnection = c => c.Id == 1 ? new() { GoAwayAfterRequests = processed, GoAwayAtRequest = at } : null });
        using var client = server.Client(version: Http20);

        var calls = Enumerable.Range(0, 10).Select(i => client.ChatAsync(("x-mock-service-ms", "30"), ("x-mock-id", $"{i}")));
        foreach (var response in await Task.WhenAll(calls))
        {
            Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        }

        var requests = server.GetRequests();
        Assert.All(requests.GroupBy(r => r.MockId), id => Assert.Single(id, r => r.Processed));
        Assert.Equal(10 - processed, requests.Count(r => !r.Processed && r.ConnectionId == 1));
        Assert.Equal(processed, requests.Count(r => r.Processed && r.ConnectionId == 1));
        await server.WaitForAsync(c => c.ConnectionsOpen == (processed < 10 ? 1 : 0));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_goaway_comes_on_demand_and_lets_running_streams_end(bool idle)
    {
        await using var server = await MockLlmServer.StartAsync(new() { RecordRequests = true });
        using var raw = await RawHttp2.ConnectAsync(server);
        await raw.PostAsync(1);
        await raw.UntilAsync(f => f.EndStream);
        if (!idle)
        {
            await raw.PostAsync(3, ("x-mock-token-gap-ms", "2"));
            await raw.UntilAsync(f => f.Type == RawFrame.Data);
        }

        server.FailConnections(MockFault.GoAway);
        var frames = await raw.UntilAsync(f => f.Type == RawFrame.GoAway);
        if (!idle)
        {
            await raw.PostAsync(5);   // a client that did not look
        }

        var (rest, end) = await raw.ToEndAsync();

        Assert.Equal((RawEnd.Fin, idle ? 1 : 3), (end, frames[^1].Number));
        Assert.Equal(idle ? [] : [3], rest.Where(f => f.EndStream).Select(f => f.Stream));
        Assert.DoesNotContain(rest, f => f.Stream == 5);
        Assert.All(server.GetRequests(), r => Assert.Equal(r.NumberOnConnection < 3, r.Processed));
    }

    [Fact]
    public async Task A_goaway_within_a_stream_lets_it_end()
    {
        await using var server = await MockLlmServer.StartAsync(new()
        {
            RecordRequests = true, OnRequest = r => r.ConnectionId == 1 ? new() { Fault = MockFault.GoAway, FaultAfterTokens = 3 } : null,
        });
        using var client = server.Client(version: Http20);
        for (var i = 0; i < 2; i++)
        {
            using var response = await client.StreamAsync();
            Assert.EndsWith("[DONE]\n\n", await response.Content.ReadAsStringAsync());
            await server.WaitForAsync(c => c.ConnectionsOpen == i);   // none, then the second
        }

        Assert.Equal([1L, 2L], server.GetRequests().Select(r => r.ConnectionId));
        Assert.Equal(2, server.GetCounters().RequestsCompleted);
    }

    [Fact]
    public async Task Http1_has_no_goaway_and_closes_after_the_answer()
    {
        await using var server = await MockLlmServer.StartAsync(new() { OnRequest = _ => new() { Fault = MockFault.GoAway, FaultAfterTokens = 3 } });
        using var raw = await RawHttp1.ConnectAsync(server);
        await raw.PostAsync(true);
        var (text, end) = await raw.ToEndAsync();

        Assert.Equal(RawEnd.Fin, end);
        Assert.EndsWith("\r\n0\r\n\r\n", text);
        Assert.Equal(1, server.GetCounters().RequestsCompleted);
    }

    [Theory]
    [InlineData(MockConnectionAct.Silent)]
    [InlineData(MockConnectionAct.SilentAfterTls)]
    public async Task Some_handshakes_stall_and_others_do_not(MockConnectionAct act)
    {
        await using var server = await MockLlmServer.StartAsync(new() { OnConnection = c => c.Id % 2 == 1 ? new() { Act = act } : null });
        using var stuck = server.Client(version: Http20);
        using var stop = new CancellationTokenSource();
        var never = stuck.SendAsync(stuck.Chat(), stop.Token);
        await server.WaitForAsync(c => c.ConnectionsAccepted == 1);
        using var client = server.Client(version: Http20);
        using (var response = await client.ChatAsync())
        {
            Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        }

        Assert.False(never.IsCompleted);
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => never);
        Assert.Equal(1, server.GetCounters().Requests);
    }

    [Fact]
    public async Task A_fault_of_one_answer_is_none_of_a_connection()
    {
        await using var server = await MockLlmServer.StartAsync();

        Assert.Throws<ArgumentOutOfRangeException>(() => server.FailConnections(MockFault.Silence));
        Assert.Throws<ArgumentOutOfRangeException>(() => new MockConnectionPlan { IdleFault = MockFault.Cancel });
        Assert.Throws<ArgumentOutOfRangeException>(() => new MockConnectionPlan { IdleTimeout = TimeSpan.Zero });
        Assert.Equal(0, server.FailConnections(MockFault.Fin));
    }

    [Fact]
    public async Task Stops_while_a_connection_has_vanished()
    {
        var server = await MockLlmServer.StartAsync();
        using var client = server.Client(version: Http20);
        using (await client.ChatAsync())
        {
        }

        server.FailConnections(MockFault.Vanish);
        await server.DisposeAsync();

        Assert.Equal(0, server.GetCounters().ConnectionsOpen);
    }
}
