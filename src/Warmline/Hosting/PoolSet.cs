using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Options;
using Microsoft.Extensions.Primitives;

namespace Warmline.Hosting;

/// <summary>
/// The pools of one service provider: made when first asked for, kept up to date with their configuration, disposed with the provider.
/// </summary>
internal sealed class PoolSet : IAsyncDisposable, IDisposable
{
    readonly Lock _gate = new();
    readonly PoolRegistrations _registrations;
    readonly IServiceProvider _services;
    readonly ILoggerFactory _loggers;
    readonly ILogger _logger;
    readonly Dictionary<string, ConnectionPool> _pools = [];
    readonly List<IDisposable> _subscriptions = [];
    bool _disposed;

    public PoolSet(PoolRegistrations registrations, IServiceProvider services)
    {
        _registrations = registrations;
        _services = services;
        _loggers = services.GetService<ILoggerFactory>() ?? NullLoggerFactory.Instance;
        _logger = QuietLogger.Of(_loggers, "Warmline");
    }

    /// <summary>Every name, as it was registered.</summary>
    public IEnumerable<string> Names => _registrations.All.Select(pool => pool.Name);

    public static string Show(string name) => name.Length == 0 ? "default" : name;

    /// <summary>The pool of that name; without a name the default one or, where there is none, the only one.</summary>
    /// <exception cref="InvalidOperationException">There is no such pool, or there are several to choose from.</exception>
    /// <exception cref="OptionsValidationException">Its options are invalid.</exception>
    public ConnectionPool Get(string name)
    {
        if (name.Length == 0 && _registrations.Find(name) is null && _registrations.All is [var only])
        {
            name = only.Name;
        }

        if (_registrations.Find(name) is null)
        {
            throw new InvalidOperationException(name.Length == 0
                ? $"Several connection pools are registered and none of them as the default: ask for one by name ({string.Join(", ", Names)}), or call AddConnectionPool without a name."
                : $"No connection pool '{name}' is registered (there are: {string.Join(", ", Names.Select(Show))}). Call services.AddConnectionPool(\"{name}\").");
        }

        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            return _pools.TryGetValue(name, out var pool) ? pool : Make_NeedsLock(name);
        }
    }

    public PoolHostingOptions HostingOf(string name) => _services.GetRequiredService<IOptionsFactory<PoolHostingOptions>>().Create(name);

    public async ValueTask DisposeAsync()
    {
        // All begin to end before the first is waited for, so one that fails keeps none of the others.
        await Task.WhenAll(Array.ConvertAll(End(), static pool => pool.DisposeAsync().AsTask())).ConfigureAwait(false);
    }

    public void Dispose() => DisposeAsync().AsTask().GetAwaiter().GetResult();

    ConnectionPool Make_NeedsLock(string name)
    {
        var options = _services.GetRequiredService<IOptionsFactory<ConnectionPoolOptions>>().Create(name);
        var pool = new ConnectionPool(options, _loggers, _services.GetService<TimeProvider>(), _services.GetService<IMeterFactory>());
        _pools.Add(name, pool);
        foreach (var source in _services.GetServices<IOptionsChangeTokenSource<ConnectionPoolOptions>>().Where(source => source.Name is null || source.Name == name))
        {
            _subscriptions.Add(ChangeToken.OnChange(source.GetChangeToken, () => Reload(name, pool, options)));
        }

        return pool;
    }

    /// <summary>A reload never throws: it runs on the thread of whoever watches the configuration, where nobody would see it.</summary>
    void Reload(string name, ConnectionPool pool, ConnectionPoolOptions first)
    {
        lock (_gate)   // two changes at once: the later one must win
        {
            if (_disposed)
            {
                return;
            }

            try
            {
                var options = _services.GetRequiredService<IOptionsFactory<ConnectionPoolOptions>>().Create(name);
                var current = pool.Engine.Settings;

                // They cannot come from the configuration, and code that makes them anew each time means the same by them.
                options.SslOptions = options.SslOptions is null ? null : first.SslOptions ?? options.SslOptions;
                options.Proxy = options.Proxy is null ? null : first.Proxy ?? options.Proxy;
                var settings = ConnectionPool.Freeze(options);
                if (current.IsSameAs(settings))
                {
                    return;
                }

                if (pool.Engine.Lifetime.TryUpdate(settings) is { Count: > 0 } fixedNames)
                {
                    LogMessages.ReloadNeedsRestart(_logger, Show(name), string.Join(", ", fixedNames));
                }
                else
                {
                    LogMessages.Reloaded(_logger, Show(name));
                }
            }
            catch (Exception error)
            {
                LogMessages.ReloadInvalid(_logger, Show(name), error.Message);
            }
        }
    }

    ConnectionPool[] End()
    {
        lock (_gate)
        {
            _disposed = true;
            foreach (var subscription in _subscriptions)
            {
                try
                {
                    subscription.Dispose();
                }
                catch (Exception error)   // a change token of the host's: the pools are still to be ended
                {
                    LogMessages.InternalFault(_logger, error);
                }
            }

            _subscriptions.Clear();
            return [.. _pools.Values];
        }
    }
}
