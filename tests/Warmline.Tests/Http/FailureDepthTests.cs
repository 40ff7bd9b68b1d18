using System.Net.Sockets;
using Microsoft.AspNetCore.Http;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Http;

/// <summary>Below the outermost exception a caller finds what the bare handler gives: filters on <see cref="Exception.InnerException"/> go
/// on working.</summary>
public sealed class FailureDepthTests
{
    static readonly Dictionary<string, (On On, Func<Side, Task<HttpResponseMessage>> Send)> Plays = new(StringComparer.Ordinal)
    {
        ["reset after the head"] = (On.Http1, side => side.PostAsync(side.ServeRaw(async peer =>
        {
            await peer.ReadHeadAsync();
            peer.Reset();
        }), new StringContent("x"))),
        ["closed after the head"] = (On.Http1, side => side.PostAsync(side.ServeRaw(async peer =>
        {
            await peer.ReadHeadAsync();
            await peer.ReadAsync(1);
        }), new StringContent("x"))),
        ["GET closed after the head"] = (On.Http1, side => side.GetAsync(side.ServeRaw(peer => peer.ReadHeadAsync()))),
        ["no HTTP"] = (On.Http1, side => side.PostAsync(side.ServeRaw(async peer =>
        {
            await peer.ReadHeadAsync();
            await peer.SayAsync("SSH-2.0-OpenSSH\r\n\r\n");
        }), new StringContent("x"))),
        ["head that breaks off"] = (On.Http1, side => side.PostAsync(side.ServeRaw(async peer =>
        {
            await peer.ReadHeadAsync();
            await peer.SayAsync("HTTP/1.1 200 OK\r\nContent-");
        }), new StringContent("x"))),
        ["head too large"] = (On.Http1, side => side.PostAsync(side.ServeRaw(async peer =>
        {
            await peer.ReadHeadAsync();
            await peer.SayAsync($"HTTP/1.1 200 OK\r\nX: {new string('x', 100_000)}\r\n\r\n");
        }), new StringContent("x"))),
        ["stream reset"] = (On.Http2, side => side.PostAsync(side.ServeFrames(async peer =>
        {
            await peer.WriteAsync(RawHttp2Server.Reset, 0, await peer.ReadRequestAsync(), [0, 0, 0, 2]);
            await peer.ReadAsync();
        }), new StringContent("x"))),
        ["protocol broken"] = (On.Http2, side => side.PostAsync(side.ServeFrames(async peer =>
        {
            await peer.WriteAsync(RawHttp2Server.Data, 0, await peer.ReadRequestAsync() + 2, [1]);
            await peer.ReadAsync();
        }), new StringContent("x"))),
        ["content throws IOException"] = (On.Both, side => ThrowAsync(side, new IOException("disk"))),
        ["content throws InvalidOperationException"] = (On.Both, side => ThrowAsync(side, new InvalidOperationException("mine"))),
        ["content throws ObjectDisposedException"] = (On.Both, side => ThrowAsync(side, new ObjectDisposedException("mine"))),
        ["content throws InvalidDataException"] = (On.Both, side => ThrowAsync(side, new InvalidDataException("mine"))),
        ["content throws HttpRequestException"] = (On.Both, side => ThrowAsync(side, new HttpRequestException("mine"))),
        ["content throws its own"] = (On.Both, side => ThrowAsync(side, new OwnRequestException("mine"))),
        ["JSON throws IOException"] = (On.Both, side => ThrowAsync(side, new IOException("disk"), json: true)),
        ["JSON throws InvalidOperationException"] = (On.Both, side => ThrowAsync(side, new InvalidOperationException("mine"), json: true)),
        ["JSON throws ObjectDisposedException"] = (On.Both, side => ThrowAsync(side, new ObjectDisposedException("mine"), json: true)),
        ["JSON throws InvalidDataException"] = (On.Both, side => ThrowAsync(side, new InvalidDataException("mine"), json: true)),
        ["JSON throws its own"] = (On.Both, side => ThrowAsync(side, new OwnRequestException("mine"), json: true)),
        ["disposed content"] = (On.Both, async side =>
        {
            var content = new StringContent("x");
            content.Dispose();
            return await side.PostAsync(await side.ServeAsync(_ => Task.CompletedTask), content);
        }),
        ["nothing listens"] = (On.Both, async side =>
        {
            using var listener = new Socket(SocketType.Stream, ProtocolType.Tcp);
            listener.Bind(new System.Net.IPEndPoint(System.Net.IPAddress.Loopback, 0));   // bound and not listening: refused, and given to none else meanwhile
            return await side.GetAsync(new Uri($"https://127.0.0.1:{((System.Net.IPEndPoint)listener.LocalEndPoint!).Port}/"));
        }),
        ["certificate of another name"] = (On.Both, async side => await side.GetAsync(new UriBuilder(await side.ServeAsync(_ => Task.CompletedTask)) { Host = "127.0.0.2" }.Uri)),
        ["no TLS"] = (On.Http1, side => side.GetAsync(new UriBuilder(side.ServeRaw(peer => peer.SayAsync("HTTP/1.1 400 Bad Request\r\n\r\n"))) { Scheme = "https" }.Uri)),
        ["HTTP/1.1 alone"] = (On.Http2, async side => await side.GetAsync(await side.ServeAsync(_ => Task.CompletedTask, protocols: Microsoft.AspNetCore.Server.Kestrel.Core.HttpProtocols.Http1))),
    };

    public static TheoryData<string, bool> Cases
    {
        get
        {
            var cases = new TheoryData<string, bool>();
            foreach (var (name, (on, _)) in Plays)
            {
                foreach (var http2 in new[] { false, true }.Where(http2 => on.HasFlag(http2 ? On.Http2 : On.Http1)))
                {
                    cases.Add(name, http2);
                }
            }

            return cases;
        }
    }

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Cases))]
    public async Task Below_the_outermost_exception_is_what_the_bare_handler_gives(string name, bool http2)
    {
        var (bare, pool) = (await PlayAsync(false), await PlayAsync(true));

        Assert.Equal(Below(bare), Below(pool));
        Assert.Equal(bare is HttpRequestException, pool is HttpRequestException);
        var parts = pool.Message.Split(". ", StringSplitOptions.TrimEntries);
        Assert.Equal(parts.Length, parts.Distinct(StringComparer.Ordinal).Count());   // it says things once
        if (name.Contains("its own", StringComparison.Ordinal))
        {
            Assert.Equal((bare.GetType(), bare.Message), (pool.GetType(), pool.Message));
        }

        if (name.Contains("throws", StringComparison.Ordinal) && !name.Contains("IOException", StringComparison.Ordinal))
        {
            Assert.DoesNotContain("The call to", pool.Message, StringComparison.Ordinal);   // no fault of the target
        }

        async Task<Exception> PlayAsync(bool isPool)
        {
            await using var side = new Side(isPool, http2);
            return (await Failures.PlayAsync(() => Plays[name].Send(side))).Error ?? throw new InvalidOperationException("It went well.");
        }

        static string Below(Exception error) => Failures.Shape(error).Split(" < ", 2) is [_, var below] ? below : "";
    }

    static async Task<HttpResponseMessage> ThrowAsync(Side side, Exception error, bool json = false)
    {
        var content = new OwnContent((_, _) => throw error, 1_000);
        if (json)
        {
            content.Headers.ContentType = new("application/json");
        }

        return await side.PostAsync(await side.ServeAsync(async context => await context.Request.Body.CopyToAsync(Stream.Null)), content);
    }
}
