using System.Buffers;
using System.IO.Compression;
using System.Net;
using System.Text;
using Microsoft.AspNetCore.Http;

namespace Warmline.Tests.Http;

/// <summary>Compressed answers, undone and not.</summary>
internal static class CompressionBehaviours
{
    static readonly byte[] Text = Encoding.UTF8.GetBytes(string.Concat(Enumerable.Range(0, 5_000).Select(i => $"word {i} ")));

    public static Behaviour[] All { get; } =
    [
        new("gzip", side => DecodeAsync(side, "gzip", to => new GZipStream(to, CompressionLevel.Fastest))),
        new("br", side => DecodeAsync(side, "br", to => new BrotliStream(to, CompressionLevel.Fastest))),
        new("deflate", side => DecodeAsync(side, "deflate", to => new ZLibStream(to, CompressionLevel.Fastest))),
        new("deflate without zlib's header", side => DecodeAsync(side, "deflate", to => new DeflateStream(to, CompressionLevel.Fastest))),
        new("gzip, read by synchronous members", side => DecodeAsync(side, "gzip", to => new GZipStream(to, CompressionLevel.Fastest), sync: true)),
        new("gzip in gzip", side => DecodeAsync(side, "gzip, gzip", to => new GZipStream(new GZipStream(to, CompressionLevel.Fastest), CompressionLevel.Fastest))),
        new("an unknown encoding", side => DecodeAsync(side, "zstd", to => new MemoryStreamThrough(to))),
        new("`AutomaticDecompression` left out", side => DecodeAsync(side, "gzip", to => new GZipStream(to, CompressionLevel.Fastest), methods: DecompressionMethods.None)),
        new("gzip when only br is asked for", side => DecodeAsync(side, "gzip", to => new GZipStream(to, CompressionLevel.Fastest), methods: DecompressionMethods.Brotli)),
        new("`Accept-Encoding` as sent", AskAsync),
        new("the request's headers afterwards", RequestAsync, "the caller's request is his again, as it was"),
        new("events in gzip, as they come", side => EventsAsync(side, "gzip", to => new GZipStream(to, CompressionLevel.Fastest, leaveOpen: true))),
        new("events in br, as they come", side => EventsAsync(side, "br", to => new BrotliStream(to, CompressionLevel.Fastest, leaveOpen: true))),
        new("gzip that breaks off", BrokenAsync),
        new("what claims to be gzip", NonsenseAsync),
        new("HEAD with `Content-Encoding`", HeadAsync),
        new("disposed in mid-read, compressed", LeaveAsync),
    ];

    static async Task<string> DecodeAsync(Side side, string encoding, Func<Stream, Stream> encode, bool sync = false, DecompressionMethods methods = DecompressionMethods.All)
    {
        side.AutomaticDecompression = methods;
        var packed = new MemoryStream();
        await using (var encoder = encode(packed))
        {
            await encoder.WriteAsync(Text);
        }

        var address = await side.ServeAsync(async context =>
        {
            context.Response.Headers.ContentEncoding = encoding;
            context.Response.ContentLength = packed.ToArray().Length;
            await context.Response.Body.WriteAsync(packed.ToArray());
        });
        using var response = await side.GetAsync(address);
        var (left, length) = (string.Join('+', response.Content.Headers.ContentEncoding), response.Content.Headers.ContentLength is null ? "no length" : "length");
        var read = new MemoryStream();
        if (sync)
        {
            await using var body = await response.Content.ReadAsStreamAsync(Side.Ct);
            body.CopyTo(read);
        }
        else
        {
            await response.Content.CopyToAsync(read, Side.Ct);
        }

        return $"{(read.ToArray().AsSpan().SequenceEqual(Text) ? "the text" : "other bytes")}, encoding {(left.Length == 0 ? "none" : left)}, {length}; {await side.AfterAsync(address)}";
    }

    static async Task<string> AskAsync(Side side)
    {
        side.AutomaticDecompression = DecompressionMethods.All;
        var address = await side.ServeAsync(context => context.Response.WriteAsync(context.Request.Headers.AcceptEncoding.ToString()));
        var own = side.Request(HttpMethod.Get, address);
        own.Headers.AcceptEncoding.ParseAdd("br;q=0.5, identity");
        var gzip = side.Request(HttpMethod.Get, address);
        gzip.Headers.AcceptEncoding.ParseAdd("gzip");
        return $"{await Side.TellAsync(side.GetAsync(address))}, {await Side.TellAsync(side.SendAsync(own))}, {await Side.TellAsync(side.SendAsync(gzip))}";
    }

    static async Task<string> RequestAsync(Side side)
    {
        side.AutomaticDecompression = DecompressionMethods.All;
        var address = await side.ServeAsync(context => Task.CompletedTask);
        var plain = side.Request(HttpMethod.Get, address);
        var own = side.Request(HttpMethod.Get, address);
        own.Headers.AcceptEncoding.ParseAdd("identity");
        await Side.TellAsync(side.SendAsync(plain));
        await Side.TellAsync(side.SendAsync(own));
        return $"{(plain.Headers.Contains("Accept-Encoding") ? plain.Headers.AcceptEncoding : "none")}; {own.Headers.AcceptEncoding}";
    }

    static async Task<string> EventsAsync(Side side, string encoding, Func<Stream, Stream> encode)
    {
        side.AutomaticDecompression = DecompressionMethods.All;
        var seen = new SemaphoreSlim(0);
        var address = await side.ServeAsync(async context =>
        {
            context.Response.Headers.ContentEncoding = encoding;
            var packed = new MemoryStream();
            await using (var body = encode(packed))
            {
                for (var i = 1; i <= 3; i++)
                {
                    await body.WriteAsync(Encoding.UTF8.GetBytes($"data: {i}\n\n"));
                    await body.FlushAsync();
                    await context.Response.Body.WriteAsync(packed.ToArray());
                    await context.Response.Body.FlushAsync();
                    packed.SetLength(0);
                    await seen.WaitAsync(context.RequestAborted);
                }
            }

            context.Response.BodyWriter.Write(packed.ToArray());   // not flushed: it goes out with the answer's end, which the bare handler's decoder does not wait for
        });
        using var response = await side.GetAsync(address);
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync(Side.Ct));
        var events = "";
        while (await reader.ReadLineAsync(Side.Ct) is { } line)
        {
            if (line.Length > 0)
            {
                events += line[6..];
                seen.Release();
            }
        }

        return $"{events}; {await side.AfterAsync(address)}";
    }

    static async Task<string> BrokenAsync(Side side)
    {
        side.AutomaticDecompression = DecompressionMethods.All;
        var packed = new MemoryStream();
        await using (var encoder = new GZipStream(packed, CompressionLevel.Fastest))
        {
            await encoder.WriteAsync(Text);
        }

        var address = await side.ServeAsync(async context =>
        {
            context.Response.Headers.ContentEncoding = "gzip";
            await context.Response.Body.WriteAsync(packed.ToArray().AsMemory(0, 500));
        });
        var outcome = await Side.TellAsync(side.GetAsync(address));
        return outcome.StartsWith("200 \"word 0 word 1", StringComparison.Ordinal) ? "200, cut short without an error" : outcome;
    }

    static async Task<string> NonsenseAsync(Side side)
    {
        side.AutomaticDecompression = DecompressionMethods.All;
        var address = await side.ServeAsync(context =>
        {
            context.Response.Headers.ContentEncoding = "gzip";
            return context.Response.WriteAsync("hello");
        });
        return await Side.TellAsync(side.GetAsync(address));
    }

    static async Task<string> HeadAsync(Side side)
    {
        side.AutomaticDecompression = DecompressionMethods.All;
        var address = await side.ServeAsync(context =>
        {
            context.Response.Headers.ContentEncoding = "gzip";
            context.Response.ContentLength = 100;
            return Task.CompletedTask;
        });
        using var response = await side.SendAsync(side.Request(HttpMethod.Head, address));
        return $"length {response.Content.Headers.ContentLength?.ToString() ?? "none"}, encoding {response.Content.Headers.ContentEncoding.Count}, \"{await response.Content.ReadAsStringAsync(Side.Ct)}\"; {await side.AfterAsync(address)}";
    }

    static async Task<string> LeaveAsync(Side side)
    {
        side.AutomaticDecompression = DecompressionMethods.All;
        var address = await side.ServeAsync(async context =>
        {
            context.Response.Headers.ContentEncoding = "gzip";
            await using var body = new GZipStream(context.Response.Body, CompressionLevel.Fastest, leaveOpen: true);
            await body.WriteAsync(Text);
            await body.FlushAsync();
            await context.Response.Body.FlushAsync();
            var ended = new TaskCompletionSource();
            context.RequestAborted.Register(() => ended.TrySetResult());
            await ended.Task;
        });
        using (var response = await side.GetAsync(address))
        {
            await (await response.Content.ReadAsStreamAsync(Side.Ct)).ReadExactlyAsync(new byte[5], Side.Ct);
        }

        return await side.AfterAsync(address);
    }

    /// <summary>An encoding that changes nothing.</summary>
    sealed class MemoryStreamThrough(Stream to) : MemoryStream
    {
        public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) => to.WriteAsync(buffer, cancellationToken);
    }
}
