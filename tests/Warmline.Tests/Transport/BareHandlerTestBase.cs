using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Transport;

/// <summary>The platform's own handler on one connection that the test opened for it, with the test as the server.</summary>
public abstract class BareHandlerTestBase : IDisposable
{
    readonly TestAuthority _authority = new();
    readonly X509Certificate2 _certificate;
    readonly string _host;
    readonly RawServer _server = new();
    int _asked;
    int _filtered;
    volatile bool _closed;

    /// <param name="host">The name in the certificate: sessions are kept by name, for the whole process.</param>
    protected BareHandlerTestBase(string host = "localhost") => (_host, _certificate) = (host, _authority.Issue(host));

    private protected CancellationToken Ct { get; } = TestContext.Current.CancellationToken;

    /// <summary>Connections that the handler asked for.</summary>
    private protected int Asked => Volatile.Read(ref _asked);

    /// <summary>Connections that it gave to the filter.</summary>
    private protected int Filtered => Volatile.Read(ref _filtered);

    /// <summary>Whether it disposed its connection.</summary>
    private protected bool IsClosed => _closed;

    public void Dispose()
    {
        _server.Dispose();
        _certificate.Dispose();
        _authority.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>A bare handler, set up as a slot's, whose one connection is open already, and the test's end of that connection.</summary>
    private protected async Task<(HttpMessageInvoker Invoker, Stream Server)> ConnectAsync(bool http2, bool tls = true, Action? onConnect = null, Action<SocketsHttpHandler>? configure = null)
    {
        (_asked, _filtered, _closed) = (0, 0, false);
        Stream client, server;
        if (tls)
        {
            (client, server) = await TlsPairAsync(http2 ? SslApplicationProtocol.Http2 : SslApplicationProtocol.Http11);
        }
        else
        {
            var accepting = _server.AcceptAsync();
            (client, server) = (await SocketAsync(), await accepting);
        }

        var handler = new SocketsHttpHandler
        {
            MaxConnectionsPerServer = 1,
            EnableMultipleHttp2Connections = false,
            PooledConnectionIdleTimeout = Timeout.InfiniteTimeSpan,
            PooledConnectionLifetime = Timeout.InfiniteTimeSpan,
            UseProxy = false,
            ResponseDrainTimeout = TimeSpan.Zero,
            ConnectCallback = (_, _) =>
            {
                if (Interlocked.Increment(ref _asked) > 1)
                {
                    throw new SecondConnection();
                }

                onConnect?.Invoke();
                return new(client);
            },
            PlaintextStreamFilter = (context, _) =>
            {
                Interlocked.Increment(ref _filtered);
                return new(new NotingStream(context.PlaintextStream, () => _closed = true));
            },
        };
        configure?.Invoke(handler);
        return (new HttpMessageInvoker(handler), server);
    }

    private protected async Task<(HttpMessageInvoker Invoker, Http2Peer Peer, Stream Server)> ConnectHttp2Async(byte limit = 100)
    {
        var (invoker, server) = await ConnectAsync(http2: true);
        var peer = new Http2Peer(server);
        _ = peer.ListenAsync();
        await peer.SaySettingsAsync(limit);
        return (invoker, peer, server);
    }

    private protected async Task<(SslStream Client, SslStream Server)> TlsPairAsync(SslApplicationProtocol protocol, Func<Stream, Stream>? wrap = null)
    {
        var accepting = _server.AcceptTlsAsync(_certificate, protocol);
        Stream socket = await SocketAsync();
        var client = new SslStream(wrap?.Invoke(socket) ?? socket);
        var options = _authority.Trust();
        (options.TargetHost, options.ApplicationProtocols) = (_host, [protocol]);
        await client.AuthenticateAsClientAsync(options, Ct);
        return (client, await accepting);
    }

    async Task<NetworkStream> SocketAsync()
    {
        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp);
        await socket.ConnectAsync(IPAddress.Loopback, _server.Port, Ct);
        return new NetworkStream(socket, ownsSocket: true);
    }

    private protected HttpRequestMessage Request(bool http2, HttpContent? content = null, string scheme = "https") => new(content is null ? HttpMethod.Get : HttpMethod.Post, $"{scheme}://localhost:{_server.Port}/")
    {
        Version = http2 ? HttpVersion.Version20 : HttpVersion.Version11,
        VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        Content = content,
    };

    /// <summary>One exchange; the version of its answer.</summary>
    private protected async Task<string> CallAsync(HttpMessageInvoker invoker, Stream server, bool http2, string scheme = "https", HttpRequestMessage? request = null)
    {
        using var own = Request(http2, scheme: scheme);
        var sending = invoker.SendAsync(request ?? own, Ct);
        if (http2)
        {
            var peer = new Http2Peer(server);
            _ = peer.ListenAsync();
            await peer.SaySettingsAsync(100);
            await peer.AnswerAsync(await peer.HearAsync(Http2Peer.Headers));
        }
        else
        {
            await ReadHeadAsync(server);
            await server.WriteAsync("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"u8.ToArray(), Ct);
        }

        using var response = await sending;
        return $"HTTP {response.Version}";
    }

    private protected async Task<string> ReadHeadAsync(Stream server)
    {
        var head = new StringBuilder();
        var one = new byte[1];
        while (!head.ToString().EndsWith("\r\n\r\n", StringComparison.Ordinal))
        {
            await server.ReadExactlyAsync(one, Ct);
            head.Append((char)one[0]);
        }

        return head.ToString();
    }

    /// <summary>Ends the connection without an answer, after what was sent was read: unread bytes would make it a reset.</summary>
    private protected async Task ShutDownAsync(Stream server, int unread)
    {
        await server.ReadExactlyAsync(new byte[unread], Ct);
        await server.DisposeAsync();
    }

    private protected sealed class SecondConnection() : IOException("A second connection.");

    /// <summary>Content that does not end before it is told to.</summary>
    private protected sealed class OpenContent : HttpContent
    {
        public TaskCompletionSource End { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context)
        {
            await stream.WriteAsync("half"u8.ToArray());
            await stream.FlushAsync();
            await End.Task;
        }

        protected override bool TryComputeLength(out long length)
        {
            length = 0;
            return false;
        }
    }

    /// <summary>Tells when it is disposed.</summary>
    sealed class NotingStream(Stream inner, Action disposed) : PassingStream(inner)
    {
        protected override void Dispose(bool disposing)
        {
            disposed();
            base.Dispose(disposing);
        }
    }
}
