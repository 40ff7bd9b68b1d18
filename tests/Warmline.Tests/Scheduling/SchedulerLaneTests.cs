using Warmline.Options;
using Warmline.Scheduling;
using Xunit;
using static Warmline.Tests.Scheduling.SchedulerPlay;

namespace Warmline.Tests.Scheduling;

/// <summary>What a lane can count on, and what it leaves to others.</summary>
public sealed class SchedulerLaneTests
{
    static SchedulerPlay Warm(int concurrent, params LaneSettings[] lanes)
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConcurrentRequests = concurrent, Sharing = Lanes(lanes) });
        play.OpenHttp2(A, 8);
        return play;
    }

    /// <summary>A key that can carry so many calls, and no limit beside it.</summary>
    static SchedulerPlay WarmKey(int connections, params LaneSettings[] lanes)
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = connections, MaxIdleConnections = connections, Sharing = Lanes(lanes) });
        play.OpenHttp1(A, connections);
        return play;
    }

    [Fact]
    public void Of_forty_places_ten_reserved_ones_are_never_lent_and_never_waited_for()
    {
        var play = Warm(40, Lane("stream", reserve: 10), Lane("batch"));
        var batch = play.Ask(100, A, "batch");
        Assert.Equal(30, Held(batch));
        Assert.Equal(PoolRejectionReason.LaneReserve, play.Reason(batch[30]));
        for (var call = 0; call < 10; call++)
        {
            Assert.Equal(WaiterState.Leased, play.Ask(A, lane: "stream").State);
        }

        var eleventh = play.Ask(A, lane: "stream");
        Assert.Equal(PoolRejectionReason.MaxConcurrentRequests, play.Reason(eleventh));
        Assert.Equal(PoolRejectionReason.MaxConcurrentRequests, play.Reason(batch[30]));
    }

    [Fact]
    public void What_a_lane_gives_back_of_its_reserve_stays_its_own()
    {
        var play = Warm(40, Lane("stream", reserve: 10), Lane("batch"));
        play.Ask(40, A, "batch");
        var streams = play.Ask(10, A, "stream");
        play.Release(streams[0]);
        Assert.Empty(play.Granted);
        Assert.Equal(WaiterState.Leased, play.Ask(A, lane: "stream").State);
    }

    [Fact]
    public void A_key_without_a_limit_on_calls_keeps_the_reserve_of_what_it_can_carry()
    {
        var play = WarmKey(10, Lane("stream", reserve: 3), Lane("batch"));
        var batch = play.Ask(20, A, "batch");
        Assert.Equal(7, Held(batch));
        Assert.Equal(PoolRejectionReason.LaneReserve, play.Reason(batch[7]));
        Assert.Equal(3, Held(play.Ask(3, A, "stream")));
        Assert.NotEqual(PoolRejectionReason.LaneReserve, play.Reason(batch[7]));
    }

    [Fact]
    public void What_a_key_could_still_open_counts_for_its_reserve()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 4, Sharing = Lanes(Lane("stream", reserve: 2)) });
        var open = play.OpenHttp1(A, 2);
        Assert.Equal(2, Held(play.Ask(2, A)));
        var third = play.Ask(A);
        Assert.Equal(PoolRejectionReason.LaneReserve, play.Reason(third));
        Assert.Empty(play.Dialing(A));
        play.Ask(A, lane: "stream");
        Assert.Single(play.Dialing(A));
        Assert.Equal(2, open.Length);
    }

    [Fact]
    public void Reserves_shrink_in_proportion_when_capacity_is_smaller_and_one_place_is_left_to_all()
    {
        var play = WarmKey(11, Lane("stream", reserve: 10), Lane("batch", reserve: 10));
        Assert.Equal(1, Held(play.Ask(5, A)));
        Assert.Equal(5, Held(play.Ask(20, A, "stream")));
        Assert.Equal(5, Held(play.Ask(20, A, "batch")));
    }

    [Fact]
    public void Shares_of_a_shrunken_reserve_are_rounded_down()
    {
        // 9 places: 8 beside the shared one, 12 reserved: 10 * 8 / 12 = 6, 2 * 8 / 12 = 1; the rest is shared.
        var play = WarmKey(9, Lane("stream", reserve: 10), Lane("batch", reserve: 2));
        Assert.Equal(2, Held(play.Ask(9, A)));
        Assert.Equal(1, Held(play.Ask(9, A, "batch")));
        Assert.Equal(6, Held(play.Ask(9, A, "stream")));
    }

    [Fact]
    public void A_reserve_that_just_fits_beside_the_shared_place_is_whole()
    {
        var play = WarmKey(5, Lane("stream", reserve: 4));
        Assert.Equal(1, Held(play.Ask(5, A)));
        Assert.Equal(4, Held(play.Ask(5, A, "stream")));
    }

    [Fact]
    public void A_single_place_is_shared_whatever_is_reserved()
    {
        var play = WarmKey(1, Lane("stream", reserve: 10));
        var batch = play.Ask(A, lane: "batch");
        Assert.Equal(WaiterState.Leased, batch.State);
        var stream = play.Ask(A, lane: "stream");
        play.Release(batch);
        Assert.Equal([stream], play.Granted);
    }

    [Fact]
    public void A_ceiling_holds_over_all_keys()
    {
        var play = Warm(100, Lane("batch", ceiling: 3));
        play.OpenHttp2(B, 1);
        play.Ask(2, A, "batch");
        var b = play.Ask(2, B, "batch");
        Assert.Equal(1, Held(b));
        Assert.Equal(PoolRejectionReason.LaneCeiling, play.Reason(b[1]));
    }

    [Fact]
    public void A_place_below_the_ceiling_that_one_key_frees_serves_another()
    {
        var play = Warm(100, Lane("batch", ceiling: 1));
        play.OpenHttp2(B, 1);
        var first = play.Ask(A, lane: "batch");
        var waiting = play.Ask(B, lane: "batch");
        play.Release(first);
        Assert.Equal([waiting], play.Granted);
    }

    [Fact]
    public void A_place_of_the_pools_shared_room_that_one_key_frees_serves_another()
    {
        var play = Warm(3, Lane("stream", reserve: 2), Lane("batch"));
        play.OpenHttp2(B, 1);
        var first = play.Ask(A, lane: "batch");
        var waiting = play.Ask(B, lane: "batch");
        Assert.Equal(PoolRejectionReason.LaneReserve, play.Reason(waiting));
        play.Release(first);
        Assert.Equal([waiting], play.Granted);
    }

    [Fact]
    public void Calls_that_a_ceiling_holds_back_block_nobody_behind_them()
    {
        var play = Warm(100, Lane("batch", ceiling: 1));
        play.Ask(50, A, "batch");
        Assert.Equal(WaiterState.Leased, play.Ask(A).State);
        Assert.Equal(WaiterState.Leased, play.Ask(A, lane: "stream").State);
    }

    [Fact]
    public void Calls_that_a_reserve_holds_back_do_not_block_whom_it_is_for()
    {
        var play = WarmKey(4, Lane("stream", reserve: 2));
        var batch = play.Ask(10, A);
        var streams = play.Ask(4, A, "stream");
        Assert.Equal(2, Held(streams));
        play.Release(streams[0]);
        Assert.Equal([streams[2]], play.Granted);
        Assert.Equal(2, Held(batch));
    }

    [Fact]
    public void The_lane_that_holds_least_beyond_its_reserve_goes_first()
    {
        var play = WarmKey(6, Lane("stream", reserve: 2));
        var batch = play.Ask(1, A, "batch");
        var streams = play.Ask(5, A, "stream");
        var waitingBatch = play.Ask(3, A, "batch");
        var waitingStreams = play.Ask(3, A, "stream");
        Assert.Equal((1, 5), (Held(batch), Held(streams)));

        // stream holds 4, 2 beyond its reserve; batch holds 1, then 2.
        play.Release(streams[0]);
        Assert.Equal([waitingBatch[0]], play.Granted);

        // stream 3, 1 beyond; batch 2.
        play.Release(streams[1]);
        Assert.Equal([waitingStreams[0]], play.Granted);
    }

    [Fact]
    public void Of_lanes_that_hold_as_much_beyond_their_reserve_the_one_that_waits_longest_goes_first()
    {
        var play = WarmKey(1, Lane("stream", reserve: 3), Lane("batch"));
        var held = play.Ask(A);
        var batch = play.Ask(A, lane: "batch");
        play.Ask(A, lane: "stream");
        play.Release(held);
        Assert.Equal([batch], play.Granted);
    }

    [Fact]
    public void A_lane_that_is_not_configured_has_neither_reserve_nor_ceiling()
    {
        var play = WarmKey(10, Lane("stream", reserve: 4, ceiling: 5));
        Assert.Equal(6, Held(play.Ask(20, A, "unheard-of")));
        Assert.Equal(4, Held(play.Ask(20, A, "stream")));
    }

    [Fact]
    public void A_lane_whose_name_vanishes_keeps_its_leases_and_its_reserve_is_free()
    {
        var play = WarmKey(4, Lane("stream", reserve: 3, ceiling: 3));
        var streams = play.Ask(4, A, "stream");
        var others = play.Ask(2, A);
        Assert.Equal((3, 1), (Held(streams), Held(others)));
        play.Change(play.Limits with { Sharing = SharingSettings.None });
        play.Release(streams[0]);
        Assert.Equal([others[1]], play.Granted);   // the unconfigured lane holds 2, calls in none hold 1
        play.Release(others);
        Assert.Equal(WaiterState.Leased, streams[3].State);
    }

    [Fact]
    public void A_ceiling_that_is_lowered_cuts_nothing_and_grants_nothing_new()
    {
        var play = Warm(100, Lane("batch", ceiling: 4));
        var batch = play.Ask(6, A, "batch");
        play.Change(play.Limits with { Sharing = Lanes(Lane("batch", ceiling: 2)) });
        Assert.Equal(4, Held(batch));
        play.Release(batch[0]);
        play.Release(batch[1]);
        Assert.Empty(play.Granted);
        play.Release(batch[2]);
        Assert.Equal([batch[4]], play.Granted);
    }

    [Fact]
    public void A_ceiling_that_is_raised_is_used_at_once()
    {
        var play = Warm(100, Lane("batch", ceiling: 1));
        var batch = play.Ask(6, A, "batch");
        play.Change(play.Limits with { Sharing = Lanes(Lane("batch", ceiling: 4)) });
        Assert.Equal(batch[1..4], play.Granted);
    }

    [Fact]
    public void A_ceiling_of_zero_refuses_at_once()
    {
        var play = Warm(100, Lane("batch", ceiling: 0));
        play.Ask(A, lane: "batch");
        Assert.Equal((RefusalKind.Rejected, PoolRejectionReason.LaneCeiling), play.Refused.Select(refused => (refused.Refusal, refused.Reason)).Single());
    }

    [Fact]
    public void A_lanes_queue_is_bounded_and_leaves_room_for_the_others()
    {
        var play = Warm(2, Lane("batch", queue: 2));
        play.Ask(4, A, "batch");
        play.Ask(A, lane: "batch");
        Assert.Equal(PoolRejectionReason.LaneQueueFull, play.Refused.Single().Reason);
        Assert.Equal(WaiterState.Waiting, play.Ask(A).State);
    }

    [Fact]
    public void A_call_that_can_go_at_once_is_not_refused_for_a_full_queue()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConcurrentRequests = 5, MaxQueueLength = 3, Sharing = Lanes(Lane("batch", ceiling: 1), Lane("stream", reserve: 1, queue: 1)) });
        play.OpenHttp2(A, 1);
        play.Ask(4, A, "batch");
        play.Ask(A);
        Assert.Equal(3, play.Scheduler.Waiting);
        Assert.Equal(WaiterState.Leased, play.Ask(A, lane: "stream").State);
        play.Ask(A, lane: "batch");
        Assert.Equal(PoolRejectionReason.QueueFull, play.Refused.Single().Reason);
    }

    [Fact]
    public void A_connection_that_drains_counts_for_the_lanes_ceiling_and_no_longer_for_its_keys_reserve()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 3, MaxIdleConnections = 3, Sharing = Lanes(Lane("stream", reserve: 1, ceiling: 1)) });
        play.OpenHttp1(A, 3);
        var stream = play.Ask(A, lane: "stream");
        play.Closing(stream.Connection!);
        Assert.Equal(PoolRejectionReason.LaneCeiling, play.Reason(play.Ask(A, lane: "stream")));

        // Two connections are open, none to be had: one place is the lane's again.
        var others = play.Ask(2, A);
        Assert.Equal(1, Held(others));
        Assert.Equal(PoolRejectionReason.LaneReserve, play.Reason(others[1]));
    }

    [Fact]
    public void Nothing_is_dialled_for_calls_that_a_ceiling_holds_back()
    {
        var play = new SchedulerPlay(new SchedulerLimits { Sharing = Lanes(Lane("batch", ceiling: 2)) });
        play.IsClosed(play.OpenHttp1(A, 1)[0]);
        play.Pass(2);
        play.Ask(20, A, "batch");
        Assert.Equal(2, play.Dialing(A).Length);
    }

    [Fact]
    public void Nothing_is_dialled_for_calls_that_a_reserve_holds_back()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 10, Sharing = Lanes(Lane("stream", reserve: 7)) });
        play.IsClosed(play.OpenHttp1(A, 1)[0]);
        play.Pass(2);
        play.Ask(20, A);
        Assert.Equal(3, play.Dialing(A).Length);
    }

    [Fact]
    public void A_key_without_a_connection_gets_one_although_others_fill_all_but_the_reserve()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 4, MaxIdleConnections = 4, Sharing = Lanes(Lane("stream", reserve: 2)) });
        play.OpenHttp1(A, 4);
        var a = play.Ask(2, A).Concat(play.Ask(2, A, "stream")).ToArray();
        Assert.Equal(4, Held(a));
        var b = play.Ask(B);
        var draining = play.In(A, ConnectionPhase.Draining).Single();
        play.Release(a.Single(call => call.Connection == draining));
        play.IsClosed(draining);
        play.Succeeds(play.Dialing(B).Single());
        Assert.Equal([b], play.Granted);
    }

    [Fact]
    public void A_connection_that_becomes_idle_elsewhere_makes_room_for_a_call_that_a_reserve_held_back()
    {
        // B has one connection and could have A's when it is idle: 2 streams, of which one is reserved.
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 3, MaxIdleConnections = 3, Sharing = Lanes(Lane("stream", reserve: 1)) });
        play.OpenHttp1(A, 1);
        var a = play.Ask(A);
        play.OpenHttp1(B, 2);
        var b = play.Ask(2, B);
        Assert.Equal(1, Held(b));
        Assert.Equal(PoolRejectionReason.LaneReserve, play.Reason(b[1]));
        play.Release(a);
        Assert.Equal([b[1]], play.Granted);
    }

    [Fact]
    public void Figures_of_a_lane_are_its_own()
    {
        var play = Warm(4, Lane("stream", reserve: 1, ceiling: 3), Lane("batch", queue: 1));
        var batch = play.Ask(5, A, "batch");
        play.Ask(A, lane: "stream");
        play.Ask(A);
        play.Release(batch[0]);
        var stats = play.Scheduler.Stats();
        Assert.Equal(["batch", "stream"], stats.Lanes.Select(lane => lane.Lane).Order());
        var shown = stats.Lanes.Single(lane => lane.Lane == "batch");
        Assert.Equal((0, null, 2, 3, 5L, 1, 1L), (shown.Reserve, shown.Ceiling, shown.Active, shown.PeakActive, shown.TotalRequests, shown.Queued, shown.Refused));
        shown = stats.Lanes.Single(lane => lane.Lane == "stream");
        Assert.Equal((1, 3, 1, 1, 1L, 0, 0L), (shown.Reserve, shown.Ceiling, shown.Active, shown.PeakActive, shown.TotalRequests, shown.Queued, shown.Refused));
    }

    [Fact]
    public void Who_waits_at_a_key_that_is_full_waits_for_connections_not_for_a_reserve()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 1, Sharing = Lanes(Lane("stream", reserve: 1)) });
        play.OpenHttp1(A, 1);
        play.Ask(A);
        Assert.Equal(PoolRejectionReason.MaxConnections, play.Reason(play.Ask(A)));
        Assert.Equal(PoolRejectionReason.MaxConnections, play.Reason(play.Ask(A, lane: "stream")));
    }

    [Fact]
    public void A_permit_that_comes_back_goes_to_a_full_key_whose_capacity_grows_by_it()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnections = 3, MaxIdleConnections = 0, Sharing = Lanes(Lane("stream", reserve: 1)) });
        var other = play.Ask(B);
        play.Succeeds(play.Dialing(B).Single());
        var calls = play.Ask(2, A);
        play.Succeeds(play.Dialing(A)[0]);
        foreach (var connection in play.Dialing(A))
        {
            play.Succeeds(connection);
        }

        Assert.Equal(1, Held(calls));   // of two connections one is reserved
        var stream = play.Ask(A, lane: "stream");
        foreach (var connection in play.Dialing(A))
        {
            play.Succeeds(connection);
        }

        Assert.Equal(WaiterState.Leased, stream.State);
        Assert.Equal(PoolRejectionReason.MaxConnections, play.Reason(calls[1]));
        play.Release(other);
        play.IsClosed(play.Closed.Single());
        Assert.Single(play.Dialing(A));
        play.Succeeds(play.Dialing(A).Single());
        Assert.Equal([calls[1]], play.Granted);
    }

    [Fact]
    public void Only_configured_lanes_are_shown()
    {
        var play = Warm(10, Lane("stream"));
        play.Ask(A, lane: "unheard-of");
        play.Ask(A);
        Assert.Equal(["stream"], play.Scheduler.Stats().Lanes.Select(lane => lane.Lane));
    }

    [Fact]
    public void Idle_connections_of_the_same_origin_count_for_what_a_key_can_have()
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConnectionsPerHost = 3, MaxIdleConnections = 3, Sharing = Lanes(Lane("stream", reserve: 1)) });
        play.OpenHttp1(A, 3);
        var calls = play.Ask(3, AlsoA);
        for (var round = 0; round < 3; round++)
        {
            foreach (var closing in play.In(A, ConnectionPhase.Closing))
            {
                play.IsClosed(closing);
            }

            foreach (var connection in play.Dialing(AlsoA))
            {
                play.Succeeds(connection);
            }
        }

        Assert.Equal(2, Held(calls));   // of three that it can have one is reserved
    }
}
