using Warmline.Scheduling;
using Xunit;
using static Warmline.Tests.Scheduling.SchedulerPlay;

namespace Warmline.Tests.Scheduling;

/// <summary>Who may have a connection open, and who gives way.</summary>
public sealed class SchedulerPermitTests
{
    [Fact]
    public void When_all_connections_are_idle_on_one_key_another_gets_one_at_once()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 2, MaxIdleConnections = 2 });
        var idle = play.OpenHttp1(A, 2);
        play.Ask(B);
        Assert.Equal([idle[0]], play.Closed);
        Assert.Empty(play.Dialing(B));

        play.IsClosed(idle[0]);
        Assert.Single(play.Dialing(B));
    }

    [Fact]
    public void Each_key_that_lacks_a_permit_gets_an_idle_connection_closed()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 2, MaxIdleConnections = 2 });
        play.OpenHttp1(A, 2);
        play.Ask(B);
        play.Ask(C);
        Assert.Equal(2, play.In(A, ConnectionPhase.Closing).Length);
    }

    [Fact]
    public void An_idle_connection_is_closed_for_a_waiter_although_a_busy_one_drains_for_it_already()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 2 });
        var open = play.OpenHttp1(A, 2);
        var calls = play.Ask(2, A);
        play.Ask(B);
        var draining = play.In(A, ConnectionPhase.Draining).Single();
        play.Release(calls.Single(call => call.Connection != draining));
        Assert.Equal([open.Single(connection => connection != draining)], play.Closed);
    }

    [Fact]
    public void Endless_traffic_on_one_key_lets_another_in_when_one_connections_present_streams_have_ended()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 2, MaxStreamsPerConnection = 4 });
        play.OpenHttp2(A, 2);
        var running = new Queue<Waiter>(play.Ask(20, A));
        var b = play.Ask(B);
        var draining = play.In(A, ConnectionPhase.Draining).Single();
        Assert.Equal(4, draining.Streams);

        for (var end = 0; draining.Streams > 0; end++)
        {
            Assert.True(end < 10);
            var ending = running.Dequeue();
            running.Enqueue(play.Ask(A));
            play.Release(ending);
        }

        play.IsClosed(draining);
        play.Succeeds(play.Dialed.Single(), isHttp2: true);
        Assert.Equal([b], play.Granted);
    }

    [Fact]
    public void Keys_that_starve_take_turns_with_a_single_permit()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 1 });
        play.OpenHttp1(A, 1);
        var a = play.Ask(3, A);
        var b = play.Ask(3, B);
        var order = new List<Waiter> { a[0] };
        while (order.Count < 6)
        {
            var connection = order[^1].Connection!;
            play.Release(order[^1]);
            play.IsClosed(connection);
            play.Succeeds(play.Dialed.Single());
            order.Add(play.Granted.Single());
        }

        Assert.Equal([a[0], b[0], a[1], b[1], a[2], b[2]], order);
    }

    [Fact]
    public void Each_starving_key_makes_one_connection_drain_and_no_more()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 4 });
        play.OpenHttp1(A, 4);
        play.Ask(4, A);
        play.Ask(3, B);
        Assert.Single(play.In(A, ConnectionPhase.Draining));
        play.Ask(3, C);
        Assert.Equal(2, play.In(A, ConnectionPhase.Draining).Length);
    }

    [Fact]
    public void A_connection_that_opens_while_another_key_starves_serves_what_it_can_and_then_gives_way()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 1 });
        var a = play.Ask(2, A);
        play.Ask(B);
        var connection = play.Succeeds(play.Dialing(A).Single(), isHttp2: true);
        Assert.Equal(ConnectionPhase.AwaitingSettings, connection.Phase);
        play.Settings(connection, 100);
        Assert.Equal(a[1..], play.Granted);
        Assert.Equal(ConnectionPhase.Draining, connection.Phase);
    }

    [Fact]
    public void Two_keys_of_one_origin_share_MaxConnectionsPerHost()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnectionsPerHost = 2 });
        play.OpenHttp1(A, 2);
        var calls = play.Ask(2, A);
        var also = play.Ask(AlsoA);
        Assert.Equal(PoolRejectionReason.MaxConnectionsPerHost, play.Scheduler.ReasonFor(also));
        play.Ask(B);
        Assert.Single(play.Dialing(B));

        var draining = play.In(A, ConnectionPhase.Draining).Single();
        play.Release(calls.Single(call => call.Connection == draining));
        play.IsClosed(draining);
        Assert.Single(play.Dialing(AlsoA));
    }

    [Fact]
    public void A_lowered_MaxConnections_takes_idle_connections_first_and_cuts_no_stream()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 4 });
        play.OpenHttp1(A, 4);
        var calls = play.Ask(3, A);
        play.Change(play.Limits with { MaxConnections = 2 });
        Assert.Single(play.In(A, ConnectionPhase.Closing));
        var draining = play.In(A, ConnectionPhase.Draining).Single();
        play.Release(calls.Single(call => call.Connection == draining));
        Assert.Equal([draining], play.Closed);
        Assert.Equal(2, play.In(A, ConnectionPhase.Open).Length);
    }

    [Fact]
    public void Dials_under_way_when_MaxConnections_is_lowered_are_taken_back_when_they_are_open()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 4 });
        play.WarmUp(A, 4);
        play.Change(play.Limits with { MaxConnections = 2 });
        foreach (var connection in play.Dialing(A))
        {
            play.Succeeds(connection);
        }

        Assert.Equal(2, play.In(A, ConnectionPhase.Open).Length);
        Assert.Equal(2, play.In(A, ConnectionPhase.Closing).Length);
    }

    [Fact]
    public void A_raised_MaxConnections_is_used_at_once()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 1 });
        play.OpenHttp1(A, 1);
        play.Ask(4, A);
        play.Change(play.Limits with { MaxConnections = 3 });
        Assert.Equal(2, play.Dialed.Length);
    }

    [Fact]
    public void No_more_than_MaxIdleConnections_are_kept_and_the_longest_idle_goes_first()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxIdleConnections = 1 });
        var calls = play.Ask(2, A);
        foreach (var connection in play.Dialing(A))
        {
            play.Succeeds(connection);
        }

        play.Succeeds(play.Dialing(A).Single());
        Assert.All(calls, call => Assert.Equal(WaiterState.Leased, call.State));
        play.Release(calls[0]);
        Assert.Empty(play.Closed);
        play.Release(calls[1]);
        Assert.Equal([calls[0].Connection!], play.Closed);
    }

    [Fact]
    public void Without_room_for_idle_connections_calls_are_not_spread_ahead_and_nothing_is_dialled_in_vain()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxIdleConnections = 0 });
        var calls = play.Ask(2, A);
        var connection = play.Succeeds(play.Dialing(A).Single(), isHttp2: true);
        play.Settings(connection, 100);
        play.Ask(20, A);
        Assert.Empty(play.Dialing(A));
        Assert.All(calls, call => Assert.Same(connection, call.Connection));
    }

    [Fact]
    public void An_idle_connection_is_closed_after_the_idle_timeout()
    {
        var play = new SchedulerPlay(new SchedulerLimits { IdleTimeout = TimeSpan.FromSeconds(20) });
        var connection = play.OpenHttp1(A, 1)[0];
        play.Pass(10);
        play.Release(play.Ask(A));
        play.Pass(19);
        Assert.Empty(play.Closed);
        play.Pass(1);
        Assert.Equal([connection], play.Closed);
    }

    [Fact]
    public void A_spare_connection_that_expired_comes_back_with_the_next_call_and_not_before()
    {
        var play = new SchedulerPlay(new SchedulerLimits { IdleTimeout = TimeSpan.FromSeconds(20) });
        play.OpenHttp2(A, 1);
        play.Ask(9, A);
        var spare = play.Succeeds(play.Dialing(A).Single(), isHttp2: true);
        play.Settings(spare, 100);
        play.Pass(20);
        Assert.Equal([spare], play.Closed);
        play.IsClosed(spare);
        Assert.Empty(play.Dialing(A));
        play.Ask(A);
        Assert.Single(play.Dialing(A));
    }

    [Fact]
    public void A_shorter_idle_timeout_holds_for_connections_that_are_idle_already()
    {
        var play = new SchedulerPlay(new SchedulerLimits { IdleTimeout = Timeout.InfiniteTimeSpan });
        var connection = play.OpenHttp1(A, 1)[0];
        play.Pass(10);
        play.Change(play.Limits with { IdleTimeout = TimeSpan.FromSeconds(5) });
        play.Pass(0);
        Assert.Equal([connection], play.Closed);
    }

    [Fact]
    public void The_connection_used_last_is_used_first_so_that_a_surplus_expires()
    {
        var play = new SchedulerPlay(new SchedulerLimits { IdleTimeout = TimeSpan.FromSeconds(20) });
        play.OpenHttp1(A, 2);
        var used = play.Ask(A);
        play.Release(used);
        for (var i = 0; i < 3; i++)
        {
            play.Pass(9);
            var next = play.Ask(A);
            Assert.Same(used.Connection, next.Connection);
            play.Release(next);
        }

        Assert.Same(used.Connection, Assert.Single(play.In(A, ConnectionPhase.Open)));
    }

    [Fact]
    public void A_warm_up_ends_when_its_number_is_ready()
    {
        var play = new SchedulerPlay();
        var warmUp = play.WarmUp(A, 3);
        var dialed = play.Dialed;
        Assert.Equal(3, dialed.Length);
        play.Succeeds(dialed[0]);
        play.Succeeds(dialed[1], isHttp2: true);
        play.Succeeds(dialed[2]);
        Assert.Empty(play.Of(ActionKind.WarmUpEnded));
        play.Settings(dialed[1], 100);
        Assert.Same(warmUp, Assert.Single(play.Of(ActionKind.WarmUpEnded)).WarmUp);
        Assert.Equal((3, null, PoolRejectionReason.None), (warmUp.Ready, warmUp.Error, warmUp.Reason));
    }

    [Fact]
    public void A_warm_up_that_cannot_be_reached_ends_with_the_error()
    {
        var play = new SchedulerPlay();
        var warmUp = play.WarmUp(A, 2);
        var dialed = play.Dialed;
        play.Fails(dialed[0]);
        Assert.Empty(play.Of(ActionKind.WarmUpEnded));
        play.Succeeds(dialed[1]);
        Assert.Single(play.Of(ActionKind.WarmUpEnded));
        Assert.Equal((1, NoRoute), (warmUp.Ready, warmUp.Error));
    }

    [Fact]
    public void A_warm_up_short_of_permits_takes_what_is_free_and_closes_nothing()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 3, MaxIdleConnections = 3 });
        play.OpenHttp1(A, 2);
        var warmUp = play.WarmUp(B, 2);
        play.Succeeds(play.Dialed.Single());
        Assert.Equal((1, PoolRejectionReason.MaxConnections), (warmUp.Ready, warmUp.Reason));
        Assert.Empty(play.Closed);
    }

    [Fact]
    public void A_warm_up_beyond_MaxIdleConnections_ends_with_as_many_and_dials_no_further()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxIdleConnections = 2 });
        var warmUp = play.WarmUp(A, 5);
        foreach (var connection in play.Dialed)
        {
            play.Succeeds(connection);
        }

        Assert.Equal(2, warmUp.Ready);
        Assert.Equal(2, play.State(A).Connections.Count);
    }

    [Fact]
    public void What_is_held_warm_outlives_the_idle_timeout_and_is_restored()
    {
        var play = new SchedulerPlay(new SchedulerLimits { IdleTimeout = TimeSpan.FromSeconds(10) });
        play.HoldWarm(A, 2);
        var warm = play.Dialed;
        Array.ForEach(warm, connection => play.Succeeds(connection));
        play.Pass(100);
        Assert.Equal(warm, play.In(A, ConnectionPhase.Open));

        play.Closing(warm[0]);
        Assert.Single(play.Dialed);
        play.HoldWarm(A, 0);
        play.Pass(20);
        Assert.Equal([warm[1]], play.Closed);
    }

    [Fact]
    public void What_is_held_warm_gives_way_to_waiters_and_comes_back_after_them()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 1, MaxIdleConnections = 1, IdleTimeout = TimeSpan.FromSeconds(10) });
        play.HoldWarm(A, 1);
        var warm = play.Succeeds(play.Dialed.Single());
        var b = play.Ask(B);
        Assert.Equal([warm], play.Closed);
        play.IsClosed(warm);
        var other = play.Succeeds(play.Dialing(B).Single());
        play.Release(b);
        play.Pass(10);
        play.IsClosed(other);
        Assert.Single(play.Dialing(A));
    }

    [Fact]
    public void Keys_held_warm_beyond_MaxIdleConnections_do_not_close_each_others_connections()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxIdleConnections = 3 });
        play.HoldWarm(A, 2);
        Array.ForEach(play.Dialed, connection => play.Succeeds(connection));
        play.HoldWarm(B, 2);
        Assert.Single(play.Dialed);
        play.Succeeds(play.Dialed[0]);
        Assert.Empty(play.Closed);

        play.HoldWarm(A, 0);
        Assert.Single(play.Dialing(B));
    }

    [Fact]
    public void A_key_is_forgotten_after_its_memory_ends_and_its_savings_are_not()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxQueueLength = 1 });
        play.Release(AskOpen(play));
        var saved = play.Scheduler.Stats().TimeSaved;
        Assert.True(saved > TimeSpan.Zero);
        play.Pass(200);
        play.IsClosed(play.Closed.Single());
        play.Ask(B, seconds: 1);
        play.Ask(C);
        Assert.Equal(PoolRejectionReason.QueueFull, play.Refused.Single().Reason);
        play.Pass(10);
        play.Fails(play.Dialing(B).Single());
        play.Pass(3600);
        Assert.Empty(play.Scheduler.Keys);
        Assert.Equal(saved, play.Scheduler.Stats().TimeSaved);
        Assert.Equal(TimeSpan.MaxValue, play.WakeAt);
    }

    static Waiter AskOpen(SchedulerPlay play)
    {
        play.OpenHttp1(A, 1);
        return play.Ask(A);
    }
}
