using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Sharing;

/// <summary>Tenants share fairly by what each holds now, whatever each asks for. Judged at each place that is given back, from the pool's own figures of that moment.</summary>
public sealed class TenantTests
{
    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Ten_times_the_load_gets_no_larger_share(bool http2)
    {
        const int places = 40;
        var tenants = Enumerable.Range(0, 10).Select(i => $"t{i}").ToArray();
        var calls = await SharedCalls.StartAsync(http2, places, static _ => { });
        await using var rig = calls.Rig;
        calls.Start(200, null, tenants[0]);   // before the others come, it holds everything
        foreach (var tenant in tenants[1..])
        {
            calls.Start(20, null, tenant);
        }

        await calls.SentAsync();
        Assert.Equal(places, calls.Held(tenants[0]));
        await PlayAsync(calls, tenants, static _ => 1, places - 4, largestFirst: true);
        Assert.All(tenants, tenant => Assert.Equal(4, calls.Held(tenant)));

        var indices = new List<double>();
        await PlayAsync(calls, tenants, static _ => 1, 150, largestFirst: false, () => indices.Add(SharedCalls.Jain([.. tenants.Select(calls.Held)])));
        Assert.All(indices, index => Assert.True(index >= 0.99, $"Jain's index {index:0.000}"));
        await calls.EndAllAsync();
        Assert.Equal(places, rig.Stats.PeakActive);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Weights_say_how_much_more(bool http2)
    {
        const int places = 35;
        var weights = new Dictionary<string, int> { ["one"] = 1, ["two"] = 2, ["four"] = 4 };
        var calls = await SharedCalls.StartAsync(http2, places, options =>
        {
            foreach (var (tenant, weight) in weights)
            {
                options.Tenants.Named[tenant] = new TenantOptions { Weight = weight };
            }
        });
        await using var rig = calls.Rig;
        string[] tenants = [.. weights.Keys];
        foreach (var tenant in tenants)
        {
            calls.Start(60, null, tenant);
        }

        await calls.SentAsync();
        await PlayAsync(calls, tenants, tenant => weights[tenant], places, largestFirst: true);
        var sums = tenants.ToDictionary(tenant => tenant, _ => 0L);
        await PlayAsync(calls, tenants, tenant => weights[tenant], 150, largestFirst: false, () =>
        {
            foreach (var tenant in tenants)
            {
                sums[tenant] += calls.Held(tenant);
            }
        });
        var all = sums.Values.Sum();
        Assert.All(weights, weight => Assert.InRange((double)sums[weight.Key] / all * 7 / weight.Value, 0.98, 1.02));
        await calls.EndAllAsync();
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Fifty_with_ten_each_under_two_hundred(bool http2)
    {
        const int places = 200, each = 10;
        var calls = await SharedCalls.StartAsync(http2, places, options => options.Tenants.MaxConcurrentRequests = each);
        await using var rig = calls.Rig;

        // Fifteen ask for more than they may have: they get all of that, and the rest stays free for who comes.
        var early = Enumerable.Range(0, 15).Select(i => $"t{i}").ToArray();
        foreach (var tenant in early)
        {
            calls.Start(each + 5, null, tenant);
        }

        Assert.Equal((15 * each, 75), (rig.Stats.Active, rig.Stats.Queued));
        Assert.All(early, tenant => Assert.Equal(each, calls.Held(tenant)));
        Assert.All(rig.Pool.GetWaiters(), waiter => Assert.Equal(PoolRejectionReason.TenantLimit, waiter.Reason));

        foreach (var tenant in Enumerable.Range(15, 35).Select(i => $"t{i}"))
        {
            calls.Start(each + 5, null, tenant);
        }

        await calls.SentAsync();
        Assert.Equal(places, rig.Stats.Active);   // the places are used
        var random = new Random(3);
        for (var i = 0; i < 60; i++)
        {
            var running = calls.Running.ToArray();
            await calls.EndAsync(running[random.Next(running.Length)]);
            Assert.Equal(places, rig.Stats.Active);
            Assert.All(rig.Stats.Tenants, tenant => Assert.InRange(tenant.Active, 0, each));
        }

        await calls.EndAllAsync();
        Assert.Equal((750L, 0L), (rig.Counters.RequestsCompleted, rig.Stats.Refused));
        Assert.Equal(places, rig.Stats.PeakActive);
        Assert.InRange(rig.Counters.PeakStreams, 1, places);
        Assert.All(PeaksAtServer(rig), peak => Assert.InRange(peak.Value, 1, each));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Connections_of_their_own_ten_each_under_two_hundred()
    {
        const int connections = 200, each = 10;
        var calls = await StartApartAsync(connections, each);
        await using var rig = calls.Rig;

        // Fifteen fill what they may have.
        foreach (var tenant in Enumerable.Range(0, 15).Select(i => $"t{i}"))
        {
            calls.Start(each + 2, null, tenant);
        }

        await rig.StatsAsync(stats => stats.Active == 15 * each);
        await calls.SentAsync();
        Assert.Equal((15 * each, 30), (rig.Counters.ConnectionsOpen, rig.Stats.Queued));
        Assert.All(rig.Stats.Tenants, tenant => Assert.Equal((each, each), (tenant.Active, tenant.Connections)));
        Assert.All(rig.Pool.GetWaiters(), waiter => Assert.Equal(PoolRejectionReason.TenantConnections, waiter.Reason));

        // Thirty-five more come: five have what was left, and nobody is left out in the end.
        foreach (var tenant in Enumerable.Range(15, 35).Select(i => $"t{i}"))
        {
            calls.Start(each + 2, null, tenant);
        }

        await rig.StatsAsync(stats => stats.Active == connections);
        await calls.SentAsync();
        Assert.All(rig.Stats.Tenants, tenant => Assert.InRange(tenant.Connections, 0, each));
        await calls.EndAllAsync();

        Assert.Equal((600L, 0L), (rig.Counters.RequestsCompleted, rig.Stats.Refused));
        Assert.Equal(connections, rig.Stats.PeakConnections);
        Assert.InRange(rig.Counters.PeakConnections, 1, connections);
        Assert.All(PeaksAtServer(rig), peak => Assert.InRange(peak.Value, 1, each));
        Assert.All(rig.Mock.GetRequests().GroupBy(request => request.ConnectionId), riders => Assert.Single(riders.Select(Tenant).Distinct()));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_tenant_at_its_limit_holds_nobody_back()
    {
        var calls = await SharedCalls.StartAsync(true, 10, options => options.Tenants.Named["small"] = new TenantOptions { MaxConcurrentRequests = 1, MaxQueueLength = 4 });
        await using var rig = calls.Rig;
        var small = calls.Start(5, null, "small");

        calls.Start(9, null, "large");

        Assert.Equal((1, 9, 4), (calls.Held("small"), calls.Held("large"), rig.Stats.Queued));
        var full = await Assert.ThrowsAsync<PoolRejectedException>(() => rig.CallAsync(Calls.Chat().With(new PoolRequestOptions { Tenant = "small" })));
        Assert.Equal(PoolRejectionReason.TenantQueueFull, full.Reason);
        Assert.Contains("4 requests of the tenant small", full.Message, StringComparison.Ordinal);
        calls.Start(20, null, "large");   // its queue is its own
        await calls.SentAsync();
        await calls.EndAsync(small[0]);
        Assert.Equal((1, 9, 3 + 20), (calls.Held("small"), calls.Held("large"), rig.Stats.Queued));
        Assert.Equal(1L, rig.Stats.Tenants.Single(tenant => tenant.Tenant == "small").Refused);
        await calls.EndAllAsync();
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_tenant_that_may_have_nothing_is_refused_at_once()
    {
        var calls = await SharedCalls.StartAsync(true, 2, options => options.Tenants.Named["blocked"] = new TenantOptions { MaxConcurrentRequests = 0 });
        await using var rig = calls.Rig;

        var error = await Assert.ThrowsAsync<PoolRejectedException>(() => rig.CallAsync(Calls.Chat().With(new PoolRequestOptions { Tenant = "blocked" })));

        Assert.Equal((PoolRejectionReason.TenantLimit, 0L), (error.Reason, rig.Counters.Requests));
        await rig.CallAsync(Calls.Chat().With(new PoolRequestOptions { Tenant = "other" }));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task What_others_do_not_use_one_may_have()
    {
        var calls = await SharedCalls.StartAsync(true, 20, static _ => { });
        await using var rig = calls.Rig;
        calls.Start(30, null, "alone");
        Assert.Equal((20, 10), (calls.Held("alone"), rig.Stats.Queued));
        await calls.SentAsync();
        calls.Start(1, null, "late");
        Assert.Equal(11, rig.Stats.Queued);

        await calls.EndAsync(calls.Running.First());   // the next place is the one's who has none

        Assert.Equal((19, 1), (calls.Held("alone"), calls.Held("late")));
        await calls.EndAllAsync();
    }

    /// <summary>
    /// So many times a call ends, its tenant asks for another, and the place goes on. Each time it must go to the one who holds least for its weight of those who wait; ties are free.
    /// Ended is a call at random (with a fixed seed), so that ends come unevenly, or one of whoever holds most for its weight.
    /// </summary>
    static async Task PlayAsync(SharedCalls calls, string[] tenants, Func<string, int> weight, int times, bool largestFirst, Action? after = null)
    {
        var random = new Random(11);
        for (var i = 0; i < times; i++)
        {
            var running = calls.Running.ToArray();
            var call = largestFirst ? running.MaxBy(one => (double)calls.Held(one.Tenant) / weight(one.Tenant))! : running[random.Next(running.Length)];
            calls.Start(null, call.Tenant);   // each has a backlog throughout
            var before = tenants.ToDictionary(tenant => tenant, tenant => calls.Held(tenant) - (tenant == call.Tenant ? 1 : 0));
            await calls.EndAsync(call);

            var got = tenants.Single(tenant => calls.Held(tenant) > before[tenant]);
            var least = tenants.Min(tenant => (double)before[tenant] / weight(tenant));
            Assert.True((double)before[got] / weight(got) <= least, $"{got} held {before[got]} of weight {weight(got)} and got the place, beside {string.Join(", ", before)}");
            after?.Invoke();
        }
    }

    static Task<SharedCalls> StartApartAsync(int connections, int each) => SharedCalls.StartAsync(false, connections, options =>
    {
        options.MaxConcurrentRequests = null;
        (options.Tenants.Isolation, options.Tenants.MaxConnections) = (TenantIsolation.Connections, each);
    });

    /// <summary>The most requests of each tenant that the server had at one time.</summary>
    static Dictionary<string, int> PeaksAtServer(Rig rig)
    {
        var peaks = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (var requests in rig.Mock.GetRequests().GroupBy(Tenant))
        {
            var (now, most) = (0, 0);
            foreach (var (_, change) in requests.SelectMany(request => new[] { (At: request.Started, Change: 1), (At: request.Ended!.Value, Change: -1) }).OrderBy(step => step.At).ThenBy(step => step.Change))
            {
                most = Math.Max(most, now += change);
            }

            peaks[requests.Key] = most;
        }

        return peaks;
    }

    static string Tenant(MockLlm.MockRequestRecord request) => request.MockId!.Split('/')[0];
}
