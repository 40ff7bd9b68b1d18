using System.Net;
using System.Net.Http.Headers;
using System.Net.WebSockets;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Warmline.Tests.Support;

namespace Warmline.Tests.Http;

/// <summary>What servers answer, odd answers included.</summary>
internal static class AnswerBehaviours
{
    const string Ends = "such an answer ends its connection (RFC 9112, section 9.3); a second call on it would be lost when the server closes";

    public static Behaviour[] All { get; } =
    [
        new("HEAD with a length", HeadAsync),
        new("204", side => EmptyAsync(side, 204)),
        new("304 with a length", side => EmptyAsync(side, 304)),
        new("200 with `Content-Length: 0`: the place is free before the answer is disposed", side => EmptyAsync(side, 200)),
        new("103 Early Hints before the answer", InterimAsync),
        new("trailers", TrailersAsync),
        new("101: a WebSocket's echo, then its end", WebSocketAsync, On: On.Http1),
        new("200 to CONNECT: a WebSocket's echo over HTTP/2", WebSocketOverHttp2Async, On: On.Http2),
        new("a header that comes twice, one without a value, one unknown", HeadersAsync),
        new("400 headers", ManyAsync),
        new("60 KB of headers", side => LargeAsync(side, 60)),
        new("100 KB of headers", side => LargeAsync(side, 100)),
        new("an HTTP/1.0 answer without a length", side => RawAsync(side, "HTTP/1.0 200 OK\r\n\r\nhello", closes: true), On: On.Http1),
        new("an answer without a length", side => RawAsync(side, "HTTP/1.1 200 OK\r\n\r\nhello", closes: true), On: On.Http1),
        new("chunks with extensions", side => RawAsync(side, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b;c=\"d\"\r\nhel\r\n2 ; e\r\nlo\r\n0\r\n\r\n"), On: On.Http1),
        new("a length of 500 beside chunks of 5 bytes", side => TwoAsync(side, "Content-Length: 500\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), On: On.Http1),
        new("a length of 0 beside chunks of 5 bytes", side => TwoAsync(side, "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), On: On.Http1),
        new("the same length twice", side => RawAsync(side, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", closes: true), On: On.Http1),
        new("two lengths that differ", side => RawAsync(side, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", closes: true), On: On.Http1),
        new("chunks that break off", side => RawAsync(side, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nwo", closes: true), On: On.Http1),
        new("chunks of nonsense", side => RawAsync(side, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nhello", closes: true), On: On.Http1),
        new("no HTTP at all", side => RawAsync(side, "SSH-2.0-OpenSSH_9.2\r\n", closes: true), On: On.Http1),
        new("a refusal that is sent before the request (503 at accept), 10 calls", side => FirstWordsAsync(side, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy"), On: On.Http1),
        new("a greeting of another protocol, sent before the request", side => FirstWordsAsync(side, "SSH-2.0-OpenSSH_9.2\r\n", calls: 1), On: On.Http1),
        new("no answer", side => RawAsync(side, "", closes: true), On: On.Http1),
        new("a body shorter than its length", side => WrongLengthAsync(side, "5", "hel"), "the platform does not compare on HTTP/2, and a cut answer would pass as whole"),
        new("a body longer than its length", side => WrongLengthAsync(side, "3", "hello")),
        new("`Connection: close` on every answer", CloseAsync, On: On.Http1),
        new("HTTP/1.0 with a length on every answer", side => OftenAsync(side, "HTTP/1.0 200 OK\r\n"), Ends, On.Http1),
        new("the same with `Connection: keep-alive`", side => OftenAsync(side, "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n"), On: On.Http1),
    ];

    /// <summary>A server that speaks at accept and then reads what comes.</summary>
    static async Task<string> FirstWordsAsync(Side side, string words, int calls = 10)
    {
        var connections = 0;
        var address = side.ServeRaw(async peer =>
        {
            Interlocked.Increment(ref connections);
            await peer.SayAsync(words);
            await peer.ReadToEndAsync();
        });
        var told = new List<string>();
        for (var call = 0; call < calls; call++)
        {
            told.Add(await Side.TellAsync(side.PostAsync(address, new StringContent("x"))));
        }

        return $"{calls} × {string.Join(", ", told.Distinct())} on {connections} connection{(connections == 1 ? "" : "s")}";
    }

    /// <summary>Two calls, one after the other.</summary>
    static async Task<string> TwoAsync(Side side, string answer)
    {
        var most = 0;
        var address = side.ServeRaw(async peer =>
        {
            most = Math.Max(most, peer.Number + 1);
            while (await peer.ReadHeadAsync() is not "")
            {
                await peer.SayAsync("HTTP/1.1 200 OK\r\n" + answer);
            }
        });
        var first = await Side.TellAsync(side.GetAsync(address));
        await side.SettledAsync();
        return $"{first}, {await Side.TellAsync(side.GetAsync(address))}; {(most == 1 ? "connection kept" : $"{most} connections")}";
    }

    static async Task<string> HeadAsync(Side side)
    {
        var address = await side.ServeAsync(context =>
        {
            context.Response.ContentLength = 5;
            return Task.CompletedTask;
        });
        using var response = await side.SendAsync(side.Request(HttpMethod.Head, address));
        return $"{(int)response.StatusCode}, length {response.Content.Headers.ContentLength}, {(await response.Content.ReadAsByteArrayAsync(Side.Ct)).Length} bytes; {await side.AfterAsync(address)}";
    }

    static async Task<string> EmptyAsync(Side side, int status)
    {
        var address = await side.ServeAsync(context =>
        {
            context.Response.StatusCode = status;
            if (status != 204)
            {
                context.Response.ContentLength = status == 304 ? 5 : 0;
            }

            return Task.CompletedTask;
        });
        using var response = await side.GetAsync(address);
        await side.SettledAsync();
        return $"{(int)response.StatusCode}, length {response.Content.Headers.ContentLength?.ToString() ?? "none"}, \"{await response.Content.ReadAsStringAsync(Side.Ct)}\"; {await side.AfterAsync(address)}";
    }

    static Task<string> InterimAsync(Side side)
    {
        var address = side.Http2
            ? side.ServeFrames(async peer =>
            {
                var stream = await peer.ReadRequestAsync();
                await peer.WriteAsync(RawHttp2Server.Headers, 4, stream, [0x08, 3, .. "103"u8]);
                await peer.WriteAsync(RawHttp2Server.Headers, 4, stream, [0x88]);
                await peer.WriteAsync(RawHttp2Server.Data, 1, stream, [.. "hello"u8]);
            })
            : side.ServeRaw(async peer =>
            {
                await peer.ReadHeadAsync();
                await peer.SayAsync("HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + RawHttp1.Ok("hello"));
            });
        return Side.TellAsync(side.PostAsync(address, new StringContent("x")));
    }

    static async Task<string> TrailersAsync(Side side)
    {
        var address = side.Http2
            ? await side.ServeAsync(async context =>
            {
                context.Response.DeclareTrailer("x-usage");
                await context.Response.WriteAsync("hello");
                context.Response.AppendTrailer("x-usage", "7");
            })
            : side.ServeRaw(async peer =>
            {
                await peer.ReadHeadAsync();
                await peer.SayAsync("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-usage\r\n\r\n5\r\nhello\r\n0\r\nx-usage: 7\r\n\r\n");
            });
        using var response = await side.GetAsync(address);
        var before = response.TrailingHeaders.Count();
        var body = await response.Content.ReadAsStringAsync(Side.Ct);
        return $"{body}; {before} before the end, then {Join(response.TrailingHeaders)}";
    }

    static async Task<string> WebSocketAsync(Side side)
    {
        var address = await side.ServeAsync(async context =>
        {
            context.Response.Headers.Upgrade = "websocket";
            context.Response.Headers["Sec-WebSocket-Accept"] = Accept(context.Request.Headers["Sec-WebSocket-Key"].ToString());
            await EchoAsync(context, await context.Features.GetRequiredFeature<IHttpUpgradeFeature>().UpgradeAsync());
        });
        return await TalkAsync(side, address);
    }

    static async Task<string> WebSocketOverHttp2Async(Side side)
    {
        var address = await side.ServeAsync(async context => await EchoAsync(context, await context.Features.GetRequiredFeature<IHttpExtendedConnectFeature>().AcceptAsync()));
        return await TalkAsync(side, address);
    }

    static async Task EchoAsync(HttpContext context, Stream stream)
    {
        using var socket = WebSocket.CreateFromStream(stream, new WebSocketCreationOptions { IsServer = true });
        var buffer = new byte[100];
        for (WebSocketReceiveResult got; (got = await socket.ReceiveAsync(buffer, context.RequestAborted)).MessageType != WebSocketMessageType.Close;)
        {
            await socket.SendAsync(buffer.AsMemory(0, got.Count), got.MessageType, got.EndOfMessage, context.RequestAborted);
        }

        await socket.CloseAsync(WebSocketCloseStatus.NormalClosure, null, context.RequestAborted);
    }

    static async Task<string> TalkAsync(Side side, Uri address)
    {
        using var client = new ClientWebSocket { Options = { HttpVersion = side.Version, HttpVersionPolicy = HttpVersionPolicy.RequestVersionExact } };
        await client.ConnectAsync(new UriBuilder(address) { Scheme = "wss" }.Uri, side.Invoker, Side.Ct);
        var said = "";
        foreach (var word in new[] { "one", "two" })
        {
            await client.SendAsync(Encoding.UTF8.GetBytes(word), WebSocketMessageType.Text, true, Side.Ct);
            var buffer = new byte[100];
            said += Encoding.UTF8.GetString(buffer, 0, (await client.ReceiveAsync(buffer, Side.Ct)).Count) + " ";
        }

        var held = side.Stats is not { Active: not 1 };
        await client.CloseAsync(WebSocketCloseStatus.NormalClosure, null, Side.Ct);
        client.Dispose();
        await side.SettledAsync();
        if (!side.Http2)
        {
            await side.NoConnectionAsync();
        }

        return $"{said}{(held ? "with a lease" : "without a lease")}, {(side.Http2 ? "whose stream" : "whose connection")} is closed then";
    }

    static string Accept(string key)
    {
#pragma warning disable CA5350 // What the protocol asks for.
        return Convert.ToBase64String(SHA1.HashData(Encoding.ASCII.GetBytes(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")));
#pragma warning restore CA5350
    }

    static async Task<string> HeadersAsync(Side side)
    {
        var address = await side.ServeAsync(context =>
        {
            context.Response.Headers.SetCookie = new(["a=1", "b=2"]);
            context.Response.Headers["x-empty"] = "";
            context.Response.Headers["x_odd.name"] = "ü \"quoted\", and=so;on";
            context.Response.Headers.ContentType = "text/plain;charset=\"utf-8\"";
            return Task.CompletedTask;
        }, kestrel => kestrel.ResponseHeaderEncodingSelector = _ => Encoding.Latin1);
        using var response = await side.GetAsync(address);
        var headers = response.Headers.NonValidated.Where(header => header.Key is not ("Date" or "Server")).OrderBy(header => header.Key, StringComparer.Ordinal).Select(header => $"{header.Key}={string.Join("+", header.Value)}");
        return $"{string.Join(", ", headers)}, {response.Content.Headers.ContentType}";
    }

    static async Task<string> ManyAsync(Side side)
    {
        var address = await side.ServeAsync(context =>
        {
            for (var i = 0; i < 400; i++)
            {
                context.Response.Headers[$"x-{i}"] = $"{i}";
            }

            return Task.CompletedTask;
        });
        using var response = await side.GetAsync(address);
        return $"{response.Headers.NonValidated.Count(header => header.Key.StartsWith("x-", StringComparison.Ordinal))} of them";
    }

    static async Task<string> LargeAsync(Side side, int kilobytes)
    {
        var address = await side.ServeAsync(context =>
        {
            for (var i = 0; i < kilobytes / 2; i++)
            {
                context.Response.Headers[$"x-{i:000}"] = new string('x', 1950);
            }

            return Task.CompletedTask;
        });
        return await Side.TellAsync(side.GetAsync(address));
    }

    static Task<string> RawAsync(Side side, string answer, bool closes = false)
    {
        var address = side.ServeRaw(async peer =>
        {
            await peer.ReadHeadAsync();
            await peer.SayAsync(answer);
            if (!closes)
            {
                await peer.ReadHeadAsync();
            }
        });
        return Side.TellAsync(side.PostAsync(address, null));
    }

    static Task<string> WrongLengthAsync(Side side, string length, string body)
    {
        var address = side.Http2
            ? side.ServeFrames(async peer =>
            {
                var stream = await peer.ReadRequestAsync();
                await peer.WriteAsync(RawHttp2Server.Headers, 4, stream, [0x88, 0x0F, 13, (byte)length.Length, .. Encoding.ASCII.GetBytes(length)]);
                await peer.WriteAsync(RawHttp2Server.Data, 1, stream, Encoding.ASCII.GetBytes(body));
            })
            : side.ServeRaw(async peer =>
            {
                await peer.ReadHeadAsync();
                await peer.SayAsync($"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
            });
        return Side.TellAsync(side.PostAsync(address, new StringContent("x")));
    }

    static async Task<string> CloseAsync(Side side)
    {
        var connections = new HashSet<string>();
        var address = await side.ServeAsync(async context =>
        {
            connections.Add(context.Connection.Id);
            context.Response.Headers.Connection = "close";
            await context.Response.WriteAsync("hello");
        });
        var outcomes = new List<string>();
        for (var i = 0; i < 5; i++)
        {
            outcomes.Add(await Side.TellAsync(side.PostAsync(address, new StringContent("x"))));
        }

        return $"{outcomes.Count(outcome => outcome == "200 \"hello\"")} calls on {connections.Count} connections";
    }

    static async Task<string> OftenAsync(Side side, string head)
    {
        var connections = 0;
        var address = side.ServeRaw(async peer =>
        {
            connections = Math.Max(connections, peer.Number + 1);
            while (await peer.ReadHeadAsync() is not "")
            {
                await peer.SayAsync(head + "Content-Length: 5\r\n\r\nhello");
            }
        });
        var outcomes = new List<string>();
        for (var i = 0; i < 5; i++)
        {
            outcomes.Add(await Side.TellAsync(side.PostAsync(address, null)));
        }

        return $"{outcomes.Count(outcome => outcome == "200 \"hello\"")} calls on {connections} {(connections == 1 ? "connection" : "connections")}";
    }

    static string Join(HttpResponseHeaders headers) => string.Join(", ", headers.Select(header => $"{header.Key}={string.Join('+', header.Value)}"));
}
