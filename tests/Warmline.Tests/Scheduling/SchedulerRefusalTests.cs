using Warmline.Scheduling;
using Xunit;
using static Warmline.Tests.Scheduling.SchedulerPlay;

namespace Warmline.Tests.Scheduling;

/// <summary>Who is refused at once, because no wait could end well; and who is not.</summary>
public sealed class SchedulerRefusalTests
{
    static SchedulerPlay BackingOff()
    {
        var play = new SchedulerPlay(new SchedulerLimits { BackOff = TimeSpan.FromSeconds(5) });
        play.Ask(A);
        play.Fails(play.Dialing(A).Single());
        return play;
    }

    static (RefusalKind, PoolRejectionReason) Refusal(SchedulerPlay play) => play.Refused.Select(refused => (refused.Refusal, refused.Reason)).Single();

    [Fact]
    public void A_back_off_beyond_the_deadline_refuses_at_once()
    {
        var play = BackingOff();
        play.Ask(A, seconds: 4);
        Assert.Equal((RefusalKind.Rejected, PoolRejectionReason.BackOff), Refusal(play));
    }

    [Fact]
    public void A_back_off_that_ends_in_time_is_waited_out()
    {
        var play = BackingOff();
        var call = play.Ask(A, seconds: 6);
        Assert.Equal(WaiterState.Waiting, call.State);
        Assert.Equal(PoolRejectionReason.BackOff, play.Reason(call));
        play.Pass(5);
        Assert.Single(play.Dialing(A));
    }

    [Fact]
    public void A_back_off_refuses_nobody_where_a_connection_is_open_that_may_become_free()
    {
        var play = new SchedulerPlay(new SchedulerLimits { BackOff = TimeSpan.FromSeconds(5) });
        play.OpenHttp1(A, 1);
        var held = play.Ask(A);
        play.Ask(A);
        play.Fails(play.Dialing(A).Single());
        var call = play.Ask(A, seconds: 1);
        Assert.Equal(WaiterState.Waiting, call.State);
        Assert.Equal(PoolRejectionReason.BackOff, play.Reason(call));
        Assert.Equal(WaiterState.Leased, held.State);
    }

    [Fact]
    public void A_back_off_of_another_key_refuses_nobody()
    {
        var play = BackingOff();
        Assert.Equal(WaiterState.Waiting, play.Ask(B, seconds: 1).State);
    }

    [Fact]
    public void A_pause_that_is_known_to_outlast_the_deadline_refuses_at_once()
    {
        var play = new SchedulerPlay();
        play.Pause(A, atLeastSeconds: 5);
        play.Ask(A, seconds: 4);
        Assert.Equal((RefusalKind.Rejected, PoolRejectionReason.Paused), Refusal(play));
        Assert.Equal(WaiterState.Waiting, play.Ask(A, seconds: 6).State);
        Assert.Equal(WaiterState.Waiting, play.Ask(B, seconds: 4).State);
    }

    [Fact]
    public void A_pause_of_the_whole_pool_refuses_at_once_as_well()
    {
        var play = new SchedulerPlay();
        play.Pause(null, atLeastSeconds: 5);
        play.Ask(A, seconds: 4);
        Assert.Equal((RefusalKind.Rejected, PoolRejectionReason.Paused), Refusal(play));
    }

    [Fact]
    public void A_pause_without_a_known_end_is_waited_out()
    {
        var play = new SchedulerPlay();
        play.Pause(A);
        var call = play.Ask(A, seconds: 4);
        Assert.Equal(PoolRejectionReason.Paused, play.Reason(call));
        play.Pass(4);
        Assert.Equal((RefusalKind.TimedOut, PoolRejectionReason.Paused), Refusal(play));
    }

    [Fact]
    public void A_pause_that_was_ended_early_refuses_nobody()
    {
        var play = new SchedulerPlay();
        play.Pause(A, atLeastSeconds: 50);
        play.Resume(A);
        Assert.Equal(WaiterState.Waiting, play.Ask(A, seconds: 4).State);
        Assert.Single(play.Dialing(A));
    }

    [Fact]
    public void What_is_lacking_first_is_told_first()
    {
        var sharing = new Options.SharingSettings
        {
            Lanes = Lanes(Lane("batch", ceiling: 1), Lane("stream", reserve: 1)).Lanes,
            EachTenant = Options.TenantLimits.None with { MaxConcurrentRequests = 2 },
        };
        var play = new SchedulerPlay(new SchedulerLimits { MaxConcurrentRequests = 3, Sharing = sharing });
        play.OpenHttp2(A, 1);
        play.Ask(A, lane: "batch", tenant: "x");
        var free = play.Ask(A, tenant: "x");
        var all = play.Ask(A, lane: "batch", tenant: "x");
        Assert.Equal(PoolRejectionReason.TenantLimit, play.Reason(all));
        Assert.Equal(PoolRejectionReason.LaneCeiling, play.Reason(play.Ask(A, lane: "batch", tenant: "y")));
        var reserved = play.Ask(A, tenant: "y");
        Assert.Equal(PoolRejectionReason.LaneReserve, play.Reason(reserved));
        play.Ask(A, lane: "stream", tenant: "y");
        Assert.Equal(PoolRejectionReason.MaxConcurrentRequests, play.Reason(reserved));
        Assert.Equal(PoolRejectionReason.TenantLimit, play.Reason(all));
        play.Pause(A);
        Assert.Equal(PoolRejectionReason.Paused, play.Reason(all));
        Assert.Equal(WaiterState.Leased, free.State);
    }
}
