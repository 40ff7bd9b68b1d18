using Warmline.MockLlm;
using Warmline.Providers;
using Warmline.Scheduling;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Providers;

/// <summary>Real answers of a server that enforces a limit, their headers read and kept to: in the server's time, which passes only when the budget says to wait.</summary>
public sealed class BudgetOverHttpTests
{
    const int Limit = 60;
    const int Windows = 20;
    const int AtOnce = 8;

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData("v1/chat/completions", false, 60)]
    [InlineData("v1/chat/completions", true, 60)]
    [InlineData("v1/messages", false, 60)]
    [InlineData("v1/messages", true, 60)]
    [InlineData("v1/chat/completions", false, 1.5)]
    [InlineData("v1/chat/completions", true, 1.5)]
    public async Task Nothing_is_refused_and_the_budget_is_used(string path, bool refills, double window)
    {
        var time = new ManualTime();
        var options = new MockLlmOptions { UseTls = false, Tokens = 1, RecordRequests = true, RateLimit = new() { Requests = Limit, Window = TimeSpan.FromSeconds(window), Refills = refills } };
        await using var server = await MockLlmServer.StartAsync(options, time, TestContext.Current.CancellationToken);
        using var client = new HttpClient(new SocketsHttpHandler { UseProxy = false }) { BaseAddress = server.BaseAddress };
        var budget = new ProviderBudget();
        TimeSpan Now() => TimeSpan.FromTicks(time.GetTimestamp());

        var end = TimeSpan.FromSeconds(window * Windows);
        while (Now() < end)
        {
            var calls = new List<Task<HttpResponseMessage>>();
            for (var started = Now(); calls.Count < AtOnce && budget.IsOpen(started);)
            {
                budget.Started(started);
                calls.Add(client.PostAsync(path, new StringContent("""{"model":"m","max_tokens":1}"""), TestContext.Current.CancellationToken));
            }

            if (calls.Count == 0)
            {
                time.Advance(budget.OpensAt(Now()) - Now());
                continue;
            }

            // The answers are taken in another order than they were asked for, each a moment later.
            for (var i = calls.Count - 1; i >= 0; i--)
            {
                using var answer = await calls[i];
                var now = Now() + TimeSpan.FromMilliseconds(calls.Count - i - 1);
                budget.Answered(RateLimitHeaders.Read(answer.Headers, RateLimitFormat.Any, time), (int)answer.StatusCode, now, Now());
            }

            time.Advance(TimeSpan.FromMilliseconds(AtOnce));
        }

        var log = server.GetRequests();
        Assert.Equal(0, server.GetCounters().TooManyRequests);
        Assert.All(log, request => Assert.Equal(200, request.Status));
        Assert.True(log.Count >= Limit * Windows * 0.95, $"{log.Count} of {Limit * Windows}");
    }
}
