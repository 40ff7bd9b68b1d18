using System.IO.Compression;
using System.Net;
using System.Text;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Http;

/// <summary>The stream of an answer takes and refuses what the platform's does.</summary>
public sealed class BodyMannersTests
{
    public static TheoryData<bool, bool, string> Kinds
    {
        get
        {
            var kinds = new TheoryData<bool, bool, string>();
            foreach (var isPool in new[] { true, false })
            {
                kinds.Add(isPool, false, "plain");
                kinds.Add(isPool, true, "plain");
                kinds.Add(isPool, false, "gzip");
                kinds.Add(isPool, true, "gzip");
                kinds.Add(isPool, false, "101");
            }

            return kinds;
        }
    }

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Kinds))]
    public async Task Arguments_are_checked_before_anything_is_read(bool isPool, bool http2, string kind)
    {
        await using var side = new Side(isPool, http2) { AutomaticDecompression = DecompressionMethods.GZip };
        using var response = await StartAsync(side, kind);
        await using var body = await response.Content.ReadAsStreamAsync(Side.Ct);
        Assert.Equal(5, await body.ReadAsync(new byte[5], Side.Ct));
        var buffer = new byte[4];

        Assert.Throws<ArgumentNullException>(() => body.Read(null!, 0, 1));
        Assert.Throws<ArgumentNullException>(() => body.Read(null!, 0, 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => body.Read(buffer, -1, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => body.Read(buffer, 0, -1));
        Assert.Throws<ArgumentOutOfRangeException>(() => body.Read(buffer, 2, 3));
        Assert.Throws<ArgumentNullException>(Start(() => body.ReadAsync(null!, 0, 1, Side.Ct)));
        Assert.Throws<ArgumentNullException>(Start(() => body.ReadAsync(null!, 0, 0, Side.Ct)));
        Assert.Throws<ArgumentOutOfRangeException>(Start(() => body.ReadAsync(buffer, 5, 0, Side.Ct)));
        Assert.Throws<ArgumentNullException>(() => body.BeginRead(null!, 0, 0, null, null));
        Assert.ThrowsAny<ArgumentException>(() => body.CopyTo(null!));
        await Assert.ThrowsAnyAsync<ArgumentException>(() => body.CopyToAsync(null!, Side.Ct));
        if (kind == "101")
        {
            Assert.Throws<ArgumentNullException>(() => body.Write(null!, 0, 0));
            Assert.Throws<ArgumentNullException>(Start(() => body.WriteAsync(null!, 0, 0, Side.Ct)));
            Assert.Throws<ArgumentOutOfRangeException>(() => body.Write(buffer, 2, 3));
        }
    }

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Kinds))]
    public async Task What_was_disposed_can_neither_be_read_nor_written(bool isPool, bool http2, string kind)
    {
        await using var side = new Side(isPool, http2) { AutomaticDecompression = DecompressionMethods.GZip };
        using var response = await StartAsync(side, kind);
        var body = await response.Content.ReadAsStreamAsync(Side.Ct);
        Assert.Equal((true, kind == "101", false), (body.CanRead, body.CanWrite, body.CanSeek));
        Assert.Equal(5, await body.ReadAsync(new byte[5], Side.Ct));

        await body.DisposeAsync();

        Assert.Equal((false, false, false), (body.CanRead, body.CanWrite, body.CanSeek));
        Assert.Throws<ArgumentException>(() => new StreamReader(body));
        Assert.True(kind == "gzip" || Assert.Throws<ArgumentNullException>(() => body.Read(null!, 0, 0)) is not null);   // the platform's decoder looks at itself first
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    [InlineData(false, false)]
    [InlineData(false, true)]
    public async Task A_read_of_no_bytes_waits_for_the_next_and_takes_none(bool isPool, bool http2)
    {
        await using var side = new Side(isPool, http2);
        var go = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using var response = await StartAsync(side, "plain", go.Task);
        await using var body = await response.Content.ReadAsStreamAsync(Side.Ct);
        Assert.Equal(5, await body.ReadAsync(new byte[5], Side.Ct));
        var waiting = body.ReadAsync(Memory<byte>.Empty, Side.Ct);
        Assert.False(waiting.IsCompleted);

        go.SetResult();

        Assert.Equal(0, await waiting);
        Assert.Equal(5, await body.ReadAtLeastAsync(new byte[5], 5, cancellationToken: Side.Ct));
    }

    static Action Start(Func<Task> what) => () => _ = what();

    /// <summary>An answer whose first five bytes are there, and that goes on when it may.</summary>
    static async Task<HttpResponseMessage> StartAsync(Side side, string kind, Task? go = null)
    {
        if (kind == "101")
        {
            var raw = side.ServeRaw(async peer =>
            {
                await peer.ReadHeadAsync();
                await peer.SayAsync("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\nhello");
                await peer.ReadToEndAsync();
            });
            var upgrade = side.Request(HttpMethod.Get, raw);
            upgrade.Headers.Connection.Add("Upgrade");
            upgrade.Headers.Upgrade.ParseAdd("chat");
            return await side.SendAsync(upgrade);
        }

        var address = await side.ServeAsync(async context =>
        {
            Stream body = context.Response.Body;
            if (kind == "gzip")
            {
                context.Response.Headers.ContentEncoding = "gzip";
                body = new GZipStream(body, CompressionLevel.Fastest, leaveOpen: true);
            }

            await body.WriteAsync(Encoding.ASCII.GetBytes("hello"));
            await body.FlushAsync();
            await context.Response.Body.FlushAsync();
            await (go ?? new TaskCompletionSource().Task).WaitAsync(context.RequestAborted);
            await body.WriteAsync(Encoding.ASCII.GetBytes("world"));
        });
        return await side.GetAsync(address);
    }
}
