using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.Http.Json;
using Warmline.Tests.Http;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>
/// Servers that read <c>Content-Length</c> and nothing else. Small model servers do: a body in chunks is none to them, or the next
/// request.
/// </summary>
public sealed class ContentLengthTests
{
    public enum Form
    {
        /// <summary>400, and the end.</summary>
        Refuses,

        /// <summary>400, and what follows is the next request.</summary>
        GoesOn,

        /// <summary>It takes the body for empty, and what follows for the next request.</summary>
        TakesForEmpty,
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(Form.Refuses)]
    [InlineData(Form.GoesOn)]
    [InlineData(Form.TakesForEmpty)]
    public async Task Json_reaches_a_server_that_reads_no_chunks_and_each_call_gets_its_own_answer(Form form)
    {
        var heads = new ConcurrentQueue<string>();
        await using var server = Server(form, heads);
        await using var pool = new ConnectionPool();
        using var client = pool.CreateClient(new Uri($"http://localhost:{server.Port}/"));
        for (var round = 0; round < 3; round++)
        {
            Assert.Equal("200 \"2008 bytes\"", await Side.TellAsync(client.PostAsJsonAsync("", new { a = new string('x', 2_000) }, Rig.Ct)));
            Assert.Equal("200 \"5 bytes\"", await Side.TellAsync(client.PostAsync("", new StringContent("hello"), Rig.Ct)));
            Assert.Equal("200 \"200008 bytes\"", await Side.TellAsync(client.PostAsJsonAsync("", new { a = new string('y', 200_000) }, Rig.Ct)));
            Assert.Equal("200 \"500 bytes\"", await Side.TellAsync(client.PostAsync("", new RecordedContent("{\"x\":\"" + new string('x', 492) + "\"}"), Rig.Ct)));
        }

        Assert.All(heads, head => Assert.DoesNotContain("Transfer-Encoding", head, StringComparison.OrdinalIgnoreCase));
        Assert.Equal((12, 1), (heads.Count, pool.GetStats().NewConnections));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(false)]
    [InlineData(true)]
    public async Task The_request_and_its_content_are_the_callers_again_and_chunks_are_sent_where_they_were_asked_for(bool asksForChunks)
    {
        var heads = new ConcurrentQueue<string>();
        await using var server = new RawHttp1Server(async peer =>
        {
            heads.Enqueue(await peer.ReadHeadAsync());
            await peer.ReadAsync(9);
            await peer.SayAsync(RawHttp1.Ok("ok"));
            await peer.ReadToEndAsync();
        });
        await using var pool = new ConnectionPool();
        using var client = pool.CreateClient();
        using var content = JsonContent.Create(new { a = "b" });
        using var request = new HttpRequestMessage(HttpMethod.Post, $"http://localhost:{server.Port}/") { Content = content };
        request.Headers.TransferEncodingChunked = asksForChunks ? true : null;

        Assert.Equal("200 \"ok\"", await Side.TellAsync(client.SendAsync(request, Rig.Ct)));

        var head = Assert.Single(heads);
        Assert.Equal(asksForChunks, head.Contains("\r\nTransfer-Encoding: chunked\r\n", StringComparison.Ordinal));
        Assert.Equal(!asksForChunks, head.Contains("\r\nContent-Length: 9\r\n", StringComparison.Ordinal));
        Assert.Same(content, request.Content);
        Assert.Equal(["Content-Type"], content.Headers.Select(header => header.Key));
        Assert.Equal(asksForChunks ? true : null, request.Headers.TransferEncodingChunked);
    }

    static RawHttp1Server Server(Form form, ConcurrentQueue<string> heads) => new(async peer =>
    {
        while (await peer.ReadHeadAsync() is var head and not "")
        {
            heads.Enqueue(head);
            if (LengthOf(head) is { } length)
            {
                await peer.ReadAsync(length);
                await peer.SayAsync(RawHttp1.Ok($"{length} bytes"));
            }
            else
            {
                await peer.SayAsync(form is Form.TakesForEmpty ? RawHttp1.Ok("empty body") : "HTTP/1.1 400 Bad Request\r\nContent-Length: 9\r\n\r\nno length");
                if (form is Form.Refuses)
                {
                    return;
                }
            }
        }
    });

    static int? LengthOf(string head)
    {
        const string Name = "Content-Length: ";
        return head.IndexOf(Name, StringComparison.Ordinal) is >= 0 and var at
            ? int.Parse(head.AsSpan(at + Name.Length, head.IndexOf('\r', at) - at - Name.Length), CultureInfo.InvariantCulture) : null;
    }
}
