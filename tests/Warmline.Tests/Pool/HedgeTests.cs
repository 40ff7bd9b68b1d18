using System.Collections.Concurrent;
using System.Net;
using Warmline.MockLlm;
using Warmline.Options;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;
using HttpProtocols = Microsoft.AspNetCore.Server.Kestrel.Core.HttpProtocols;

namespace Warmline.Tests.Pool;

/// <summary>Addresses and connections that take a TCP connection and lead nowhere: others are tried beside them, and no call is lost that another could serve.</summary>
public sealed class HedgeTests
{
    static readonly IPAddress Bad = IPAddress.IPv6Loopback;
    static readonly IPAddress AlsoBad = IPAddress.Parse("2001:db8::2");
    static readonly IPAddress Good = IPAddress.Loopback;

    readonly SystemNetwork _sockets = new(new TcpKeepAliveOptions());
    readonly ConcurrentQueue<IPAddress> _dialed = [];

    [Theory(Timeout = Rig.Patience)]
    [InlineData(MockConnectionAct.Silent, true)]
    [InlineData(MockConnectionAct.Silent, false)]
    [InlineData(MockConnectionAct.Reset, true)]
    [InlineData(MockConnectionAct.Close, true)]
    [InlineData(MockConnectionAct.Close, false)]
    [InlineData(MockConnectionAct.GarbageForTls, true)]
    public async Task An_address_that_leads_nowhere_costs_no_call(MockConnectionAct act, bool http2)
    {
        await using var bad = await BadAsync(act);
        await using var rig = await StartAsync(bad, http2, [Bad, Good]);

        for (var call = 0; call < 5; call++)
        {
            await rig.CallAsync();
        }

        Assert.Equal(Bad, _dialed.First());
        Assert.Equal(1, _dialed.Count(address => address.Equals(Bad)));
        Assert.InRange(rig.Counters.ConnectionsAccepted, 1, 2);   // on a busy machine its own handshake may be hedged as well
        await rig.MockAsync(_ => bad.GetCounters().ConnectionsOpen == 0);   // given up, and not left to its timeout
        Assert.InRange(rig.Stats.FailedDials, 0, 1);   // a reset may come before TCP is through: then the same dial goes on to the next address
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(MockConnectionAct.Silent, true)]
    [InlineData(MockConnectionAct.Silent, false)]
    [InlineData(MockConnectionAct.Reset, true)]
    [InlineData(MockConnectionAct.Reset, false)]
    public async Task Nor_a_burst(MockConnectionAct act, bool http2)
    {
        await using var bad = await BadAsync(act);
        await using var rig = await StartAsync(bad, http2, [Bad, AlsoBad, Good]);

        await rig.DoneAsync([.. Enumerable.Range(0, 20).Select(_ => rig.CallAsync())]);

        await rig.MockAsync(_ => bad.GetCounters().ConnectionsOpen == 0);
        await rig.StatsAsync(stats => stats.Origins[0].Connections == stats.Origins[0].Idle);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Nor_a_warm_up(bool http2)
    {
        await using var bad = await BadAsync(MockConnectionAct.Silent);
        await using var rig = await StartAsync(bad, http2, [Bad, Good]);

        Assert.Equal(3, await rig.Pool.WarmUpAsync(rig.Client.BaseAddress!, 3, Rig.Ct));

        await rig.MockAsync(_ => bad.GetCounters().ConnectionsOpen == 0);
        await rig.StatsAsync(stats => stats.Connections == 3);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task With_a_single_connection_allowed_the_silent_one_gives_way(bool http2)
    {
        await using var bad = await BadAsync(MockConnectionAct.Silent);
        await using var rig = await StartAsync(bad, http2, [Bad, Good], options => options.MaxConnections = 1);

        await rig.CallAsync();

        Assert.Equal([Bad, Good], _dialed);
        await rig.MockAsync(_ => bad.GetCounters().ConnectionsOpen == 0);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Without_settings_one_call_is_lost_at_most()
    {
        await using var bad = await BadAsync(MockConnectionAct.SilentAfterTls);
        await using var rig = await StartAsync(bad, http2: true, [Bad, Good], options => options.Timeouts.Connect = TimeSpan.FromSeconds(2));

        var tied = Assert.ThrowsAsync<PoolConnectException>(() => rig.CallAsync());   // it went out with the connection's first bytes
        await rig.MockAsync(_ => bad.GetCounters().TlsHandshakes == 1);
        for (var call = 0; call < 5; call++)
        {
            await rig.CallAsync();
        }

        Assert.Equal(RequestVerdict.Unknown, (await tied).Verdict);
        Assert.Equal(1, _dialed.Count(address => address.Equals(Bad)));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, MockConnectionAct.Silent)]
    [InlineData(false, MockConnectionAct.Silent)]
    public async Task Where_every_second_connection_stands_still_all_calls_are_served(bool http2, MockConnectionAct act)
    {
        await using var rig = await Rig.StartAsync(http2, mock: new() { OnConnection = connection => connection.Id % 2 == 0 ? new() { Act = act } : null });
        await rig.DoneAsync([.. Enumerable.Range(0, 4).Select(_ => rig.CallAsync())]);
        await rig.DoneAsync([.. Enumerable.Range(0, 2).Select(_ => rig.CallAsync())]);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task No_call_is_tied_to_a_connection_without_settings_while_another_is_open()
    {
        await using var rig = await Rig.StartAsync(true, mock: new()
        {
            MaxStreamsPerConnection = 1, OnConnection = connection => connection.Id > 1 ? new() { Act = MockConnectionAct.SilentAfterTls } : null,
        });
        await rig.CallAsync();

        await rig.DoneAsync([.. Enumerable.Range(0, 4).Select(_ => rig.CallAsync())]);

        Assert.Equal(5, rig.Counters.Requests);
    }

    async Task<MockLlmServer> BadAsync(MockConnectionAct act) => await MockLlmServer.StartAsync(new() { HostNames = { "api.example.test" }, OnConnection = _ => new() { Act = act } }, cancellationToken: Rig.Ct);

    async Task<Rig> StartAsync(MockLlmServer bad, bool http2, IPAddress[] addresses, Action<ConnectionPoolOptions>? configure = null)
    {
        var network = new FakeNetwork { Resolve = (_, _) => new(addresses) };
        network.Connect = (endPoint, ct) =>
        {
            _dialed.Enqueue(endPoint.Address);
            return _sockets.ConnectAsync(new IPEndPoint(IPAddress.Loopback, endPoint.Address.Equals(Good) ? endPoint.Port : bad.BaseAddress.Port), ct);
        };
        return await Rig.StartAsync(
            options =>
            {
                options.SslOptions!.CertificateChainPolicy!.CustomTrustStore.Add(bad.CertificateAuthority);
                configure?.Invoke(options);
            },
            new() { Protocols = http2 ? HttpProtocols.Http1AndHttp2 : HttpProtocols.Http1, HostNames = { "api.example.test" } }, network: network, host: "api.example.test");
    }
}
