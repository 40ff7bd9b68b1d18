using System.Net;
using System.Net.Security;
using System.Net.WebSockets;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>A WebSocket that may use HTTP/1.1 gets it from a server without HTTP/2, and an extended CONNECT is never sent over HTTP/1.1.</summary>
public sealed class WebSocketDowngradeTests
{
    static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Theory(Timeout = Rig.Patience)]
    [InlineData("http/1.1", "2.0", HttpVersionPolicy.RequestVersionOrLower, Http2Mode.Preferred)]
    [InlineData("http/1.1", "1.1", HttpVersionPolicy.RequestVersionOrHigher, Http2Mode.Preferred)]
    [InlineData("", "2.0", HttpVersionPolicy.RequestVersionOrLower, Http2Mode.Preferred)]
    [InlineData("http/1.1", "2.0", HttpVersionPolicy.RequestVersionOrLower, Http2Mode.Disabled)]
    [InlineData("", "2.0", HttpVersionPolicy.RequestVersionOrLower, Http2Mode.Disabled)]
    [InlineData("http/1.1", "1.1", HttpVersionPolicy.RequestVersionOrHigher, Http2Mode.Disabled)]
    [InlineData("h2", "2.0", HttpVersionPolicy.RequestVersionOrLower, Http2Mode.Preferred)]
    [InlineData("http/1.1", "1.1", HttpVersionPolicy.RequestVersionOrLower, Http2Mode.Preferred)]
    public async Task It_connects_over_HTTP1(string alpn, string version, HttpVersionPolicy policy, Http2Mode mode)
    {
        await using var server = new TwoProtocolServer
        {
            Protocols = alpn switch { "h2" => [SslApplicationProtocol.Http2, SslApplicationProtocol.Http11], "" => [], _ => [SslApplicationProtocol.Http11] },
            OnFrame = static (connection, frame) => frame.Type is RawHttp2Server.Headers ? connection.ResetAsync(frame.Stream, 13) : Task.CompletedTask,
        };
        await using var pool = server.NewPool(options => options.Http2.Mode = mode);

        Assert.Equal(WebSocketState.Open, await ConnectAsync(server, pool.CreateHandler(), version, policy));
        if (alpn != "h2")
        {
            using var bare = new SocketsHttpHandler { SslOptions = server.Trust() };
            Assert.Equal(WebSocketState.Open, await ConnectAsync(server, bare, version, policy));
        }

        Assert.DoesNotContain(server.Http1Requests, static line => line.StartsWith("CONNECT", StringComparison.Ordinal));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(HttpVersionPolicy.RequestVersionExact, Http2Mode.Preferred)]
    [InlineData(HttpVersionPolicy.RequestVersionOrHigher, Http2Mode.Preferred)]
    [InlineData(HttpVersionPolicy.RequestVersionExact, Http2Mode.Disabled)]
    public async Task Whoever_insists_on_HTTP2_fails(HttpVersionPolicy policy, Http2Mode mode)
    {
        await using var server = new TwoProtocolServer(SslApplicationProtocol.Http11);
        await using var pool = server.NewPool(options => options.Http2.Mode = mode);

        await Assert.ThrowsAsync<WebSocketException>(() => ConnectAsync(server, pool.CreateHandler(), "2.0", policy));
        Assert.Empty(server.Http1Requests);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("https", Http2Mode.Preferred, HttpVersionPolicy.RequestVersionOrLower)]
    [InlineData("https", Http2Mode.Disabled, HttpVersionPolicy.RequestVersionOrLower)]
    [InlineData("https", Http2Mode.Disabled, HttpVersionPolicy.RequestVersionExact)]
    [InlineData("https", Http2Mode.Preferred, HttpVersionPolicy.RequestVersionExact)]
    public async Task An_extended_CONNECT_is_marked_and_never_sent_over_HTTP1(string scheme, Http2Mode mode, HttpVersionPolicy policy)
    {
        await using var server = new TwoProtocolServer(SslApplicationProtocol.Http11);
        await using var pool = server.NewPool(options => options.Http2.Mode = mode);
        using var invoker = new HttpMessageInvoker(pool.CreateHandler());
        using var request = new HttpRequestMessage(HttpMethod.Connect, new UriBuilder(server.Address) { Scheme = scheme }.Uri) { Version = HttpVersion.Version20, VersionPolicy = policy };
        request.Headers.Protocol = "websocket";

        var error = await Assert.ThrowsAnyAsync<HttpRequestException>(() => invoker.SendAsync(request, Ct));

        Assert.Equal(false, error.Data["HTTP2_ENABLED"]);
        Assert.Equal(RequestVerdict.NotSent, (error as PoolRequestException)?.Verdict ?? ((PoolConnectException)error).Verdict);
        Assert.Empty(server.Http1Requests);
        Assert.Equal(0, pool.GetStats().Active);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(HttpVersionPolicy.RequestVersionExact)]
    [InlineData(HttpVersionPolicy.RequestVersionOrHigher)]
    public async Task A_request_that_insists_on_HTTP2_is_refused_where_the_pool_has_none(HttpVersionPolicy policy)
    {
        await using var server = new TwoProtocolServer();
        await using var pool = server.NewPool(static options => options.Http2.Mode = Http2Mode.Disabled);
        using var client = pool.CreateClient();
        using var request = new HttpRequestMessage(HttpMethod.Get, server.Address) { Version = HttpVersion.Version20, VersionPolicy = policy };

        var error = await Assert.ThrowsAsync<PoolRequestException>(() => client.SendAsync(request, Ct));

        Assert.Equal((HttpRequestError.VersionNegotiationError, RequestVerdict.NotSent), (error.HttpRequestError, error.Verdict));
        Assert.Equal((0, 0), (server.Http1Connections, server.Http2Connections));
    }

    static async Task<WebSocketState> ConnectAsync(TwoProtocolServer server, HttpMessageHandler handler, string version, HttpVersionPolicy policy)
    {
        using var socket = new ClientWebSocket();
        socket.Options.HttpVersion = Version.Parse(version);
        socket.Options.HttpVersionPolicy = policy;
        using var invoker = new HttpMessageInvoker(handler, disposeHandler: false);
        await socket.ConnectAsync(new UriBuilder(server.Address) { Scheme = "wss" }.Uri, invoker, Ct);
        var state = socket.State;
        socket.Abort();
        return state;
    }
}
