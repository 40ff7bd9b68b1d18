using System.IO.Compression;
using System.Net;
using System.Text;
using Warmline.Tests.Http;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>A part of a body never passes for the whole, however often and by whatever way it is read; beside the bare handler.</summary>
public sealed class ConsumedBodyTests
{
    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_body_that_broke_off_breaks_off_at_every_later_read(bool isPool)
    {
        await using var server = Server("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", ends: true);
        await using var pool = new ConnectionPool();
        using var client = isPool ? pool.CreateClient() : new HttpClient();
        using var response = await GetAsync(client, server);
        var body = await response.Content.ReadAsStreamAsync(Rig.Ct);
        var buffer = new byte[10];
        Assert.Equal(5, await body.ReadAsync(buffer, Rig.Ct));
        for (var i = 0; i < 3; i++)
        {
            var error = await Assert.ThrowsAsync<HttpIOException>(() => body.ReadAsync(buffer, CancellationToken.None).AsTask());
            Assert.Equal(HttpRequestError.ResponseEnded, error.HttpRequestError);
            await Assert.ThrowsAsync<HttpIOException>(() => body.ReadAsync(buffer, Rig.Ct).AsTask());
        }

        await Assert.ThrowsAsync<HttpIOException>(() => body.CopyToAsync(Stream.Null, Rig.Ct));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_body_that_was_read_in_part_cannot_be_buffered(bool isPool)
    {
        await using var server = Server("Content-Length: 5\r\n\r\nhello");
        await using var pool = new ConnectionPool();
        using var client = isPool ? pool.CreateClient() : new HttpClient();
        using var response = await GetAsync(client, server);
        var body = await response.Content.ReadAsStreamAsync(Rig.Ct);
        Assert.Equal(2, await body.ReadAsync(new byte[2], Rig.Ct));

        await Assert.ThrowsAsync<InvalidOperationException>(() => response.Content.ReadAsStringAsync(Rig.Ct));
        await Assert.ThrowsAsync<InvalidOperationException>(() => response.Content.CopyToAsync(Stream.Null, Rig.Ct));
        Assert.Same(body, await response.Content.ReadAsStreamAsync(Rig.Ct));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("GZIP")]
    [InlineData("GZip")]
    public async Task Codings_are_known_in_any_case(string coding)
    {
        using var bytes = new MemoryStream();
        using (var gzip = new GZipStream(bytes, CompressionMode.Compress, leaveOpen: true))
        {
            gzip.Write("hello"u8);
        }

        await using var server = Server($"Content-Encoding: {coding}\r\nContent-Length: {bytes.Length}\r\n\r\n{Encoding.Latin1.GetString(bytes.ToArray())}");
        await using var pool = new ConnectionPool(new() { AutomaticDecompression = DecompressionMethods.All });
        using var client = pool.CreateClient();

        Assert.Equal("hello", await client.GetStringAsync($"http://localhost:{server.Port}/", Rig.Ct));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("429 Too Many Requests")]
    [InlineData("503 Service Unavailable")]
    public async Task A_refusal_without_a_body_keeps_no_place_under_pacing(string status)
    {
        await using var server = Server("Content-Length: 0\r\n\r\n", status: status);
        await using var pool = new ConnectionPool(new() { Pacing = true });
        using var client = pool.CreateClient();
        using var response = await GetAsync(client, server);

        await pool.StatsAsync(static stats => stats.Active == 0);
    }

    static RawHttp1Server Server(string rest, bool ends = false, string status = "200 OK") => new(async peer =>
    {
        await peer.ReadHeadAsync();
        await peer.SayAsync($"HTTP/1.1 {status}\r\n{rest}");
        if (!ends)
        {
            await peer.ReadToEndAsync();
        }
    });

    static Task<HttpResponseMessage> GetAsync(HttpClient client, RawHttp1Server server) => client.GetAsync($"http://localhost:{server.Port}/", HttpCompletionOption.ResponseHeadersRead, Rig.Ct);
}
