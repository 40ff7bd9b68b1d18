using System.Net;
using Warmline.Options;

namespace Warmline.Scheduling;

/// <summary>
/// Decides which call uses which connection, and when a connection is opened or closed. A pure state machine: events come in with their
/// time, and actions go out. It knows no sockets, no HTTP, no await and no clock. Not thread-safe: the shell holds its lock around every
/// event and runs the actions outside it.
///
/// This class is the list of events. Each begins with its time and the list of its actions, which <see cref="Agenda"/> keeps, and does its
/// work in the class for its concern. Every event ends in <see cref="Settlement.Settle"/> for each key that it touched.
/// Invariants, checked after every event by the model test: permits stay within the limits; a lease ends exactly once; no call waits while
/// something it may use is free; a connection takes streams only up to its limit and none while it drains.
/// </summary>
internal sealed class Scheduler
{
    /// <inheritdoc cref="DialFailures.EarlyDeath"/>
    public static readonly TimeSpan EarlyDeath = DialFailures.EarlyDeath;

    readonly Agenda _agenda = new();
    readonly PoolState _pool;
    readonly KeyTable _table;
    readonly Capacity _capacities;
    readonly Admission _admission;
    readonly ProviderBudgets _budgets;
    readonly IdleConnections _idling;
    readonly Settlement _settlement;
    readonly CallEvents _calls;
    readonly ConnectionEvents _connections;
    readonly ControlEvents _controls;
    readonly Retirement _retirement;
    readonly DueEvents _due;

    public Scheduler(SchedulerLimits limits, int seed)
    {
        Sharing = new SharingLedger(limits.Sharing);
        _pool = new PoolState(limits);
        _table = new KeyTable(_agenda, _pool);
        _capacities = new Capacity(_pool, Permits);
        _admission = new Admission(_agenda, _pool, _table, Sharing, _capacities);
        var lifecycle = new Lifecycle(_agenda, _pool, Permits);
        var waitLists = new WaitLists(_pool, Sharing, _admission);
        var needs = new PermitNeeds(_pool, _admission, _capacities, waitLists);
        var dials = new Dials(_agenda, _pool, Permits, needs, _capacities);
        var permitTurns = new PermitTurns(_agenda, _pool, _table, Permits, _capacities, lifecycle, needs, dials);
        _idling = new IdleConnections(_agenda, _pool, Permits, lifecycle, permitTurns);
        _budgets = new ProviderBudgets(_agenda);
        var leases = new Leasing(_agenda, _pool, Permits, Sharing, _capacities, waitLists, _budgets);
        var turns = new Turns(_agenda, _pool, _table, Sharing, _admission, _idling, leases);
        var growth = new Growth(_agenda, _pool, _admission, _capacities, needs, dials, permitTurns);
        var hedging = new Hedging(_agenda, _pool, Permits, lifecycle);
        var warmth = new WarmGoals(_agenda, _pool, _table, Permits, _capacities, _idling, growth);
        _settlement = new Settlement(_agenda, _pool, _table, Permits, _admission, waitLists, _budgets, turns, hedging, growth,
            warmth, needs);
        var fallback = new Fallback(_agenda, _pool, lifecycle, _settlement);
        var failures = new DialFailures(_agenda, _pool, _capacities, lifecycle, leases, hedging, warmth, _settlement, fallback);
        var ageing = new Ageing(_agenda, _idling, lifecycle, growth, dials, _settlement, failures);
        _retirement = new Retirement(_agenda, _pool, _table, lifecycle, _idling, _settlement);
        _calls = new CallEvents(_agenda, _pool, Sharing, _capacities, _admission, lifecycle, _idling, waitLists, _budgets, leases, turns,
            growth, _settlement, failures, _retirement);
        _connections = new ConnectionEvents(_agenda, _pool, lifecycle, _idling, hedging, growth, dials, warmth, _settlement, fallback,
            failures, _retirement, new Random(seed));
        _due = new DueEvents(_agenda, _table, waitLists, _budgets, _settlement, _calls, ageing);
        _controls = new ControlEvents(_agenda, _pool, _table, Permits, _idling, lifecycle, leases, turns, warmth, _settlement);
    }

    public SchedulerLimits Limits => _pool.Limits;

    public IReadOnlyCollection<KeyState> Keys => _table.Keys;

    public PermitLedger Permits { get; } = new();

    public SharingLedger Sharing { get; }

    public IReadOnlyCollection<BudgetState> Budgets => _budgets.Budgets;

    public int Leases => _pool.Leases;

    public KeyFacts Facts => _pool.Facts;

    public Tally<PoolRejectionReason> RefusedBy => _pool.RefusedBy;

    public Tally<DialPhase> DialsFailedIn => _pool.DialsFailedIn;

    public TimeSpan TimeSavedByForgotten => _table.TimeSavedByForgotten;

    public int Waiting => _pool.Waiting;

    public bool IsDraining => _pool.IsDraining;

    public KeyState? Find(ConnectionKey key) => _table.Find(key);

    public int PermitsOf(string tenant) => _table.PermitsOf(tenant);

    public PoolRejectionReason ReasonFor(Waiter waiter) => _admission.ReasonFor(waiter);

    public long Available(LaneState lane) => _admission.Available(lane);

    public long Capacity(KeyState key) => _capacities.Of(key);

    public (int Active, long Limit) Utilization(KeyState key) => _capacities.Utilization(key);

    public bool CanMove(Waiter waiter) => _capacities.CanMove(waiter);

    public TimeSpan AllowedIdle(ConnectionState connection) => _idling.AllowedIdle(connection);

    public TimeSpan AllowedIdle(KeyState key) => _idling.AllowedIdle(key);

    public static bool AvoidsHttp2(KeyState key, TimeSpan now) => Fallback.AvoidsHttp2(key, now);

    public static TimeSpan? Http2AvoidedFor(KeyState key, TimeSpan now) => Fallback.Http2AvoidedFor(key, now);

    public void Acquire(Waiter waiter, ConnectionKey connectionKey, TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        _calls.Acquire(waiter, _table.KeyFor(connectionKey));
        End();
    }

    /// <summary>The caller gave up. A waiter leaves the queue and takes nothing; a lease is not touched: its holder releases it.</summary>
    public void Cancel(Waiter waiter, TimeSpan now, List<SchedulerAction> actions)
    {
        if (waiter.State is WaiterState.Waiting)
        {
            Begin(now, actions);
            _calls.Cancel(waiter);
            End();
        }
    }

    /// <inheritdoc cref="CallEvents.Release"/>
    public void Release(Waiter waiter, LeaseOutcome outcome, TimeSpan now, List<SchedulerAction> actions)
    {
        if (waiter.State is WaiterState.Leased)
        {
            Begin(now, actions);
            _calls.Release(waiter, outcome);
            End();
        }
    }

    /// <inheritdoc cref="CallEvents.Bypass"/>
    public void Bypass(Waiter waiter, ConnectionEnd end, TimeSpan now, List<SchedulerAction> actions)
    {
        if (waiter.State is WaiterState.Leased)
        {
            Begin(now, actions);
            _calls.Bypass(waiter, end);
            End();
        }
    }

    /// <inheritdoc cref="CallEvents.UploadEnded"/>
    public void UploadEnded(Waiter waiter) => _calls.UploadEnded(waiter);

    /// <inheritdoc cref="CallEvents.Answered"/>
    public void Answered(Waiter waiter, RateLimits limits, int status, TimeSpan now, List<SchedulerAction> actions)
    {
        if (waiter is { State: WaiterState.Leased, Budget: { } budget, IsAnswered: false })
        {
            Begin(now, actions);
            _calls.Answered(waiter, budget, limits, status);
            End();
        }
    }

    /// <inheritdoc cref="CallEvents.Advised"/>
    public void Advised(Waiter waiter, TimeSpan wait, TimeSpan answeredAt, TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        if (waiter.Budget is { } budget)
        {
            _calls.Advised(budget, wait, answeredAt);
        }

        End();
    }

    /// <inheritdoc cref="CallEvents.SlowDown"/>
    public void SlowDown(Waiter waiter, TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        if (waiter.Budget is { } budget)
        {
            _calls.SlowDown(budget);
        }

        End();
    }

    /// <summary>A dial has come to its next phase.</summary>
    public void DialAdvanced(ConnectionState connection, DialPhase step, TimeSpan now, List<SchedulerAction> actions)
    {
        if (connection is { Phase: ConnectionPhase.Dialing, IsGivenUp: false })
        {
            Begin(now, actions);
            _connections.DialAdvanced(connection, step);
            End();
        }
    }

    /// <inheritdoc cref="ConnectionEvents.DialSucceeded"/>
    public void DialSucceeded(ConnectionState connection, bool isHttp2, TimeSpan handshake, TimeSpan now, List<SchedulerAction> actions)
    {
        if (connection.Phase is ConnectionPhase.Dialing)
        {
            Begin(now, actions);
            _connections.DialSucceeded(connection, isHttp2, handshake);
            End();
        }
    }

    /// <summary>The dial failed, or the server's SETTINGS did not come.</summary>
    public void DialFailed(ConnectionState connection, Exception error, TimeSpan now, List<SchedulerAction> actions)
    {
        if (connection.Phase is ConnectionPhase.Dialing or ConnectionPhase.AwaitingSettings)
        {
            Begin(now, actions);
            _connections.DialFailed(connection, error);
            End();
        }
    }

    /// <inheritdoc cref="ConnectionEvents.SettingsSeen"/>
    public void SettingsSeen(ConnectionState connection, int maxConcurrentStreams, TimeSpan now, List<SchedulerAction> actions)
    {
        if (connection.IsHttp2 && connection.Phase is not (ConnectionPhase.Closing or ConnectionPhase.Closed))
        {
            Begin(now, actions);
            _connections.SettingsSeen(connection, maxConcurrentStreams);
            End();
        }
    }

    /// <inheritdoc cref="ConnectionEvents.ConnectionClosing"/>
    public void ConnectionClosing(ConnectionState connection, ConnectionEnd end, TimeSpan now, List<SchedulerAction> actions)
    {
        if (connection.IsUsable)
        {
            Begin(now, actions);
            _connections.ConnectionClosing(connection, end);
            End();
        }
    }

    /// <inheritdoc cref="ConnectionEvents.ConnectionClosed"/>
    public void ConnectionClosed(ConnectionState connection, TimeSpan now, List<SchedulerAction> actions)
    {
        if (connection.Phase is not (ConnectionPhase.Closed or ConnectionPhase.Dialing))
        {
            Begin(now, actions);
            _connections.ConnectionClosed(connection);
            End();
        }
    }

    /// <inheritdoc cref="ConnectionEvents.TakeOutOfUse"/>
    public void TakeOutOfUse(ConnectionState connection, TimeSpan now, List<SchedulerAction> actions)
    {
        if (connection.IsUsable)
        {
            Begin(now, actions);
            _connections.TakeOutOfUse(connection);
            End();
        }
    }

    /// <inheritdoc cref="ConnectionEvents.ResetsSent"/>
    public void ResetsSent(ConnectionState connection, long resets, TimeSpan now, List<SchedulerAction> actions)
    {
        if (connection.IsUsable)
        {
            Begin(now, actions);
            _connections.ResetsSent(connection, resets);
            End();
        }
    }

    /// <inheritdoc cref="OriginState.AskedForCalm"/>
    public bool AskedForCalm(ConnectionState connection, bool byPings, long resets, TimeSpan now) =>
        connection.Key.Origin.AskedForCalm(byPings, resets, now, Limits.KeyMemory);

    /// <inheritdoc cref="ConnectionEvents.DoubtHttp2"/>
    public bool DoubtHttp2(ConnectionState connection, Http2Doubt doubt, TimeSpan now, List<SchedulerAction> actions)
    {
        if (!connection.IsHttp2 || !Fallback.MayFallBack(connection.Key) || IsDraining)
        {
            return false;
        }

        Begin(now, actions);
        var isAvoided = _connections.DoubtHttp2(connection, doubt);
        End();
        return isAvoided;
    }

    /// <inheritdoc cref="ControlEvents.WarmUp"/>
    public void WarmUp(WarmUp warmUp, ConnectionKey connectionKey, TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        _controls.WarmUp(warmUp, connectionKey);
        End();
    }

    /// <inheritdoc cref="ControlEvents.KeepWarm"/>
    public void HoldWarm(ConnectionKey connectionKey, int connections, TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        _controls.KeepWarm(connectionKey, connections);
        End();
    }

    /// <inheritdoc cref="ControlEvents.SetPaused"/>
    public void SetPaused(string? origin, bool paused, TimeSpan now, List<SchedulerAction> actions, TimeSpan atLeast = default)
    {
        Begin(now, actions);
        _controls.SetPaused(origin, paused, atLeast);
        End();
    }

    /// <inheritdoc cref="ControlEvents.LimitsChanged"/>
    public void LimitsChanged(SchedulerLimits limits, TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        _controls.LimitsChanged(limits);
        End();
    }

    /// <inheritdoc cref="ControlEvents.Drain"/>
    public void Drain(TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        _controls.Drain();
        End();
    }

    /// <inheritdoc cref="Retirement.Retire(string?)"/>
    public void Retire(string? origin, TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        _retirement.Retire(origin);
        End();
    }

    /// <inheritdoc cref="Retirement.Retire(string, IPAddress[])"/>
    public void Retire(string host, IPAddress[] addresses, TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        _retirement.Retire(host, addresses);
        End();
    }

    /// <inheritdoc cref="Retirement.ClockJumped"/>
    public void ClockJumped(TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        _retirement.ClockJumped();
        End();
    }

    /// <inheritdoc cref="Retirement.LocalAddresses"/>
    public void LocalAddresses(IReadOnlyCollection<IPAddress> addresses, TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        _retirement.LocalAddresses(addresses);
        End();
    }

    public void Tick(TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        _due.Tick();
        End();
    }

    void Begin(TimeSpan now, List<SchedulerAction> actions) => _agenda.Begin(now, actions);

    void End()
    {
        _settlement.ServeReserved();
        _agenda.End();
    }
}
