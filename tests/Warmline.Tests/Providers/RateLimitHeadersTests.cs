using System.Globalization;
using System.Net.Http.Headers;
using System.Text;
using Warmline.Providers;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Providers;

/// <summary>What is read from the headers of every provider, and from nonsense.</summary>
public sealed class RateLimitHeadersTests
{
    static readonly ManualTime Noon = new(new DateTimeOffset(2030, 1, 1, 12, 0, 0, TimeSpan.Zero));

    public static TheoryData<string> Names => [.. RateLimitFixtures.All.Select(fixture => fixture.Name)];

    [Theory]
    [MemberData(nameof(Names))]
    public void Headers_are_read_as_documented(string name)
    {
        var (_, headers, expected) = RateLimitFixtures.All.Single(fixture => fixture.Name == name);

        Assert.Equal(expected, Text(Read(headers)));
    }

    [Fact]
    public void There_are_enough_of_them() => Assert.True(RateLimitFixtures.All.Count() >= 60);

    [Theory]
    [InlineData(RateLimitFormat.OpenAI, "requests 5/? ?; wait 3")]
    [InlineData(RateLimitFormat.Anthropic, "tokens 6/? ?; wait 3")]
    [InlineData(RateLimitFormat.Any, "requests 5/? ?; tokens 6/? ?; wait 3")]
    [InlineData(RateLimitFormat.None, "wait 3")]
    public void Only_the_families_of_the_format_are_read(RateLimitFormat format, string expected) =>
        Assert.Equal(expected, Text(Read("x-ratelimit-remaining-requests: 5; anthropic-ratelimit-tokens-remaining: 6; retry-after: 3", format)));

    /// <summary>
    /// OpenRouter: openrouter.ai/docs/api-reference/limits; everruns, pull request 2280. Noon is 1893499200000.
    /// </summary>
    [Theory]
    [InlineData("X-RateLimit-Limit: 50; X-RateLimit-Remaining: 0; X-RateLimit-Reset: 1893499230000", "requests 0/50 30")]
    [InlineData("date: Tue, 01 Jan 2030 11:59:00 GMT; X-RateLimit-Reset: 1893499230000", "requests ?/? 90")]
    [InlineData("X-RateLimit-Reset: 1893499199999", "requests ?/? 0")]
    [InlineData("X-RateLimit-Reset: 1893499230", "requests ?/? 0")]   // in seconds it is long over
    [InlineData("X-RateLimit-Reset: 9223372036854775807; X-RateLimit-Limit: -1; X-RateLimit-Remaining: many", "")]
    [InlineData("X-RateLimit-Reset: 30s; x-ratelimit-reset-requests: 30s; x-ratelimit-used: 3", "")]
    public void OpenRouters_resets_are_moments_in_milliseconds(string headers, string expected) => Assert.Equal(expected, Text(Read(headers, RateLimitFormat.OpenRouter)));

    [Theory]
    [InlineData("x-ratelimit-reset-requests: 59.5s", 0)]
    [InlineData("x-ratelimit-reset-requests: 6m0s", 1)]
    [InlineData("x-ratelimit-reset-requests: 24", 1)]
    [InlineData("anthropic-ratelimit-requests-reset: 2030-01-01T12:00:10Z", 2)]
    [InlineData("anthropic-ratelimit-requests-reset: 2030-01-01T12:00:10.5Z", 1)]
    public void It_says_by_how_much_a_reset_can_be_off(string header, int seconds) =>
        Assert.Equal(TimeSpan.FromSeconds(seconds), Read(header)[RateLimitKind.Requests]!.Value.Slack);

    [Fact]
    public void The_headers_are_left_as_they_came()
    {
        var headers = Of("retry-after: 3, 4; x-ratelimit-reset-requests: 1s; x-ratelimit-reset-requests: 2s; date: nonsense");
        var before = Sent();

        RateLimitHeaders.Read(headers, RateLimitFormat.Any, Noon);

        Assert.Equal(before, Sent());

        string[] Sent() => [.. headers.NonValidated.SelectMany(header => header.Value.Select(value => header.Key + value))];
    }

    [Fact]
    public void An_answer_without_such_headers_allocates_nothing()
    {
        var headers = Of("content-type: a; server: cloudflare; cf-ray: 972a33bb3977d246-FRA; x-request-id: 1; date: Thu, 21 Aug 2025 12:41:00 GMT; alt-svc: h3; via: 1.1 google; strict-transport-security: max-age=1");
        RateLimitHeaders.Read(headers, RateLimitFormat.Any, Noon);
        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 100; i++)
        {
            RateLimitHeaders.Read(headers, RateLimitFormat.Any, Noon);
        }

        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
    }

    /// <summary>Valid values with their characters changed, cut, doubled and mixed, and plain noise.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(20_260_718)]
    [InlineData(77)]
    public void Nothing_is_thrown_and_no_time_is_negative(int usualSeed)
    {
        var (seed, rounds) = Seeds.Of(usualSeed, 20_000);
        var random = new Random(seed);
        var pairs = RateLimitFixtures.All.SelectMany(fixture => Pairs(fixture.Headers)).ToList();
        var names = pairs.Select(pair => pair.Name).Distinct(StringComparer.OrdinalIgnoreCase).ToArray();
        for (var round = 0; round < rounds; round++)
        {
            var headers = new HttpResponseMessage().Headers;
            var sent = new StringBuilder();
            for (var i = random.Next(1, 6); i > 0; i--)
            {
                var (name, value) = (names[random.Next(names.Length)], Mutated(pairs[random.Next(pairs.Count)].Value, pairs[random.Next(pairs.Count)].Value, random));
                headers.TryAddWithoutValidation(name, value);
                sent.Append(CultureInfo.InvariantCulture, $"{name}: {Uri.EscapeDataString(value)}; ");
            }

            var read = Record.Exception(() =>
            {
                Check(RateLimitHeaders.Read(headers, RateLimitFormat.Any, Noon));
                Check(RateLimitHeaders.Read(headers, RateLimitFormat.OpenRouter, Noon));
            });
            Assert.True(read is null, $"seed {seed}, round {round}: {sent}\n{read}");
        }
    }

    static void Check(RateLimits limits)
    {
        Assert.True(limits.RetryAfter is null || (limits.RetryAfter >= TimeSpan.Zero && limits.RetryAfter <= TimeSpan.FromDays(367)));
        foreach (var kind in Enum.GetValues<RateLimitKind>())
        {
            if (limits[kind] is { } limit)
            {
                Assert.True(limit.Limit is null or >= 0 && limit.Remaining is null or >= 0 && limit.Slack >= TimeSpan.Zero);
                Assert.True(limit.ResetIn is null || (limit.ResetIn >= TimeSpan.Zero && limit.ResetIn <= TimeSpan.FromDays(367)));
                Assert.True(limit.Limit is not null || limit.Remaining is not null || limit.ResetIn is not null);
            }
        }
    }

    static string Mutated(string value, string other, Random random)
    {
        var text = new StringBuilder(random.Next(8) == 0 ? "" : value);
        for (var changes = random.Next(5); changes > 0; changes--)
        {
            var at = random.Next(text.Length + 1);
            switch (random.Next(6))
            {
                case 0:
                    text.Insert(at, (char)random.Next(random.Next(2) == 0 ? 128 : 65_536));
                    break;
                case 1 when at < text.Length:
                    text.Remove(at, random.Next(1, text.Length - at + 1));
                    break;
                case 2 when at < text.Length:
                    text[at] = "0123456789.-+:TZhmsnuµ e,"[random.Next(25)];
                    break;
                case 3:
                    text.Insert(at, other);
                    break;
                case 4 when text.Length is > 0 and < 2_000:
                    text.Append(text);
                    break;
                case 5:
                    text.Insert(at, new string((char)random.Next('0', '9' + 1), random.Next(1, 40)));
                    break;
            }
        }

        return text.ToString();
    }

    static string Text(RateLimits limits)
    {
        var parts = new List<string>();
        foreach (var kind in Enum.GetValues<RateLimitKind>())
        {
            if (limits[kind] is { } limit)
            {
                parts.Add(FormattableString.Invariant($"{kind.ToString().ToLowerInvariant()} {limit.Remaining?.ToString(CultureInfo.InvariantCulture) ?? "?"}/{limit.Limit?.ToString(CultureInfo.InvariantCulture) ?? "?"} {Seconds(limit.ResetIn)}"));
            }
        }

        Assert.Equal(limits.IsEmpty, parts.Count == 0);
        if (limits.RetryAfter is { } wait)
        {
            parts.Add("wait " + Seconds(wait));
        }

        return string.Join("; ", parts);
    }

    static string Seconds(TimeSpan? time) => time is { } known ? ((decimal)known.Ticks / TimeSpan.TicksPerSecond).ToString("0.#########", CultureInfo.InvariantCulture) : "?";

    static RateLimits Read(string headers, RateLimitFormat format = RateLimitFormat.Any) => RateLimitHeaders.Read(Of(headers), format, Noon);

    static HttpResponseHeaders Of(string text)
    {
        var headers = new HttpResponseMessage().Headers;
        foreach (var (name, value) in Pairs(text))
        {
            headers.TryAddWithoutValidation(name, value);
        }

        return headers;
    }

    static IEnumerable<(string Name, string Value)> Pairs(string headers) =>
        headers.Split(';').Select(header => (header[..header.IndexOf(':', StringComparison.Ordinal)].Trim(), header[(header.IndexOf(':', StringComparison.Ordinal) + 1)..]));
}
