using Microsoft.AspNetCore.Http;
using System.Globalization;
using Warmline.Tests.Support;

namespace Warmline.Tests.Http;

/// <summary>A server that answers before it has the whole request body.</summary>
internal static class EarlyBehaviours
{
    const string Held = "the bare handler tells it only when the whole body is sent, which for a refused upload is waste, and for a server that stops reading never";

    const int First = 64 * 1024, Rest = 128 * 1024;

    public static Behaviour[] All { get; } =
    [
        new("401 while a chunked body is under way", side => RefusedAsync(side, 401, source => new StreamContent(source)), Held),
        new("413 while a body of known length is under way", side => RefusedAsync(side, 413, source => new StreamContent(source) { Headers = { ContentLength = First + Rest } }), Held),
        new("401 while a content of one's own is under way", side => RefusedAsync(side, 401, source => new OwnContent((stream, ct) => source.CopyToAsync(stream, ct))), Held + " (on HTTP/2 it tells it for contents of one's own)"),
        new("401 while a content that ignores its token is under way", side => RefusedAsync(side, 401, source => new OwnContent((stream, _) => source.CopyToAsync(stream, CancellationToken.None))), Held),
        new("401 on a connection that was used before", RefusedOnUsedAsync, Held),
        new("401 by a server that lets the stream open and reads no further", side => LeavesOpenAsync(side, new ByteArrayContent(new byte[10_000_000]), () => { }), "whoever has read the refusal needs no more of his body sent: the stream is reset, and the place in the pool is free", On.Http2),
        new("the same, from a content that waits and ignores its token", WaitsForeverAsync, "as above; nobody waits for the content", On.Http2),
        new("413 by a server that reads no further", StopsReadingAsync, Held, On.Http1),
        new("413 by a server that then resets the connection", ResetsAsync, "the bare handler fails in the write that the reset ends, and loses the answer behind it", On.Http1),
        new("103, a pause, then 401", side => InterimAsync(side, "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"), Held, On.Http1),
        new("a status line that comes byte by byte", side => InterimAsync(side, null), Held, On.Http1),
        new("200 while the body is under way", AcceptedAsync, "HTTP/2 tells it at once for contents of one's own, and the pool's way of sending makes all contents that; on HTTP/1.1 the platform "
            + "reads no answer before the body has ended, and a server that says 200 may want the rest"),
        new("the connection after an early answer", AfterAsync, "the rest of the body must not reach the server as if it were whole, so an HTTP/1.1 connection closes; a reset stream costs HTTP/2 nothing"),
        new("the server's end without an answer while the body is under way", HangUpAsync, "nobody will answer, so nothing more is sent", On.Http1),
        new("a response to a large body that was sent whole", WholeAsync),
    ];

    /// <summary>The answer comes while the content still waits.</summary>
    static async Task<string> RefusedAsync(Side side, int status, Func<GatedStream, HttpContent> content)
    {
        var address = await side.ServeAsync(async context =>
        {
            await context.Request.Body.ReadExactlyAsync(new byte[100], context.RequestAborted);
            context.Response.StatusCode = status;
            await context.Response.CompleteAsync();
        });
        return await RefusedAsync(side, address, content);
    }

    static async Task<string> RefusedAsync(Side side, Uri address, Func<GatedStream, HttpContent> content)
    {
        var source = new GatedStream(First, Rest);
        var call = side.PostAsync(address, content(source));
        var early = await side.ComesAsync(call);
        source.Open();
        return $"{await Side.TellAsync(call)} {(early ? "at once" : "after the body")}";
    }

    static async Task<string> RefusedOnUsedAsync(Side side)
    {
        var address = await side.ServeAsync(async context =>
        {
            if (context.Request.Method == "POST")
            {
                await context.Request.Body.ReadExactlyAsync(new byte[100], context.RequestAborted);
                context.Response.StatusCode = 401;
                await context.Response.CompleteAsync();
            }
        });
        (await side.GetAsync(address)).Dispose();
        return await RefusedAsync(side, address, source => new StreamContent(source));
    }

    static Task<string> WaitsForeverAsync(Side side)
    {
        var end = new TaskCompletionSource();
        return LeavesOpenAsync(side, new OwnContent(async (stream, _) =>
        {
            await stream.WriteAsync(new byte[20_000], CancellationToken.None);
            await stream.FlushAsync(CancellationToken.None);
            await end.Task;
        }), () => end.SetResult());
    }

    static async Task<string> LeavesOpenAsync(Side side, HttpContent content, Action endContent)
    {
        var reset = new TaskCompletionSource();
        var address = side.ServeFrames(async peer =>
        {
            RawHttp2Server.Frame frame;
            while ((frame = await peer.ReadAsync()).Type != RawHttp2Server.Headers)
            {
            }

            await peer.WriteAsync(RawHttp2Server.Headers, 4, frame.Stream, [0x08, 3, .. "401"u8]);
            await peer.WriteAsync(RawHttp2Server.Data, 1, frame.Stream, [.. "no"u8]);
            while ((await peer.ReadAsync()).Type != RawHttp2Server.Reset)
            {
            }

            reset.SetResult();
        });
        var call = side.PostAsync(address, content);
        var early = await side.ComesAsync(call);
        if (!early)
        {
            side.Client.CancelPendingRequests();
        }

        var outcome = await Side.TellAsync(call);
        var taken = await side.ComesAsync(reset.Task);
        endContent();
        return $"{(early ? $"{outcome} at once" : "held until the caller gives up")}; the rest is {(taken ? "taken back" : "still offered")}";
    }

    static async Task<string> StopsReadingAsync(Side side)
    {
        var (read, seen) = (new TaskCompletionSource(), new TaskCompletionSource<long>());
        const int Length = 64 * 1024 * 1024;
        var address = side.ServeRaw(async peer =>
        {
            await peer.ReadHeadAsync();
            await peer.SayAsync("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
            await read.Task;
            seen.SetResult((await peer.ReadToEndAsync()).Length);
        });
        var call = side.PostAsync(address, new ByteArrayContent(new byte[Length]));
        var early = await side.ComesAsync(call);
        read.SetResult();
        var outcome = await Side.TellAsync(call);
        side.Client.Dispose();   // closes the bare handler's connection, too
        return $"{outcome} {(early ? "at once" : "after the body")}; the server saw {(await seen.Task < Length ? "an unfinished body" : "the whole body")}";
    }

    static Task<string> ResetsAsync(Side side)
    {
        var address = side.ServeRaw(async peer =>
        {
            await peer.ReadHeadAsync();
            await peer.SayAsync("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");   // and closes with bytes unread: a reset
        });
        return Side.TellAsync(side.PostAsync(address, new ByteArrayContent(new byte[64 * 1024 * 1024])));
    }

    static async Task<string> InterimAsync(Side side, string? interim)
    {
        var (ended, source) = (new TaskCompletionSource<(long, bool)>(), new GatedStream(First, Rest));
        var address = side.ServeRaw(async peer =>
        {
            await peer.ReadHeadAsync();
            await peer.SayAsync(interim ?? "");
            await source.Waiting;
            foreach (var part in interim is null ? "HTTP/1.1 401 Un".Select(letter => letter.ToString()) : ["HTTP/1.1 401 Un"])
            {
                await peer.SayAsync(part);
            }

            await peer.SayAsync("authorized\r\nContent-Length: 2\r\n\r\nno");
            ended.SetResult(await peer.ReadToEndAsync());
        });
        var call = side.PostAsync(address, new StreamContent(source));
        var early = await side.ComesAsync(call);
        source.Open();
        var outcome = await Side.TellAsync(call);
        side.Client.Dispose();
        var (_, whole) = await ended.Task;
        return $"{outcome} {(early ? "at once" : "after the body")}; the server saw {(whole ? "the whole body" : "an unfinished body")}";
    }

    static async Task<string> AcceptedAsync(Side side)
    {
        var source = new GatedStream(First, Rest);
        var address = await side.ServeAsync(async context =>
        {
            await context.Response.Body.FlushAsync();
            var (total, buffer) = (0L, new byte[16 * 1024]);
            for (int read; (read = await context.Request.Body.ReadAsync(buffer)) > 0; total += read)
            {
            }

            await context.Response.WriteAsync(total.ToString(CultureInfo.InvariantCulture));
        });
        var call = side.PostAsync(address, new StreamContent(source));
        var early = await side.ComesAsync(call, never: !side.Http2);
        source.Open();
        return $"headers {(early ? "at once" : "after the body")}, then {await Side.TellAsync(call)}: the whole body arrives";
    }

    static async Task<string> AfterAsync(Side side)
    {
        var source = new GatedStream(First, Rest);
        var address = await side.ServeAsync(async context =>
        {
            await context.Request.Body.ReadExactlyAsync(new byte[100], context.RequestAborted);
            context.Response.StatusCode = 401;
            await context.Response.CompleteAsync();
        });
        var call = side.PostAsync(address, new StreamContent(source));
        await side.ComesAsync(call);
        if (!side.IsPool)
        {
            source.Open();
        }

        (await call).Dispose();
        return await side.AfterAsync(address);
    }

    static async Task<string> HangUpAsync(Side side)
    {
        var source = new GatedStream(First, Rest);
        var address = side.ServeRaw(async peer =>
        {
            await peer.ReadHeadAsync();
            await source.Waiting;
        });
        var call = side.PostAsync(address, new StreamContent(source));
        var early = await side.ComesAsync(call);
        source.Open();
        return $"{await Side.TellAsync(call)} {(early ? "at once" : "at the next write")}";
    }

    static async Task<string> WholeAsync(Side side)
    {
        var address = await side.ServeAsync(async context =>
        {
            await context.Request.Body.CopyToAsync(Stream.Null);
            await context.Response.WriteAsync("thanks");
        });
        var outcome = "";
        for (var round = 0; round < 20; round++)
        {
            outcome = await Side.TellAsync(side.PostAsync(address, new StreamContent(new MemoryStream(new byte[300_000]))));
        }

        return $"{outcome}; {await side.AfterAsync(address)}";
    }
}
