using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Support;

/// <summary>A TLS server of HTTP/2 and HTTP/1.1 whose every frame the test decides. Over HTTP/1.1 it answers each request with 200 "ok".</summary>
internal sealed class TwoProtocolServer : IAsyncDisposable
{
    readonly TestAuthority _authority;
    readonly bool _ownsAuthority;
    readonly X509Certificate2 _certificate;
    readonly RawServer _server = new();
    readonly ConcurrentQueue<string> _http1Bodies = new();
    readonly ConcurrentQueue<string> _http1Requests = new();
    readonly ConcurrentQueue<NetworkStream> _wires = new();
    readonly ConcurrentQueue<Task> _plays = new();
    readonly Task _accepting;
    int _http2Connections;
    int _http1Connections;
    int _http2Requests;
    int _broken;

    public TwoProtocolServer(params SslApplicationProtocol[] protocols)
        : this(null, protocols)
    {
    }

    /// <param name="authority">Who signs its certificate; one of its own if null.</param>
    /// <param name="protocols">What it speaks; HTTP/2 and HTTP/1.1 if there are none.</param>
    public TwoProtocolServer(TestAuthority? authority, params SslApplicationProtocol[] protocols)
    {
        _ownsAuthority = authority is null;
        _authority = authority ?? new TestAuthority();
        Protocols = protocols.Length > 0 ? protocols : [SslApplicationProtocol.Http2, SslApplicationProtocol.Http11];
        _certificate = _authority.Issue();
        _accepting = AcceptAsync();
    }

    public SslApplicationProtocol[] Protocols { get; set; }

    public Uri Address => new($"https://localhost:{_server.Port}/");

    /// <summary>What it does with each HTTP/2 frame but SETTINGS and PING.</summary>
    public Func<RawHttp2Server.Connection, RawHttp2Server.Frame, Task> OnFrame { get; set; } =
        static (connection, frame) => frame.EndsStream ? connection.AnswerAsync(frame.Stream, ended: true) : Task.CompletedTask;

    /// <summary>What it does on an HTTP/2 connection instead of sending SETTINGS.</summary>
    public Func<SslStream, Socket, Task>? InsteadOfSettings { get; set; }

    /// <summary>What it does on a connection that agreed on HTTP/1.1, or on nothing, instead of answering.</summary>
    public Func<SslStream, Socket, Task>? InsteadOfHttp1 { get; set; }

    public int Http2Connections => Volatile.Read(ref _http2Connections);

    public int Http1Connections => Volatile.Read(ref _http1Connections);

    /// <summary>HEADERS that came.</summary>
    public int Http2Requests => Volatile.Read(ref _http2Requests);

    /// <summary>Handshakes that failed.</summary>
    public int BrokenHandshakes => Volatile.Read(ref _broken);

    /// <summary>The first lines of the requests that came over HTTP/1.1.</summary>
    public IReadOnlyCollection<string> Http1Requests => _http1Requests;

    /// <summary>The bodies of the requests that came over HTTP/1.1.</summary>
    public IReadOnlyCollection<string> Http1Bodies => _http1Bodies;

    public SslClientAuthenticationOptions Trust() => _authority.Trust();

    public ConnectionPool NewPool(Action<ConnectionPoolOptions>? configure = null, TimeProvider? time = null, LogRecorder? logs = null)
    {
        var options = new ConnectionPoolOptions { SslOptions = Trust() };
        configure?.Invoke(options);
        return new ConnectionPool(options, logs, time);
    }

    public HttpClient NewBare() => new(new SocketsHttpHandler { SslOptions = Trust() });

    public HttpRequestMessage Post(Version? version = null, HttpVersionPolicy policy = HttpVersionPolicy.RequestVersionOrLower, string body = "{}") =>
        new(HttpMethod.Post, Address)
        {
            Version = version ?? HttpVersion.Version11,
            VersionPolicy = policy,
            Content = new StringContent(body, Encoding.UTF8, "application/json"),
        };

    public async ValueTask DisposeAsync()
    {
        _server.Dispose();
        await _accepting;
        foreach (var wire in _wires)
        {
            await wire.DisposeAsync();
        }

        await Task.WhenAll(_plays).ContinueWith(static ended => ended.Exception, TaskScheduler.Default);
        _certificate.Dispose();
        if (_ownsAuthority)
        {
            _authority.Dispose();
        }
    }

    async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                var wire = await _server.AcceptAsync();
                _wires.Enqueue(wire);
                _plays.Enqueue(PlayAsync(wire));
            }
        }
        catch (Exception error) when (error is SocketException or ObjectDisposedException or OperationCanceledException or InvalidOperationException)
        {
            // The listener was closed.
        }
    }

    async Task PlayAsync(NetworkStream wire)
    {
        await using var stream = new SslStream(wire);
        try
        {
            await stream.AuthenticateAsServerAsync(
                new SslServerAuthenticationOptions { ServerCertificate = _certificate, ApplicationProtocols = Protocols.Length == 0 ? null : [.. Protocols] },
                TestContext.Current.CancellationToken);
        }
        catch (Exception error) when (error is AuthenticationException or IOException)
        {
            Interlocked.Increment(ref _broken);
            return;
        }

        if (stream.NegotiatedApplicationProtocol != SslApplicationProtocol.Http2)
        {
            Interlocked.Increment(ref _http1Connections);
            await (InsteadOfHttp1 is { } http1 ? http1(stream, wire.Socket) : PlayHttp1Async(stream));
            return;
        }

        Interlocked.Increment(ref _http2Connections);
        if (InsteadOfSettings is { } play)
        {
            await play(stream, wire.Socket);
            return;
        }

        await stream.ReadExactlyAsync(new byte[24], TestContext.Current.CancellationToken);
        var connection = new RawHttp2Server.Connection(stream);
        await connection.WriteAsync(RawHttp2Server.Settings, 0, 0, []);
        await connection.ServeAsync(async (served, frame, _) =>
        {
            if (frame.Type is RawHttp2Server.Headers)
            {
                Interlocked.Increment(ref _http2Requests);
            }

            await OnFrame(served, frame);
        }, answersPings: true);
    }

    async Task PlayHttp1Async(SslStream stream)
    {
        using var reader = new StreamReader(stream, Encoding.Latin1);
        while (await reader.ReadLineAsync(TestContext.Current.CancellationToken) is { Length: > 0 } first)
        {
            _http1Requests.Enqueue(first);
            var (length, socket) = (0, (string?)null);
            while (await reader.ReadLineAsync(TestContext.Current.CancellationToken) is { Length: > 0 } line)
            {
                if (line.StartsWith("Content-Length:", StringComparison.OrdinalIgnoreCase))
                {
                    length = int.Parse(line.AsSpan(15), NumberStyles.AllowLeadingWhite, CultureInfo.InvariantCulture);
                }
                else if (line.StartsWith("Sec-WebSocket-Key:", StringComparison.OrdinalIgnoreCase))
                {
                    socket = line[18..].Trim();
                }
            }

            var body = new char[length];
            if (length > 0)   // a read of nothing would wait for more
            {
                await reader.ReadBlockAsync(body, TestContext.Current.CancellationToken);
            }

            _http1Bodies.Enqueue(new string(body));
            await stream.WriteAsync(Encoding.ASCII.GetBytes(socket is null ? RawOk : WebSockets.Accept(socket)), TestContext.Current.CancellationToken);
        }
    }

    const string RawOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
}

/// <summary>The server's half of a WebSocket's opening.</summary>
internal static class WebSockets
{
    /// <summary>RFC 6455, section 1.3. It asks for SHA-1.</summary>
    public static string Accept(string key)
    {
#pragma warning disable CA5350
        var hash = Convert.ToBase64String(System.Security.Cryptography.SHA1.HashData(Encoding.ASCII.GetBytes(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")));
#pragma warning restore CA5350
        return $"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {hash}\r\n\r\n";
    }
}
