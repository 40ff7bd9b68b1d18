using Warmline.MockLlm;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>Where calls go: how few sockets a burst needs, and what the server's stream limit makes of it.</summary>
public sealed class PlacementTests
{
    [Theory(Timeout = Rig.Patience)]
    [InlineData(20, 2, 3, 0)]
    [InlineData(20, 2, 3, 3)]
    [InlineData(100, 4, 8, 0)]
    [InlineData(100, 4, 8, 8)]
    public async Task Calls_at_once_ride_few_sockets_cold_and_warmed(int calls, int fewest, int most, int warmed)
    {
        await using var rig = await Rig.StartAsync();
        if (warmed > 0)
        {
            Assert.Equal(warmed, await rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, warmed, Rig.Ct));
        }

        var gate = new Gate();
        var running = await rig.HoldAsync(calls, gate);
        await rig.MockAsync(counters => counters.StreamsOpen == calls);
        var stats = rig.Stats;
        gate.Open();
        await Task.WhenAll(running);

        Assert.InRange(rig.Counters.ConnectionsAccepted, fewest, most);
        Assert.Equal(calls, rig.Counters.PeakStreams);
        Assert.Equal((0L, calls, calls), (stats.Refused, stats.Active, (int)stats.TotalRequests));
        if (warmed > 0)
        {
            Assert.Equal(warmed, rig.Counters.ConnectionsAccepted);
            Assert.Equal(calls, rig.Stats.ReusedConnections);
        }
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_warmed_pool_places_every_call_of_a_burst_at_once()
    {
        // On this clock no time passes, so that any wait that depends on the server would show as a waiter; a wait in the pool's own code does not exist.
        var time = new ManualTime();
        await using var rig = await Rig.StartAsync(time: time);
        await rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 8, Rig.Ct);
        var gate = new Gate();
        var calls = new List<Task<string>>();
        for (var i = 1; i <= 100; i++)
        {
            calls.Add(rig.CallAsync(gate.Hold(Calls.Chat())));
            Assert.Equal((i, 0), (rig.Stats.Active, rig.Stats.Queued));   // placed within the call to SendAsync
        }

        gate.Open();
        await Task.WhenAll(calls);
        Assert.Equal(TimeSpan.Zero, rig.Stats.MaxQueueWait);
        Assert.Equal(8, rig.Counters.ConnectionsAccepted);
        Assert.Equal(1.0, rig.Stats.ReuseRate);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(10)]
    [InlineData(3)]
    [InlineData(1)]
    public async Task A_hundred_cold_calls_survive_a_low_stream_limit(int limit)
    {
        await using var rig = await Rig.StartAsync(mock: new() { MaxStreamsPerConnection = limit });

        await Task.WhenAll(Enumerable.Range(0, 100).Select(_ => rig.CallAsync()));

        Assert.Equal(100, rig.Counters.RequestsCompleted);
        Assert.Equal(0, rig.Counters.StreamsBeyondLimit);
        Assert.Equal(0, rig.Counters.AbortedRequests);
        Assert.InRange(rig.Counters.PeakStreamsPerConnection, 1, limit);
        Assert.InRange(rig.Counters.PeakConnections, 1, 50);
        Assert.Equal((0L, limit), (rig.Stats.Refused, rig.Stats.Origins.Single().StreamLimit));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_stream_limit_lowered_in_mid_run_is_obeyed_by_all_later_calls()
    {
        await using var rig = await Rig.StartAsync();
        var gate = new Gate();
        var running = await rig.HoldAsync(20, gate);
        await rig.MockAsync(counters => counters.StreamsOpen == 20);
        await rig.StatsAsync(stats => stats.Origins.Single() is { Connections: 3, Dialing: 0, Capacity: 50 * 32 });   // every connection has its SETTINGS
        rig.Mock.SetStreamLimit(1);
        await rig.MockAsync(counters => counters.SettingsAcknowledged == 3);
        await rig.StatsAsync(stats => stats.Origins.Single().StreamLimit == 1);

        var more = Enumerable.Range(0, 60).Select(_ => rig.CallAsync()).ToArray();
        await Task.WhenAny(more);   // the rest must fit beside those that run on: new connections, one stream each
        gate.Open();
        await Task.WhenAll(running);
        await Task.WhenAll(more);

        Assert.Equal(80, rig.Counters.RequestsCompleted);
        Assert.Equal((0L, 0L), (rig.Counters.StreamsBeyondLimit, rig.Counters.AbortedRequests));
        Assert.InRange(rig.Counters.PeakConnections, 2, 50);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_stream_limit_of_zero_makes_calls_wait_until_it_is_raised()
    {
        await using var rig = await Rig.StartAsync(options => options.Timeouts.Pool = Timeout.InfiniteTimeSpan);
        await rig.CallAsync();
        rig.Mock.SetStreamLimit(0);
        await rig.MockAsync(counters => counters.SettingsAcknowledged == counters.ConnectionsOpen);
        await rig.StatsAsync(stats => stats.Origins.Single().StreamLimit == 0);

        var calls = Enumerable.Range(0, 100).Select(_ => rig.CallAsync()).ToArray();
        Assert.Equal((100, 0), (rig.Stats.Queued, rig.Stats.Active));
        Assert.All(rig.Pool.GetWaiters(), waiter => Assert.Equal(PoolRejectionReason.StreamLimit, waiter.Reason));
        Assert.Equal(1, rig.Counters.Requests);

        rig.Mock.SetStreamLimit(100);
        await Task.WhenAll(calls);
        Assert.Equal((101L, 0L), (rig.Counters.RequestsCompleted, rig.Counters.StreamsBeyondLimit));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_server_that_starts_with_no_stream_to_give_is_waited_for()
    {
        await using var rig = await Rig.StartAsync(options => options.Timeouts.Pool = Timeout.InfiniteTimeSpan);
        rig.Mock.SetStreamLimit(0);
        var calls = Enumerable.Range(0, 5).Select(_ => rig.CallAsync()).ToArray();
        await rig.StatsAsync(stats => stats.Origins.Single().StreamLimit == 0);

        rig.Mock.SetStreamLimit(100);
        await Task.WhenAll(calls);
        Assert.Equal(5, rig.Counters.RequestsCompleted);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_hundred_calls_to_a_server_without_http2_share_the_connections_there_are()
    {
        await using var rig = await Rig.StartHttp1Async(options => options.MaxConnections = 10);

        await Task.WhenAll(Enumerable.Range(0, 100).Select(_ => rig.CallAsync()));

        Assert.Equal((100L, 0L), (rig.Counters.RequestsCompleted, rig.Counters.AbortedRequests));
        Assert.InRange(rig.Counters.PeakConnections, 1, 10);
        Assert.Equal(1, rig.Counters.PeakStreamsPerConnection);
        var ridden = rig.Counters.Connections.Where(static connection => connection.Requests > 0).ToList();   // the calls may end before the last dial does
        Assert.NotEmpty(ridden);
        Assert.All(ridden, connection => Assert.Equal("HTTP/1.1", connection.Protocol));
        Assert.Equal(0, rig.Stats.Refused);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_failed_call_does_not_take_calls_on_its_connection_with_it()
    {
        await using var rig = await Rig.StartAsync(mock: new() { OnRequest = request => request.MockId == "bad" ? new MockReply { Abort = true } : null });
        var gate = new Gate();
        var running = await rig.HoldAsync(5, gate);

        var error = await Assert.ThrowsAsync<PoolRequestException>(() => rig.CallAsync(Calls.Chat(false, ("x-mock-id", "bad"))));
        gate.Open();
        await Task.WhenAll(running);

        Assert.Equal(RequestVerdict.Unknown, error.Verdict);
        Assert.Equal((5L, 6L), (rig.Counters.RequestsCompleted, rig.Counters.Requests));
    }
}
