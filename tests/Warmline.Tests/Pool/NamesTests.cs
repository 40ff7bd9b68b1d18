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
