using System.Net;
using System.Net.Sockets;
using Warmline.MockLlm;
using Warmline.Pool;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>No call meets a connection that ended, or is about to, while it was idle.</summary>
public sealed class StaleTests : IAsyncDisposable
{
    readonly ManualTime _time = new();
    readonly SystemNetwork _sockets = new(new TcpKeepAliveOptions());
    readonly FakeNetwork _network;
    readonly EndingServer _server = new();
    readonly LogRecorder _logs = new();
    readonly ConnectionPool _pool;
    readonly HttpClient _client;

    public StaleTests()
    {
        _network = new() { Connect = _sockets.ConnectAsync, LookAt = _sockets.Look };
        _pool = new ConnectionPool(new() { ConnectionLifetime = Timeout.InfiniteTimeSpan, UseProxy = false, MaxConnections = 40 }, _logs, _time, _network);
        _client = _pool.CreateClient(_server.Address);
    }

    PoolStats Stats => _pool.GetStats();

    public async ValueTask DisposeAsync()
    {
        _client.Dispose();
        await _pool.DisposeAsync();
        await _server.DisposeAsync();
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_server_that_ends_the_connection_right_after_its_answer_loses_no_call(bool tls)
    {
        // The end is there before the next call, and nothing watches yet: the platform's own look, a read before it writes, has to find it.
        using var authority = new TestAuthority();
        using var certificate = authority.Issue();
        await using var server = new EndingServer(tls ? certificate : null);
        server.AfterAnswer = connection => connection.End();
        await using var pool = new ConnectionPool(new() { SslOptions = authority.Trust(), UseProxy = false }, timeProvider: _time);
        using var client = pool.CreateClient(server.Address);
        for (var i = 1; i <= 50; i++)
        {
            await CallAsync(client);
            var last = server.Connections[^1];
            await Eventually.TrueAsync(() => last.HasEnded || ArrivedAt(pool, server.Address.Port));
        }

        Assert.Equal(50, server.Connections.Sum(connection => connection.Requests));
        Assert.Equal(50, server.Connections.Count(connection => connection.Requests == 1));
        Assert.Equal((50L, 0L), (pool.GetStats().TotalRequests, pool.GetStats().FailedDials));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("timeout=5", 3)]
    [InlineData("max=100, Timeout = \"10\"", 8)]
    [InlineData("timeout=2, max=7", 0.8)]
    public async Task A_connection_ends_before_the_time_that_its_server_announced(string hint, double seconds)
    {
        _server.Headers = $"Keep-Alive: {hint}\r\n";
        await CallAsync();
        await _pool.QuietAsync();
        Assert.Equal(TimeSpan.FromSeconds(seconds), Stats.Origins[0].IdleLimit);

        _time.Advance(TimeSpan.FromSeconds(seconds - 0.1));
        Assert.Equal(1, Stats.Idle);
        _time.Advance(TimeSpan.FromSeconds(0.11));
        Assert.Equal(0, Stats.Idle);
        await _server.OpenAsync(0);

        _server.Headers = "";
        await CallAsync();
        await _pool.QuietAsync();
        _time.Advance(TimeSpan.FromSeconds(100));
        Assert.Equal((1, 2), (Stats.Idle, _server.Connections.Count));   // a server that says nothing more is not held to it
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task What_a_server_does_to_idle_connections_twice_it_gets_no_third_chance_to_do()
    {
        for (var i = 1; i <= 2; i++)
        {
            await CallAsync();
            await _pool.QuietAsync();
            _time.Advance(TimeSpan.FromSeconds(60));
            Assert.Equal((1, null), (Stats.Idle, Stats.Origins[0].IdleLimit));
            _server.Connections[^1].End();
            await _pool.StatsAsync(stats => stats.Connections == 0);
        }

        Assert.Equal(TimeSpan.FromSeconds(58), Stats.Origins[0].IdleLimit);
        Assert.Contains(_logs.Entries, entry => entry.Message.Contains("closes idle connections early: from now on they are kept for at most 58 s", StringComparison.Ordinal));
        for (var i = 3; i <= 5; i++)
        {
            await CallAsync();
            await _pool.QuietAsync();
            _time.Advance(TimeSpan.FromSeconds(57));
            await CallAsync();   // still the same connection
            await _pool.QuietAsync();
            Assert.Equal((i, 2), (_server.Connections.Count, _server.Connections[^1].Requests));
            _time.Advance(TimeSpan.FromSeconds(58.01));
            await _server.OpenAsync(0);   // ended by us
        }

        Assert.Equal(0, Stats.LostConnections);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(WireState.Lost, 20)]
    [InlineData(WireState.Ended, 0)]
    [InlineData(WireState.Doubtful, 0)]
    internal async Task A_connection_that_is_found_gone_before_a_request_takes_none_and_a_lost_one_takes_the_others_along(WireState found, int lost)
    {
        await FillAsync(20);
        _network.LookAt = (_, _) => found;
        _time.Advance(TimeSpan.FromMilliseconds(999));
        await CallAsync();   // idle for a moment only: not looked at
        Assert.Equal(21, _server.Connections.Sum(connection => connection.Requests));
        await _pool.QuietAsync();

        // Only with the call comes the look that counts: the one at idle connections finds this only.
        _network.LookAt = (_, _) => WireState.Alive;
        _time.Advance(TimeSpan.FromSeconds(2));
        var calls = 0;
        _network.LookAt = (_, _) => Interlocked.Increment(ref calls) <= (lost > 0 ? int.MaxValue : 3) ? found : WireState.Alive;
        await CallAsync();
        await _pool.QuietAsync();

        Assert.Equal((22, lost), (_server.Connections.Sum(connection => connection.Requests), (int)Stats.LostConnections));
        await _pool.StatsAsync(stats => stats.Connections == (lost > 0 ? 1 : 17));
        Assert.Equal(lost > 0 ? (21, 1) : (20, 4), (_server.Connections.Count, calls));   // no more dials than needed
        Assert.Equal(lost > 0 ? 1 : 0, _logs.Entries.Count(entry => entry.Message.Contains("20 idle connections to http://localhost", StringComparison.Ordinal)));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task One_reset_among_twenty_idle_connections_ends_them_all_and_the_next_call_costs_one_dial()
    {
        await FillAsync(20);
        _time.Advance(TimeSpan.FromSeconds(2));

        _server.Connections[7].Reset();

        await _pool.StatsAsync(stats => stats.Connections == 0);
        await _server.OpenAsync(0);
        Assert.Equal(20, Stats.LostConnections);
        Assert.Single(_logs.Entries, entry => entry.Message == "Closed 20 idle connections to http://localhost:" + _server.Address.Port + ": an idle one was reset, timed out or answered no ping");
        await CallAsync();
        Assert.Equal(21, _server.Connections.Count);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task One_end_in_good_order_ends_no_other_connection()
    {
        await FillAsync(5);
        _time.Advance(TimeSpan.FromSeconds(2));

        _server.Connections[2].End();

        await _pool.StatsAsync(stats => stats.Connections == 4);
        Assert.Equal((4, 0L), (Stats.Idle, Stats.LostConnections));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task After_a_sleep_idle_connections_are_gone_and_what_runs_goes_on()
    {
        await FillAsync(3);
        var gate = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _server.Gate = gate.Task;
        var running = CallAsync();
        await Eventually.TrueAsync(() => _server.Connections.Sum(connection => connection.Requests) == 4);
        _time.Advance(TimeSpan.FromSeconds(2));

        _time.Sleep(TimeSpan.FromHours(8));
        Assert.Equal(2, Stats.Idle);   // no timer fires in a sleep, and none is overdue after it
        _server.Gate = Task.CompletedTask;
        await CallAsync();
        gate.SetResult();
        await running;

        Assert.Equal((4, 2L), (_server.Connections.Count, Stats.LostConnections));
        Assert.Single(_logs.Entries, entry => entry.Message.Contains("Closed 2 idle connections to all hosts: the clock jumped", StringComparison.Ordinal));
        await _server.OpenAsync(2);

        _time.Sleep(TimeSpan.FromSeconds(3));   // no sleep: a clock that was set right
        _time.Advance(TimeSpan.FromSeconds(2));
        await CallAsync();
        Assert.Equal(4, _server.Connections.Count);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_busy_pool_notices_a_sleep_too()
    {
        await FillAsync(2);
        for (var i = 0; i < 12; i++)   // a call every 100 ms: no event comes after a second without one
        {
            _time.Advance(TimeSpan.FromMilliseconds(100));
            if (i == 5)
            {
                _time.Sleep(TimeSpan.FromMinutes(1));
            }

            await CallAsync();
            await _pool.QuietAsync();
        }

        Assert.Equal(2, Stats.LostConnections);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task When_the_machine_loses_an_address_its_idle_connections_go_and_busy_ones_end_after_their_calls()
    {
        var from = IPAddress.Parse("127.0.0.5");
        _network.Connect = async (endPoint, ct) =>
        {
            var socket = new Socket(SocketType.Stream, ProtocolType.Tcp);
            socket.Bind(new IPEndPoint(from, 0));
            await socket.ConnectAsync(endPoint, ct);
            return new NetworkStream(socket, ownsSocket: true);
        };
        await FillAsync(2);
        from = IPAddress.Loopback;
        await FillAsync(4);   // two more, from another address
        var gate = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _server.Gate = gate.Task;
        var running = Enumerable.Range(0, 4).Select(_ => CallAsync()).ToArray();
        await Eventually.TrueAsync(() => _server.Connections.Sum(connection => connection.Requests) == 10);
        from = IPAddress.Parse("127.0.0.5");
        var fifth = CallAsync();   // it keeps its idle neighbour company
        await _server.ConnectedAsync(5);
        await Eventually.TrueAsync(() => Stats.Active == 5);

        ProcessPools.ReportAddressChange();   // nothing is known: nothing happens
        _network.Addresses = [IPAddress.Loopback, IPAddress.IPv6Loopback];
        ProcessPools.ReportAddressChange();

        await _pool.StatsAsync(stats => stats.Origins[0].Draining == 3);
        gate.SetResult();
        await Task.WhenAll([.. running, fifth]);
        await _pool.StatsAsync(stats => stats is { Connections: 2, Idle: 2, LostConnections: 3 });
        await _server.OpenAsync(2);

        _network.Addresses = [IPAddress.IPv6Loopback];
        ProcessPools.ReportAddressChange();
        await _server.OpenAsync(0);
        Assert.Equal(5, Stats.LostConnections);
    }

    /// <summary>So many connections, all idle.</summary>
    async Task FillAsync(int connections)
    {
        var gate = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _server.Gate = gate.Task;
        var before = _server.Connections.Sum(connection => connection.Requests);
        var calls = Enumerable.Range(0, connections).Select(_ => CallAsync()).ToArray();
        await Eventually.TrueAsync(() => _server.Connections.Sum(connection => connection.Requests) == before + connections);
        gate.SetResult();
        await Task.WhenAll(calls);
        await _pool.StatsAsync(stats => stats.Idle == connections);
    }

    Task CallAsync() => CallAsync(_client);

    static async Task CallAsync(HttpClient client)
    {
        using var response = await client.SendAsync(Calls.Chat(), Rig.Ct);
        Assert.Equal("ok", await response.Content.ReadAsStringAsync(Rig.Ct));
    }

    /// <summary>Whether the server's end of every connection that it ended has come to this side: the client's sockets are in CLOSE_WAIT.</summary>
    static bool ArrivedAt(ConnectionPool pool, int port) => pool.GetStats().Active == 0 && (Sockets.IsInCloseWait(port) || !OperatingSystem.IsLinux());
}
