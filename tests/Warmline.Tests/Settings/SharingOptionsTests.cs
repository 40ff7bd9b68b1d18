using Warmline.Options;
using Warmline.Tests.Guards;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Settings;

/// <summary>Lanes and tenants: their ranges, their defaults, and what can change while the pool runs.</summary>
public sealed class SharingOptionsTests
{
    public static TheoryData<Action<ConnectionPoolOptions>, string> Mistakes => new()
    {
        { o => o.Lanes[""] = new(), "Lanes[\"\"] is a name of 0 characters: must have 1 to 64." },
        { o => o.Lanes[new string('x', 65)] = new(), $"Lanes[\"{new string('x', 65)}\"] is a name of 65 characters: must have 1 to 64." },
        { o => o.Lanes["a"] = null!, "Lanes[\"a\"] is null: must be an object; leave it as it is for the defaults." },
        { o => o.Lanes["a"] = new() { Timeouts = null! }, "Lanes[\"a\"].Timeouts is null: must be an object; leave it as it is for the defaults." },
        { o => o.Lanes["a"] = new() { Ceiling = -1 }, "Lanes[\"a\"].Ceiling is -1: must be 0 or more." },
        { o => o.Lanes["a"] = new() { Reserve = -1 }, "Lanes[\"a\"].Reserve is -1: must be 0 or more." },
        { o => o.Lanes["a"] = new() { Reserve = 5, Ceiling = 4 }, "Lanes[\"a\"].Reserve is 5: must be 0 to Lanes[\"a\"].Ceiling (4)." },
        { o => o.Lanes["a"] = new() { MaxQueueLength = 0 }, "Lanes[\"a\"].MaxQueueLength is 0: must be 1 or more." },
        { o => o.Lanes["a"] = new() { Timeouts = { Read = TimeSpan.Zero } }, "Lanes[\"a\"].Timeouts.Read is 00:00:00: must be above 0 and at most 24 days, or Timeout.InfiniteTimeSpan for never." },
        { o => o.Lanes["a"] = new() { Timeouts = { Connect = TimeSpan.FromSeconds(1) } }, "Lanes[\"a\"].Timeouts.Connect is 00:00:01: must be left unset here: a dial serves whoever comes, so it is the pool's alone." },
        { o => Enumerable.Range(0, 33).ToList().ForEach(i => o.Lanes[$"{i}"] = new()), "Lanes is 33 lanes: must be at most 32." },
        { o => (o.MaxConcurrentRequests, o.Lanes["a"], o.Lanes["b"]) = (10, new() { Reserve = 4 }, new() { Reserve = 6 }),
            "The sum of Lanes[…].Reserve is 10: must be below MaxConcurrentRequests (10), or calls in no lane could never go." },
        { o => (o.MaxConcurrentRequests, o.Lanes["a"]) = (0, new() { Reserve = 4 }), "MaxConcurrentRequests is 0: must be 1 or more." },   // and nothing of what is to be below it
        { o => (o.MaxConnections, o.MaxIdleConnections, o.Hosts["api.test"]) = (0, 5, new() { WarmConnections = 4 }), "MaxConnections is 0: must be 1 to 65535." },
        { o => (o.MaxConnections, o.Hosts["api.test"]) = (-5, new() { WarmConnections = 4 }), "MaxConnections is -5: must be 1 to 65535." },
        { o => (o.MaxIdleConnections, o.Hosts["api.test"]) = (-1, new() { WarmConnections = 4 }), "MaxIdleConnections is -1: must be 0 to MaxConnections (50)." },
        { o => (o.MaxIdleConnections, o.Hosts["api.test"], o.Hosts["b.test"]) = (6, new() { WarmConnections = 4 }, new() { WarmConnections = 3 }),
            "The sum of Hosts[…].WarmConnections is 7: must be at most MaxIdleConnections (6), or they would close each other." },
        { o => o.Http2.MaxStreamsPerConnection = 0, "Http2.MaxStreamsPerConnection is 0: must be 1 to 1000." },
        { o => o.Dns.CacheTtl = Timeout.InfiniteTimeSpan, "Dns.CacheTtl is -00:00:00.0010000: must be above 0 and at most 24 days." },
        { o => o.Tenants = null!, "Tenants is null: must be an object; leave it as it is for the defaults." },
        { o => o.Tenants.Isolation = (TenantIsolation)7, "Tenants.Isolation is 7: must be Leases or Connections." },
        { o => o.Tenants.MaxConcurrentRequests = -1, "Tenants.MaxConcurrentRequests is -1: must be 0 or more." },
        { o => o.Tenants.MaxQueueLength = 0, "Tenants.MaxQueueLength is 0: must be 1 or more." },
        { o => o.Tenants.MaxKnown = 0, "Tenants.MaxKnown is 0: must be 1 or more." },
        { o => (o.Tenants.Isolation, o.Tenants.MaxConnections) = (TenantIsolation.Connections, 0), "Tenants.MaxConnections is 0: must be 1 to 65535." },
        { o => o.Tenants.MaxConnections = 10, "Tenants.MaxConnections is 10: must be left unset while Tenants.Isolation is Leases: connections are shared then; set Isolation to Connections, or MaxConcurrentRequests." },
        { o => o.Tenants.Named[""] = new(), "Tenants.Named[\"\"] is a name of 0 characters: must have 1 to 128." },
        { o => o.Tenants.Named["a"] = null!, "Tenants.Named[\"a\"] is null: must be an object; leave it as it is for the defaults." },
        { o => o.Tenants.Named["a"] = new() { Weight = 0 }, "Tenants.Named[\"a\"].Weight is 0: must be 1 to 1000." },
        { o => o.Tenants.Named["a"] = new() { Weight = 1_001 }, "Tenants.Named[\"a\"].Weight is 1001: must be 1 to 1000." },
        { o => o.Tenants.Named["a"] = new() { MaxConcurrentRequests = -1 }, "Tenants.Named[\"a\"].MaxConcurrentRequests is -1: must be 0 or more." },
        { o => o.Tenants.Named["a"] = new() { MaxQueueLength = 0 }, "Tenants.Named[\"a\"].MaxQueueLength is 0: must be 1 or more." },
        { o => o.Tenants.Named["a"] = new() { MaxConnections = 2 }, "Tenants.Named[\"a\"].MaxConnections is 2: must be left unset while Tenants.Isolation is Leases: connections are shared then; set Isolation to Connections, or MaxConcurrentRequests." },
    };

    [Theory]
    [MemberData(nameof(Mistakes), DisableDiscoveryEnumeration = true)]
    public void A_value_out_of_range_is_told_with_name_value_and_range(Action<ConnectionPoolOptions> mistake, string told)
    {
        var options = new ConnectionPoolOptions();
        mistake(options);

        var error = Assert.Throws<ArgumentException>(() => new ConnectionPool(options));

        Assert.Equal($"Invalid ConnectionPoolOptions: {told}", error.Message);
    }

    [Theory]
    [InlineData("", null, null, "Lane is empty: must be the name of one of the pool's lanes, or left unset.")]
    [InlineData(null, 0, null, "Tenant is 0 characters long: must be 1 to 128 characters, or left unset.")]
    [InlineData(null, 129, null, "Tenant is 129 characters long: must be 1 to 128 characters, or left unset.")]
    [InlineData(null, null, -11, "Priority is -11: must be -10 to 10.")]
    [InlineData(null, null, 11, "Priority is 11: must be -10 to 10.")]
    public void A_calls_own_values_have_ranges_too(string? lane, int? tenant, int? priority, string told)
    {
        using var pool = new ConnectionPool();
        var error = Assert.Throws<ArgumentException>(() => pool.CreateClient(null, new() { Lane = lane, Tenant = tenant is { } length ? new string('t', length) : null, Priority = priority }));

        Assert.Equal($"Invalid PoolRequestOptions: {told}", error.Message);
    }

    [Fact]
    public void The_limits_of_each_range_are_valid()
    {
        var options = new ConnectionPoolOptions { MaxConcurrentRequests = 10 };
        options.Lanes[new string('x', 64)] = new() { Reserve = 9, Ceiling = 9, MaxQueueLength = 1 };
        options.Lanes["none"] = new() { Ceiling = 0 };
        options.Tenants.Isolation = TenantIsolation.Connections;
        (options.Tenants.MaxConcurrentRequests, options.Tenants.MaxConnections, options.Tenants.MaxQueueLength, options.Tenants.MaxKnown) = (0, 65_535, 1, 1);
        options.Tenants.Named[new string('x', 128)] = new() { Weight = 1_000, MaxConcurrentRequests = 0, MaxConnections = 1, MaxQueueLength = 1 };

        using var pool = new ConnectionPool(options);
        pool.CreateClient(null, new() { Tenant = new string('t', 128), Priority = -10 }).Dispose();
        pool.CreateClient(null, new() { Tenant = "t", Priority = 10 }).Dispose();
    }

    [Fact]
    public void What_is_not_set_is_as_the_pool_and_the_other_tenants_have_it()
    {
        var options = new ConnectionPoolOptions { Timeouts = { Read = TimeSpan.FromSeconds(7), Pool = TimeSpan.FromSeconds(8) } };
        options.UseStreamAndBatchLanes();
        options.Tenants.MaxConcurrentRequests = 10;
        options.Tenants.Named["acme"] = new() { Weight = 3 };
        options.Tenants.Named["one"] = new() { MaxConcurrentRequests = 1 };

        var sharing = ConnectionPool.Freeze(options).Sharing;

        Assert.Equal((0, 40, int.MaxValue, 180, 180, 8), (sharing.Stream!.Reserve, sharing.Stream.Ceiling, sharing.Stream.MaxQueueLength, Seconds(sharing.Stream.Timeouts.FirstByte), Seconds(sharing.Stream.Timeouts.Read), Seconds(sharing.Stream.Timeouts.Pool)));
        Assert.Equal((0, 20, 60, 60), (sharing.Batch!.Reserve, sharing.Batch.Ceiling, Seconds(sharing.Batch.Timeouts.FirstByte), Seconds(sharing.Batch.Timeouts.Read)));
        Assert.Equal((3, 10), (sharing.LimitsOf("acme").Weight, sharing.LimitsOf("acme").MaxConcurrentRequests));
        Assert.Equal((1, 1), (sharing.LimitsOf("one").Weight, sharing.LimitsOf("one").MaxConcurrentRequests));
        Assert.Equal((1, 10), (sharing.LimitsOf("other").Weight, sharing.LimitsOf("other").MaxConcurrentRequests));
        Assert.Equal(TenantLimits.None, sharing.LimitsOf(""));

        static int Seconds(TimeSpan time) => (int)time.TotalSeconds;
    }

    [Fact]
    public void A_lane_that_is_configured_already_is_left_as_it_is()
    {
        var options = new ConnectionPoolOptions();
        options.Lanes["stream"] = new() { Reserve = 3 };
        options.UseStreamAndBatchLanes();

        Assert.Equal((3, null, 20), (options.Lanes["stream"].Reserve, options.Lanes["stream"].Ceiling, options.Lanes["batch"].Ceiling));
    }

    [Fact]
    public void A_preset_fills_the_tenants_too()
    {
        var options = new ConnectionPoolOptions().UsePreset(PoolPreset.MultiTenantSaaS);
        Assert.Equal(10, options.Tenants.MaxConcurrentRequests);
        options.Tenants = new TenantsOptions();
        Assert.Equal(10, options.Tenants.MaxConcurrentRequests);
        options.Tenants.MaxConcurrentRequests = 5;
        Assert.Equal(5, options.Tenants.MaxConcurrentRequests);
        Assert.Equal(5, ConnectionPool.Freeze(options).Sharing.EachTenant.MaxConcurrentRequests);
        Assert.Null(new ConnectionPoolOptions().UsePreset(PoolPreset.BackendApi).Tenants.MaxConcurrentRequests);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Lanes_and_tenants_change_while_the_pool_runs_and_isolation_does_not()
    {
        await using var rig = await Rig.StartAsync();
        Assert.Equal("", await LaneAsync());

        Assert.True(Update(options => options.UseStreamAndBatchLanes().Tenants.Named["acme"] = new() { Weight = 2 }));
        Assert.Equal("stream", await LaneAsync());
        Assert.Equal(2, rig.Pool.Engine.Settings.Sharing.LimitsOf("acme").Weight);

        Assert.True(Update(options => options.Lanes["chat"] = new()));
        Assert.Equal("", await LaneAsync());
        await Assert.ThrowsAsync<ArgumentException>(() => rig.CallAsync(Calls.Chat().With(new() { Lane = "stream" })));

        Assert.False(Update(options => options.Tenants.Isolation = TenantIsolation.Connections));
        Assert.Single(rig.Pool.Engine.Settings.Sharing.Lanes);
        Assert.Equal(["Tenants.Isolation"], rig.Pool.Engine.Settings.FixedIn(rig.Pool.Engine.Settings with { Sharing = new() { Isolation = TenantIsolation.Connections } }));

        bool Update(Action<ConnectionPoolOptions> change) => rig.Pool.TryUpdate(Rig.Options(rig.Mock, options =>
        {
            options.SslOptions = rig.Pool.Engine.Settings.SslOptions;
            change(options);
        }));

        async Task<string> LaneAsync()
        {
            using var response = await rig.SendAsync(Calls.Stream());
            return Assert.Single(rig.Pool.GetStreams()).Lane;
        }
    }
}
