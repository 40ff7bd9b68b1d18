using Warmline.Scheduling;
using Xunit;
using static Warmline.Tests.Scheduling.SchedulerPlay;

namespace Warmline.Tests.Scheduling;

/// <summary>How connections age and die, how dials fail, and what is counted.</summary>
public sealed class SchedulerLifeTests
{
    static readonly SchedulerLimits Lasting = new() { ConnectionLifetime = Timeout.InfiniteTimeSpan, IdleTimeout = Timeout.InfiniteTimeSpan };

    [Fact]
    public void At_the_end_of_its_lifetime_a_connection_drains_and_its_streams_are_not_cut()
    {
        var play = new SchedulerPlay(Lasting with { ConnectionLifetime = TimeSpan.FromMinutes(1) });
        var connection = play.OpenHttp2(A, 1)[0];
        var call = play.Ask(A);
        play.Pass(60);
        Assert.Equal(ConnectionPhase.Draining, connection.Phase);
        Assert.Equal(WaiterState.Leased, call.State);
        Assert.NotSame(connection, play.Ask(A).Connection);
        play.Release(call);
        Assert.Equal([connection], play.Closed);
    }

    [Fact]
    public void The_successor_of_a_connection_in_use_is_dialled_ahead()
    {
        var play = new SchedulerPlay(Lasting with { ConnectionLifetime = TimeSpan.FromMinutes(10) });
        var connection = play.OpenHttp1(A, 1)[0];
        play.Ask(A);
        play.Pass((connection.ExpiresAt - play.Now).TotalSeconds - 5.01);
        Assert.Empty(play.Dialing(A));
        play.Pass(0.01);
        Assert.Single(play.Dialing(A));
        Assert.Equal(ConnectionPhase.Open, connection.Phase);
    }

    [Fact]
    public void A_connection_that_is_not_in_use_gets_no_successor()
    {
        var play = new SchedulerPlay(Lasting with { ConnectionLifetime = TimeSpan.FromMinutes(10) });
        var connection = play.OpenHttp1(A, 1)[0];
        play.Pass(600);
        Assert.Equal([connection], play.Closed);
        Assert.Empty(play.Dialed);
    }

    [Fact]
    public void Lifetimes_are_shortened_at_random_by_a_tenth_at_most()
    {
        var play = new SchedulerPlay(Lasting with { ConnectionLifetime = TimeSpan.FromMinutes(10) });
        var lifetimes = play.OpenHttp1(A, 25).Select(connection => (connection.ExpiresAt - connection.OpenedAt).TotalMinutes).ToArray();
        Assert.All(lifetimes, minutes => Assert.InRange(minutes, 9, 10));
        Assert.True(lifetimes.Distinct().Count() > 20);
        Assert.True(lifetimes.Max() - lifetimes.Min() > 0.5);
    }

    [Fact]
    public void The_pause_after_failed_dials_doubles_up_to_its_cap_and_ends_with_a_success()
    {
        var play = new SchedulerPlay(Lasting with { BackOff = TimeSpan.FromSeconds(1), MaxBackOff = TimeSpan.FromSeconds(5) });
        play.Ask(A);
        play.Fails(play.Dialing(A).Single());
        foreach (var pause in new[] { 1, 2, 4, 5, 5 })
        {
            play.Ask(A);
            play.Pass(pause - 0.001);
            Assert.Empty(play.Dialing(A));
            play.Pass(0.001);
            play.Fails(play.Dialing(A).Single());
        }

        play.Ask(A);
        play.Pass(5);
        play.Closing(play.Succeeds(play.Dialing(A).Single()));
        Assert.Equal(play.Now + TimeSpan.FromSeconds(1), play.State(A).BackOffUntil);
    }

    [Fact]
    public void Dials_that_fail_together_count_as_one_failure()
    {
        var play = new SchedulerPlay(Lasting with { BackOff = TimeSpan.FromSeconds(1) });
        play.Ask(100, A);
        play.Pass(0.5);
        Array.ForEach(play.Dialing(A), play.Fails);
        Assert.Equal(play.Now + TimeSpan.FromSeconds(1), play.State(A).BackOffUntil);
    }

    [Fact]
    public void A_failed_dial_fails_the_waiters_that_are_older_and_the_later_ones_wait_out_the_pause()
    {
        var play = new SchedulerPlay();
        var older = play.Ask(A);
        var dial = play.Dialing(A).Single();
        var younger = play.Ask(A);
        play.Fails(dial);
        var refusal = Assert.Single(play.Refused);
        Assert.Equal((older, RefusalKind.DialFailed, NoRoute), (refusal.Waiter, refusal.Refusal, refusal.Error));
        Assert.Equal(PoolRejectionReason.BackOff, play.Scheduler.ReasonFor(younger));
        play.Pass(0.1);
        Assert.Single(play.Dialing(A));
    }

    [Fact]
    public void A_failed_dial_fails_nobody_while_another_is_under_way()
    {
        var play = new SchedulerPlay();
        var calls = play.Ask(9, A);
        var dials = play.Dialing(A);
        Assert.Equal(2, dials.Length);
        play.Fails(dials[0]);
        Assert.Empty(play.Refused);
        play.Fails(dials[1]);
        Assert.Equal(calls, play.Refused.Select(refusal => refusal.Waiter));
    }

    [Fact]
    public void A_failed_dial_fails_nobody_while_a_connection_is_open()
    {
        var play = new SchedulerPlay();
        play.OpenHttp1(A, 1);
        var calls = play.Ask(2, A);
        play.Fails(play.Dialing(A).Single());
        Assert.Empty(play.Refused);
        play.Release(calls[0]);
        Assert.Equal([calls[1]], play.Granted);
    }

    [Fact]
    public void A_connection_that_dies_young_and_unused_counts_as_a_failed_dial_and_so_does_the_next()
    {
        var play = new SchedulerPlay(Lasting with { BackOff = TimeSpan.FromSeconds(1) });
        play.HoldWarm(A, 1);
        foreach (var pause in new[] { 1, 2, 4 })
        {
            play.IsClosed(play.Succeeds(play.Dialing(A).Single()));
            Assert.Equal(play.Now + TimeSpan.FromSeconds(pause), play.State(A).BackOffUntil);
            Assert.Empty(play.Dialing(A));
            play.Pass(pause);
        }

        Assert.Single(play.Dialing(A));
    }

    [Fact]
    public void A_server_that_closes_with_each_answer_costs_no_pause()
    {
        var play = new SchedulerPlay();
        play.OpenHttp1(A, 1);
        var call = play.Ask(A);
        play.IsClosed(call.Connection!);   // Connection: close: the end is seen before the lease ends
        play.Release(call);
        play.Ask(A);
        Assert.Single(play.Dialing(A));
    }

    [Fact]
    public void The_second_young_connection_on_which_nothing_could_be_sent_counts_as_a_failed_dial()
    {
        var play = new SchedulerPlay();
        play.OpenHttp1(A, 1);
        var call = play.Ask(A);
        play.IsClosed(call.Connection!);
        play.Release(call, LeaseOutcome.NotSent);
        play.Succeeds(play.Dialing(A).Single());
        play.IsClosed(call.Connection!);
        play.Release(call, LeaseOutcome.NotSent);
        Assert.Empty(play.Dialing(A));
        Assert.Equal(PoolRejectionReason.BackOff, play.Scheduler.ReasonFor(call));
    }

    [Fact]
    public void A_connection_that_served_somebody_or_lived_a_while_does_not_count_as_failed()
    {
        var play = new SchedulerPlay();
        var connections = play.OpenHttp1(A, 2);
        var call = play.Ask(A);
        play.Release(call);
        play.Closing(call.Connection!);
        play.Pass(2);
        play.Closing(connections.Single(connection => connection != call.Connection));
        play.Ask(A);
        Assert.Single(play.Dialing(A));
    }

    [Fact]
    public void SETTINGS_that_do_not_come_within_the_connect_timeout_fail_the_dial()
    {
        var play = new SchedulerPlay(new SchedulerLimits { ConnectTimeout = TimeSpan.FromSeconds(5) });
        var calls = play.Ask(2, A);
        var dial = play.Dialing(A).Single();
        play.Pass(2);
        play.Succeeds(dial, isHttp2: true);
        play.Pass(2.999);
        Assert.Empty(play.Of(ActionKind.SettingsOverdue));
        play.Pass(0.001);
        Assert.Same(dial, Assert.Single(play.Of(ActionKind.SettingsOverdue)).Connection);

        play.Fails(dial);
        Assert.Equal([dial], play.Closed);
        Assert.Equal(WaiterState.Leased, calls[0].State);   // it rides the connection and ends with it
        Assert.Equal(PoolRejectionReason.BackOff, play.Scheduler.ReasonFor(calls[1]));
    }

    [Fact]
    public void After_GOAWAY_running_streams_end_and_new_ones_go_elsewhere()
    {
        var play = new SchedulerPlay();
        var connection = play.OpenHttp2(A, 1)[0];
        var call = play.Ask(A);
        play.Pass(1);
        play.Closing(connection);
        Assert.Empty(play.Closed);
        play.Ask(A);
        Assert.Single(play.Dialed);
        play.Release(call);
        Assert.Equal([connection], play.Closed);
    }

    [Fact]
    public void A_connection_that_is_gone_ends_no_lease()
    {
        var play = new SchedulerPlay();
        var connection = play.OpenHttp2(A, 1)[0];
        var calls = play.Ask(2, A);
        play.IsClosed(connection);
        Assert.Equal((2, 0), (play.Scheduler.Leases, play.Scheduler.Permits.InUse));
        play.Release(calls[0], LeaseOutcome.ConnectionBroken);
        play.Release(calls[1], LeaseOutcome.NotSent);
        Assert.Equal((0, 1), (play.Scheduler.Leases, play.Scheduler.Waiting));
        play.Release(calls[0]);
        Assert.Equal((0, 1), (play.Scheduler.Leases, play.Scheduler.Waiting));
    }

    [Fact]
    public void While_an_origin_is_paused_nothing_is_placed_or_dialled_there()
    {
        var play = new SchedulerPlay();
        play.OpenHttp1(A, 1);
        play.Pause(A);
        var calls = play.Ask(2, A);
        play.Ask(B);
        Assert.Empty(play.Dialing(A));
        Assert.Single(play.Dialing(B));
        play.Resume(A);
        Assert.Equal(calls[..1], play.Granted);
        Assert.Single(play.Dialing(A));
    }

    [Fact]
    public void Retired_connections_end_when_their_streams_have_ended_and_new_calls_get_new_ones()
    {
        var play = new SchedulerPlay();
        var connections = play.OpenHttp1(A, 2);
        play.OpenHttp1(B, 1);
        var call = play.Ask(A);
        play.Retire(A);
        Assert.Equal(connections.Where(connection => connection != call.Connection), play.Closed);
        play.Ask(A);
        Assert.Single(play.Dialed);
        play.Release(call);
        Assert.Equal([call.Connection!], play.Closed);
        Assert.Single(play.In(B, ConnectionPhase.Open));
    }

    [Fact]
    public void A_drain_refuses_who_waits_and_who_comes_and_ends_when_the_last_stream_has()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 2 });
        var connections = play.OpenHttp1(A, 1);
        var call = play.Ask(A);
        var waiting = play.Ask(2, A);
        var dial = play.Dialing(A).Single();
        play.Drain();
        Assert.Equal(waiting, play.Refused.Select(refusal => refusal.Waiter));
        Assert.All(play.Refused, refusal => Assert.Equal((RefusalKind.Rejected, PoolRejectionReason.Draining), (refusal.Refusal, refusal.Reason)));
        play.Ask(A);
        Assert.Single(play.Refused);
        play.Succeeds(dial);
        Assert.Equal([dial], play.Closed);
        play.IsClosed(dial);
        play.Release(call);
        Assert.Equal(connections, play.Closed);
        play.IsClosed(connections[0]);
        Assert.Equal(0, play.Scheduler.Permits.InUse);
    }

    [Fact]
    public void The_warning_about_utilisation_comes_once_per_crossing()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 50 });
        play.OpenHttp1(A, 25);
        play.WarmUp(A, 25);
        var calls = new List<Waiter>(play.Ask(40, A));
        Array.ForEach(play.Dialing(A), connection => play.Succeeds(connection));
        Assert.Equal(40, play.Scheduler.Leases);
        calls.Add(play.Ask(A));
        Array.ForEach(play.Dialing(A), connection => play.Succeeds(connection));
        var warning = Assert.Single(play.Of(ActionKind.UtilizationHigh));
        Assert.Equal((41, 50), (warning.Active, warning.Limit));

        play.Release(calls[..5]);   // 36 of 50
        Assert.Empty(Warnings(play, 9));
        play.Release(calls[5..8]);
        play.Release(calls[8..41]);
        Array.ForEach(play.In(A, ConnectionPhase.Closing), play.IsClosed);
        play.Ask(31, A);   // beside the nine from before
        Array.ForEach(play.Dialing(A), connection => play.Succeeds(connection));
        Assert.Equal(40, play.Scheduler.Leases);
        play.Ask(A);
        Array.ForEach(play.Dialing(A), connection => play.Succeeds(connection));
        Assert.Single(play.Of(ActionKind.UtilizationHigh));
    }

    [Fact]
    public void There_is_no_warning_while_SETTINGS_are_awaited()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 1 });
        play.Ask(A);
        var connection = play.Succeeds(play.Dialing(A).Single(), isHttp2: true);
        Assert.Single(play.Granted);
        Assert.Empty(play.Of(ActionKind.UtilizationHigh));
        play.Settings(connection, 100);
        Assert.Empty(Warnings(play, 24));
        Assert.Single(Warnings(play, 1));
    }

    [Fact]
    public void Going_on_at_full_load_is_no_new_crossing()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 1 });
        play.OpenHttp1(A, 1);
        var calls = play.Ask(3, A);
        play.Release(calls[0]);
        Assert.Equal([calls[1]], play.Granted);
        Assert.Empty(play.Of(ActionKind.UtilizationHigh));
    }

    [Fact]
    public void MaxConcurrentRequests_is_what_utilisation_refers_to_when_it_is_closest()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConcurrentRequests = 10 });
        play.OpenHttp2(A, 1);
        play.OpenHttp2(B, 1);
        play.Ask(4, A);
        play.Ask(4, B);
        var warning = Assert.Single(Warnings(play, 1));
        Assert.Equal((9, 10), (warning.Active, warning.Limit));
    }

    static List<SchedulerAction> Warnings(SchedulerPlay play, int calls)
    {
        var warnings = new List<SchedulerAction>();
        for (var i = 0; i < calls; i++)
        {
            play.Ask(A);
            warnings.AddRange(play.Of(ActionKind.UtilizationHigh));
        }

        return warnings;
    }

    [Fact]
    public void A_call_that_needed_no_dial_of_its_own_is_a_reuse_and_one_that_waited_for_its_dial_is_not()
    {
        var play = new SchedulerPlay();
        var first = play.Ask(A);
        play.Pass(0.1);
        var second = play.Ask(A);
        play.Pass(0.1);
        var connection = play.Succeeds(play.Dialing(A).Single(), isHttp2: true);
        play.Settings(connection, 100);
        var third = play.Ask(A);
        Assert.Equal([false, true, true], new[] { first, second, third }.Select(call => call.Reused));
        Assert.Equal((3, 2, 1), (play.Scheduler.Facts.Requests, play.Scheduler.Facts.Reused, play.Scheduler.Facts.Dials));
    }

    [Fact]
    public void A_call_that_rides_a_warm_connection_is_a_reuse()
    {
        var play = new SchedulerPlay();
        play.OpenHttp1(A, 1);
        Assert.True(play.Ask(A).Reused);
    }

    [Fact]
    public void The_time_saved_is_the_reuses_times_the_measured_handshake()
    {
        var play = new SchedulerPlay();
        play.Ask(A);
        play.Succeeds(play.Dialing(A).Single(), isHttp2: true, handshakeMilliseconds: 120);
        play.Settings(play.State(A).Connections[0], 100);
        play.Ask(5, A);
        var stats = play.Scheduler.Stats();
        Assert.Equal(TimeSpan.FromMilliseconds(600), stats.TimeSaved);
        Assert.Equal(5.0 / 6, stats.ReuseRate, 6);
        Assert.Equal(TimeSpan.FromMilliseconds(120), stats.AverageHandshake);
    }

    [Fact]
    public void The_pool_asks_to_be_woken_at_the_earliest_time_that_something_is_due()
    {
        var play = new SchedulerPlay();
        play.Ask(A, seconds: 10);
        Assert.Equal(play.Now + TimeSpan.FromSeconds(10), play.WakeAt);
        play.Ask(A, seconds: 4);
        Assert.Equal(play.Now + TimeSpan.FromSeconds(4), play.WakeAt);
        play.Ask(A, seconds: 7);
        Assert.Empty(play.Of(ActionKind.WakeAt));
    }
}
