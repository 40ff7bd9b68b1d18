using System.Buffers;
using System.Diagnostics.Metrics;
using System.Net;
using Microsoft.Extensions.Logging;
using Warmline.Options;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline.Pool;

/// <summary>
/// A pool's parts, and what they share. Each part has one concern; this class only builds them and hands the scheduler's actions to them.
/// </summary>
internal sealed class PoolEngine : IMeasuredPool, IAsyncDisposable
{
    readonly ITimer? _statsLog;

    public PoolEngine(PoolSettings settings, ILogger logger, TimeProvider time, INetwork network, IMeterFactory? meters = null)
    {
        Settings = settings;
        Name = settings.Name ?? PoolSettings.DefaultName;
        Logger = logger;
        Time = time;
        Background = new Background(logger, time);
        Standstill = new StandstillWatch(this);
        var progress = new DrainProgress();
        Lifetime = new PoolLifetime(this, progress);
        var scheduler = new Scheduler(SchedulerLimits.From(settings), Random.Shared.Next());
        Core = new PoolCore(scheduler, new SleepWatch(time, () => Standstill.Lost), progress, time, Background) { Execute = Execute };
        Advice = new PoolAdvice(this);
        Plain = new PlainRoute(this);
        Figures = new PoolFigures(this);
        Placement = new CallPlacement(this);
        Held = new HeldWatch(this);
        WarmUp = new PoolWarmUp(this);
        Providers = new ProviderReader(this);
        Access = new ProxyAccess(this);
        if (network is SystemNetwork system)
        {
            system.Refused = (option, error) => LogMessages.SocketOptionRefused(logger, option, error);
        }

        var names = new DnsCache(network, settings.Dns, time);
        Names = new NameRefresh(this, names);
        var dialer = new Dialer(network, names, settings.SslOptions, settings.Http2Mode, time, Proxy) { UserAgent = Access.UserAgentFor };
        Connector = new PoolConnector(this, dialer, names, settings.Http2);
        Network = new NetworkWatch(this, network);
        Leaks = new LeakWatch(this);
        using (Background.SuppressFlow())
        {
            Clock = new CoarseClock(time, CoarseClock.ResolutionFor([.. settings.Sharing.Lanes.Values.Select(lane => lane.Timeouts)
                .Append(settings.Timeouts).SelectMany(static clocks => clocks.Watched)]));
        }

        _statsLog = settings.StatsLogInterval is { } interval
            ? Background.CreateTimer(this, static pool =>
                LogMessages.StatsLine(pool.Logger, pool.GetStats(detailed: false)), interval, interval)
            : null;
        ProcessPools.Add(this);
        if (!settings.Enabled)
        {
            Advice.LogSwitch(false);
        }

        Background.Run(Advice, static advice => advice.CheckNoProxy());
        Metrics = PoolMetrics.For(meters).Add(this);
        Lifetime.KeepWarm(settings.WarmConnections);
    }

    public string Name { get; }

    /// <summary>Written by <see cref="PoolLifetime.TryUpdate"/> alone, under the pool's lock.</summary>
    public PoolSettings Settings { get; set; }

    public ILogger Logger { get; }

    public TimeProvider Time { get; }

    public Background Background { get; }

    public PoolCore Core { get; }

    public PoolConnector Connector { get; }

    public PoolLifetime Lifetime { get; }

    public CallPlacement Placement { get; }

    public PoolWarmUp WarmUp { get; }

    public PoolFigures Figures { get; }

    public PoolAdvice Advice { get; }

    public ProviderReader Providers { get; }

    public ProxyAccess Access { get; }

    public PlainRoute Plain { get; }

    public NetworkWatch Network { get; }

    public NameRefresh Names { get; }

    public LeakWatch Leaks { get; }

    public HeldWatch Held { get; }

    public StandstillWatch Standstill { get; }

    public CoarseClock Clock { get; }

    /// <summary>The pool among those that the metrics show.</summary>
    public PoolMetrics.Membership Metrics { get; }

    /// <summary>Where the buffers for request bodies come from.</summary>
    public ArrayPool<byte> Buffers { get; set; } = ArrayPool<byte>.Shared;

    public IWebProxy? Proxy => Access.Proxy;

    public TimeSpan Now => Core.Now;

    public bool NamesTenants => Settings.Sharing.Named.Count > 0;

    public PoolStats GetStats(bool detailed = true) => Figures.GetStats(detailed);

    public ValueTask DisposeAsync() => Lifetime.DisposeAsync();

    /// <summary>Ends timers and whatever else runs. Each part may be disposed again.</summary>
    public async ValueTask DisposePartsAsync()
    {
        await Core.DisposeAsync().ConfigureAwait(false);
        await Names.DisposeAsync().ConfigureAwait(false);
        await Leaks.DisposeAsync().ConfigureAwait(false);
        await Held.DisposeAsync().ConfigureAwait(false);
        Network.Dispose();
        if (_statsLog is not null)
        {
            await _statsLog.DisposeAsync().ConfigureAwait(false);
        }

        Clock.Dispose();
        Connector.Dispose();
        Plain.Dispose();
        Metrics.Dispose();
        (Time as PoolTime)?.Dispose();
        ProcessPools.Remove(this);
    }

    /// <summary>Carries out what the scheduler decided. Runs outside the lock.</summary>
    void Execute(SchedulerAction action)
    {
        switch (action.Kind)
        {
            case ActionKind.Grant or ActionKind.Refuse:
                ((PooledCall)action.Waiter).Place(action);
                break;
            case ActionKind.Dial:
                Standstill.Watch();
                Connector.BeginDial(action.Connection);
                if (action.Advice is { } advice)
                {
                    Advice.LogExpiry(action.Connection.Key.Key.Origin, advice);
                }

                break;
            case ActionKind.Prime:
                Connector.BeginPrime(action.Connection);
                break;
            case ActionKind.SettingsOverdue:
                Connector.SettingsOverdue(action.Connection);
                break;
            case ActionKind.Distrust:
                Connector.Distrust(action.Connection);
                break;
            case ActionKind.GiveUpDial:
                PoolConnector.GiveUp(action.Connection);
                break;
            case ActionKind.Close:
                ((Slot)action.Connection.Slot!).Close();
                break;
            case ActionKind.Drop:
                ((Slot)action.Connection.Slot!).Drop();
                break;
            case ActionKind.WakeAt:
                Core.WakeAt(action.At);
                break;
            case ActionKind.WarmUpEnded:
                action.WarmUp.Ended.TrySetResult();
                break;
            case ActionKind.Http2Avoided:
                Placement.Http2Avoided();
                Advice.LogCause(action);
                break;
            case ActionKind.Flushed or ActionKind.IdleLimitLearned or ActionKind.WarmthIsCostly or ActionKind.UtilizationHigh:
                Advice.LogCause(action);
                break;
        }
    }
}
