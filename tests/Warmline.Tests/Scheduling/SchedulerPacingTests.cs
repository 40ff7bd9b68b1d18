using Warmline.Options;
using Warmline.Scheduling;
using Xunit;
using static Warmline.Tests.Scheduling.SchedulerPlay;

namespace Warmline.Tests.Scheduling;

/// <summary>Requests wait for what their provider lets through, and nobody waits with them for nothing.</summary>
public sealed class SchedulerPacingTests
{
    internal static readonly BudgetKey X = new("https://a.test", 1, "x");
    internal static readonly BudgetKey Y = new("https://a.test", 1, "y");

    internal static SchedulerPlay Warm(SchedulerLimits? limits = null, int connections = 2)
    {
        var play = new SchedulerPlay(limits);
        play.OpenHttp2(A, connections);
        return play;
    }

    /// <summary>One connection of one stream: the calls go one after the other.</summary>
    internal static SchedulerPlay Single(SharingSettings? sharing = null)
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 1, Sharing = sharing ?? SharingSettings.None });
        play.OpenHttp1(A, 1);
        return play;
    }

    /// <summary>A call is refused: the budget is closed for so long, then open for all.</summary>
    internal static void Close(SchedulerPlay play, BudgetKey budget, double seconds = 30, ConnectionKey? key = null, int status = 429)
    {
        var refused = play.Ask(key ?? A, budget: budget);
        Assert.Equal(WaiterState.Leased, refused.State);
        play.Answer(refused, status, retryAfter: seconds);
        play.Release(refused);
    }

    /// <summary>A call is answered: so many more may start until the reset.</summary>
    internal static void Tell(SchedulerPlay play, BudgetKey budget, int left, double seconds = 30, int limit = 10, LeaseOutcome outcome = LeaseOutcome.Reusable, ConnectionKey? key = null)
    {
        var answered = play.Ask(key ?? A, budget: budget);
        Assert.Equal(WaiterState.Leased, answered.State);
        play.Answer(answered, limit: limit, remaining: left, reset: seconds);
        play.Release(answered, outcome);
    }

    internal static BudgetState StateOf(SchedulerPlay play, BudgetKey budget) => play.Scheduler.Budgets.Single(state => state.Key == budget);

    internal static void Waits(params Waiter[] waiters) => Assert.All(waiters, waiter => Assert.Equal(WaiterState.Waiting, waiter.State));

    internal static void Holds(params Waiter[] waiters) => Assert.All(waiters, waiter => Assert.Equal(WaiterState.Leased, waiter.State));

    /// <summary>Whoever holds the one place gives it back, again and again: who got it in which order.</summary>
    static List<Waiter> Turns(SchedulerPlay play, Waiter? first)
    {
        var order = new List<Waiter>();
        for (var holder = first; holder is not null; holder = play.Granted.SingleOrDefault())
        {
            order.Add(holder);
            play.Release(holder);
        }

        return order;
    }

    [Fact]
    public void A_closed_budget_holds_back_its_own_calls_alone()
    {
        var play = Warm(new SchedulerLimits { Sharing = Lanes(Lane("batch")) });
        Close(play, X);
        var waiting = play.Ask(A, budget: X);
        Holds(play.Ask(A, budget: Y), play.Ask(A), play.Ask(A, lane: "batch", budget: Y), play.Ask(A, lane: "batch"), play.Ask(A, tenant: "other", budget: Y));
        Waits(waiting, play.Ask(A, lane: "batch", budget: X), play.Ask(A, tenant: "other", budget: X), play.Ask(A, budget: X, priority: 10));
    }

    [Fact]
    public void Who_waits_behind_a_closed_budget_goes_past_it()
    {
        var play = Single(Lanes(Lane("batch")));
        Close(play, X);
        var leased = play.Ask(A);
        var paced = play.Ask(A, budget: X, priority: 10);
        Waiter[] behind = [play.Ask(A, budget: Y), play.Ask(A), play.Ask(A, lane: "batch"), play.Ask(A, lane: "batch", budget: Y)];
        var order = Turns(play, leased);
        Assert.Equal(behind, order.Skip(1));
        Waits(paced);
    }

    [Fact]
    public void Within_a_budget_tenants_take_turns_and_their_priorities_count()
    {
        var play = Single();
        Close(play, X);
        Waiter[] a = [play.Ask(A, tenant: "a", budget: X), play.Ask(A, tenant: "a", budget: X)];
        Waiter[] b = [play.Ask(A, tenant: "b", budget: X), play.Ask(A, tenant: "b", budget: X, priority: 5)];
        play.Pass(30);
        Assert.Equal([a[0], b[1], a[1], b[0]], Turns(play, Assert.Single(play.Granted)));
    }

    [Fact]
    public void Tenants_take_turns_over_two_budgets_of_a_lane()
    {
        var play = Single();
        Close(play, X);
        Close(play, Y);
        Waiter[] a = [play.Ask(A, tenant: "a", budget: X), play.Ask(A, tenant: "a", budget: X), play.Ask(A, tenant: "a", budget: Y)];
        Waiter[] b = [play.Ask(A, tenant: "b", budget: Y), play.Ask(A, tenant: "b", budget: X)];
        play.Pass(30);
        Assert.Equal([a[0], b[0], a[1], b[1], a[2]], Turns(play, Assert.Single(play.Granted)));
    }

    [Theory]
    [InlineData("x")]
    [InlineData("y")]
    [InlineData("")]
    public void A_tenants_priorities_count_over_two_budgets_of_a_lane(string urgently)
    {
        var play = Single();
        Close(play, X);
        Close(play, Y);
        Waiter[] usual = [play.Ask(A, tenant: "b", budget: urgently == "y" ? Y : X), play.Ask(A, tenant: "a", budget: urgently == "x" ? Y : X)];
        var urgent = play.Ask(A, tenant: "a", priority: 5, budget: urgently switch { "x" => X, "y" => Y, _ => null });
        Waiter[] order = [.. urgently.Length == 0 ? Turns(play, urgent) : []];   // not paced: it need not wait at all
        play.Pass(30);
        order = [.. order, .. Turns(play, Assert.Single(play.Granted))];
        Assert.Equal([urgent, usual[1]], order.Where(waiter => waiter.TenantName == "a"));
        Assert.Contains(usual[0], order);
    }

    [Theory]
    [InlineData(429)]
    [InlineData(529)]
    [InlineData(503)]
    public void A_call_goes_at_the_time_at_which_its_budget_opens(int status)
    {
        var play = Warm();
        Close(play, X, 30, status: status);
        var opens = play.Now + TimeSpan.FromSeconds(30);
        var waiting = play.Ask(A, budget: X);
        play.Pass(29.9);
        Assert.Equal(opens, play.WakeAt);
        play.Release(play.Ask(A));   // other events look at the queue, too
        Waits(waiting);
        play.Pass(0.1);
        Holds(waiting);
        Assert.Equal(opens, waiting.GrantedAt);
    }

    [Fact]
    public void An_answer_that_opens_the_budget_serves_at_once()
    {
        var play = Warm();
        Tell(play, X, left: 0, seconds: 10, limit: 1);
        Waiter[] calls = [play.Ask(A, budget: X), play.Ask(A, budget: X), play.Ask(A, budget: X), play.Ask(A, budget: X)];
        play.Pass(10);
        Assert.Equal(calls[..1], play.Granted);   // the limit is 1, and what the new window lets through beyond that only an answer can tell
        play.Pass(300);
        Waits(calls[1..]);
        play.Answer(calls[0], limit: 3, remaining: 2, reset: 10);
        Assert.Equal(calls[1..3], play.Granted);
        Waits(calls[3]);
    }

    [Fact]
    public void An_answer_counts_once()
    {
        var play = Warm();
        Tell(play, X, left: 2);
        var call = play.Ask(A, budget: X);
        play.Answer(call, limit: 10, remaining: 1, reset: 30);
        play.Answer(call, status: 429, retryAfter: 500);   // a second head, of a lease that has its answer, is none of the budget's business
        Holds(play.Ask(A, budget: X));
        Assert.Equal(1, StateOf(play, X).Rules.InFlight);
        play.Release(call, LeaseOutcome.ConnectionBroken);   // its body broke: it was counted with its head
        Assert.Equal(1, StateOf(play, X).Rules.InFlight);
    }

    [Theory]
    [InlineData("not sent", true)]
    [InlineData("bypassed", true)]
    [InlineData("broken", false)]
    [InlineData("reusable", false)]
    public void A_lease_that_was_not_used_gives_its_place_back(string end, bool isGivenBack)
    {
        var play = Warm(new SchedulerLimits { MaxRedispatches = 0 });
        Tell(play, X, left: 1);
        var first = play.Ask(A, budget: X);
        var second = play.Ask(A, budget: X, priority: 10);
        Holds(first);
        Waits(second);
        if (end == "bypassed")
        {
            play.Bypass(first, ConnectionEnd.InOrder);
            Waits(first);   // it waits again, and the other is the more urgent
        }
        else
        {
            play.Release(first, end switch { "not sent" => LeaseOutcome.NotSent, "broken" => LeaseOutcome.ConnectionBroken, _ => LeaseOutcome.Reusable });
        }

        Assert.Equal(isGivenBack ? [second] : [], play.Granted);
        Assert.Equal(isGivenBack ? 1 : 0, StateOf(play, X).Rules.InFlight);
    }

    [Fact]
    public void A_call_that_is_placed_anew_takes_its_place_in_the_budget_again()
    {
        var play = Warm();
        Tell(play, X, left: 1);
        var first = play.Ask(A, budget: X);
        var second = play.Ask(A, budget: X);
        play.Release(first, LeaseOutcome.NotSent);
        Assert.Equal([first], play.Granted);
        Waits(second);
        Assert.Equal(1, StateOf(play, X).Rules.InFlight);
        play.Answer(first, limit: 10, remaining: 1, reset: 30);
        Holds(second);
    }

    [Fact]
    public void A_call_is_refused_at_once_only_when_its_budget_opens_too_late()
    {
        var play = Warm();
        Close(play, X, 30);
        play.Ask(A, 29, budget: X);
        Assert.Equal(PoolRejectionReason.ProviderLimit, Assert.Single(play.Refused).Reason);
        Assert.Equal(RefusalKind.Rejected, play.Refused[0].Refusal);
        Waits(play.Ask(A, 31, budget: X));
        Holds(play.Ask(A, 1, budget: Y));

        Tell(play, Y, left: 0, seconds: 10, limit: 1);
        play.Pass(10);
        Holds(play.Ask(A, budget: Y));
        var untold = play.Ask(A, 1, budget: Y);   // an answer may come at any time
        Waits(untold);
        play.Pass(1);
        Assert.Equal((RefusalKind.TimedOut, PoolRejectionReason.ProviderLimit), (play.Refused.Single().Refusal, play.Refused.Single().Reason));
    }

    [Fact]
    public void Those_who_wait_for_a_budget_are_said_to()
    {
        var play = Single();
        Close(play, X);
        var leased = play.Ask(A);
        var (paced, other) = (play.Ask(A, budget: X), play.Ask(A, budget: Y));
        Assert.Equal((PoolRejectionReason.ProviderLimit, PoolRejectionReason.MaxConnections), (play.Reason(paced), play.Reason(other)));
        Assert.Equal([PoolRejectionReason.ProviderLimit, PoolRejectionReason.MaxConnections], play.Scheduler.Waiters(play.Now, 10).Select(waiter => waiter.Reason));
        play.Pass(30);
        Assert.Equal(PoolRejectionReason.MaxConnections, play.Reason(paced));
        play.Release(leased);
        Assert.Equal([paced], play.Granted);
    }

    [Fact]
    public void No_more_is_dialled_than_the_budget_lets_through()
    {
        var play = new SchedulerPlay();
        play.OpenHttp1(A, 1);
        Tell(play, X, left: 3, outcome: LeaseOutcome.ConnectionBroken);
        play.IsClosed(Assert.Single(play.Closed));
        for (var calls = 0; calls < 6; calls++)
        {
            play.Ask(A, budget: X);
        }

        Assert.Equal(3, play.Dialing(A).Length);
        play.OpenHttp2(B, 1);
        Close(play, Y, key: B);
        play.Ask(B, budget: Y);
        Assert.Empty(play.Dialing(B));
    }


    [Fact]
    public void Two_lanes_of_one_budget_dial_no_more_than_it_lets_through()
    {
        var play = new SchedulerPlay(new SchedulerLimits { Sharing = Lanes(Lane("batch"), Lane("stream")) });
        play.OpenHttp1(A, 1);
        Tell(play, X, left: 1, outcome: LeaseOutcome.ConnectionBroken);
        play.IsClosed(Assert.Single(play.Closed));
        play.Ask(A, lane: "batch", budget: X);
        play.Ask(A, lane: "stream", budget: X);
        play.Ask(A, budget: X);
        Assert.Single(play.Dialing(A));
    }

    [Fact]
    public void Two_budgets_of_one_lane_dial_no_more_than_its_ceiling()
    {
        var play = new SchedulerPlay(new SchedulerLimits { Sharing = Lanes(Lane("batch", ceiling: 1)) });
        play.OpenHttp1(A, 1);
        Tell(play, X, left: 5, outcome: LeaseOutcome.ConnectionBroken);
        play.IsClosed(Assert.Single(play.Closed));
        play.Ask(A, lane: "batch", budget: X);
        play.Ask(A, lane: "batch", budget: Y);
        play.Ask(A, lane: "batch");
        Assert.Single(play.Dialing(A));
    }

    [Fact]
    public void What_a_budget_lets_through_is_shared_by_its_keys()
    {
        var play = Warm();
        play.OpenHttp2(AlsoA, 2);
        Tell(play, X, left: 0, limit: 4);
        var a = play.Ask(A, tenant: "a", budget: X);
        Waiter[] b = [.. Enumerable.Range(0, 3).Select(_ => play.Ask(AlsoA, tenant: "b", budget: X))];
        Waiter[] all = [a, .. b, .. Enumerable.Range(0, 3).Select(_ => play.Ask(A, tenant: "a", budget: X))];
        play.Pass(30);
        Assert.Equal(4, Held(all));
        Assert.Equal(2, Held(b));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Who_waits_for_a_budget_on_another_key_is_served_first_even_when_the_tick_is_late(bool isRelease)
    {
        var play = Warm();
        play.OpenHttp2(AlsoA, 2);
        Tell(play, X, left: 0, limit: 1);
        var leased = play.Ask(AlsoA);
        var first = play.Ask(A, budget: X);
        var second = play.Ask(AlsoA, budget: X);
        play.PassLate(31);
        if (isRelease)
        {
            play.Release(leased);
        }
        else
        {
            play.Ask(AlsoA, budget: X);
        }

        Assert.Equal([first], play.Granted);
        Waits(second);
    }

    [Fact]
    public void Slow_down_said_again_is_heard_by_those_who_wait()
    {
        var play = Warm();
        var first = play.Ask(A, budget: X);
        play.SlowDown(first);
        Holds(play.Ask(A, budget: X));   // one a minute
        var waiting = play.Ask(A, budget: X);
        Waits(waiting);
        play.Pass(10);
        play.SlowDown(first);
        var opens = StateOf(play, X).Rules.OpensAt(play.Now);
        play.Pass((opens - play.Now).TotalSeconds);
        Holds(waiting);
    }

    [Fact]
    public void A_closed_budget_leaves_no_place_of_the_pool_idle()
    {
        var play = Warm(new SchedulerLimits { MaxConcurrentRequests = 1, Sharing = Lanes(Lane("batch", ceiling: 1)) });
        play.OpenHttp2(B, 1);
        Close(play, X);
        var leased = play.Ask(A, lane: "batch");
        var paced = play.Ask(A, lane: "batch", budget: X);
        var other = play.Ask(B, lane: "batch");
        var third = play.Ask(A, lane: "batch", budget: Y);
        play.Release(leased);
        Assert.Equal([other], play.Granted);
        play.Pass(30);
        Waits(paced, third);   // open, and the place is taken
        Assert.Equal(PoolRejectionReason.LaneCeiling, play.Reason(paced));
        Assert.Equal([paced, third], Turns(play, other).Skip(1));
    }

    [Fact]
    public void Tenants_at_their_limit_do_not_hold_up_a_budget_that_opens()
    {
        var play = Warm(new SchedulerLimits { Sharing = new SharingSettings { Named = new Dictionary<string, TenantLimits> { ["a"] = TenantLimits.None with { MaxConcurrentRequests = 1 } } } });
        Close(play, X);
        var leased = play.Ask(A, tenant: "a");
        var (atLimit, other) = (play.Ask(A, tenant: "a", budget: X), play.Ask(A, tenant: "b", budget: X));
        play.Pass(10);
        play.Release(leased);
        Waits(atLimit, other);
        var again = play.Ask(A, tenant: "a");
        play.Pass(20);
        Assert.Equal([other], play.Granted);
        Assert.Equal(PoolRejectionReason.TenantLimit, play.Reason(atLimit));
        play.Release(again);
        Holds(atLimit);
    }

    [Fact]
    public void Paced_calls_fill_the_reserve_of_their_lane()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 1, Sharing = Lanes(Lane("stream", reserve: 2), Lane("batch")) });
        play.OpenHttp2(A, 1, limit: 4);
        Close(play, X);
        Waits(play.Ask(A, lane: "stream", budget: X));
        Holds(play.Ask(A, lane: "stream", budget: Y), play.Ask(A, lane: "stream", budget: Y));
        Holds(play.Ask(A, lane: "batch"), play.Ask(A, lane: "batch", budget: Y));
    }
}
