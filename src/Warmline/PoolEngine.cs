using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Warmline.Options;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline;

/// <summary>
/// The shell around the scheduler: the pool's one lock, its one timer, and the hands that carry out what was decided. Every event is played under the lock and
/// returns actions; they run after it: what they do (dial, close, wake a caller) can take the lock again, on this thread or another.
/// </summary>
internal sealed class PoolEngine : ISlotOwner, IAsyncDisposable
{
    static readonly TimeSpan IdleWatchDelay = TimeSpan.FromSeconds(1);

    [ThreadStatic]
    static List<SchedulerAction>? _spareActions;

    readonly Lock _gate = new();
    readonly Lock _timerGate = new();
    readonly Scheduler _scheduler;
    readonly Dialer _dialer;
    readonly TimeProvider _time;
    readonly ILogger _logger;
    readonly ITimer _timer;
    readonly ITimer _idleWatch;
    readonly ITimer? _statsLog;
    readonly long _start;
    readonly CancellationTokenSource _stopDials = new();
    readonly TaskCompletionSource _leasesEnded = new(TaskCreationOptions.RunContinuationsAsynchronously);
    readonly TaskCompletionSource _connectionsClosed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    TimeSpan _wakeAt = TimeSpan.MaxValue;
    int _idleWatchArmed;
    bool _disposed;

    public PoolEngine(PoolSettings settings, ILogger logger, TimeProvider time, INetwork network)
    {
        Settings = settings;
        _logger = logger;
        _time = time;
        _start = time.GetTimestamp();
        _scheduler = new Scheduler(LimitsOf(settings), Random.Shared.Next());
        _dialer = new Dialer(network, new DnsCache(network, settings.Dns, time), settings.SslOptions, settings.Http2Mode, time);
        Clock = new CoarseClock(time, CoarseClock.ResolutionFor(settings.Timeouts.Write, settings.Timeouts.FirstByte, settings.Timeouts.Read, settings.Timeouts.Total));

        // Timers must not carry the context of whoever happened to make the pool.
        using (SuppressFlow())
        {
            _timer = time.CreateTimer(static state => ((PoolEngine)state!).Tick(), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
            _idleWatch = time.CreateTimer(static state => ((PoolEngine)state!).WatchIdle(), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
            _statsLog = settings.StatsLogInterval is { } interval
                ? time.CreateTimer(static state => ((PoolEngine)state!).LogStats(), this, interval, interval)
                : null;
        }

        foreach (var (key, connections) in settings.WarmConnections)
        {
            Play((key, connections), static (scheduler, warm, now, actions) => scheduler.HoldWarm(warm.key, warm.connections, now, actions));
        }
    }

    delegate void Event<in T>(Scheduler scheduler, T argument, TimeSpan now, List<SchedulerAction> actions);

    public PoolSettings Settings { get; private set; }

    public CoarseClock Clock { get; }

    public TimeSpan Now => _time.GetElapsedTime(_start);

    public PooledRequest CreateRequest(PoolRequestOptions? options, CancellationToken caller)
    {
        if (options is null)
        {
            return new PooledRequest(this, Settings.Timeouts, caller);
        }

        ConnectionPool.Check(options);
        var timeouts = Settings.Timeouts.With(options.Timeouts);
        return new PooledRequest(this, options.MaxQueueTime is { } longest && (timeouts.Pool < TimeSpan.Zero || longest < timeouts.Pool) ? timeouts with { Pool = longest } : timeouts, caller);
    }

    /// <summary>Waits until the call has its place.</summary>
    /// <exception cref="PoolRejectedException">It gets none.</exception>
    public ValueTask AcquireAsync(PooledRequest call, ConnectionKey key, CancellationToken caller)
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
            _scheduler.Acquire(call, key, now, actions);
        }

        Run(actions);
        return PlacedAsync(call, caller);
    }

    /// <summary>Puts the call back to its place in the queue after an attempt that provably never reached the server; false when it has used up its tries.</summary>
    public bool Redispatch(PooledRequest call)
    {
        var actions = RentActions();
        bool again;
        lock (_gate)
        {
            call.ResetPlacement();   // before the event: it may be placed within it
            _scheduler.Release(call, LeaseOutcome.NotSent, Now, actions);
            again = call.State is not WaiterState.Ended;
            NoteEnds();
        }

        Run(actions);
        return again;
    }

    public ValueTask ReacquireAsync(PooledRequest call, CancellationToken caller) => PlacedAsync(call, caller);

    public void UploadEnded(PooledRequest call)
    {
        lock (_gate)
        {
            _scheduler.UploadEnded(call);
        }
    }

    public void Release(PooledRequest call, LeaseOutcome outcome)
    {
        var actions = RentActions();
        var idle = false;
        lock (_gate)
        {
            _scheduler.Release(call, outcome, Now, actions);
            idle = call.Connection is { IsIdle: true, IsHttp2: false };
            NoteEnds();
        }

        Run(actions);
        if (idle && Interlocked.Exchange(ref _idleWatchArmed, 1) == 0)
        {
            _idleWatch.Change(IdleWatchDelay, Timeout.InfiniteTimeSpan);
        }
    }

    public async Task<int> WarmUpAsync(ConnectionKey key, int connections, CancellationToken cancellationToken)
    {
        var warmUp = new WarmUp(connections);
        Play((warmUp, key), static (scheduler, warm, now, actions) => scheduler.WarmUp(warm.warmUp, warm.key, now, actions));
        await warmUp.Ended.Task.WaitAsync(cancellationToken).ConfigureAwait(false);
        return warmUp.Ready > 0 ? warmUp.Ready
            : warmUp.Reason is PoolRejectionReason.None ? throw ConnectError(key, warmUp.Error)
            : throw Rejected(EndOr(warmUp.Reason));
    }

    public void SetPaused(string? origin, bool paused) => Play((origin, paused), static (scheduler, pause, now, actions) => scheduler.SetPaused(pause.origin, pause.paused, now, actions));

    public void Retire(string? origin) => Play(origin, static (scheduler, origin, now, actions) => scheduler.Retire(origin, now, actions));

    public bool TryUpdate(PoolSettings settings)
    {
        if (!Settings.CanBecome(settings))
        {
            return false;
        }

        var released = Settings.WarmConnections.Keys.Except(settings.WarmConnections.Keys).ToArray();
        Settings = settings;
        Play(LimitsOf(settings), static (scheduler, limits, now, actions) => scheduler.LimitsChanged(limits, now, actions));
        foreach (var (key, connections) in settings.WarmConnections.Concat(released.Select(key => KeyValuePair.Create(key, 0))))
        {
            Play((key, connections), static (scheduler, warm, now, actions) => scheduler.HoldWarm(warm.key, warm.connections, now, actions));
        }

        return true;
    }

    public PoolStats GetStats()
    {
        lock (_gate)
        {
            return _scheduler.Stats();
        }
    }

    public IReadOnlyList<WaiterInfo> GetWaiters(int max)
    {
        lock (_gate)
        {
            return _scheduler.Waiters(Now, max);
        }
    }

    public IReadOnlyList<StreamInfo> GetStreams(int max)
    {
        lock (_gate)
        {
            return _scheduler.Streams(Now, max);
        }
    }

    /// <summary>Takes nothing new, waits for what runs, cuts what is left at the deadline.</summary>
    public async Task<IReadOnlyList<StreamInfo>> DrainAsync(TimeSpan deadline, PoolRejectionReason reason, CancellationToken cancellationToken)
    {
        var stats = GetStats();
        LogMessages.DrainBegins(_logger, stats.Active, stats.Connections);
        Play(reason, static (scheduler, _, now, actions) => scheduler.Drain(now, actions));
        if (!_stopDials.IsCancellationRequested)   // a drain after the end has nothing to stop
        {
            await _stopDials.CancelAsync().ConfigureAwait(false);
        }

        try
        {
            await _leasesEnded.Task.WaitAsync(deadline, _time, cancellationToken).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
        }

        IReadOnlyList<StreamInfo> cut;
        PooledRequest[] running;
        lock (_gate)
        {
            cut = _scheduler.Streams(Now, int.MaxValue);
            running = [.. _scheduler.Leased().Cast<PooledRequest>()];
        }

        foreach (var call in running)
        {
            call.Abort(reason);
        }

        if (cut.Count > 0)
        {
            LogMessages.DrainCut(_logger, cut.Count);
        }

        // What was cut and its caller does not look at any more still holds its stream: closing the transport ends it there too.
        foreach (var slot in OpenSlots())
        {
            slot.Close();
        }

        await _connectionsClosed.Task.ConfigureAwait(false);
        return cut;
    }

    public async ValueTask DisposeAsync()
    {
        lock (_gate)
        {
            if (_disposed)
            {
                return;
            }

            _disposed = true;
        }

        await DrainAsync(TimeSpan.Zero, PoolRejectionReason.Disposed, CancellationToken.None).ConfigureAwait(false);
        await _timer.DisposeAsync().ConfigureAwait(false);
        await _idleWatch.DisposeAsync().ConfigureAwait(false);
        if (_statsLog is not null)
        {
            await _statsLog.DisposeAsync().ConfigureAwait(false);
        }

        Clock.Dispose();
        _stopDials.Dispose();
    }

    void ISlotOwner.SettingsSeen(Slot slot, int maxConcurrentStreams) =>
        Play((Connection: (ConnectionState)slot.Tag!, maxConcurrentStreams), static (scheduler, seen, now, actions) => scheduler.SettingsSeen(seen.Connection, seen.maxConcurrentStreams, now, actions));

    void ISlotOwner.Closing(Slot slot) =>
        Play((ConnectionState)slot.Tag!, static (scheduler, connection, now, actions) => scheduler.ConnectionClosing(connection, now, actions));

    void ISlotOwner.Closed(Slot slot)
    {
        var connection = (ConnectionState)slot.Tag!;
        LogMessages.Closed(_logger, connection.Id, connection.Key.Key.Origin);
        Play(connection, static (scheduler, connection, now, actions) => scheduler.ConnectionClosed(connection, now, actions));
    }

    async ValueTask PlacedAsync(PooledRequest call, CancellationToken caller)
    {
        var placed = call.PlacedAsync();
        SchedulerAction action;
        if (placed.IsCompleted)
        {
            action = await placed.ConfigureAwait(false);
        }
        else
        {
            using (caller.UnsafeRegister(static state => ((PooledRequest)state!).CancelWait(), call))
            {
                action = await placed.ConfigureAwait(false);
            }
        }

        if (action.Kind is ActionKind.Refuse)
        {
            throw Refused(call, action);
        }
    }

    internal void Cancel(PooledRequest call)
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

    void Play<T>(T argument, Event<T> play)
    {
        var actions = RentActions();
        lock (_gate)
        {
            play(_scheduler, argument, Now, actions);
            NoteEnds();
        }

        Run(actions);
    }

    void NoteEnds()
    {
        Debug.Assert(_gate.IsHeldByCurrentThread);
        if (_scheduler.IsDraining && _scheduler.Leases == 0)
        {
            _leasesEnded.TrySetResult();
        }

        if (_scheduler.IsDraining && _scheduler.Permits.InUse == 0)
        {
            _connectionsClosed.TrySetResult();
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
                LogMessages.InternalFault(_logger, error);   // the other actions must run all the same
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
                ((PooledRequest)action.Waiter).Place(action);
                break;
            case ActionKind.Dial:
                using (SuppressFlow())
                {
                    _ = DialAsync(action.Connection);
                }

                break;
            case ActionKind.Prime:
                _ = PrimeAsync(action.Connection);
                break;
            case ActionKind.SettingsOverdue:
                var origin = action.Connection.Key.Key.Origin;
                DialFailed(action.Connection, new DialException(DialPhase.Http2Settings, $"{origin} agreed on HTTP/2 and sent no SETTINGS within {Settings.ConnectTimeout.TotalSeconds:0.###} s (Timeouts.Connect).", null, timedOut: true));
                break;
            case ActionKind.Close:
                ((Slot)action.Connection.Slot!).Close();
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

    void WakeAt(TimeSpan at)
    {
        // Two threads may bring their wish here in the wrong order; the earlier time stands, as Tick asks anew.
        lock (_timerGate)
        {
            if (at < _wakeAt)
            {
                _wakeAt = at;
                var wait = at - Now;
                _timer.Change(wait > TimeSpan.Zero ? wait + TimeSpan.FromMilliseconds(1) : TimeSpan.Zero, Timeout.InfiniteTimeSpan);
            }
        }
    }

    async Task DialAsync(ConnectionState connection)
    {
        var key = connection.Key.Key;
        try
        {
            var dialed = await _dialer.DialAsync(key, Settings.ConnectTimeout, _stopDials.Token).ConfigureAwait(false);
            connection.Slot = new Slot(dialed, Settings.Http2, this, connection);
            LogMessages.Opened(_logger, connection.Id, key.Origin, dialed.IsHttp2 ? "h2" : "http/1.1", dialed.Timings.Total.TotalMilliseconds);
            Play((connection, dialed.IsHttp2, dialed.Timings.Total), static (scheduler, done, now, actions) => scheduler.DialSucceeded(done.connection, done.IsHttp2, done.Total, now, actions));
            if (!dialed.IsHttp2 && Interlocked.Exchange(ref _idleWatchArmed, 1) == 0)
            {
                _idleWatch.Change(IdleWatchDelay, Timeout.InfiniteTimeSpan);
            }
        }
        catch (Exception error)
        {
            DialFailed(connection, error);
        }
    }

    void DialFailed(ConnectionState connection, Exception error)
    {
        if (!_stopDials.IsCancellationRequested)
        {
            LogMessages.DialFailed(_logger, connection.Key.Key.Origin, (error as DialException)?.Phase ?? DialPhase.Tcp, error.Message);
        }

        Play((connection, error), static (scheduler, failed, now, actions) => scheduler.DialFailed(failed.connection, failed.error, now, actions));
    }

    async Task PrimeAsync(ConnectionState connection)
    {
        try
        {
            await ((Slot)connection.Slot!).PrimeAsync(connection.Key.Key, _stopDials.Token).ConfigureAwait(false);
        }
        catch (Exception error) when (error is HttpRequestException or OperationCanceledException or IOException)
        {
            // The connection ended while it was started: its slot reports that itself.
        }
    }

    /// <summary>HTTP/1.1 connections that have been idle for a moment are watched for their end; on the hot path that would cost a read a request.</summary>
    void WatchIdle()
    {
        Volatile.Write(ref _idleWatchArmed, 0);
        var quiet = new List<(Slot Slot, long Sends)>();
        var others = false;
        lock (_gate)
        {
            var now = Now;
            foreach (var connection in _scheduler.Keys.SelectMany(key => key.Connections))
            {
                if (connection is { IsIdle: true, IsHttp2: false, Slot: Slot slot })
                {
                    if (now - connection.IdleSince >= IdleWatchDelay / 2)
                    {
                        quiet.Add((slot, slot.Sends));
                    }
                    else
                    {
                        others = true;
                    }
                }
            }
        }

        foreach (var (slot, sends) in quiet)
        {
            slot.WatchIdle(sends);
        }

        if (others && Interlocked.Exchange(ref _idleWatchArmed, 1) == 0)
        {
            _idleWatch.Change(IdleWatchDelay, Timeout.InfiniteTimeSpan);
        }
    }

    Slot[] OpenSlots()
    {
        lock (_gate)
        {
            return [.. _scheduler.Keys.SelectMany(key => key.Connections).Select(connection => connection.Slot).OfType<Slot>()];
        }
    }

    void LogStats() => LogMessages.StatsLine(_logger, GetStats());

    Exception Refused(PooledRequest call, SchedulerAction action)
    {
        if (action.Refusal is RefusalKind.DialFailed)
        {
            return ConnectError(call.Key!.Key, action.Error);
        }

        var reason = EndOr(action.Reason);
        if (action.Refusal is RefusalKind.Rejected)
        {
            return Rejected(reason);
        }

        var (stats, limit, waited) = (GetStats(), LimitOf(reason), Now - call.AskedAt);
        var (clock, longest) = TotalEndsWait(call.Timeouts) ? ("Total", call.Timeouts.Total) : ("Pool", call.Timeouts.Pool);
        return new PoolTimeoutException(reason, limit, waited, stats,
            $"No place for a request to {call.Key!.Key.Origin} within {longest.TotalSeconds:0.###} s (Timeouts.{clock}): {PoolRejectedException.Explain(reason, limit, stats)}");
    }

    PoolRejectedException Rejected(PoolRejectionReason reason)
    {
        var (stats, limit) = (GetStats(), LimitOf(reason));
        return new PoolRejectedException(reason, limit, stats, $"The pool refused the request: {PoolRejectedException.Explain(reason, limit, stats)}");
    }

    PoolRejectionReason EndOr(PoolRejectionReason reason) => _disposed && reason is PoolRejectionReason.Draining ? PoolRejectionReason.Disposed : reason;

    int? LimitOf(PoolRejectionReason reason) => reason switch
    {
        PoolRejectionReason.MaxConnections => Settings.MaxConnections,
        PoolRejectionReason.MaxConnectionsPerHost => Settings.MaxConnectionsPerHost,
        PoolRejectionReason.MaxConcurrentRequests => Settings.MaxConcurrentRequests,
        PoolRejectionReason.QueueFull => Settings.MaxQueueLength,
        _ => null,
    };

    static PoolConnectException ConnectError(ConnectionKey key, Exception? error) => error is DialException dial
        ? new PoolConnectException(dial.Phase, RequestVerdict.NotSent, dial.Message, dial.InnerException ?? dial)
        : new PoolConnectException(DialPhase.Http2Settings, RequestVerdict.NotSent, $"{key.Origin} closed the connection before it sent its HTTP/2 SETTINGS.", error);

    /// <summary>Neither a call nor a dial outlives <see cref="PoolTimeouts.Total"/>, waiting included.</summary>
    static TimeSpan DeadlineOf(CallTimeouts timeouts, TimeSpan now)
    {
        var longest = TotalEndsWait(timeouts) ? timeouts.Total : timeouts.Pool;
        return longest > TimeSpan.Zero ? now + longest : TimeSpan.MaxValue;
    }

    static bool TotalEndsWait(CallTimeouts timeouts) => timeouts.Total > TimeSpan.Zero && (timeouts.Pool < TimeSpan.Zero || timeouts.Total < timeouts.Pool);

    static SchedulerLimits LimitsOf(PoolSettings settings) => new()
    {
        MaxConnections = settings.MaxConnections,
        MaxConnectionsPerHost = settings.MaxConnectionsPerHost,
        MaxConcurrentRequests = settings.MaxConcurrentRequests,
        MaxIdleConnections = settings.MaxIdleConnections,
        MaxQueueLength = settings.MaxQueueLength,
        IdleTimeout = settings.IdleTimeout,
        ConnectionLifetime = settings.ConnectionLifetime,
        ConnectTimeout = settings.ConnectTimeout > TimeSpan.Zero ? settings.ConnectTimeout : TimeSpan.FromDays(24),
        TargetStreams = settings.TargetStreams,
        SpreadConnections = settings.SpreadConnections,
        MaxStreamsPerConnection = settings.MaxStreamsPerConnection,
    };

    static List<SchedulerAction> RentActions()
    {
        var actions = _spareActions ?? [];
        _spareActions = null;   // a nested event on this thread gets a list of its own
        return actions;
    }

    static AsyncFlowControl? SuppressFlow() => ExecutionContext.IsFlowSuppressed() ? null : ExecutionContext.SuppressFlow();
}
