using Warmline.Options;
using Warmline.Scheduling;
using Xunit;
using static Warmline.Tests.Scheduling.SchedulerPlay;

namespace Warmline.Tests.Scheduling;

/// <summary>Which tenants are remembered, and that none is forgotten that has a request.</summary>
public sealed class SchedulerKnownTenantTests
{
    static SchedulerPlay Warm(int concurrent, SharingSettings sharing)
    {
        var play = new SchedulerPlay(new SchedulerLimits { MaxConcurrentRequests = concurrent, Sharing = sharing });
        play.OpenHttp2(A, 8);
        return play;
    }

    static SharingSettings Known(int most, TenantLimits each) => new() { MaxKnownTenants = most, EachTenant = each };

    static string[] KnownOf(SchedulerPlay play) => [.. play.Scheduler.Sharing.Tenants.Select(tenant => tenant.Name).Where(name => name.Length > 0).Order()];

    [Fact]
    public void No_more_tenants_are_remembered_than_may_be_and_the_one_that_was_idle_longest_goes_first()
    {
        var play = Warm(100, Known(2, TenantLimits.None));
        foreach (var tenant in new[] { "x", "y" })
        {
            play.Release(play.Ask(A, tenant: tenant));
        }

        play.Release(play.Ask(A, tenant: "x"));
        play.Release(play.Ask(A, tenant: "z"));
        Assert.Equal(["x", "z"], KnownOf(play));
        var again = play.Ask(A, tenant: "y");
        Assert.Equal(1, play.Scheduler.Stats().Tenants.Single(tenant => tenant.Tenant == "y").TotalRequests);
        play.Release(again);
        Assert.Equal(["y", "z"], KnownOf(play));
    }

    [Fact]
    public void A_tenant_with_a_request_is_never_forgotten()
    {
        var play = Warm(3, Known(1, TenantLimits.None));
        play.Ask(A, tenant: "holds");
        play.Ask(2, A, tenant: "other");
        play.Ask(A, tenant: "waits");
        foreach (var number in Enumerable.Range(0, 20))
        {
            play.Cancel(play.Ask(A, tenant: $"t{number}"));
        }

        Assert.Equal(["holds", "other", "waits"], KnownOf(play));
    }

    [Fact]
    public void What_is_known_shrinks_to_the_limit_when_requests_end()
    {
        var play = Warm(100, Known(2, TenantLimits.None));
        var calls = Enumerable.Range(1, 9).Select(number => play.Ask(A, tenant: $"t{number}")).ToArray();
        Assert.Equal(9, KnownOf(play).Length);
        play.Release(calls);
        Assert.Equal(["t8", "t9"], KnownOf(play));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_call_that_goes_back_to_the_queue_takes_its_tenant_along(bool isBypassed)
    {
        var play = Warm(100, Known(1, TenantLimits.None with { MaxConcurrentRequests = 1 }));
        var first = play.Ask(A, tenant: "x");
        play.Ask(A, tenant: "y");
        if (isBypassed)
        {
            play.Bypass(first, ConnectionEnd.InOrder);
        }
        else
        {
            play.Release(first, LeaseOutcome.NotSent);
        }

        Assert.Equal([first], play.Granted);
        Assert.Equal(["x", "y"], KnownOf(play));
        Assert.Equal(PoolRejectionReason.TenantLimit, play.Reason(play.Ask(A, tenant: "x")));
    }

    [Fact]
    public void A_call_that_comes_from_the_queue_takes_its_tenant_along()
    {
        var play = Warm(2, Known(1, TenantLimits.None with { MaxConcurrentRequests = 1 }));
        var held = play.Ask(A, tenant: "y");
        play.Ask(A, tenant: "z");
        var waiting = play.Ask(A, tenant: "x");
        play.Release(held);
        Assert.Equal([waiting], play.Granted);
        Assert.Equal(["x", "z"], KnownOf(play));
        Assert.Equal(PoolRejectionReason.TenantLimit, play.Reason(play.Ask(A, tenant: "x")));
    }
}
