using System.Net;
using System.Net.Sockets;
using Warmline.MockLlm;
using Warmline.Pool;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>What is held warm is there for the first call after any pause: beyond idle limits and lifetimes, after deaths, sleeps and changes of the network.</summary>
public sealed class WarmthTests : IAsyncDisposable
{
    readonly ManualTime _time = new();
    readonly SystemNetwork _sockets = new(new TcpKeepAliveOptions());
    readonly FakeNetwork _network;
    readonly EndingServer _server = new();

    public WarmthTests() => _network = new() { Connect = _sockets.ConnectAsync, LookAt = _sockets.Look };

    public ValueTask DisposeAsync() => _server.DisposeAsync();

    [Fact(Timeout = Rig.Patience)]
    public async Task Warm_connections_outlast_the_known_limit_of_their_provider()
    {
        await using var pool = NewPool(3, host: "api.openai.com", options => options.ConnectionLifetime = Timeout.InfiniteTimeSpan);
        var now = 0;
        foreach (var (before, succeeded, after) in new[] { (392, 395, 400), (785, 789, 794), (1178, 1183, 1188) })   // the limit is 398 s, the successors come 5 s ahead
        {
            await ReadyAsync(pool, 3);
            var accepted = _server.Connections.Count;
            Assert.Equal(TimeSpan.FromSeconds(398), pool.GetStats().Origins[0].IdleLimit);
            AdvanceTo(before);
            Assert.Equal((accepted, 3), (_server.Connections.Count, _server.Open));   // far beyond IdleTimeout: that is for connections that nobody wants
            AdvanceTo(succeeded);
            await _server.ConnectedAsync(accepted + 3);
            await pool.StatsAsync(stats => stats.Idle == 6);   // make before break
            Assert.Equal(6, _server.Open);
            AdvanceTo(after);
            await _server.OpenAsync(3);
        }

        using var client = pool.CreateClient(new UriBuilder(_server.Address) { Host = "api.openai.com" }.Uri);
        await CallAsync(client);
        Assert.Equal((12, 1.0), (_server.Connections.Count, pool.GetStats().ReuseRate));

        void AdvanceTo(int seconds)
        {
            _time.Advance(TimeSpan.FromSeconds(seconds - now));
            now = seconds;
        }
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Warm_connections_outlast_their_lifetime()
    {
        await using var pool = NewPool(2, change: options => options.ConnectionLifetime = TimeSpan.FromMinutes(10));
        await ReadyAsync(pool, 2);
        for (var second = 0; second < 31 * 60; second++)
        {
            _time.Advance(TimeSpan.FromSeconds(1));
            await pool.StatsAsync(stats => stats.Origins[0].Dialing == 0);   // a dial takes no time by this clock
            Assert.InRange(pool.GetStats().Idle, 2, 4);
        }

        await _server.ConnectedAsync(8);   // three successors each
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_warm_connection_that_dies_is_replaced_at_once_and_a_loss_replaces_all(bool byReset)
    {
        await using var pool = NewPool(4);
        await ReadyAsync(pool, 4);
        _time.Advance(TimeSpan.FromSeconds(2));
        if (byReset)
        {
            _server.Connections[1].Reset();
        }
        else
        {
            _server.Connections[1].End();
        }

        await _server.ConnectedAsync(byReset ? 8 : 5);
        await ReadyAsync(pool, 4);
        await _server.OpenAsync(4);
        Assert.Equal(byReset ? 4 : 0, pool.GetStats().LostConnections);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task After_a_sleep_the_first_call_rides_a_new_connection_and_the_warmth_comes_back()
    {
        await using var pool = NewPool(2);
        using var client = pool.CreateClient(_server.Address);
        await ReadyAsync(pool, 2);
        _time.Advance(TimeSpan.FromSeconds(2));
        _time.Sleep(TimeSpan.FromHours(1));
        await CallAsync(client);
        Assert.Equal(1, _server.Connections.Skip(2).Sum(connection => connection.Requests));
        await ReadyAsync(pool, 2);
        await _server.OpenAsync(2);
        Assert.Equal(4, _server.Connections.Count);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_lost_address_and_a_reconnect_bring_the_warmth_back_and_a_pause_does_not()
    {
        await using var pool = NewPool(2);
        await ReadyAsync(pool, 2);
        pool.Reconnect();
        await _server.ConnectedAsync(4);
        await ReadyAsync(pool, 2);

        _network.Addresses = [IPAddress.Parse("192.0.2.1")];
        ProcessPools.ReportAddressChange();
        await _server.ConnectedAsync(6);
        await ReadyAsync(pool, 2);

        pool.Pause();
        ProcessPools.ReportAddressChange();
        await pool.StatsAsync(stats => stats.Connections == 0);
        Assert.Equal(6, _server.Connections.Count);
        pool.Resume();
        await ReadyAsync(pool, 2);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task While_the_server_refuses_the_warmth_waits_out_the_back_off_and_then_comes_back()
    {
        await using var pool = NewPool(1);
        await ReadyAsync(pool, 1);
        var attempts = 0;
        _network.Connect = (_, _) =>
        {
            Interlocked.Increment(ref attempts);
            return ValueTask.FromException<Stream>(new SocketException((int)SocketError.ConnectionRefused));
        };
        _time.Advance(TimeSpan.FromSeconds(2));
        _server.Connections[0].End();
        await pool.StatsAsync(stats => stats is { FailedDials: 1, Connections: 0 });
        Assert.Equal(1, Volatile.Read(ref attempts));   // at once, and once
        _time.Advance(TimeSpan.FromMilliseconds(102));
        await pool.StatsAsync(stats => stats.FailedDials == 2);

        _network.Connect = _sockets.ConnectAsync;
        _time.Advance(TimeSpan.FromSeconds(1));
        await ReadyAsync(pool, 1);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_silent_warm_connection_is_found_by_the_look_at_idle_ones_before_any_call_comes()
    {
        await using var pool = NewPool(3);
        await ReadyAsync(pool, 3);
        var old = true;
        _network.LookAt = (wire, rested) => Volatile.Read(ref old) ? WireState.Lost : _sockets.Look(wire, rested);
        _time.Advance(TimeSpan.FromSeconds(2));
        await pool.StatsAsync(stats => stats.LostConnections >= 3);
        Volatile.Write(ref old, false);
        await ReadyAsync(pool, 3);
        await _server.OpenAsync(3);
    }

    ConnectionPool NewPool(int warm, string host = "localhost", Action<ConnectionPoolOptions>? change = null)
    {
        var options = new ConnectionPoolOptions { UseProxy = false };
        options.Hosts[new UriBuilder(_server.Address) { Host = host }.Uri.ToString()] = new() { WarmConnections = warm };
        change?.Invoke(options);
        return new ConnectionPool(options, timeProvider: _time, loggerFactory: null, network: _network);
    }

    static Task ReadyAsync(ConnectionPool pool, int connections) => pool.StatsAsync(stats => stats.Idle == connections && stats.Connections == connections);

    static async Task CallAsync(HttpClient client)
    {
        using var response = await client.SendAsync(Calls.Chat(), Rig.Ct);
        Assert.Equal("ok", await response.Content.ReadAsStringAsync(Rig.Ct));
    }
}

/// <summary>HTTP/2 connections are asked for a sign of life whenever they are open; these tests take some seconds, as the platform's clock is the system's.</summary>
public sealed class PingTests
{
    [Fact(Timeout = Rig.Patience)]
    public async Task An_idle_connection_is_pinged()
    {
        using var server = new RawHttp2Server();
        await using var pool = server.NewPool(Often);
        var warm = pool.WarmUpAsync(server.Address, 1, Rig.Ct);
        using var connection = await server.AcceptAsync();
        await PingAsync(connection);
        await warm;
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(1)]
    [InlineData(100)]
    public async Task A_connection_is_pinged_while_it_is_full_and_while_it_drains(int limit)
    {
        using var server = new RawHttp2Server();
        await using var pool = server.NewPool(Often);
        using var client = pool.CreateClient(server.Address);
        var call = client.SendAsync(Calls.Chat(), HttpCompletionOption.ResponseHeadersRead, Rig.Ct);
        using var connection = await server.AcceptAsync();
        await connection.WriteAsync(RawHttp2Server.Settings, 0, 0, [0, 3, 0, 0, 0, (byte)limit]);
        var stream = await connection.ReadRequestAsync();
        await connection.AnswerAsync(stream, ended: false);
        using var response = await call;
        await PingAsync(connection);

        pool.Reconnect();
        await pool.StatsAsync(stats => stats.Origins[0].Draining == 1);
        await PingAsync(connection);
        await PingAsync(connection);
        await connection.EndAsync(stream);
        await response.Content.ReadAsStringAsync(Rig.Ct);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_warm_connection_that_answers_no_ping_is_lost_with_all_the_others()
    {
        using var server = new RawHttp2Server();
        await using var pool = server.NewPool(Often);
        var warm = pool.WarmUpAsync(server.Address, 2, Rig.Ct);
        using var first = await server.AcceptAsync();
        using var second = await server.AcceptAsync();
        await warm;
        Assert.Equal(2, pool.GetStats().Idle);

        // Nobody answers, on either: whichever is given up first takes the other along.
        await pool.StatsAsync(stats => stats is { Connections: 0, LostConnections: 2 });
    }

    static void Often(ConnectionPoolOptions options) => (options.Http2.PingDelay, options.Http2.PingTimeout) = (TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(1));

    /// <summary>Reads on until a ping, and answers it.</summary>
    static async Task PingAsync(RawHttp2Server.Connection connection)
    {
        while (true)
        {
            var (frame, payload) = await connection.ReadWithPayloadAsync();
            if (frame is { Type: RawHttp2Server.Settings, Flags: 0 })
            {
                await connection.WriteAsync(RawHttp2Server.Settings, 1, 0, []);
            }
            else if (frame is { Type: RawHttp2Server.Ping, Flags: 0 })
            {
                await connection.WriteAsync(RawHttp2Server.Ping, 1, 0, payload);
                return;
            }
        }
    }
}
