using System.Net;
using System.Text.Json;

namespace Warmline.MockLlm.Tests;

/// <summary>The limit that the server enforces, and what it tells of it.</summary>
public sealed class RateLimitTests
{
    [Fact]
    public async Task What_is_above_the_limit_gets_429_until_the_window_ends()
    {
        var time = new StillTime();
        await using var server = await MockLlmServer.StartAsync(new() { RateLimit = new() { Requests = 3, Window = TimeSpan.FromSeconds(10) } }, time);
        using var client = server.Client();
        time.Pass(4);   // windows begin at multiples of ten seconds
        var lefts = new List<string>();
        for (var i = 0; i < 3; i++)
        {
            using var served = await client.ChatAsync();
            Assert.Equal(HttpStatusCode.OK, served.StatusCode);
            lefts.Add($"{Header(served, "x-ratelimit-remaining-requests")} of {Header(served, "x-ratelimit-limit-requests")} in {Header(served, "x-ratelimit-reset-requests")}");
        }

        Assert.Equal(["2 of 3 in 6s", "1 of 3 in 6s", "0 of 3 in 6s"], lefts);
        time.Pass(0.5);
        using var refused = await client.ChatAsync();
        using var error = JsonDocument.Parse(await refused.Content.ReadAsStringAsync());
        Assert.Equal(HttpStatusCode.TooManyRequests, refused.StatusCode);
        Assert.Equal(("5.5", "5500", "5.5s", "0"), (Header(refused, "retry-after"), Header(refused, "retry-after-ms"), Header(refused, "x-ratelimit-reset-requests"), Header(refused, "x-ratelimit-remaining-requests")));
        Assert.Equal(("requests", "rate_limit_exceeded"), (error.RootElement.GetProperty("error").GetProperty("type").GetString(), error.RootElement.GetProperty("error").GetProperty("code").GetString()));

        time.Pass(5.5);
        using var next = await client.ChatAsync();
        Assert.Equal((HttpStatusCode.OK, "2"), (next.StatusCode, Header(next, "x-ratelimit-remaining-requests")));
        Assert.Equal(1, server.GetCounters().TooManyRequests);
    }

    [Fact]
    public async Task A_bucket_refills_all_the_time_and_tells_when_it_would_be_full()
    {
        var time = new StillTime();
        await using var server = await MockLlmServer.StartAsync(new() { RateLimit = new() { Requests = 10, Window = TimeSpan.FromSeconds(20), Refills = true } }, time);
        using var client = server.Client();
        for (var i = 0; i < 10; i++)
        {
            using var served = await client.ChatAsync();
            Assert.Equal($"{(i + 1) * 2}s", Header(served, "x-ratelimit-reset-requests"));
        }

        time.Pass(0.5);
        using var refused = await client.ChatAsync();
        Assert.Equal((HttpStatusCode.TooManyRequests, "1500"), (refused.StatusCode, Header(refused, "retry-after-ms")));
        time.Pass(1.5);
        using var one = await client.ChatAsync();
        using var two = await client.ChatAsync();
        Assert.Equal((HttpStatusCode.OK, HttpStatusCode.TooManyRequests), (one.StatusCode, two.StatusCode));
    }

    [Fact]
    public async Task Tokens_are_counted_of_prompt_and_answer_and_told_as_Anthropic_does()
    {
        var time = new StillTime();
        await using var server = await MockLlmServer.StartAsync(new() { Tokens = 4_000, RateLimit = new() { Tokens = 10_000, Window = TimeSpan.FromSeconds(60) } }, time);
        using var client = server.Client();
        client.DefaultRequestHeaders.Add("anthropic-version", "2023-06-01");
        using var first = await client.PostAsync("v1/messages", new StringContent("""{"model":"m","max_tokens":9}"""));
        using var second = await client.PostAsync("v1/messages", new StringContent("""{"model":"m","max_tokens":9}"""));
        using var refused = await client.PostAsync("v1/messages", new StringContent("""{"model":"m","max_tokens":9}"""));

        Assert.Equal((HttpStatusCode.OK, HttpStatusCode.OK, HttpStatusCode.TooManyRequests), (first.StatusCode, second.StatusCode, refused.StatusCode));
        Assert.Equal(("5000", "1000"), (Header(first, "anthropic-ratelimit-tokens-remaining"), Header(second, "anthropic-ratelimit-tokens-remaining")));
        Assert.Equal("2030-01-01T00:01:00Z", Header(refused, "anthropic-ratelimit-tokens-reset"));
        Assert.Equal("60", Header(refused, "retry-after"));
        Assert.False(refused.Headers.Contains("retry-after-ms"));
        using var error = JsonDocument.Parse(await refused.Content.ReadAsStringAsync());
        Assert.Equal("rate_limit_error", error.RootElement.GetProperty("error").GetProperty("type").GetString());
    }

    [Fact]
    public async Task OpenAIs_refusal_names_tokens_where_they_lack()
    {
        await using var server = await MockLlmServer.StartAsync(new() { RateLimit = new() { Tokens = 5 } }, new StillTime());
        using var client = server.Client();
        using var refused = await client.ChatAsync();

        Assert.Contains("\"type\":\"tokens\"", await refused.Content.ReadAsStringAsync(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Under_load_as_many_are_served_as_the_limit_says_and_no_more()
    {
        await using var server = await MockLlmServer.StartAsync(new() { RateLimit = new() { Requests = 25, Window = TimeSpan.FromHours(1) } }, new StillTime());
        using var client = server.Client();
        var answers = await Task.WhenAll(Enumerable.Range(0, 80).Select(_ => client.ChatAsync()));

        Assert.Equal(25, answers.Count(answer => answer.StatusCode == HttpStatusCode.OK));
        Assert.Equal((55, 80), (server.GetCounters().TooManyRequests, answers.Length));
    }

    [Fact]
    public async Task Lists_of_models_do_not_count()
    {
        await using var server = await MockLlmServer.StartAsync(new() { RateLimit = new() { Requests = 1 } }, new StillTime());
        using var client = server.Client();
        for (var i = 0; i < 3; i++)
        {
            using var models = await client.GetAsync("v1/models");
            Assert.Equal((HttpStatusCode.OK, "1"), (models.StatusCode, Header(models, "x-ratelimit-remaining-requests")));
        }
    }

    [Fact]
    public async Task A_script_names_the_error()
    {
        await using var server = await MockLlmServer.StartAsync(new() { OnRequest = _ => new() { Status = 429, ErrorCode = "slow_down" } });
        using var client = server.Client();
        using var slowDown = await client.ChatAsync();
        using var overloaded = await client.PostAsync("v1/messages", new StringContent("{}"));

        Assert.Contains("\"code\":\"slow_down\"", await slowDown.Content.ReadAsStringAsync(), StringComparison.Ordinal);
        Assert.Contains("\"type\":\"slow_down\"", await overloaded.Content.ReadAsStringAsync(), StringComparison.Ordinal);
        Assert.Equal(2, server.GetCounters().TooManyRequests);
    }

    [Fact]
    public async Task Overloaded_is_529_in_Anthropics_shape()
    {
        await using var server = await MockLlmServer.StartAsync();
        using var client = server.Client();
        client.DefaultRequestHeaders.Add("x-mock-status", "529");
        using var answer = await client.PostAsync("v1/messages", new StringContent("{}"));

        Assert.Equal(529, (int)answer.StatusCode);
        Assert.Contains("\"type\":\"overloaded_error\"", await answer.Content.ReadAsStringAsync(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_limit_out_of_range_is_named()
    {
        var error = await Assert.ThrowsAsync<ArgumentException>(() => MockLlmServer.StartAsync(new() { RateLimit = new() { Requests = 0, Tokens = 0, Window = TimeSpan.Zero } }));

        Assert.All(["RateLimit.Requests", "RateLimit.Tokens", "RateLimit.Window"], name => Assert.Contains(name, error.Message, StringComparison.Ordinal));
    }

    static string Header(HttpResponseMessage answer, string name) => string.Join(',', answer.Headers.NonValidated[name]);

    /// <summary>A clock that a test turns; its timers are none, as nothing here waits.</summary>
    sealed class StillTime : TimeProvider
    {
        long _ticks = new DateTimeOffset(2030, 1, 1, 0, 0, 0, TimeSpan.Zero).UtcTicks;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override DateTimeOffset GetUtcNow() => new(Interlocked.Read(ref _ticks), TimeSpan.Zero);

        public override long GetTimestamp() => Interlocked.Read(ref _ticks);

        public void Pass(double seconds) => Interlocked.Add(ref _ticks, TimeSpan.FromSeconds(seconds).Ticks);
    }
}
