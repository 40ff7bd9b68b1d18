using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Http;

namespace Warmline.MockLlm;

/// <summary>The shapes of OpenAI: chat completions, responses, embeddings, models; its headers and its errors.</summary>
internal static class OpenAiApi
{
    const string Ping = ": ping\n\n";

    static readonly string[] Models = ["gpt-4o", "gpt-4o-mini", "text-embedding-3-small"];

    public static void WriteHeaders(Exchange x, RateWindow window, RateWindow.Reading rate)
    {
        var headers = x.Http.Response.Headers;
        headers["x-request-id"] = x.Id("req_", 32);
        headers["openai-version"] = "2020-10-01";
        headers["openai-organization"] = "org-mock";
        headers["openai-processing-ms"] = ((long)x.Plan.Delay.TotalMilliseconds).ToString(CultureInfo.InvariantCulture);
        headers["x-ratelimit-limit-requests"] = Text(window.RequestLimit);
        headers["x-ratelimit-remaining-requests"] = Text(rate.Requests);
        headers["x-ratelimit-reset-requests"] = Duration(rate.RequestsReset);
        headers["x-ratelimit-limit-tokens"] = Text(window.TokenLimit);
        headers["x-ratelimit-remaining-tokens"] = Text(rate.Tokens);
        headers["x-ratelimit-reset-tokens"] = Duration(rate.TokensReset);

        static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);
    }

    /// <summary>
    /// As OpenAI writes durations: <c>120ms</c>, <c>1s</c>, <c>6m0s</c>, <c>1h0m0s</c>: Go's form. Rounded up: a client that waits so long
    /// is not early.
    /// </summary>
    static string Duration(TimeSpan exact)
    {
        var time = TimeSpan.FromMilliseconds(Math.Ceiling(exact.TotalMilliseconds));
        return time < TimeSpan.FromSeconds(1) ? string.Create(CultureInfo.InvariantCulture, $"{time.TotalMilliseconds:0}ms")
            : time < TimeSpan.FromMinutes(1) ? string.Create(CultureInfo.InvariantCulture, $"{time.TotalSeconds:0.###}s")
            : string.Create(CultureInfo.InvariantCulture, $"{(time.TotalHours >= 1 ? $"{(int)time.TotalHours}h" : "")}{time.Minutes}m{time.Seconds + (time.Milliseconds / 1000.0):0.###}s");
    }

    public static Task ErrorAsync(Exchange x, int status, string? message)
    {
        var (type, code, text) = status switch
        {
            400 => ("invalid_request_error", null, "We could not parse the JSON body of your request."),
            401 => ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
            403 => ("invalid_request_error", "unsupported_country_region_territory", "Country, region, or territory not supported"),
            404 => ("invalid_request_error", "unknown_url", $"Unknown request URL: {x.Entry.Method} {x.Entry.Path}."),
            429 => ("requests", "rate_limit_exceeded", "Rate limit reached for requests. Please try again later."),
            503 => ("service_unavailable_error", "server_is_overloaded", "Our servers are currently overloaded. Please try again later."),
            >= 500 => ("server_error", null, "The server had an error while processing your request. Sorry about that!"),
            _ => ("invalid_request_error", (string?)null, $"The request failed with status {status}."),
        };
        (type, code) = (x.Plan.ErrorType ?? type, x.Plan.ErrorCode is { } own ? JsonEncodedText.Encode(own).ToString() : code);
        var codeJson = code is null ? "null" : $"\"{code}\"";
        return x.JsonAsync($$$"""{"error":{"message":"{{{JsonEncodedText.Encode(message ?? text)}}}","type":"{{{type}}}","param":null,"code":{{{codeJson}}}}}""");
    }

    public static Task ChatAsync(Exchange x)
    {
        var id = x.Id("chatcmpl-", 29);
        var (tokens, cut) = x.Tokens("max_completion_tokens", "max_tokens");
        var finish = cut ? "length" : "stop";
        var usage = Usage(x, tokens);
        var tool = ToolCall.For(x, isAnthropic: false);
        finish = tool is null ? finish : "tool_calls";
        var call = tool is null ? null : $$"""{"index":0,"id":"{{x.Id("call_", 24)}}","type":"function","function":{"name":"{{tool.Name}}","arguments":""";
        if (!x.Streams)
        {
            var answer = tool is null ? $"\"content\":\"{Exchange.Completion(tokens)}\"" : $"\"content\":null,\"tool_calls\":[{call}\"{tool.Escaped}\"}}}}]";
            return x.JsonAsync($$"""
                {"id":"{{id}}","object":"chat.completion","created":{{x.UnixTime}},"model":"{{x.Model}}","choices":[{"index":0,"message":{"role":"assistant",{{answer}},"refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"{{finish}}"}],"usage":{{usage}},"service_tier":"default","system_fingerprint":"fp_mock"}
                """);
        }

        var withUsage = x.Property("stream_options") is { ValueKind: JsonValueKind.Object } options
            && options.TryGetProperty("include_usage", out var include) && include.ValueKind == JsonValueKind.True;
        var usageNull = withUsage ? ",\"usage\":null" : "";
        var start = $$"""data: {"id":"{{id}}","object":"chat.completion.chunk","created":{{x.UnixTime}},"model":"{{x.Model}}","service_tier":"default","system_fingerprint":"fp_mock","choices":[""";
        var head = $$"""{{start}}{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]{{usageNull}}}""" + "\n\n";
        var tail = $$"""{{start}}{"index":0,"delta":{},"logprobs":null,"finish_reason":"{{finish}}"}]{{usageNull}}}""" + "\n\n"
            + (withUsage ? $$"""{{start}}],"usage":{{usage}}}""" + "\n\n" : "") + "data: [DONE]\n\n";
        string? arguments = null;
        if (tool is not null)
        {
            head = $$$"""{{{start}}}{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[{{{call}}}""}}],"refusal":null},"logprobs":null,"finish_reason":null}]{{{usageNull}}}}""" + "\n\n";
            arguments = $$$"""{{{start}}}{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{{{tool.Escaped}}}"}}]},"logprobs":null,"finish_reason":null}]{{{usageNull}}}}""" + "\n\n";
        }

        return x.EventsAsync(new EventStream
        {
            Head = head,
            Tokens = tool is null ? tokens : 1,
            Token = i => arguments ?? $$"""{{start}}{"index":0,"delta":{"content":"{{Exchange.Token(i)}}"},"logprobs":null,"finish_reason":null}]{{usageNull}}}""" + "\n\n",
            Tail = tail,
            Ping = Ping,
            Error = _ => $$$"""data: {"error":{"message":"{{{ErrorText(x)}}}","type":"server_error","param":null,"code":null}}""" + "\n\n",
        });
    }

    static string ErrorText(Exchange x) =>
        JsonEncodedText.Encode(x.Plan.ErrorMessage ?? "The server had an error while processing your request. Sorry about that!").ToString();

    static string Usage(Exchange x, int tokens) => $$$"""
        {"prompt_tokens":{{{x.PromptTokens}}},"completion_tokens":{{{tokens}}},"total_tokens":{{{x.PromptTokens + tokens}}},"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}
        """;

    public static Task ResponsesAsync(Exchange x)
    {
        var (id, item) = (x.Id("resp_", 48), x.Id("msg_", 48));
        var (tokens, cut) = x.Tokens("max_output_tokens");
        var text = Exchange.Completion(tokens);
        var endStatus = cut ? "incomplete" : "completed";
        var part = $$"""{"type":"output_text","annotations":[],"logprobs":[],"text":"{{text}}"}""";
        var message = $$"""{"id":"{{item}}","type":"message","status":"{{endStatus}}","role":"assistant","content":[{{part}}]}""";
        var usage = $$"""{"input_tokens":{{x.PromptTokens}},"input_tokens_details":{"cached_tokens":0},"output_tokens":{{tokens}},"output_tokens_details":{"reasoning_tokens":0},"total_tokens":{{x.PromptTokens + tokens}}}""";
        var complete = Response(endStatus, message, usage, cut ? """{"reason":"max_output_tokens"}""" : "null");
        if (!x.Streams)
        {
            return x.JsonAsync(complete);
        }

        var running = Response("in_progress", "", "null", "null");
        var at = $"\"item_id\":\"{item}\",\"output_index\":0,\"content_index\":0";
        var head = Event("response.created", 0, $"\"response\":{running}") + Event("response.in_progress", 1, $"\"response\":{running}")
            + Event("response.output_item.added", 2, $$"""
                "output_index":0,"item":{"id":"{{item}}","type":"message","status":"in_progress","role":"assistant","content":[]}
                """)
            + Event("response.content_part.added", 3, at + """
                ,"part":{"type":"output_text","annotations":[],"logprobs":[],"text":""}
                """);
        var tail = Event("response.output_text.done", tokens + 4, $"{at},\"text\":\"{text}\",\"logprobs\":[]")
            + Event("response.content_part.done", tokens + 5, $"{at},\"part\":{part}")
            + Event("response.output_item.done", tokens + 6, $"\"output_index\":0,\"item\":{message}")
            + Event("response." + endStatus, tokens + 7, $"\"response\":{complete}");
        return x.EventsAsync(new EventStream
        {
            Head = head,
            Tokens = tokens,
            Token = i => Event("response.output_text.delta", i + 4, $"{at},\"delta\":\"{Exchange.Token(i)}\",\"logprobs\":[]"),
            Tail = tail,
            Ping = Ping,
            Error = sent => Event("error", sent + 4, $"\"code\":\"server_error\",\"message\":\"{ErrorText(x)}\",\"param\":null"),
            Failed = sent => Event("response.failed", sent + 4, $"\"response\":{Response("failed", "", "null", "null", $$"""{"code":"server_error","message":"{{ErrorText(x)}}"}""")}"),
        });

        string Response(string status, string output, string used, string incomplete, string error = "null") => $$$"""
            {"id":"{{{id}}}","object":"response","created_at":{{{x.UnixTime}}},"status":"{{{status}}}","background":false,"error":{{{error}}},"incomplete_details":{{{incomplete}}},"instructions":null,"max_output_tokens":null,"model":"{{{x.Model}}}","output":[{{{output}}}],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"service_tier":"default","store":false,"temperature":1.0,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":1.0,"truncation":"disabled","usage":{{{used}}},"user":null,"metadata":{}}
            """;

        static string Event(string type, int number, string fields) => $$"""
            event: {{type}}
            data: {"type":"{{type}}","sequence_number":{{number}},{{fields}}}
            """.ReplaceLineEndings("\n") + "\n\n";
    }

    public static Task EmbeddingsAsync(Exchange x)
    {
        var inputs = x.Property("input") is { ValueKind: JsonValueKind.Array } input && input.GetArrayLength() > 0 && input[0].ValueKind != JsonValueKind.Number
            ? input.GetArrayLength() : 1; // a single input may be an array of token numbers
        var dimensions = (int)Math.Clamp(x.Number("dimensions") ?? 256, 1, 4096);
        var asBase64 = x.Text("encoding_format") == "base64";
        var json = new StringBuilder("""{"object":"list","data":[""");
        for (var i = 0; i < inputs; i++)
        {
            json.Append(i == 0 ? "" : ",").Append(CultureInfo.InvariantCulture, $$"""{"object":"embedding","index":{{i}},"embedding":""").Append(Vector(i, dimensions, asBase64)).Append('}');
        }

        json.Append(CultureInfo.InvariantCulture, $$$"""],"model":"{{{x.Model}}}","usage":{"prompt_tokens":{{{x.PromptTokens}}},"total_tokens":{{{x.PromptTokens}}}}}""");
        return x.JsonAsync(json.ToString());
    }

    /// <summary>A unit vector, different for each input.</summary>
    static string Vector(int input, int dimensions, bool asBase64)
    {
        var vector = new float[dimensions];
        for (var d = 0; d < dimensions; d++)
        {
            vector[d] = (((input + d) & 1) == 0 ? 1f : -1f) / MathF.Sqrt(dimensions);
        }

        if (!asBase64)
        {
            return "[" + string.Join(',', vector.Select(v => v.ToString("R", CultureInfo.InvariantCulture))) + "]";
        }

        var bytes = new byte[dimensions * sizeof(float)];
        for (var d = 0; d < dimensions; d++)
        {
            BinaryPrimitives.WriteSingleLittleEndian(bytes.AsSpan(d * sizeof(float)), vector[d]);
        }

        return $"\"{Convert.ToBase64String(bytes)}\"";
    }

    public static Task ModelsAsync(Exchange x) =>
        x.JsonAsync($$"""{"object":"list","data":[{{string.Join(',', Models.Select(ModelJson))}}]}""");

    public static Task ModelAsync(Exchange x, string id)
    {
        if (Models.Contains(id, StringComparer.Ordinal))
        {
            return x.JsonAsync(ModelJson(id));
        }

        x.Http.Response.StatusCode = StatusCodes.Status404NotFound;
        return ErrorAsync(x, 404, $"The model '{id}' does not exist or you do not have access to it.");
    }

    static string ModelJson(string id) => $$"""{"id":"{{id}}","object":"model","created":1715367049,"owned_by":"system"}""";
}
