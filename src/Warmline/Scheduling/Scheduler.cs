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
    internal static readonly TimeSpan EarlyDeath = TimeSpan.FromSeconds(1);

    /// <summary>The same for one that nobody rode: below the shortest time that servers let an unused connection wait, which is about 3 s.</summary>
    static readonly TimeSpan EarlyEndUnused = TimeSpan.FromSeconds(2);

    /// <summary>A server that ends unused connections this soon makes warmth costly: that is told.</summary>
    static readonly TimeSpan ShortLife = TimeSpan.FromSeconds(10);

    /// <summary>How long a cold burst may wait for its other dials, or a quarter of what the first one took if that is less.</summary>
    static readonly TimeSpan MaxHoldBack = TimeSpan.FromMilliseconds(50);

    /// <summary>How long before the end of its lifetime a connection in use gets its successor, or a tenth of the lifetime if that is less.</summary>
    static readonly TimeSpan MaxReplaceAhead = TimeSpan.FromSeconds(5);

    readonly Random _random = new(seed);
    readonly Dictionary<ConnectionKey, KeyState> _keys = [];
    readonly Dictionary<string, OriginState> _origins = new(StringComparer.OrdinalIgnoreCase);
    readonly Dictionary<string, PermitGroup> _partitions = new(StringComparer.Ordinal);
    readonly PermitLedger _permits = new();
    readonly IndexedHeap<Timed, Timed.ByDue> _timers = new();

    SchedulerLimits _limits = limits;
    List<SchedulerAction> _actions = null!;
    TimeSpan _now;
    TimeSpan _wakeAt = TimeSpan.MaxValue;
    long _sequence;
    long _connectionIds;
    long _uses;
    bool _paused;
    TimeSpan _pausedUntil = TimeSpan.MinValue;
    bool _isAnyHeldWarm;

    public SchedulerLimits Limits => _limits;

    public IReadOnlyCollection<KeyState> Keys => _keys.Values;

    public PermitLedger Permits => _permits;

    public int Leases { get; private set; }

    public KeyFacts Facts { get; } = new();

    public Tally<PoolRejectionReason> RefusedBy { get; } = new();

    public Tally<DialPhase> DialsFailedIn { get; } = new();

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
        var share = waiter.Share = _sharing.ShareOf(waiter.LaneName, waiter.TenantName);
        share.Returns();
        share.Lane.Facts.Requests++;
        share.Tenant.Facts.Requests++;
        waiter.Lane = key.Queue.LaneOf(share.Lane);
        waiter.Budget = waiter.BudgetKey is { } budget ? BudgetFor(budget) : null;
        ReopenDue(key);
        ServeReopened();
        while (TryServe(key))
        {
            // A burst that was held back may go by now, and came before.
        }

        if (IsDraining)
        {
            Refuse(waiter, RefusalKind.Rejected, PoolRejectionReason.Draining);
        }
        else if (MayGrant(waiter) && FirstFit(key) is { } connection && (key.Queue.Count == 0 || !HoldsBack(key, connection)))
        {
            // Others may wait and be overtaken, but only those who may not go: else the place would not be free.
            Grant(waiter, connection);
            Spread(key);
            if (key.WarmGoal > key.ReadyOrComing)
            {
                Grow(key);   // one that had been idle for too long was closed on the way
            }
        }
        else if (RefusalOf(waiter) is not PoolRejectionReason.None and var reason)
        {
            Refuse(waiter, RefusalKind.Rejected, reason);
        }
        else
        {
            waiter.State = WaiterState.Waiting;
            key.Queue.Add(waiter);
            _sharing.NoteIdle(share.Tenant);
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
        _sharing.NoteIdle(waiter.Share.Tenant);
        Settle(waiter.Key!);
        End();
    }

    /// <summary>Both bodies have ended. After <see cref="LeaseOutcome.NotSent"/> and <see cref="LeaseOutcome.Unanswered"/> the waiter's state tells whether it waits again or has used up its tries.</summary>
    public void Release(Waiter waiter, LeaseOutcome outcome, TimeSpan now, List<SchedulerAction> actions)
    {
        if (waiter.State is not WaiterState.Leased)
        {
            return;
        }

        Begin(now, actions);
        var connection = waiter.Connection!;
        var isRepeated = outcome is LeaseOutcome.NotSent or LeaseOutcome.Unanswered;
        if (isRepeated && waiter.Redispatches > 0)
        {
            NoteEarlyDeath(connection);   // once may be a coincidence
        }

        EndLease(waiter, outcome);
        if (isRepeated && waiter.Redispatches < _limits.MaxRedispatches && !IsDraining && now < waiter.Deadline)
        {
            waiter.Redispatches++;
            PlaceAnew(waiter);
        }

        _sharing.NoteIdle(waiter.Share.Tenant);
        Released(connection, keep: outcome is LeaseOutcome.Reusable or LeaseOutcome.Unused);
        End();
    }

    /// <summary>The stream is over, and the lease with it; who is placed anew waits again.</summary>
    void EndLease(Waiter waiter, LeaseOutcome outcome)
    {
        var connection = waiter.Connection!;
        var key = connection.Key;
        _permits.Count(connection, -1);
        connection.Streams--;
        connection.UploadBytes -= waiter.WeighingBytes;
        if (outcome is LeaseOutcome.Reusable)
        {
            connection.Served = true;
            key.ProbationUntil = TimeSpan.MinValue;
        }

        _permits.Count(connection, +1);
        if (outcome is LeaseOutcome.Reusable && connection.Rested > TimeSpan.Zero)
        {
            key.IdleLimit.Lasted(connection.Rested, _now, _limits.IdleMemory);
            connection.Rested = TimeSpan.Zero;
        }

        connection.RemoveLease(waiter);
        waiter.WeighingBytes = 0;
        if (outcome is not (LeaseOutcome.NotSent or LeaseOutcome.Unanswered))
        {
            Facts.CountLease(_now - waiter.GrantedAt);
        }

        Leases--;
        key.Leases--;
        waiter.Lane.Streams -= connection.IsUsable ? 1 : 0;
        Count(waiter.Share, -1);
        EndPaced(waiter, outcome);
        waiter.State = WaiterState.Ended;
    }

    void PlaceAnew(Waiter waiter)
    {
        waiter.Connection = null;
        waiter.State = WaiterState.Waiting;
        waiter.Key!.Queue.Add(waiter);
        Waiting++;
        StartTimer(waiter, waiter.Deadline);
    }

    /// <summary>A connection has one stream less, and its key perhaps one waiter more.</summary>
    void Released(ConnectionState connection, bool keep)
    {
        var key = connection.Key;
        if (connection.IsUsable && (!keep || connection.HasEnded || _now >= connection.ExpiresAt))
        {
            Drain(connection);
        }
        else if (connection is { Phase: ConnectionPhase.Draining, Streams: 0 })
        {
            BeginClose(connection);
        }

        RefreshAvailability(connection);
        if (IsAnyHeld())
        {
            HoldAll(key);
            HoldUnblocked();
        }

        ReopenDue(key);
        ServeReopened();
        ServeHeld();
        Settle(key);
        ServeUnblocked();
        NoteIdle(connection);
        if (key.HasWarned && Utilization(key) is var (active, limit) && active * 10L < limit * 7)
        {
            key.HasWarned = false;   // looked at after the next waiters had their turn: that is no crossing
        }
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

    /// <summary>What a waiter lacks right now.</summary>
    public PoolRejectionReason ReasonFor(Waiter waiter)
    {
        var key = waiter.Key!;
        return IsDraining ? PoolRejectionReason.Draining
            : IsPaused(key) ? PoolRejectionReason.Paused
            : SharingReasonFor(waiter) is not PoolRejectionReason.None and var reason ? reason
            : key.WantsFrom is { } lacking ? LackReasonFor(key, lacking)
            : key.Due == key.BackOffUntil && key.Dialing == 0 ? PoolRejectionReason.BackOff
            : key.Dialing + key.AwaitingSettings > 0 ? PoolRejectionReason.Dialing
            : key.Usable > 0 && key.StreamsPerConnection(_limits) == 0 ? PoolRejectionReason.StreamLimit
            : KeyAdmits(waiter.Lane) ? PoolRejectionReason.None
            : LackReasonFor(key, LackOf(key));   // with all that it can carry in use it asks for no permit
    }

    static PoolRejectionReason LackReasonFor(KeyState key, PermitQueue lacking) =>
        lacking == key.Origin.Wanting ? PoolRejectionReason.MaxConnectionsPerHost
        : lacking == key.Partition?.Wanting ? PoolRejectionReason.TenantConnections
        : PoolRejectionReason.MaxConnections;

    /// <summary>Streams that a key can have: on its open connections, on those being opened, and on those that it could still open.</summary>
    public long Capacity(KeyState key) =>
        key.OpenCapacity + ((key.Dialing + (long)Obtainable(key)) * (key.SpeaksHttp2 is null || (key.SpeaksHttp2 is true && key.AdvertisedLimit is null) ? 1 : key.StreamsPerConnection(_limits)));

    void Begin(TimeSpan now, List<SchedulerAction> actions)
    {
        _now = now > _now ? now : _now;
        _actions = actions;
    }

    void End()
    {
        ServeReserved();
        if (_timers.First is { } next && next.Due < _wakeAt)
        {
            _wakeAt = next.Due;
            _actions.Add(new SchedulerAction(ActionKind.WakeAt, At: next.Due));
        }

        _actions = null!;
    }

    bool IsPaused(KeyState key) => _paused || key.Origin.IsPaused;

    /// <summary>Serves who can be served, opens what is missing, notes what the rest waits for.</summary>
    void Settle(KeyState key)
    {
        while (TryServe(key))
        {
        }

        ReleaseHeld(key);
        EndStruggle(key);
        Grow(key);
        GiveUpSilent(key);
        NoteClosedBudgets(key);
        CheckWarmUps(key);
        if (key.Queue.Count > 0 && key.Available.First is { } held && HoldsBack(key, held))
        {
            StartTimer(key, key.SpreadUntil);
        }
        else if (key.BackOffUntil > _now && (key.Queue.Count > 0 || key.WarmConnections > 0))
        {
            StartTimer(key, key.BackOffUntil);
        }
        else if (key.ProbationUntil > _now && key.WarmGoal > key.ReadyOrComing)
        {
            StartTimer(key, key.ProbationUntil);
        }
        else if (key.IsForgettable)
        {
            StartTimer(key, _now + _limits.KeyMemory);
        }
    }

    /// <summary>Serves who is next on the key, or in one lane of it whom the limits over all keys let go.</summary>
    bool TryServe(KeyState key, LaneQueue? lane = null)
    {
        if (key.Queue.Eligible == 0 || key.Available.Count == 0 || IsPaused(key))
        {
            return false;
        }

        return (lane is null ? NextLane(key) : KeyAdmits(lane) && IsOpen(lane.Budget) ? lane : null) is { } next && NextOf(next) is { } waiter && FirstFit(key) is { } connection && !HoldsBack(key, connection) && Serve(waiter, connection);
    }

    bool Serve(Waiter waiter, ConnectionState connection)
    {
        Leave(waiter);
        Grant(waiter, connection);
        return true;
    }

    /// <summary>
    /// Of a cold burst's dials one is through first. Given all that it may carry, it would be crowded and the others, milliseconds later, empty: it gets its share,
    /// and the rest of the burst waits for the others a little, never for one that stalls.
    /// </summary>
    bool HoldsBack(KeyState key, ConnectionState leastLoaded)
    {
        if (_now >= key.SpreadUntil || key.Coming == 0)
        {
            return false;
        }

        var connections = key.Usable + key.Dialing;
        var share = (key.Streams + key.Queue.Eligible + connections - 1) / connections;
        return leastLoaded.Streams >= Math.Max(share, _limits.TargetStreams);
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
        RefusedBy.Add(reason);
        waiter.Share.Lane.Facts.Refusals++;
        waiter.Share.Tenant.Facts.Refusals++;
        _sharing.NoteIdle(waiter.Share.Tenant);
        _actions.Add(new SchedulerAction(ActionKind.Refuse, waiter, kind, reason, error));
    }

    void Grant(Waiter waiter, ConnectionState connection)
    {
        Debug.Assert(connection.CanTakeStream, connection.ToString());
        var key = connection.Key;
        if (connection.IsListedIdle)
        {
            connection.Rested = _now - connection.IdleSince;
            connection.RoseAt = _now;
            connection.HasSuccessor = false;   // its idle time begins anew
            _permits.UnlistIdle(connection);
        }

        // Whoever comes before the first has its answer rides on the same hope.
        waiter.Rested = _now - connection.RoseAt < IdleLimit.Moment ? connection.Rested : TimeSpan.Zero;
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
        waiter.Lane.Streams++;
        Count(waiter.Share, +1);
        StartPaced(waiter);
        _sharing.NoteIdle(waiter.Share.Tenant);
        waiter.Share.Lane.Facts.CountGrant(waiter, waiter.Share.Lane.Leases);
        waiter.Share.Tenant.Facts.CountGrant(waiter, waiter.Share.Tenant.Leases);
        Facts.CountGrant(waiter, Leases);
        key.Facts.CountGrant(waiter, key.Leases);
        waiter.WasGranted = true;
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

    /// <summary>Leases and the limit that they come closest to: the key's capacity, or MaxConcurrentRequests. What still runs on draining connections is in neither.</summary>
    public (int Active, long Limit) Utilization(KeyState key)
    {
        var capacity = Capacity(key);
        return Leases * capacity > key.Streams * (long)_limits.MaxConcurrentRequests ? (Leases, _limits.MaxConcurrentRequests) : (key.Streams, capacity);
    }
}
