using System.IO.Compression;
using System.Text;
using Warmline.Providers;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Providers;

/// <summary>What the bodies of refusals say, in every shape that is documented, and that nothing else says anything.</summary>
public sealed class ErrorBodyTests
{
    const string Type = "type.googleapis.com/google.rpc.RetryInfo";
    const string Gemini = """
        {"error":{"code":429,"message":"You exceeded your current quota.","status":"RESOURCE_EXHAUSTED","details":[
        {"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaMetric":"m","quotaDimensions":{"model":"gemini-2.5-pro"},"quotaValue":"5"}]},
        {"@type":"type.googleapis.com/google.rpc.Help","links":[{"description":"Learn more","url":"https://ai.google.dev/gemini-api/docs/rate-limits"}]},
        {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"5.25s"}]}}
        """;

    public static TheoryData<string, double?> Shapes => new()
    {
        { Gemini, 5.25 },
        { $"[{Gemini}]", 5.25 },   // as the error of a stream
        { $"[{Gemini}\n,", 5.25 },   // and before that has ended
        { Details($$"""{"@type":"{{Type}}","retryDelay":"0.837906927s"}"""), 0.8379070 },
        { Details($$$"""{"@type":"{{{Type}}}","retryDelay":"34s"},{"@type":"type.googleapis.com/google.rpc.Help"}"""), 34 },
        { Details($$"""{"retryDelay":"34s","@type":"{{Type}}"}"""), 34 },
        { Details($$"""{"@type":"{{Type}}","retry_delay":"34s"}"""), 34 },
        { Details("""{"@type":"google.rpc.RetryInfo","retryDelay":"34s"}"""), 34 },
        { Details("""{"@type":"type.googleapis.com\/google.rpc.RetryInfo","retryDelay":"34s"}"""), 34 },
        { Details($$"""{"@type":"{{Type}}","retryDelay":"3s"},{"@type":"{{Type}}","retryDelay":"7s"},{"@type":"{{Type}}","retryDelay":"5s"}"""), 7 },
        { Details($$"""{"@type":"{{Type}}","retryDelay":"86400s"}"""), 86_400 },
        { $$"""{"@type":"{{Type}}","retryDelay":"1.000000001s"}""", 1.0000001 },   // rounded up to a tick
        { $$$"""{"@type":"{{{Type}}}","nested":{"a":[1,{}]},"retryDelay":"2s"}""", 2 },
        { Details($$"""{"@type":"{{Type}}","retryDelay":"2s"}""") + " and more", 2 },
        { "{\"a\":1}\n" + Gemini, 5.25 },

        // What says nothing.
        { Details("""{"@type":"type.googleapis.com/google.rpc.ErrorInfo","retryDelay":"34s"}"""), null },
        { Details("""{"@type":"type.googleapis.com/xgoogle.rpc.RetryInfo","retryDelay":"34s"}"""), null },
        { Details($$"""{"@type":"{{Type}}"},{"retryDelay":"34s"}"""), null },
        { Details($$$"""{"@type":"{{{Type}}}","inner":{"retryDelay":"34s"}}"""), null },
        { Details($$$"""{"inner":{"@type":"{{{Type}}}"},"retryDelay":"34s"}"""), null },
        { Details($$"""{"@type":["{{Type}}"],"retryDelay":"34s"}"""), null },
        { Details($$"""{"@type":"{{Type}}","retryDelay":"34"}"""), null },
        { Details($$"""{"@type":"{{Type}}","retryDelay":"34ms"}"""), null },
        { Details($$"""{"@type":"{{Type}}","retryDelay":"-34s"}"""), null },
        { Details($$"""{"@type":"{{Type}}","retryDelay":"0s"}"""), null },
        { Details($$"""{"@type":"{{Type}}","retryDelay":"1e3s"}"""), null },
        { Details($$"""{"@type":"{{Type}}","retryDelay":"s"}"""), null },
        { Details($$"""{"@type":"{{Type}}","retryDelay":""}"""), null },
        { Details($$"""{"@type":"{{Type}}","retryDelay":34}"""), null },
        { Details($$$"""{"@type":"{{{Type}}}","retryDelay":{"seconds":34}}"""), null },
        { Details($$"""{"@type":"{{Type}}","retryDelay":"99999999999999999999s"}"""), null },
        { """{"error":{"message":"retryDelay\":\"34s\" google.rpc.RetryInfo"}}""", null },
        { """{"retryDelay":"34s"}""", null },
        { "<html>google.rpc.RetryInfo retryDelay 34s</html>", null },
        { "", null },
        { "\0\u0001", null },
    };

    [Theory]
    [MemberData(nameof(Shapes))]
    public void A_wait_is_read_where_it_is_documented(string body, double? seconds)
    {
        Assert.Equal(seconds is { } wait ? TimeSpan.FromTicks((long)Math.Round(wait * TimeSpan.TicksPerSecond)) : null, Read(body).Wait);
        Assert.False(Read(body).SlowDown);
    }

    [Theory]
    [InlineData("""{"error":{"message":"m","type":"server_error","param":null,"code":"slow_down"}}""", true)]
    [InlineData("""{"error":{"type":"slow_down"}}""", true)]
    [InlineData("""{"error":{"code":"slow\u005fdown"}}""", true)]
    [InlineData("""{"error":{"code":"slow_down","mess""", true)]
    [InlineData("""{"error":{"message":"slow_down"}}""", false)]
    [InlineData("""{"error":{"code":"do not slow_down"}}""", false)]
    [InlineData("""{"slow_down":true}""", false)]
    [InlineData("""{"code":["slow_down"]}""", false)]
    [InlineData("slow_down", false)]
    public void Slow_down_is_read_where_it_is_documented(string body, bool slowDown) => Assert.Equal(new RefusalAdvice(null, slowDown), Read(body));

    [Fact]
    public void What_is_cut_short_says_what_has_come_and_nesting_has_a_bound()
    {
        var end = Gemini.IndexOf("5.25s\"", StringComparison.Ordinal) + "5.25s\"".Length;
        for (var length = 0; length <= Gemini.Length; length++)
        {
            Assert.Equal(length >= end ? TimeSpan.FromSeconds(5.25) : null, Read(Gemini[..length]).Wait);
        }

        Assert.Equal(default, Read(new string('[', 1_000) + Gemini));
        Assert.Equal(default, Read(string.Concat(Enumerable.Repeat("{\"a\":", 1_000)) + Gemini));
    }

    [Theory]
    [InlineData("gzip")]
    [InlineData("x-gzip")]
    [InlineData("GZIP ")]
    [InlineData("deflate")]
    [InlineData("raw")]
    [InlineData("br")]
    [InlineData("identity")]
    [InlineData("")]
    [InlineData("gzip, br")]
    public void Compressed_bodies_are_read_as_far_as_they_have_come(string encodings)
    {
        var body = Encoding.UTF8.GetBytes(Gemini);
        foreach (var encoding in encodings.Split(','))
        {
            body = Encode(body, encoding);
        }

        var said = encodings == "raw" ? "deflate" : encodings;
        Assert.True(ErrorBody.CanDecode(said));
        Assert.Equal(TimeSpan.FromSeconds(5.25), ErrorBody.Read(ErrorBody.Decode(body, said)).Wait);
        for (var length = 0; length < body.Length; length++)
        {
            ErrorBody.Read(ErrorBody.Decode(body.AsSpan(0, length), said));
        }
    }

    [Fact]
    public void A_body_that_grows_without_end_is_decoded_to_its_bound_and_an_unknown_encoding_is_left_alone()
    {
        var bomb = Encode(new byte[64 * 1024 * 1024], "gzip");

        Assert.InRange(ErrorBody.Decode(bomb, "gzip").Length, ErrorBody.Largest, 2 * ErrorBody.Largest);
        Assert.All(["zstd", "gzip, zstd", "compress", "gzip;q=1"], encoding => Assert.False(ErrorBody.CanDecode(encoding)));
        Assert.Equal(0, ErrorBody.Decode("no gzip at all"u8, "gzip").Length);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(20_260_718)]
    [InlineData(77)]
    public void Nothing_is_thrown_whatever_comes(int usualSeed)
    {
        var (seed, rounds) = Seeds.Of(usualSeed, 20_000);
        var random = new Random(seed);
        for (var round = 0; round < rounds; round++)
        {
            var body = Encoding.UTF8.GetBytes(random.Next(4) == 0 ? Gemini : $"{{\"code\":\"slow_down\",\"@type\":\"{Type}\",\"retryDelay\":\"5.25s\"}}");
            for (var changes = random.Next(4); changes > 0; changes--)
            {
                body[random.Next(body.Length)] = random.Next(3) == 0 ? (byte)"{}[]\":,\\s0.9"[random.Next(12)] : (byte)random.Next(256);
            }

            var encoding = random.Next(8) switch { 0 => "gzip", 1 => "deflate", 2 => "br", 3 => "raw", _ => "" };
            body = random.Next(2) == 0 ? Encode(body, encoding) : body;
            if (body.Length > 0 && random.Next(3) == 0)
            {
                body[random.Next(body.Length)] ^= (byte)random.Next(256);
            }

            var advice = ErrorBody.Read(ErrorBody.Decode(body.AsSpan(0, random.Next(body.Length + 1)), encoding == "raw" ? "deflate" : encoding));
            Assert.True(advice.Wait is null || (advice.Wait > TimeSpan.Zero && advice.Wait <= TimeSpan.FromDays(366)), $"seed {seed}, round {round}");
        }
    }

    [Fact]
    public void Only_what_is_new_is_told_again()
    {
        var (one, two) = (TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(2));

        Assert.Equal(new RefusalAdvice(one, true), new RefusalAdvice(one, true).Beyond(default));
        Assert.Equal(default, new RefusalAdvice(one, true).Beyond(new(one, true)));
        Assert.Equal(new RefusalAdvice(two, false), new RefusalAdvice(two, true).Beyond(new(one, true)));
        Assert.Equal(new RefusalAdvice(null, true), new RefusalAdvice(one, true).Beyond(new(two, false)));
    }

    internal static byte[] Encode(byte[] body, string encoding)
    {
        using var to = new MemoryStream();
        using (Stream? encoder = encoding.Trim().ToUpperInvariant() switch
        {
            "GZIP" or "X-GZIP" => new GZipStream(to, CompressionLevel.Fastest, leaveOpen: true),
            "DEFLATE" => new ZLibStream(to, CompressionLevel.Fastest, leaveOpen: true),
            "RAW" => new DeflateStream(to, CompressionLevel.Fastest, leaveOpen: true),
            "BR" => new BrotliStream(to, CompressionLevel.Fastest, leaveOpen: true),
            _ => null,
        })
        {
            if (encoder is null)
            {
                return body;
            }

            encoder.Write(body);
        }

        return to.ToArray();
    }

    static string Details(string details) => $$$"""{"error":{"code":429,"details":[{{{details}}}]}}""";

    static RefusalAdvice Read(string body) => ErrorBody.Read(Encoding.UTF8.GetBytes(body));
}
