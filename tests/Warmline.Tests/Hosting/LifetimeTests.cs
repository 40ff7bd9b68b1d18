using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Warmline.Hosting;
using Warmline.MockLlm;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Hosting;

/// <summary>The pool in the host's life: start, reload, stop.</summary>
public sealed class LifetimeTests
{
    [Fact(Timeout = Rig.Patience)]
    public async Task Warm_connections_are_ready_before_any_other_service_starts()
    {
        await using var mock = await MockLlmServer.StartAsync(new() { RoundTripTime = TimeSpan.FromMilliseconds(50) }, cancellationToken: Rig.Ct);
        var (builder, logs) = Builder(mock, options => options.Hosts[mock.BaseAddress.ToString()] = new() { WarmConnections = 3 });
        var seen = new TaskCompletionSource<int>();
        builder.Services.AddHostedService(provider => new OnStart(() => seen.SetResult(provider.GetRequiredService<ConnectionPool>().GetStats().Idle)));
        using var host = builder.Build();
        await host.StartAsync(Rig.Ct);

        Assert.Equal(3, await seen.Task);
        Assert.Contains(logs.Entries, entry => entry.Message == $"Pool 'default': 3 of 3 warm connections to {Origin(mock)} are ready");
        await host.StopAsync(Rig.Ct);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Invalid_options_of_any_pool_keep_the_host_from_starting_and_are_all_told()
    {
        var builder = HostRig.Builder();
        builder.Services.AddConnectionPool("chat", options => (options.MaxConnections, options.MaxQueueLength) = (0, 0)).ConfigureHosting(hosting => hosting.WarmUpTimeout = TimeSpan.Zero);
        builder.Services.AddConnectionPool("batch", options => options.IdleTimeout = TimeSpan.Zero);
        var started = false;
        builder.Services.AddHostedService(_ => new OnStart(() => started = true));
        using var host = builder.Build();

        var error = await Assert.ThrowsAsync<OptionsValidationException>(() => host.StartAsync(Rig.Ct));
        Assert.Equal(["Pool 'chat': Hosting.WarmUpTimeout is 00:00:00", "Pool 'chat':\n  MaxConnections is 0: must be 1 to 65535.\n  MaxQueueLength is 0", "Pool 'batch': IdleTimeout is 00:00:00"],
            error.Failures.Select(failure => failure[..failure.LastIndexOf(": must", StringComparison.Ordinal)]));
        Assert.False(started);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_warm_up_that_fails_is_logged_and_forbids_the_start_only_when_told_to(bool require)
    {
        await using var mock = await MockLlmServer.StartAsync(new() { Certificate = MockCertificate.Expired }, cancellationToken: Rig.Ct);
        var (builder, logs) = Builder(mock, options => options.Hosts[mock.BaseAddress.ToString()] = new() { WarmConnections = 2 }, hosting => hosting.RequireWarmUp = require);
        using var host = builder.Build();

        if (require)
        {
            var error = await Assert.ThrowsAsync<InvalidOperationException>(() => host.StartAsync(Rig.Ct));
            Assert.Contains($"0 of 2 warm connections to {Origin(mock)} are ready:", error.Message, StringComparison.Ordinal);
            Assert.Contains("expired", error.Message, StringComparison.Ordinal);
            return;
        }

        await host.StartAsync(Rig.Ct);
        Assert.Single(logs.Entries, entry => entry.Level is LogLevel.Warning && entry.Message.Contains("the application starts all the same", StringComparison.Ordinal) && entry.Message.Contains("expired", StringComparison.Ordinal));
        await host.StopAsync(Rig.Ct);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task The_start_waits_no_longer_than_the_warm_ups_timeout()
    {
        var time = new ManualTime();
        await using var mock = await MockLlmServer.StartAsync(new() { OnConnection = _ => new() { Act = MockConnectionAct.Silent } }, cancellationToken: Rig.Ct);
        var (builder, logs) = Builder(mock, options =>
        {
            options.Hosts[mock.BaseAddress.ToString()] = new() { WarmConnections = 1 };
            options.Timeouts.Connect = TimeSpan.FromMinutes(5);
        }, hosting => hosting.WarmUpTimeout = TimeSpan.FromSeconds(7), time);
        using var host = builder.Build();
        var start = host.StartAsync(Rig.Ct);
        await mock.WaitForAsync(counters => counters.ConnectionsAccepted == 1, Rig.Ct);
        time.Advance(TimeSpan.FromSeconds(6.9));
        Assert.False(start.IsCompleted);
        time.Advance(TimeSpan.FromSeconds(0.1));
        await start;

        Assert.Single(logs.Entries, entry => entry.Message.Contains("not ready within 7 s (Hosting.WarmUpTimeout)", StringComparison.Ordinal));
        await host.StopAsync(Rig.Ct);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_reload_changes_the_running_pool_and_names_what_it_cannot_change()
    {
        await using var mock = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        var configuration = HostRig.Values(("MaxConnections", "10"));
        var (builder, logs) = Builder(mock, options => options.Proxy = new System.Net.WebProxy { BypassProxyOnLocal = true }, configuration: configuration);
        using var host = builder.Build();
        await host.StartAsync(Rig.Ct);
        var pool = host.Services.GetRequiredService<ConnectionPool>();

        Reload(("MaxConnections", "20"));
        Assert.Equal(20, pool.Engine.Settings.MaxConnections);
        Reload(("MaxConnections", "20"));   // nothing changed: nothing said
        Assert.Single(Messages("changed options have been applied"));

        Reload(("MaxConnections", "30"), ("Dns:CacheTtl", "1m"), ("Http2:Mode", "Disabled"));
        Assert.Equal(20, pool.Engine.Settings.MaxConnections);
        Assert.Contains("Http2.Mode, Dns.CacheTtl cannot change while the pool runs", Assert.Single(Messages("none of the changed options have been applied, because Http2")), StringComparison.Ordinal);

        Reload(("MaxConnections", "0"), ("Dns:CacheTtl", null), ("Http2:Mode", null), ("MaxConections", "5"));
        Assert.Equal(20, pool.Engine.Settings.MaxConnections);
        var invalid = Assert.Single(Messages("they are invalid"));
        Assert.Contains("MaxConections is not an option", invalid, StringComparison.Ordinal);
        Assert.Contains("MaxConnections is 0", invalid, StringComparison.Ordinal);
        await host.StopAsync(Rig.Ct);

        void Reload(params (string Key, string? Value)[] values)
        {
            foreach (var (key, value) in values)
            {
                configuration[key] = value;
            }

            configuration.Reload();
        }

        IEnumerable<string> Messages(string part) => logs.Entries.Select(entry => entry.Message).Where(message => message.Contains(part, StringComparison.Ordinal));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_reload_switches_the_pool_off()
    {
        await using var mock = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        var configuration = HostRig.Values(("Enabled", "true"));
        var (builder, _) = Builder(mock, configuration: configuration);
        using var host = builder.Build();
        await host.StartAsync(Rig.Ct);
        var pool = host.Services.GetRequiredService<ConnectionPool>();
        using var client = pool.CreateClient(mock.BaseAddress);

        configuration["Enabled"] = "false";
        configuration.Reload();
        using var response = await client.SendAsync(Calls.Chat(), Rig.Ct);

        Assert.True(response.IsSuccessStatusCode);
        Assert.Equal((0, 1, false), (pool.GetStats().TotalRequests, pool.GetStats().Bypassed, pool.GetStats().Enabled));
        await host.StopAsync(Rig.Ct);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task While_other_services_stop_calls_run_on_and_new_ones_are_taken()
    {
        await using var mock = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        var (builder, _) = Builder(mock);
        var stopping = new TaskCompletionSource();
        HttpClient? client = null;
        var stopped = new OnStop(async () =>
        {
            using var response = await client!.SendAsync(Calls.Chat(), Rig.Ct);   // what a running request of a server may do
            Assert.True(response.IsSuccessStatusCode);
            stopping.SetResult();
        });
        builder.Services.Insert(0, ServiceDescriptor.Singleton<IHostedService>(stopped));   // registered before the pool: stops after it
        using var host = builder.Build();
        await host.StartAsync(Rig.Ct);
        client = host.Services.GetRequiredService<ConnectionPool>().CreateClient(mock.BaseAddress);
        await host.StopAsync(Rig.Ct);

        Assert.True(stopping.Task.IsCompletedSuccessfully);
        Assert.Equal(PoolRejectionReason.Draining, (await Assert.ThrowsAsync<PoolRejectedException>(() => client.SendAsync(Calls.Chat(), Rig.Ct))).Reason);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task At_the_deadline_what_runs_is_cut_with_the_reason_while_services_still_stop()
    {
        var time = new ManualTime();
        await using var mock = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        var (builder, logs) = Builder(mock, time: time);
        builder.Services.Configure<HostOptions>(options => options.ShutdownTimeout = TimeSpan.FromSeconds(50));
        Task<HttpResponseMessage>? call = null;
        var waiting = new TaskCompletionSource();
        builder.Services.AddHostedService(_ => new OnStop(async () =>
        {
            waiting.SetResult();
            await Task.WhenAny(call!);   // as a server waits for its running requests
        }));
        using var host = builder.Build();
        await host.StartAsync(Rig.Ct);
        var pool = host.Services.GetRequiredService<ConnectionPool>();
        using var client = pool.CreateClient(mock.BaseAddress);
        call = client.SendAsync(Calls.Chat(headers: ("x-mock-service-ms", "86400000")), Rig.Ct);
        await mock.WaitForAsync(counters => counters.Requests == 1, Rig.Ct);

        var stop = host.StopAsync(Rig.Ct);
        await waiting.Task;
        time.Advance(TimeSpan.FromSeconds(47.9));
        Assert.False(call.IsCompleted);
        time.Advance(TimeSpan.FromSeconds(0.1));
        var error = await Assert.ThrowsAsync<PoolAbortedException>(() => call);
        await stop;

        Assert.Equal(PoolRejectionReason.Draining, error.Reason);
        Assert.Contains(logs.Entries, entry => entry.Message == "Pool 'default': the host is stopping. Running calls have 48 s to finish");
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("2s", 2)]
    [InlineData("2 days", 3)]
    public async Task The_stop_goes_by_the_configuration_of_the_moment_and_survives_its_mistakes(string drainTimeout, int seconds)
    {
        await using var mock = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        var configuration = HostRig.Values(("Hosting:DrainTimeout", "3s"));
        var (builder, logs) = Builder(mock, configuration: configuration);
        using var host = builder.Build();
        await host.StartAsync(Rig.Ct);
        configuration["Hosting:DrainTimeout"] = drainTimeout;
        await host.StopAsync(Rig.Ct);

        Assert.Contains(logs.Entries, entry => entry.Message == $"Pool 'default': the host is stopping. Running calls have {seconds} s to finish");
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_host_that_did_not_start_can_be_stopped()
    {
        var builder = HostRig.Builder();
        builder.Services.AddConnectionPool(options => options.MaxConnections = 0);
        using var host = builder.Build();

        await Assert.ThrowsAsync<OptionsValidationException>(() => host.StartAsync(Rig.Ct));
        await host.StopAsync(Rig.Ct);
    }

    [Theory]
    [InlineData(30, 28)]
    [InlineData(5, 4.5)]
    [InlineData(600, 598)]
    public void The_deadline_is_the_hosts_own_less_a_margin(double shutdown, double drain)
    {
        var builder = HostRig.Builder();
        builder.Services.Configure<HostOptions>(options => options.ShutdownTimeout = TimeSpan.FromSeconds(shutdown));
        using var host = builder.Build();

        Assert.Equal(TimeSpan.FromSeconds(drain), HostShutdown.DrainTimeout(host.Services));
        Assert.Equal(TimeSpan.FromSeconds(28), HostShutdown.DrainTimeout(new ServiceCollection().BuildServiceProvider()));
    }

    static (HostApplicationBuilder Builder, LogRecorder Logs) Builder(MockLlmServer mock, Action<ConnectionPoolOptions>? configure = null, Action<PoolHostingOptions>? hosting = null, TimeProvider? time = null, IConfiguration? configuration = null)
    {
        var logs = new LogRecorder();
        var builder = HostRig.Builder(logs, time);
        var pool = builder.Services.AddConnectionPool(HostRig.Trusting(mock, configure));
        if (hosting is not null)
        {
            pool.ConfigureHosting(hosting);
        }

        if (configuration is not null)
        {
            pool.Bind(configuration);
        }

        return (builder, logs);
    }

    static string Origin(MockLlmServer mock) => mock.BaseAddress.GetLeftPart(UriPartial.Authority);

    sealed class OnStart(Action act) : IHostedService
    {
        public Task StartAsync(CancellationToken cancellationToken)
        {
            act();
            return Task.CompletedTask;
        }

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }

    sealed class OnStop(Func<Task> act) : IHostedService
    {
        public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => act();
    }
}
