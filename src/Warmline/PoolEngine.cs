using System.Buffers;
using System.Diagnostics;
using System.Diagnostics.Metrics;
using Microsoft.Extensions.Logging;
using Warmline.Options;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline;

/// <summary>
/// The shell around the scheduler: the pool's one lock, its one timer, and the hands that carry out what was decided. Every event is played under the lock and
/// returns actions; they run after it: what they do (dial, close, wake a caller) can take the lock again, on this thread or another.
/// </summary>
internal sealed partial class PoolEngine
{
    [ThreadStatic]
    static List<SchedulerAction>? _spareActions;

    readonly Lock _gate = new();
    readonly Lock _timerGate = new();
    readonly Scheduler _scheduler;
    readonly Connector _connector;
    readonly TimeProvider _time;
    readonly ILogger _logger;
    readonly ITimer _timer;
    readonly IdleWatch _idleWatch;
    readonly INetwork _network;
    readonly ITimer? _statsLog;
    readonly long _start;
    readonly PoolTime? _poolTime;
    readonly Func<bool> _isBusy;
    TimeSpan _wakeAt = TimeSpan.MaxValue;

    public PoolEngine(PoolSettings settings, ILogger logger, TimeProvider time, INetwork network, IMeterFactory? meters = null)
    {
        Settings = settings;
        Name = settings.Name ?? PoolSettings.DefaultName;
        _network = network;
        PoolCensus.Add(this);
        _logger = logger;
        _isBusy = IsBusy;
        if (time is PoolTime poolTime)
        {
            _poolTime = poolTime;
            poolTime.StoodStill = TellStandstill;
        }

        _time = time;
        _start = time.GetTimestamp();
        _wallAt = time.GetUtcNow();
        _scheduler = new Scheduler(SchedulerLimits.From(settings), Random.Shared.Next());
        _names = new DnsCache(network, settings.Dns, time) { Answered = Answered };
        if (network is SystemNetwork system)
        {
            system.Refused = (option, error) => LogMessages.SocketOptionRefused(_logger, option, error);
        }

        Proxy = Guard(settings.Proxy);
        var dialer = new Dialer(network, _names, settings.SslOptions, settings.Http2Mode, time, Proxy) { UserAgent = UserAgentFor };
        _connector = new Connector(this, dialer, _names, settings.Http2, time, logger);

        // Timers must not carry the context of whoever happened to make the pool.
        using (SuppressFlow())
        {
            Clock = new CoarseClock(time, CoarseClock.ResolutionFor([.. settings.Sharing.Lanes.Values.Select(lane => lane.Timeouts).Append(settings.Timeouts).SelectMany(static clocks => clocks.Watched)]));
            _timer = CreateTimer(static engine => engine.Tick(), Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
            _namesTimer = CreateTimer(static engine => engine.RefreshNames(), Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
            _idleWatch = new IdleWatch(time, settings.TcpKeepAlive.Interval, FindQuiet);
            _leakTimer = CreateTimer(static engine => engine.LookForLeaks(), Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
            _statsLog = settings.StatsLogInterval is { } interval
                ? CreateTimer(static engine => engine.LogStats(), interval, interval)
                : null;
        }

        if (!settings.Enabled)
        {
            Safely(false, static (engine, isOn) => engine.LogSwitch(isOn));
        }

        Safely(0, static (engine, _) => engine.CheckNoProxy());
        _retryBudget = settings.RetryBudget;
        Metrics = PoolMetrics.For(meters).Add(this);
        SetLeakWatch();
        foreach (var (key, connections) in settings.WarmConnections)
        {
            KeepWarm(key, connections);
        }
    }

    public delegate void Event<in T>(Scheduler scheduler, T argument, TimeSpan now, List<SchedulerAction> actions);

    public PoolSettings Settings { get; private set; }

    public CoarseClock Clock { get; }

    public TimeProvider Time => _time;

    public TimeSpan Now => _time.GetElapsedTime(_start);

    /// <summary>Where the buffers for request bodies come from.</summary>
    public ArrayPool<byte> Buffers { get; set; } = ArrayPool<byte>.Shared;

    /// <summary>Where a call comes from, if leaks are looked for.</summary>
    public StackTrace? StackOfCall() => Settings.LeakThreshold is null ? null : new StackTrace(skipFrames: 2);

    public PooledCall CreateRequest(in CallOptions options, LaneSettings? lane, StackTrace? stack, CancellationToken caller) => new(this, options.Over(lane?.Timeouts ?? Settings.Timeouts), caller)
    {
        LaneName = lane?.Name ?? "",
        TenantName = options.Tenant ?? "",
        Priority = options.Priority,
        TakenBy = stack,
    };

    /// <summary>Waits until the call has its place.</summary>
    /// <exception cref="PoolRejectedException">It gets none.</exception>
    public ValueTask AcquireAsync(PooledCall call, ConnectionKey key, string? userAgent, CancellationToken caller)
    {
        if (caller.IsCancellationRequested)
        {
            return ValueTask.FromCanceled(caller);
        }

        var actions = RentActions();
        lock (_gate)
        {
            var now = Now;
            call.Deadline = DeadlineOf(call.Timeouts, now);
            LookAtClock(now, actions);
            _scheduler.Acquire(call, key, now, actions);
            if (userAgent is not null)
            {
                SetUserAgent_NeedsLock(call.Key, userAgent);   // before its dial begins
            }

            NoteReason_NeedsLock(call);
        }

        Run(actions);
        return PlacedAsync(call, caller);
    }

    public ValueTask ReacquireAsync(PooledCall call, CancellationToken caller) => PlacedAsync(call, caller);

    public void UploadEnded(PooledCall call)
    {
        lock (_gate)
        {
            _scheduler.UploadEnded(call);
        }
    }

    public void Release(PooledCall call, LeaseOutcome outcome)
    {
        var actions = RentActions();
        var idle = false;
        var hasEnded = call.Slot.HasEnded;   // before it is offered to the next call, which would find it closed
        lock (_gate)
        {
            call.Connection!.HasEnded |= hasEnded;
            _scheduler.Release(call, outcome, Now, actions);
            if (outcome is LeaseOutcome.Reusable)
            {
                EarnRetry_NeedsLock();
            }

            idle = call.Connection is { IsIdle: true, IsHttp2: false };
            NoteEnds();
        }

        Run(actions);
        if (idle)
        {
            _idleWatch.Arm();
        }
    }

    public void SetPaused(string? origin, bool paused, TimeSpan atLeast = default) =>
        Play((origin, paused, atLeast), static (scheduler, pause, now, actions) => scheduler.SetPaused(pause.origin, pause.paused, now, actions, pause.atLeast));

    public void Retire(string? origin)
    {
        // The new connections should not go by what was known of the old ones.
        _names.Invalidate(origin is null ? null : new Uri(origin).IdnHost);
        Play(origin, static (scheduler, origin, now, actions) => scheduler.Retire(origin, now, actions));
    }

    public PoolStats GetStats(bool detailed = true) => Complete(Read((scheduler, now) => scheduler.Stats(now, detailed)));

    PoolStats Complete(PoolStats stats) => stats with { Name = Name, Age = Now, Streaming = Volatile.Read(ref _streams), Enabled = Settings.Enabled, Bypassed = Interlocked.Read(ref _bypassed), Faults = GetFaults() };

    public IReadOnlyList<WaiterInfo> GetWaiters(int max) => Read((scheduler, now) => scheduler.Waiters(now, max));

    public IReadOnlyList<StreamInfo> GetStreams(int max) => Read<IReadOnlyList<StreamInfo>>((scheduler, now) => [.. scheduler.Leased().Take(max).Select(call => ((PooledCall)call).Describe(now))]);

    async ValueTask PlacedAsync(PooledCall call, CancellationToken caller)
    {
        var placed = call.PlacedAsync();
        var lost = LostTime;
        if (placed.IsCompleted)
        {
            await placed.ConfigureAwait(false);
        }
        else
        {
            _poolTime?.Watch(_isBusy);
            Safely(call, static (engine, call) => engine.WatchHeld(call));
            var wait = CallTelemetry.BeginWait(call);
            try
            {
                using (caller.UnsafeRegister(static state => ((PooledCall)state!).CancelWait(), call))
                {
                    await placed.ConfigureAwait(false);
                }
            }
            finally
            {
                wait?.StopAnywhere();
            }
        }

        if (call.Refusal is { } action)
        {
            throw RefusalOf(call, action, LostTime - lost);
        }

        Safely(call, static (_, call) => CallTelemetry.RecordPlace(call));   // the call has its lease: nothing may end it here
    }

    internal void Cancel(PooledCall call)
    {
        var actions = RentActions();
        bool gaveUp;
        lock (_gate)
        {
            gaveUp = call.State is WaiterState.Waiting;
            _scheduler.Cancel(call, Now, actions);
        }

        // A call that was granted in the same moment goes on and sees the cancelled token at its next step: it has a lease to give back.
        if (gaveUp)
        {
            call.GiveUp();
        }

        Run(actions);
    }

    void Tick()
    {
        lock (_timerGate)
        {
            _wakeAt = TimeSpan.MaxValue;
        }

        Play(0, static (scheduler, _, now, actions) => scheduler.Tick(now, actions));
    }

    /// <summary>Plays an event that needs no answer of its own, and runs what follows from it.</summary>
    public void Play<T>(T argument, Event<T> play)
    {
        var actions = RentActions();
        lock (_gate)
        {
            var now = Now;
            LookAtClock(now, actions);
            play(_scheduler, argument, now, actions);
            NoteEnds();
        }

        Run(actions);
    }

    T Read<T>(Func<Scheduler, TimeSpan, T> read)
    {
        lock (_gate)
        {
            return read(_scheduler, Now);
        }
    }

    void Run(List<SchedulerAction> actions)
    {
        foreach (var action in actions)
        {
            try
            {
                Run(action);
            }
            catch (Exception error)
            {
                LogFault(error);   // the other actions must run all the same
            }
        }

        actions.Clear();
        _spareActions = actions;
    }

    void Run(SchedulerAction action)
    {
        switch (action.Kind)
        {
            case ActionKind.Grant or ActionKind.Refuse:
                ((PooledCall)action.Waiter).Place(action);
                break;
            case ActionKind.Dial:
                _poolTime?.Watch(_isBusy);
                RunApart((_connector, action.Connection, Settings.ConnectTimeout), static dial => _ = dial._connector.DialAsync(dial.Connection, dial.ConnectTimeout));
                if (action.Advice is { } advice)
                {
                    TellExpiry(action.Connection.Key.Key.Origin, advice);
                }

                break;
            case ActionKind.Prime:
                Prime(action.Connection);
                break;
            case ActionKind.SettingsOverdue:
                _connector.SettingsOverdue(action.Connection, Settings.ConnectTimeout);
                break;
            case ActionKind.Distrust:
                _connector.Distrust(action.Connection);
                break;
            case ActionKind.GiveUpDial:
                _connector.GiveUp(action.Connection);
                break;
            case ActionKind.WarmthIsCostly:
                TellCostlyWarmth(((KeyState)action.Target!).Key.Origin, action.At, action.Active);
                break;
            case ActionKind.Close:
                ((Slot)action.Connection.Slot!).Close();
                break;
            case ActionKind.Drop:
                ((Slot)action.Connection.Slot!).Drop();
                break;
            case ActionKind.Flushed or ActionKind.IdleLimitLearned:
                TellTrust(action);
                break;
            case ActionKind.Http2Avoided:
                ReportHttp2Avoided(action);
                break;
            case ActionKind.WakeAt:
                WakeAt(action.At);
                break;
            case ActionKind.WarmUpEnded:
                action.WarmUp.Ended.TrySetResult();
                break;
            case ActionKind.UtilizationHigh:
                LogMessages.UtilizationHigh(_logger, action.Active, action.Limit, (int)(action.Active * 100L / action.Limit), ((KeyState)action.Target!).Key.Origin);
                break;
        }
    }

    public void Prime(ConnectionState connection) =>
        RunApart((_connector, connection), static prime => _ = prime._connector.PrimeAsync(prime.connection));

    void WakeAt(TimeSpan at)
    {
        // Two threads may bring their wish here in the wrong order; the earlier time stands, as Tick asks anew.
        lock (_timerGate)
        {
            if (at < _wakeAt)
            {
                _wakeAt = at;
                var wait = at - Now;

                // A timer counts whole milliseconds: rounded down it would fire just before the time, several times over.
                _timer.TrySet(wait > TimeSpan.Zero ? wait + TimeSpan.FromMilliseconds(1) : TimeSpan.Zero, Timeout.InfiniteTimeSpan);
            }
        }
    }

    /// <summary>A fresh HTTP/1.1 connection may stay unused: its end should be noticed too.</summary>
    public void WatchIdleSoon() => _idleWatch.Arm();

    /// <summary>HTTP/1.1 connections that have been idle for at least a moment; whether there are others that are idle more briefly.</summary>
    bool FindQuiet(TimeSpan moment, List<(Slot Slot, long Sends, TimeSpan Rested)> quiet)
    {
        var others = false;
        lock (_gate)
        {
            var now = Now;
            foreach (var connection in _scheduler.Keys.SelectMany(key => key.Connections))
            {
                if (connection is { IsIdle: true, IsHttp2: false, Slot: Slot slot })
                {
                    if (now - connection.IdleSince >= moment)
                    {
                        quiet.Add((slot, slot.Sends, now - connection.IdleSince));
                    }
                    else
                    {
                        others = true;
                    }
                }
            }
        }

        return others;
    }

    void LogStats() => LogMessages.StatsLine(_logger, GetStats(detailed: false));

    /// <summary>Neither a call nor a dial outlives <see cref="PoolTimeouts.Total"/>, waiting included.</summary>
    static TimeSpan DeadlineOf(CallTimeouts timeouts, TimeSpan now)
    {
        var longest = timeouts.TotalEndsWait ? timeouts.Total : timeouts.Pool;
        return longest > TimeSpan.Zero ? now + longest : TimeSpan.MaxValue;
    }

    static List<SchedulerAction> RentActions()
    {
        var actions = _spareActions ?? [];
        _spareActions = null;   // a nested event on this thread gets a list of its own
        return actions;
    }

    /// <summary>On a thread of the pool's own, in no caller's context: suppressing its flow would still show it to what runs before the first await.</summary>
    static void RunApart<T>(T state, Action<T> work) => ThreadPool.UnsafeQueueUserWorkItem(work, state, preferLocal: false);

    internal static AsyncFlowControl? SuppressFlow() => ExecutionContext.IsFlowSuppressed() ? null : ExecutionContext.SuppressFlow();
}
