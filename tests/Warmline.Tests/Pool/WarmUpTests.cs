using System.Net.Security;
using Warmline.MockLlm;
using Warmline.Options;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>Connections opened ahead, held ready, paused and replaced.</summary>
public sealed class WarmUpTests
{
    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_warm_up_sends_no_request_and_the_calls_after_it_open_no_connection(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2);

        Assert.Equal(4, await rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 4, Rig.Ct));

        Assert.Equal((4, 4, 0L, 0), (rig.Stats.Connections, rig.Stats.Idle, rig.Stats.TotalRequests, rig.Stats.Active));
        await rig.MockAsync(counters => counters is { ConnectionsOpen: 4, TlsHandshakes: 4 });
        var gate = new Gate();
        var running = await rig.HoldAsync(4, gate);
        gate.Open();
        await Task.WhenAll(running);
        Assert.Equal((4L, 4L), (rig.Counters.ConnectionsAccepted, rig.Counters.Requests));   // Requests: those of the calls, none of the warm-up
        Assert.Equal((4L, 4L, 1.0), (rig.Stats.ReusedConnections, rig.Stats.NewConnections, rig.Stats.ReuseRate));
        Assert.Equal(4, await rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 2, Rig.Ct));   // what is ready counts
        Assert.Equal(4, rig.Counters.ConnectionsAccepted);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_warm_up_of_a_paused_host_is_refused()
    {
        await using var rig = await Rig.StartAsync();
        rig.Pool.Pause();

        var error = await Assert.ThrowsAsync<PoolRejectedException>(() => rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 2, Rig.Ct));

        Assert.Equal((PoolRejectionReason.Paused, 0L), (error.Reason, rig.Counters.ConnectionsAccepted));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task The_request_that_primes_a_connection_is_not_sent_when_a_call_comes_at_the_same_moment(bool callFirst)
    {
        await using var mock = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        var network = new SystemNetwork(new TcpKeepAliveOptions());
        var time = new ManualTime();
        var dialer = new Dialer(network, new DnsCache(network, new DnsOptions(), time), mock.CreateClientSslOptions(), Http2Mode.Preferred, time);
        var key = PoolSettings.KeyOf(mock.BaseAddress, Http2Mode.Preferred);
        for (var i = 0; i < 20; i++)
        {
            var slot = new Slot(await dialer.DialAsync(key, Timeout.InfiniteTimeSpan, Rig.Ct), new Http2Options(), time, new NoOwner(), null);
            using var request = Calls.Chat();
            request.RequestUri = new Uri(mock.BaseAddress, request.RequestUri!);
            (request.Version, request.VersionPolicy) = (slot.Version, HttpVersionPolicy.RequestVersionExact);
            var early = callFirst ? slot.SendAsync(request, Rig.Ct) : null;
            var prime = slot.PrimeAsync(key, Rig.Ct);
            using var response = await (early ?? slot.SendAsync(request, Rig.Ct));
            await prime;
            slot.Close();
        }

        await mock.WaitForAsync(counters => counters.ConnectionsOpen == 0, Rig.Ct);
        Assert.Equal((20L, "/v1/chat/completions"), (mock.GetCounters().Requests, string.Join(" ", mock.GetCounters().RequestsByPath.Keys)));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_warm_up_of_a_host_that_cannot_be_reached_fails_with_the_cause()
    {
        await using var rig = await Rig.StartAsync(mock: new() { Certificate = MockCertificate.Expired });

        var error = await Assert.ThrowsAsync<PoolConnectException>(() => rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 3, Rig.Ct));

        Assert.Equal((DialPhase.Tls, RequestVerdict.NotSent), (error.Phase, error.Verdict));
        Assert.Contains("expired", error.Message);
        Assert.Equal(0, rig.Stats.Connections);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_warm_up_of_a_server_whose_HTTP2_is_garbage_opens_connections_without_it()
    {
        await using var rig = await Rig.StartAsync(mock: new() { OnConnection = _ => new MockConnectionPlan { Act = MockConnectionAct.GarbageForHttp } });

        Assert.Equal(2, await rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 2, Rig.Ct));

        Assert.NotNull(Assert.Single(rig.Stats.Origins).Http2AvoidedFor);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_warm_up_of_a_server_without_settings_fails_with_the_cause()
    {
        await using var rig = await Rig.StartAsync(options => options.Timeouts.Connect = TimeSpan.FromMilliseconds(250), new() { OnConnection = _ => new MockConnectionPlan { Act = MockConnectionAct.SilentAfterTls } });

        var error = await Assert.ThrowsAsync<PoolConnectException>(() => rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 2, Rig.Ct));

        Assert.Equal(DialPhase.Http2Settings, error.Phase);
        Assert.Contains("SETTINGS", error.Message);
        await rig.StatsAsync(stats => stats.Connections == 0);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_warm_up_that_succeeds_in_part_says_how_far_it_came()
    {
        await using var rig = await Rig.StartAsync(mock: new() { OnConnection = connection => connection.Id is 2 or 4 ? new MockConnectionPlan { Act = MockConnectionAct.Close } : null });

        Assert.Equal(2, await rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 4, Rig.Ct));
        Assert.Equal((2, 2L), (rig.Stats.Connections, rig.Stats.FailedDials));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_warm_up_beyond_what_is_free_is_refused_with_the_limit()
    {
        await using var other = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        await using var rig = await Rig.StartHttp1Async(options => (options.MaxConnections, options.MaxIdleConnections) = (2, 2));
        var gate = new Gate();
        var running = await rig.HoldAsync(2, gate);

        var error = await Assert.ThrowsAsync<PoolRejectedException>(() => rig.Pool.WarmUpAsync(other.BaseAddress, 1, Rig.Ct));

        Assert.Equal((PoolRejectionReason.MaxConnections, 2), (error.Reason, error.Limit));
        Assert.Contains("all 2 connections (MaxConnections) are busy", error.Message);
        gate.Open();
        await Task.WhenAll(running);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_warm_up_can_be_left_and_its_dials_go_on()
    {
        await using var rig = await Rig.StartAsync(
            options => options.Timeouts.Connect = Timeout.InfiniteTimeSpan,
            new() { OnConnection = connection => connection.Id == 1 ? new MockConnectionPlan { Act = MockConnectionAct.Silent } : null });
        using var leave = new CancellationTokenSource();
        var warm = rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 3, leave.Token);
        await rig.StatsAsync(stats => stats.Idle == 2);

        await leave.CancelAsync();
        Assert.Equal(leave.Token, (await Assert.ThrowsAnyAsync<OperationCanceledException>(() => warm)).CancellationToken);
        await rig.CallAsync();
        Assert.Equal(1, rig.Counters.Requests);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Warm_connections_are_there_from_the_start_and_are_restored(bool http2)
    {
        var time = new ManualTime();
        await using var mock = await MockLlmServer.StartAsync(
            new() { Protocols = http2 ? Microsoft.AspNetCore.Server.Kestrel.Core.HttpProtocols.Http1AndHttp2 : Microsoft.AspNetCore.Server.Kestrel.Core.HttpProtocols.Http1 }, cancellationToken: Rig.Ct);
        var options = Rig.Options(mock, options => options.Hosts[mock.BaseAddress.ToString()] = new() { WarmConnections = 3 });
        await using var pool = new ConnectionPool(options, timeProvider: time);
        await Ready(3);
        Assert.Equal(0, mock.GetCounters().Requests);

        time.Advance(TimeSpan.FromMinutes(5));   // far beyond the idle timeout
        Assert.Equal((3, 3L), (pool.GetStats().Idle, mock.GetCounters().ConnectionsAccepted));

        pool.Reconnect();
        await mock.WaitForAsync(counters => counters.ConnectionsAccepted == 6, Rig.Ct);
        await Ready(3);
        await mock.WaitForAsync(counters => counters.ConnectionsOpen == 3, Rig.Ct);

        Assert.True(pool.TryUpdate(Rig.Options(mock, updated => (updated.SslOptions, _) = (options.SslOptions, updated.Hosts[mock.BaseAddress.ToString()] = new() { WarmConnections = 5 }))));
        await Ready(5);
        Assert.True(pool.TryUpdate(Rig.Options(mock, updated => updated.SslOptions = options.SslOptions)));
        time.Advance(TimeSpan.FromMinutes(5));   // not held any more: they may expire
        await mock.WaitForAsync(counters => counters.ConnectionsOpen == 0, Rig.Ct);

        Task Ready(int connections) => Eventually.TrueAsync(() => pool.GetStats() is var stats && stats.Idle == connections && stats.Connections == connections, () => Rig.Describe(pool.GetStats()));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_paused_pool_lets_running_calls_end_and_makes_new_ones_wait(bool all)
    {
        await using var rig = await Rig.StartAsync();
        var origin = all ? null : new Uri(rig.Mock.BaseAddress, "/v1");
        var gate = new Gate();
        var running = await rig.HoldAsync(2, gate);
        rig.Pool.Pause(origin);

        var waiting = Enumerable.Range(0, 3).Select(_ => rig.CallAsync()).ToArray();
        gate.Open();
        await Task.WhenAll(running);

        Assert.All(rig.Pool.GetWaiters(), waiter => Assert.Equal(PoolRejectionReason.Paused, waiter.Reason));
        Assert.Equal((3, 2), (rig.Stats.Queued, (int)rig.Counters.Requests));
        var error = await Assert.ThrowsAsync<PoolTimeoutException>(() => rig.CallAsync(Calls.Chat().With(new() { MaxQueueTime = TimeSpan.FromMilliseconds(50) })));
        Assert.Equal(PoolRejectionReason.Paused, error.Reason);
        Assert.Contains("Call Resume", error.Message);

        rig.Pool.Resume(origin);
        await Task.WhenAll(waiting);
        Assert.Equal(5, rig.Counters.Requests);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Reconnect_closes_idle_connections_now_and_busy_ones_after_their_calls(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2);
        await rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 2, Rig.Ct);
        var gate = new Gate();
        var running = await rig.HoldAsync(1, gate);

        rig.Pool.Reconnect(rig.Mock.BaseAddress);
        await rig.MockAsync(counters => counters.ConnectionsOpen == 1);
        await rig.CallAsync();
        Assert.Equal(3, rig.Counters.ConnectionsAccepted);
        Assert.False(running[0].IsCompleted);
        gate.Open();
        await running[0];
        await rig.MockAsync(counters => counters.ConnectionsOpen == 1);
        Assert.Equal((0L, 2L), (rig.Counters.AbortedRequests, rig.Counters.RequestsCompleted));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Limits_can_be_raised_and_lowered_while_calls_run()
    {
        await using var mock = await MockLlmServer.StartAsync(new() { Protocols = Microsoft.AspNetCore.Server.Kestrel.Core.HttpProtocols.Http1 }, cancellationToken: Rig.Ct);
        var options = Rig.Options(mock, options => (options.MaxConnections, options.MaxIdleConnections) = (2, 2));
        await using var pool = new ConnectionPool(options);
        using var client = pool.CreateClient(mock.BaseAddress);
        var gate = new Gate();
        var calls = Enumerable.Range(0, 6).Select(_ => client.SendAsync(gate.Hold(Calls.Chat()), Rig.Ct)).ToArray();
        await mock.WaitForAsync(counters => counters.StreamsOpen == 2, Rig.Ct);
        Assert.Equal((2, 4), (pool.GetStats().Active, pool.GetStats().Queued));

        (options.MaxConnections, options.MaxIdleConnections) = (6, 6);
        Assert.True(pool.TryUpdate(options));
        await mock.WaitForAsync(counters => counters.StreamsOpen == 6, Rig.Ct);

        (options.MaxConnections, options.MaxIdleConnections) = (1, 1);
        Assert.True(pool.TryUpdate(options));
        Assert.Equal(6, pool.GetStats().Active);   // none is cut
        gate.Open();
        foreach (var response in await Task.WhenAll(calls))
        {
            response.Dispose();
        }

        // One may stay; it closes too when it became idle while the others were still over the limit.
        await mock.WaitForAsync(counters => counters.ConnectionsOpen <= 1, Rig.Ct);
        await Eventually.TrueAsync(() => pool.GetStats().Connections <= 1);
        Assert.Equal((0L, 6L), (mock.GetCounters().AbortedRequests, mock.GetCounters().RequestsCompleted));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task What_is_fixed_for_life_is_not_updated_and_nothing_else_with_it()
    {
        await using var mock = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        var options = Rig.Options(mock);
        await using var pool = new ConnectionPool(options);
        Action<ConnectionPoolOptions>[] changes =
        [
            changed => changed.Http2.Mode = Http2Mode.Disabled, changed => changed.Http2.PingDelay = TimeSpan.FromSeconds(99), changed => changed.Http2.PingTimeout = TimeSpan.FromSeconds(99),
            changed => changed.Dns.CacheEnabled = false, changed => changed.Dns.CacheTtl = TimeSpan.FromSeconds(1), changed => changed.TcpKeepAlive.Idle = TimeSpan.FromSeconds(99),
            changed => changed.TcpKeepAlive.Interval = TimeSpan.FromSeconds(99), changed => changed.TcpKeepAlive.Count = 99, changed => changed.SslOptions = new SslClientAuthenticationOptions(),
            changed => changed.StatsLogInterval = TimeSpan.FromSeconds(99),
            changed => changed.Name = "other",
        ];
        foreach (var change in changes)
        {
            var changed = new ConnectionPoolOptions { SslOptions = options.SslOptions, MaxConcurrentRequests = 1 };
            change(changed);
            Assert.False(pool.TryUpdate(changed));
        }

        await using var named = new ConnectionPool(new ConnectionPoolOptions { Name = "llm", SslOptions = options.SslOptions });
        Assert.True(named.TryUpdate(options) && named.TryUpdate(new ConnectionPoolOptions { Name = "llm", SslOptions = options.SslOptions }));   // none named, and the same
        Assert.Equal("llm", named.GetStats().Name);

        using var client = pool.CreateClient(mock.BaseAddress);
        var gate = new Gate();
        var calls = Enumerable.Range(0, 2).Select(_ => client.SendAsync(gate.Hold(Calls.Chat()), Rig.Ct)).ToArray();
        await mock.WaitForAsync(counters => counters.StreamsOpen == 2, Rig.Ct);   // MaxConcurrentRequests did not become 1
        gate.Open();
        await Task.WhenAll(calls);
        Assert.Contains("MaxConnections is 0", Assert.Throws<ArgumentException>(() => pool.TryUpdate(new() { MaxConnections = 0, SslOptions = options.SslOptions })).Message);
    }

    sealed class NoOwner : ISlotOwner
    {
        public void SettingsSeen(Slot slot, int maxConcurrentStreams)
        {
        }

        public void Closing(Slot slot, ConnectionEnd end)
        {
        }

        public void Closed(Slot slot)
        {
        }
    }
}
