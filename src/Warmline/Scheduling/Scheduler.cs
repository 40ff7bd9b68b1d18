using System.Diagnostics;
using Warmline.Options;

namespace Warmline.Scheduling;

/// <summary>
/// Decides who rides which connection and when one is opened or closed. A pure state machine: events come in with their time, what has to be done
/// goes out as actions; no sockets, no HTTP, no await, no clock. Not thread-safe: the shell holds its lock around every event and runs the actions outside it.
///
/// Every event ends in <see cref="Settle"/> for each key that it touched: serve who can be served, open what is missing, and note what the rest waits for.
/// Invariants, checked after every event by the model test: permits stay within the limits; a lease ends exactly once; nobody waits while something it may use
/// is free; a connection takes streams only up to its limit and none when it drains.
/// </summary>
internal sealed partial class Scheduler(SchedulerLimits limits, int seed)
{
    /// <summary>A connection that dies this young without having served anything counts as a failed dial, or a server that closes at once would be dialled in a loop.</summary>
    static readonly TimeSpan EarlyDeath = TimeSpan.FromSeconds(1);

    /// <summary>How long before the end of its lifetime a connection in use gets its successor, or a tenth of the lifetime if that is less.</summary>
    static readonly TimeSpan MaxReplaceAhead = TimeSpan.FromSeconds(5);

    readonly Random _random = new(seed);
    readonly Dictionary<ConnectionKey, KeyState> _keys = [];
    readonly Dictionary<string, OriginState> _origins = new(StringComparer.OrdinalIgnoreCase);
    readonly PermitLedger _permits = new();
    readonly IndexedHeap<Timed, Timed.ByDue> _timers = new();

    /// <summary>Keys whose waiters are held back by MaxConcurrentRequests alone.</summary>
    readonly IndexedHeap<KeyState, KeyState.LongestWaiting> _capped = new();

    SchedulerLimits _limits = limits;
    List<SchedulerAction> _actions = null!;
    TimeSpan _now;
    TimeSpan _wakeAt = TimeSpan.MaxValue;
    long _sequence;
    long _connectionIds;
    long _uses;
    bool _paused;

    public SchedulerLimits Limits => _limits;

    public IReadOnlyCollection<KeyState> Keys => _keys.Values;

    public PermitLedger Permits => _permits;

    public int Leases { get; private set; }

    public KeyFacts Facts { get; } = new();

    /// <summary>Kept so that the pool's sum does not shrink when a key is forgotten.</summary>
    public TimeSpan TimeSavedByForgotten { get; private set; }

    public int Waiting { get; private set; }

    public bool IsDraining { get; private set; }

    public void Acquire(Waiter waiter, ConnectionKey connectionKey, TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        var key = KeyFor(connectionKey);
        waiter.Key = key;
        waiter.AskedAt = now;
        waiter.Sequence = ++_sequence;
        key.Facts.Requests++;
        Facts.Requests++;
        if (IsDraining)
        {
            Refuse(waiter, RefusalKind.Rejected, PoolRejectionReason.Draining);
        }
        else if (key.Queue.Count == 0 && MayGrant(key) && key.Available.First is { } connection)
        {
            Grant(waiter, connection);
            if (key.MissingForSpread(_limits) > 0)
            {
                Grow(key);
            }
        }
        else if (Waiting >= _limits.MaxQueueLength)
        {
            Refuse(waiter, RefusalKind.Rejected, PoolRejectionReason.QueueFull);
        }
        else
        {
            waiter.State = WaiterState.Waiting;
            key.Queue.Add(waiter);
            Waiting++;
            StartTimer(waiter, waiter.Deadline);
            Settle(key);
        }

        End();
    }

    /// <summary>The caller gave up. A waiter leaves the queue and takes nothing; a lease is not touched: its holder releases it.</summary>
    public void Cancel(Waiter waiter, TimeSpan now, List<SchedulerAction> actions)
    {
        if (waiter.State is not WaiterState.Waiting)
        {
            return;
        }

        Begin(now, actions);
        Leave(waiter);
        Settle(waiter.Key!);
        End();
    }

    /// <summary>Both bodies have ended. After <see cref="LeaseOutcome.NotSent"/> the waiter's state tells whether it waits again or has used up its tries.</summary>
    public void Release(Waiter waiter, LeaseOutcome outcome, TimeSpan now, List<SchedulerAction> actions)
    {
        if (waiter.State is not WaiterState.Leased)
        {
            return;
        }

        Begin(now, actions);
        var connection = waiter.Connection!;
        var key = connection.Key;
        _permits.Count(connection, -1);
        connection.Streams--;
        connection.UploadBytes -= waiter.WeighingBytes;
        connection.Served |= outcome is LeaseOutcome.Reusable;
        _permits.Count(connection, +1);
        connection.RemoveLease(waiter);
        waiter.WeighingBytes = 0;
        Leases--;
        key.Leases--;
        if (key.HasWarned && Utilization(key) is var (active, limit) && active * 10L < limit * 7)
        {
            key.HasWarned = false;
        }

        if (outcome is LeaseOutcome.NotSent && waiter.Redispatches < _limits.MaxRedispatches && !IsDraining && now < waiter.Deadline)
        {
            waiter.Redispatches++;
            waiter.Connection = null;
            waiter.State = WaiterState.Waiting;
            key.Queue.Return(waiter);
            Waiting++;
            StartTimer(waiter, waiter.Deadline);
        }
        else
        {
            waiter.State = WaiterState.Ended;
        }

        if (connection.IsUsable && (outcome is not LeaseOutcome.Reusable || now >= connection.ExpiresAt))
        {
            Drain(connection);
        }
        else if (connection is { Phase: ConnectionPhase.Draining, Streams: 0 })
        {
            BeginClose(connection);
        }

        RefreshAvailability(connection);
        ServeCapped(key);
        Settle(key);
        NoteIdle(connection);
        End();
    }

    /// <summary>The request body is through: its bytes weigh on the connection no longer.</summary>
    public void UploadEnded(Waiter waiter)
    {
        if (waiter is { State: WaiterState.Leased, WeighingBytes: > 0, Connection: { } connection })
        {
            connection.UploadBytes -= waiter.WeighingBytes;
            waiter.WeighingBytes = 0;
            RefreshAvailability(connection);
        }
    }

    /// <summary>Opens connections until as many are ready as the warm-up asks for.</summary>
    public void WarmUp(WarmUp warmUp, ConnectionKey connectionKey, TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        var key = KeyFor(connectionKey);
        key.WarmUps.Add(warmUp);
        Settle(key);
        End();
    }

    /// <summary>Holds that many connections ready from now on.</summary>
    public void HoldWarm(ConnectionKey connectionKey, int connections, TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        var key = KeyFor(connectionKey);
        key.WarmConnections = connections;
        Settle(key);
        End();
    }

    /// <summary>Stops, or starts again, to place and to dial for one origin; for all when it is null.</summary>
    public void SetPaused(string? origin, bool paused, TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        if (origin is null)
        {
            _paused = paused;
        }
        else
        {
            OriginFor(origin).IsPaused = paused;
        }

        SettleAll();
        End();
    }

    /// <summary>Lets the connections of an origin (all, when it is null) that are open now end: those with streams when these have ended.</summary>
    public void Retire(string? origin, TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        foreach (var key in _keys.Values)
        {
            if (origin is null || string.Equals(key.Origin.Name, origin, StringComparison.OrdinalIgnoreCase))
            {
                DrainAll(key);
            }
        }

        SettleAll();
        End();
    }

    public void LimitsChanged(SchedulerLimits limits, TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        _limits = limits;
        foreach (var key in _keys.Values)
        {
            foreach (var connection in key.Connections)
            {
                SetStreamLimit(connection);
            }

            while (key.Origin.InUse - key.Origin.Returning > limits.MaxConnectionsPerHost && TakeBack(null, key.Origin))
            {
            }
        }

        while (_permits.InUse - _permits.Returning > limits.MaxConnections && TakeBack(null, null))
        {
        }

        TrimIdle();
        SettleAll();
        End();
    }

    /// <summary>Takes nothing new, for good: waiters are refused, idle connections close, busy ones when their streams have ended.</summary>
    public void Drain(TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        IsDraining = true;
        foreach (var key in _keys.Values)
        {
            key.WarmConnections = 0;
            foreach (var waiter in key.Queue.All().ToArray())
            {
                Leave(waiter);
                Refuse(waiter, RefusalKind.Rejected, PoolRejectionReason.Draining);
            }

            EndWarmUps(key, PoolRejectionReason.Draining);
            DrainAll(key);
        }

        SettleAll();
        End();
    }

    public void Tick(TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        _wakeAt = TimeSpan.MaxValue;
        while (_timers.First is { } timed && timed.Due <= now)
        {
            _timers.Remove(timed);
            timed.Due = TimeSpan.MaxValue;
            switch (timed)
            {
                case Waiter waiter:
                    var reason = ReasonFor(waiter);
                    Leave(waiter);
                    Refuse(waiter, RefusalKind.TimedOut, reason);
                    Settle(waiter.Key!);
                    break;
                case ConnectionState connection:
                    ConnectionDue(connection);
                    break;
                case KeyState { IsForgettable: true } key:
                    Forget(key);
                    break;
                case KeyState key:
                    Settle(key);
                    break;
            }
        }

        End();
    }

    /// <summary>What a waiter lacks right now.</summary>
    public PoolRejectionReason ReasonFor(Waiter waiter)
    {
        var key = waiter.Key!;
        return IsDraining ? PoolRejectionReason.Draining
            : IsPaused(key) ? PoolRejectionReason.Paused
            : Leases >= _limits.MaxConcurrentRequests ? PoolRejectionReason.MaxConcurrentRequests
            : key.WantsFrom == key.Origin.Wanting ? PoolRejectionReason.MaxConnectionsPerHost
            : key.WantsFrom is not null ? PoolRejectionReason.MaxConnections
            : key.BackOffUntil > _now && key.Dialing == 0 ? PoolRejectionReason.BackOff
            : key.Dialing + key.AwaitingSettings > 0 ? PoolRejectionReason.Dialing
            : key.Usable > 0 && key.StreamsPerConnection(_limits) == 0 ? PoolRejectionReason.StreamLimit
            : PoolRejectionReason.None;
    }

    /// <summary>Streams that a key can have: on its open connections, on those being opened, and on those that it could still open.</summary>
    public long Capacity(KeyState key) =>
        key.OpenCapacity + ((key.Dialing + (long)_permits.Obtainable(key, _limits)) * (key.SpeaksHttp2 is null || (key.SpeaksHttp2 is true && key.AdvertisedLimit is null) ? 1 : key.StreamsPerConnection(_limits)));

    void Begin(TimeSpan now, List<SchedulerAction> actions)
    {
        _now = now > _now ? now : _now;
        _actions = actions;
    }

    void End()
    {
        if (_timers.First is { } next && next.Due < _wakeAt)
        {
            _wakeAt = next.Due;
            _actions.Add(new SchedulerAction(ActionKind.WakeAt, At: next.Due));
        }

        _actions = null!;
    }

    bool IsPaused(KeyState key) => _paused || key.Origin.IsPaused;

    bool MayGrant(KeyState key) => Leases < _limits.MaxConcurrentRequests && !IsPaused(key);

    /// <summary>Serves who can be served, opens what is missing, notes what the rest waits for.</summary>
    void Settle(KeyState key)
    {
        while (key.Queue.First is { } waiter && MayGrant(key) && key.Available.First is { } connection)
        {
            Leave(waiter);
            Grant(waiter, connection);
        }

        Grow(key);
        if (key.Queue.Count > 0 && key.Available.First is not null && Leases >= _limits.MaxConcurrentRequests && !IsPaused(key))
        {
            _capped.Set(key);
        }
        else
        {
            _capped.Remove(key);
        }

        CheckWarmUps(key);
        if (key.BackOffUntil > _now && (key.Queue.Count > 0 || key.WarmConnections > 0))
        {
            StartTimer(key, key.BackOffUntil);
        }
        else if (key.IsForgettable)
        {
            StartTimer(key, _now + _limits.KeyMemory);
        }
    }

    /// <summary>Under MaxConcurrentRequests the freed place goes to the key that waits longest, not to the one that happened to free it.</summary>
    void ServeCapped(KeyState freed)
    {
        if (_capped.Count > 0 && freed.Queue.Count > 0 && freed.Available.First is not null && !IsPaused(freed))
        {
            _capped.Set(freed);
        }

        while (Leases < _limits.MaxConcurrentRequests && _capped.First is { } capped)
        {
            Settle(capped);
        }
    }

    void SettleAll()
    {
        foreach (var key in _keys.Values)
        {
            Settle(key);
        }
    }

    void Leave(Waiter waiter)
    {
        waiter.Key!.Queue.Remove(waiter);
        waiter.State = WaiterState.Ended;
        _timers.Remove(waiter);
        Waiting--;
    }

    void Refuse(Waiter waiter, RefusalKind kind, PoolRejectionReason reason, Exception? error = null)
    {
        waiter.State = WaiterState.Ended;
        Facts.Refusals++;
        _actions.Add(new SchedulerAction(ActionKind.Refuse, waiter, kind, reason, error));
    }

    void Grant(Waiter waiter, ConnectionState connection)
    {
        Debug.Assert(connection.CanTakeStream, connection.ToString());
        var key = connection.Key;
        _permits.UnlistIdle(connection);
        _permits.Count(connection, -1);
        connection.Streams++;
        connection.UploadBytes += waiter.UploadBytes;
        connection.LastUse = ++_uses;
        _permits.Count(connection, +1);
        waiter.WeighingBytes = waiter.UploadBytes;
        waiter.Connection = connection;
        waiter.State = WaiterState.Leased;
        waiter.GrantedAt = _now;
        waiter.Reused = !(connection.OwesFirstUse && waiter.AskedAt <= connection.OpenedAt);
        connection.OwesFirstUse = false;
        connection.AddLease(waiter);
        RefreshAvailability(connection);
        Leases++;
        key.Leases++;
        Facts.CountGrant(waiter, Leases);
        key.Facts.CountGrant(waiter, key.Leases);
        _actions.Add(new SchedulerAction(ActionKind.Grant, waiter));
        WarnWhenFull(key);
    }

    void WarnWhenFull(KeyState key)
    {
        if (key.HasWarned)
        {
            return;
        }

        // Before SETTINGS a connection counts for one stream: what looks full then is only young.
        var (active, limit) = Utilization(key);
        if (active * 5L > limit * 4 && (key.AwaitingSettings == 0 || limit == _limits.MaxConcurrentRequests))
        {
            key.HasWarned = true;
            _actions.Add(new SchedulerAction(ActionKind.UtilizationHigh, key, Active: active, Limit: (int)Math.Min(int.MaxValue, limit)));
        }
    }

    /// <summary>Leases and the limit that they come closest to: the key's capacity, or MaxConcurrentRequests.</summary>
    (int Active, long Limit) Utilization(KeyState key)
    {
        var capacity = Capacity(key);
        return Leases * capacity > key.Leases * (long)_limits.MaxConcurrentRequests ? (Leases, _limits.MaxConcurrentRequests) : (key.Leases, capacity);
    }

    void StartTimer(Timed timed, TimeSpan due)
    {
        timed.Due = due;
        if (due < TimeSpan.MaxValue)
        {
            _timers.Set(timed);
        }
        else
        {
            _timers.Remove(timed);
        }
    }

    KeyState KeyFor(ConnectionKey connectionKey)
    {
        if (!_keys.TryGetValue(connectionKey, out var key))
        {
            var origin = OriginFor(connectionKey.Origin);
            origin.Keys++;
            key = new KeyState(connectionKey, origin);
            _keys.Add(connectionKey, key);
        }

        return key;
    }

    OriginState OriginFor(string name)
    {
        if (!_origins.TryGetValue(name, out var origin))
        {
            _origins.Add(name, origin = new OriginState(name));
        }

        return origin;
    }

    void Forget(KeyState key)
    {
        TimeSavedByForgotten += key.Facts.TimeSaved;
        _keys.Remove(key.Key);
        if (--key.Origin.Keys == 0 && !key.Origin.IsPaused)
        {
            _origins.Remove(key.Origin.Name);
        }
    }
}
