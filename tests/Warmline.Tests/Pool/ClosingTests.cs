using System.Collections.Concurrent;
using System.Net;
using Warmline.MockLlm;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>How the pool's connections end, as the server sees it: close_notify, FIN, no reset, and the TIME_WAIT is ours.</summary>
public sealed class ClosingTests
{
    readonly ConcurrentBag<int> _clients = [];

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Disposing_ends_idle_connections_in_good_order(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2, null, Noting());
        await rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 4, Rig.Ct);
        await rig.CallAsync();

        await rig.Pool.DisposeAsync();

        await AssertGoodEndsAsync(rig, 4);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_drain_ends_busy_connections_in_good_order_when_their_calls_have_ended(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2, null, Noting());
        var gate = new Gate();
        var running = await rig.HoldAsync(3, gate);
        var drain = rig.Pool.DrainAsync(Timeout.InfiniteTimeSpan, Rig.Ct);
        gate.Open();
        await rig.DoneAsync(running);

        Assert.Empty(await drain);

        await AssertGoodEndsAsync(rig, _clients.Count);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public async Task Age_and_idleness_end_connections_in_good_order(bool http2, bool age)
    {
        var time = new ManualTime();
        await using var rig = await Rig.StartAsync(http2, options => (options.IdleTimeout, options.ConnectionLifetime) =
            age ? (Timeout.InfiniteTimeSpan, TimeSpan.FromSeconds(60)) : (TimeSpan.FromSeconds(60), Timeout.InfiniteTimeSpan), Noting(), time);
        await rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 3, Rig.Ct);
        await rig.CallAsync();

        // In steps, each with what it began: connections age differently, and the one clock would also run over the two seconds that a farewell may take.
        for (var second = 0; second < 61; second++)
        {
            time.Advance(TimeSpan.FromSeconds(1));
            await rig.StatsAsync(stats => stats.Connections == stats.Origins.Sum(origin => origin.Connections));
        }

        await AssertGoodEndsAsync(rig, 3);
        Assert.Equal(0, rig.Stats.Connections);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Reconnecting_ends_the_old_connections_in_good_order(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2, null, Noting());
        await rig.CallAsync();
        rig.Pool.Reconnect();
        await AssertGoodEndsAsync(rig, 1);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_connection_that_makes_room_for_another_host_is_gone_at_its_server_before_the_other_is_dialled(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2, options => options.MaxConnections = 1, Noting());
        var openThere = new ConcurrentBag<int>();
        await using var other = await MockLlmServer.StartAsync(
            new() { OnConnection = _ =>
            {
                openThere.Add(rig.Counters.ConnectionsOpen);
                return null;
            } },
            cancellationToken: Rig.Ct);
        await rig.CallAsync();

        // Another certificate: only the dial matters, and it may fail after TCP.
        using var client = rig.Pool.CreateClient(other.BaseAddress);
        await Assert.ThrowsAsync<PoolConnectException>(() => client.SendAsync(Calls.Chat(), Rig.Ct));

        Assert.All(openThere, open => Assert.Equal(0, open));
        Assert.NotEmpty(openThere);
        await AssertGoodEndsAsync(rig, 1);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Calls_that_are_cut_before_their_response_leave_a_good_end()
    {
        await using var rig = await Rig.StartAsync(true, null, Noting());
        using var streaming = await rig.SendAsync(Calls.Stream(gapMilliseconds: 20));
        var waiting = rig.CallAsync(Calls.Chat(false, ("x-mock-service-ms", "3600000")));
        await rig.MockAsync(counters => counters.StreamsOpen == 2);

        await rig.Pool.DisposeAsync();

        await Assert.ThrowsAsync<PoolAbortedException>(() => waiting);
        await rig.MockAsync(counters => counters.AbortedRequests == 2);
        await AssertGoodEndsAsync(rig, _clients.Count, answered: false);   // the server resets what it was cut at
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_peer_that_does_not_answer_the_close_holds_its_permit_and_the_end_of_the_pool_for_two_seconds(bool drain)
    {
        var time = new ManualTime();
        using var server = new RawServer();
        await using var pool = new ConnectionPool(new ConnectionPoolOptions(), null, time);
        var accepting = server.AcceptAsync();
        await pool.WarmUpAsync(new Uri($"http://127.0.0.1:{server.Port}"), 1, Rig.Ct);
        await using var accepted = await accepting;

        var ended = drain ? pool.DrainAsync(Timeout.InfiniteTimeSpan, Rig.Ct) : pool.DisposeAsync().AsTask();
        Assert.Equal(0, await accepted.ReadAsync(new byte[1], Rig.Ct));
        time.Advance(TimeSpan.FromSeconds(1.9));
        Assert.False(ended.IsCompleted);
        Assert.Equal(1, pool.GetStats().Connections);

        time.Advance(TimeSpan.FromSeconds(0.1));
        await ended;
        Assert.Equal(0, pool.GetStats().Connections);
    }

    MockLlmOptions Noting() => new()
    {
        OnConnection = connection =>
        {
            _clients.Add(((IPEndPoint)connection.RemoteEndPoint!).Port);
            return null;
        },
    };

    async Task AssertGoodEndsAsync(Rig rig, int connections, bool answered = true)
    {
        await rig.MockAsync(counters => counters.ConnectionsOpen == 0);
        var ends = rig.Counters.Connections;
        Assert.Equal(connections, ends.Count);
        Assert.All(ends, end => Assert.Equal((MockConnectionEnd.ClientFin, true), (end.End, end.CloseNotify)));
        var port = rig.Mock.BaseAddress.Port;
        Assert.All(_clients, client => Assert.False(Sockets.IsInTimeWait(port, client), "the server is left with TIME_WAIT"));
        if (answered && OperatingSystem.IsLinux())
        {
            await Eventually.TrueAsync(() => _clients.All(client => Sockets.IsInTimeWait(client, port)));
        }
    }
}
