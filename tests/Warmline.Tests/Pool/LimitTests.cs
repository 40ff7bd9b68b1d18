using System.Net;
using Warmline.MockLlm;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>The limits that a user sets: they hold at the server, and nobody starves behind them.</summary>
public sealed class LimitTests
{
    [Fact(Timeout = Rig.Patience)]
    public async Task A_call_to_another_host_takes_the_permit_of_an_idle_connection()
    {
        await using var other = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        await using var rig = await StartBesideAsync(other, options => (options.MaxConnections, options.MaxIdleConnections) = (2, 2));
        Assert.Equal(2, await rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 2, Rig.Ct));

        await CallAsync(rig, other);

        Assert.Equal((2, 2), (rig.Stats.PeakConnections, rig.Stats.Connections));
        await rig.MockAsync(counters => counters.ConnectionsOpen == 1);
        Assert.Equal(1, other.GetCounters().ConnectionsOpen);
        await rig.CallAsync();   // the other connection to the first host is still good
        Assert.Equal(2, rig.Counters.ConnectionsAccepted);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_host_without_a_connection_is_served_beside_endless_traffic_to_another(bool http2)
    {
        await using var other = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        await using var rig = await StartBesideAsync(other, options => (options.MaxConnections, options.Timeouts.Pool) = (2, Timeout.InfiniteTimeSpan), http2);
        var stop = false;
        var busy = Enumerable.Range(0, 8).Select(async _ =>
        {
            while (!Volatile.Read(ref stop))
            {
                await rig.CallAsync(Calls.Chat(false, ("x-mock-service-ms", "3")));
            }
        }).ToArray();
        await rig.MockAsync(counters => counters.RequestsCompleted >= 20);

        for (var i = 0; i < 5; i++)
        {
            await rig.DoneAsync(CallAsync(rig, other));
        }

        var completed = rig.Counters.RequestsCompleted;
        await rig.MockAsync(counters => counters.RequestsCompleted > completed + 20);   // nor does the traffic starve
        Volatile.Write(ref stop, true);
        await rig.DoneAsync(busy);
        Assert.Equal(2, rig.Stats.PeakConnections);
        Assert.Equal((0L, 0L), (rig.Stats.Refused, rig.Counters.AbortedRequests));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, 4)]
    [InlineData(false, 20)]
    public async Task Idle_connections_beyond_their_limit_are_closed(bool http2, int opened)
    {
        await using var rig = await Rig.StartAsync(http2, options => (options.MaxIdleConnections, options.IdleTimeout, options.ConnectionLifetime) = (2, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan));
        var gate = new Gate();
        var running = await rig.HoldAsync(http2 ? 32 : 20, gate);
        Assert.InRange(rig.Stats.Connections, http2 ? opened - 1 : opened, opened);   // over HTTP/2 the last may not be needed, if its handshake takes long
        gate.Open();
        await Task.WhenAll(running);

        await rig.StatsAsync(stats => stats is { Connections: 2, Idle: 2 });
        await rig.MockAsync(counters => counters.ConnectionsOpen == 2);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task The_limit_of_connections_to_one_host_holds_at_the_server()
    {
        await using var rig = await Rig.StartHttp1Async(options => options.MaxConnectionsPerHost = 3);

        await Task.WhenAll(Enumerable.Range(0, 40).Select(_ => rig.CallAsync()));

        Assert.Equal((3, 40L), (rig.Counters.PeakConnections, rig.Counters.RequestsCompleted));
        Assert.Equal(3, rig.Counters.ConnectionsAccepted);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task The_limit_of_connections_holds_at_the_servers_together()
    {
        await using var other = await MockLlmServer.StartAsync(new() { Protocols = Microsoft.AspNetCore.Server.Kestrel.Core.HttpProtocols.Http1 }, cancellationToken: Rig.Ct);
        await using var rig = await StartBesideAsync(other, options => options.MaxConnections = 4, http2: false);

        var calls = Enumerable.Range(0, 60).Select(i => i % 2 == 0 ? rig.CallAsync() : CallAsync(rig, other)).ToArray();
        await rig.DoneAsync(calls);

        Assert.InRange(rig.Counters.PeakConnections, 1, 4);
        Assert.InRange(other.GetCounters().PeakConnections, 1, 4);
        Assert.Equal(4, rig.Stats.PeakConnections);
        Assert.Equal(60, rig.Counters.RequestsCompleted + other.GetCounters().RequestsCompleted);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task The_limit_of_concurrent_requests_holds_at_the_server(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2, options => options.MaxConcurrentRequests = 5);

        await Task.WhenAll(Enumerable.Range(0, 100).Select(_ => rig.CallAsync()));

        Assert.Equal((100L, 5), (rig.Counters.RequestsCompleted, rig.Stats.PeakActive));
        Assert.InRange(rig.Counters.PeakStreams, 1, 5);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_full_queue_refuses_at_once_and_says_what_to_change()
    {
        await using var rig = await Rig.StartAsync(options => (options.MaxConcurrentRequests, options.MaxQueueLength) = (1, 2));
        var gate = new Gate();
        var running = await rig.HoldAsync(1, gate);
        Task<string>[] waiting = [rig.CallAsync(), rig.CallAsync()];

        var error = await Assert.ThrowsAsync<PoolRejectedException>(() => rig.CallAsync());

        Assert.Equal((PoolRejectionReason.QueueFull, 2), (error.Reason, error.Limit));
        Assert.Equal((1, 2, 1L), (error.Stats.Active, error.Stats.Queued, error.Stats.Refused));
        Assert.Contains("2 requests (MaxQueueLength) are waiting already", error.Message);
        Assert.Contains("raise MaxQueueLength", error.Message);
        Assert.Contains("1 in flight", error.Message);
        gate.Open();
        await Task.WhenAll([.. running, .. waiting]);
        Assert.Equal(3, rig.Counters.Requests);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_connection_that_is_idle_for_too_long_is_closed(bool http2)
    {
        var time = new ManualTime();
        await using var rig = await Rig.StartAsync(http2, time: time);
        await rig.CallAsync();
        await rig.StatsAsync(stats => stats.Idle == 1);

        time.Advance(TimeSpan.FromSeconds(119));
        Assert.Equal(1, rig.Stats.Connections);
        time.Advance(TimeSpan.FromSeconds(2));
        await rig.MockAsync(counters => counters.ConnectionsOpen == 0);
        Assert.Equal(MockConnectionEnd.ClientFin, rig.Counters.Connections.Single().End);

        await rig.CallAsync();
        Assert.Equal(2, rig.Counters.ConnectionsAccepted);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_connection_at_the_end_of_its_lifetime_is_replaced_and_cuts_no_stream(bool http2)
    {
        var time = new ManualTime();
        await using var rig = await Rig.StartAsync(http2, options => options.IdleTimeout = Timeout.InfiniteTimeSpan, time: time);
        var gate = new Gate();
        var running = await rig.HoldAsync(1, gate);
        await rig.MockAsync(counters => counters.StreamsOpen == 1);
        await rig.StatsAsync(stats => !http2 || stats.Origins[0].StreamLimit is not null);   // or the seconds would end the wait for SETTINGS

        while (rig.Stats.Connections == 1)
        {
            time.Advance(TimeSpan.FromSeconds(1));
        }

        await rig.StatsAsync(stats => stats.Idle == 1);   // its successor is there before its end
        time.Advance(TimeSpan.FromSeconds(6));
        Assert.Equal((1, 1), (rig.Stats.Origins.Single().Connections, rig.Stats.Origins.Single().Draining));
        await rig.CallAsync();
        Assert.False(running[0].IsCompleted);
        gate.Open();
        await running[0];

        await rig.MockAsync(counters => counters.ConnectionsOpen == 1);
        Assert.Equal([1, 1], rig.Counters.Connections.Select(connection => connection.Requests));
        Assert.Equal(0L, rig.Counters.AbortedRequests);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Connections_opened_together_do_not_expire_together()
    {
        var time = new ManualTime();
        await using var rig = await Rig.StartAsync(options => options.IdleTimeout = Timeout.InfiniteTimeSpan, time: time);
        await rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 10, Rig.Ct);
        var seen = new HashSet<int>();
        for (var second = 0; second <= 15 * 60 + 1; second++)
        {
            time.Advance(TimeSpan.FromSeconds(1));
            seen.Add(rig.Stats.Idle);
        }

        Assert.InRange(seen.Count, 4, 11);
        await rig.MockAsync(counters => counters.ConnectionsOpen == 0);
    }

    static Task<Rig> StartBesideAsync(MockLlmServer other, Action<ConnectionPoolOptions> configure, bool http2 = true) => Rig.StartAsync(http2, options =>
    {
        options.SslOptions!.CertificateChainPolicy!.CustomTrustStore.Add(other.CertificateAuthority);
        configure(options);
    });

    static Task<string> CallAsync(Rig rig, MockLlmServer server)
    {
        var request = Calls.Chat();
        request.RequestUri = new Uri(server.BaseAddress, request.RequestUri!);
        return rig.CallAsync(request);
    }
}
