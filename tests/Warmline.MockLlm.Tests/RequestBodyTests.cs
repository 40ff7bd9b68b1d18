using System.Net;

namespace Warmline.MockLlm.Tests;

/// <summary>How the server takes a request: at which pace its body, and over which version. And the type of the answer, which a script may choose.</summary>
public sealed class RequestBodyTests
{
    [Theory]
    [InlineData("1.1")]
    [InlineData("2.0")]
    public async Task A_body_is_read_at_the_rate_asked_for(string version)
    {
        await using var server = await MockLlmServer.StartAsync(new() { RecordRequests = true });
        using var client = server.Client(version: Version.Parse(version));
        using var request = client.Chat(false, ("x-mock-read-bytes-per-second", "400"));
        var length = (await request.Content!.ReadAsByteArrayAsync()).Length;

        using var response = await client.SendAsync(request);

        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        var record = Assert.Single(server.GetRequests());
        Assert.Equal(length, record.BodyLength);
        Assert.True(record.Ended - record.Started >= TimeSpan.FromSeconds(length / 400.0) - TimeSpan.FromMilliseconds(30), $"{record.Ended - record.Started}");
    }

    [Theory]
    [InlineData("1.1")]
    [InlineData("2.0")]
    public async Task A_body_is_never_read(string version)
    {
        await using var server = await MockLlmServer.StartAsync(new() { RecordRequests = true, OnRequest = _ => new() { ReadBytesPerSecond = 0 } });
        using var client = server.Client(version: Version.Parse(version));
        using var stop = new CancellationTokenSource();

        var call = client.SendAsync(client.Chat(), stop.Token);
        await server.WaitForAsync(counters => counters.Requests == 1);
        await stop.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => call);
        await server.WaitForAsync(counters => counters.AbortedRequests == 1);
        Assert.Equal((0, 0), (server.GetRequests()[0].BodyLength, server.GetRequests()[0].Status));
    }

    [Fact]
    public async Task HTTP2_is_refused_with_the_word_for_it_and_HTTP11_answered()
    {
        await using var server = await MockLlmServer.StartAsync(new() { RecordRequests = true });
        using var newer = server.Client(version: new Version(2, 0));
        using var older = server.Client(version: new Version(1, 1));

        var error = await Assert.ThrowsAsync<HttpRequestException>(() => newer.ChatAsync(("x-mock-fault", "downgrade")));
        using var response = await older.ChatAsync(("x-mock-fault", "downgrade"));

        Assert.Equal((0xd, HttpStatusCode.OK), ((error.InnerException as HttpProtocolException)?.ErrorCode, response.StatusCode));
        Assert.Equal([("HTTP/2", false), ("HTTP/1.1", true)], server.GetRequests().Select(request => (request.Protocol, request.Processed)));
        Assert.Equal(1, server.GetCounters().RequestsUnprocessed);
    }

    [Theory]
    [InlineData("application/octet-stream", "application/octet-stream")]
    [InlineData("", null)]
    public async Task A_script_chooses_the_type_of_the_answer(string type, string? seen)
    {
        await using var server = await MockLlmServer.StartAsync(new() { OnRequest = _ => new() { Headers = new Dictionary<string, string> { ["content-type"] = type } } });
        using var client = server.Client();
        foreach (var stream in new[] { false, true })
        {
            using var response = await client.SendAsync(client.Chat(stream));

            Assert.Equal(seen, response.Content.Headers.ContentType?.MediaType);
            Assert.StartsWith(stream ? "data: " : "{", await response.Content.ReadAsStringAsync());
        }
    }
}
