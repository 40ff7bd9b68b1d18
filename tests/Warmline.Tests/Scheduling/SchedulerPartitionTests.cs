using Warmline.Options;
using Warmline.Scheduling;
using Xunit;
using static Warmline.Tests.Scheduling.SchedulerPlay;

namespace Warmline.Tests.Scheduling;

/// <summary>Tenants with connections of their own.</summary>
public sealed class SchedulerPartitionTests
{
    static ConnectionKey KeyOf(string tenant, string host = "a.test") => new(true, host, 443, protocols: HttpProtocols.Http1, partition: tenant);

    static SchedulerPlay Apart(int each, int all = 50, (string Tenant, int Weight)[]? weights = null, params (string Tenant, int Connections)[] named) => new(new SchedulerLimits
    {
        MaxConnections = all,
        MaxIdleConnections = all,
        Sharing = new SharingSettings
        {
            Isolation = TenantIsolation.Connections,
            EachTenant = TenantLimits.None with { MaxConnections = each },
            Named = named.Select(tenant => (tenant.Tenant, Limits: TenantLimits.None with { MaxConnections = tenant.Connections }))
                .Concat((weights ?? []).Select(tenant => (tenant.Tenant, Limits: TenantLimits.None with { MaxConnections = each, Weight = tenant.Weight })))
                .ToDictionary(tenant => tenant.Tenant, tenant => tenant.Limits),
        },
    });

    static Waiter[] Ask(SchedulerPlay play, int count, string tenant, string host = "a.test") => play.Ask(count, KeyOf(tenant, host), tenant: tenant);

    static void OpenAll(SchedulerPlay play)
    {
        foreach (var connection in play.Scheduler.Keys.SelectMany(key => key.Connections).Where(connection => connection.Phase is ConnectionPhase.Dialing).ToArray())
        {
            play.Succeeds(connection);
        }
    }

    [Fact]
    public void A_tenant_has_no_more_connections_than_it_may_over_all_origins()
    {
        var play = Apart(3);
        Ask(play, 2, "x");
        var b = Ask(play, 2, "x", "b.test");
        Assert.Equal((2, 1), (play.Dialing(KeyOf("x")).Length, play.Dialing(KeyOf("x", "b.test")).Length));
        OpenAll(play);
        Assert.Equal(PoolRejectionReason.TenantConnections, play.Reason(b[1]));
        Assert.Equal(3, play.Scheduler.Permits.InUse);
    }

    [Fact]
    public void A_tenant_that_differs_has_what_it_may_and_calls_without_a_tenant_have_no_limit()
    {
        var play = Apart(3, named: ("x", 1));
        Ask(play, 5, "x");
        Ask(play, 5, "y");
        Ask(play, 5, "");
        Assert.Equal((1, 3, 5), (play.Dialing(KeyOf("x")).Length, play.Dialing(KeyOf("y")).Length, play.Dialing(KeyOf("")).Length));
    }

    [Fact]
    public void What_is_warmed_up_stays_within_the_tenants_connections()
    {
        var play = Apart(2);
        var warmUp = play.WarmUp(KeyOf("x"), 4);
        OpenAll(play);
        Assert.Equal(2, warmUp.Ready);
    }

    [Fact]
    public void An_idle_connection_closes_for_another_origin_of_the_same_tenant()
    {
        var play = Apart(2);
        play.OpenHttp1(KeyOf("x"), 2);
        play.OpenHttp1(KeyOf("y"), 2);
        Ask(play, 1, "x", "b.test");
        var closed = play.Closed.Single();
        Assert.Equal("x", closed.Key.Key.Partition);
        play.IsClosed(closed);
        Assert.Single(play.Dialing(KeyOf("x", "b.test")));
    }

    [Fact]
    public void A_busy_connection_gives_way_to_another_origin_of_the_same_tenant()
    {
        var play = Apart(2);
        var a = Ask(play, 5, "x");
        OpenAll(play);
        var b = Ask(play, 1, "x", "b.test").Single();
        var draining = play.In(KeyOf("x"), ConnectionPhase.Draining).Single();
        play.Release(a.Single(call => call.Connection == draining));
        play.IsClosed(draining);
        OpenAll(play);
        Assert.Equal(WaiterState.Leased, b.State);
    }

    [Fact]
    public void Other_tenants_keep_their_connections_when_one_is_at_its_limit()
    {
        var play = Apart(2);
        var y = Ask(play, 2, "y");
        Ask(play, 2, "x");
        OpenAll(play);
        play.Release(y);
        Ask(play, 5, "x");
        Assert.Empty(play.Closed);
        Assert.Equal(2, play.In(KeyOf("y"), ConnectionPhase.Open).Length);
    }

    [Fact]
    public void A_connection_that_closes_counts_until_it_is_closed()
    {
        var play = Apart(1);
        var call = Ask(play, 1, "x").Single();
        OpenAll(play);
        Ask(play, 1, "x");
        play.Release(call, LeaseOutcome.ConnectionBroken);
        Assert.Empty(play.Dialing(KeyOf("x")));
        play.IsClosed(play.In(KeyOf("x"), ConnectionPhase.Closing).Single());
        Assert.Single(play.Dialing(KeyOf("x")));
    }

    [Fact]
    public void Fifty_tenants_with_ten_connections_each_under_two_hundred_use_all_and_never_more()
    {
        var play = Apart(10, 200);
        var leased = new List<Waiter>();
        var names = Enumerable.Range(1, 50).Select(number => $"t{number}").ToArray();
        var calls = names.SelectMany(tenant => Ask(play, 20, tenant)).ToList();
        var random = new Random(1);
        for (var round = 0; round < 400; round++)
        {
            OpenAll(play);
            leased = [.. calls.Where(call => call.State is WaiterState.Leased)];
            var used = play.Scheduler.Keys.ToDictionary(key => key.Key.Partition, key => key.Connections.Count);
            Assert.Equal(200, used.Values.Sum());
            Assert.True(used.Values.All(count => count <= 10), string.Join(", ", used));
            if (leased.Count == 0)
            {
                break;
            }

            var ending = leased[random.Next(leased.Count)];
            play.Release(ending);
            calls.Remove(ending);
            calls.AddRange(Ask(play, 1, ending.TenantName));
            foreach (var connection in play.Scheduler.Keys.SelectMany(key => key.Connections).Where(connection => connection.Phase is ConnectionPhase.Closing).ToArray())
            {
                play.IsClosed(connection);
            }
        }

        Assert.True(leased.Count > 150, $"only {leased.Count} connections of 200 are in use");
    }

    [Theory]
    [InlineData(1, 1, 1, 4, 4, 4)]
    [InlineData(1, 1, 2, 3, 3, 6)]
    public void Connections_come_to_be_shared_by_weight_whoever_came_first(int x, int y, int z, int ofX, int ofY, int ofZ)
    {
        var play = Apart(10, all: 12, weights: [("x", x), ("y", y), ("z", z)]);
        var calls = Ask(play, 40, "x").ToList();
        OpenAll(play);
        Assert.Equal(10, Count(play, "x"));
        calls.AddRange(Ask(play, 40, "y"));
        calls.AddRange(Ask(play, 40, "z"));
        var random = new Random(1);
        for (var round = 0; round < 600; round++)
        {
            EndOne(play, calls, random);
        }

        Assert.Equal((ofX, ofY, ofZ), (Count(play, "x"), Count(play, "y"), Count(play, "z")));
        var dials = play.Scheduler.Facts.Dials;
        for (var round = 0; round < 200; round++)
        {
            EndOne(play, calls, random);
        }

        Assert.Equal(dials, play.Scheduler.Facts.Dials);   // what is even stays
    }

    [Fact]
    public void What_one_tenant_has_beyond_another_changes_hands_one_by_one_and_only_where_somebody_waits()
    {
        var play = Apart(10, all: 10);
        var calls = Ask(play, 20, "x").ToList();
        OpenAll(play);
        var y = Ask(play, 1, "y");
        Assert.Single(play.In(KeyOf("x"), ConnectionPhase.Draining));   // it starves
        play.Pass(1);
        play.Release(calls.First(call => call is { State: WaiterState.Leased, Connection.Phase: ConnectionPhase.Draining }));
        CloseAll(play);
        OpenAll(play);
        Assert.Equal(1, Held(y));
        play.Pass(1);
        play.Release(calls.First(call => call.State is WaiterState.Leased));
        Assert.Empty(play.In(KeyOf("x"), ConnectionPhase.Draining));   // nobody of y waits
        play.Pass(1);
        Ask(play, 5, "y");
        Assert.Single(play.In(KeyOf("x"), ConnectionPhase.Draining));
        play.Pass(1);
        play.Release(calls.First(call => call is { State: WaiterState.Leased, Connection.Phase: ConnectionPhase.Open }));
        Assert.Single(play.In(KeyOf("x"), ConnectionPhase.Draining));
    }

    static int Count(SchedulerPlay play, string tenant) => play.State(KeyOf(tenant)).Connections.Count(connection => connection.IsUsable);

    static void CloseAll(SchedulerPlay play)
    {
        foreach (var connection in play.Scheduler.Keys.SelectMany(key => key.Connections).Where(connection => connection.Phase is ConnectionPhase.Closing).ToArray())
        {
            play.IsClosed(connection);
        }
    }

    /// <summary>Some call ends, its tenant has another, and what was told to close has closed.</summary>
    static void EndOne(SchedulerPlay play, List<Waiter> calls, Random random)
    {
        var leased = calls.FindAll(call => call.State is WaiterState.Leased);
        var ending = leased[random.Next(leased.Count)];
        play.Pass(0.05);
        play.Release(ending);
        calls.Remove(ending);
        calls.AddRange(Ask(play, 1, ending.TenantName));
        CloseAll(play);
        OpenAll(play);
        Assert.InRange(play.Scheduler.Permits.InUse, 0, play.Limits.MaxConnections);
    }

    [Fact]
    public void A_lowered_limit_of_connections_takes_idle_ones_first_and_cuts_no_stream()
    {
        var play = Apart(4);
        var key = KeyOf("x");
        play.OpenHttp1(key, 4);
        var calls = Ask(play, 3, "x");
        play.Change(play.Limits with { Sharing = new SharingSettings { Isolation = TenantIsolation.Connections, EachTenant = TenantLimits.None with { MaxConnections = 2 } } });
        Assert.Single(play.In(key, ConnectionPhase.Closing));
        Assert.Single(play.In(key, ConnectionPhase.Draining));
        Assert.Equal(3, Held(calls));
    }
}
