using System.Globalization;
using Warmline.Options;
using Warmline.Tests.Guards;
using Xunit;

namespace Warmline.Tests.Settings;

public sealed class PoolPresetTests
{
    [Fact]
    public void A_preset_fills_only_what_is_unset_whatever_the_order()
    {
        var before = new ConnectionPoolOptions { MaxConnections = 7, Http2 = new() { SpreadConnections = 4 } }.UsePreset(PoolPreset.Cli);
        var after = new ConnectionPoolOptions().UsePreset(PoolPreset.Cli);
        after.MaxConnections = 7;
        after.Http2 = new Http2Options { SpreadConnections = 4 };

        Assert.All([before, after], options =>
        {
            Assert.Equal((7, 5, TimeSpan.FromSeconds(30)), (options.MaxConnections, options.MaxIdleConnections, options.IdleTimeout));
            Assert.Equal(4, options.Http2.SpreadConnections);
        });
    }

    [Fact]
    public void A_value_that_equals_the_default_is_set_all_the_same()
    {
        var options = new ConnectionPoolOptions { MaxConnections = 50, IdleTimeout = TimeSpan.FromSeconds(120) }.UsePreset(PoolPreset.Batch);

        Assert.Equal((50, TimeSpan.FromSeconds(120)), (options.MaxConnections, options.IdleTimeout));
    }

    [Fact]
    public void A_preset_reaches_the_nested_options_that_are_replaced_later()
    {
        var options = new ConnectionPoolOptions().UsePreset(PoolPreset.Cli);
        options.Http2 = new Http2Options { Mode = Http2Mode.Required };

        Assert.Equal(2, options.Http2.SpreadConnections);
    }

    [Fact]
    public void The_later_preset_replaces_the_earlier_one()
    {
        var options = new ConnectionPoolOptions().UsePreset(PoolPreset.MultiTenantSaaS).UsePreset(PoolPreset.BackendApi);

        Assert.Equal((30, null), (options.MaxConnections, options.MaxConcurrentRequests));
    }

    [Fact]
    public void Without_a_preset_the_defaults_hold()
    {
        var options = new ConnectionPoolOptions();

        Assert.Equal((50, null, null, TimeSpan.FromSeconds(120), 8), (options.MaxConnections, options.MaxIdleConnections, options.MaxConcurrentRequests, options.IdleTimeout, options.Http2.SpreadConnections));
    }

    [Fact]
    public void Every_preset_is_valid_printable_and_found_by_its_name()
    {
        Assert.Equal(["Cli", "BackendApi", "Batch", "MultiTenantSaaS"], PoolPreset.All.Select(preset => preset.Name));
        Assert.Equal("BackendApi: MaxConnections = 30, IdleTimeout = 120 s", PoolPreset.BackendApi.ToString());
        Assert.Equal("Cli: MaxConnections = 5, MaxIdleConnections = 5, IdleTimeout = 30 s, Http2.SpreadConnections = 2", PoolPreset.Cli.ToString());
        Assert.Equal("Batch: MaxConnections = 80, IdleTimeout = 60 s, Lanes = stream (Reserve 8, FirstByte and Read 180 s), batch", PoolPreset.Batch.ToString());
        Assert.All(PoolPreset.All, preset =>
        {
            var problems = new List<string>();
            PoolSettings.Freeze(new ConnectionPoolOptions().UsePreset(preset), problems);
            Assert.Empty(problems);
            Assert.Same(preset, PoolPreset.Find(preset.Name.ToUpperInvariant()));
        });
    }

    [Fact]
    public void The_batch_preset_has_lanes_for_streams_and_for_bulk_work_and_the_others_have_none()
    {
        var sharing = ConnectionPool.Freeze(new ConnectionPoolOptions().UsePreset(PoolPreset.Batch)).Sharing;

        Assert.Equal((8, int.MaxValue, 180, 180, 15), (sharing.Stream!.Reserve, sharing.Stream.Ceiling, Seconds(sharing.Stream.Timeouts.FirstByte), Seconds(sharing.Stream.Timeouts.Read), Seconds(sharing.Stream.Timeouts.Pool)));
        Assert.Equal((0, int.MaxValue, 600), (sharing.Batch!.Reserve, sharing.Batch.Ceiling, Seconds(sharing.Batch.Timeouts.FirstByte)));
        Assert.All(PoolPreset.All.Where(preset => preset != PoolPreset.Batch), preset => Assert.Empty(ConnectionPool.Freeze(new ConnectionPoolOptions().UsePreset(preset)).Sharing.Lanes));

        static int Seconds(TimeSpan time) => (int)time.TotalSeconds;
    }

    [Fact]
    public void A_lane_that_is_configured_takes_the_place_of_the_presets()
    {
        var options = new ConnectionPoolOptions().UsePreset(PoolPreset.Batch);
        options.Lanes["stream"] = new() { Reserve = 3, Ceiling = 5 };
        options.Lanes["chat"] = new();
        var lanes = ConnectionPool.Freeze(options).Sharing.Lanes;

        Assert.Equal(["batch", "chat", "stream"], lanes.Keys.Order(StringComparer.Ordinal));
        Assert.Equal((3, 5, 600), (lanes["stream"].Reserve, lanes["stream"].Ceiling, (int)lanes["stream"].Timeouts.FirstByte.TotalSeconds));
        Assert.Equal(["chat", "stream"], options.Lanes.Keys.Order(StringComparer.Ordinal));   // the options are their owner's
        Assert.Empty(ConnectionPool.Freeze(new ConnectionPoolOptions().UsePreset(PoolPreset.Batch).UsePreset(PoolPreset.Cli)).Sharing.Lanes);
    }

    [Theory]
    [InlineData(1, 0, 0)]
    [InlineData(2, 0, 0)]
    [InlineData(10, 0, 2)]
    [InlineData(40, 0, 8)]
    [InlineData(40, 39, 0)]
    [InlineData(40, 30, 2)]
    public void What_the_preset_reserves_makes_no_options_invalid(int all, int reserved, int expected)
    {
        var options = new ConnectionPoolOptions { MaxConcurrentRequests = all }.UsePreset(PoolPreset.Batch);
        options.Lanes["chat"] = new() { Reserve = reserved };

        Assert.Equal(expected, ConnectionPool.Freeze(options).Sharing.Stream!.Reserve);
    }
}
