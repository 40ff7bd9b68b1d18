using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;
using Warmline.Tests.Http;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>Servers that speak before they are asked: on a fresh connection that is the answer to its first request, as without the pool.</summary>
public sealed class UnaskedTests
{
    const string Busy = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy";

    static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Theory(Timeout = Rig.Patience)]
    [InlineData(Busy, "503 busy")]
    [InlineData("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n", "429 ")]
    [InlineData("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n", "408 ")]
    [InlineData("HTTP/1.0 503 Busy\r\n\r\nbusy", "503 busy")]
    [InlineData("SSH-2.0-OpenSSH_9.2\r\n", "InvalidResponse: 'SSH-2.0-")]
    [InlineData("220 mail.example ESMTP\r\n", "InvalidResponse: '220 mail")]
    public async Task What_comes_first_on_a_fresh_connection_is_its_answer(string words, string told)
    {
        var network = new SpeakingNetwork(words);
        await using var pool = new ConnectionPool(new ConnectionPoolOptions(), null, null, network);
        using var client = pool.CreateClient(new Uri("http://provider.test/"));

        for (var call = 1; call <= 30; call++)
        {
            Assert.StartsWith(told, await TellAsync(client), StringComparison.Ordinal);
            Assert.InRange(network.Connections, 1, call);
        }

    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_server_that_refuses_at_accept_is_heard_as_without_the_pool(bool isTls)
    {
        await using var server = new SpeakingServer(isTls, Busy);
        await using var pool = server.NewPool();
        using var client = pool.CreateClient(server.Address);
        using var bare = server.NewBare();

        for (var call = 1; call <= 30; call++)
        {
            Assert.Equal("503 busy", await TellAsync(client));
            Assert.Equal(call, server.Connections);
        }

        Assert.Equal("503 busy", await TellAsync(bare));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Twenty_calls_at_once_hear_it_each_on_its_own_connection()
    {
        await using var server = new SpeakingServer(isTls: true, Busy);
        await using var pool = server.NewPool();
        using var client = pool.CreateClient(server.Address);

        var answers = await Task.WhenAll(Enumerable.Range(0, 20).Select(_ => TellAsync(client)));

        Assert.True(answers.All(static answer => answer is "503 busy"), string.Join("; ", answers));
        Assert.Equal(0, pool.GetStats().Faults.RetriedNotSent);
        Assert.InRange(server.Connections, 20, 28);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_long_answer_that_comes_first_is_whole()
    {
        var body = new string('x', 100_000);
        var network = new SpeakingNetwork($"HTTP/1.1 503 Service Unavailable\r\nContent-Length: {body.Length}\r\n\r\n{body}");
        await using var pool = new ConnectionPool(new ConnectionPoolOptions(), null, null, network);
        using var client = pool.CreateClient(new Uri("http://provider.test/"));

        Assert.Equal("503 " + body, await TellAsync(client));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task An_upload_hears_it_too()
    {
        await using var server = new SpeakingServer(isTls: false, Busy);
        await using var pool = server.NewPool();
        using var client = pool.CreateClient(server.Address);

        Assert.Equal("503 busy", await TellAsync(client, new ByteArrayContent(new byte[3_000_000])));
        Assert.Equal(1, server.Connections);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task On_a_connection_that_was_used_it_is_no_answer()
    {
        var spoke = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var server = new RawHttp1Server(async peer =>
        {
            while (await peer.ReadHeadAsync() is not "")
            {
                await peer.ReadAsync(1);
                await peer.SayAsync(RawHttp1.Ok("mine") + (peer.Number == 0 ? RawHttp1.Ok("stray") : ""));
                spoke.TrySetResult();
            }
        });
        await using var pool = new ConnectionPool(new ConnectionPoolOptions());
        using var client = pool.CreateClient(new Uri($"http://localhost:{server.Port}/"));

        Assert.Equal("200 mine", await TellAsync(client));
        Assert.Equal("200 mine", await TellAsync(client));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task On_a_connection_that_waited_for_long_it_is_a_farewell()
    {
        // As HAProxy and Apache do: 408 to a connection on which no request came for seconds.
        var time = new ManualTime();
        await using var server = new RawHttp1Server(async peer =>
        {
            if (peer.Number == 0)
            {
                await Late.Task;
                await peer.SayAsync("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }

            while (await peer.ReadHeadAsync() is not "")
            {
                await peer.ReadAsync(1);
                await peer.SayAsync(RawHttp1.Ok("mine"));
            }
        });
        await using var pool = new ConnectionPool(new ConnectionPoolOptions(), null, time);
        using var client = pool.CreateClient(new Uri($"http://localhost:{server.Port}/"));
        await pool.WarmUpAsync(new Uri($"http://localhost:{server.Port}"), 1, Ct);

        time.Advance(TimeSpan.FromSeconds(3));
        Late.SetResult();
        await Eventually.TrueAsync(() => pool.GetStats().Connections == 0, () => Rig.Describe(pool.GetStats()));

        Assert.Equal("200 mine", await TellAsync(client));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_warm_connection_that_was_refused_does_not_keep_the_refusal_for_a_later_call()
    {
        var time = new ManualTime();
        var network = new SpeakingNetwork(Busy);
        await using var pool = new ConnectionPool(new ConnectionPoolOptions(), null, time, network);
        using var client = pool.CreateClient(new Uri("http://provider.test/"));
        await Record.ExceptionAsync(() => pool.WarmUpAsync(new Uri("http://provider.test"), 1, Ct));   // whether it hears the refusal in time is not the matter here

        time.Advance(TimeSpan.FromSeconds(5));
        network.Words = RawHttp1.Ok("well");

        Assert.Equal("200 well", await TellAsync(client));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_warm_up_over_TLS_names_what_the_server_said()
    {
        await using var server = new SpeakingServer(isTls: true, Busy);
        await using var pool = server.NewPool();

        // On a busy machine the words may come too late for a warm-up.
        Exception? error = null;
        for (var attempt = 0; error is null && attempt < 20; attempt++)
        {
            error = await Record.ExceptionAsync(() => pool.WarmUpAsync(server.Address, 1, Ct));
            pool.Reconnect();
        }

        Assert.Contains("HTTP/1.1 503 Service Unavailable", Assert.IsType<PoolConnectException>(error).Message, StringComparison.Ordinal);
    }

    TaskCompletionSource Late { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    static async Task<string> TellAsync(HttpClient client, HttpContent? content = null)
    {
        try
        {
            using var response = await client.PostAsync("", content ?? new StringContent("x"), Ct);
            return $"{(int)response.StatusCode} {await response.Content.ReadAsStringAsync(Ct)}";
        }
        catch (HttpRequestException error)
        {
            var at = error.Message.IndexOf('\'', StringComparison.Ordinal);
            return $"{error.HttpRequestError}: {(at < 0 ? error.Message : error.Message[at..])}";
        }
    }

    /// <summary>Each of its connections has the words readable at once.</summary>
    sealed class SpeakingNetwork(string words) : Warmline.Transport.INetwork
    {
        int _connections;

        public string Words { get; set; } = words;

        public int Connections => Volatile.Read(ref _connections);

        public ValueTask<IPAddress[]> ResolveAsync(string host, CancellationToken cancellationToken) => new([IPAddress.Loopback]);

        public ValueTask<Stream> ConnectAsync(IPEndPoint endPoint, CancellationToken cancellationToken)
        {
            Interlocked.Increment(ref _connections);
            return new(new SpeakingStream(new MemoryStream(Encoding.ASCII.GetBytes(Words))));
        }
    }

    /// <summary>Reads what is there, then the end; writes go nowhere.</summary>
    sealed class SpeakingStream(MemoryStream words) : PassingStream(words)
    {
        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) => new(words.Read(buffer.Span));

        public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) => default;

        public override Task FlushAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }

    /// <summary>Says its words at accept, then reads what comes.</summary>
    sealed class SpeakingServer : IAsyncDisposable
    {
        readonly TestAuthority _authority = new();
        readonly System.Security.Cryptography.X509Certificates.X509Certificate2 _certificate;
        readonly RawServer _server = new();
        readonly bool _isTls;
        readonly Task _accepting;
        int _connections;

        public SpeakingServer(bool isTls, string words)
        {
            _isTls = isTls;
            _certificate = _authority.Issue();
            _accepting = AcceptAsync(words);
        }

        public Uri Address => new($"{(_isTls ? "https" : "http")}://localhost:{_server.Port}/");

        public int Connections => Volatile.Read(ref _connections);

        public ConnectionPool NewPool() => new(new ConnectionPoolOptions { SslOptions = _authority.Trust() });

        public HttpClient NewBare() => new(new SocketsHttpHandler { SslOptions = _authority.Trust() }) { BaseAddress = Address };

        public async ValueTask DisposeAsync()
        {
            _server.Dispose();
            await _accepting;
            _certificate.Dispose();
            _authority.Dispose();
        }

        async Task AcceptAsync(string words)
        {
            try
            {
                while (true)
                {
                    var stream = await _server.AcceptAsync();
                    Interlocked.Increment(ref _connections);
                    _ = PlayAsync(stream, words);
                }
            }
            catch (Exception error) when (error is SocketException or ObjectDisposedException or OperationCanceledException or InvalidOperationException)
            {
                // The listener was closed.
            }
        }

        async Task PlayAsync(NetworkStream wire, string words)
        {
            try
            {
                await using Stream stream = _isTls ? new SslStream(wire) : wire;
                if (stream is SslStream secured)
                {
                    await secured.AuthenticateAsServerAsync(
                        new SslServerAuthenticationOptions { ServerCertificate = _certificate, ApplicationProtocols = [SslApplicationProtocol.Http11] }, Ct);
                }

                await stream.WriteAsync(Encoding.ASCII.GetBytes(words), Ct);
                var buffer = new byte[64 * 1024];
                while (await stream.ReadAsync(buffer, Ct) > 0)
                {
                    // Until the client ends it.
                }
            }
            catch (Exception error) when (error is IOException or OperationCanceledException)
            {
                // The client has gone.
            }
        }
    }
}
