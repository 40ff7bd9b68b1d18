using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Options;
using Warmline;
using Warmline.Hosting;

namespace Microsoft.Extensions.DependencyInjection;

/// <summary>Adds connection pools to an application.</summary>
public static class ConnectionPoolServiceCollectionExtensions
{
    /// <summary>
    /// Adds the application's connection pool: as <see cref="ConnectionPool"/>, checked and warmed up when the host starts, drained when it
    /// stops.
    /// </summary>
    /// <param name="services">The application's services.</param>
    /// <param name="configure">How it behaves; rules over what <see cref="ConnectionPoolBuilder.Bind"/> reads. Called again whenever the
    /// configuration changes.</param>
    public static ConnectionPoolBuilder AddConnectionPool(this IServiceCollection services, Action<ConnectionPoolOptions>? configure = null) =>
        AddConnectionPool(services, Options.Options.DefaultName, configure);

    /// <summary>Adds a connection pool with a name: as a keyed <see cref="ConnectionPool"/> (<c>[FromKeyedServices("llm")]</c>), and
    /// without a key too while it is the only one. One pool serves any number of hosts; several are for applications that want separate
    /// limits. Called again with the same name, it configures the same pool.</summary>
    /// <inheritdoc cref="AddConnectionPool(IServiceCollection, Action{ConnectionPoolOptions}?)"/>
    /// <param name="services">The application's services.</param>
    /// <param name="name">Its name.</param>
    /// <param name="configure">How it behaves.</param>
    public static ConnectionPoolBuilder AddConnectionPool(this IServiceCollection services, string name, Action<ConnectionPoolOptions>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(services);
        ArgumentNullException.ThrowIfNull(name);
        var registrations = (PoolRegistrations?)services.FirstOrDefault(service => service.ServiceType == typeof(PoolRegistrations))?.ImplementationInstance;
        if (registrations is null)
        {
            registrations = new PoolRegistrations();
            services.AddOptions();
            services.AddSingleton(registrations);
            services.AddSingleton<IConfigureOptions<ConnectionPoolOptions>>(registrations);
            services.AddSingleton<IValidateOptions<ConnectionPoolOptions>>(registrations);
            services.AddSingleton<IConfigureOptions<PoolHostingOptions>>(registrations);
            services.AddSingleton<IValidateOptions<PoolHostingOptions>>(registrations);
            services.AddSingleton<PoolSet>();
            services.AddSingleton<IHostedService, PoolHostedService>();
            services.TryAddSingleton(static provider => provider.GetRequiredService<PoolSet>().Get(Options.Options.DefaultName));
        }

        if (registrations.Find(name) is not { } registration)
        {
            registration = registrations.Add(name);
            services.AddKeyedSingleton(name, static (provider, key) => provider.GetRequiredService<PoolSet>().Get((string)key!));
        }

        var builder = new ConnectionPoolBuilder(services, registration);
        return configure is null ? builder : builder.Configure(configure);
    }

    /// <summary>Sends the client's calls through a connection pool: the pool's handler is its primary one and is never replaced, and the
    /// client's own timeout is infinite, because the pool's clocks rule.</summary>
    /// <param name="builder">The client.</param>
    /// <param name="name">The pool's name; the default pool, or the only one, without it.</param>
    /// <param name="defaults">What its calls want of the pool where they do not say.</param>
    public static IHttpClientBuilder UseConnectionPool(this IHttpClientBuilder builder, string name = "", PoolRequestOptions? defaults = null)
    {
        ArgumentNullException.ThrowIfNull(builder);
        ArgumentNullException.ThrowIfNull(name);
        return builder
            .ConfigurePrimaryHttpMessageHandler(provider => Find(provider, name).Get(name).CreateHandler(defaults))
            .SetHandlerLifetime(Timeout.InfiniteTimeSpan)
            .ConfigureHttpClient(static client => client.Timeout = Timeout.InfiniteTimeSpan);
    }

    /// <summary>Adds a health check of a connection pool. Healthy: its warm connections are ready and nothing queues. Degraded: some are
    /// missing, more than 80 % is in use, calls wait for longer than a second, or it is switched off. Unhealthy: it drains, was disposed,
    /// has none of its warm connections, or cannot reach an origin in use.</summary>
    /// <param name="builder">The health checks.</param>
    /// <param name="name">The pool's name; the default pool, or the only one, without it.</param>
    /// <param name="failureStatus">What to report in place of unhealthy.</param>
    /// <param name="tags">Tags to select the check by.</param>
    public static IHealthChecksBuilder AddConnectionPoolHealthCheck(this IHealthChecksBuilder builder, string name = "", HealthStatus? failureStatus = null, IEnumerable<string>? tags = null)
    {
        ArgumentNullException.ThrowIfNull(builder);
        ArgumentNullException.ThrowIfNull(name);
        return builder.Add(new HealthCheckRegistration(name.Length == 0 ? "connection-pool" : $"connection-pool-{name}", provider => new PoolHealthCheck(Find(provider, name), name), failureStatus, tags));
    }

    static PoolSet Find(IServiceProvider provider, string name) => provider.GetService<PoolSet>()
        ?? throw new InvalidOperationException($"No connection pool is registered. Call services.AddConnectionPool({(name.Length == 0 ? "" : $"\"{name}\"")}).");
}
