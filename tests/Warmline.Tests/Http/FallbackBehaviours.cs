using System.Net;
using System.Net.Security;
using System.Net.WebSockets;
using Warmline.Tests.Support;

namespace Warmline.Tests.Http;

/// <summary>Servers whose HTTP/2 is refused or missing. The bare handler never tries it for calls of 1.1; the pool does, and must not lose them.</summary>
internal static class FallbackBehaviours
{
    const string Retries = "the server asks for HTTP/1.1, and the request allows it (RFC 9113, section 7)";

    public static Behaviour[] All { get; } =
    [
        new("1.1 OrLower, HTTP/2 refused by RST_STREAM HTTP_1_1_REQUIRED, 11 calls", side => RefusedAsync(side, HttpVersion.Version11, goAway: false), On: On.Http1),
        new("1.1 OrLower, HTTP/2 refused by GOAWAY HTTP_1_1_REQUIRED, 11 calls", side => RefusedAsync(side, HttpVersion.Version11, goAway: true), On: On.Http1),
        new("2.0 OrLower, HTTP/2 refused by RST_STREAM HTTP_1_1_REQUIRED, 11 calls", side => RefusedAsync(side, HttpVersion.Version20, goAway: false), Retries, On.Http1),
        new("a WebSocket (2.0 OrLower) to a server of 1.1", side => WebSocketAsync(side, SslApplicationProtocol.Http11), On: On.Http1),
        new("the same, to a server without ALPN", side => WebSocketAsync(side), On: On.Http1),
    ];

    static async Task<string> RefusedAsync(Side side, Version version, bool goAway)
    {
        var server = side.ServeTwo();
        server.OnFrame = async (connection, frame) =>
        {
            if (frame.Type is not RawHttp2Server.Headers)
            {
                return;
            }

            if (!goAway)
            {
                await connection.ResetAsync(frame.Stream, 13);
                return;
            }

            await connection.GoAwayAsync(0, 13, "");
            await connection.HangUpAsync();
            connection.Dispose();
        };
        var told = new List<string>();
        for (var call = 0; call < 11; call++)
        {
            told.Add(await Side.TellAsync(side.SendAsync(server.Post(version))));
        }

        return $"11 × {string.Join(", ", told.Distinct())}";
    }

    static async Task<string> WebSocketAsync(Side side, params SslApplicationProtocol[] protocols)
    {
        var server = side.ServeTwo(SslApplicationProtocol.Http11);
        server.Protocols = protocols;
        using var socket = new ClientWebSocket();
        socket.Options.HttpVersion = HttpVersion.Version20;
        socket.Options.HttpVersionPolicy = HttpVersionPolicy.RequestVersionOrLower;
        await socket.ConnectAsync(new UriBuilder(server.Address) { Scheme = "wss" }.Uri, side.Invoker, Side.Ct);
        var state = socket.State;
        socket.Abort();
        return $"{state}";
    }
}
