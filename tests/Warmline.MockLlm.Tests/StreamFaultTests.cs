using System.Net;
using System.Text;

namespace Warmline.MockLlm.Tests;

/// <summary>Every fault of one answer, over both versions, as a bare client sees it and as the server's log tells it.</summary>
public sealed class StreamFaultTests
{
    const string Token = "\"delta\":{\"content\":", Done = "data: [DONE]\n\n";

    static readonly Version Http11 = new(1, 1), Http20 = new(2, 0);

    static async Task<(string Text, Exception? Error)> ReadAsync(HttpResponseMessage response, string? until = null)
    {
        var (all, buffer) = (new StringBuilder(), new byte[4096]);
        try
        {
            var body = await response.Content.ReadAsStreamAsync();
            while ((until is null || !all.ToString().Contains(until, StringComparison.Ordinal)) && await body.ReadAsync(buffer) is > 0 and var read)
            {
                all.Append(Encoding.UTF8.GetString(buffer, 0, read));
            }

            return (all.ToString(), null);
        }
        catch (Exception error) when (error is IOException or HttpRequestException)
        {
            return (all.ToString(), error);
        }
    }

    static int Count(string text, string part) => text.Split(part).Length - 1;

    [Theory]
    [InlineData(MockFault.Cancel, 8)]
    [InlineData(MockFault.InternalError, 2)]
    [InlineData(MockFault.Refuse, 7)]
    [InlineData(MockFault.Fin, null)]
    public async Task A_stream_broken_off_in_the_middle_brings_exactly_its_tokens(MockFault fault, int? code)
    {
        await using var server = await MockLlmServer.StartAsync(new() { RecordRequests = true, OnRequest = _ => new() { Fault = fault, FaultAfterTokens = 3 } });
        for (var i = 0; i < 20; i++)
        {
            using var raw = await RawHttp2.ConnectAsync(server);
            await raw.PostAsync(1);
            var (frames, end) = code is null ? await raw.ToEndAsync() : (await raw.UntilAsync(f => f.Type == RawFrame.Reset), RawEnd.Fin);

            Assert.Equal((3, RawEnd.Fin), (Count(string.Concat(frames.Where(f => f.Type == RawFrame.Data).Select(f => Encoding.UTF8.GetString(f.Payload))), Token), end));
            Assert.DoesNotContain(frames, f => f.EndStream);
            Assert.Equal(code, frames.Where(f => f.Type == RawFrame.Reset).Select(f => (int?)f.Number).SingleOrDefault());

            using var client = server.Client(version: Http11);
            using var response = await client.StreamAsync();
            var (text, broken) = await ReadAsync(response);
            Assert.Equal((3, HttpRequestError.ResponseEnded), (Count(text, Token), ((HttpIOException)broken!).HttpRequestError));
        }

        Assert.All(server.GetRequests(), r => Assert.Equal((true, 3, 200, false), (r.Processed, r.Tokens, r.Status, r.Aborted)));
        Assert.Equal(0, server.GetCounters().RequestsCompleted);
    }

    [Theory]
    [InlineData("1.1")]
    [InlineData("2.0")]
    public async Task A_reset_in_the_middle_fails_the_stream(string version)
    {
        await using var server = await MockLlmServer.StartAsync(new() { RecordRequests = true, OnRequest = _ => new() { Fault = MockFault.Reset, FaultAfterTokens = 3 } });
        using var client = server.Client(version: Version.Parse(version));

        // A reset may overtake what was sent before it, the head too.
        await Assert.ThrowsAsync<HttpRequestException>(() => client.SendAsync(client.Chat(true)));

        await server.WaitForAsync(c => c.ConnectionsOpen == 0);
        Assert.Equal(MockConnectionEnd.Server, server.GetCounters().Connections[0].End);
    }

    [Theory]
    [InlineData("1.1")]
    [InlineData("2.0")]
    public async Task A_stream_that_ends_too_early_looks_whole_but_for_its_terminal_event(string version)
    {
        await using var server = await MockLlmServer.StartAsync();
        using var client = server.Client(version: Version.Parse(version));
        using var response = await client.StreamAsync(("x-mock-fault", "end"), ("x-mock-fault-after-tokens", "3"));
        var (text, broken) = await ReadAsync(response);
        using var json = await client.ChatAsync(("x-mock-fault", "end"), ("x-mock-fault-after-tokens", "0"));
        var half = await json.Content.ReadAsStringAsync();

        Assert.Null(broken);
        Assert.Equal((3, 0), (Count(text, Token), Count(text, "[DONE]")));
        Assert.StartsWith("{", half);
        Assert.False(half.EndsWith('}'));
        Assert.Equal(1, server.GetCounters().ConnectionsOpen);
    }

    [Theory]
    [InlineData("1.1")]
    [InlineData("2.0")]
    public async Task Garbage_stands_in_the_middle_of_a_stream(string version)
    {
        await using var server = await MockLlmServer.StartAsync();
        using var client = server.Client(version: Version.Parse(version));
        using var response = await client.StreamAsync(("x-mock-fault", "garbage"), ("x-mock-fault-after-tokens", "3"));
        var (text, broken) = await ReadAsync(response);
        using var json = await client.ChatAsync(("x-mock-fault", "garbage"), ("x-mock-fault-after-tokens", "0"));

        Assert.Null(broken);
        Assert.Equal((16, 1), (Count(text, Token), Count(text, "data: {\"this is no JSON\n\n")));
        Assert.EndsWith(Done, text);
        Assert.EndsWith("this is no JSON", await json.Content.ReadAsStringAsync());
    }

    [Theory]
    [InlineData("1.1")]
    [InlineData("2.0")]
    public async Task Garbage_stands_in_place_of_the_head(string version)
    {
        await using var server = await MockLlmServer.StartAsync(new() { RecordRequests = true });
        using var client = server.Client(version: Version.Parse(version));

        var error = await Assert.ThrowsAsync<HttpRequestException>(() => client.ChatAsync(("x-mock-fault", "garbage")));

        Assert.Contains(error.HttpRequestError, new[] { HttpRequestError.InvalidResponse, HttpRequestError.HttpProtocolError });
        Assert.True(server.GetRequests()[0].Processed);
    }

    [Theory]
    [InlineData("v1/chat/completions", false, "\"error\":{\"message\":\"too \\u0022hot\\u0022\",\"type\":\"server_error\"", "error")]
    [InlineData("v1/messages", false, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"", "error-event")]
    [InlineData("v1/responses", false, "event: error\ndata: {\"type\":\"error\",\"sequence_number\":7,\"code\":\"server_error\"", "error-event")]
    [InlineData("v1/responses", false, "event: response.failed\ndata: {\"type\":\"response.failed\",\"sequence_number\":7,\"response\":{", "failed")]
    public async Task An_error_event_ends_a_stream_that_began_well(string path, bool _, string expected, string fault)
    {
        await using var server = await MockLlmServer.StartAsync();
        using var client = server.Client();
        fault = fault == "error" ? "ErrorEvent" : fault;
        using var request = client.Chat(true, ("x-mock-fault", fault), ("x-mock-fault-after-tokens", "3"));
        request.RequestUri = new Uri(path, UriKind.Relative);
        await using var own = await MockLlmServer.StartAsync(new() { OnRequest = _ => new() { ErrorMessage = "too \"hot\"", Fault = Enum.Parse<MockFault>(fault.Replace("-", ""), true), FaultAfterTokens = 3 } });
        using var scripted = own.Client();
        using var same = scripted.Chat(true);
        same.RequestUri = request.RequestUri;

        using var byHeader = await client.SendAsync(request);
        using var byScript = await scripted.SendAsync(same);

        var text = await byScript.Content.ReadAsStringAsync();
        Assert.Equal((HttpStatusCode.OK, HttpStatusCode.OK), (byHeader.StatusCode, byScript.StatusCode));
        Assert.Contains(expected, text);
        Assert.Contains("too \\u0022hot\\u0022", text);
        Assert.DoesNotContain("[DONE]", text);
        Assert.DoesNotContain("message_stop", text);
        Assert.DoesNotContain("completed", text.Replace("\"status\":\"in_progress\"", ""));
        Assert.EndsWith("}\n\n", text);
        Assert.Equal(Count(text, "data: "), Count(await byHeader.Content.ReadAsStringAsync(), "data: "));
    }

    [Theory]
    [InlineData("v1/chat/completions", 503)]
    [InlineData("v1/messages", 529)]
    public async Task Without_a_stream_an_error_event_is_a_status(string path, int status)
    {
        await using var server = await MockLlmServer.StartAsync();
        using var client = server.Client();
        using var request = client.Chat(false, ("x-mock-fault", "error-event"));
        request.RequestUri = new Uri(path, UriKind.Relative);
        using var response = await client.SendAsync(request);

        Assert.Equal(status, (int)response.StatusCode);
    }

    [Theory]
    [InlineData("1.1")]
    [InlineData("2.0")]
    public async Task A_silent_stream_keeps_its_connection_alive(string version)
    {
        await using var server = await MockLlmServer.StartAsync(new() { RecordRequests = true });
        using var client = server.Client(version: Version.Parse(version));
        using var response = await client.StreamAsync(("x-mock-fault", "silence"), ("x-mock-fault-after-tokens", "3"), ("x-mock-id", "silent"));
        await ReadAsync(response, until: " answer");   // the third word
        using var waiting = new CancellationTokenSource();
        var never = client.SendAsync(client.Chat(false, ("x-mock-fault", "silence")), waiting.Token);
        await server.WaitForAsync(c => c.StreamsOpen == 2);
        using (await client.ChatAsync())
        {
        }

        Assert.Equal((3, null), (server.GetRequests()[0].Tokens, server.GetRequests()[0].Ended));
        Assert.False(never.IsCompleted);
        response.Dispose();
        await waiting.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => never);
        await server.WaitForAsync(c => c.AbortedRequests == 2 && c.StreamsOpen == 0);
        Assert.Equal(version == "2.0" ? 1 : 3, server.GetCounters().ConnectionsAccepted);
    }

    [Theory]
    [InlineData("1.1", "v1/chat/completions", ": ping\n\n")]
    [InlineData("2.0", "v1/chat/completions", ": ping\n\n")]
    [InlineData("1.1", "v1/messages", "event: ping\ndata: {\"type\": \"ping\"}\n\n")]
    [InlineData("2.0", "v1/messages", "event: ping\ndata: {\"type\": \"ping\"}\n\n")]
    public async Task Pings_and_nothing_else_come_from_a_token_on(string version, string path, string ping)
    {
        await using var server = await MockLlmServer.StartAsync(new() { RecordRequests = true });
        using var client = server.Client(version: Version.Parse(version));
        using var request = client.Chat(true, ("x-mock-fault", "silence"), ("x-mock-fault-after-tokens", "3"), ("x-mock-ping-ms", "1"));
        request.RequestUri = new Uri(path, UriKind.Relative);
        using var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);

        var (text, _) = await ReadAsync(response, until: string.Concat(Enumerable.Repeat(ping, 5)));

        Assert.Equal(3, server.GetRequests()[0].Tokens);
        Assert.DoesNotContain(" once", text);   // the fifth word
    }

    [Theory]
    [InlineData("1.1")]
    [InlineData("2.0")]
    public async Task Headers_come_and_the_body_never(string version)
    {
        await using var server = await MockLlmServer.StartAsync(new() { RecordRequests = true });
        using var client = server.Client(version: Version.Parse(version));
        using var response = await client.StreamAsync(("x-mock-body-delay-ms", "never"));
        var read = response.Content.ReadAsStringAsync();
        using var late = await client.StreamAsync(("x-mock-body-delay-ms", "20"));
        Assert.EndsWith(Done, await late.Content.ReadAsStringAsync());

        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        Assert.False(read.IsCompleted);
        Assert.Equal((0, null), (server.GetRequests()[0].Tokens, server.GetRequests()[0].Ended));
    }

    [Theory]
    [InlineData("1.1")]
    [InlineData("2.0")]
    public async Task The_end_of_the_body_stays_away_after_the_terminal_event(string version)
    {
        await using var server = await MockLlmServer.StartAsync();
        using var client = server.Client(version: Version.Parse(version));
        using var late = await client.StreamAsync(("x-mock-tail-delay-ms", "30"), ("x-mock-extra-bytes", "21"));
        Assert.EndsWith(Done + ": extra\n: extra\n: ext", await late.Content.ReadAsStringAsync());
        using var never = await client.StreamAsync(("x-mock-tail-delay-ms", "never"));
        var (text, _) = await ReadAsync(never, until: Done);

        Assert.EndsWith(Done, text);
        Assert.Equal((1L, 1), (server.GetCounters().RequestsCompleted, server.GetCounters().StreamsOpen));
    }

    [Theory]
    [InlineData("1.1")]
    [InlineData("2.0")]
    public async Task A_dribbled_body_arrives_whole_in_small_pieces(string version)
    {
        await using var server = await MockLlmServer.StartAsync();
        using var client = server.Client(version: Version.Parse(version));
        using var plain = await client.StreamAsync();
        using var response = await client.StreamAsync(("x-mock-dribble-bytes", "50"), ("x-mock-dribble-gap-ms", "1"));
        using var json = await client.ChatAsync(("x-mock-dribble-bytes", "7"));
        var (text, error) = await ReadAsync(response);

        Assert.Null(error);
        Assert.Equal((await plain.Content.ReadAsStringAsync()).Length, text.Length);
        Assert.EndsWith("}", await json.Content.ReadAsStringAsync());
        Assert.Equal(3, server.GetCounters().RequestsCompleted);
        if (version == "2.0")
        {
            using var raw = await RawHttp2.ConnectAsync(server);
            await raw.PostAsync(1, ("x-mock-dribble-bytes", "50"), ("x-mock-dribble-gap-ms", "1"));
            var frames = await raw.UntilAsync(f => f.EndStream);
            Assert.All(frames.Where(f => f.Type == RawFrame.Data), f => Assert.InRange(f.Payload.Length, 0, 50));
        }
        else
        {
            using var raw = await RawHttp1.ConnectAsync(server);
            await raw.PostAsync(true, ("x-mock-dribble-bytes", "50"), ("x-mock-dribble-gap-ms", "1"));
            Assert.True(Count(await raw.UntilAsync("\r\n0\r\n\r\n"), "\r\n32\r\n") > 20);
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(100)]
    [InlineData(400)]
    public async Task A_body_is_cut_off_before_the_end_of_its_content_length(int bytes)
    {
        await using var server = await MockLlmServer.StartAsync(new() { RecordRequests = true });
        using var raw = await RawHttp1.ConnectAsync(server);
        await raw.PostAsync(false, ("x-mock-truncate-after-bytes", $"{bytes}"));
        var (text, end) = await raw.ToEndAsync();
        var body = text[(text.IndexOf("\r\n\r\n", StringComparison.Ordinal) + 4)..];
        using var raw2 = await RawHttp2.ConnectAsync(server);
        await raw2.PostAsync(1, ("x-mock-truncate-after-bytes", $"{bytes}"));
        var frames = await raw2.UntilAsync(f => f.EndStream);
        await raw2.PingAsync();
        var after = await raw2.UntilAsync(f => f.Type == RawFrame.Ping);
        using var client = server.Client(version: Http20);
        using var believed = await client.ChatAsync(("x-mock-truncate-after-bytes", $"{bytes}"));

        Assert.Equal((RawEnd.Fin, bytes), (end, body.Length));
        Assert.Contains("Content-Length: ", text);
        Assert.Equal(bytes, frames.Where(f => f.Type == RawFrame.Data).Sum(f => f.Payload.Length));
        Assert.Single(after);   // nothing after END_STREAM, and the connection lives
        Assert.True(believed.Content.Headers.ContentLength > bytes);
        Assert.Equal(bytes, (await believed.Content.ReadAsByteArrayAsync()).Length);   // the platform does not check over HTTP/2 what RFC 9113 section 8.1.1 calls malformed
        Assert.Equal(0, server.GetCounters().RequestsCompleted);
    }

    [Theory]
    [InlineData(3)]
    [InlineData(700)]
    [InlineData(1500)]
    public async Task A_stream_is_cut_off_within_a_chunk(int bytes)
    {
        await using var server = await MockLlmServer.StartAsync();
        using var raw = await RawHttp1.ConnectAsync(server);
        await raw.PostAsync(true, ("x-mock-truncate-after-bytes", $"{bytes}"));
        var (text, end) = await raw.ToEndAsync();
        var (rest, body, left) = (text[(text.IndexOf("\r\n\r\n", StringComparison.Ordinal) + 4)..], 0, 0);
        while (rest.Length > 0)
        {
            var line = rest.IndexOf("\r\n", StringComparison.Ordinal);
            var size = Convert.ToInt32(rest[..line], 16);
            rest = rest[(line + 2)..];
            (body, left) = (body + Math.Min(size, rest.Length), size - rest.Length);
            rest = left >= 0 ? "" : rest[(size + 2)..];
        }

        Assert.Equal((RawEnd.Fin, bytes), (end, body));
        Assert.True(left > 0);
        Assert.Contains("chunked", text);
    }

    [Theory]
    [InlineData("1.1")]
    [InlineData("2.0")]
    public async Task Headers_can_be_huge(string version)
    {
        await using var server = await MockLlmServer.StartAsync();
        using var client = server.Client(version: Version.Parse(version));
        await Assert.ThrowsAsync<HttpRequestException>(() => client.ChatAsync(("x-mock-header-padding", "100000")));   // 64 KB are allowed
        using var handler = server.Handler();
        handler.MaxResponseHeadersLength = 128;   // KB
        using var patient = new HttpClient(handler) { BaseAddress = server.BaseAddress, DefaultRequestVersion = client.DefaultRequestVersion, DefaultVersionPolicy = client.DefaultVersionPolicy };
        using var response = await patient.ChatAsync(("x-mock-header-padding", "100500"));

        Assert.Equal(100_500, response.Headers.Where(h => h.Key.StartsWith("x-mock-padding-", StringComparison.Ordinal)).Sum(h => h.Value.Single().Length));
    }

    [Theory]
    [InlineData(MockFault.Cancel, 8)]
    [InlineData(MockFault.InternalError, 2)]
    public async Task A_stream_is_reset_in_place_of_its_answer(MockFault fault, int code)
    {
        await using var server = await MockLlmServer.StartAsync(new() { RecordRequests = true, OnRequest = _ => new() { Fault = fault } });
        using var client = server.Client(version: Http20);
        var error = await Assert.ThrowsAsync<HttpRequestException>(() => client.ChatAsync());
        using var raw = await RawHttp1.ConnectAsync(server);
        await raw.PostAsync(false);

        Assert.Equal(code, (error.InnerException as HttpProtocolException)?.ErrorCode);
        Assert.Equal(("", RawEnd.Reset), await raw.ToEndAsync());
        Assert.All(server.GetRequests(), r => Assert.True(r.Processed && r.BodyLength > 0));
        Assert.Equal(0, server.GetCounters().RequestsUnprocessed);
    }

    [Fact]
    public async Task A_refused_stream_was_not_processed_and_its_second_attempt_was()
    {
        await using var server = await MockLlmServer.StartAsync(new() { RecordRequests = true });
        using var client = server.Client(version: Http20);
        var calls = Enumerable.Range(0, 20).Select(i => client.ChatAsync(("x-mock-fault", "refuse"), ("x-mock-fail-first", "1"), ("x-mock-id", $"{i}")));
        foreach (var response in await Task.WhenAll(calls))   // .NET sends again what was refused
        {
            Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        }

        var requests = server.GetRequests();
        Assert.Equal(40, requests.Count);
        Assert.All(requests.GroupBy(r => r.MockId), id => Assert.Equal([(1, false), (2, true)], id.Select(r => (r.Attempt, r.Processed)).Order()));
        Assert.All(requests.Where(r => !r.Processed), r => Assert.Equal((0L, 0), (r.BodyLength, r.Status)));
        Assert.Equal((20L, 20L, 0), (server.GetCounters().RequestsUnprocessed, server.GetCounters().RequestsCompleted, server.GetCounters().StreamsOpen));
    }

    [Theory]
    [InlineData(429, MockRetryAfterForms.Default, false, "2.5", "2500")]
    [InlineData(503, MockRetryAfterForms.Seconds, false, "2.5", null)]
    [InlineData(529, MockRetryAfterForms.Default, true, "2.5", null)]
    [InlineData(429, MockRetryAfterForms.Milliseconds, true, null, "2500")]
    [InlineData(503, MockRetryAfterForms.HttpDate, false, "Tue, 01 Jan 2030 00:00:03 GMT", null)]
    [InlineData(529, MockRetryAfterForms.HttpDate | MockRetryAfterForms.Milliseconds, true, "Tue, 01 Jan 2030 00:00:03 GMT", "2500")]
    public async Task A_wait_is_told_in_every_form(int status, MockRetryAfterForms forms, bool anthropic, string? retryAfter, string? milliseconds)
    {
        await using var server = await MockLlmServer.StartAsync(new()
        {
            OnRequest = r => r.MockId == "script" ? new() { Status = status, RetryAfter = TimeSpan.FromSeconds(2.5), RetryAfterForms = forms, ShouldRetry = status == 429 } : null,
        }, new Warmline.Tests.Support.ManualTime());
        using var client = server.Client();
        var inWords = string.Concat(forms.ToString().Select((c, i) => char.IsUpper(c) && i > 0 && forms.ToString()[i - 1] != ' ' ? $"-{c}" : $"{c}")).ToLowerInvariant();
        foreach (var headers in new[] { new[] { ("x-mock-id", "script") }, [("x-mock-status", $"{status}"), ("x-mock-retry-after", "2.5"), ("x-mock-retry-after-forms", inWords), ("x-mock-should-retry", status == 429 ? "true" : "false")] })
        {
            using var request = client.Chat(false, headers);
            request.RequestUri = new Uri(anthropic ? "v1/messages" : "v1/chat/completions", UriKind.Relative);
            using var response = await client.SendAsync(request);

            Assert.Equal(status, (int)response.StatusCode);
            Assert.Equal(retryAfter, Header("retry-after"));
            Assert.Equal(milliseconds, Header("retry-after-ms"));
            Assert.Equal(status == 429 ? "true" : "false", Header("x-should-retry"));
            if (status == 429)
            {
                Assert.Equal("0", Header(anthropic ? "anthropic-ratelimit-requests-remaining" : "x-ratelimit-remaining-requests"));
                Assert.Equal(anthropic ? "2030-01-01T00:00:02Z" : "2.5s", Header(anthropic ? "anthropic-ratelimit-requests-reset" : "x-ratelimit-reset-requests"));
            }

            string? Header(string name) => response.Headers.NonValidated.TryGetValues(name, out var values) ? values.ToString() : null;
        }
    }

    [Theory]
    [InlineData("x-mock-fault", "explode")]
    [InlineData("x-mock-fault", "3")]
    [InlineData("x-mock-before-body", "perhaps")]
    [InlineData("x-mock-tail-delay-ms", "soon")]
    [InlineData("x-mock-ping-ms", "never")]
    [InlineData("x-mock-dribble-bytes", "0")]
    public async Task A_wrong_control_header_is_explained(string name, string value)
    {
        await using var server = await MockLlmServer.StartAsync();
        using var client = server.Client(version: Http11);
        using var response = await client.ChatAsync((name, value));

        Assert.Equal(HttpStatusCode.BadRequest, response.StatusCode);
        Assert.Contains($"{name} is \\u0027{value}\\u0027, must be ", await response.Content.ReadAsStringAsync());
    }
}
