using Warmline.Options;
using Warmline.Scheduling;
using Xunit;
using static Warmline.Tests.Scheduling.SchedulerPlay;

namespace Warmline.Tests.Scheduling;

/// <summary>How tenants share what all want.</summary>
public sealed class SchedulerTenantTests
{
    static SchedulerPlay Warm(int concurrent, SharingSettings? sharing = null)
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConcurrentRequests = concurrent, Sharing = sharing ?? SharingSettings.None });
        play.OpenHttp2(A, 8);
        return play;
    }

    /// <summary>Releases calls of whoever <paramref name="whose"/> picks, one after the other; who was granted instead.</summary>
    static List<Waiter> Turn(SchedulerPlay play, List<Waiter> leased, int turns, Func<List<Waiter>, Waiter> whose)
    {
        var granted = new List<Waiter>();
        for (var turn = 0; turn < turns; turn++)
        {
            var ending = whose(leased);
            leased.Remove(ending);
            play.Release(ending);
            granted.AddRange(play.Granted);
            leased.AddRange(play.Granted);
        }

        return granted;
    }

    static int CountOf(IEnumerable<Waiter> waiters, string tenant) => waiters.Count(waiter => waiter.TenantName == tenant);

    [Theory]
    [InlineData(7, 1, 2, 4)]
    [InlineData(70, 10, 20, 40)]
    public void Tenants_of_weight_1_2_and_4_hold_as_much_each_when_all_want_more(int places, int one, int two, int four)
    {
        var play = Warm(places, Weights(("two", 2), ("four", 4)));
        var leased = play.Ask(places, A, tenant: "first").ToList();
        foreach (var tenant in new[] { "one", "two", "four" })
        {
            play.Ask(3 * places, A, tenant: tenant);
        }

        Turn(play, leased, places, calls => calls.First(call => call.TenantName == "first"));
        Assert.Equal((one, two, four), (CountOf(leased, "one"), CountOf(leased, "two"), CountOf(leased, "four")));

        // And so it stays, whoever ends first.
        var random = new Random(1);
        for (var turn = 0; turn < places; turn++)
        {
            Turn(play, leased, 1, calls => calls[random.Next(calls.Count)]);
            Assert.Equal((one, two, four), (CountOf(leased, "one"), CountOf(leased, "two"), CountOf(leased, "four")));
        }
    }

    [Fact]
    public void Tenants_of_weight_1_2_and_4_take_turns_in_that_proportion_when_there_is_one_place()
    {
        var play = Warm(1, Weights(("two", 2), ("four", 4)));
        var leased = new List<Waiter> { play.Ask(A, tenant: "first") };
        foreach (var tenant in new[] { "one", "two", "four" })
        {
            play.Ask(100, A, tenant: tenant);
        }

        var granted = Turn(play, leased, 70, calls => calls[0]);
        Assert.Equal((10, 20, 40), (CountOf(granted, "one"), CountOf(granted, "two"), CountOf(granted, "four")));
        for (var start = 0; start < 70; start += 7)
        {
            Assert.InRange(CountOf(granted.Skip(start).Take(7), "four"), 3, 5);   // in every stretch, not only in all
        }
    }

    [Fact]
    public void A_tenant_that_asks_for_ten_times_as_much_holds_no_more_than_nine_others()
    {
        var play = Warm(100);
        var leased = play.Ask(100, A, tenant: "greedy").ToList();
        play.Ask(1000, A, tenant: "greedy");
        string[] others = [.. Enumerable.Range(1, 9).Select(number => $"t{number}")];
        foreach (var tenant in others)
        {
            play.Ask(100, A, tenant: tenant);
        }

        Turn(play, leased, 90, calls => calls.First(call => call.TenantName == "greedy"));
        Assert.All(others.Append("greedy"), tenant => Assert.Equal(10, CountOf(leased, tenant)));

        var random = new Random(1);
        for (var turn = 0; turn < 200; turn++)
        {
            Turn(play, leased, 1, calls => calls[random.Next(calls.Count)]);
            Assert.All(others.Append("greedy"), tenant => Assert.Equal(10, CountOf(leased, tenant)));
        }
    }

    [Fact]
    public void Without_others_a_tenant_may_have_all()
    {
        var play = Warm(20, Weights(("two", 2)));
        Assert.Equal(20, Held(play.Ask(30, A, tenant: "two")));
    }

    [Fact]
    public void Tenants_that_hold_as_much_take_turns()
    {
        var play = Warm(1);
        var leased = new List<Waiter> { play.Ask(A, tenant: "x") };
        play.Ask(4, A, tenant: "x");
        play.Ask(4, A, tenant: "y");
        var granted = Turn(play, leased, 8, calls => calls[0]);
        Assert.Equal(4, CountOf(granted, "x"));
        Assert.All(Enumerable.Range(0, 4), pair => Assert.Equal(1, CountOf(granted.Skip(2 * pair).Take(2), "x")));
    }

    [Fact]
    public void A_tenant_gets_no_credit_for_the_time_in_which_it_asked_for_nothing()
    {
        var play = Warm(1);
        var leased = new List<Waiter> { play.Ask(A, tenant: "idle") };
        play.Ask(100, A, tenant: "busy");
        Turn(play, leased, 50, calls => calls[0]);
        play.Ask(20, A, tenant: "idle");
        var granted = Turn(play, leased, 20, calls => calls[0]);
        Assert.InRange(CountOf(granted, "idle"), 9, 11);
        Assert.All(Enumerable.Range(0, 10), pair => Assert.InRange(CountOf(granted.Skip(2 * pair).Take(2), "idle"), 0, 2));
        Assert.True(CountOf(granted.Take(4), "idle") <= 3);
    }

    [Fact]
    public void A_newcomer_does_not_pay_for_what_others_had_before()
    {
        var play = Warm(1);
        var leased = new List<Waiter> { play.Ask(A, tenant: "old") };
        play.Ask(100, A, tenant: "old");
        Turn(play, leased, 50, calls => calls[0]);
        var newcomer = play.Ask(A, tenant: "new");
        Assert.Contains(newcomer, Turn(play, leased, 2, calls => calls[0]));
    }

    [Fact]
    public void Shares_are_counted_in_each_lane_by_itself()
    {
        var play = Warm(4, Lanes(Lane("stream"), Lane("batch")));
        var streams = play.Ask(2, A, "stream", "x");
        var batch = play.Ask(2, A, "batch", "y");
        var x = play.Ask(A, lane: "batch", tenant: "x");
        var y = play.Ask(A, lane: "batch", tenant: "y");
        play.Release(batch[0]);
        Assert.Equal([x], play.Granted);   // it holds nothing in this lane, whatever it streams
        Assert.Equal(2, Held(streams));
        Assert.Equal(WaiterState.Waiting, y.State);
    }

    [Fact]
    public void A_share_is_counted_over_all_keys()
    {
        var play = Warm(4);
        play.OpenHttp2(B, 1);
        var x = play.Ask(3, B, tenant: "x");
        var y = play.Ask(1, A, tenant: "y");
        play.Ask(A, tenant: "x");
        var waiting = play.Ask(A, tenant: "y");
        play.Release(x[0]);
        Assert.Equal([waiting], play.Granted);
        Assert.Equal(1, Held(y));
    }

    [Fact]
    public void Under_MaxConcurrentRequests_a_place_goes_to_the_tenant_that_is_due_whichever_key_freed_it()
    {
        var play = Warm(4);
        play.OpenHttp2(B, 1);
        var x = play.Ask(4, A, tenant: "x");
        play.Ask(4, A, tenant: "x");
        var y = play.Ask(2, B, tenant: "y");
        play.Release(x[0]);
        Assert.Equal([y[0]], play.Granted);
        play.Release(x[1]);
        Assert.Equal([y[1]], play.Granted);
    }

    [Fact]
    public void Under_MaxConcurrentRequests_a_place_goes_to_the_lane_that_is_due_whichever_key_freed_it()
    {
        var play = Warm(4, Lanes(Lane("stream"), Lane("batch")));
        play.OpenHttp2(B, 1);
        var batch = play.Ask(4, A, "batch");
        play.Ask(4, A, "batch");
        var streams = play.Ask(1, B, "stream");
        play.Release(batch[0]);
        Assert.Equal([streams[0]], play.Granted);
    }

    [Fact]
    public void Priority_counts_inside_the_tenant_and_nowhere_else()
    {
        var play = Warm(2);
        var x = play.Ask(A, tenant: "x");
        var y = play.Ask(A, tenant: "y");
        var later = play.Ask(A, tenant: "x");
        var sooner = play.Ask(A, tenant: "x", priority: 1);
        var alsoSooner = play.Ask(A, tenant: "x", priority: 1);
        var last = play.Ask(A, tenant: "x", priority: -1);
        var other = play.Ask(A, tenant: "y", priority: -10);
        play.Release(y);
        Assert.Equal([other], play.Granted);   // y holds nothing, x holds one
        var order = Turn(play, [x, other], 4, calls => calls[0]);
        Assert.Equal([sooner, alsoSooner, later, last], order);
    }

    [Fact]
    public void When_the_first_of_a_tenant_gives_up_the_next_one_stands_for_it()
    {
        var play = Warm(1);
        var held = play.Ask(A, tenant: "z");
        var first = play.Ask(A, tenant: "x");
        var y = play.Ask(2, A, tenant: "y");
        var second = play.Ask(A, tenant: "x");
        play.Cancel(first);
        play.Release(held);
        Assert.Equal([y[0]], play.Granted);   // what is left of x came after it
        play.Release(y[0]);
        Assert.Equal([second], play.Granted);
    }

    [Fact]
    public void Who_is_placed_anew_returns_to_its_place_in_its_tenants_queue()
    {
        var play = Warm(2);
        var calls = play.Ask(4, A, tenant: "x");
        play.Release(calls[1], LeaseOutcome.NotSent);
        Assert.Equal([calls[1]], play.Granted);
        Assert.Equal(WaiterState.Waiting, calls[2].State);
    }

    [Fact]
    public void A_tenants_limit_holds_over_all_keys_and_lanes()
    {
        var play = Warm(100, new SharingSettings { EachTenant = TenantLimits.None with { MaxConcurrentRequests = 3 } });
        play.OpenHttp2(B, 1);
        play.Ask(1, A, "stream", "x");
        play.Ask(1, A, "batch", "x");
        var b = play.Ask(2, B, "batch", "x");
        Assert.Equal(1, Held(b));
        Assert.Equal(PoolRejectionReason.TenantLimit, play.Reason(b[1]));
    }

    [Fact]
    public void A_place_below_a_tenants_limit_that_one_key_frees_serves_another()
    {
        var play = Warm(100, new SharingSettings { EachTenant = TenantLimits.None with { MaxConcurrentRequests = 1 } });
        play.OpenHttp2(B, 1);
        var first = play.Ask(A, lane: "stream", tenant: "x");
        var waiting = play.Ask(B, lane: "batch", tenant: "x");
        play.Release(first);
        Assert.Equal([waiting], play.Granted);
    }

    [Fact]
    public void Calls_that_a_tenants_limit_holds_back_block_nobody_behind_them()
    {
        var play = Warm(100, new SharingSettings { EachTenant = TenantLimits.None with { MaxConcurrentRequests = 1 } });
        play.Ask(50, A, tenant: "x");
        Assert.Equal(WaiterState.Leased, play.Ask(A, tenant: "y").State);
        Assert.Equal(5, Held(play.Ask(5, A)));   // without a tenant there is no tenant's limit
    }

    [Fact]
    public void A_tenant_at_its_limit_takes_up_its_share_again_below_it()
    {
        var play = Warm(2, new SharingSettings { Named = new Dictionary<string, TenantLimits> { ["x"] = TenantLimits.None with { MaxConcurrentRequests = 1 } } });
        var x = play.Ask(3, A, tenant: "x");
        var y = play.Ask(3, A, tenant: "y");
        Assert.Equal((1, 1), (Held(x), Held(y)));
        play.Release(y[0]);
        Assert.Equal([y[1]], play.Granted);
        play.Release(x[0]);
        Assert.Equal([x[1]], play.Granted);
    }

    [Fact]
    public void Fifty_tenants_with_ten_each_under_two_hundred_use_all_and_never_more()
    {
        var play = Warm(200, new SharingSettings { EachTenant = TenantLimits.None with { MaxConcurrentRequests = 10 } });
        var leased = new List<Waiter>();
        var names = Enumerable.Range(1, 50).Select(number => $"t{number}").ToArray();
        foreach (var tenant in names)
        {
            play.Ask(20, A, tenant: tenant).Where(call => call.State is WaiterState.Leased).ToList().ForEach(leased.Add);
        }

        Assert.Equal(200, leased.Count);
        Assert.Equal(10, CountOf(leased, "t1"));
        var random = new Random(1);
        for (var turn = 0; turn < 600; turn++)
        {
            Turn(play, leased, 1, calls => calls[random.Next(calls.Count)]);
            Assert.Equal(200, leased.Count);
            Assert.True(leased.GroupBy(call => call.TenantName).All(group => group.Count() <= 10));
        }
    }

    [Fact]
    public void A_limit_of_zero_refuses_at_once()
    {
        var play = Warm(100, new SharingSettings { EachTenant = TenantLimits.None with { MaxConcurrentRequests = 0 }, Named = new Dictionary<string, TenantLimits> { ["x"] = TenantLimits.None } });
        play.Ask(A, tenant: "y");
        Assert.Equal((RefusalKind.Rejected, PoolRejectionReason.TenantLimit), play.Refused.Select(refused => (refused.Refusal, refused.Reason)).Single());
        Assert.Equal(WaiterState.Leased, play.Ask(A, tenant: "x").State);
        Assert.Equal(WaiterState.Leased, play.Ask(A).State);
    }

    [Fact]
    public void A_limit_that_changes_holds_for_those_that_wait()
    {
        var play = Warm(100, new SharingSettings { EachTenant = TenantLimits.None with { MaxConcurrentRequests = 1 } });
        var calls = play.Ask(5, A, tenant: "x");
        play.Change(play.Limits with { Sharing = new SharingSettings { EachTenant = TenantLimits.None with { MaxConcurrentRequests = 3 } } });
        Assert.Equal(calls[1..3], play.Granted);
        play.Change(play.Limits with { Sharing = SharingSettings.None });
        Assert.Equal(calls[3..], play.Granted);
    }

    [Fact]
    public void A_weight_that_changes_holds_for_the_next_grant()
    {
        var play = Warm(3);
        var x = play.Ask(4, A, tenant: "x");
        var y = play.Ask(4, A, tenant: "y");
        play.Change(play.Limits with { Sharing = Weights(("x", 3)) });
        play.Release(x[0]);
        Assert.Equal([y[0]], play.Granted);   // 2 of 3 against 0 of 1
        play.Release(x[1]);
        Assert.Equal([x[3]], play.Granted);   // 1 of 3 against 1 of 1
    }

    [Fact]
    public void A_tenants_queue_is_bounded_and_leaves_room_for_the_others()
    {
        var play = Warm(1, new SharingSettings { EachTenant = TenantLimits.None with { MaxQueueLength = 2 } });
        play.Ask(3, A, tenant: "x");
        play.Ask(A, lane: "batch", tenant: "x");
        Assert.Equal((RefusalKind.Rejected, PoolRejectionReason.TenantQueueFull), play.Refused.Select(refused => (refused.Refusal, refused.Reason)).Single());
        Assert.Equal(WaiterState.Waiting, play.Ask(A, tenant: "y").State);
        Assert.All(play.Ask(5, A), call => Assert.Equal(WaiterState.Waiting, call.State));
    }

    [Fact]
    public void Figures_of_a_tenant_are_its_own()
    {
        var play = Warm(3, new SharingSettings { Named = new Dictionary<string, TenantLimits> { ["x"] = new(2, 9, int.MaxValue, 1) } });
        var x = play.Ask(4, A, tenant: "x");
        play.Ask(A, tenant: "x");
        play.Release(x[0]);
        play.Ask(A, tenant: "y");
        play.Release(play.Ask(A, tenant: "gone"));
        var shown = play.Scheduler.Stats().Tenants.Single(tenant => tenant.Tenant == "x");
        Assert.Equal((2, 9, 3, 3, 5L, 0, 1L), (shown.Weight, shown.MaxConcurrentRequests, shown.Active, shown.PeakActive, shown.TotalRequests, shown.Queued, shown.Refused));
        shown = play.Scheduler.Stats().Tenants.Single(tenant => tenant.Tenant == "y");
        Assert.Equal((1, null, 0, 0, 1L, 1, 0L), (shown.Weight, shown.MaxConcurrentRequests, shown.Active, shown.PeakActive, shown.TotalRequests, shown.Queued, shown.Refused));
    }

    [Fact]
    public void A_tenant_that_a_release_takes_below_its_limit_takes_part_in_what_it_freed()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 1, Sharing = new SharingSettings { EachTenant = TenantLimits.None with { MaxConcurrentRequests = 1 } } });
        play.OpenHttp1(A, 1);
        var held = play.Ask(A, lane: "batch", tenant: "x");
        var first = play.Ask(A, lane: "batch", tenant: "x");
        play.Ask(A, lane: "embed", tenant: "y");
        play.Release(held);
        Assert.Equal([first], play.Granted);
    }

    [Fact]
    public void A_tenant_that_a_release_takes_below_its_limit_takes_part_in_it_on_other_keys_too()
    {
        var play = Warm(2, new SharingSettings { EachTenant = TenantLimits.None with { MaxConcurrentRequests = 1 } });
        play.OpenHttp2(B, 1);
        var held = play.Ask(A, lane: "batch", tenant: "x");
        play.Ask(A, lane: "stream", tenant: "y");
        var first = play.Ask(B, lane: "batch", tenant: "x");
        play.Ask(A, lane: "embed", tenant: "z");
        play.Release(held);
        Assert.Equal([first], play.Granted);
    }
}
