using Warmline.Options;
using Warmline.Scheduling;
using Xunit;
using static Warmline.Tests.Scheduling.SchedulerPlay;

namespace Warmline.Tests.Scheduling;

/// <summary>Where a call goes, and how many connections are opened for it.</summary>
public sealed class SchedulerTests
{
    [Fact]
    public void The_least_loaded_connection_takes_the_next_call()
    {
        var play = new SchedulerPlay();
        var open = play.OpenHttp2(A, 3);
        var calls = play.Ask(6, A);
        Assert.All(open, connection => Assert.Equal(2, connection.Streams));

        play.Release(calls.Where(call => call.Connection == open[1]));
        Assert.Same(open[1], play.Ask(A).Connection);
    }

    [Fact]
    public void An_upload_weighs_on_its_connection_until_it_has_ended()
    {
        var play = new SchedulerPlay();
        play.OpenHttp2(A, 2);
        var upload = play.Ask(A, upload: 40_000);
        var others = play.Ask(3, A);
        Assert.DoesNotContain(upload.Connection, others.Select(call => call.Connection));

        play.UploadEnded(upload);
        Assert.Same(upload.Connection, play.Ask(A).Connection);
    }

    [Theory]
    [InlineData(20, 3, (int)HttpProtocols.Any)]
    [InlineData(20, 3, (int)HttpProtocols.Http2)]
    [InlineData(100, 8, (int)HttpProtocols.Any)]
    [InlineData(100, 8, (int)HttpProtocols.Http2)]
    public void A_burst_leads_to_one_dial_for_every_eight_calls_and_to_eight_at_most(int calls, int dials, int protocols)
    {
        var play = new SchedulerPlay();
        var key = new ConnectionKey(true, "a.test", 443, protocols: (HttpProtocols)protocols);
        play.Ask(calls, key);
        Assert.Equal(dials, play.Dialing(key).Length);
    }

    [Fact]
    public void Calls_that_come_one_by_one_spread_over_connections_as_well()
    {
        var play = new SchedulerPlay();
        play.OpenHttp2(A, 1);
        play.Ask(8, A);
        Assert.Empty(play.Dialing(A));
        play.Ask(A);
        Assert.Single(play.Dialing(A));
    }

    [Fact]
    public void Beyond_the_spread_connections_the_key_grows_only_when_all_are_at_their_cap()
    {
        var play = new SchedulerPlay();
        play.OpenHttp2(A, 8);
        play.Ask(8 * 32, A);
        Assert.Empty(play.Dialing(A));
        Assert.All(play.State(A).Connections, connection => Assert.Equal(32, connection.Streams));
        play.Ask(A);
        Assert.Single(play.Dialing(A));
    }

    [Fact]
    public void Before_its_SETTINGS_a_connection_takes_one_stream()
    {
        var play = new SchedulerPlay();
        var calls = play.Ask(3, A);
        var connection = play.Succeeds(play.Dialing(A).Single(), isHttp2: true);
        Assert.Equal(calls[..1], play.Granted);

        play.Settings(connection, 100);
        Assert.Equal(calls[1..], play.Granted);
    }

    [Fact]
    public void A_new_connection_that_nobody_rides_is_primed_so_that_its_SETTINGS_come()
    {
        var play = new SchedulerPlay();
        play.WarmUp(A, 1);
        var connection = play.Succeeds(play.Dialed.Single(), isHttp2: true);
        Assert.Same(connection, Assert.Single(play.Of(ActionKind.Prime)).Connection);
    }

    [Fact]
    public void A_cold_burst_dials_few_until_ALPN_is_known_and_then_as_many_as_it_needs()
    {
        var play = new SchedulerPlay();
        play.Ask(40, A);
        Assert.Equal(5, play.Dialing(A).Length);
        play.Succeeds(play.Dialing(A)[0]);
        Assert.Equal(40, play.State(A).Connections.Count);
    }

    [Fact]
    public void What_ALPN_agreed_on_is_remembered()
    {
        var play = new SchedulerPlay();
        play.IsClosed(play.OpenHttp1(A, 1)[0]);
        play.Pass(1);
        play.Ask(20, A);
        Assert.Equal(20, play.Dialing(A).Length);
    }

    [Fact]
    public void A_stream_limit_of_ten_is_kept_and_remembered()
    {
        var play = new SchedulerPlay(new SchedulerLimits { TargetStreams = 32 });
        var connection = play.OpenHttp2(A, 1, limit: 10)[0];
        var calls = play.Ask(11, A);
        Assert.Equal(10, connection.Streams);
        Assert.Single(play.Dialing(A));

        play.Cancel(calls[10]);
        play.Fails(play.Dialing(A)[0]);
        play.Pass(60);
        play.IsClosed(connection);
        play.Ask(30, A);
        Assert.Equal(3, play.Dialing(A).Length);
    }

    [Fact]
    public void With_a_stream_limit_of_one_each_call_gets_a_connection()
    {
        var play = new SchedulerPlay();
        play.OpenHttp2(A, 1, limit: 1);
        play.Ask(4, A);
        Assert.Equal(3, play.Dialing(A).Length);
    }

    [Fact]
    public void A_server_that_allows_no_stream_is_waited_for_and_not_dialled_again()
    {
        var play = new SchedulerPlay();
        var connection = play.OpenHttp2(A, 1, limit: 0)[0];
        var calls = play.Ask(9, A);
        Assert.Empty(play.Dialing(A));
        Assert.Equal(PoolRejectionReason.StreamLimit, play.Scheduler.ReasonFor(calls[0]));

        play.Settings(connection, 100);
        Assert.Equal(calls, play.Granted);
    }

    [Fact]
    public void A_limit_that_the_server_lowers_holds_from_then_on_and_cuts_nothing()
    {
        var play = new SchedulerPlay();
        var connection = play.OpenHttp2(A, 1)[0];
        var calls = play.Ask(5, A);
        play.Settings(connection, 3);
        play.Ask(A);
        Assert.Empty(play.Granted);
        Assert.Equal(5, connection.Streams);

        play.Release(calls[0]);
        play.Release(calls[1]);
        Assert.Empty(play.Granted);
        play.Release(calls[2]);
        Assert.Single(play.Granted);
    }

    [Fact]
    public void Waiters_of_a_key_are_served_in_the_order_in_which_they_came()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 1 });
        play.OpenHttp1(A, 1);
        var calls = play.Ask(4, A);
        play.Cancel(calls[1]);
        play.Release(calls[0]);
        Assert.Equal([calls[2]], play.Granted);
        play.Release(calls[2]);
        Assert.Equal([calls[3]], play.Granted);
    }

    [Fact]
    public void A_request_that_was_not_sent_keeps_its_place()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 1 });
        var connection = play.OpenHttp1(A, 1)[0];
        var calls = play.Ask(3, A);
        play.Release(calls[0], LeaseOutcome.NotSent);
        Assert.Equal(WaiterState.Waiting, calls[0].State);
        play.IsClosed(connection);
        play.Succeeds(play.Dialed.Single());
        Assert.Equal([calls[0]], play.Granted);
    }

    [Fact]
    public void A_request_that_was_not_sent_is_placed_anew_only_so_often()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxRedispatches = 2 });
        play.OpenHttp1(A, 3);
        var call = play.Ask(A);
        play.Release(call, LeaseOutcome.NotSent);
        play.Release(call, LeaseOutcome.NotSent);
        Assert.Equal(WaiterState.Leased, call.State);
        play.Release(call, LeaseOutcome.NotSent);
        Assert.Equal(WaiterState.Ended, call.State);
        Assert.Equal(0, play.Scheduler.Leases);
    }

    [Fact]
    public void The_queue_is_bounded()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxQueueLength = 2 });
        play.Ask(2, A);
        play.Ask(B);
        var refusal = Assert.Single(play.Refused);
        Assert.Equal((RefusalKind.Rejected, PoolRejectionReason.QueueFull), (refusal.Refusal, refusal.Reason));
    }

    [Fact]
    public void A_cancelled_waiter_takes_nothing()
    {
        var play = new SchedulerPlay();
        var call = play.Ask(A);
        play.Cancel(call);
        play.Succeeds(play.Dialing(A).Single());
        Assert.Empty(play.Granted);
        Assert.Equal((0, 0, 1), (play.Scheduler.Waiting, play.Scheduler.Leases, play.Scheduler.Permits.Idle));
    }

    [Fact]
    public void MaxConcurrentRequests_gives_a_freed_place_to_the_key_that_waits_longest()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConcurrentRequests = 2 });
        play.OpenHttp2(A, 1);
        play.OpenHttp2(B, 1);
        var running = play.Ask(2, A);
        var b = play.Ask(B);
        var a = play.Ask(A);
        Assert.Equal(PoolRejectionReason.MaxConcurrentRequests, play.Scheduler.ReasonFor(b));

        play.Release(running[0]);
        Assert.Equal([b], play.Granted);
        play.Release(running[1]);
        Assert.Equal([a], play.Granted);
    }

    [Fact]
    public void When_MaxConcurrentRequests_is_raised_the_longest_waiting_are_served_whatever_their_key()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConcurrentRequests = 1 });
        play.OpenHttp2(A, 1);
        play.OpenHttp2(B, 1);
        play.Ask(A);
        Waiter[] waiting = [play.Ask(B), play.Ask(A), play.Ask(B), play.Ask(A)];
        play.Change(play.Limits with { MaxConcurrentRequests = 4 });
        Assert.Equal(waiting[..3], play.Granted);
    }

    [Fact]
    public void A_key_without_a_connection_gets_one_dialled_when_MaxConcurrentRequests_lets_it()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConcurrentRequests = 1 });
        play.OpenHttp1(A, 1);
        var a = play.Ask(A);
        play.Ask(B);
        Assert.Empty(play.Dialing(B));
        play.Release(a);
        Assert.Single(play.Dialing(B));
    }

    [Fact]
    public void Each_timeout_says_what_the_waiter_lacked()
    {
        Assert.Equal(PoolRejectionReason.MaxConnections, ReasonOfTimeout(new SchedulerLimits { MaxConnections = 1 }, play => play.Ask(A)));
        Assert.Equal(PoolRejectionReason.MaxConnectionsPerHost, ReasonOfTimeout(new SchedulerLimits { MaxConnectionsPerHost = 1 }, play => play.Ask(A)));
        Assert.Equal(PoolRejectionReason.MaxConcurrentRequests, ReasonOfTimeout(new SchedulerLimits { MaxConcurrentRequests = 1 }, play => play.Ask(A)));
        Assert.Equal(PoolRejectionReason.Dialing, ReasonOfTimeout(new SchedulerLimits(), play => play.Ask(A)));
        Assert.Equal(PoolRejectionReason.Paused, ReasonOfTimeout(new SchedulerLimits(), play => play.Pause(A)));
        Assert.Equal(PoolRejectionReason.StreamLimit, ReasonOfTimeout(new SchedulerLimits(), play => play.Settings(play.OpenHttp2(A, 1)[0], 0), open: false));
        Assert.Equal(PoolRejectionReason.BackOff, ReasonOfTimeout(
            new SchedulerLimits { BackOff = TimeSpan.FromMinutes(1), MaxBackOff = TimeSpan.FromMinutes(1) },
            play =>
            {
                play.Ask(2, A);
                play.Fails(play.Dialing(A).Single());
            }));
    }

    static PoolRejectionReason ReasonOfTimeout(SchedulerLimits limits, Action<SchedulerPlay> prepare, bool open = true)
    {
        var play = new SchedulerPlay(limits);
        if (open)
        {
            play.OpenHttp1(A, 1);
        }

        prepare(play);
        play.Ask(A, seconds: 1);
        play.Pass(0.9);
        Assert.Empty(play.Refused);
        play.Pass(0.1);
        var refusal = Assert.Single(play.Refused);
        Assert.Equal(RefusalKind.TimedOut, refusal.Refusal);
        return refusal.Reason;
    }

    [Fact]
    public void A_cold_burst_spreads_over_its_dials_instead_of_crowding_the_first()
    {
        var play = new SchedulerPlay();
        play.Ask(100, A);
        var dials = play.Dialing(A);
        play.Pass(0.1);
        foreach (var dial in dials)
        {
            play.Succeeds(dial, isHttp2: true);
        }

        foreach (var dial in dials)
        {
            play.Settings(dial, 100);
        }

        Assert.Equal(0, play.Scheduler.Waiting);
        Assert.All(dials, dial => Assert.InRange(dial.Streams, 9, 13));
    }

    [Fact]
    public void A_burst_waits_for_a_dial_that_stalls_no_longer_than_a_quarter_of_what_the_first_one_took()
    {
        var play = new SchedulerPlay();
        play.Ask(32, A);
        var first = play.Dialing(A)[0];
        play.Pass(0.1);
        play.Succeeds(first, isHttp2: true);
        play.Settings(first, 100);
        Assert.Equal(8, first.Streams);
        Assert.Equal(24, play.Scheduler.Waiting);
        Assert.Equal(play.Now + TimeSpan.FromMilliseconds(25), play.WakeAt);
        play.Pass(0.025);
        Assert.Equal(32, first.Streams);
    }
}
