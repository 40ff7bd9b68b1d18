using System.Net;
using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Warmline.Options;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Transport;

/// <summary>Slots over real loopback connections, with the test as the server.</summary>
public abstract class SlotTestBase : IDisposable
{
    internal static readonly TimeSpan Limit = TimeSpan.FromSeconds(30);

    private protected readonly TestAuthority Authority = new();
    private protected readonly SystemNetwork Network = new(new TcpKeepAliveOptions());
    private protected readonly SlotEvents Events = new();
    private protected readonly ManualTime Time = new();
    private protected readonly CancellationToken Ct = TestContext.Current.CancellationToken;
    readonly X509Certificate2 _certificate;
    readonly RawServer _server = new();

    protected SlotTestBase() => _certificate = Authority.Issue();

    private protected X509Certificate2 Certificate => _certificate;

    private protected Dialer NewDialer() =>
        new(Network, new DnsCache(Network, new DnsOptions(), new ManualTime()), Authority.Trust(), Http2Mode.Preferred, new ManualTime());

    /// <summary>Dials a port of this machine; nothing was sent yet.</summary>
    private protected async Task<Slot> DialAsync(int port, HttpProtocols protocols, bool isHttps = true, Http2Options? options = null) =>
        new(await NewDialer().DialAsync(Key(port, protocols, isHttps), Limit, Ct), options ?? new(), Time, Events, "tag");

    /// <summary>A slot and the test's end of its TLS connection.</summary>
    private protected async Task<(Slot Slot, SslStream Server)> ConnectAsync(HttpProtocols protocols, Http2Options? options = null)
    {
        Task<SslStream> accepting = _server.AcceptTlsAsync(_certificate, protocols == HttpProtocols.Http2 ? SslApplicationProtocol.Http2 : SslApplicationProtocol.Http11);
        return (await DialAsync(_server.Port, protocols, options: options), await accepting);
    }

    /// <summary>A slot and the test's end of its plain connection.</summary>
    private protected async Task<(Slot Slot, Stream Server, DialedConnection Dialed)> ConnectPlainAsync()
    {
        Task<System.Net.Sockets.NetworkStream> accepting = _server.AcceptAsync();
        DialedConnection dialed = await NewDialer().DialAsync(Key(_server.Port, HttpProtocols.Http1, isHttps: false), Limit, Ct);
        return (new Slot(dialed, new(), Time, Events, null), await accepting, dialed);
    }

    private protected ConnectionKey Key(HttpProtocols protocols) => Key(_server.Port, protocols);

    private protected static ConnectionKey Key(int port, HttpProtocols protocols, bool isHttps = true) => new(isHttps, "localhost", port, null, protocols);

    private protected HttpRequestMessage Post(Slot slot, HttpContent? content = null, int? port = null, string scheme = "https") =>
        new(HttpMethod.Post, $"{scheme}://localhost:{port ?? _server.Port}/v1")
        {
            Version = slot.Version,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
            Content = content ?? new StringContent("hello"),
        };

    /// <summary>Reads a request whose body is "hello"; answers it.</summary>
    private protected async Task AnswerHttp1Async(Stream server, string answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    {
        await ReadRequestAsync(server);
        await server.WriteAsync(Encoding.ASCII.GetBytes(answer), Ct);
    }

    private protected async Task ReadRequestAsync(Stream server, string end = "hello")
    {
        var text = new StringBuilder();
        byte[] piece = new byte[4096];
        while (!text.ToString().EndsWith(end, StringComparison.Ordinal))
        {
            int count = await server.ReadAsync(piece, Ct);
            Assert.NotEqual(0, count);
            text.Append(Encoding.ASCII.GetString(piece, 0, count));
        }
    }

    /// <summary>One exchange, read to its end.</summary>
    private protected async Task ExchangeAsync(Slot slot, Stream server)
    {
        Task answering = AnswerHttp1Async(server);
        using HttpRequestMessage request = Post(slot);
        using HttpResponseMessage response = await slot.SendAsync(request, Ct);
        Assert.Equal("ok", await response.Content.ReadAsStringAsync(Ct));
        await answering;
    }

    /// <summary>The next request finds the connection gone, and is proved not to have been sent.</summary>
    private protected async Task AssertDeadAndNothingSentAsync(Slot slot, int? port = null)
    {
        long written = slot.BytesWritten;
        var content = new CountedContent();
        using HttpRequestMessage request = Post(slot, content, port);
        HttpRequestException error = await Assert.ThrowsAsync<HttpRequestException>(() => slot.SendAsync(request, Ct));
        Assert.IsType<SlotDeadException>(error.InnerException);
        Assert.Equal(HttpRequestError.ConnectionError, error.HttpRequestError);
        Assert.Equal(0, content.Serialized);
        Assert.Equal(written, slot.BytesWritten);
    }

    public virtual void Dispose()
    {
        _server.Dispose();
        _certificate.Dispose();
        Authority.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>Content that knows how often it was sent.</summary>
    internal sealed class CountedContent : HttpContent
    {
        public int Serialized { get; private set; }

        protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context)
        {
            Serialized++;
            return stream.WriteAsync("hello"u8.ToArray()).AsTask();
        }

        protected override bool TryComputeLength(out long length)
        {
            length = 5;
            return true;
        }
    }
}
