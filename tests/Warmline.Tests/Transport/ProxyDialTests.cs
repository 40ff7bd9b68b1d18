using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Text;
using Warmline.Options;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Transport;

/// <summary>Dials through a proxy that the test plays, byte by byte.</summary>
public sealed class ProxyDialTests : IDisposable
{
    const string Password = "s3cret:Pa/ss";
    static readonly TimeSpan Limit = TimeSpan.FromSeconds(5);

    readonly TestAuthority _authority = new();
    readonly ManualTime _time = new();
    readonly FakeNetwork _network = new();
    readonly SystemNetwork _sockets = new(new TcpKeepAliveOptions());
    readonly RawServer _proxy = new();
    readonly CancellationToken _ct = TestContext.Current.CancellationToken;

    public ProxyDialTests() => _network.Connect = _sockets.ConnectAsync;

    public void Dispose()
    {
        _proxy.Dispose();
        _authority.Dispose();
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task The_proxy_is_asked_for_the_target_and_only_the_proxys_name_is_resolved()
    {
        var dialing = DialAsync(isHttps: false, host: "api.test", port: 80);
        await using var accepted = await _proxy.AcceptAsync();
        var agent = $"Warmline/{typeof(Dialer).Assembly.GetName().Version!.ToString(3)}";
        Assert.Equal($"CONNECT api.test:80 HTTP/1.1\r\nHost: api.test:80\r\nUser-Agent: {agent}\r\n\r\n", await ReadHeadAsync(accepted));
        await SendAsync(accepted, "HTTP/1.1 200 Connection established\r\n\r\n");
        using var dialed = await dialing;
        Assert.Equal(["proxy.test"], _network.Resolved);
        Assert.Equal(new IPEndPoint(IPAddress.Loopback, _proxy.Port), dialed.RemoteEndPoint);
        Assert.False(dialed.IsHttp2);

        // The way to the proxy is kept alive, and looked at, like any other.
        var socket = ((NetworkStream)dialed.Wire).Socket;
        Assert.Equal((1, 15), ((int)socket.GetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive)!, (int)socket.GetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveTime)!));
        var looks = 0;
        _network.LookAt = (wire, _) => wire == dialed.Wire && ++looks > 0 ? WireState.Doubtful : WireState.Alive;
        Assert.Equal((WireState.Doubtful, 1), (dialed.Look(TimeSpan.FromSeconds(1)), looks));
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData("HTTP/1.1 200 OK\r\n\r\n")]
    [InlineData("HTTP/1.0 200 Connection established\r\nProxy-agent: tinyproxy/1.11.1\r\n\r\n")]
    [InlineData("HTTP/1.1 200 \r\nX-Long: \rnot the end\r\n\r\n")]
    [InlineData("HTTP/1.1 299\r\nContent-Length: 500\r\n\r\n")]   // a length means nothing here (RFC 9110, 9.3.6)
    [InlineData("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")]
    public async Task No_byte_of_the_tunnel_is_lost_however_the_answer_is_cut(string answer)
    {
        foreach (var pieces in new[] { 1, 3, int.MaxValue })
        {
            var dialing = DialAsync(isHttps: false, host: "::1", port: 8080);
            await using var accepted = await _proxy.AcceptAsync();
            Assert.StartsWith("CONNECT [::1]:8080 HTTP/1.1\r\nHost: [::1]:8080\r\n", await ReadHeadAsync(accepted));
            accepted.Socket.NoDelay = true;
            foreach (var piece in (answer + "\r\n\r\nserver speaks first").Chunk(Math.Min(pieces, 1000)))
            {
                await SendAsync(accepted, new string(piece));
            }

            using var dialed = await dialing;
            var first = new byte[23];
            await dialed.Transport.ReadExactlyAsync(first, _ct);
            Assert.Equal("\r\n\r\nserver speaks first", Encoding.ASCII.GetString(first));
        }
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData(HttpProtocols.Any, true)]
    [InlineData(HttpProtocols.Http1, false)]
    internal async Task Tls_with_the_target_runs_through_the_tunnel(HttpProtocols protocols, bool isHttp2)
    {
        using var certificate = _authority.Issue("api.test");
        var dialing = DialAsync(host: "api.test", port: 443, protocols: protocols);
        await using var accepted = await _proxy.AcceptAsync();
        Assert.StartsWith("CONNECT api.test:443 ", await ReadHeadAsync(accepted));
        await SendAsync(accepted, "HTTP/1.1 200 OK\r\n\r\n");
        await using var target = await ServeTlsAsync(accepted, certificate, SslApplicationProtocol.Http2, SslApplicationProtocol.Http11);
        using var dialed = await dialing;
        Assert.Equal((isHttp2, "api.test"), (dialed.IsHttp2, target.TargetHostName));
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_proxy_with_an_https_address_is_spoken_to_over_tls_of_its_own()
    {
        using var proxyCertificate = _authority.Issue("proxy.test");
        using var certificate = _authority.Issue("api.test");
        var dialing = DialAsync(host: "api.test", port: 443, proxy: $"https://proxy.test:{_proxy.Port}");
        await using var proxy = await ServeTlsAsync(await _proxy.AcceptAsync(), proxyCertificate, SslApplicationProtocol.Http2, SslApplicationProtocol.Http11);
        Assert.Equal((SslApplicationProtocol.Http11, "proxy.test"), (proxy.NegotiatedApplicationProtocol, proxy.TargetHostName));
        Assert.StartsWith("CONNECT api.test:443 ", await ReadHeadAsync(proxy));
        await SendAsync(proxy, "HTTP/1.1 200 OK\r\n\r\n");
        await using var target = await ServeTlsAsync(proxy, certificate, SslApplicationProtocol.Http2);
        using var dialed = await dialing;
        Assert.True(dialed.IsHttp2);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_proxy_whose_certificate_is_not_trusted_is_named()
    {
        using var stranger = new TestAuthority();
        using var certificate = stranger.Issue("proxy.test");
        var dialing = DialAsync(proxy: $"https://proxy.test:{_proxy.Port}");
        var serving = ServeTlsAsync(await _proxy.AcceptAsync(), certificate);
        var error = await FailsAsync(dialing, DialPhase.Proxy);
        Assert.StartsWith($"The TLS handshake with the proxy https://proxy.test:{_proxy.Port} (127.0.0.1:{_proxy.Port}) failed: the certificate is not trusted", error.Message);
        Assert.IsType<AuthenticationException>(error.InnerException);
        await Record.ExceptionAsync(async () => (await serving).Dispose());
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData("http://joe:s3cret%3APa%2Fss@proxy.test:1", null, "joe:s3cret:Pa/ss")]
    [InlineData("http://token@proxy.test:1", null, "token:")]
    [InlineData("http://proxy.test:1", "joe", "joe:s3cret:Pa/ss")]
    [InlineData("http://other:no@proxy.test:1", "joe", "joe:s3cret:Pa/ss")]   // those that were given win
    [InlineData("http://proxy.test:1", "corp\\joe", "corp\\joe:s3cret:Pa/ss")]
    [InlineData("http://proxy.test:1", "jörg", "jörg:s3cret:Pa/ss")]
    [InlineData("http://proxy.test:1", "", null)]
    public async Task Credentials_that_are_known_are_sent_at_once(string address, string? user, string? expected)
    {
        var names = user?.Split('\\') ?? [];
        NetworkCredential? credential = user is null ? null : new(names[^1], Password, names.Length > 1 ? names[0] : "");
        var dialing = DialAsync(proxy: address.Replace(":1", $":{_proxy.Port}", StringComparison.Ordinal), credentials: credential);
        await using var accepted = await _proxy.AcceptAsync();
        var head = await ReadHeadAsync(accepted);
        var sent = head.Split("\r\n").FirstOrDefault(line => line.StartsWith("Proxy-Authorization: Basic ", StringComparison.Ordinal))?["Proxy-Authorization: Basic ".Length..];
        Assert.Equal(expected, sent is null ? null : Encoding.UTF8.GetString(Convert.FromBase64String(sent)));
        await SendAsync(accepted, "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n");
        var error = await FailsAsync(dialing, DialPhase.Proxy);
        Assert.Equal(HttpStatusCode.ProxyAuthenticationRequired, error.ProxyStatus);
        Assert.Contains(expected is null ? "give a user name and password" : "does not accept the user name and password", error.Message);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_password_that_was_changed_meanwhile_is_tried_once_on_a_new_connection()
    {
        var credentials = new Changing("old", "new", "newer");
        var dialing = DialAsync(isHttps: false, credentials: credentials);
        await using var first = await _proxy.AcceptAsync();
        Assert.Contains(Convert.ToBase64String("joe:old"u8), await ReadHeadAsync(first));
        await SendAsync(first, "HTTP/1.1 407 No\r\nproxy-authenticate: Negotiate, basic realm=\"x\"\r\nContent-Length: 2\r\n\r\nno");
        await using var second = await _proxy.AcceptAsync();
        Assert.Contains(Convert.ToBase64String("joe:new"u8), await ReadHeadAsync(second));
        await SendAsync(second, "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n\r\n");
        await FailsAsync(dialing, DialPhase.Proxy);
        Assert.Equal(2, credentials.Asked);
        await AssertClosedAsync(first);
        await AssertClosedAsync(second);
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData("HTTP/1.1 407 Login\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n", 407, "407 Login by Negotiate, NTLM; only Basic is supported")]
    [InlineData("HTTP/1.1 403 Filtered\r\n\r\n", 403, "403 Filtered; its rules do not allow api.test or port 443")]
    [InlineData("HTTP/1.0 502 Bad Gateway\r\n\r\n", 502, "502 Bad Gateway; it could not reach api.test:443")]
    [InlineData("HTTP/1.1 503 Busy\r\n\r\n", 503, "503 Busy")]
    [InlineData("HTTP/1.1 504 Gateway Timeout\r\n\r\n", 504, "504 Gateway Timeout; it could not reach api.test:443")]
    [InlineData("HTTP/1.1 301\r\nLocation: http://elsewhere.test/\r\n\r\n", 301, "301")]
    [InlineData("HTTP/1.1 101 Switching Protocols\r\n\r\n", 101, "101 Switching Protocols")]
    [InlineData("HTTP/1.1 500 \u001b[31mred\u0007\r\n\r\n", 500, "500 [31mred")]   // nothing that a terminal would obey
    public async Task A_refusal_is_told_with_the_proxys_status_and_reason(string answer, int status, string cause)
    {
        var error = await AnsweredAsync(answer);
        Assert.Equal($"The proxy http://proxy.test:{_proxy.Port} refused a tunnel to api.test:443: {cause}.", error.Message);
        Assert.Equal(status, (int?)error.ProxyStatus);
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData("SSH-2.0-OpenSSH_9.2\r\n")]
    [InlineData("\u0015\u0003\u0001\0\u0002")]
    [InlineData("HTTP/2 200\r\n\r\n")]
    [InlineData("HTTP/1.x 200 OK\r\n\r\n")]
    [InlineData("HTTP/1.1 20\r\n\r\n")]
    [InlineData("HTTP/1.1 2000 OK\r\n\r\n")]
    [InlineData("HTTP/1.1 000 OK\r\n\r\n")]
    [InlineData("HTTP/1.1 200 OK\r\nA: \0\r\n\r\n")]
    public async Task An_answer_that_is_not_http_fails_at_once(string answer)
    {
        var error = await AnsweredAsync(answer);   // the test's end stays open: nothing but the bytes told
        Assert.Equal($"The proxy http://proxy.test:{_proxy.Port} did not open a tunnel to api.test:443: "
            + "its reply to CONNECT is not HTTP/1.1, so it may not be an HTTP proxy.", error.Message);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_head_without_end_is_cut_off()
    {
        var error = await AnsweredAsync("HTTP/1.1 200 OK\r\n" + string.Concat(Enumerable.Repeat("X-Pad: 0123456789\r\n", 4000)));
        Assert.Contains("exceed 64 KB", error.Message);
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData("", "it closed the connection without an answer to CONNECT")]
    [InlineData("HTTP/1.1 200 OK\r\n", "it closed the connection in the middle of its answer to CONNECT")]
    public async Task A_proxy_that_closes_is_named(string answer, string cause)
    {
        var error = await AnsweredAsync(answer, close: true);
        Assert.Equal($"The proxy http://proxy.test:{_proxy.Port} did not open a tunnel to api.test:443: {cause}.", error.Message);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_proxy_that_closes_the_tunnel_during_tls_is_named()
    {
        var dialing = DialAsync();
        await using (var accepted = await _proxy.AcceptAsync())
        {
            await ReadHeadAsync(accepted);
            await SendAsync(accepted, "HTTP/1.1 200 OK\r\n\r\n");
        }

        var error = await FailsAsync(dialing, DialPhase.Tls);
        Assert.StartsWith($"The TLS handshake with api.test:443 through the proxy http://proxy.test:{_proxy.Port} ", error.Message);
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_silent_proxy_ends_with_the_connect_timeout(bool inTheMiddle)
    {
        var dialing = DialAsync();
        await using var accepted = await _proxy.AcceptAsync();
        await ReadHeadAsync(accepted);
        await SendAsync(accepted, inTheMiddle ? "HTTP/1.1 200 OK\r\n" : "");
        Assert.False(dialing.IsCompleted);
        _time.Advance(Limit);
        var error = await FailsAsync(dialing, DialPhase.Proxy);
        Assert.True(error.TimedOut);
        Assert.Equal($"Connecting to api.test:443 through the proxy http://proxy.test:{_proxy.Port} timed out after 5 s: the proxy took the TCP connection, but had not answered CONNECT by then.", error.Message);
        await AssertClosedAsync(accepted);
        Assert.Equal(0, _time.ArmedTimers);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task Cancelling_while_the_proxy_thinks_leaves_nothing()
    {
        using var cancel = new CancellationTokenSource();
        var dialing = DialAsync(ct: cancel.Token);
        await using var accepted = await _proxy.AcceptAsync();
        await ReadHeadAsync(accepted);
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => dialing);
        await AssertClosedAsync(accepted);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_proxy_that_cannot_be_resolved_or_reached_is_named_without_its_password()
    {
        var port = _proxy.Port;
        var address = $"http://joe:{Uri.EscapeDataString(Password)}@proxy.test:{port}";
        _proxy.Dispose();
        var refused = await FailsAsync(DialAsync(proxy: address), DialPhase.Tcp);
        Assert.Equal($"The TCP connection to the proxy http://proxy.test:{port} (127.0.0.1:{port}) failed: Connection refused (ConnectionRefused). Does a server listen there?", refused.Message);

        _network.Resolve = (_, _) => ValueTask.FromException<IPAddress[]>(new SocketException((int)SocketError.HostNotFound));
        var unknown = await FailsAsync(DialAsync(proxy: address), DialPhase.Dns);
        Assert.StartsWith($"The host name of the proxy http://proxy.test:{port} could not be resolved: ", unknown.Message);
        Assert.All([refused, unknown], error => Assert.DoesNotContain("joe", error.ToString()));
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData("socks5://joe:pw@proxy.test:1080", "socks5://proxy.test:1080")]
    [InlineData("socks4a://proxy.test", "socks4a://proxy.test")]
    public async Task Another_kind_of_proxy_is_refused_with_what_is_supported(string address, string shown)
    {
        var error = await FailsAsync(DialAsync(proxy: address), DialPhase.Proxy);
        Assert.Equal($"The proxy {shown} for api.test:443 cannot be used: only proxies with an http:// or https:// address are supported.", error.Message);
        Assert.Empty(_network.Resolved);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task The_tunnel_is_timed_as_a_phase_of_its_own()
    {
        var dialing = DialAsync(isHttps: false);
        await using var accepted = await _proxy.AcceptAsync();
        await ReadHeadAsync(accepted);
        _time.Advance(TimeSpan.FromMilliseconds(44));
        await SendAsync(accepted, "HTTP/1.1 200 OK\r\n\r\n");
        using var dialed = await dialing;
        Assert.Equal(new DialTimings(default, default, default) { Proxy = TimeSpan.FromMilliseconds(44) }, dialed.Timings);
        Assert.Equal(TimeSpan.FromMilliseconds(44), dialed.Timings.Total);
    }

    [Fact]
    public void The_key_tells_proxies_apart_and_shows_no_password()
    {
        var direct = new ConnectionKey(true, "api.test", 443);
        ConnectionKey Through(string proxy) => new(true, "api.test", 443, proxy: new ProxyAddress(new Uri(proxy)));

        Assert.Equal(Through("http://a:b@proxy.test:3128"), Through("http://a:b@Proxy.test:3128/"));
        Assert.Equal(Through("http://proxy.test:3128").GetHashCode(), Through("http://proxy.test:3128").GetHashCode());
        Assert.All(
            [direct, Through("http://a:c@proxy.test:3128"), Through("http://proxy.test:3128"), Through("https://a:b@proxy.test:3128"), Through("http://a:b@proxy.test:3129")],
            other => Assert.NotEqual(Through("http://a:b@proxy.test:3128"), other));
        Assert.Equal("https://api.test through http://proxy.test:3128", Through("http://joe:secret@proxy.test:3128").ToString());
        Assert.Equal("https://api.test", Through("http://joe:secret@proxy.test:3128").Origin);
        Assert.Equal(("proxy.test", 3128, "api.test", 443), (Through("http://proxy.test:3128").DialedHost, Through("http://proxy.test:3128").DialedPort, direct.DialedHost, direct.DialedPort));
    }

    async Task<DialException> AnsweredAsync(string answer, bool close = false)
    {
        var dialing = DialAsync();
        await using var accepted = await _proxy.AcceptAsync();
        await ReadHeadAsync(accepted);
        await Record.ExceptionAsync(() => SendAsync(accepted, answer));   // a client that has read enough may close
        if (close)
        {
            await accepted.DisposeAsync();
        }

        return await FailsAsync(dialing, DialPhase.Proxy);
    }

    static async Task<DialException> FailsAsync(Task<DialedConnection> dialing, DialPhase phase)
    {
        var error = await Assert.ThrowsAsync<DialException>(async () => (await dialing).Dispose());
        Assert.Equal(phase, error.Phase);
        Assert.DoesNotContain(Password, error.ToString());
        Assert.DoesNotContain(Uri.EscapeDataString(Password), error.ToString());
        return error;
    }

    async Task AssertClosedAsync(NetworkStream accepted)
    {
        var rest = new byte[100];
        await Record.ExceptionAsync(async () =>
        {
            while (await accepted.ReadAsync(rest, _ct) > 0)
            {
                // what was sent before
            }
        });
        Assert.False(_ct.IsCancellationRequested);
    }

    async Task<string> ReadHeadAsync(Stream stream)
    {
        var head = "";
        var next = new byte[1];
        while (!head.EndsWith("\r\n\r\n", StringComparison.Ordinal))
        {
            await stream.ReadExactlyAsync(next, _ct);
            head += (char)next[0];
        }

        return head;
    }

    async Task SendAsync(Stream stream, string text) => await stream.WriteAsync(Encoding.Latin1.GetBytes(text), _ct);

    async Task<SslStream> ServeTlsAsync(Stream inner, System.Security.Cryptography.X509Certificates.X509Certificate2 certificate, params SslApplicationProtocol[] protocols)
    {
        var stream = new SslStream(inner);
        await stream.AuthenticateAsServerAsync(new SslServerAuthenticationOptions { ServerCertificate = certificate, ApplicationProtocols = [.. protocols] }, _ct);
        return stream;
    }

    Task<DialedConnection> DialAsync(
        bool isHttps = true, string host = "api.test", int port = 443, string? proxy = null, ICredentials? credentials = null, HttpProtocols protocols = HttpProtocols.Any, CancellationToken? ct = null) =>
        new Dialer(_network, new DnsCache(_network, new DnsOptions(), _time), _authority.Trust(), Http2Mode.Preferred, _time, new WebProxy { Credentials = credentials })
            .DialAsync(new ConnectionKey(isHttps, host, port, null, protocols, proxy: new ProxyAddress(new Uri(proxy ?? $"http://proxy.test:{_proxy.Port}")), tunnels: true), Limit, ct ?? _ct);

    /// <summary>Credentials whose password is another each time.</summary>
    sealed class Changing(params string[] passwords) : ICredentials
    {
        public int Asked { get; private set; }

        public NetworkCredential GetCredential(Uri uri, string authType)
        {
            Assert.Equal("Basic", authType);
            return new NetworkCredential("joe", passwords[Asked++]);
        }
    }
}
