using System.Globalization;
using System.Net;
using System.Net.Http.Json;
using System.Text;
using Microsoft.AspNetCore.Http;
using Warmline.Tests.Support;

namespace Warmline.Tests.Http;

/// <summary>How request bodies reach the server.</summary>
internal static class UploadBehaviours
{
    const string Lenient = "the content's target is the pool's own, which heeds no dispose; code that relies on it fails without the pool";
    const string Length = "the body is serialised ahead, so its length is known and sent (RFC 9110, section 8.6); servers that read no chunks take the body for empty, or for the next request";

    public static Behaviour[] All { get; } =
    [
        new("`Expect: 100-continue`, the server says 100", ContinueAsync, On: On.Http1),
        new("`Expect: 100-continue`, the server reads the body (Kestrel)", ContinueKestrelAsync),
        new("`Expect: 100-continue`, the server never says 100", NeverContinueAsync, On: On.Http1),
        new("`Expect: 100-continue`, the server answers 401", side => RefusedAsync(side, 401)),
        new("`Expect: 100-continue`, the server answers 417", side => RefusedAsync(side, 417)),
        new("`Expect: 100-continue`, 100 and 413 come together", ContinueAndRefuseAsync, "a refusal ends the upload, also after 100; the bare handler sends all of it first", On.Http1),
        new("a body of known length", side => EchoAsync(side, new ByteArrayContent(new byte[300_000]))),
        new("a body of unknown length", side => EchoAsync(side, new OwnContent((stream, ct) => stream.WriteAsync(new byte[300_000], ct).AsTask()))),
        new("`JsonContent` in a POST, which tells no length", side => EchoAsync(side, JsonContent.Create(new { text = new string('x', 2_000) })), Length),
        new("the same, 200 KB of it", side => EchoAsync(side, JsonContent.Create(new { text = new string('x', 200_000) })), Length),
        new("the same, with `TransferEncodingChunked`", side => EchoAsync(side, JsonContent.Create(new { text = new string('x', 2_000) }), request => request.Headers.TransferEncodingChunked = true), On: On.Http1),
        new("the same, as HTTP/1.0", side => EchoAsync(side, JsonContent.Create(new { text = new string('x', 2_000) }), request => request.Version = HttpVersion.Version10), "a length is all that HTTP/1.0 lacks, and it is known", On.Http1),
        new("the same, with `Expect: 100-continue`", ContinueJsonAsync, Length, On.Http1),
        new("the same, to a server that reads `Content-Length` only", LengthOnlyAsync, Length, On.Http1),
        new("the same, redirected with 307", RedirectedAsync, Length),
        new("JSON of a content of one's own that tells no length", side => EchoAsync(side, new OwnContent((stream, ct) => stream.WriteAsync(new byte[2_000], ct).AsTask()) { Headers = { ContentType = new("application/json") } })),
        new("a stream", side => EchoAsync(side, new StreamContent(new MemoryStream(new byte[300_000])))),
        new("a form with a file", side => EchoAsync(side, new MultipartFormDataContent("frontier") { { new StringContent("m"), "model" }, { new ByteArrayContent(new byte[100_000]), "file", "a.wav" } })),
        new("an empty body", side => EchoAsync(side, new ByteArrayContent([]))),
        new("POST without content", side => EchoAsync(side, null)),
        new("a content that writes synchronously", side => EchoAsync(side, new OwnContent((stream, _) => Task.Run(() => stream.Write(new byte[20_000], 0, 20_000)))), null, On.Http1),
        new("a content that writes while it reads the answer", DuplexAsync, On: On.Http2),
        new("a content that throws in its middle", ThrowsAsync),
        new("a content that throws at once", ThrowsAtOnceAsync),
        new("a content that disposes its target", side => DisposesAsync(side), Lenient),
        new("a content that disposes its target and writes on", side => DisposesAsync(side, "and on"), Lenient),
        new("a content shorter than its length", side => WrongLengthAsync(side, written: 50_000)),
        new("a content longer than its length", side => WrongLengthAsync(side, written: 150_000)),
    ];

    static async Task<string> ContinueAsync(Side side)
    {
        var asked = false;
        var address = side.ServeRaw(async peer =>
        {
            var head = await peer.ReadHeadAsync();
            var before = asked;
            await peer.SayAsync("HTTP/1.1 100 Continue\r\n\r\n");
            var body = await peer.ReadAsync(5);
            await peer.SayAsync(RawHttp1.Ok($"{(head.Contains("Expect: 100-continue", StringComparison.Ordinal) ? "asked" : "not asked")}, body {(before ? "before" : "after")} 100: {body}"));
        });
        return await Side.TellAsync(side.SendAsync(Expecting(side, address, new OwnContent((stream, ct) =>
        {
            asked = true;
            return stream.WriteAsync("hello"u8.ToArray(), ct).AsTask();
        }, 5))));
    }

    static async Task<string> ContinueKestrelAsync(Side side)
    {
        var address = await side.ServeAsync(context => AnswerLengthAsync(context, "Expect"));
        return $"{await Side.TellAsync(side.SendAsync(Expecting(side, address, new ByteArrayContent(new byte[300_000]))))}; {await side.AfterAsync(address)}";
    }

    static Task<string> NeverContinueAsync(Side side)
    {
        var address = side.ServeRaw(async peer =>
        {
            await peer.ReadHeadAsync();
            await peer.SayAsync(RawHttp1.Ok(await peer.ReadAsync(5)));
        });
        return Side.TellAsync(side.SendAsync(Expecting(side, address, new StringContent("hello"))));
    }

    static async Task<string> RefusedAsync(Side side, int status)
    {
        var asked = false;
        var address = await side.ServeAsync(context =>
        {
            context.Response.StatusCode = status;
            return Task.CompletedTask;
        });
        var outcome = await Side.TellAsync(side.SendAsync(Expecting(side, address, new OwnContent((stream, ct) =>
        {
            asked = true;
            return stream.WriteAsync(new byte[100_000], ct).AsTask();
        }, 100_000))));
        return $"{outcome}, the body {(asked ? "was sent" : "was not asked for")}";
    }

    static async Task<string> ContinueAndRefuseAsync(Side side)
    {
        var source = new GatedStream(64 * 1024, 64 * 1024);
        var address = side.ServeRaw(async peer =>
        {
            await peer.ReadHeadAsync();
            await peer.SayAsync("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
            await peer.ReadToEndAsync();
        });
        var call = side.SendAsync(Expecting(side, address, new StreamContent(source)));
        var early = await side.ComesAsync(call);
        source.Open();
        var outcome = await Side.TellAsync(call);
        side.Client.Dispose();
        return $"{outcome} {(early ? "at once" : "after the body")}";
    }

    static async Task<string> EchoAsync(Side side, HttpContent? content, Action<HttpRequestMessage>? change = null)
    {
        var address = await side.ServeAsync(context => AnswerLengthAsync(context, "Content-Length", "Transfer-Encoding"));
        var request = side.Request(HttpMethod.Post, address, content);
        change?.Invoke(request);
        var outcome = await Side.TellAsync(side.SendAsync(request));
        return outcome.StartsWith("200", StringComparison.Ordinal) ? $"{outcome}; {await side.AfterAsync(address)}" : outcome;
    }

    static async Task<string> ContinueJsonAsync(Side side)
    {
        var address = side.ServeRaw(async peer =>
        {
            var head = await peer.ReadHeadAsync();
            await peer.SayAsync("HTTP/1.1 100 Continue\r\n\r\n");
            var framing = head.Split("\r\n").Single(line => line.StartsWith("Content-Length", StringComparison.Ordinal) || line.StartsWith("Transfer-Encoding", StringComparison.Ordinal));
            await peer.ReadAsync(framing.StartsWith('C') ? 9 : 3 + 9 + 7);   // {"a":"b"}, in one chunk or plain
            await peer.SayAsync(RawHttp1.Ok(framing));
        });
        return await Side.TellAsync(side.SendAsync(Expecting(side, address, JsonContent.Create(new { a = "b" }))));
    }

    static async Task<string> LengthOnlyAsync(Side side)
    {
        var address = side.ServeRaw(async peer =>
        {
            while (await peer.ReadHeadAsync() is var head and not "")
            {
                const string Name = "Content-Length: ";
                if (head.IndexOf(Name, StringComparison.Ordinal) is >= 0 and var at)
                {
                    await peer.ReadAsync(int.Parse(head.AsSpan(at + Name.Length, head.IndexOf('\r', at) - at - Name.Length), CultureInfo.InvariantCulture));
                    await peer.SayAsync(RawHttp1.Ok("ok"));
                }
                else
                {
                    await peer.ReadHeadAsync();   // the chunks, which end as a head does
                    await peer.SayAsync("HTTP/1.1 400 Bad Request\r\nContent-Length: 9\r\n\r\nno length");
                }
            }
        });
        var first = await Side.TellAsync(side.PostAsync(address, JsonContent.Create(new { a = new string('x', 2_000) })));
        return $"{first}, then text: {await Side.TellAsync(side.PostAsync(address, new StringContent("hello")))}";
    }

    static async Task<string> RedirectedAsync(Side side)
    {
        side.AllowAutoRedirect = true;
        var first = "";
        var address = await side.ServeAsync(async context =>
        {
            if (context.Request.Path == "/")
            {
                first = $"{(context.Request.ContentLength is { } length ? $"Content-Length: {length}, " : "")}{await new StreamReader(context.Request.Body).ReadToEndAsync()}";
                context.Response.StatusCode = 307;
                context.Response.Headers.Location = "/end";
                return;
            }

            await AnswerLengthAsync(context, "Content-Length");
        });
        var outcome = await Side.TellAsync(side.PostAsync(address, JsonContent.Create(new { a = "b" })));
        return $"{first}; then {outcome}";
    }

    static async Task<string> DuplexAsync(Side side)
    {
        var address = await side.ServeAsync(async context =>
        {
            await context.Response.Body.FlushAsync();
            await context.Request.Body.CopyToAsync(context.Response.Body);
        });
        var said = new[] { new TaskCompletionSource(), new TaskCompletionSource() };
        using var response = await side.PostAsync(address, new OwnContent(async (stream, ct) =>
        {
            foreach (var (word, next) in new[] { "one ", "two ", "three" }.Zip([.. said.Select(each => each.Task), Task.CompletedTask]))
            {
                await stream.WriteAsync(System.Text.Encoding.ASCII.GetBytes(word), ct);
                await stream.FlushAsync(ct);
                await next.WaitAsync(ct);
            }
        }));
        await using var body = await response.Content.ReadAsStreamAsync(Side.Ct);
        var (text, buffer) = ("", new byte[100]);
        for (int read; (read = await body.ReadAsync(buffer, Side.Ct)) > 0;)
        {
            text += System.Text.Encoding.ASCII.GetString(buffer, 0, read);
            _ = text switch { "one " => said[0].TrySetResult(), "one two " => said[1].TrySetResult(), _ => false };
        }

        return $"echo word by word: {text}; {await side.AfterAsync(address)}";
    }

    static async Task<string> ThrowsAsync(Side side)
    {
        var seen = new TaskCompletionSource<string>();
        var address = await side.ServeAsync(async context =>
        {
            try
            {
                await context.Request.Body.CopyToAsync(Stream.Null);
                seen.TrySetResult("a whole body");
            }
            catch (Exception error) when (error is IOException or OperationCanceledException or BadHttpRequestException)
            {
                seen.TrySetResult("a body that broke off");
            }
        });
        var outcome = await Side.TellAsync(side.PostAsync(address, new OwnContent(async (stream, ct) =>
        {
            await stream.WriteAsync(new byte[50_000], ct);
            await stream.FlushAsync(ct);
            throw new InvalidDataException();
        })));
        return $"{outcome}; the server saw {await seen.Task.WaitAsync(Side.Ct)}";
    }

    static async Task<string> ThrowsAtOnceAsync(Side side)
    {
        var address = await side.ServeAsync(context => context.Request.Body.CopyToAsync(Stream.Null));
        return await Side.TellAsync(side.PostAsync(address, new OwnContent((_, _) => throw new InvalidDataException(), 100_000)));
    }

    static async Task<string> DisposesAsync(Side side, string? rest = null)
    {
        var address = await side.ServeAsync(async context => await context.Response.WriteAsync(await new StreamReader(context.Request.Body).ReadToEndAsync()));
        return await Side.TellAsync(side.PostAsync(address, new OwnContent(async (stream, ct) =>
        {
            await using (var writer = new StreamWriter(stream))
            {
                await writer.WriteAsync("hello");
            }

            await stream.WriteAsync(Encoding.ASCII.GetBytes(rest ?? ""), ct);
        })));
    }

    static async Task<string> WrongLengthAsync(Side side, int written)
    {
        var address = await side.ServeAsync(context => context.Request.Body.CopyToAsync(Stream.Null));
        return await Side.TellAsync(side.PostAsync(address, new OwnContent((stream, ct) => stream.WriteAsync(new byte[written], ct).AsTask(), 100_000)));
    }

    static HttpRequestMessage Expecting(Side side, Uri address, HttpContent content)
    {
        var request = side.Request(HttpMethod.Post, address, content);
        request.Headers.ExpectContinue = true;
        return request;
    }

    static async Task AnswerLengthAsync(HttpContext context, params string[] headers)
    {
        var (total, buffer) = (0L, new byte[16 * 1024]);
        for (int read; (read = await context.Request.Body.ReadAsync(buffer)) > 0; total += read)
        {
        }

        var seen = headers.Where(context.Request.Headers.ContainsKey).Select(header => $"{header}: {context.Request.Headers[header]}, ");
        await context.Response.WriteAsync(string.Create(CultureInfo.InvariantCulture, $"{string.Concat(seen)}{total} bytes"));
    }
}
