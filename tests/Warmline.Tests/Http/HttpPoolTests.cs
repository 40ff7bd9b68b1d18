using System.IO.Compression;
using System.Net;
using System.Text;
using Microsoft.AspNetCore.Http;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Http;

/// <summary>What only a pool has to do with HTTP: its timings, its clocks, its options.</summary>
public sealed class HttpPoolTests
{
    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task The_timings_of_a_redirected_and_decompressed_answer_are_the_last_hops(bool http2)
    {
        await using var side = new Side(isPool: true, http2) { AllowAutoRedirect = true, AutomaticDecompression = DecompressionMethods.All };
        var address = await side.ServeAsync(async context =>
        {
            if (context.Request.Path == "/")
            {
                context.Response.StatusCode = 307;
                context.Response.Headers.Location = "/end";
                return;
            }

            context.Response.Headers.ContentEncoding = "gzip";
            await using var body = new GZipStream(context.Response.Body, CompressionLevel.Fastest);
            await body.WriteAsync("hello"u8.ToArray());
        });
        using var response = await side.GetAsync(address);

        Assert.Equal("hello", await response.Content.ReadAsStringAsync(Rig.Ct));
        Assert.True(response.TryGetPoolTimings(out var timings));
        Assert.True(timings.Reused, "the second hop rode the first one's connection");
        Assert.NotNull(timings.LastByte);
        Assert.Equal(2, side.Stats!.TotalRequests);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task An_upgraded_connection_may_be_silent_for_longer_than_any_clock()
    {
        var (time, speak) = (new ManualTime(), new TaskCompletionSource());
        await using var server = new RawHttp1Server(async peer =>
        {
            await peer.ReadHeadAsync();
            await peer.SayAsync("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n");
            await speak.Task;
            await peer.SayAsync("hello");
        });
        var options = new ConnectionPoolOptions { Timeouts = { Read = TimeSpan.FromMinutes(1), Total = TimeSpan.FromMinutes(5) } };
        await using var pool = new ConnectionPool(options, null, time);
        using var client = pool.CreateClient();
        using var request = new HttpRequestMessage(HttpMethod.Get, $"http://localhost:{server.Port}/") { Headers = { { "Connection", "Upgrade" }, { "Upgrade", "chat" } } };
        using var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Rig.Ct);
        await using var body = await response.Content.ReadAsStreamAsync(Rig.Ct);
        var buffer = new byte[5];
        var read = body.ReadExactlyAsync(buffer, Rig.Ct);

        for (var hour = 0; hour < 3; hour++)
        {
            time.Advance(TimeSpan.FromHours(1));
        }

        speak.SetResult();
        await read;
        Assert.Equal((HttpStatusCode.SwitchingProtocols, "hello"), (response.StatusCode, Encoding.ASCII.GetString(buffer)));
    }

    [Fact]
    public void An_unknown_compression_is_told_with_its_name_and_range()
    {
        var error = Assert.Throws<ArgumentException>(() => new ConnectionPool(new ConnectionPoolOptions { AutomaticDecompression = (DecompressionMethods)64 }));

        Assert.Contains("AutomaticDecompression is 64: must be made of GZip, Deflate and Brotli, or All.", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Redirects_and_compression_are_fixed_for_the_pools_life()
    {
        await using var pool = new ConnectionPool();

        Assert.True(pool.TryUpdate(new ConnectionPoolOptions()));
        Assert.False(pool.TryUpdate(new ConnectionPoolOptions { AllowAutoRedirect = true }));
        Assert.False(pool.TryUpdate(new ConnectionPoolOptions { AutomaticDecompression = DecompressionMethods.GZip }));
    }

    [Theory]
    [InlineData("HTTP/1.1 401 Unauthorized\r\n", true)]
    [InlineData("HTTP/1.1 307 Temporary Redirect\r\n", true)]
    [InlineData("HTTP/1.0 500 No\r\n", true)]
    [InlineData("HTTP/1.1 200 OK\r\n", false)]
    [InlineData("HTTP/1.1 101 Switching Protocols\r\n", false)]
    [InlineData("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 413 Too Large\r\n", true)]
    [InlineData("HTTP/1.1 103 Early Hints\r\nLink: </400>\r\n x: 401\r\n\r\nHTTP/1.1 103 \n\nHTTP/1.1 200 OK", false)]
    [InlineData("HTTP/1.1 103 Early Hints\r\nLink: </400>\r\n", null)]
    [InlineData("HTTP/1.1 40", null)]
    public void An_answer_is_read_along_whole_and_byte_by_byte(string answer, bool? refuses)
    {
        foreach (var size in new[] { 1, 7, 1000 })
        {
            using var early = new EarlyAnswer();
            foreach (var part in Encoding.ASCII.GetBytes(answer).Chunk(size))
            {
                early.Feed(part);
            }

            Assert.Equal(refuses, early.IsDecided ? early.IsRefusal : null);
        }
    }

    [Fact]
    public void The_end_in_place_of_an_answer_ends_the_upload_too()
    {
        using var early = new EarlyAnswer();

        early.Feed("HTTP/1.1 100 Continue\r\n\r\n"u8);
        early.Feed([]);

        Assert.True(early is { IsDecided: true, IsRefusal: true });
    }
}
