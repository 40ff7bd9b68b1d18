using System.Net;
using Warmline.Providers;
using Warmline.Scheduling;
using Warmline.Tests.Http;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>What several threads change at the same time: the options, and what is known of a key.</summary>
public sealed class UpdateTests
{
    [Theory(Timeout = Rig.Patience)]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Of_two_updates_at_once_one_is_in_force_as_a_whole(bool warm)
    {
        var network = new FakeNetwork { Connect = static (_, _) => new(new FakeStream()) };
        await using var pool = new ConnectionPool(Options(10, warm), null, ManualTime.Early, network);
        using var barrier = new Barrier(3);
        var pairs = warm ? 100 : 3_000;
        var threads = new[] { 10, 20 }.Select(limit => Task.Factory.StartNew(() =>
        {
            for (var i = 0; i < pairs; i++)
            {
                barrier.SignalAndWait(Rig.Ct);
                Assert.True(pool.TryUpdate(Options(limit, warm)));
                barrier.SignalAndWait(Rig.Ct);
            }
        }, Rig.Ct, TaskCreationOptions.LongRunning, TaskScheduler.Default)).ToArray();

        var differ = 0;
        for (var i = 0; i < pairs; i++)
        {
            barrier.SignalAndWait(Rig.Ct);
            barrier.SignalAndWait(Rig.Ct);
            var settings = pool.Engine.Settings;
            differ += settings.MaxConnections == pool.GetStats().MaxConnections
                && settings.MaxConcurrentRequests == pool.GetStats().MaxConcurrentRequests ? 0 : 1;
            if (warm)
            {
                // What is beyond the new number stays until it is closed for another reason. A dial under way is no connection that could be closed.
                var wanted = settings.WarmConnections.Values.Single();
                await pool.StatsAsync(static stats => stats.Origins.All(static origin => origin.Dialing == 0));
                pool.Reconnect();
                await Eventually.TrueAsync(() => pool.GetStats().Idle == wanted, () => $"{wanted} wanted; {Rig.Describe(pool.GetStats())}");
            }
        }

        await Task.WhenAll(threads);
        Assert.Equal(0, differ);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task The_switch_is_logged_as_often_as_it_changes()
    {
        var logs = new LogRecorder();
        await using var pool = new ConnectionPool(new() { UseProxy = false }, logs);
        await Task.WhenAll(Enumerable.Range(0, 8).Select(worker => Task.Run(() =>
        {
            for (var i = 0; i < 200; i++)
            {
                pool.TryUpdate(new() { UseProxy = false, Enabled = (worker + i) % 2 == 0 });
            }
        }, Rig.Ct)));

        var told = logs.Entries.Where(static entry => entry.Message.Contains("switched o", StringComparison.Ordinal))
            .Select(static entry => entry.Message.Contains("switched on", StringComparison.Ordinal)).ToArray();
        Assert.True(told.Zip(told.Skip(1)).All(static pair => pair.First != pair.Second), "the same twice in a row");
        Assert.Equal(pool.GetStats().Enabled, told.Length == 0 || told[^1]);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("GET", 5)]
    [InlineData("HEAD", 5)]
    [InlineData("OPTIONS", 5)]
    [InlineData("TRACE", 5)]
    [InlineData("PUT", 5)]
    [InlineData("DELETE", 5)]
    [InlineData("GET", 3)]
    public async Task A_call_that_is_sent_again_counts_as_often_as_the_provider_saw_it(string method, int limit)
    {
        const int Closed = 2, Others = 10;
        var seen = 0;
        var arrived = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var mayAnswer = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);   // each answer corrects the count
        await using var server = new RawHttp1Server(async connection =>
        {
            while (await connection.ReadHeadAsync() is { Length: > 0 })
            {
                var number = Interlocked.Increment(ref seen);
                if (number > 1)
                {
                    if (number == limit)
                    {
                        arrived.TrySetResult();
                    }

                    await arrived.Task.WaitAsync(Rig.Ct);
                    if (number is > 1 and <= 1 + Closed)
                    {
                        return;   // counted, and no answer
                    }

                    await mayAnswer.Task.WaitAsync(Rig.Ct);
                }

                var left = Math.Max(0, limit - Volatile.Read(ref seen));
                const string Name = "x-ratelimit";
                var headers = FormattableString.Invariant(
                    $"{Name}-limit-requests: {limit}\r\n{Name}-remaining-requests: {left}\r\n{Name}-reset-requests: 60s\r\n");
                await connection.SayAsync(method == "HEAD" ? $"HTTP/1.1 200 OK\r\n{headers}\r\n" : RawHttp1.Ok("", headers));
            }
        });
        var options = new ConnectionPoolOptions { UseProxy = false, Pacing = true, Timeouts = { Pool = TimeSpan.FromMinutes(10) } };
        await using var pool = new ConnectionPool(options, null, ManualTime.Early);
        using var client = pool.CreateClient(new Uri($"http://localhost:{server.Port}/"));
        (await client.SendAsync(new(new HttpMethod(method), ""), Rig.Ct)).Dispose();
        await pool.QuietAsync();

        var calls = Enumerable.Range(0, Others).Select(_ => client.SendAsync(new(new HttpMethod(method), ""), Rig.Ct)).ToArray();

        // The window holds no more than `limit`; the clock stands still, so the rest waits for it.
        var answered = limit - 1 - Closed;
        await pool.StatsAsync(stats => stats.Faults.RetriedIdempotent == Closed);
        await pool.StatsAsync(stats => stats.Active == answered && stats.Queued == Others - answered);
        Assert.Equal(limit, Volatile.Read(ref seen));
        mayAnswer.SetResult();
        await pool.StatsAsync(stats => stats.Active == 0 && stats.Queued == Others - answered);
        Assert.Equal(limit, Volatile.Read(ref seen));
        Assert.Equal(Closed, pool.GetStats().Faults.RetriedIdempotent);
        await pool.DisposeAsync();
        await Task.WhenAll(calls).ContinueWith(static ended => ended.Exception, TaskScheduler.Default);
    }

    [Fact]
    public void What_a_provider_told_after_the_look_began_is_as_old_as_the_look()
    {
        RateLimits limits = default;
        limits.At(RateLimitKind.Requests) = new RateLimit { Limit = 10, Remaining = 5, ResetIn = TimeSpan.FromSeconds(60) };
        var report = Assert.Single(new ToldLimits(limits, TimeSpan.FromSeconds(10)).Report(TimeSpan.FromSeconds(9.9)));

        Assert.Equal((TimeSpan.Zero, TimeSpan.FromSeconds(60)), (report.Age, report.ResetsIn));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task No_look_finds_limits_from_the_future()
    {
        await using var server = new EndingServer
        {
            Headers = "x-ratelimit-limit-requests: 10\r\nx-ratelimit-remaining-requests: 9\r\nx-ratelimit-reset-requests: 60s\r\n",
        };
        await using var pool = new ConnectionPool(new() { UseProxy = false });
        using var client = pool.CreateClient(server.Address);
        var callers = Enumerable.Range(0, 4).Select(async _ =>
        {
            for (var i = 0; i < 300; i++)
            {
                (await client.GetAsync(new Uri("", UriKind.Relative), Rig.Ct)).Dispose();
            }
        }).ToArray();
        var all = Task.WhenAll(callers);
        while (!all.IsCompleted)
        {
            Assert.All(pool.GetStats().RateLimits.SelectMany(static told => told.Limits), static limit =>
            {
                Assert.True(limit.Age >= TimeSpan.Zero, $"{limit}");
                Assert.True(limit.ResetsIn is null || limit.ResetsIn <= TimeSpan.FromSeconds(60), $"{limit}");
            });
            await Task.Yield();
        }

        await all;
    }

    static ConnectionPoolOptions Options(int limit, bool warm)
    {
        var options = new ConnectionPoolOptions { UseProxy = false, MaxConnections = limit, MaxConcurrentRequests = limit * 2 };
        if (warm)
        {
            options.Hosts["http://a.test"] = new() { WarmConnections = limit / 10 };
        }

        return options;
    }
}
