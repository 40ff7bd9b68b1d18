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
        Assert.All(PoolPreset.All, preset =>
        {
            var problems = new List<string>();
            PoolSettings.Freeze(new ConnectionPoolOptions().UsePreset(preset), problems);
            Assert.Empty(problems);
            Assert.Same(preset, PoolPreset.Find(preset.Name.ToUpperInvariant()));
        });
    }
}
