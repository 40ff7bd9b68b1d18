using System.Globalization;
using System.Text.Json;
using Microsoft.AspNetCore.Http;

namespace Warmline.MockLlm;

/// <summary>The shapes of Anthropic: messages, token counting, models; its headers and its errors.</summary>
internal static class AnthropicApi
{
    static readonly string[] Models = ["claude-sonnet-4-5", "claude-haiku-4-5"];
    static readonly string Ping = Event("ping", """{"type": "ping"}""");

    /// <summary>Both providers have <c>/v1/models</c>; only this one's clients send their version.</summary>
    public static bool IsClient(HttpRequest request) =>
        request.Headers.ContainsKey("anthropic-version") || request.Path.StartsWithSegments("/v1/messages", StringComparison.Ordinal);

    public static void WriteHeaders(Exchange x, RateWindow window, RateWindow.Reading rate, DateTimeOffset now)
    {
        var headers = x.Http.Response.Headers;
        headers["request-id"] = x.Id("req_", 24);
        headers["anthropic-organization-id"] = "00000000-0000-4000-8000-000000000000";
        Limit("requests", window.RequestLimit, rate.Requests, rate.RequestsReset);
        // Rounded to the nearest thousand, as the real ones are.
        Limit("tokens", window.TokenLimit, rate.Tokens / 1000 * 1000, rate.TokensReset);
        Limit("input-tokens", window.TokenLimit * 4 / 5, rate.Tokens * 4 / 5 / 1000 * 1000, rate.TokensReset);
        Limit("output-tokens", window.TokenLimit / 5, rate.Tokens / 5 / 1000 * 1000, rate.TokensReset);

        void Limit(string what, long limit, long remaining, TimeSpan reset)
        {
            headers[$"anthropic-ratelimit-{what}-limit"] = limit.ToString(CultureInfo.InvariantCulture);
            headers[$"anthropic-ratelimit-{what}-remaining"] = remaining.ToString(CultureInfo.InvariantCulture);
            headers[$"anthropic-ratelimit-{what}-reset"] = (now + reset).ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture);
        }
    }

    public static Task ErrorAsync(Exchange x, int status, string? message)
    {
        var (type, text) = status switch
        {
            401 => ("authentication_error", "invalid x-api-key"),
            403 => ("permission_error", "Your API key does not have permission to use the specified resource."),
            404 => ("not_found_error", "Not found"),
            413 => ("request_too_large", "Request exceeds the maximum size"),
            429 => ("rate_limit_error", "This request would exceed your organization's rate limit. Please try again later."),
            504 => ("timeout_error", "The request timed out while processing"),
            529 => ("overloaded_error", "Overloaded"),
            >= 500 => ("api_error", "Internal server error"),
            _ => ("invalid_request_error", "The request body is not valid JSON"),
        };
        return x.JsonAsync($$"""{"type":"error","error":{"type":"{{(x.Plan.ErrorCode is { } own ? JsonEncodedText.Encode(own) : type)}}","message":"{{JsonEncodedText.Encode(message ?? text)}}"},"request_id":"{{x.Http.Response.Headers["request-id"]}}"}""");
    }

    public static Task MessagesAsync(Exchange x)
    {
        var id = x.Id("msg_01", 22);
        var (tokens, cut) = x.Tokens("max_tokens");
        var tool = ToolCall.For(x, isAnthropic: true);
        var stop = tool is not null ? "tool_use" : cut ? "max_tokens" : "end_turn";
        var use = tool is null ? null : $$"""{"type":"tool_use","id":"{{x.Id("toolu_01", 22)}}","name":"{{tool.Name}}","input":""";
        if (!x.Streams)
        {
            var answer = tool is null ? $$"""{"type":"text","text":"{{Exchange.Completion(tokens)}}"}""" : use + tool.Arguments + "}";
            return x.JsonAsync($$"""
                {"id":"{{id}}","type":"message","role":"assistant","model":"{{x.Model}}","content":[{{answer}}],"stop_reason":"{{stop}}","stop_sequence":null,"usage":{{Usage(x, tokens)}}}
                """);
        }

        var head = Event("message_start", $$$"""{"type":"message_start","message":{"id":"{{{id}}}","type":"message","role":"assistant","model":"{{{x.Model}}}","content":[],"stop_reason":null,"stop_sequence":null,"usage":{{{Usage(x, Math.Min(1, tokens))}}}}}""")
            + Event("content_block_start", """{"type":"content_block_start","index":0,"content_block":""" + (use is null ? """{"type":"text","text":""}""" : use + "{}}") + "}") + Ping;
        var tail = Event("content_block_stop", """{"type":"content_block_stop","index":0}""")
            + Event("message_delta", $$$"""{"type":"message_delta","delta":{"stop_reason":"{{{stop}}}","stop_sequence":null},"usage":{"output_tokens":{{{tokens}}}}}""")
            + Event("message_stop", """{"type":"message_stop"}""");
        return x.EventsAsync(new EventStream
        {
            Head = head,
            Tokens = tool is null ? tokens : 1,
            Token = tool is null
                ? i => Event("content_block_delta", $$$"""{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"{{{Exchange.Token(i)}}}"}}""")
                : _ => Event("content_block_delta", $$$"""{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{{{tool.Escaped}}}"}}"""),
            Tail = tail,
            Ping = Ping,
            Pings = true,
            Error = _ => Event("error", $$$"""{"type":"error","error":{"type":"overloaded_error","message":"{{{JsonEncodedText.Encode(x.Plan.ErrorMessage ?? "Overloaded")}}}"}}"""),
        });
    }

    public static Task CountTokensAsync(Exchange x) => x.JsonAsync($$"""{"input_tokens":{{x.PromptTokens}}}""");

    public static Task ModelsAsync(Exchange x) =>
        x.JsonAsync($$"""{"data":[{{string.Join(',', Models.Select(ModelJson))}}],"has_more":false,"first_id":"{{Models[0]}}","last_id":"{{Models[^1]}}"}""");

    public static Task ModelAsync(Exchange x, string id)
    {
        if (Models.Contains(id, StringComparer.Ordinal))
        {
            return x.JsonAsync(ModelJson(id));
        }

        x.Http.Response.StatusCode = StatusCodes.Status404NotFound;
        return ErrorAsync(x, 404, $"model: {id}");
    }

    static string ModelJson(string id) => $$"""{"type":"model","id":"{{id}}","display_name":"{{id}}","created_at":"2025-09-29T00:00:00Z"}""";

    static string Usage(Exchange x, int output) => $$"""
        {"input_tokens":{{x.PromptTokens}},"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"output_tokens":{{output}},"service_tier":"standard"}
        """;

    static string Event(string name, string data) => $"event: {name}\ndata: {data}\n\n";
}
