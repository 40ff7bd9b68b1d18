using System.Net;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Warmline.Options;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>Plain http through a proxy: the request goes to the proxy in absolute form (RFC 9112, section 3.2.2), as the bare handler sends
/// it. What the proxy says to it is the answer.</summary>
public sealed class ForwardTests : IDisposable
{
    const string Corp = "http://llm.test:8000/v1?x=1";

    readonly TestAuthority _authority = new();

    public static TheoryData<string> Shapes =>
    [
        "post", "get", "query", "default port", "address of IPv6", "international name", "1.0", "2.0 or lower", "2.0 exact",
        "2.0 or higher",
        "3.0 or lower", "options", "head", "own host", "user agent", "chunked", "empty post", "own login", "user in the address", "upgrade",
        "web socket", "fragment",
    ];

    public static TheoryData<string, string> Answers => new()
    {
        { "403", ScriptedProxy.Forbidden },
        { "405", "HTTP/1.1 405 No\r\nContent-Length: 2\r\n\r\nno" },
        { "407 without a scheme", "HTTP/1.1 407 Login\r\nContent-Length: 0\r\n\r\n" },
        { "407 Basic", "HTTP/1.1 407 Login\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n" },
        { "407 Negotiate", "HTTP/1.1 407 Login\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n" },
        { "502", "HTTP/1.1 502 Bad\r\nContent-Length: 3\r\n\r\nbad" },
        { "504 and close", "HTTP/1.1 504 Late\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" },
        { "early hints", "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" },
        { "no answer", "" },
        { "no HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n" },
    };

    public void Dispose() => _authority.Dispose();

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Shapes))]
    public async Task A_request_goes_out_as_the_bare_handler_sends_it(string shape)
    {
        var pool = await PlayAsync(isPool: true, shape);
        var bare = await PlayAsync(isPool: false, shape);

        // A tunnel's User-Agent is the one difference: the bare handler sends none of its own.
        Assert.Equal(bare, pool.Replace($"User-Agent: Warmline/{Version}\r\n", "", StringComparison.Ordinal));
    }

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Answers))]
    public async Task What_the_proxy_says_is_the_answer(string name, string answer)
    {
        Assert.NotEmpty(name);
        var outcomes = new List<string>();
        foreach (var isPool in new[] { true, false })
        {
            await using var proxy = new ScriptedProxy(_ => answer);
            using var client = Client(isPool, proxy, out var pool);
            await using var _ = pool;
            outcomes.Add(await TellAsync(client, Request("post")) + $" {proxy.Heads.Count}");
        }

        Assert.Equal(outcomes[1], outcomes[0]);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Calls_share_connections_to_the_proxy_and_are_judged_as_others()
    {
        var left = 3;
        await using var proxy = new ScriptedProxy(_ => Interlocked.Decrement(ref left) >= 0 ? ScriptedProxy.Forwarded : "");
        using var client = Client(isPool: true, proxy, out var pool);
        await using var _ = pool;

        for (var i = 0; i < 3; i++)
        {
            Assert.Equal("200 1.1 forwarded", await TellAsync(client, Request("post")));
        }

        Assert.Equal((1, 1L), (proxy.Accepted, pool.GetStats().NewConnections));
        var error = await Assert.ThrowsAsync<PoolRequestException>(() => client.SendAsync(Request("post"), Rig.Ct));
        Assert.Equal((RequestVerdict.Unknown, HttpRequestError.ResponseEnded), (error.Verdict, error.HttpRequestError));
        await pool.QuietAsync();
        Assert.Equal(4, proxy.Heads.Count);
        Assert.DoesNotContain(proxy.Heads, static head => head.StartsWith("CONNECT", StringComparison.Ordinal));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_connection_that_was_opened_ahead_carries_the_call()
    {
        await using var proxy = new ScriptedProxy(static _ => ScriptedProxy.Forwarded);
        await using var pool = new ConnectionPool(new()
        {
            Proxy = new WebProxy(proxy.Address),
            Hosts = { ["http://llm.test:8000"] = new() { WarmConnections = 2 } },
        });
        await pool.StatsAsync(static stats => stats.Idle == 2);
        using var client = pool.CreateClient();

        Assert.Equal("200 1.1 forwarded", await TellAsync(client, Request("post")));
        Assert.Equal(2, await pool.WarmUpAsync(new Uri(Corp), 2, Rig.Ct));

        Assert.Equal((2, 1, 1.0), (proxy.Accepted, proxy.Heads.Count, pool.GetStats().ReuseRate));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Each_origin_has_connections_of_its_own()
    {
        await using var proxy = new ScriptedProxy(static _ => ScriptedProxy.Forwarded);
        using var client = Client(isPool: true, proxy, out var pool);
        await using var _ = pool;

        await TellAsync(client, new(HttpMethod.Get, "http://a.test/"));
        await TellAsync(client, new(HttpMethod.Get, "http://b.test/"));

        Assert.Equal(2, proxy.Accepted);
        Assert.Equal(["GET http://a.test/ HTTP/1.1", "GET http://b.test/ HTTP/1.1"],
            proxy.Heads.Select(static head => head.Split("\r\n")[0]));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_proxy_may_be_spoken_to_over_tls(bool isPool)
    {
        using var certificate = _authority.Issue();
        await using var proxy = new ScriptedProxy(static _ => ScriptedProxy.Forwarded, certificate: certificate);
        using var client = Client(isPool, proxy, out var pool);
        await using var _ = pool;

        Assert.Equal("200 1.1 forwarded", await TellAsync(client, Request("post")));

        Assert.StartsWith($"POST {Corp} HTTP/1.1\r\n", Assert.Single(proxy.Heads));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_login_that_is_known_is_sent_with_the_first_request(bool inTheAddress)
    {
        await using var proxy = new ScriptedProxy(static head =>
            ScriptedProxy.Header(head, "Proxy-Authorization") == Basic("joe:s3cret") ? ScriptedProxy.Forwarded : Challenge);
        var web = inTheAddress ? new WebProxy($"http://joe:s3cret@localhost:{proxy.Port}")
            : new WebProxy(proxy.Address) { Credentials = new NetworkCredential("joe", "s3cret") };
        var logs = new LogRecorder();
        await using var pool = new ConnectionPool(new() { Proxy = web }, logs);
        using var client = pool.CreateClient();

        for (var i = 0; i < 2; i++)
        {
            using var request = Request("post");
            using var response = await client.SendAsync(request, Rig.Ct);
            Assert.Equal(HttpStatusCode.OK, response.StatusCode);
            Assert.False(request.Headers.Contains("Proxy-Authorization"));   // the caller's request is as it was
        }

        Assert.Equal((2, 1), (proxy.Heads.Count, proxy.Accepted));
        Assert.All(logs.Entries, static entry => Assert.DoesNotContain("s3cret", entry.Message));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("json", 200)]
    [InlineData("nothing", 200)]
    [InlineData("stream", 407)]   // which cannot be given again
    public async Task A_password_that_was_changed_is_asked_for_once_more(string body, int status)
    {
        var credentials = new Changing("old", "new", "new", "new", "new");
        await using var proxy = new ScriptedProxy(static head =>
            ScriptedProxy.Header(head, "Proxy-Authorization") == Basic("joe:new") ? ScriptedProxy.Forwarded : Challenge);
        await using var pool = new ConnectionPool(new() { Proxy = new WebProxy(proxy.Address) { Credentials = credentials } });
        using var client = pool.CreateClient();
        using var request = new HttpRequestMessage(HttpMethod.Post, Corp)
        {
            Content = body switch
            {
                "json" => Calls.Body(),
                "stream" => new StreamContent(new MemoryStream(new byte[10])),
                _ => null,
            },
        };

        using var response = await client.SendAsync(request, Rig.Ct);

        Assert.Equal(status, (int)response.StatusCode);
        Assert.False(request.Headers.Contains("Proxy-Authorization"));
        await pool.QuietAsync();
        Assert.Equal(status == 200 ? 2 : 1, proxy.Heads.Count);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_password_that_stays_wrong_is_the_proxys_answer()
    {
        await using var proxy = new ScriptedProxy(static _ => Challenge);
        var web = new WebProxy(proxy.Address) { Credentials = new Changing("1", "2", "3", "4", "5") };
        await using var pool = new ConnectionPool(new() { Proxy = web });
        using var client = pool.CreateClient();

        using var response = await client.SendAsync(Request("post"), Rig.Ct);

        Assert.Equal(HttpStatusCode.ProxyAuthenticationRequired, response.StatusCode);
        Assert.Equal(2, proxy.Heads.Count);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Nothing_of_the_login_reaches_another_origin()
    {
        await using var direct = new EndingServer();
        await using var proxy = new ScriptedProxy(static _ => ScriptedProxy.Forwarded);
        var web = new WebProxy($"http://joe:s3cret@localhost:{proxy.Port}") { BypassList = ["127\\.0\\.0\\.1"] };
        await using var pool = new ConnectionPool(new() { Proxy = web });
        using var client = pool.CreateClient();
        using var request = new HttpRequestMessage(HttpMethod.Get, Corp);
        using var twice = new HttpMessageInvoker(pool.CreateHandler());
        (await twice.SendAsync(request, Rig.Ct)).Dispose();
        request.RequestUri = new UriBuilder(direct.Address) { Host = "127.0.0.1" }.Uri;
        (await twice.SendAsync(request, Rig.Ct)).Dispose();

        Assert.Equal(Basic("joe:s3cret"), ScriptedProxy.Header(Assert.Single(proxy.Heads), "Proxy-Authorization"));
        Assert.False(request.Headers.Contains("Proxy-Authorization"));
        Assert.Single(direct.Connections);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Where_http2_is_required_the_proxy_is_asked_for_a_tunnel()
    {
        await using var proxy = new ScriptedProxy(static _ => ScriptedProxy.Forbidden);
        await using var pool = new ConnectionPool(new() { Proxy = new WebProxy(proxy.Address), Http2 = { Mode = Http2Mode.Required } });
        using var client = pool.CreateClient();

        var error = await Assert.ThrowsAsync<PoolConnectException>(() => client.SendAsync(Request("post"), Rig.Ct));

        Assert.Equal((DialPhase.Proxy, HttpStatusCode.Forbidden), (error.Phase, error.StatusCode));
        Assert.StartsWith("CONNECT llm.test:8000 ", Assert.Single(proxy.Heads));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_proxy_that_is_not_there_is_a_failed_dial()
    {
        var proxy = new ScriptedProxy(static _ => ScriptedProxy.Forwarded);
        using var client = Client(isPool: true, proxy, out var pool);
        await using var _ = pool;
        var port = proxy.Port;
        await proxy.DisposeAsync();

        var error = await Assert.ThrowsAsync<PoolConnectException>(() => client.SendAsync(Request("post"), Rig.Ct));

        Assert.Equal((DialPhase.Tcp, RequestVerdict.NotSent), (error.Phase, error.Verdict));
        Assert.Contains($"The TCP connection to the proxy http://localhost:{port} ", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_key_says_what_is_forwarded()
    {
        var proxy = new ProxyAddress(new Uri("http://proxy.test:3128"));
        Assert.True(new ConnectionKey(false, "a.test", 80, proxy: proxy).IsForwarded);
        Assert.False(new ConnectionKey(true, "a.test", 443, proxy: proxy).IsForwarded);
        Assert.False(new ConnectionKey(false, "a.test", 80).IsForwarded);
        Assert.False(new ConnectionKey(false, "a.test", 80, protocols: HttpProtocols.Http2, proxy: proxy).IsForwarded);
        Assert.NotEqual(new ConnectionKey(false, "a.test", 80, proxy: proxy),
            new ConnectionKey(false, "a.test", 80, proxy: proxy, tunnels: true));
        Assert.Equal(PoolSettings.KeyOf(new Uri("http://a.test"), Http2Mode.Preferred, new WebProxy("http://proxy.test:3128")),
            new ConnectionKey(false, "a.test", 80, proxy: proxy));
    }

    static string Version => typeof(ConnectionPool).Assembly.GetName().Version!.ToString(3);

    const string Challenge = "HTTP/1.1 407 Login\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n";

    static string Basic(string login) => $"Basic {Convert.ToBase64String(Encoding.UTF8.GetBytes(login))}";

    static HttpRequestMessage Request(string shape)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, Corp) { Content = new StringContent("hi") };
        switch (shape)
        {
            case "get":
                (request.Method, request.Content) = (HttpMethod.Get, null);
                break;
            case "query":
                request.RequestUri = new Uri("http://llm.test:8000/a%20b/?q=%C3%BC&r=1");
                break;
            case "default port":
                request.RequestUri = new Uri("http://llm.test/");
                break;
            case "address of IPv6":
                request.RequestUri = new Uri("http://[2001:db8::1]:8000/");
                break;
            case "international name":
                request.RequestUri = new Uri("http://bücher.test/x");
                break;
            case "1.0":
                request.Version = HttpVersion.Version10;
                break;
            case "2.0 or lower":
                request.Version = HttpVersion.Version20;
                break;
            case "2.0 exact":
                (request.Version, request.VersionPolicy) = (HttpVersion.Version20, HttpVersionPolicy.RequestVersionExact);
                break;
            case "2.0 or higher":
                (request.Version, request.VersionPolicy) = (HttpVersion.Version20, HttpVersionPolicy.RequestVersionOrHigher);
                break;
            case "3.0 or lower":
                request.Version = HttpVersion.Version30;
                break;
            case "options":
                (request.Method, request.Content) = (HttpMethod.Options, null);
                break;
            case "head":
                (request.Method, request.Content) = (HttpMethod.Head, null);
                break;
            case "own host":
                request.Headers.Host = "other.test";
                break;
            case "user agent":
                request.Headers.UserAgent.ParseAdd("OpenAI/2.14.0 (.NET 10)");
                break;
            case "chunked":
                request.Content = new StreamContent(new MemoryStream(new byte[100]));
                request.Headers.TransferEncodingChunked = true;
                break;
            case "empty post":
                request.Content = null;
                break;
            case "own login":
                request.Headers.Add("Proxy-Authorization", "Basic own");
                break;
            case "user in the address":
                request.RequestUri = new Uri("http://u:p@llm.test:8000/x");
                break;
            case "upgrade":
                (request.Method, request.Content) = (HttpMethod.Get, null);
                request.Headers.Add("Upgrade", "websocket");
                request.Headers.Add("Connection", "Upgrade");
                break;
            case "web socket":
                (request.Method, request.Content, request.RequestUri) = (HttpMethod.Get, null, new Uri("ws://llm.test:8000/"));
                request.Headers.Add("Upgrade", "websocket");
                request.Headers.Add("Connection", "Upgrade");
                break;
            case "fragment":
                request.RequestUri = new Uri("http://llm.test:8000/x?y#z");
                break;
        }

        return request;
    }

    async Task<string> PlayAsync(bool isPool, string shape)
    {
        await using var proxy = new ScriptedProxy(static head =>
            head.StartsWith("CONNECT", StringComparison.Ordinal) ? ScriptedProxy.Forbidden
            : head.StartsWith("HEAD", StringComparison.Ordinal) ? "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" : ScriptedProxy.Forwarded);
        using var client = Client(isPool, proxy, out var pool);
        await using var _ = pool;
        var told = await TellAsync(client, Request(shape));
        return string.Join('\n', [told, .. proxy.Heads]);
    }

    HttpMessageInvoker Client(bool isPool, ScriptedProxy proxy, out ConnectionPool pool)
    {
        pool = new ConnectionPool(new() { Proxy = new WebProxy(proxy.Address), SslOptions = _authority.Trust() });
        return new HttpMessageInvoker(isPool ? pool.CreateHandler()
            : new SocketsHttpHandler { Proxy = new WebProxy(proxy.Address), SslOptions = _authority.Trust() });
    }

    static async Task<string> TellAsync(HttpMessageInvoker client, HttpRequestMessage request)
    {
        try
        {
            using var response = await client.SendAsync(request, Rig.Ct);
            return $"{(int)response.StatusCode} {response.Version} {await response.Content.ReadAsStringAsync(Rig.Ct)}";
        }
        catch (HttpRequestException error)
        {
            return $"{error.HttpRequestError} {error.StatusCode}";
        }
    }

    /// <summary>Credentials whose password is another each time.</summary>
    sealed class Changing(params string[] passwords) : ICredentials
    {
        int _asked;

        public NetworkCredential GetCredential(Uri uri, string authType) => new("joe", passwords[Interlocked.Increment(ref _asked) - 1]);
    }
}
