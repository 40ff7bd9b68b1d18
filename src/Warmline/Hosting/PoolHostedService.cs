using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Warmline.Hosting;

/// <summary>
/// Ties the pools to the host's life. They are made and warm before any service starts, so before a server listens. They drain after every
/// service has stopped, so while a server lets its running requests end, these can still make calls. The deadline counts from the first
/// sign of the end: a server may take all of the host's time to wait for streams, and those must be cut, with a reason, while it can still
/// tell its clients.
/// </summary>
internal sealed class PoolHostedService(PoolSet pools, IServiceProvider services) : IHostedLifecycleService, IDisposable
{
    readonly TimeProvider _time = services.GetService<TimeProvider>() ?? SystemTime();
    readonly ILogger _logger = QuietLogger.Of(services.GetService<ILoggerFactory>(), "Warmline");
    readonly List<(string Name, ConnectionPool Pool, PoolHostingOptions Hosting)> _made = [];
    readonly List<(ConnectionPool Pool, TimeSpan Limit)> _stopping = [];
    readonly List<ITimer> _deadlines = [];
    long _stoppingSince;

    /// <exception cref="OptionsValidationException">Options of a pool are invalid; names every problem of every pool.</exception>
    /// <exception cref="InvalidOperationException">Warm connections that are required are not ready.</exception>
    public async Task StartingAsync(CancellationToken cancellationToken)
    {
        var failures = new List<string>();
        foreach (var name in pools.Names)
        {
            var hosting = Collect(failures, () => pools.HostingOf(name));
            if (Collect(failures, () => pools.Get(name)) is { } pool && hosting is not null)
            {
                _made.Add((name, pool, hosting));
            }
        }

        if (failures.Count > 0)
        {
            throw new OptionsValidationException("ConnectionPool", typeof(ConnectionPoolOptions), failures);
        }

        await Task.WhenAll(_made.Select(each => WarmAsync(each.Name, each.Pool, each.Hosting, cancellationToken))).ConfigureAwait(false);
    }

    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppingAsync(CancellationToken cancellationToken)
    {
        _stoppingSince = _time.GetTimestamp();
        foreach (var (name, pool, atStart) in _made)
        {
            // The configuration may have changed since, and not for the better.
            var hosting = Collect([], () => pools.HostingOf(name)) ?? atStart;
            var limit = hosting.DrainTimeout ?? HostShutdown.DrainTimeout(services);
            _stopping.Add((pool, limit));
            LogMessages.HostStops(_logger, PoolSet.Show(name), limit.TotalSeconds);
            _deadlines.Add(_time.CreateTimer(static state => _ = ((ConnectionPool)state!).DrainAsync(TimeSpan.Zero), pool, limit, Timeout.InfiniteTimeSpan));
        }

        return Task.CompletedTask;
    }

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public async Task StoppedAsync(CancellationToken cancellationToken)
    {
        var elapsed = _time.GetElapsedTime(_stoppingSince);
        await Task.WhenAll(_stopping.Select(each =>
            each.Pool.DrainAsync(each.Limit == Timeout.InfiniteTimeSpan ? each.Limit : each.Limit > elapsed ? each.Limit - elapsed : TimeSpan.Zero, cancellationToken))).ConfigureAwait(false);
        Dispose();
    }

    public void Dispose() => _deadlines.ForEach(deadline => deadline.Dispose());

    static T? Collect<T>(List<string> failures, Func<T> make)
        where T : class
    {
        try
        {
            return make();
        }
        catch (OptionsValidationException invalid)
        {
            failures.AddRange(invalid.Failures);
            return null;
        }
    }

    async Task WarmAsync(string name, ConnectionPool pool, PoolHostingOptions hosting, CancellationToken cancellationToken)
    {
        using var timeout = new CancellationTokenSource(hosting.WarmUpTimeout, _time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(timeout.Token, cancellationToken);
        var missing = await Task.WhenAll(pool.Engine.Settings.WarmConnections.Select(async warm =>
        {
            var (ready, cause) = await pool.Engine.WarmUp.TryRunAsync(warm.Key, warm.Value, either.Token).ConfigureAwait(false);
            cancellationToken.ThrowIfCancellationRequested();
            if (ready >= warm.Value)
            {
                LogMessages.WarmedUp(_logger, PoolSet.Show(name), ready, warm.Value, warm.Key.Origin);
                return null;
            }

            var why = cause switch
            {
                OperationCanceledException => $"they were not ready within {hosting.WarmUpTimeout.TotalSeconds:0.###} s (Hosting.WarmUpTimeout)",
                null => "dials failed, or no more connections are allowed",
                _ => cause.Message,
            };
            if (!hosting.RequireWarmUp)
            {
                LogMessages.WarmUpFailed(_logger, PoolSet.Show(name), ready, warm.Value, warm.Key.Origin, why);
            }

            return $"{ready} of {warm.Value} warm connections to {warm.Key.Origin} are ready: {why}.";
        })).ConfigureAwait(false);

        if (hosting.RequireWarmUp && missing.Any(what => what is not null))
        {
            throw new InvalidOperationException($"The connection pool '{PoolSet.Show(name)}' is not warm, and Hosting.RequireWarmUp forbids to start without: {string.Join(" ", missing.Where(what => what is not null))}");
        }
    }

    static TimeProvider SystemTime()
    {
#pragma warning disable RS0030 // The outermost entry: a host without a clock of its own means the system's.
        return TimeProvider.System;
#pragma warning restore RS0030
    }
}
