using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using Warmline.Providers;
using Xunit;

namespace Warmline.Tests.Http;

/// <summary>What a request tells of itself: by its Accept, its path and its body, none of which may be what it should be.</summary>
public sealed class RequestShapeTests
{
    static readonly string[] Names = ["\"stream\"", "\"stream\"", "\"stream\"", "\"stream\"", "\"stream\"", "\"stream\"", "\"model\"", "\"streams\"", "\"str\\u0065am\"", "\"messages\"", "\"\"", "\"\\\"stream\\\"\"", "\"STREAM\"", "\"\\ud83d\""];
    static readonly string[] Values = ["true", "true", "true", "true", "true", "true", "false", "null", "1", "-0.5e3", "\"true\"", "\"stream\"", "\"\\\"stream\\\":true\"", "\"gpt-4o\"", "[]", "{}", "{\"stream\":true}", "[{\"stream\":true}]", "\"ä€😀\""];
    static readonly string[] Spaces = ["", "", "", " ", "\n\t ", "\r\n"];

    [Theory]
    [InlineData("""{"stream":true}""", true)]
    [InlineData("""{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}""", true)]
    [InlineData("{ \"stream\" \n:\t true }", true)]
    [InlineData("""{"stream":false,"stream":true}""", true)]
    [InlineData("""{"stream":true,"stream":false}""", false)]
    [InlineData("""{"stream":true,"stream":null}""", false)]
    [InlineData("""{"stream":true,"stream_options":{"stream":false}}""", true)]
    [InlineData("\ufeff{\"stream\":true}", true)]
    [InlineData("""{"stream":false}""", false)]
    [InlineData("""{"stream":"true"}""", false)]
    [InlineData("""{"stream":1}""", false)]
    [InlineData("""{"stream":[true]}""", false)]
    [InlineData("""{"Stream":true}""", false)]
    [InlineData("""{"metadata":{"stream":true}}""", false)]
    [InlineData("""{"messages":[{"stream":true}]}""", false)]
    [InlineData("""{"prompt":"say \"stream\": true"}""", false)]
    [InlineData("""{"stream":false,"prompt":"\"stream\":true"}""", false)]
    [InlineData("""{"a":"stream","stream":false}""", false)]
    [InlineData("""{"str\u0065am":true}""", false)]   // overlooked, and documented
    [InlineData("""{"x":"stream","str\u0065am":true}""", true)]   // not overlooked, as the name stands there as a value
    [InlineData("""[{"stream":true}]""", false)]
    [InlineData("""["stream",true]""", false)]
    [InlineData("\"stream\"", false)]
    [InlineData("""{"stream":true""", false)]
    [InlineData("""{"stream":true}}""", false)]
    [InlineData("""{"stream":true,}""", false)]
    [InlineData("""{"stream":tru}""", false)]
    [InlineData("""{'stream':true,"stream":true}""", false)]
    [InlineData("""{"stream":true}//""", false)]
    [InlineData("", false)]
    public void A_body_asks_for_a_stream_only_at_its_top(string json, bool asks) => Assert.Equal(asks, RequestShape.AsksForStream(Encoding.UTF8.GetBytes(json)));

    [Fact]
    public void A_body_nested_too_deep_or_in_another_encoding_asks_for_nothing()
    {
        Assert.True(RequestShape.AsksForStream(Nested(900)));
        Assert.False(RequestShape.AsksForStream(Nested(2_000)));
        Assert.False(RequestShape.AsksForStream(Encoding.Unicode.GetBytes("""{"stream":true}""")));

        static byte[] Nested(int depth) => Encoding.UTF8.GetBytes("{\"stream\":true,\"x\":" + new string('[', depth) + new string(']', depth) + "}");
    }

    [Theory]
    [InlineData("""{"model":"gpt-4o","stream":true}""", "gpt-4o")]
    [InlineData("""{"a":{"model":"x"},"model":"claude-sonnet-4-5"}""", "claude-sonnet-4-5")]
    [InlineData("""{"model":"a","model":"b"}""", "b")]
    [InlineData("""{"model":"\u0067pt"}""", "gpt")]
    [InlineData("""{"model":"größe"}""", "größe")]
    [InlineData("""{"model":""}""", "")]
    [InlineData("""{"model":4}""", null)]
    [InlineData("""{"model":"\ud83d"}""", null)]
    [InlineData("""{"messages":[{"model":"x"}]}""", null)]
    [InlineData("""{"model":"x" """, null)]
    [InlineData("{}", null)]
    public void The_model_is_the_text_at_the_top(string json, string? model) => Assert.Equal(model, RequestShape.ModelOf(Encoding.UTF8.GetBytes(json)));

    [Theory]
    [InlineData(64, 64)]
    [InlineData(65, 64)]
    [InlineData(384, 64)]
    [InlineData(385, 64)]
    [InlineData(100_000, 64)]
    public void A_model_is_cut_at_64_characters(int length, int kept) =>
        Assert.Equal(new string('m', kept), RequestShape.ModelOf(Encoding.UTF8.GetBytes($$"""{"model":"{{new string('m', length)}}"}""")));

    [Fact]
    public void A_hundred_thousand_bodies_are_read_as_the_platforms_parser_reads_them_and_none_throws()
    {
        var random = new Random(20_240_817);
        var asked = 0;
        for (var body = 0; body < 100_000; body++)
        {
            var json = Encoding.UTF8.GetBytes(NewJson(random));
            if (random.Next(3) == 0)
            {
                Break(ref json, random);
            }

            var expected = Expected(json);
            Assert.True(expected == RequestShape.AsksForStream(json), $"body {body}: {Convert.ToBase64String(json)}");
            RequestShape.ModelOf(json);
            asked += expected ? 1 : 0;
        }

        Assert.InRange(asked, 5_000, 50_000);   // both answers were put to the test
    }

    [Theory]
    [InlineData("text/event-stream", true)]
    [InlineData("TEXT/event-stream; charset=utf-8", true)]
    [InlineData("application/json, text/event-stream", true)]
    [InlineData("text/event-stream;q=0.9, */*", true)]
    [InlineData("application/json", false)]
    [InlineData("text/event-streams", false)]
    [InlineData("x-text/event-stream", false)]
    [InlineData(",;, nonsense", false)]
    [InlineData("*/*", false)]
    [InlineData(null, false)]
    public void Accept_tells_of_a_stream(string? accept, bool isStream)
    {
        using var request = new HttpRequestMessage();
        if (accept is not null)
        {
            request.Headers.TryAddWithoutValidation("Accept", accept);
        }

        Assert.Equal(isStream, RequestShape.AcceptsEvents(request));
        if (isStream)
        {
            request.Headers.Remove("Accept");
            request.Headers.Accept.Add(new MediaTypeWithQualityHeaderValue("application/json"));
            request.Headers.Accept.Add(new MediaTypeWithQualityHeaderValue("text/event-stream"));
            Assert.True(RequestShape.AcceptsEvents(request));
        }
    }

    [Theory]
    [InlineData("https://api.openai.com/v1/embeddings", true)]
    [InlineData("https://api.openai.com/v1/embeddings/", true)]
    [InlineData("https://api.openai.com/v1/batches?limit=2", true)]
    [InlineData("https://api.anthropic.com/v1/messages/batches#x", true)]
    [InlineData("https://x.openai.azure.com/openai/deployments/small/embeddings?api-version=2024-10-21", true)]
    [InlineData("https://localhost/embeddings", true)]
    [InlineData("https://api.openai.com/v1/chat/completions", false)]
    [InlineData("https://api.openai.com/v1/chat/completions?next=/embeddings", false)]
    [InlineData("https://api.openai.com/v1/embeddings/7", false)]
    [InlineData("https://api.openai.com/v1/my-embeddings", false)]
    [InlineData("https:" + "//embeddings", false)]
    [InlineData("https:" + "//batches/", false)]
    public void The_path_tells_of_bulk_work(string address, bool isBulk) => Assert.Equal(isBulk, RequestShape.IsBulk(new Uri(address)));

    [Theory]
    [InlineData("application/json", true)]
    [InlineData("Application/JSON; charset=utf-8", true)]
    [InlineData("application/vnd.api+json", true)]
    [InlineData("application/jsonl", false)]
    [InlineData("text/plain", false)]
    [InlineData("multipart/form-data; boundary=json", false)]
    [InlineData(null, false)]
    public void The_type_tells_of_json(string? type, bool isJson)
    {
        using var content = new ByteArrayContent([]);
        if (type is not null)
        {
            content.Headers.TryAddWithoutValidation("Content-Type", type);
        }

        Assert.Equal(isJson, RequestShape.IsJson(content));
    }

    /// <summary>What System.Text.Json's document makes of it, which keeps the last of equal names; and the quoted name has to be there to be found.</summary>
    static bool Expected(byte[] json)
    {
        try
        {
            using var document = JsonDocument.Parse(json, new JsonDocumentOptions { MaxDepth = 1_000 });
            return json.AsSpan().IndexOf("\"stream\""u8) >= 0 && document.RootElement.ValueKind is JsonValueKind.Object
                && document.RootElement.EnumerateObject().LastOrDefault(static member => member.NameEquals("stream")) is { Value.ValueKind: JsonValueKind.True };
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException)
        {
            return false;
        }
    }

    static string NewJson(Random random)
    {
        var text = new StringBuilder("{");
        for (var members = random.Next(5); members > 0; members--)
        {
            text.Append(Pick(Spaces)).Append(Pick(Names)).Append(Pick(Spaces)).Append(':').Append(Pick(Spaces)).Append(Pick(Values)).Append(Pick(Spaces)).Append(members > 1 ? "," : "");
        }

        return text.Append('}').Append(Pick(Spaces)).ToString();

        string Pick(string[] from) => from[random.Next(from.Length)];
    }

    static void Break(ref byte[] json, Random random)
    {
        if (random.Next(2) == 0)
        {
            json = json[..random.Next(json.Length + 1)];
            return;
        }

        for (var bytes = random.Next(1, 4); bytes > 0; bytes--)
        {
            json[random.Next(json.Length)] = (byte)random.Next(256);
        }
    }
}
