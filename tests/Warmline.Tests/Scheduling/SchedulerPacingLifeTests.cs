using Warmline.Options;
using Warmline.Scheduling;
using Xunit;
using static Warmline.Tests.Scheduling.SchedulerPacingTests;
using static Warmline.Tests.Scheduling.SchedulerPlay;

namespace Warmline.Tests.Scheduling;

/// <summary>What becomes of those who wait for a budget, and of the budget, when keys are forgotten, limits change or the pool stops.</summary>
public sealed class SchedulerPacingLifeTests
{
    [Fact]
    public void A_key_that_was_forgotten_waits_for_no_budget()
    {
        var play = new SchedulerPlay(new SchedulerLimits { KeyMemory = TimeSpan.FromMinutes(1), Sharing = Lanes(Lane("batch"), Lane("stream")) });
        play.OpenHttp2(AlsoA, 1);
        play.OpenHttp2(A, 1);
        Close(play, X, key: AlsoA, seconds: 500);
        Close(play, Y, seconds: 20);
        play.Cancel(play.Ask(A, lane: "batch", budget: X));
        play.Cancel(play.Ask(A, lane: "stream", budget: X));
        play.Cancel(play.Ask(A, lane: "batch", budget: Y));
        var forgotten = Assert.Single(StateOf(play, Y).Keys);
        play.Change(new SchedulerLimits { KeyMemory = TimeSpan.FromMinutes(1), Sharing = Lanes(Lane("stream")) });
        play.Retire(A);
        Array.ForEach(play.Closed, play.IsClosed);
        play.Pass(100);
        Assert.DoesNotContain(forgotten, play.Scheduler.Keys);
        Assert.Empty(play.Scheduler.Budgets.SelectMany(budget => budget.Keys));
        play.OpenHttp2(A, 1);
        Close(play, Y);
        play.Pass(50);
        Assert.NotSame(forgotten, play.State(A));   // what the old one left behind does not take the new one with it
        Holds(play.Ask(A, budget: Y));
    }

    [Fact]
    public void Budgets_are_forgotten_that_hold_nothing_back()
    {
        var play = Warm();
        Close(play, X, seconds: 500);
        Tell(play, Y, left: 5, seconds: 400);
        var open = new BudgetKey("https://a.test", 1, "open");
        var running = play.Ask(A, budget: open);
        var waiting = play.Ask(A, budget: X);
        for (var number = 0; number < 2_500; number++)
        {
            play.Release(play.Ask(A, budget: new BudgetKey("https://a.test", number, "")));
            Assert.InRange(play.Scheduler.Budgets.Count, 1, 1_000);
        }

        Assert.Superset(new HashSet<BudgetKey> { X, Y, open }, play.Scheduler.Budgets.Select(budget => budget.Key).ToHashSet());
        Assert.Equal(PoolRejectionReason.ProviderLimit, play.Reason(waiting));
        Waits(play.Ask(A, budget: X));
        play.Release(running);
        play.Pass(500);
        Assert.NotEqual(PoolRejectionReason.ProviderLimit, play.Reason(waiting));
    }

    [Fact]
    public void A_budget_that_somebody_waits_for_is_never_forgotten()
    {
        var play = Single();
        var leased = play.Ask(A);
        var waiting = play.Ask(A, budget: X);   // open: it waits for the connection
        var known = StateOf(play, X);
        for (var number = 0; number < 1_500; number++)
        {
            play.Cancel(play.Ask(A, budget: new BudgetKey("https://a.test", number, "")));
        }

        Assert.Same(known, StateOf(play, X));
        Assert.Contains(play.State(A), known.Keys);
        Assert.InRange(play.State(A).Queue.Lanes.Count, 2, 1_002);
        play.Release(leased);
        play.Answer(waiting, 429, retryAfter: 10);
        Waits(play.Ask(A, budget: X));
    }

    [Fact]
    public void A_budget_that_opens_during_a_pause_is_used_after_it()
    {
        var play = Warm();
        Close(play, X);
        var waiting = play.Ask(A, budget: X);
        play.Pause(A);
        play.Pass(40);
        Waits(waiting);
        play.Resume(A);
        Assert.Equal([waiting], play.Granted);

        Close(play, Y);
        waiting = play.Ask(A, budget: Y);
        play.Pause(null);
        play.Resume(null);   // the pause ends first
        Waits(waiting);
        play.Pass(30);
        Holds(waiting);
    }

    [Fact]
    public void Who_waits_for_a_budget_is_refused_when_the_pool_drains_and_can_give_up()
    {
        var play = Warm();
        Close(play, X);
        var (gone, other) = (play.Ask(A, budget: X), play.Ask(A, budget: X));
        play.Cancel(gone);
        Assert.Equal(1, play.Scheduler.Waiting);
        play.Drain();
        Assert.Equal((other, PoolRejectionReason.Draining), (Assert.Single(play.Refused).Waiter, play.Refused[0].Reason));
        play.Pass(40);
        Assert.Empty(play.Granted);
        Assert.Equal((0, 0), (play.Scheduler.Waiting, play.Scheduler.Leases));
    }

    [Fact]
    public void New_limits_change_nothing_for_those_who_wait_for_a_budget()
    {
        var play = Warm();
        Close(play, X);
        Waiter[] waiting = [play.Ask(A, tenant: "a", budget: X), play.Ask(A, tenant: "a", budget: X), play.Ask(A, tenant: "b", budget: X), play.Ask(A, tenant: "b", budget: X), play.Ask(A, tenant: "b", budget: X)];
        play.Change(new SchedulerLimits { MaxConcurrentRequests = 4, Sharing = Weights(("b", 3)) });
        Waits(waiting);
        play.Pass(29);
        Waits(waiting);
        play.Pass(1);
        Assert.Equal((1, 3), (Held(waiting.Take(2)), Held(waiting.Skip(2))));
    }
}
