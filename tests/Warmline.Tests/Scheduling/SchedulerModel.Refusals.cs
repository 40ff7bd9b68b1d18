using Warmline.Scheduling;

namespace Warmline.Tests.Scheduling;

/// <summary>Who is refused, and what the others are told that they wait for: by the books alone.</summary>
internal sealed partial class SchedulerModel
{
    int _looks;

    void Refused(Call call, SchedulerAction action)
    {
        _coverage.Refusals.Add((action.Refusal, action.Reason));
        Require(call.Phase is CallPhase.Waiting, $"{call} is refused, but {call.Phase}");
        Require(action.Refusal switch
        {
            RefusalKind.Rejected => _draining ? action.Reason is PoolRejectionReason.Draining : call == _newCall && IsRejectionDue(call, action.Reason),
            RefusalKind.TimedOut => _isTick && call.Deadline <= _now && CanLack(call, action.Reason),
            _ => action.Reason is PoolRejectionReason.Dialing && (IsWithoutHope(call.Home)
                || (_failedKey == call.Home && call.Order <= _failedOrder && !call.Home.Links.Exists(link => link.IsDialing || link.IsUsable))),
        }, $"{call} is refused: {action.Refusal}, {action.Reason}");
        call.InLane.Refused++;
        call.Tenant.Refused++;
        LeaveQueue(call);
        End(call);
        if (call == _newCall && action.Reason is PoolRejectionReason.QueueFull or PoolRejectionReason.LaneQueueFull or PoolRejectionReason.TenantQueueFull)
        {
            var free = !_paused && !call.Home.IsPaused && CouldRide(call.Home);
            Require(!free || LackOfPool(call.InLane, call.Tenant) is not PoolRejectionReason.None || !FitsKey(call.Home, call.InLane, CapacityOf(call.Home), surely: true),
                $"{call} is refused for a full queue although it could go at once");
        }
    }

    /// <summary>A dial has failed that stood still, and all that is on its way does.</summary>
    bool IsWithoutHope(ModelKey key) => (_isTick || _failedKey == key) && key.Links.TrueForAll(link => link.IsOnItsWay ? link.Silent : !link.IsUsable);

    /// <summary>Why a new call may be refused at once. It is among the waiting already.</summary>
    bool IsRejectionDue(Call call, PoolRejectionReason reason) => reason switch
    {
        PoolRejectionReason.QueueFull => _waiting.Count > _limits.MaxQueueLength,
        PoolRejectionReason.LaneQueueFull => call.InLane.Waiting > call.InLane.MaxQueueLength,
        PoolRejectionReason.TenantQueueFull => call.Tenant.Waiting > call.Tenant.Limits.MaxQueueLength,
        _ => IsHopeless(call, reason),
    };

    /// <summary>Whether it is certain, for that reason, that the call cannot be served in time.</summary>
    bool IsHopeless(Call call, PoolRejectionReason reason) => reason switch
    {
        PoolRejectionReason.LaneCeiling => call.InLane.Ceiling == 0,
        PoolRejectionReason.TenantLimit => call.Tenant.Limits.MaxConcurrentRequests == 0,
        PoolRejectionReason.BackOff => !call.Home.Links.Exists(link => link.IsUsable || link.IsDialing) && StateOf(call.Home) is { } state && state.BackOffUntil > call.Deadline,
        PoolRejectionReason.Paused => (_paused && _pausedUntil > call.Deadline) || (call.Home.IsPaused && call.Home.PausedUntil > call.Deadline),
        _ => false,
    };

    void CheckNewCall(Call call)
    {
        if (call.Phase is not CallPhase.Ended)
        {
            _idleTenants.Remove(call.Tenant);   // a request that is refused at once changes nothing there
        }

        if (call.Phase is not CallPhase.Waiting)
        {
            return;
        }

        Require(!_draining, $"{call} waits in a pool that drains");
        Require(_waiting.Count <= _limits.MaxQueueLength, $"{call} waits as number {_waiting.Count}, {_limits.MaxQueueLength} may");
        Require(call.InLane.Waiting <= call.InLane.MaxQueueLength, $"{call} waits as number {call.InLane.Waiting} of its lane, {call.InLane.MaxQueueLength} may");
        Require(call.Tenant.Waiting <= call.Tenant.Limits.MaxQueueLength, $"{call} waits as number {call.Tenant.Waiting} of its tenant, {call.Tenant.Limits.MaxQueueLength} may");
        foreach (var reason in (ReadOnlySpan<PoolRejectionReason>)[PoolRejectionReason.LaneCeiling, PoolRejectionReason.TenantLimit, PoolRejectionReason.BackOff, PoolRejectionReason.Paused])
        {
            Require(!IsHopeless(call, reason), $"{call} waits although {reason} ends all hope");
        }
    }

    /// <summary>Some of those that wait are told something that the books confirm.</summary>
    void CheckReasons()
    {
        for (var look = 0; look < 2 && _waiting.Count > 0; look++)
        {
            var call = _waiting[_looks++ % _waiting.Count];
            var reason = _scheduler.ReasonFor(call);
            _coverage.Note($"waits for {reason}");
            Require(CanLack(call, reason), $"{call} is told that it waits for {reason}");
            Require(FirstLack(call) is PoolRejectionReason.None || reason == FirstLack(call), $"{call} is told that it waits for {reason}, but it is {FirstLack(call)}");
        }
    }

    /// <summary>Of what can be told without a look at connections, what lacks first.</summary>
    PoolRejectionReason FirstLack(Call call) =>
        _draining ? PoolRejectionReason.Draining : _paused || call.Home.IsPaused ? PoolRejectionReason.Paused : LackOfPool(call.InLane, call.Tenant);

    /// <summary>Whether the call can lack that by the books.</summary>
    bool CanLack(Call call, PoolRejectionReason reason)
    {
        var home = call.Home;
        return reason switch
        {
            PoolRejectionReason.None => false,
            PoolRejectionReason.Paused => _paused || home.IsPaused,
            PoolRejectionReason.TenantLimit => call.Tenant.Held >= call.Tenant.Limits.MaxConcurrentRequests,
            PoolRejectionReason.LaneCeiling => call.InLane.Held >= call.InLane.Ceiling,
            PoolRejectionReason.MaxConcurrentRequests => _leased.Count >= _limits.MaxConcurrentRequests,
            PoolRejectionReason.LaneReserve => _reserved > 0 && (LackOfPool(call.InLane, call.Tenant) is PoolRejectionReason.LaneReserve || LacksReserveAt(home, call.InLane)),
            PoolRejectionReason.MaxConnectionsPerHost => IsBoundByHost(home),
            PoolRejectionReason.TenantConnections => IsBoundByPartition(home),
            // Or what its connections carry beyond a limit that the server lowered is all that the key can have.
            PoolRejectionReason.MaxConnections => _links.Count >= _limits.MaxConnections || (_reserved > 0 && home.Links.Exists(link => link.IsUsable && link.Streams.Count > link.Limit(_limits))),
            PoolRejectionReason.BackOff => home.Links.TrueForAll(link => !link.IsDialing) && StateOf(home)!.FailedAt > TimeSpan.MinValue,
            PoolRejectionReason.Dialing => home.Links.Exists(link => link.IsDialing || link is { IsUsable: true, IsHttp2: true, HasSettings: false }),
            PoolRejectionReason.StreamLimit => home.Links.Exists(link => link.IsUsable) && home.Advertised == 0,
            _ => false,
        };
    }

    /// <summary>What is left of the key's streams is reserved: some are left.</summary>
    bool LacksReserveAt(ModelKey home, ModelLane lane)
    {
        var capacity = CapacityOf(home);
        return !FitsKey(home, lane, capacity, surely: true) && home.HeldOf.Sum() < capacity.Most;
    }
}
