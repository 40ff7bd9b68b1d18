using System.Net;
using System.Text;
using Warmline.MockLlm;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>Requests wait for what their provider lets through, in the server's own time: it passes only when all wait.</summary>
public sealed class PacingTests
{
    const int Limit = 60;
    const int Windows = 10;
    const int Callers = 8;

    static readonly TimeSpan Step = TimeSpan.FromMilliseconds(25);

    [Theory(Timeout = 3 * Rig.Patience)]
    [InlineData("v1/chat/completions", false)]
    [InlineData("v1/chat/completions", true)]
    [InlineData("v1/messages", false)]
    [InlineData("v1/messages", true)]
    public async Task A_limit_that_was_told_is_kept_to_and_used(string path, bool refills)
    {
        // Anthropic tells its resets in whole seconds of the clock, so its windows are long enough for that.
        var window = TimeSpan.FromSeconds(path.EndsWith("messages", StringComparison.Ordinal) ? 60 : 1.5);
        var time = new ManualTime();
        await using var mock = await MockAsync(time, window, refills);
        await using var pool = Pool(mock, time, pacing: true);
        using var client = pool.CreateClient(mock.BaseAddress);
        await CallAsync(client, path);   // the first headers

        var end = time.GetTimestamp() + (window * Windows).Ticks;
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Rig.Ct);
        var callers = Enumerable.Range(0, Callers).Select(_ => Task.Run(async () =>
        {
            while (true)
            {
                await CallAsync(client, path, ct: stop.Token);
            }
        })).ToArray();
        while (time.GetTimestamp() < end)
        {
            await Eventually.TrueAsync(() => pool.GetWaiters(Callers + 1).Count(waiter => waiter.Reason is PoolRejectionReason.ProviderLimit) == Callers || Array.Exists(callers, caller => caller.IsFaulted),
                () => string.Join("; ", pool.GetWaiters()));
            time.Advance(window / 60 < Step ? Step : window / 60);
        }

        var counters = mock.GetCounters();
        var answered = mock.GetRequests().Count(request => request.Status == 200);
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Task.WhenAll(callers));
        Assert.Equal(0, counters.TooManyRequests);
        Assert.True(answered >= Limit * Windows * 0.95, $"{answered} of {Limit * Windows}");
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Without_pacing_nothing_waits_and_the_limits_are_shown()
    {
        var time = new ManualTime();
        await using var mock = await MockAsync(time, TimeSpan.FromMinutes(1), refills: false);
        await using var pool = Pool(mock, time, pacing: false);
        using var client = pool.CreateClient(mock.BaseAddress);
        for (var calls = 0; calls < Limit + 5; calls++)
        {
            using var response = await client.PostAsync("v1/chat/completions", Body("m"), Rig.Ct);
            Assert.Equal(calls < Limit ? HttpStatusCode.OK : HttpStatusCode.TooManyRequests, response.StatusCode);
            time.Advance(Step);
        }

        Assert.Equal(5, mock.GetCounters().TooManyRequests);
        var told = Assert.Single(pool.GetStats().RateLimits);
        Assert.Equal(pool.GetStats().Origins[0].Origin, told.Origin);
        var requests = Assert.Single(told.Limits, limit => limit.Kind is RateLimitKind.Requests);
        Assert.Equal((Limit, 0L), (requests.Limit, requests.Remaining));
        Assert.InRange(requests.ResetsIn!.Value, TimeSpan.FromSeconds(50), TimeSpan.FromSeconds(60));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("Authorization")]
    [InlineData("x-api-key")]
    [InlineData("api-key")]
    public async Task What_one_model_or_key_has_used_up_holds_no_other_back(string credential)
    {
        var time = new ManualTime();
        await using var mock = await MockLlmServer.StartAsync(new MockLlmOptions { UseTls = false, Tokens = 1 }, time, Rig.Ct);
        await using var pool = Pool(mock, time, pacing: true);
        using var client = pool.CreateClient(mock.BaseAddress);
        await CallAsync(client, "v1/chat/completions", "small");
        using (var refused = await client.SendAsync(Call("large", ("x-mock-status", "429"), ("x-mock-retry-after", "30")), Rig.Ct))
        {
            Assert.Equal(HttpStatusCode.TooManyRequests, refused.StatusCode);
        }

        var waiting = client.SendAsync(Call("large"), Rig.Ct);
        await Eventually.TrueAsync(() => pool.GetWaiters().Count == 1);
        Assert.Equal(PoolRejectionReason.ProviderLimit, pool.GetWaiters()[0].Reason);
        await CallAsync(client, "v1/chat/completions", "small");
        using (var other = await client.SendAsync(Call("large", (credential, "Bearer another")), Rig.Ct))
        {
            Assert.Equal(HttpStatusCode.OK, other.StatusCode);
        }

        time.Advance(TimeSpan.FromSeconds(29));
        Assert.False(waiting.IsCompleted);
        time.Advance(TimeSpan.FromSeconds(1.1));
        using var answer = await waiting;
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(429)]
    [InlineData(529)]
    public async Task A_call_that_would_have_to_wait_for_too_long_is_refused_at_once(int status)
    {
        var time = new ManualTime();
        await using var mock = await MockLlmServer.StartAsync(new MockLlmOptions { UseTls = false, Tokens = 1 }, time, Rig.Ct);
        await using var pool = Pool(mock, time, pacing: true);
        using var client = pool.CreateClient(mock.BaseAddress);
        (await client.SendAsync(Call("m", ("x-mock-status", $"{status}"), ("x-mock-retry-after", "30")), Rig.Ct)).Dispose();

        var brief = Call("m").With(new PoolRequestOptions { MaxQueueTime = TimeSpan.FromSeconds(20) });
        var refusal = await Assert.ThrowsAsync<PoolRejectedException>(() => client.SendAsync(brief, Rig.Ct));
        Assert.Equal(PoolRejectionReason.ProviderLimit, refusal.Reason);
        Assert.Empty(refusal.Stats.RateLimits);   // a storm of refusals makes a snapshot for each
        Assert.Equal(1, refusal.Stats.Refused);
        Assert.NotEmpty(refusal.Stats.Origins);
        var longer = client.SendAsync(Call("m").With(new PoolRequestOptions { MaxQueueTime = TimeSpan.FromSeconds(40) }), Rig.Ct);
        await Eventually.TrueAsync(() => pool.GetWaiters().Count == 1);
        time.Advance(TimeSpan.FromSeconds(31));
        using var answer = await longer;
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(429)]
    [InlineData(503)]
    public async Task After_slow_down_the_rate_is_bounded_and_the_caller_still_reads_the_error(int status)
    {
        var time = new ManualTime();
        await using var mock = await MockLlmServer.StartAsync(new MockLlmOptions { UseTls = false, Tokens = 1 }, time, Rig.Ct);
        await using var pool = Pool(mock, time, pacing: true);
        using var client = pool.CreateClient(mock.BaseAddress);
        for (var calls = 0; calls < 6; calls++)
        {
            await CallAsync(client, "v1/chat/completions");
            time.Advance(TimeSpan.FromSeconds(5));
        }

        using (var refused = await client.SendAsync(Call("m", ("x-mock-status", $"{status}"), ("x-mock-error-code", "slow_down"), ("x-mock-retry-after", "1")), Rig.Ct))
        {
            Assert.Contains("slow_down", await refused.Content.ReadAsStringAsync(Rig.Ct), StringComparison.Ordinal);
        }

        time.Advance(TimeSpan.FromSeconds(2));
        await CallAsync(client, "v1/chat/completions");
        var second = client.SendAsync(Call("m"), Rig.Ct);   // some seven a minute: not two in a second
        await Eventually.TrueAsync(() => pool.GetWaiters().Count == 1);
        Assert.Equal(PoolRejectionReason.ProviderLimit, pool.GetWaiters()[0].Reason);
        time.Advance(TimeSpan.FromSeconds(15));
        using var answer = await second;
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
    }

    static Task<MockLlmServer> MockAsync(ManualTime time, TimeSpan window, bool refills) => MockLlmServer.StartAsync(
        new MockLlmOptions { UseTls = false, Tokens = 1, RecordRequests = true, RateLimit = new() { Requests = Limit, Window = window, Refills = refills } }, time, Rig.Ct);

    static ConnectionPool Pool(MockLlmServer mock, ManualTime time, bool pacing) => new(
        Rig.Options(mock, options =>
        {
            options.Pacing = pacing;
            options.Timeouts.Pool = Timeout.InfiniteTimeSpan;
        }), timeProvider: time);

    static StringContent Body(string model) => new($$"""{"model":"{{model}}","max_tokens":1,"messages":[{"role":"user","content":"Hi"}]}""", Encoding.UTF8, "application/json");

    static HttpRequestMessage Call(string model, params (string Name, string Value)[] headers)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, "v1/chat/completions") { Content = Body(model) };
        foreach (var (name, value) in headers)
        {
            request.Headers.Add(name, value);
        }

        return request;
    }

    static async Task CallAsync(HttpClient client, string path, string model = "m", CancellationToken? ct = null)
    {
        using var response = await client.PostAsync(path, Body(model), ct ?? Rig.Ct);
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
    }
}
