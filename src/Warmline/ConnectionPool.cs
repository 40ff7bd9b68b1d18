using System.Diagnostics.Metrics;
using Microsoft.Extensions.Logging;
using Warmline.Options;
using Warmline.Pool;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline;

/// <summary>
/// A pool of connections made for calls to AI APIs. Make one for the application and keep it: it serves any number of hosts and clients.
/// <code>
/// await using var pool = new ConnectionPool();
/// using var client = pool.CreateClient(new Uri("https://api.openai.com/v1"));
/// </code>
/// </summary>
public sealed class ConnectionPool : IAsyncDisposable, IDisposable
{
    readonly PoolEngine _engine;
    readonly AbandonedPoolDetector _detector;

    /// <summary>Makes a pool. Nothing is dialled yet, except for <see cref="OriginOptions.WarmConnections"/>.</summary>
    /// <param name="options">How it behaves; copied, so that later changes need <see cref="TryUpdate"/>. The defaults when null.</param>
    /// <param name="loggerFactory">Where it logs, under the category <c>Warmline</c>, or <c>Warmline.name</c> where
    /// <see cref="ConnectionPoolOptions.Name"/> is set. Nowhere when null.</param>
    /// <param name="timeProvider">Its clock. The system's when null.</param>
    /// <param name="meterFactory">Whose meter <c>Warmline</c> shows it. The process's one when null; either costs nothing until somebody
    /// listens.</param>
    /// <exception cref="ArgumentException">Options are invalid; the message lists every problem with name, value and range.</exception>
    public ConnectionPool(ConnectionPoolOptions? options = null, ILoggerFactory? loggerFactory = null, TimeProvider? timeProvider = null,
        IMeterFactory? meterFactory = null)
        : this(options, loggerFactory, timeProvider, network: null, meterFactory)
    {
    }

    internal ConnectionPool(ConnectionPoolOptions? options, ILoggerFactory? loggerFactory, TimeProvider? timeProvider, INetwork? network,
        IMeterFactory? meterFactory = null)
    {
        var settings = Freeze(options ?? new ConnectionPoolOptions());
#pragma warning disable RS0030 // The outermost entry: the one place that may name the system's clock.
        var logger = QuietLogger.Of(loggerFactory, settings.Name is null ? "Warmline" : $"Warmline.{settings.Name}");
        var time = timeProvider ?? TimeProvider.System;
        if (time == TimeProvider.System)   // any other is turned by hand, and knows nothing of this process's threads
        {
            time = new PoolTime(
                time, static work => ThreadPool.UnsafeQueueUserWorkItem(static work => work(), work, preferLocal: false), static () =>
                    ThreadPool.CompletedWorkItemCount);
        }

        _engine = new PoolEngine(settings, logger, time, network ?? new SystemNetwork(settings.TcpKeepAlive), meterFactory);
#pragma warning restore RS0030
        _detector = new AbandonedPoolDetector(_engine.Advice);
    }

    /// <summary>What metrics, spans and logs call it: <see cref="ConnectionPoolOptions.Name"/>, or <c>default</c>.</summary>
    public string Name => _engine.Name;

    /// <summary>
    /// An ordinary client on this pool. Its own timeout is infinite: the pool's clocks rule. Disposing it leaves the pool open.
    /// </summary>
    /// <param name="baseAddress">The address that relative ones start from; a missing final slash is added, so that <c>/v1</c> is not
    /// lost.</param>
    /// <param name="defaults">What its calls want of the pool where they do not say.</param>
    /// <exception cref="ArgumentException">The address is not absolute http or https, or the defaults are out of range.</exception>
    public HttpClient CreateClient(Uri? baseAddress = null, PoolRequestOptions? defaults = null)
    {
        if (baseAddress is not null)
        {
            CheckOrigin(baseAddress, nameof(baseAddress));
            baseAddress = baseAddress.AbsolutePath.EndsWith('/')
                ? baseAddress : new UriBuilder(baseAddress) { Path = baseAddress.AbsolutePath + "/" }.Uri;
        }

        return new HttpClient(CreateHandler(defaults)) { BaseAddress = baseAddress, Timeout = Timeout.InfiniteTimeSpan };
    }

    /// <summary>
    /// A handler on this pool, for an <see cref="HttpClient"/> or <see cref="HttpMessageInvoker"/> of your own. Disposing it does nothing.
    /// </summary>
    /// <param name="defaults">What its calls want of the pool where they do not say.</param>
    /// <exception cref="ArgumentException">The defaults are out of range.</exception>
    public HttpMessageHandler CreateHandler(PoolRequestOptions? defaults = null)
    {
        if (defaults is not null)
        {
            Check(defaults);
        }

        return new PooledHandler(_engine, defaults);
    }

    /// <summary>
    /// Opens connections ahead of the calls that will need them and completes when they are ready: TCP, TLS and the server's HTTP/2
    /// SETTINGS are through.
    /// </summary>
    /// <param name="origin">Where to; a path is ignored.</param>
    /// <param name="connections">How many should be ready. Range: 1 to <see cref="ConnectionPoolOptions.MaxIdleConnections"/>, or they
    /// would be closed again.</param>
    /// <param name="cancellationToken">Ends the wait; dials under way go on.</param>
    /// <returns>How many are ready: fewer than asked for when some dials failed or no more connections are allowed.</returns>
    /// <exception cref="PoolConnectException">None could be opened.</exception>
    /// <exception cref="PoolRejectedException">None may be opened: all connections are in use, or the pool drains.</exception>
    public Task<int> WarmUpAsync(Uri origin, int connections = 1, CancellationToken cancellationToken = default)
    {
        CheckOrigin(origin, nameof(origin));
        var most = Math.Min(_engine.Settings.MaxIdleConnections, _engine.Settings.MaxConnectionsPerHost);
        if (connections < 1 || connections > most)
        {
            throw new ArgumentOutOfRangeException(nameof(connections), connections, $"Must be 1 to {most} (the smaller of MaxIdleConnections and MaxConnectionsPerHost): idle connections beyond it would be closed again. Raise MaxIdleConnections.");
        }

        return _engine.WarmUp.RunAsync(PoolSettings.KeyOf(origin, _engine.Settings.Http2Mode, _engine.Proxy), connections,
            cancellationToken);
    }

    /// <summary>What the pool did and does.</summary>
    public PoolStats GetStats() => _engine.GetStats();

    /// <summary>Who waits for a place, and for what.</summary>
    /// <param name="max">The most to list. Range: 1 and up.</param>
    public IReadOnlyList<WaiterInfo> GetWaiters(int max = 100)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(max, 1);
        return _engine.Core.Read((scheduler, now) => scheduler.Waiters(now, max));
    }

    /// <summary>Which requests are in flight.</summary>
    /// <param name="max">The most to list. Range: 1 and up.</param>
    public IReadOnlyList<StreamInfo> GetStreams(int max = 100)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(max, 1);
        return _engine.Core.Read<IReadOnlyList<StreamInfo>>((scheduler, now) =>
            [.. scheduler.Leased().Take(max).Select(call => ((PooledCall)call).Describe(now))]);
    }

    /// <summary>Places and dials nothing for an origin until <see cref="Resume"/>; running calls go on, new ones wait.</summary>
    /// <param name="origin">Which; all when null.</param>
    /// <param name="atLeast">How long the pause will last in any case, if that is known: a call whose wait would end before is refused at
    /// once. It does not end the pause. Range: above 0, 24 days at most.</param>
    /// <exception cref="ArgumentException">The origin is not absolute http or https, or the time is out of range.</exception>
    public void Pause(Uri? origin = null, TimeSpan? atLeast = null)
    {
        if (atLeast is { } time && (time <= TimeSpan.Zero || time.TotalDays > 24))
        {
            throw new ArgumentOutOfRangeException(nameof(atLeast), atLeast, "Must be above 0 and at most 24 days, or left out.");
        }

        SetPaused(origin, isPaused: true, atLeast ?? TimeSpan.Zero);
    }

    /// <summary>Ends a <see cref="Pause"/>.</summary>
    /// <param name="origin">Which; all when null: that ends a pause of all, not those of single origins.</param>
    public void Resume(Uri? origin = null) => SetPaused(origin, isPaused: false, TimeSpan.Zero);

    /// <summary>
    /// Replaces the connections to an origin: idle ones close now, busy ones when their calls have ended, new calls ride new ones.
    /// </summary>
    /// <param name="origin">Which; all when null.</param>
    public void Reconnect(Uri? origin = null) => _engine.Names.Reconnect(OriginOf(origin));

    /// <summary>
    /// Changes limits, timeouts, lanes, tenants, pacing, warm connections and <see cref="ConnectionPoolOptions.Enabled"/> while the pool
    /// runs. Connections beyond a lowered limit end when their calls have.
    /// </summary>
    /// <returns>False, and nothing changed, when the options differ in what is fixed for a pool's life: the name, HTTP/2 mode and pings,
    /// DNS, TCP, TLS, the proxy, tenants' isolation, the stats log.</returns>
    /// <exception cref="ArgumentException">Options are invalid; the message lists every problem.</exception>
    public bool TryUpdate(ConnectionPoolOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        return _engine.Lifetime.TryUpdate(Freeze(options)).Count == 0;
    }

    /// <summary>Takes no new calls, for good, and waits for the running ones; what still runs at the deadline is aborted.</summary>
    /// <param name="deadline">How long to wait. Range: 0 and up, or infinite.</param>
    /// <param name="cancellationToken">Ends the wait without aborting anything.</param>
    /// <returns>The calls that had to be cut; they fail with <see cref="PoolAbortedException"/>.</returns>
    public Task<IReadOnlyList<StreamInfo>> DrainAsync(TimeSpan deadline, CancellationToken cancellationToken = default)
    {
        if (deadline < TimeSpan.Zero && deadline != Timeout.InfiniteTimeSpan)
        {
            throw new ArgumentOutOfRangeException(nameof(deadline), deadline, "Must be 0 or more, or Timeout.InfiniteTimeSpan.");
        }

        return _engine.Lifetime.DrainAsync(deadline, PoolRejectionReason.Draining, cancellationToken);
    }

    /// <summary>Aborts what runs and closes every connection. To let calls end, <see cref="DrainAsync"/> first.</summary>
    public ValueTask DisposeAsync() => _engine.DisposeAsync();

    /// <inheritdoc cref="DisposeAsync"/>
    public void Dispose() => DisposeAsync().AsTask().GetAwaiter().GetResult();

    /// <summary>The line of <see cref="GetStats"/>.</summary>
    public override string ToString() => GetStats().ToString();

    internal PoolEngine Engine => _engine;

    internal static void Check(PoolRequestOptions options)
    {
        if (options.IsChecked)
        {
            return;
        }

        var problems = new List<string>();
        PoolSettings.CheckRequest(options.Lane, options.Tenant, options.Priority, options.MaxQueueTime, options.Timeouts, problems);
        ThrowIfAny(problems, nameof(PoolRequestOptions));
        options.IsChecked = true;
    }

    internal static PoolSettings Freeze(ConnectionPoolOptions options)
    {
        var problems = new List<string>();
        var settings = PoolSettings.Freeze(options, problems);
        ThrowIfAny(problems, nameof(ConnectionPoolOptions));
        return settings!;
    }

    static void ThrowIfAny(List<string> problems, string what)
    {
        if (problems.Count > 0)
        {
            throw new ArgumentException($"Invalid {what}: {string.Join(" ", problems)}");
        }
    }

    void SetPaused(Uri? origin, bool isPaused, TimeSpan atLeast) =>
        _engine.Core.Play((origin: OriginOf(origin), isPaused, atLeast), static (scheduler, pause, now, actions) =>
        scheduler.SetPaused(pause.origin, pause.isPaused, now, actions, pause.atLeast));

    static void CheckOrigin(Uri origin, string name)
    {
        ArgumentNullException.ThrowIfNull(origin, name);
        if (!origin.IsAbsoluteUri || (origin.Scheme != Uri.UriSchemeHttps && origin.Scheme != Uri.UriSchemeHttp))
        {
            throw new ArgumentException($"'{origin}' is not an absolute http or https address, like https://api.openai.com.", name);
        }
    }

    static string? OriginOf(Uri? origin)
    {
        if (origin is null)
        {
            return null;
        }

        CheckOrigin(origin, nameof(origin));
        return PoolSettings.KeyOf(origin, Http2Mode.Preferred).Origin;
    }
}
