using System.Runtime.CompilerServices;
using Microsoft.Extensions.Logging;
using Warmline.MockLlm;
using Warmline.Pool;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>The four usual mistakes: each is told once, and nobody who did not make it hears of it.</summary>
public sealed class MistakeTests
{
    /// <summary>What a process knows of its pools it knows by origin: another test's pools may have dialled the same port a moment ago.</summary>
    const string OwnName = "pools.test";

    [Fact(Timeout = Rig.Patience)]
    public async Task The_third_pool_within_a_minute_to_one_origin_is_told_once()
    {
        await using var mock = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        var logs = new LogRecorder();
        for (var pools = 1; pools <= 5; pools++)
        {
            await CallOnceAsync(mock, logs);
            Assert.Equal(pools >= 3 ? 1 : 0, Warnings(logs).Count);
        }

        Assert.StartsWith($"3 pools of this process have opened connections to https://{OwnName}:{mock.BaseAddress.Port} within 60 s.", Warnings(logs)[0], StringComparison.Ordinal);
        Assert.Contains("make one ConnectionPool for the application and keep it", Warnings(logs)[0], StringComparison.Ordinal);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Two_pools_or_pools_far_apart_are_no_mistake()
    {
        await using var mock = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        var (logs, time) = (new LogRecorder(), new ManualTime());
        for (var pools = 0; pools < 6; pools++)
        {
            await CallOnceAsync(mock, logs, time);
            time.Advance(TimeSpan.FromSeconds(31));
        }

        await using var other = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        await using var one = new ConnectionPool(Rig.Options(other), logs, time);
        using var client = one.CreateClient(other.BaseAddress);
        for (var dials = 0; dials < 4; dials++)
        {
            (await client.SendAsync(Calls.Chat(), Rig.Ct)).Dispose();
            one.Reconnect();
        }

        Assert.Empty(Warnings(logs));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task An_idle_timeout_that_costs_a_dial_again_and_again_is_told_with_the_value_that_keeps_the_connection()
    {
        var time = new ManualTime();
        await using var rig = await Rig.StartAsync(time: time);
        await PauseAndCallAsync(rig, time, times: 5, TimeSpan.FromSeconds(120.1), TimeSpan.FromSeconds(30));

        Assert.Equal($"Connections to {rig.Stats.Origins[0].Origin} expire too early: 3 times a connection had to be opened again soon after. IdleTimeout = 170s (now 2m) would have kept them", Assert.Single(Warnings(rig.Logs)));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(2, 30)]     // not often
    [InlineData(5, 240)]    // longer than any load balancer keeps a connection
    public async Task A_pause_now_and_then_or_one_that_nothing_survives_is_no_mistake(int times, int more)
    {
        var time = new ManualTime();
        await using var rig = await Rig.StartAsync(time: time);
        await PauseAndCallAsync(rig, time, times, TimeSpan.FromSeconds(120.1), TimeSpan.FromSeconds(more));

        Assert.Empty(Warnings(rig.Logs));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(10, true)]
    [InlineData(900, false)]
    public async Task A_short_lifetime_that_costs_a_dial_again_and_again_is_told(int lifetime, bool told)
    {
        var time = new ManualTime();
        await using var rig = await Rig.StartAsync(options => (options.ConnectionLifetime, options.IdleTimeout) = (TimeSpan.FromSeconds(lifetime), Timeout.InfiniteTimeSpan), time: time);
        await PauseAndCallAsync(rig, time, times: 5, TimeSpan.FromSeconds(lifetime + 0.1), TimeSpan.FromSeconds(1));

        if (told)
        {
            Assert.EndsWith("ConnectionLifetime = 15m (now 10s) would have kept them", Assert.Single(Warnings(rig.Logs)), StringComparison.Ordinal);
        }
        else
        {
            Assert.Empty(Warnings(rig.Logs));
        }
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_server_that_speaks_http1_only_is_told_when_many_calls_take_a_connection_each()
    {
        await using var rig = await Rig.StartHttp1Async(options => options.MaxConnections = 60);
        await HoldAsync(rig, 15);
        Assert.Empty(Warnings(rig.Logs));
        await HoldAsync(rig, 20);
        await HoldAsync(rig, 24);
        await Eventually.TrueAsync(() => Warnings(rig.Logs).Count > 0);   // told after the dial has served its caller

        var warning = Assert.Single(Warnings(rig.Logs));
        Assert.Matches(@"^\d\d concurrent calls to https://localhost:\d+ use \d\d connections, because the server speaks HTTP/1.1 only. Over HTTP/2, \d would be enough. Ask for HTTP/2", warning);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task An_application_that_insists_on_http1_is_told_what_it_costs()
    {
        await using var rig = await Rig.StartAsync(options => options.Http2.Mode = Http2Mode.Disabled);
        await HoldAsync(rig, 16);
        await Eventually.TrueAsync(() => Warnings(rig.Logs).Count > 0);

        Assert.EndsWith("because the application insists on HTTP/1.1. Over HTTP/2, 2 would be enough. Set Http2.Mode to Preferred and leave the requests' VersionPolicy as it is", Assert.Single(Warnings(rig.Logs)), StringComparison.Ordinal);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Http2_in_use_and_plain_http_are_no_mistake(bool http2)
    {
        await using var rig = http2 ? await Rig.StartAsync() : await Rig.StartHttp1Async(mock: new() { UseTls = false });
        await HoldAsync(rig, 24);

        Assert.Empty(Warnings(rig.Logs));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_pool_that_is_forgotten_with_open_connections_is_told_and_its_client_goes_on()
    {
        await using var mock = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        var logs = new LogRecorder();
        using var client = ForgetPool(mock, logs);
        (await client.SendAsync(Calls.Chat(), Rig.Ct)).Dispose();
        await Eventually.TrueAsync(() =>
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
            return Warnings(logs).Count > 0;
        });

        Assert.Equal("A pool was left open: its ConnectionPool was forgotten with 0 requests in flight on 1 connections. Await DrainAsync to let them end, then DisposeAsync", Assert.Single(Warnings(logs)));
        (await client.SendAsync(Calls.Chat(), Rig.Ct)).Dispose();
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task At_the_processs_end_a_pool_is_told_only_when_it_is_open()
    {
        await using var rig = await Rig.StartAsync();
        rig.Pool.Engine.Advice.LogLeftOpen("the process ended");
        Assert.Empty(Warnings(rig.Logs));   // nothing was ever dialled

        await rig.CallAsync();
        rig.Pool.Engine.Advice.LogLeftOpen("the process ended");
        rig.Pool.Engine.Advice.LogLeftOpen("the process ended");
        Assert.StartsWith("A pool was left open: the process ended with 0 requests in flight on 1 connections.", Assert.Single(Warnings(rig.Logs)), StringComparison.Ordinal);

        await using var ended = await Rig.StartAsync();
        await ended.CallAsync();
        await ended.Pool.DrainAsync(TimeSpan.Zero, Rig.Ct);
        ended.Pool.Engine.Advice.LogLeftOpen("the process ended");
        Assert.Empty(Warnings(ended.Logs));
    }

    static async Task CallOnceAsync(MockLlmServer mock, LogRecorder logs, TimeProvider? time = null)
    {
        var network = new FakeNetwork { Connect = new SystemNetwork(new TcpKeepAliveOptions()).ConnectAsync };
        await using var pool = new ConnectionPool(Rig.Options(mock), logs, time, network);
        using var client = pool.CreateClient(new UriBuilder(mock.BaseAddress) { Host = OwnName }.Uri);
        var call = Calls.Chat();
        call.Headers.Host = mock.BaseAddress.Authority;
        (await client.SendAsync(call, Rig.Ct)).Dispose();
    }

    static async Task PauseAndCallAsync(Rig rig, ManualTime time, int times, TimeSpan untilClosed, TimeSpan more)
    {
        await rig.CallAsync();
        for (var pause = 0; pause < times; pause++)
        {
            await rig.StatsAsync(stats => stats.Idle == 1);
            time.Advance(untilClosed);
            await rig.StatsAsync(stats => stats.Connections == 0);
            time.Advance(more);
            await rig.CallAsync();
        }
    }

    static async Task HoldAsync(Rig rig, int calls)
    {
        var gate = new Gate();
        var running = await rig.HoldAsync(calls, gate);
        gate.Open();
        await rig.DoneAsync(running);
        await rig.QuietAsync();
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    static HttpClient ForgetPool(MockLlmServer mock, LogRecorder logs) => new ConnectionPool(Rig.Options(mock), logs).CreateClient(mock.BaseAddress);

    /// <summary>Warnings of the mistakes: others, such as that of a pool well used, are not meant here.</summary>
    static List<string> Warnings(LogRecorder logs) =>
        [.. logs.Entries.Where(entry => entry.Level >= LogLevel.Warning && !entry.Message.StartsWith("Pool utilization", StringComparison.Ordinal)).Select(entry => entry.Message)];
}
