using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Warmline.MockLlm;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Hosting;

public sealed class HealthCheckTests
{
    [Fact(Timeout = Rig.Patience)]
    public async Task It_is_healthy_when_the_warm_connections_are_there()
    {
        var reject = true;
        await using var mock = await MockLlmServer.StartAsync(new() { OnConnection = _ => Volatile.Read(ref reject) ? new() { Act = MockConnectionAct.Close } : null }, cancellationToken: Rig.Ct);
        await using var provider = Provider(mock, options => options.Hosts[mock.BaseAddress.ToString()] = new() { WarmConnections = 2 });
        var pool = provider.GetRequiredService<ConnectionPool>();

        Assert.Equal(HealthStatus.Unhealthy, (await CheckAsync(provider)).Status);
        await Eventually.TrueAsync(() => pool.GetStats().FailedDials > 0);
        var unreachable = await CheckAsync(provider);
        Assert.Equal(HealthStatus.Unhealthy, unreachable.Status);
        Assert.Contains("cannot be reached: no connection, and the last", unreachable.Description, StringComparison.Ordinal);

        Volatile.Write(ref reject, false);
        await Eventually.TrueAsync(() => pool.GetStats().Idle == 2);
        var healthy = await CheckAsync(provider);
        Assert.Equal(HealthStatus.Healthy, healthy.Status);
        Assert.Equal(2, healthy.Data["idle"]);
        Assert.Equal(pool.GetStats().FailedDials, healthy.Data["failedDials"]);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task It_is_degraded_when_more_than_80_percent_is_in_use_until_it_is_less_than_70()
    {
        await using var mock = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        await using var provider = Provider(mock, options => options.MaxConcurrentRequests = 10);
        var pool = provider.GetRequiredService<ConnectionPool>();
        using var client = pool.CreateClient(mock.BaseAddress);
        var (first, second) = (new Gate(), new Gate());
        var calls = Enumerable.Range(0, 9).Select(call => client.SendAsync((call < 3 ? first : second).Hold(Calls.Chat()), Rig.Ct)).ToArray();
        await Eventually.TrueAsync(() => pool.GetStats().Active == 9);

        var busy = await CheckAsync(provider);
        Assert.Equal(HealthStatus.Degraded, busy.Status);
        Assert.StartsWith("More than 80 % of what may run", busy.Description, StringComparison.Ordinal);
        Assert.Equal(9, busy.Data["active"]);

        first.Open();
        await Eventually.TrueAsync(() => pool.GetStats().Active == 6);
        Assert.Equal(HealthStatus.Healthy, (await CheckAsync(provider)).Status);
        second.Open();
        foreach (var response in await Task.WhenAll(calls))
        {
            response.Dispose();
        }
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task It_is_degraded_when_calls_wait_for_long()
    {
        var time = new ManualTime();
        await using var mock = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        await using var provider = Provider(mock, time: time);
        var pool = provider.GetRequiredService<ConnectionPool>();
        using var client = pool.CreateClient(mock.BaseAddress);
        pool.Pause();
        var call = client.SendAsync(Calls.Chat(), Rig.Ct);
        await Eventually.TrueAsync(() => pool.GetStats().Queued == 1);

        Assert.Equal(HealthStatus.Healthy, (await CheckAsync(provider)).Status);
        time.Advance(TimeSpan.FromSeconds(1.5));
        var waiting = await CheckAsync(provider);
        Assert.Equal((HealthStatus.Degraded, "1 calls wait for a place, the first for 1.5 s."), (waiting.Status, waiting.Description));
        pool.Resume();
        (await call).Dispose();
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task It_is_degraded_when_switched_off_and_unhealthy_when_it_drains_or_was_disposed()
    {
        await using var mock = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        await using var provider = Provider(mock, options => options.Enabled = false);
        var pool = provider.GetRequiredService<ConnectionPool>();
        Assert.Equal(HealthStatus.Degraded, (await CheckAsync(provider)).Status);

        await pool.DrainAsync(TimeSpan.Zero, Rig.Ct);
        Assert.Equal("The pool drains and takes no new calls.", (await CheckAsync(provider)).Description);
        await pool.DisposeAsync();
        var disposed = await CheckAsync(provider);
        Assert.Equal((HealthStatus.Unhealthy, "The pool was disposed."), (disposed.Status, disposed.Description));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task An_origin_that_failed_long_ago_and_that_nobody_wants_does_not_count()
    {
        var time = new ManualTime();
        await using var mock = await MockLlmServer.StartAsync(new() { OnConnection = _ => new() { Act = MockConnectionAct.Reset } }, cancellationToken: Rig.Ct);
        await using var provider = Provider(mock, time: time);
        using var client = provider.GetRequiredService<ConnectionPool>().CreateClient(mock.BaseAddress);
        await Assert.ThrowsAsync<PoolConnectException>(() => client.SendAsync(Calls.Chat(), Rig.Ct));

        Assert.Equal(HealthStatus.Unhealthy, (await CheckAsync(provider)).Status);
        time.Advance(TimeSpan.FromMinutes(2));
        Assert.Equal(HealthStatus.Healthy, (await CheckAsync(provider)).Status);
    }

    static ServiceProvider Provider(MockLlmServer mock, Action<ConnectionPoolOptions>? configure = null, TimeProvider? time = null)
    {
        var services = new ServiceCollection();
        services.AddLogging();
        services.AddConnectionPool("llm", HostRig.Trusting(mock, configure));
        services.AddHealthChecks().AddConnectionPoolHealthCheck("llm", tags: ["ready"]);
        if (time is not null)
        {
            services.AddSingleton(time);
        }

        return services.BuildServiceProvider();
    }

    static async Task<HealthReportEntry> CheckAsync(ServiceProvider provider)
    {
        var (name, entry) = Assert.Single((await provider.GetRequiredService<HealthCheckService>().CheckHealthAsync(check => check.Tags.Contains("ready"), Rig.Ct)).Entries);
        Assert.Equal("connection-pool-llm", name);
        return entry;
    }
}
