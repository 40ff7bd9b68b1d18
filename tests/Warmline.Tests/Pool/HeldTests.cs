using Microsoft.Extensions.Logging;
using Warmline.MockLlm;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>Calls that wait inside the loops that read other responses: what they wait for is held by their own callers, and the pool says
/// so.</summary>
public sealed class HeldTests
{
    const string AllThree = "3 of 3 places are held by responses that are not being read: read them to the end or dispose them before calling again.";

    public static TheoryData<string, bool> Limits
    {
        get
        {
            var limits = new TheoryData<string, bool>();
            foreach (var limit in new[] { "MaxConcurrentRequests", "LaneCeiling", "TenantLimit", "LaneReserve" })
            {
                limits.Add(limit, true);
                limits.Add(limit, false);
            }

            foreach (var limit in new[] { "MaxConnections", "MaxConnectionsPerHost", "TenantConnections" })
            {
                limits.Add(limit, false);
            }

            return limits;
        }
    }

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Limits))]
    public async Task A_refusal_says_that_all_places_are_held(string limit, bool http2)
    {
        var time = new ManualTime();
        await using var rig = await Rig.StartAsync(http2, options => Set(options, limit), time: time);
        var held = await HoldAsync(rig, 3);
        var child = rig.SendAsync(Calls.Chat().With(Who()));
        await rig.StatsAsync(stats => stats.Queued == 1);
        time.Advance(TimeSpan.FromSeconds(16));

        var error = await Assert.ThrowsAsync<PoolTimeoutException>(() => child);

        Assert.Equal(limit, error.Reason.ToString());
        Assert.EndsWith(AllThree, error.Message, StringComparison.Ordinal);
        held.ForEach(response => response.Dispose());
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_refusal_says_how_many_are_held_where_others_make_progress()
    {
        var time = new ManualTime();
        await using var rig = await Rig.StartAsync(options => options.MaxConcurrentRequests = 3, time: time);
        var held = await HoldAsync(rig, 2);
        var gate = new Gate();
        var sending = await rig.HoldAsync(1, gate);
        var child = rig.CallAsync();
        await rig.StatsAsync(stats => stats.Queued == 1);
        time.Advance(TimeSpan.FromSeconds(16));

        Assert.EndsWith(" 2 of 3 places are held by responses that are not being read.", (await Assert.ThrowsAsync<PoolTimeoutException>(() => child)).Message, StringComparison.Ordinal);
        held[0].Dispose();
        await rig.StatsAsync(stats => stats.Active == 2);
        gate.Open();
        await Task.WhenAll(sending);
        held[1].Dispose();
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_refusal_says_nothing_of_it_where_all_make_progress()
    {
        var time = new ManualTime();
        await using var rig = await Rig.StartAsync(options => options.MaxConcurrentRequests = 2, time: time);
        var gate = new Gate();
        var sending = await rig.HoldAsync(2, gate);
        var child = rig.CallAsync();
        await rig.StatsAsync(stats => stats.Queued == 1);
        time.Advance(TimeSpan.FromSeconds(16));

        Assert.DoesNotContain("held", (await Assert.ThrowsAsync<PoolTimeoutException>(() => child)).Message, StringComparison.Ordinal);
        gate.Open();
        await Task.WhenAll(sending);
    }

    /// <summary>As agents do it.</summary>
    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Calls_inside_the_loops_that_read_are_refused_with_the_reason(bool http2)
    {
        var time = new ManualTime();
        await using var rig = await Rig.StartAsync(http2, options => options.MaxConcurrentRequests = 3, time: time);
        await rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 3, Rig.Ct);
        var (inside, reading) = (0, new List<Task<string>>());
        for (var i = 0; i < 3; i++)
        {
            reading.Add(ReadAsync());
        }

        await rig.StatsAsync(stats => stats.Queued == 3);
        Assert.Equal(3, Volatile.Read(ref inside));
        time.Advance(TimeSpan.FromSeconds(16));

        Assert.Contains(await Task.WhenAll(reading), message => message.EndsWith(AllThree, StringComparison.Ordinal));

        async Task<string> ReadAsync()
        {
            using var response = await rig.SendAsync(Calls.Stream(tokens: 3));
            await foreach (var _ in response.ReadServerSentEventsAsync(Rig.Ct))
            {
                Interlocked.Increment(ref inside);
                try
                {
                    await rig.CallAsync();
                }
                catch (PoolTimeoutException full)
                {
                    return full.Message;
                }
            }

            return "";
        }
    }

    /// <summary>Another lane's, or another tenant's, are not in question.</summary>
    [Fact(Timeout = Rig.Patience)]
    public async Task Only_the_places_in_question_count()
    {
        var time = new ManualTime();
        await using var rig = await Rig.StartAsync(options => Set(options, "LaneCeiling"), time: time);
        var held = await HoldAsync(rig, 3);
        var gate = new Gate();
        var others = await rig.HoldAsync(2, gate);
        var child = rig.SendAsync(Calls.Chat().With(Who()));
        await rig.StatsAsync(stats => stats.Queued == 1);
        time.Advance(TimeSpan.FromSeconds(16));

        Assert.EndsWith(AllThree, (await Assert.ThrowsAsync<PoolTimeoutException>(() => child)).Message, StringComparison.Ordinal);
        gate.Open();
        await Task.WhenAll(others);
        held.ForEach(response => response.Dispose());
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("MaxConcurrentRequests", true)]
    [InlineData("MaxConcurrentRequests", false)]
    [InlineData("LaneCeiling", true)]
    [InlineData("TenantLimit", true)]
    [InlineData("MaxConnections", false)]
    public async Task An_unlimited_wait_in_which_nothing_moves_is_logged_once(string limit, bool http2)
    {
        var time = new ManualTime();
        await using var rig = await Rig.StartAsync(http2, options =>
        {
            Set(options, limit);
            LetRest(options);
        }, time: time);
        var held = await HoldAsync(rig, 3);
        var children = Enumerable.Range(0, 3).Select(_ => rig.SendAsync(Calls.Chat().With(Who()))).ToArray();
        await rig.StatsAsync(stats => stats.Queued == 3);
        Advance(time, TimeSpan.FromHours(3));

        var (level, message) = Assert.Single(rig.Logs.Entries, IsHeldReport);
        Assert.Equal(LogLevel.Warning, level);
        Assert.Contains($"Calls to {rig.Mock.BaseAddress.GetLeftPart(UriPartial.Authority)} have waited up to ", message, StringComparison.Ordinal);
        Assert.Contains($"({limit}), and none will become free: all places (3) are held by responses that are not being read, the oldest for ", message, StringComparison.Ordinal);
        Assert.All(children, child => Assert.False(child.IsCompleted));
        held.ForEach(response => response.Dispose());
        foreach (var child in children)
        {
            (await child).Dispose();
        }
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task An_unlimited_wait_in_which_one_reads_on_is_not_logged_and_what_stands_still_again_is()
    {
        var time = new ManualTime();
        await using var rig = await Rig.StartAsync(options =>
        {
            options.MaxConcurrentRequests = 1;
            LetRest(options);
        }, time: time);
        using var held = await rig.SendAsync(Calls.Stream());
        await using var body = await held.Content.ReadAsStreamAsync(Rig.Ct);
        var child = rig.CallAsync();
        await rig.StatsAsync(stats => stats.Queued == 1);
        await ReadOnAsync();
        Assert.DoesNotContain(rig.Logs.Entries, IsHeldReport);
        Advance(time, TimeSpan.FromMinutes(10));
        Assert.Single(rig.Logs.Entries, IsHeldReport);
        await ReadOnAsync();
        Assert.Single(rig.Logs.Entries, IsHeldReport);
        Advance(time, TimeSpan.FromMinutes(10));
        Assert.Equal(2, rig.Logs.Entries.Count(IsHeldReport));
        held.Dispose();
        await child;

        async Task ReadOnAsync()
        {
            for (var i = 0; i < 20; i++)
            {
                await body.ReadExactlyAsync(new byte[10], Rig.Ct);
                Advance(time, TimeSpan.FromSeconds(29));
            }
        }
    }

    static bool IsHeldReport((LogLevel Level, string Message) entry) => entry.Message.Contains("none will become free", StringComparison.Ordinal);

    static void Advance(ManualTime time, TimeSpan by)
    {
        for (var at = TimeSpan.Zero; at < by; at += TimeSpan.FromSeconds(29))
        {
            time.Advance(TimeSpan.FromSeconds(29));
        }
    }

    static async Task<List<HttpResponseMessage>> HoldAsync(Rig rig, int count)
    {
        var held = new List<HttpResponseMessage>();
        for (var i = 0; i < count; i++)
        {
            held.Add(await rig.SendAsync(Calls.Stream(gapMilliseconds: 3_600_000).With(Who())));
        }

        return held;
    }

    static PoolRequestOptions Who() => new() { Lane = "agents", Tenant = "acme" };

    /// <summary>No clock and no dial ends a call on this clock, which runs ahead of the real server.</summary>
    static void LetRest(ConnectionPoolOptions options) =>
        (options.Timeouts.Pool, options.Http2.PingDelay, options.ConnectionLifetime) = (Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);

    static void Set(ConnectionPoolOptions options, string limit)
    {
        options.Lanes["agents"] = new LaneOptions { Ceiling = limit == "LaneCeiling" ? 3 : null };
        switch (limit)
        {
            case "MaxConcurrentRequests":
                options.MaxConcurrentRequests = 3;
                break;
            case "MaxConnections":
                options.MaxConnections = 3;
                break;
            case "MaxConnectionsPerHost":
                options.MaxConnectionsPerHost = 3;
                break;
            case "TenantLimit":
                options.Tenants.MaxConcurrentRequests = 3;
                break;
            case "TenantConnections":
                (options.Tenants.Isolation, options.Tenants.MaxConnections) = (TenantIsolation.Connections, 3);
                break;
            case "LaneReserve":
                options.MaxConcurrentRequests = 5;
                options.Lanes["chat"] = new LaneOptions { Reserve = 2 };
                break;
        }
    }
}
