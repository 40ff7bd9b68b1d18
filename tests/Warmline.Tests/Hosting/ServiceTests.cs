using System.Collections.Concurrent;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Options;
using Warmline.MockLlm;
using Warmline.Pool;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Hosting;

public sealed class ServiceTests
{
    [Fact]
    public void A_named_pool_has_its_key_and_the_only_one_needs_none()
    {
        var services = new ServiceCollection();
        services.AddConnectionPool("llm", options => options.MaxConnections = 3);
        using var provider = services.BuildServiceProvider();

        var pool = provider.GetRequiredKeyedService<ConnectionPool>("llm");
        Assert.Same(pool, provider.GetRequiredService<ConnectionPool>());
        Assert.Equal(3, pool.Engine.Settings.MaxConnections);
    }

    [Fact]
    public void Among_several_the_default_one_needs_no_key()
    {
        var services = new ServiceCollection();
        services.AddConnectionPool("llm", options => options.MaxConnections = 3);
        services.AddConnectionPool(options => options.MaxConnections = 4);
        services.AddConnectionPool("llm").Configure(options => options.MaxQueueLength = 5);   // the same pool again
        using var provider = services.BuildServiceProvider();

        Assert.Equal(4, provider.GetRequiredService<ConnectionPool>().Engine.Settings.MaxConnections);
        var llm = provider.GetRequiredKeyedService<ConnectionPool>("llm").Engine.Settings;
        Assert.Equal((3, 5), (llm.MaxConnections, llm.MaxQueueLength));
    }

    [Fact]
    public void A_pool_that_is_not_there_is_told_with_those_that_are()
    {
        var services = new ServiceCollection();
        services.AddConnectionPool("chat");
        services.AddConnectionPool("batch");
        services.AddHttpClient("wrong").UseConnectionPool("chats");
        using var provider = services.BuildServiceProvider();

        Assert.Contains("by name (chat, batch)", Assert.Throws<InvalidOperationException>(provider.GetRequiredService<ConnectionPool>).Message, StringComparison.Ordinal);
        Assert.Contains("No connection pool 'chats' is registered (there are: chat, batch)",
            Assert.Throws<InvalidOperationException>(() => provider.GetRequiredService<IHttpClientFactory>().CreateClient("wrong")).Message, StringComparison.Ordinal);

        var without = new ServiceCollection();
        without.AddHttpClient("lost").UseConnectionPool("llm");
        using var empty = without.BuildServiceProvider();
        Assert.Contains("AddConnectionPool(\"llm\")", Assert.Throws<InvalidOperationException>(() => empty.GetRequiredService<IHttpClientFactory>().CreateClient("lost")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_pool_has_its_registrations_name_unless_it_is_given_another_and_is_on_the_containers_meter()
    {
        using var metrics = new MetricsRecorder().Start();
        var logs = new CategoryRecorder();
        var services = new ServiceCollection();
        services.AddSingleton(metrics.Factory);
        services.AddSingleton<ILoggerFactory>(logs);
        services.AddConnectionPool("llm");
        services.AddConnectionPool();
        services.AddConnectionPool("other", static options => options.Name = "given").Bind(HostRig.Values(("Name", "configured")));
        services.AddConnectionPool("third").Bind(HostRig.Values(("Name", "configured")));
        services.AddConnectionPool(new string('x', 65));   // no name for a series, and no reason to fail
        using var provider = services.BuildServiceProvider();

        Assert.Equal(["llm", "given", "configured", "default"], ((string[])["llm", "other", "third", new string('x', 65)]).Select(name => provider.GetRequiredKeyedService<ConnectionPool>(name).Name));
        Assert.Equal(("default", "default"), (provider.GetRequiredService<ConnectionPool>().Name, provider.GetRequiredService<ConnectionPool>().GetStats().Name));
        metrics.Collect();
        Assert.Equal(["configured", "default", "given", "llm"], metrics.Of("warmline.connections.limit").Select(static limit => limit.Tags["warmline.pool.name"]).Order());
        Assert.Equal(["Warmline", "Warmline.configured", "Warmline.given", "Warmline.llm"], logs.Categories.Distinct().Order(StringComparer.Ordinal));
        Assert.Contains("Name is ''", Assert.Throws<ArgumentException>(static () => new ConnectionPool(new ConnectionPoolOptions { Name = "" })).Message, StringComparison.Ordinal);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_factorys_client_calls_through_the_pool_and_has_no_timeout_of_its_own()
    {
        await using var mock = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        var services = new ServiceCollection();
        services.AddConnectionPool("llm", HostRig.Trusting(mock));
        services.AddHttpClient("openai", client => client.BaseAddress = mock.BaseAddress).UseConnectionPool("llm");
        await using var provider = services.BuildServiceProvider();
        var clients = provider.GetRequiredService<IHttpClientFactory>();

        for (var call = 0; call < 3; call++)
        {
            using var client = clients.CreateClient("openai");   // disposed after each call, as factory clients are
            Assert.Equal(Timeout.InfiniteTimeSpan, client.Timeout);
            using var response = await client.SendAsync(Calls.Chat(), Rig.Ct);
            Assert.True(response.IsSuccessStatusCode);
        }

        Assert.Equal(Timeout.InfiniteTimeSpan, provider.GetRequiredService<IOptionsMonitor<Microsoft.Extensions.Http.HttpClientFactoryOptions>>().Get("openai").HandlerLifetime);
        var stats = provider.GetRequiredKeyedService<ConnectionPool>("llm").GetStats();
        Assert.Equal((3, 1), (stats.TotalRequests, stats.NewConnections));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_clients_defaults_reach_its_calls()
    {
        await using var mock = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        var services = new ServiceCollection();
        services.AddConnectionPool(HostRig.Trusting(mock));
        services.AddHttpClient("openai", client => client.BaseAddress = mock.BaseAddress).UseConnectionPool(defaults: new() { Timeouts = new() { FirstByte = TimeSpan.FromMilliseconds(50) } });
        await using var provider = services.BuildServiceProvider();
        using var client = provider.GetRequiredService<IHttpClientFactory>().CreateClient("openai");

        var error = await Assert.ThrowsAsync<RequestStalledException>(() => client.SendAsync(Calls.Chat(headers: ("x-mock-service-ms", "60000")), Rig.Ct));
        Assert.Equal(StallPhase.FirstByte, error.Phase);
    }

    [Fact]
    public void The_provider_disposes_its_pools()
    {
        var services = new ServiceCollection();
        services.AddConnectionPool();
        var provider = services.BuildServiceProvider();
        var pool = provider.GetRequiredService<ConnectionPool>();
        provider.Dispose();

        Assert.True(pool.Engine.Lifetime.IsDisposed);
    }

    sealed class CategoryRecorder : ILoggerFactory
    {
        public ConcurrentQueue<string> Categories { get; } = new();

        public ILogger CreateLogger(string categoryName)
        {
            Categories.Enqueue(categoryName);
            return NullLogger.Instance;
        }

        public void AddProvider(ILoggerProvider provider) => throw new NotSupportedException();

        public void Dispose()
        {
        }
    }
}
