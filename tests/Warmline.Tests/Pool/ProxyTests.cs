using System.Net;
using Warmline.MockLlm;
using Warmline.Options;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>The pool through a real proxy.</summary>
public sealed class ProxyTests
{
    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Calls_over_tls_go_through_the_proxy(bool http2)
    {
        await using var proxy = await Tinyproxy.StartAsync();
        await using var rig = await Rig.StartAsync(http2, Through(proxy.Address));

        using var response = await rig.SendAsync(Calls.Chat());
        await response.Content.ReadAsStringAsync(Rig.Ct);

        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        Assert.Equal(http2 ? HttpVersion.Version20 : HttpVersion.Version11, response.Version);
        Assert.True(response.TryGetPoolTimings(out var timings));
        Assert.True(timings is { Reused: false, Proxy.Ticks: > 0, Tls.Ticks: > 0 }, $"{timings}");
        await rig.CallAsync();
        Assert.Contains($"CONNECT localhost:{rig.Mock.BaseAddress.Port} HTTP/1.1", Assert.Single(proxy.Requests));
        Assert.Equal((1L, 1L), (rig.Stats.NewConnections, rig.Counters.ConnectionsAccepted));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Plain_http_is_forwarded()
    {
        await using var proxy = await Tinyproxy.StartAsync(onlyPort: 443);   // as most allow CONNECT: to https alone
        await using var rig = await Rig.StartAsync(Through(proxy.Address), new MockLlmOptions { UseTls = false, Protocols = Microsoft.AspNetCore.Server.Kestrel.Core.HttpProtocols.Http1 });

        await rig.CallAsync();
        await rig.CallAsync();

        Assert.All(proxy.Requests, request =>
            Assert.Contains($"POST http://localhost:{rig.Mock.BaseAddress.Port}/v1/chat/completions HTTP/1.1", request));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_streamed_answer_comes_through_it()
    {
        await using var proxy = await Tinyproxy.StartAsync();
        await using var rig = await Rig.StartAsync(Through(proxy.Address));

        var text = await rig.CallAsync(Calls.Stream(tokens: 50));

        Assert.True(text.Split("data: ").Length > 50, text);
        Assert.EndsWith("data: [DONE]", text.Trim());
        Assert.Single(proxy.Requests);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_burst_spreads_over_tunnels_as_it_does_without_a_proxy()
    {
        await using var proxy = await Tinyproxy.StartAsync();
        await using var rig = await Rig.StartAsync(Through(proxy.Address), new MockLlmOptions { ServiceTime = TimeSpan.FromMilliseconds(50) });

        Assert.Equal(8, await rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 8, Rig.Ct));
        Assert.Equal(8, proxy.Requests.Count);
        await rig.DoneAsync([.. Enumerable.Range(0, 100).Select(_ => rig.CallAsync())]);

        Assert.Equal((100L, 8L, 1.0), (rig.Counters.RequestsCompleted, rig.Stats.NewConnections, rig.Stats.ReuseRate));
        Assert.Equal(8, proxy.Requests.Count);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task The_right_login_opens_the_proxy(bool inTheAddress)
    {
        await using var proxy = await Tinyproxy.StartAsync(login: true);
        await using var rig = await Rig.StartAsync(options => options.Proxy = inTheAddress ? new WebProxy(proxy.AddressWithLogin)
            : new WebProxy(proxy.Address) { Credentials = new NetworkCredential(Tinyproxy.User, Tinyproxy.Password) });

        await rig.CallAsync();

        Assert.Single(proxy.Requests);
        Assert.All(rig.Logs.Entries, entry => Assert.DoesNotContain(Tinyproxy.Password, entry.Message));
        Assert.DoesNotContain(Tinyproxy.Password, Rig.Describe(rig.Stats));
        Assert.DoesNotContain(Tinyproxy.User + ":", Rig.Describe(rig.Stats));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(null, HttpStatusCode.ProxyAuthenticationRequired, "give a user name and password in the proxy's address")]
    [InlineData("wr0ng-pass", HttpStatusCode.Unauthorized, "does not accept the user name and password")]   // tinyproxy's way to say it
    public async Task A_wrong_or_missing_login_is_told(string? password, HttpStatusCode status, string cause)
    {
        await using var proxy = await Tinyproxy.StartAsync(login: true);
        await using var rig = await Rig.StartAsync(options => options.Proxy = new WebProxy(proxy.Address) { Credentials = password is null ? null : new NetworkCredential("joe", password) });

        var error = await Assert.ThrowsAsync<PoolConnectException>(() => rig.CallAsync());

        Assert.Equal((DialPhase.Proxy, HttpRequestError.ProxyTunnelError, status, RequestVerdict.NotSent), (error.Phase, error.HttpRequestError, error.StatusCode, error.Verdict));
        Assert.Contains(cause, error.Message);
        Assert.Contains($"http://127.0.0.1:{proxy.Port} ", error.Message);
        Assert.DoesNotContain("wr0ng-pass", error + string.Join('\n', rig.Logs.Entries));
        await Assert.ThrowsAsync<PoolConnectException>(() => rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 1, Rig.Ct));
        Assert.Equal(0, rig.Counters.ConnectionsAccepted);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_target_that_the_proxy_does_not_allow_is_told()
    {
        await using var proxy = await Tinyproxy.StartAsync(onlyPort: 443);
        await using var rig = await Rig.StartAsync(Through(proxy.Address));

        var error = await Assert.ThrowsAsync<PoolConnectException>(() => rig.CallAsync());

        Assert.Equal((DialPhase.Proxy, HttpStatusCode.Forbidden), (error.Phase, error.StatusCode));
        Assert.Contains($"its rules do not allow localhost or port {rig.Mock.BaseAddress.Port}", error.Message);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_target_that_the_proxy_cannot_reach_is_told()
    {
        await using var proxy = await Tinyproxy.StartAsync();
        await using var pool = new ConnectionPool(new ConnectionPoolOptions { Proxy = new WebProxy(proxy.Address) });
        using var client = pool.CreateClient();

        var error = await Assert.ThrowsAsync<PoolConnectException>(() => client.GetAsync(new Uri("https://no-such-host.invalid/"), Rig.Ct));

        Assert.Equal((DialPhase.Proxy, HttpRequestError.ProxyTunnelError), (error.Phase, error.HttpRequestError));
        Assert.True((int?)error.StatusCode >= 500, error.Message);
        Assert.Contains("no-such-host.invalid:443", error.Message);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_proxy_whose_own_certificate_is_refused_is_a_tls_error_of_the_proxy()
    {
        await using var proxy = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);   // no proxy, but it never gets so far
        await using var pool = new ConnectionPool(new ConnectionPoolOptions { Proxy = new WebProxy(proxy.BaseAddress) });
        using var client = pool.CreateClient();

        var error = await Assert.ThrowsAsync<PoolConnectException>(() => client.GetAsync(new Uri("https://api.test/"), Rig.Ct));

        Assert.Equal((DialPhase.Proxy, HttpRequestError.SecureConnectionError, RequestVerdict.NotSent), (error.Phase, error.HttpRequestError, error.Verdict));
        Assert.StartsWith($"The TLS handshake with the proxy {proxy.BaseAddress.ToString().TrimEnd('/')} ", error.Message);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Bypassed_hosts_are_called_directly_on_connections_of_their_own()
    {
        await using var proxy = await Tinyproxy.StartAsync();
        var web = new WebProxy(proxy.Address, BypassOnLocal: false, ["localhost"]);
        await using var rig = await Rig.StartAsync(options => options.Proxy = web);
        await rig.CallAsync();
        Assert.Empty(proxy.Requests);

        // The same client: what the proxy object says holds from the next call on, and each way keeps its connection.
        web.BypassList = [];
        await rig.CallAsync();
        Assert.Contains($"CONNECT localhost:{rig.Mock.BaseAddress.Port} ", Assert.Single(proxy.Requests));
        web.BypassList = ["localhost"];
        await rig.CallAsync();
        web.BypassList = [];
        await rig.CallAsync();
        Assert.Single(proxy.Requests);
        Assert.Equal((2L, 4L), (rig.Stats.NewConnections, rig.Counters.RequestsCompleted));
        Assert.Equal(["", $"through http://127.0.0.1:{proxy.Port}"], rig.Stats.Origins.Select(origin => origin.Partition).Order());
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_switched_off_proxy_is_not_asked()
    {
        await using var rig = await Rig.StartAsync(options => options.UseProxy = false);

        await rig.CallAsync();
        Assert.Equal(1, await rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 1, Rig.Ct));

        Assert.Null(PoolSettings.Freeze(new ConnectionPoolOptions { UseProxy = false }, [])!.Proxy);
        Assert.Same(HttpClient.DefaultProxy, PoolSettings.Freeze(new ConnectionPoolOptions(), [])!.Proxy);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Warm_connections_pauses_and_reconnects_of_an_origin_reach_those_through_the_proxy()
    {
        await using var proxy = await Tinyproxy.StartAsync();
        await using var mock = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        await using var pool = new ConnectionPool(Rig.Options(mock, options =>
        {
            options.Proxy = new WebProxy(proxy.Address);
            options.Hosts[mock.BaseAddress.ToString()] = new() { WarmConnections = 2 };
        }));
        await Eventually.TrueAsync(() => pool.GetStats().Idle == 2);
        Assert.Equal(2, proxy.Requests.Count);

        pool.Pause(mock.BaseAddress);
        using var client = pool.CreateClient(mock.BaseAddress);
        var waiting = client.SendAsync(Calls.Chat(), Rig.Ct);
        await Eventually.TrueAsync(() => pool.GetStats().Queued == 1);
        pool.Resume(mock.BaseAddress);
        (await waiting).Dispose();
        Assert.Equal(1.0, pool.GetStats().ReuseRate);

        pool.Reconnect(mock.BaseAddress);
        await Eventually.TrueAsync(() => pool.GetStats() is { Idle: 2, NewConnections: 4 });
        Assert.Equal(4, proxy.Requests.Count);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_proxy_that_dies_fails_the_stream_the_next_call_tells_and_the_one_after_its_return_works(bool http2)
    {
        await using var proxy = await Tinyproxy.StartAsync();
        await using var rig = await Rig.StartAsync(http2, Through(proxy.Address));
        using var response = await rig.SendAsync(Calls.Stream());
        await using var body = await response.Content.ReadAsStreamAsync(Rig.Ct);
        Assert.True(await body.ReadAsync(new byte[10], Rig.Ct) > 0);

        await proxy.KillAsync();

        await Assert.ThrowsAnyAsync<IOException>(() => body.CopyToAsync(Stream.Null, Rig.Ct));   // as a read of a body tells any lost connection
        var refused = await Assert.ThrowsAsync<PoolConnectException>(() => rig.CallAsync());
        Assert.Equal((DialPhase.Tcp, HttpRequestError.ConnectionError), (refused.Phase, refused.HttpRequestError));
        Assert.Contains($"The TCP connection to the proxy http://127.0.0.1:{proxy.Port} ", refused.Message);

        await proxy.RestartAsync();
        await rig.CallAsync();   // the pool's pause after a failed dial is a part of the wait
    }

    [Fact]
    public void Options_that_contradict_or_name_another_kind_of_proxy_are_reported()
    {
        var error = Assert.Throws<ArgumentException>(() => new ConnectionPool(new ConnectionPoolOptions { UseProxy = false, Proxy = new WebProxy("socks5://joe:s3cret@proxy.test:1080") }));

        Assert.Contains("Proxy is set: must be left unset while UseProxy is false.", error.Message);
        Assert.Contains("Proxy.Address is socks5://proxy.test:1080: must be an http or https address: other kinds of proxy are not supported.", error.Message);
    }

    [Fact]
    public void A_proxy_is_for_a_pools_life()
    {
        var web = new WebProxy("http://proxy.test:3128");
        using var pool = new ConnectionPool(new ConnectionPoolOptions { Proxy = web });

        Assert.False(pool.TryUpdate(new ConnectionPoolOptions { Proxy = new WebProxy("http://proxy.test:3128") }));
        Assert.False(pool.TryUpdate(new ConnectionPoolOptions { UseProxy = false }));
        Assert.False(pool.TryUpdate(new ConnectionPoolOptions()));
        Assert.True(pool.TryUpdate(new ConnectionPoolOptions { Proxy = web, MaxConnections = 5 }));
    }

    [Fact]
    public void A_proxy_that_names_the_target_itself_means_none()
    {
        var target = new Uri("https://api.test");
        Assert.Null(PoolSettings.ProxyOf(target, new Scripted(uri => uri)));
        Assert.Null(PoolSettings.ProxyOf(target, new Scripted(_ => null)));
        Assert.Null(PoolSettings.ProxyOf(target, null));
        Assert.NotNull(PoolSettings.ProxyOf(target, new Scripted(_ => new Uri("http://proxy.test"))));
    }

    static Action<ConnectionPoolOptions> Through(Uri proxy) => options => options.Proxy = new WebProxy(proxy);

    sealed class Scripted(Func<Uri, Uri?> get) : IWebProxy
    {
        public ICredentials? Credentials { get; set; }

        public Uri? GetProxy(Uri destination) => get(destination);

        public bool IsBypassed(Uri host) => false;
    }
}
