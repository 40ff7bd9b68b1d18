using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;
using Warmline.Hosting;

namespace Warmline;

/// <summary>
/// A connection pool that is being added to an application. Whatever the order of the calls: code rules over configuration, and both over a
/// preset.
/// </summary>
public sealed class ConnectionPoolBuilder
{
    readonly PoolRegistration _registration;

    internal ConnectionPoolBuilder(IServiceCollection services, PoolRegistration registration) => (Services, _registration) = (services, registration);

    /// <summary>The pool's name; empty for the default one.</summary>
    public string Name => _registration.Name;

    /// <summary>The application's services.</summary>
    public IServiceCollection Services { get; }

    /// <summary>Reads options from the configuration: those of <see cref="ConnectionPoolOptions"/> by their names, <c>Preset</c> by its
    /// name, and <see cref="PoolHostingOptions"/> below
    /// <c>Hosting</c>. Times have a unit (<c>30s</c>, <c>500ms</c>, <c>2m</c>) or colons. A key that is no option is a mistake and keeps
    /// the application from starting. When the configuration changes, the running pool is changed, or it is logged why not.</summary>
    /// <param name="configuration">The section, like <c>builder.Configuration.GetSection("Llm")</c>.</param>
    public ConnectionPoolBuilder Bind(IConfiguration configuration)
    {
        ArgumentNullException.ThrowIfNull(configuration);
        _registration.Sections.Add(configuration);
        Services.AddSingleton<IOptionsChangeTokenSource<ConnectionPoolOptions>>(new ConfigurationChangeTokenSource<ConnectionPoolOptions>(Name, configuration));
        return this;
    }

    /// <summary>Sets options in code. Called again whenever the configuration changes.</summary>
    public ConnectionPoolBuilder Configure(Action<ConnectionPoolOptions> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        _registration.Code.Add(configure);
        return this;
    }

    /// <summary>Sets in code what the host does with the pool at its start and end.</summary>
    public ConnectionPoolBuilder ConfigureHosting(Action<PoolHostingOptions> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        _registration.HostingCode.Add(configure);
        return this;
    }
}
