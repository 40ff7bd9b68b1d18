using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Warmline.MockLlm;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>What the pool does about names whose addresses change. Every address leads to the mock.</summary>
public sealed class NamesTests
{
    static readonly IPAddress Old = IPAddress.Parse("192.0.2.1");
    static readonly IPAddress New = IPAddress.Parse("192.0.2.2");

    readonly ManualTime _time = new();
    readonly SystemNetwork _sockets = new(new TcpKeepAliveOptions());
    readonly List<IPAddress> _dialed = [];
    readonly FakeNetwork _network = new() { Resolve = (_, _) => new([Old]) };

    public NamesTests() => _network.Connect = (endPoint, ct) =>
    {
        _dialed.Add(endPoint.Address);
        return _sockets.ConnectAsync(new IPEndPoint(IPAddress.Loopback, endPoint.Port), ct);
    };

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Connections_to_an_address_that_vanished_take_no_more_calls_and_close_when_theirs_have_ended(bool http2)
    {
        await using var rig = await StartAsync(http2);
        var gate = new Gate();
        var running = await rig.HoldAsync(1, gate);
        await rig.StatsAsync(stats => !http2 || stats.Origins[0].StreamLimit is not null);   // or the minutes would end the wait for SETTINGS
        _network.Resolve = (_, _) => new([New]);

        await RefreshAsync();
        Assert.Equal(0, rig.Stats.Origins[0].Draining);   // it may come back: some servers tell a few of their addresses each time
        await RefreshAsync();

        await rig.StatsAsync(stats => stats.Origins[0].Draining == 1);
        await rig.CallAsync();
        Assert.Equal([Old, New], _dialed);
        Assert.Equal(2, rig.Counters.ConnectionsOpen);
        gate.Open();
        await rig.DoneAsync(running);
        await rig.MockAsync(counters => counters is { ConnectionsOpen: 1, AbortedRequests: 0 });
        Assert.Equal(MockConnectionEnd.ClientFin, rig.Counters.Connections[0].End);
    }

    /// <summary>Resolvers ask again after 5 s, and once more after 10: one packet that is lost makes a lookup that slow.</summary>
    [Theory(Timeout = Rig.Patience)]
    [InlineData(5.1, 1, true)]
    [InlineData(5.1, 20, true)]
    [InlineData(5.1, 20, false)]
    [InlineData(10.1, 1, true)]
    [InlineData(14.9, 20, true)]
    [InlineData(10.1, 20, false)]
    public async Task A_lookup_that_is_late_costs_no_call(double seconds, int calls, bool cached)
    {
        var lookup = new TaskCompletionSource<IPAddress[]>(TaskCreationOptions.RunContinuationsAsynchronously);
        _network.Resolve = (_, _) => new(lookup.Task);
        await using var rig = await Rig.StartAsync(options => options.Dns.CacheEnabled = cached, time: _time, network: _network, host: "api.example.test",
            mock: new() { HostNames = { "api.example.test" } });
        var warmUp = rig.Pool.WarmUpAsync(rig.Client.BaseAddress!, 1, Rig.Ct);
        var running = Enumerable.Range(0, calls).Select(_ => rig.CallAsync()).ToArray();
        await rig.StatsAsync(stats => stats.Queued == calls);
        _time.Advance(TimeSpan.FromSeconds(seconds));

        lookup.SetResult([Old]);

        await rig.DoneAsync([.. running, warmUp]);
        Assert.Equal(0, rig.Stats.FailedDials);
        await rig.CallAsync();
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_lookup_that_comes_after_everybody_has_left_serves_the_next_call_even_if_nothing_is_kept()
    {
        var lookup = new TaskCompletionSource<IPAddress[]>(TaskCreationOptions.RunContinuationsAsynchronously);
        _network.Resolve = (_, _) => new(lookup.Task);
        await using var rig = await Rig.StartAsync(options => options.Dns.CacheEnabled = false, time: _time, network: _network, host: "api.example.test",
            mock: new() { HostNames = { "api.example.test" } });
        var gone = Assert.ThrowsAsync<PoolTimeoutException>(() => rig.CallAsync());
        await rig.StatsAsync(stats => stats.Queued == 1);
        _time.Advance(TimeSpan.FromSeconds(16));
        await gone;
        var next = rig.CallAsync();
        await rig.StatsAsync(stats => stats.Queued == 1);

        lookup.SetResult([Old]);

        await rig.DoneAsync(next);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_refresh_that_fails_or_says_nothing_or_the_same_closes_nothing_and_the_next_one_comes()
    {
        await using var rig = await StartAsync(true);
        await rig.CallAsync();
        foreach (var answer in new Func<ValueTask<IPAddress[]>>[] { () => ValueTask.FromException<IPAddress[]>(new SocketException((int)SocketError.TryAgain)), () => new([]), () => new([New, Old]) })
        {
            _network.Resolve = (_, _) => answer();
            await RefreshAsync();
            await rig.CallAsync();
        }

        Assert.Equal([Old], _dialed);
        _network.Resolve = (_, _) => new([New]);
        await RefreshAsync();
        await RefreshAsync();
        await rig.MockAsync(counters => counters.ConnectionsOpen == 0);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_server_that_tells_another_of_its_addresses_each_time_keeps_its_connections()
    {
        await using var rig = await StartAsync(true);
        await rig.CallAsync();
        for (var i = 0; i < 6; i++)
        {
            _network.Resolve = i % 2 == 0 ? (_, _) => new([New]) : (_, _) => new([Old]);
            await RefreshAsync();
        }

        await rig.CallAsync();
        Assert.Equal([Old], _dialed);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Without_the_cache_nothing_is_looked_up_again()
    {
        await using var rig = await StartAsync(true, cache: false);
        await rig.CallAsync();
        _network.Resolve = (_, _) => new([New]);
        _time.Advance(TimeSpan.FromSeconds(3000));
        await rig.CallAsync();
        Assert.Equal([Old], _dialed);
        Assert.Single(_network.Resolved);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Names_that_nobody_uses_are_not_looked_up_again()
    {
        await using var rig = await StartAsync(true);
        await rig.CallAsync();
        rig.Pool.Reconnect();
        await rig.StatsAsync(stats => stats.Connections == 0);
        _time.Advance(TimeSpan.FromSeconds(3000));
        Assert.Single(_network.Resolved);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Reconnecting_asks_for_the_name_again()
    {
        await using var rig = await StartAsync(true);
        await rig.CallAsync();
        _network.Resolve = (_, _) => new([New]);
        rig.Pool.Reconnect(rig.Client.BaseAddress);
        await rig.CallAsync();
        Assert.Equal([Old, New], _dialed);
    }

    /// <summary>Until the names in use were looked up once more and the answer was taken in: the next look is set only then.</summary>
    async Task RefreshAsync()
    {
        var asked = _network.Resolved.Count;
        await Eventually.TrueAsync(() =>
        {
            if (_network.Resolved.Count == asked)
            {
                _time.Advance(TimeSpan.FromSeconds(300));
            }

            return _network.Resolved.Count > asked;
        });
    }

    Task<Rig> StartAsync(bool http2, bool cache = true) => Rig.StartAsync(
        options =>
        {
            options.Dns.CacheEnabled = cache;
            (options.IdleTimeout, options.ConnectionLifetime) = (Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
            (options.Timeouts.FirstByte, options.Timeouts.Write, options.Timeouts.Read) = (Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        },
        new() { HostNames = { "api.example" }, Protocols = http2 ? HttpProtocols.Http1AndHttp2 : HttpProtocols.Http1 }, _time, _network, "api.example");
}
