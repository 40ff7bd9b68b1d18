using System.Net;
using Microsoft.Extensions.Logging;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>Enabled: the way past the pool.</summary>
public sealed class SwitchTests
{
    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Switched_off_new_calls_go_past_the_pool_and_running_ones_end_in_it(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2);
        var gate = new Gate();
        var running = await rig.HoldAsync(2, gate);

        Assert.True(rig.Pool.TryUpdate(Off(rig)));
        await rig.CallAsync();
        await rig.CallAsync();
        var off = rig.Stats;
        gate.Open();
        await Task.WhenAll(running);
        Assert.Equal((false, 2, 2), (off.Enabled, off.Bypassed, off.TotalRequests));
        Assert.EndsWith("| off: 2 calls past the pool", off.ToString(), StringComparison.Ordinal);

        Assert.True(rig.Pool.TryUpdate(Rig.Options(rig.Mock, options => options.SslOptions = rig.Pool.Engine.Settings.SslOptions)));
        await rig.CallAsync();
        var on = rig.Stats;
        Assert.Equal((true, 2, 3), (on.Enabled, on.Bypassed, on.TotalRequests));
        Assert.DoesNotContain("off:", on.ToString(), StringComparison.Ordinal);

        Assert.Single(rig.Logs.Entries, entry => entry.Level is LogLevel.Warning && entry.Message.StartsWith("The pool is switched off", StringComparison.Ordinal));
        Assert.Single(rig.Logs.Entries, entry => entry.Level is LogLevel.Information && entry.Message.StartsWith("The pool is switched on again", StringComparison.Ordinal));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_pool_made_switched_off_dials_nothing_and_speaks_http2_where_it_must()
    {
        await using var rig = await Rig.StartAsync(options => (options.Enabled, options.Http2.Mode) = (false, Http2Mode.Required));
        using var request = Calls.Chat();
        using var response = await rig.SendAsync(request);

        Assert.Equal((HttpStatusCode.OK, HttpVersion.Version20), (response.StatusCode, response.Version));
        Assert.Equal(HttpVersion.Version11, request.Version);
        Assert.Equal((0, 1), (rig.Stats.TotalRequests, rig.Stats.Bypassed));
        Assert.Single(rig.Logs.Entries, entry => entry.Message.StartsWith("The pool is switched off", StringComparison.Ordinal));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Switched_off_warm_connections_are_given_up_and_switched_on_they_come_back()
    {
        await using var rig = await Rig.StartAsync(options => options.IdleTimeout = TimeSpan.FromMilliseconds(200));
        var settings = (bool enabled) => Rig.Options(rig.Mock, options =>
        {
            (options.Enabled, options.IdleTimeout, options.SslOptions) = (enabled, TimeSpan.FromMilliseconds(200), rig.Pool.Engine.Settings.SslOptions);
            options.Hosts[rig.Mock.BaseAddress.ToString()] = new() { WarmConnections = 2 };
        });

        Assert.True(rig.Pool.TryUpdate(settings(true)));
        await rig.StatsAsync(stats => stats.Idle == 2);
        Assert.True(rig.Pool.TryUpdate(settings(false)));
        await rig.StatsAsync(stats => stats.Connections == 0);
        Assert.True(rig.Pool.TryUpdate(settings(true)));
        await rig.StatsAsync(stats => stats.Idle == 2);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_pool_that_drains_refuses_calls_switched_off_or_not()
    {
        await using var rig = await Rig.StartAsync(options => options.Enabled = false);
        await rig.CallAsync();
        await rig.Pool.DrainAsync(TimeSpan.Zero, Rig.Ct);

        var error = await Assert.ThrowsAsync<PoolRejectedException>(() => rig.CallAsync());
        Assert.Equal(PoolRejectionReason.Draining, error.Reason);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Past_the_pool_redirects_are_followed_as_in_it(bool follow)
    {
        await using var rig = await Rig.StartAsync(options => (options.Enabled, options.AllowAutoRedirect) = (false, follow), new()
        {
            OnRequest = request => request.Path.EndsWith("completions", StringComparison.Ordinal) ? new() { Status = 307, Headers = new Dictionary<string, string> { ["location"] = "/v1/responses" } } : null,
        });
        using var response = await rig.SendAsync(Calls.Chat());

        Assert.Equal(follow ? HttpStatusCode.OK : HttpStatusCode.TemporaryRedirect, response.StatusCode);
        Assert.Equal((0, follow ? 2 : 1), (rig.Stats.TotalRequests, rig.Stats.Bypassed));
    }

    static ConnectionPoolOptions Off(Rig rig) => Rig.Options(rig.Mock, options => (options.Enabled, options.SslOptions) = (false, rig.Pool.Engine.Settings.SslOptions));
}
