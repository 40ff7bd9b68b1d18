using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Reflection;
using System.Runtime.Versioning;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using Warmline.Options;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Transport;

public sealed class DialerTests : IDisposable
{
    static readonly TimeSpan Limit = TimeSpan.FromSeconds(5);

    readonly TestAuthority _authority = new();
    readonly ManualTime _time = new();
    readonly FakeNetwork _network = new();
    readonly SystemNetwork _sockets = new(new TcpKeepAliveOptions());
    readonly CancellationToken _ct = TestContext.Current.CancellationToken;

    public DialerTests() => _network.Connect = _sockets.ConnectAsync;

    public void Dispose() => _authority.Dispose();

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData(HttpProtocols.Any, true)]
    [InlineData(HttpProtocols.Http1, false)]
    [InlineData(HttpProtocols.Http2, true)]
    internal async Task The_key_decides_what_is_offered_and_the_server_what_is_spoken(HttpProtocols protocols, bool isHttp2)
    {
        using var server = new RawServer();
        using X509Certificate2 certificate = _authority.Issue();
        Task<SslStream> accepting = server.AcceptTlsAsync(certificate, SslApplicationProtocol.Http2, SslApplicationProtocol.Http11);
        using DialedConnection dialed = await NewDialer().DialAsync(Key(server.Port, protocols), Limit, _ct);
        await using SslStream accepted = await accepting;

        Assert.Equal(isHttp2, dialed.IsHttp2);
        Assert.Equal(isHttp2 ? SslApplicationProtocol.Http2 : SslApplicationProtocol.Http11, accepted.NegotiatedApplicationProtocol);
        Assert.Equal(new IPEndPoint(IPAddress.Loopback, server.Port), dialed.RemoteEndPoint);
        Assert.Equal("localhost", accepted.TargetHostName);
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData(Http2Mode.Preferred, HttpProtocols.Any, false)]
    [InlineData(Http2Mode.Preferred, HttpProtocols.Http2, true)]
    [InlineData(Http2Mode.Required, HttpProtocols.Any, true)]
    [InlineData(Http2Mode.Disabled, HttpProtocols.Any, false)]
    internal async Task Plain_http_speaks_http2_only_with_prior_knowledge(Http2Mode mode, HttpProtocols protocols, bool isHttp2)
    {
        using var server = new RawServer();
        using DialedConnection dialed = await NewDialer(mode: mode).DialAsync(new ConnectionKey(false, "localhost", server.Port, null, protocols), Limit, _ct);
        Assert.Equal(isHttp2, dialed.IsHttp2);
        Assert.IsType<NetworkStream>(dialed.Transport);
        Assert.Equal(TimeSpan.Zero, dialed.Timings.Tls);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_disabled_http2_is_not_offered()
    {
        using var server = new RawServer();
        using X509Certificate2 certificate = _authority.Issue();
        Task<SslStream> accepting = server.AcceptTlsAsync(certificate, SslApplicationProtocol.Http2, SslApplicationProtocol.Http11);
        using DialedConnection dialed = await NewDialer(mode: Http2Mode.Disabled).DialAsync(Key(server.Port), Limit, _ct);
        await using SslStream accepted = await accepting;
        Assert.False(dialed.IsHttp2);
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData(true)]    // the server knows ALPN and shares no protocol
    [InlineData(false)]   // the server does not know ALPN
    public async Task A_server_without_http2_fails_a_dial_that_requires_it(bool serverKnowsAlpn)
    {
        using var server = new RawServer();
        using X509Certificate2 certificate = _authority.Issue();
        Task<SslStream> accepting = serverKnowsAlpn ? server.AcceptTlsAsync(certificate, SslApplicationProtocol.Http11) : server.AcceptTlsAsync(certificate);
        DialException error = await Fails(NewDialer(mode: Http2Mode.Required).DialAsync(Key(server.Port), Limit, _ct));
        Assert.Equal(DialPhase.Tls, error.Phase);
        Assert.Contains("HTTP/2", error.Message);
        Assert.Contains($"localhost:{server.Port}", error.Message);
        await Record.ExceptionAsync(() => accepting);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task Each_phase_is_timed()
    {
        _network.Resolve = (_, _) =>
        {
            _time.Advance(TimeSpan.FromMilliseconds(11));
            return new([IPAddress.Loopback]);
        };
        _network.Connect = async (endPoint, token) =>
        {
            Stream stream = await _sockets.ConnectAsync(endPoint, token);
            _time.Advance(TimeSpan.FromMilliseconds(22));
            return stream;
        };
        using var server = new RawServer();
        using X509Certificate2 certificate = _authority.Issue();
        SslClientAuthenticationOptions ssl = _authority.Trust();
        ssl.RemoteCertificateValidationCallback = (_, _, _, errors) =>
        {
            _time.Advance(TimeSpan.FromMilliseconds(33));
            return errors == SslPolicyErrors.None;
        };
        Task<SslStream> accepting = server.AcceptTlsAsync(certificate);
        using DialedConnection dialed = await NewDialer(ssl).DialAsync(Key(server.Port), Limit, _ct);
        await using SslStream accepted = await accepting;
        Assert.Equal(new DialTimings(TimeSpan.FromMilliseconds(11), TimeSpan.FromMilliseconds(22), TimeSpan.FromMilliseconds(33)), dialed.Timings);
        Assert.Equal(TimeSpan.FromMilliseconds(66), dialed.Timings.Total);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_stall_in_dns_names_the_phase_and_the_limit()
    {
        _network.Resolve = (_, token) => FakeNetwork.StallAsync<IPAddress[]>(token);
        Task<DialedConnection> dialing = NewDialer().DialAsync(new ConnectionKey(true, "api.test", 443), Limit, _ct);
        _time.Advance(TimeSpan.FromSeconds(59));   // callers have a clock of their own, and resolvers ask again after 5 s
        Assert.False(dialing.IsCompleted);
        _time.Advance(TimeSpan.FromSeconds(2));
        DialException error = await Fails(dialing);
        Assert.True(error.TimedOut);
        Assert.Equal(DialPhase.Dns, error.Phase);
        Assert.Equal("Connecting to api.test:443 timed out after 60 s: the host name was not resolved by then.", error.Message);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_stall_in_tcp_names_the_addresses_tried()
    {
        _network.Resolve = (_, _) => new([IPAddress.Parse("2001:db8::1"), IPAddress.Parse("192.0.2.1")]);
        var second = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _network.Connect = (endPoint, token) =>
        {
            if (endPoint.AddressFamily == AddressFamily.InterNetwork)
            {
                second.SetResult();
            }

            return FakeNetwork.StallAsync<Stream>(token);
        };
        Task<DialedConnection> dialing = NewDialer().DialAsync(new ConnectionKey(true, "api.test", 443), Limit, _ct);
        await _time.WaitForTimersAsync(2).WaitAsync(_ct);   // the limit and the attempt delay
        _time.Advance(HappyEyeballs.AttemptDelay);
        await second.Task.WaitAsync(_ct);
        DialException error = await TimesOut(dialing);
        Assert.Equal(DialPhase.Tcp, error.Phase);
        Assert.Contains("192.0.2.1:443", error.Message);
        Assert.Contains("[2001:db8::1]:443", error.Message);
        Assert.Contains("after 5 s", error.Message);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_stall_in_tls_names_the_phase_and_closes_the_socket()
    {
        using var server = new RawServer();
        Task<DialedConnection> dialing = NewDialer().DialAsync(Key(server.Port), Limit, _ct);
        await using NetworkStream accepted = await server.AcceptAsync();
        Assert.True(await accepted.ReadAsync(new byte[1], _ct) > 0);   // the client's hello has begun
        DialException error = await TimesOut(dialing);
        Assert.Equal(DialPhase.Tls, error.Phase);
        Assert.Contains($"127.0.0.1:{server.Port} took the TCP connection, but the TLS handshake was not finished", error.Message);
        await AssertClosed(accepted);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task Cancelling_in_tls_is_a_cancellation_and_closes_the_socket()
    {
        using var server = new RawServer();
        using var cancel = new CancellationTokenSource();
        Task<DialedConnection> dialing = NewDialer().DialAsync(Key(server.Port), Limit, cancel.Token);
        await using NetworkStream accepted = await server.AcceptAsync();
        Assert.True(await accepted.ReadAsync(new byte[1], _ct) > 0);
        await cancel.CancelAsync();
        OperationCanceledException error = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => dialing);
        Assert.Equal(cancel.Token, error.CancellationToken);
        await AssertClosed(accepted);
        Assert.Equal(0, _time.ArmedTimers);
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Cancelling_in_dns_or_tcp_is_a_cancellation_and_leaves_nothing(bool inDns)
    {
        if (inDns)
        {
            _network.Resolve = (_, token) => FakeNetwork.StallAsync<IPAddress[]>(token);
        }
        else
        {
            _network.Connect = (_, token) => FakeNetwork.StallAsync<Stream>(token);
        }

        using var cancel = new CancellationTokenSource();
        Task<DialedConnection> dialing = NewDialer().DialAsync(Key(443), Limit, cancel.Token);
        await cancel.CancelAsync();
        OperationCanceledException error = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => dialing);
        Assert.Equal(cancel.Token, error.CancellationToken);
        Assert.Equal(0, _time.ArmedTimers);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_refused_port_is_named_with_its_address()
    {
        int port;
        using (var server = new RawServer())
        {
            port = server.Port;
        }

        DialException error = await Fails(NewDialer().DialAsync(Key(port), Limit, _ct));
        Assert.Equal(DialPhase.Tcp, error.Phase);
        Assert.False(error.TimedOut);
        Assert.Equal($"The TCP connection to localhost:{port} (127.0.0.1:{port}) failed: Connection refused (ConnectionRefused). Does a server listen there?", error.Message);
        Assert.Equal(SocketError.ConnectionRefused, Assert.IsType<SocketException>(error.InnerException).SocketErrorCode);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_name_that_does_not_resolve_is_named()
    {
        _network.Resolve = (_, _) => ValueTask.FromException<IPAddress[]>(new SocketException((int)SocketError.HostNotFound));
        DialException error = await Fails(NewDialer().DialAsync(new ConnectionKey(true, "no.such.test", 443), Limit, _ct));
        Assert.Equal(DialPhase.Dns, error.Phase);
        Assert.StartsWith("The host name of no.such.test:443 could not be resolved: ", error.Message);
        Assert.EndsWith("(HostNotFound). Check the address's spelling, and the DNS of this machine or container.", error.Message);
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData("127.0.0.1", "127.0.0.1:443", SocketError.ConnectionRefused, " Does a server listen there?")]
    [InlineData("::1", "[::1]:443", SocketError.HostUnreachable, " A firewall may be in the way, or calls have to take a proxy.")]
    [InlineData("127.0.0.1", "127.0.0.1:443", SocketError.TimedOut, " A firewall may be in the way, or calls have to take a proxy.")]
    [InlineData("127.0.0.1", "127.0.0.1:443", SocketError.ConnectionReset, "")]
    public async Task An_address_is_said_once_and_what_to_look_for_fits_the_error(string host, string shown, SocketError code, string advice)
    {
        _network.Connect = (_, _) => ValueTask.FromException<Stream>(new SocketException((int)code));
        DialException error = await Fails(NewDialer().DialAsync(new ConnectionKey(true, host, 443), Limit, _ct));
        Assert.Equal($"The TCP connection to {shown} failed: {error.InnerException!.Message.TrimEnd('.')} ({code}).{advice}", error.Message);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_server_that_hangs_up_in_the_handshake_is_named()
    {
        using var server = new RawServer();
        Task<DialedConnection> dialing = NewDialer().DialAsync(Key(server.Port), Limit, _ct);
        (await server.AcceptAsync()).Dispose();
        DialException error = await Fails(dialing);
        Assert.Equal(DialPhase.Tls, error.Phase);
        Assert.StartsWith($"The TLS handshake with localhost:{server.Port} (127.0.0.1:{server.Port}) failed: ", error.Message);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task An_untrusted_certificate_is_named_as_such()
    {
        using X509Certificate2 certificate = _authority.Issue();
        using var stranger = new TestAuthority();
        DialException error = await FailsTls(certificate, stranger.Trust());
        Assert.Contains("is not trusted", error.Message);
        Assert.Contains(_authority.Root.Subject, error.Message);
        Assert.EndsWith("). Trust it by ConnectionPoolOptions.SslOptions.", error.Message);
        Assert.IsType<AuthenticationException>(error.InnerException);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_self_signed_certificate_is_named_as_untrusted()
    {
        using var self = new TestAuthority();
        DialException error = await FailsTls(self.Root, _authority.Trust());
        Assert.Contains("(UntrustedRoot)", error.Message);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task An_expired_certificate_is_named_with_its_date()
    {
        using X509Certificate2 certificate = _authority.Issue(notAfter: new DateTimeOffset(2021, 2, 3, 0, 0, 0, TimeSpan.Zero));
        DialException error = await FailsTls(certificate, _authority.Trust());
        Assert.Contains("expired on 2021-02-03", error.Message);
        Assert.DoesNotContain("not trusted", error.Message);
        Assert.DoesNotContain("Trust it", error.Message);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_certificate_for_another_name_is_named_with_both_names()
    {
        using X509Certificate2 certificate = _authority.Issue("elsewhere.test");
        DialException error = await FailsTls(certificate, _authority.Trust());
        Assert.Contains("it names 'elsewhere.test', not 'localhost'", error.Message);
        Assert.DoesNotContain("not trusted", error.Message);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task The_users_callback_decides_and_its_refusal_is_named()
    {
        using X509Certificate2 certificate = _authority.Issue("elsewhere.test");
        SslPolicyErrors seen = default;
        var ssl = new SslClientAuthenticationOptions
        {
            RemoteCertificateValidationCallback = (_, _, _, errors) =>
            {
                seen = errors;
                return errors != SslPolicyErrors.None;
            },
        };
        using (var server = new RawServer())
        {
            Task<SslStream> accepting = server.AcceptTlsAsync(certificate);
            using DialedConnection dialed = await NewDialer(ssl).DialAsync(Key(server.Port), Limit, _ct);
            await using SslStream accepted = await accepting;
        }

        Assert.True(seen.HasFlag(SslPolicyErrors.RemoteCertificateNameMismatch));
        ssl.RemoteCertificateValidationCallback = (_, _, _, _) => false;
        DialException error = await FailsTls(certificate, ssl);
        Assert.Contains("RemoteCertificateValidationCallback refused", error.Message);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task The_tls_name_is_asked_for_rather_than_the_host()
    {
        using var server = new RawServer();
        using X509Certificate2 certificate = _authority.Issue("api.test");
        Task<SslStream> accepting = server.AcceptTlsAsync(certificate);
        using DialedConnection dialed = await NewDialer().DialAsync(new ConnectionKey(true, "127.0.0.1", server.Port, "api.test"), Limit, _ct);
        await using SslStream accepted = await accepting;
        Assert.Equal("api.test", accepted.TargetHostName);
        Assert.Empty(_network.Resolved);
    }

    [Fact]
    [SupportedOSPlatform("linux")]   // some properties exist only there
    public void Every_tls_option_is_copied()
    {
        using X509Certificate2 certificate = _authority.Issue();
        var user = new SslClientAuthenticationOptions
        {
            AllowRenegotiation = false,
            AllowTlsResume = false,
            AllowRsaPkcs1Padding = false,
            AllowRsaPssPadding = false,
            ApplicationProtocols = [SslApplicationProtocol.Http3],
            CertificateChainPolicy = new X509ChainPolicy(),
            CertificateRevocationCheckMode = X509RevocationMode.Offline,
            CipherSuitesPolicy = new CipherSuitesPolicy([TlsCipherSuite.TLS_AES_128_GCM_SHA256]),
            ClientCertificateContext = SslStreamCertificateContext.Create(certificate, null),
            ClientCertificates = [certificate],
            EnabledSslProtocols = SslProtocols.Tls13,
            LocalCertificateSelectionCallback = (_, _, _, _, _) => certificate,
            RemoteCertificateValidationCallback = (_, _, _, errors) => errors == SslPolicyErrors.None,
            TargetHost = "set.test",
        };
#pragma warning disable SYSLIB0040 // obsolete, but a property like the others
        user.EncryptionPolicy = EncryptionPolicy.AllowNoEncryption;
#pragma warning restore SYSLIB0040
        var untouched = new SslClientAuthenticationOptions();
        SslClientAuthenticationOptions copy = TlsOptions.Copy(user);
        foreach (PropertyInfo property in typeof(SslClientAuthenticationOptions).GetProperties())
        {
            Assert.False(Equals(property.GetValue(user), property.GetValue(untouched)), $"{property.Name} must differ from its default for this test to see it");
            Assert.True(Equals(property.GetValue(user), property.GetValue(copy)), $"{property.Name} is not copied");
        }
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_second_handshake_resumes_the_first_ones_session()
    {
        using X509Certificate2 certificate = _authority.Issue("resume.test");
        using var server = new RawServer();
        var dialer = NewDialer();
        long full = await HandshakeBytes(dialer, server, certificate);
        long resumed = await HandshakeBytes(dialer, server, certificate);
        Assert.True(resumed < full / 2, $"{resumed} bytes after {full}");
    }

    async Task<long> HandshakeBytes(Dialer dialer, RawServer server, X509Certificate2 certificate)
    {
        CountingStream? counted = null;
        _network.Connect = async (endPoint, token) => counted = new CountingStream(await _sockets.ConnectAsync(endPoint, token));
        Task<SslStream> accepting = server.AcceptTlsAsync(certificate);
        using DialedConnection dialed = await dialer.DialAsync(new ConnectionKey(true, "resume.test", server.Port), Limit, _ct);
        long bytes = counted!.BytesRead;
        await using SslStream accepted = await accepting;
        await accepted.WriteAsync("x"u8.ToArray(), _ct);
        await dialed.Transport.ReadExactlyAsync(new byte[1], _ct);   // a ticket is learnt with the data that follows it
        return bytes;
    }

    async Task<DialException> FailsTls(X509Certificate2 certificate, SslClientAuthenticationOptions ssl)
    {
        using var server = new RawServer();
        Task<SslStream> accepting = server.AcceptTlsAsync(certificate);
        DialException error = await Fails(NewDialer(ssl).DialAsync(Key(server.Port), Limit, _ct));
        (await Record.ExceptionAsync(async () => (await accepting).Dispose()))?.ToString();
        Assert.Equal(DialPhase.Tls, error.Phase);
        Assert.False(error.TimedOut);
        Assert.Contains($"localhost:{server.Port}", error.Message);
        return error;
    }

    async Task<DialException> TimesOut(Task<DialedConnection> dialing)
    {
        Assert.False(dialing.IsCompleted);
        _time.Advance(Limit);
        DialException error = await Fails(dialing);
        Assert.True(error.TimedOut);
        Assert.Equal(0, _time.ArmedTimers);
        return error;
    }

    static async Task<DialException> Fails(Task<DialedConnection> dialing) => await Assert.ThrowsAsync<DialException>(async () => (await dialing).Dispose());

    async Task AssertClosed(NetworkStream accepted)
    {
        byte[] rest = new byte[4096];
        try
        {
            while (await accepted.ReadAsync(rest, _ct) > 0)
            {
                // the rest of what the client had sent
            }
        }
        catch (IOException)
        {
            // reset: closed as well
        }
    }

    static ConnectionKey Key(int port, HttpProtocols protocols = HttpProtocols.Any) => new(true, "localhost", port, null, protocols);

    Dialer NewDialer(SslClientAuthenticationOptions? ssl = null, Http2Mode mode = Http2Mode.Preferred) =>
        new(_network, new DnsCache(_network, new DnsOptions(), _time), ssl ?? _authority.Trust(), mode, _time);
}
