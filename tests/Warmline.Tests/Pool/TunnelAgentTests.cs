using System.Net;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Warmline.MockLlm;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>CONNECT says who asks: some proxies refuse a tunnel to a client that does not.</summary>
public sealed class TunnelAgentTests
{
    const string Agent = "OpenAI/2.14.0 (.NET 10)";

    static string Default => $"Warmline/{typeof(ConnectionPool).Assembly.GetName().Version!.ToString(3)}";

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public async Task A_proxy_that_wants_a_user_agent_gives_the_tunnel_as_to_the_bare_handler(bool isPool, bool http2)
    {
        await using var mock = await MockAsync(http2);
        await using var proxy = Filtering(mock);
        await using var pool = Pool(mock, proxy);
        using var bare = new SocketsHttpHandler { Proxy = new WebProxy(proxy.Address), SslOptions = mock.CreateClientSslOptions() };
        using var client = isPool ? pool.CreateClient(mock.BaseAddress) : new HttpClient(bare) { BaseAddress = mock.BaseAddress };
        client.DefaultRequestHeaders.UserAgent.ParseAdd(Agent);

        using var response = await client.SendAsync(Calls.Chat(), Rig.Ct);

        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        var authority = $"localhost:{mock.BaseAddress.Port}";
        Assert.Equal($"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {Agent}\r\n\r\n", Assert.Single(proxy.Heads));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Dials_for_no_call_carry_the_last_callers()
    {
        await using var mock = await MockAsync();
        await using var proxy = Filtering(mock);
        await using var pool = Pool(mock, proxy);
        using var client = pool.CreateClient(mock.BaseAddress);
        Assert.Equal(1, await pool.WarmUpAsync(mock.BaseAddress, 1, Rig.Ct));
        Assert.Equal(Default, AgentOf(proxy.Heads[0]));

        await CallAsync(client, Agent);   // rides what is there
        Assert.Equal(2, await pool.WarmUpAsync(mock.BaseAddress, 2, Rig.Ct));
        Assert.Equal(Agent, AgentOf(proxy.Heads[1]));

        await CallAsync(client, "my-app/2.0");
        pool.Reconnect();
        await CallAsync(client, null);   // which says nothing of itself
        Assert.Equal("my-app/2.0", AgentOf(proxy.Heads[2]));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Warm_connections_and_their_replacements_are_let_through()
    {
        await using var mock = await MockAsync();
        await using var proxy = Filtering(mock);
        await using var pool = Pool(mock, proxy, options => options.Hosts[mock.BaseAddress.ToString()] = new() { WarmConnections = 2 });
        await pool.StatsAsync(static stats => stats.Idle == 2);
        using var client = pool.CreateClient(mock.BaseAddress);
        await CallAsync(client, Agent);

        pool.Reconnect();
        await pool.StatsAsync(static stats => stats is { Idle: 2, NewConnections: 4 });

        Assert.Equal([Default, Default, Agent, Agent], proxy.Heads.Select(AgentOf));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(TenantIsolation.Connections)]
    [InlineData(TenantIsolation.Leases)]
    public async Task A_tenant_with_connections_of_its_own_has_its_own(TenantIsolation isolation)
    {
        await using var mock = await MockAsync();
        await using var proxy = Filtering(mock);
        await using var pool = Pool(mock, proxy, options => options.Tenants.Isolation = isolation);
        using var acme = pool.CreateClient(mock.BaseAddress, new() { Tenant = "acme" });
        using var other = pool.CreateClient(mock.BaseAddress, new() { Tenant = "other" });

        await CallAsync(acme, "acme/1");
        await CallAsync(other, null);
        pool.Reconnect();
        await CallAsync(acme, null);
        await CallAsync(other, "other/1");
        await pool.WarmUpAsync(mock.BaseAddress, 2, Rig.Ct);

        var agents = proxy.Heads.Select(AgentOf).ToArray();
        Assert.Equal(isolation is TenantIsolation.Connections
            ? ["acme/1", Default, "acme/1", "other/1", Default, Default]
            : ["acme/1", "acme/1", "other/1"], agents);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("a/1 b/2 (c; d)", "a/1 b/2 (c; d)")]
    [InlineData("odd, with a comma", "odd, with a comma")]
    [InlineData("", null)]
    [InlineData(null, null)]
    public async Task Whatever_it_says_goes_out_as_it_is(string? agent, string? expected)
    {
        await using var mock = await MockAsync();
        await using var proxy = Filtering(mock);
        await using var pool = Pool(mock, proxy);
        using var client = pool.CreateClient(mock.BaseAddress);

        await CallAsync(client, agent);

        Assert.Equal(expected ?? Default, AgentOf(Assert.Single(proxy.Heads)));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task What_cannot_be_sent_is_left_out_of_the_tunnel()
    {
        await using var mock = await MockAsync();
        await using var proxy = Filtering(mock);
        await using var pool = Pool(mock, proxy);
        using var client = pool.CreateClient(mock.BaseAddress);

        await Record.ExceptionAsync(() => CallAsync(client, "Café/1"));   // the platform refuses the request itself
        await CallAsync(client, null);

        Assert.All(proxy.Heads, static head => Assert.Equal(Default, AgentOf(head)));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Values_that_were_added_one_by_one_are_joined_as_in_a_request()
    {
        await using var mock = await MockAsync();
        await using var proxy = Filtering(mock);
        await using var pool = Pool(mock, proxy);
        using var client = pool.CreateClient(mock.BaseAddress);
        client.DefaultRequestHeaders.UserAgent.Add(new("a", "1"));
        client.DefaultRequestHeaders.UserAgent.Add(new("(b)"));

        for (var i = 0; i < 2; i++)
        {
            using var response = await client.SendAsync(Calls.Chat(), Rig.Ct);
            pool.Reconnect();
        }

        Assert.Equal(["a/1 (b)", "a/1 (b)"], proxy.Heads.Select(AgentOf));
    }

    static async Task CallAsync(HttpClient client, string? agent)
    {
        using var request = Calls.Chat();
        if (agent is not null)
        {
            request.Headers.TryAddWithoutValidation("User-Agent", agent);
        }

        using var response = await client.SendAsync(request, Rig.Ct);
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
    }

    static string? AgentOf(string head) => ScriptedProxy.Header(head, "User-Agent");

    static Task<MockLlmServer> MockAsync(bool http2 = true) => MockLlmServer.StartAsync(
        new() { Protocols = http2 ? HttpProtocols.Http1AndHttp2 : HttpProtocols.Http1 },
        cancellationToken: Rig.Ct);

    static ScriptedProxy Filtering(MockLlmServer mock) => new(
        static head => AgentOf(head) is null ? ScriptedProxy.Forbidden : ScriptedProxy.Open, mock.BaseAddress.Port);

    static ConnectionPool Pool(MockLlmServer mock, ScriptedProxy proxy, Action<ConnectionPoolOptions>? configure = null) =>
        new(Rig.Options(mock, options =>
        {
            options.Proxy = new WebProxy(proxy.Address);
            configure?.Invoke(options);
        }));
}
