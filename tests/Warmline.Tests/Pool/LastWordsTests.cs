using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>What a server says last on a young connection reaches the caller: a TLS alert after the handshake, a GOAWAY and its text, or only an end.</summary>
public sealed class LastWordsTests
{
    const string WantsCertificate = "-Verify 1 -verify_return_error", Advice = "set SslOptions.ClientCertificates";

    static CancellationToken Ct => TestContext.Current.CancellationToken;

    public static TheoryData<string, string> Protocols => new()
    {
        { "-tls1_3", "h2" },
        { "-tls1_3", "http/1.1" },
        { "-tls1_3", "" },
        { "-tls1_2", "h2" },
        { "-tls1_2", "http/1.1" },
    };

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Protocols))]
    public async Task A_missing_client_certificate_is_named(string tls, string alpn)
    {
        await using var server = await OpenSslServer.StartAsync($"{tls} {WantsCertificate} {(alpn.Length > 0 ? $"-alpn {alpn}" : "")}");
        await using var pool = server.NewPool();
        using var client = pool.CreateClient();

        for (var call = 0; call < 3; call++)
        {
            AssertRefused(await FailAsync(client, server.Address), tls);
        }

        foreach (var error in await Task.WhenAll(Enumerable.Range(0, 10).Select(_ => FailAsync(client, server.Address))))
        {
            AssertRefused(error, tls);
        }

        await Eventually.TrueAsync(() => pool.GetStats() is { Active: 0, Queued: 0 }, () => Rig.Describe(pool.GetStats()));
        Assert.Equal(0, pool.GetStats().Faults.FailedUnknown);
        using var bare = server.NewBare();
        await Assert.ThrowsAsync<HttpRequestException>(() => bare.PostAsync(server.Address, new StringContent("{}"), Ct));
    }

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Protocols))]
    public async Task A_warm_up_knows_of_the_refusal(string tls, string alpn)
    {
        await using var server = await OpenSslServer.StartAsync($"{tls} {WantsCertificate} {(alpn.Length > 0 ? $"-alpn {alpn}" : "")}");
        await using var pool = server.NewPool();

        var error = await Assert.ThrowsAsync<PoolConnectException>(() => pool.WarmUpAsync(server.Address, 2, Ct));

        AssertRefused(error, tls);
        Assert.True(pool.GetStats().FailedDials > 0 || alpn is not "h2", Rig.Describe(pool.GetStats()));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("h2")]
    [InlineData("http/1.1")]
    public async Task A_client_certificate_that_is_not_accepted_is_named(string alpn)
    {
        await using var server = await OpenSslServer.StartAsync($"-tls1_3 {WantsCertificate} -alpn {alpn}");
        using var authority = new TestAuthority();
        using var certificate = authority.Issue("client");
        await using var pool = server.NewPool(options => options.SslOptions = server.Trust(certificate));
        using var client = pool.CreateClient();

        var error = await FailAsync(client, server.Address);

        Assert.Equal((DialPhase.Tls, RequestVerdict.NotSent), (error.Phase, error.Verdict));
        Assert.Matches("does not accept the client certificate|refused it with the alert", error.Message);
        Assert.DoesNotContain("Http2.Mode", error.Message, StringComparison.Ordinal);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("h2", true)]
    [InlineData("h2", false)]
    [InlineData("http/1.1", true)]
    [InlineData("http/1.1", false)]
    public async Task The_alert_may_come_before_or_after_the_request(string alpn, bool after)
    {
        await using var server = await OpenSslServer.StartAsync($"-tls1_3 {WantsCertificate} -alpn {alpn}");
        var network = new HeldBackNetwork(server.Port, after);
        await using var pool = server.NewPool(network: network);
        using var client = pool.CreateClient();

        AssertRefused(await FailAsync(client, server.Address), "-tls1_3");
        Assert.Equal(1, network.Connections);   // no fourfold dialling
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_refused_upload_hears_the_alert_behind_the_reset()
    {
        await using var server = await OpenSslServer.StartAsync($"-tls1_3 {WantsCertificate} -alpn http/1.1");
        await using var pool = server.NewPool();
        using var client = pool.CreateClient();
        foreach (var size in new[] { 10_000, 300_000, 5_000_000 })
        {
            var error = await Assert.ThrowsAsync<PoolConnectException>(() => client.PostAsync(server.Address, new ByteArrayContent(new byte[size]), Ct));

            AssertRefused(error, "-tls1_3");
        }
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, "FIN")]
    [InlineData(true, "RST")]
    [InlineData(true, "exact FIN")]
    [InlineData(false, "FIN")]
    [InlineData(false, "RST")]
    public async Task An_end_without_a_word_fails_every_call_and_leaves_nothing(bool http2, string how)
    {
        await using var server = Closing(http2, how);
        await using var pool = server.NewPool();
        using var client = pool.CreateClient();

        var errors = await Task.WhenAll(Enumerable.Range(0, 10).Select(async _ =>
        {
            var request = how.StartsWith("exact", StringComparison.Ordinal) ? server.Post(HttpVersion.Version20, HttpVersionPolicy.RequestVersionExact) : server.Post();
            return await Assert.ThrowsAnyAsync<HttpRequestException>(() => client.SendAsync(request, Ct));
        }));

        Assert.All(errors, static error => Assert.True(error is PoolConnectException or PoolRequestException, $"{error}"));
        await Eventually.TrueAsync(() => pool.GetStats() is { Active: 0, Queued: 0, Connections: 0 }, () => Rig.Describe(pool.GetStats()));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(false, "FIN", DialPhase.Tls)]
    [InlineData(false, "RST", DialPhase.Tls)]
    [InlineData(true, "FIN", DialPhase.Http2Settings)]
    public async Task A_warm_up_counts_no_connection_that_ended_at_once(bool http2, string how, DialPhase phase)
    {
        await using var server = Closing(http2, how);
        await using var pool = server.NewPool();

        var error = await Assert.ThrowsAsync<PoolConnectException>(() => pool.WarmUpAsync(server.Address, 2, Ct));

        // After HTTP/2, HTTP/1.1 is tried; whichever connection ended last is named.
        Assert.True(error.Phase == phase || (http2 && error.Phase is DialPhase.Tls), error.Message);
        Assert.Equal(RequestVerdict.NotSent, error.Verdict);
        Assert.Equal(error.Phase is DialPhase.Http2Settings, error.Message.Contains("SETTINGS", StringComparison.Ordinal));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(2, "INTERNAL_ERROR")]
    [InlineData(11, "ENHANCE_YOUR_CALM")]
    public async Task A_GOAWAY_before_SETTINGS_is_told_with_its_text(byte code, string name)
    {
        await using var server = new TwoProtocolServer(SslApplicationProtocol.Http2)
        {
            InsteadOfSettings = async (stream, _) =>
            {
                await stream.WriteAsync(new byte[] { 0, 0, 12, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, code, (byte)'f', (byte)'u', (byte)'l', (byte)'l' }, Ct);
                await stream.ShutdownAsync();
            },
        };
        await using var pool = server.NewPool();
        using var client = pool.CreateClient();

        var error = await Assert.ThrowsAsync<PoolConnectException>(() => client.SendAsync(server.Post(HttpVersion.Version20, HttpVersionPolicy.RequestVersionExact), Ct));

        Assert.Contains($"GOAWAY {name}: \"full\"", error.Message, StringComparison.Ordinal);
        Assert.NotEqual(RequestVerdict.Unknown, error.Verdict);   // after the first, no connection gets a call before its SETTINGS
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(0, RequestVerdict.Unprocessed)]
    [InlineData(1, RequestVerdict.Unknown)]
    public async Task A_GOAWAY_is_told_with_its_text(int lastStream, RequestVerdict verdict)
    {
        await using var server = new TwoProtocolServer
        {
            OnFrame = async (connection, frame) =>
            {
                if (frame.EndsStream)
                {
                    await connection.GoAwayAsync(lastStream, 2, "disk full");
                    await connection.HangUpAsync();
                    connection.Dispose();
                }
            },
        };
        await using var pool = server.NewPool();
        using var client = pool.CreateClient();

        var error = await Assert.ThrowsAsync<PoolRequestException>(() => client.SendAsync(server.Post(HttpVersion.Version20, HttpVersionPolicy.RequestVersionExact), Ct));

        Assert.Equal(verdict, error.Verdict);
        Assert.Contains("INTERNAL_ERROR", error.Message, StringComparison.Ordinal);
        Assert.Contains("\"disk full\"", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("error:0A00045C:SSL routines::tlsv13 alert certificate required", 116, true)]
    [InlineData("error:0A000412:SSL routines::sslv3 alert bad certificate", 42, true)]
    [InlineData("error:0A000418:SSL routines::tlsv1 alert unknown ca", 48, true)]
    [InlineData("error:0A000460:SSL routines::tlsv1 alert no application protocol", 120, true)]
    [InlineData("error:0A000438:SSL routines::tlsv1 alert internal error", 80, false)]
    [InlineData("error:0A0003FC:SSL routines::sslv3 alert bad record mac", 20, false)]
    [InlineData("error:0A000126:SSL routines::unexpected eof while reading", null, false)]
    [InlineData("error:0A00", null, false)]
    [InlineData("Connection reset by peer", null, false)]
    public void The_alert_is_found_in_the_error(string message, int? code, bool isOfHandshake)
    {
        var alert = TlsAlert.Of(new IOException("The decryption operation failed, see inner exception.", new InvalidOperationException("Decrypt failed", new InvalidOperationException(message))));

        Assert.Equal((code, isOfHandshake), (alert?.Code, alert?.IsOfHandshake ?? false));
    }

    static TwoProtocolServer Closing(bool http2, string how) => new(http2 ? [SslApplicationProtocol.Http2, SslApplicationProtocol.Http11] : [SslApplicationProtocol.Http11])
    {
        InsteadOfSettings = (stream, socket) => EndAsync(stream, socket, how),
        InsteadOfHttp1 = (stream, socket) => EndAsync(stream, socket, how),
    };

    static Task EndAsync(SslStream stream, Socket socket, string how)
    {
        if (!how.EndsWith("RST", StringComparison.Ordinal))
        {
            return stream.ShutdownAsync();
        }

        socket.LingerState = new LingerOption(true, 0);
        socket.Close();
        return Task.CompletedTask;
    }

    static void AssertRefused(PoolConnectException error, string tls)
    {
        Assert.Equal((DialPhase.Tls, RequestVerdict.NotSent, HttpRequestError.SecureConnectionError), (error.Phase, error.Verdict, error.HttpRequestError));
        if (tls is "-tls1_3")
        {
            Assert.Contains("\"certificate required\" (116)", error.Message, StringComparison.Ordinal);
            Assert.Contains(Advice, error.Message, StringComparison.Ordinal);
        }

        Assert.DoesNotContain("Http2.Mode", error.Message, StringComparison.Ordinal);
        Assert.Contains("alert", $"{error.InnerException}", StringComparison.Ordinal);
    }

    static async Task<PoolConnectException> FailAsync(HttpClient client, Uri address)
    {
        var error = await Assert.ThrowsAnyAsync<Exception>(() => client.PostAsync(address, new StringContent("{}", Encoding.UTF8, "application/json"), Ct));
        return Assert.IsType<PoolConnectException>(error);
    }

    /// <summary>Holds back what the server says after its part of the handshake until the client has written so often.</summary>
    sealed class HeldBackNetwork(int port, bool afterRequest) : INetwork
    {
        int _connections;

        public int Connections => Volatile.Read(ref _connections);

        public ValueTask<IPAddress[]> ResolveAsync(string host, CancellationToken cancellationToken) => new([IPAddress.Loopback]);

        public async ValueTask<Stream> ConnectAsync(IPEndPoint endPoint, CancellationToken cancellationToken)
        {
            Interlocked.Increment(ref _connections);
            var socket = new Socket(SocketType.Stream, ProtocolType.Tcp);
            await socket.ConnectAsync(new IPEndPoint(IPAddress.Loopback, port), cancellationToken);
            return new HeldBackStream(new NetworkStream(socket, ownsSocket: true), afterRequest);
        }
    }

    /// <summary>The client writes its hello, its last flight, and then the request. Reads behind its last flight wait for the request, or, the other way round, the
    /// request waits for the alert.</summary>
    sealed class HeldBackStream(NetworkStream inner, bool afterRequest) : PassingStream(inner)
    {
        readonly TaskCompletionSource _written = new(TaskCreationOptions.RunContinuationsAsynchronously);
        readonly TaskCompletionSource _heard = new(TaskCreationOptions.RunContinuationsAsynchronously);
        int _writes;

        public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            if (Volatile.Read(ref _writes) < 2)
            {
                return await inner.ReadAsync(buffer, cancellationToken);
            }

            if (afterRequest)
            {
                await _written.Task.WaitAsync(cancellationToken);
            }

            var count = await inner.ReadAsync(buffer, cancellationToken);
            _heard.TrySetResult();
            return count;
        }

        public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            if (Interlocked.Increment(ref _writes) > 2 && !afterRequest)
            {
                await _heard.Task.WaitAsync(cancellationToken);
            }

            try
            {
                await inner.WriteAsync(buffer, cancellationToken);
            }
            finally
            {
                if (Volatile.Read(ref _writes) > 2)
                {
                    _written.TrySetResult();
                }
            }
        }
    }
}
