using System.Net;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace Warmline.MockLlm.Tests;

/// <summary>What is on the wire, where the SDKs do not look.</summary>
public sealed class FormatTests : IAsyncLifetime
{
    MockLlmServer _server = null!;
    HttpClient _client = null!;

    public async ValueTask InitializeAsync()
    {
        _server = await MockLlmServer.StartAsync(new() { Tokens = 3 });
        _client = _server.Client();
    }

    public async ValueTask DisposeAsync()
    {
        _client.Dispose();
        await _server.DisposeAsync();
    }

    Task<HttpResponseMessage> PostAsync(string path, string json, params (string Name, string Value)[] headers)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, path) { Content = new StringContent(json) };
        foreach (var (name, value) in headers)
        {
            request.Headers.Add(name, value);
        }

        return _client.SendAsync(request);
    }

    static string[] EventNames(string sse) => [.. sse.Split('\n').Where(l => l.StartsWith("event: ", StringComparison.Ordinal)).Select(l => l[7..])];

    static JsonElement[] Data(string sse) =>
        [.. sse.Split('\n').Where(l => l.StartsWith("data: {", StringComparison.Ordinal)).Select(l => JsonDocument.Parse(l[6..]).RootElement)];

    [Fact(Timeout = 60_000)]
    public async Task A_body_of_known_length_comes_whole_after_its_headers()
    {
        var whole = await (await PostAsync("v1/chat/completions", """{"model":"m"}""", ("x-mock-body-delay-ms", "20"))).Content.ReadAsStringAsync().WaitAsync(TestContext.Current.CancellationToken);

        Assert.EndsWith("}", whole);
        Assert.Equal("m", JsonDocument.Parse(whole).RootElement.GetProperty("model").GetString());
    }

    [Fact]
    public async Task Chat_stream_ends_with_usage_only_on_request_and_done()
    {
        var plain = await (await PostAsync("v1/chat/completions", """{"model":"m","stream":true}""")).Content.ReadAsStringAsync();
        var usage = await (await PostAsync("v1/chat/completions", """{"model":"m","stream":true,"stream_options":{"include_usage":true}}""")).Content.ReadAsStringAsync();

        Assert.EndsWith("data: [DONE]\n\n", plain);
        Assert.DoesNotContain("usage", plain);
        Assert.Equal(1 + 3 + 1, Data(plain).Length);
        Assert.EndsWith("data: [DONE]\n\n", usage);
        var last = Data(usage)[^1];
        Assert.Equal(3, last.GetProperty("usage").GetProperty("completion_tokens").GetInt32());
        Assert.Equal(0, last.GetProperty("choices").GetArrayLength());
        Assert.All(Data(usage)[..^1], chunk => Assert.Equal(JsonValueKind.Null, chunk.GetProperty("usage").ValueKind));
    }

    [Fact]
    public async Task Messages_stream_has_the_named_events()
    {
        var sse = await (await PostAsync("v1/messages", """{"model":"m","stream":true,"max_tokens":9}""")).Content.ReadAsStringAsync();

        Assert.Equal(["message_start", "content_block_start", "ping", "content_block_delta", "content_block_delta", "content_block_delta", "content_block_stop", "message_delta", "message_stop"], EventNames(sse));
        Assert.Equal(EventNames(sse), Data(sse).Select(d => d.GetProperty("type").GetString()!));
        Assert.Equal("end_turn", Data(sse)[^2].GetProperty("delta").GetProperty("stop_reason").GetString());
    }

    [Fact]
    public async Task Responses_stream_numbers_its_events_to_completed()
    {
        var sse = await (await PostAsync("v1/responses", """{"model":"m","stream":true}""")).Content.ReadAsStringAsync();

        Assert.Equal("response.created", EventNames(sse)[0]);
        Assert.Equal("response.completed", EventNames(sse)[^1]);
        Assert.Equal(Enumerable.Range(0, 11), Data(sse).Select(d => d.GetProperty("sequence_number").GetInt32()));
    }

    [Fact]
    public async Task The_request_s_own_limit_cuts_the_answer_short()
    {
        using var chat = JsonDocument.Parse(await (await PostAsync("v1/chat/completions", """{"model":"m","max_tokens":2}""")).Content.ReadAsStringAsync());
        using var message = JsonDocument.Parse(await (await PostAsync("v1/messages", """{"model":"m","max_tokens":1}""")).Content.ReadAsStringAsync());
        var response = await (await PostAsync("v1/responses", """{"model":"m","stream":true,"max_output_tokens":1}""")).Content.ReadAsStringAsync();

        Assert.Equal("length", chat.RootElement.GetProperty("choices")[0].GetProperty("finish_reason").GetString());
        Assert.Equal(2, chat.RootElement.GetProperty("usage").GetProperty("completion_tokens").GetInt32());
        Assert.Equal("max_tokens", message.RootElement.GetProperty("stop_reason").GetString());
        Assert.Equal("response.incomplete", EventNames(response)[^1]);
    }

    [Fact]
    public async Task A_strange_model_name_stays_valid_json()
    {
        using var answer = JsonDocument.Parse(await (await PostAsync("v1/chat/completions", """{"model":"a\"b\\c\u00e9"}""")).Content.ReadAsStringAsync());

        Assert.Equal("a\"b\\cé", answer.RootElement.GetProperty("model").GetString());
    }

    [Fact]
    public async Task OpenAI_headers_have_their_format()
    {
        using var response = await _client.ChatAsync();

        Assert.Matches("^req_[A-Za-z0-9]{32}$", Header(response, "x-request-id"));
        Assert.Equal("10000", Header(response, "x-ratelimit-limit-requests"));
        Assert.Equal("9999", Header(response, "x-ratelimit-remaining-requests"));
        Assert.Matches(new Regex(@"^(\d+m)?[\d.]+m?s$"), Header(response, "x-ratelimit-reset-tokens"));
        Assert.Equal(JsonValueKind.Object, JsonDocument.Parse(await response.Content.ReadAsStringAsync()).RootElement.ValueKind);
    }

    [Fact]
    public async Task Anthropic_headers_have_their_format()
    {
        using var response = await PostAsync("v1/messages", """{"model":"m","max_tokens":9}""");

        Assert.Matches("^req_[A-Za-z0-9]{24}$", Header(response, "request-id"));
        Assert.Equal("9999", Header(response, "anthropic-ratelimit-requests-remaining"));
        Assert.EndsWith("000", Header(response, "anthropic-ratelimit-input-tokens-remaining"));
        Assert.Matches(@"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", Header(response, "anthropic-ratelimit-output-tokens-reset"));
    }

    [Theory]
    [InlineData(400, "invalid_request_error")]
    [InlineData(401, "authentication_error")]
    [InlineData(429, "rate_limit_error")]
    [InlineData(500, "api_error")]
    [InlineData(529, "overloaded_error")]
    public async Task Anthropic_errors_have_their_type(int status, string type)
    {
        using var response = await PostAsync("v1/messages", """{"model":"m","max_tokens":9}""", ("x-mock-status", $"{status}"), ("x-mock-retry-after", "3"));
        using var body = JsonDocument.Parse(await response.Content.ReadAsStringAsync());

        Assert.Equal(status, (int)response.StatusCode);
        Assert.Equal("3", Header(response, "retry-after"));
        Assert.Equal(type, body.RootElement.GetProperty("error").GetProperty("type").GetString());
        Assert.Equal(Header(response, "request-id"), body.RootElement.GetProperty("request_id").GetString());
    }

    [Theory]
    [InlineData(401, "invalid_api_key")]
    [InlineData(429, "rate_limit_exceeded")]
    [InlineData(503, "server_is_overloaded")]
    public async Task OpenAI_errors_have_their_code(int status, string code)
    {
        using var response = await _client.ChatAsync(("x-mock-status", $"{status}"), ("x-mock-retry-after", "0.05"));
        using var body = JsonDocument.Parse(await response.Content.ReadAsStringAsync());

        Assert.Equal(status, (int)response.StatusCode);
        Assert.Equal("0.05", Header(response, "retry-after"));
        Assert.Equal("50", Header(response, "retry-after-ms"));
        Assert.Equal(code, body.RootElement.GetProperty("error").GetProperty("code").GetString());
    }

    [Fact]
    public async Task Fails_the_first_attempts_of_one_id_only()
    {
        var statuses = new List<int>();
        foreach (var id in new[] { "a", "a", "b", "a" })
        {
            using var response = await _client.ChatAsync(("x-mock-id", id), ("x-mock-fail-first", "2"));
            statuses.Add((int)response.StatusCode);
        }

        Assert.Equal([503, 503, 503, 200], statuses);
    }

    [Theory]
    [InlineData("x-mock-status", "abc")]
    [InlineData("x-mock-tokens", "-1")]
    [InlineData("x-mock-fail-first", "1")]
    public async Task A_wrong_control_header_is_explained(string name, string value)
    {
        using var response = await _client.ChatAsync((name, value));

        Assert.Equal(HttpStatusCode.BadRequest, response.StatusCode);
        Assert.Contains(name, await response.Content.ReadAsStringAsync());
    }

    [Theory]
    [InlineData("v1/chat/completions", "not json", 400)]
    [InlineData("v1/chat/completions", "[1]", 400)]
    [InlineData("v1/messages", "", 400)]
    [InlineData("v1/nothing", "{}", 404)]
    public async Task A_request_that_makes_no_sense_is_an_error(string path, string body, int status)
    {
        using var response = await PostAsync(path, body);
        using var error = JsonDocument.Parse(await response.Content.ReadAsStringAsync());

        Assert.Equal(status, (int)response.StatusCode);
        Assert.True(error.RootElement.TryGetProperty("error", out _));
    }

    [Fact]
    public async Task Headers_of_the_request_set_tokens_and_times()
    {
        using var response = await _client.StreamAsync(("x-mock-tokens", "5"), ("x-mock-token-gap-ms", "1"), ("x-mock-service-ms", "1"));

        Assert.Equal(1 + 5 + 1, Data(await response.Content.ReadAsStringAsync()).Length);
    }

    static string Header(HttpResponseMessage response, string name) => Assert.Single(response.Headers.GetValues(name));
}
