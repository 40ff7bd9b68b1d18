using System.Runtime.CompilerServices;
using Warmline.Scheduling;

namespace Warmline.Tests.Scheduling;

/// <summary>The books: every action is checked against them, and after every event the scheduler's sums and its promises.</summary>
internal sealed partial class SchedulerModel
{
    void Absorb()
    {
        foreach (var action in _actions)
        {
            _log?.Invoke($"           -> {action.Kind} {(action.Kind is ActionKind.WakeAt ? action.At.TotalMilliseconds : action.Target)} {(action.Kind is ActionKind.Refuse ? $"{action.Refusal} {action.Reason}" : "")}");
            _coverage.Actions.Add(action.Kind);
            switch (action.Kind)
            {
                case ActionKind.Grant:
                    Granted((Call)action.Waiter);
                    break;
                case ActionKind.Refuse:
                    Refused((Call)action.Waiter, action);
                    break;
                case ActionKind.Dial:
                    Dialed(action.Connection);
                    break;
                case ActionKind.Prime:
                    var primed = _linkOf[action.Connection];
                    Require(primed is { IsUsable: true, IsHttp2: true, HasSettings: false, Streams.Count: 0 }, $"{primed} is primed");
                    break;
                case ActionKind.SettingsOverdue:
                    var late = _linkOf[action.Connection];
                    Require(_isTick && late is { IsUsable: true, IsHttp2: true, HasSettings: false, OverdueAsked: false } && _now >= late.SettingsDueAt, $"{late} is not overdue");
                    late.OverdueAsked = true;
                    _duties.Add((Duty.Overdue, late));
                    break;
                case ActionKind.Distrust:
                    var still = _linkOf[action.Connection];
                    if (still.IsOnItsWay)
                    {
                        Require((_isTick || _failedKey == still.Home) && !still.Silent && _now - still.AdvancedAt >= TimeSpan.FromMilliseconds(250), $"{still} does not stand still");
                        still.Silent = true;
                        _coverage.Note("a dial stands still");
                    }

                    break;
                case ActionKind.GiveUpDial:
                    var given = _linkOf[action.Connection];
                    Require(given is { IsDialing: true, Silent: true, GivenUp: false }, $"{given} is given up");
                    given.GivenUp = true;
                    _coverage.Note("a dial that stands still is given up");
                    break;
                case ActionKind.Close or ActionKind.Drop:
                    var link = _linkOf[action.Connection];
                    Require(action.Kind is ActionKind.Drop == link.State.IsLost, $"{link} is closed in the wrong way");
                    Require(link is { Answered: true, CloseAsked: false, Closed: false }, $"{link} is closed, which makes no sense");
                    link.CloseAsked = true;
                    _duties.Add((Duty.Close, link));
                    break;
                case ActionKind.WakeAt:
                    _wakeAt = action.At;
                    break;
                case ActionKind.WarmUpEnded:
                    Require(_keys.Any(key => key.WarmUps.Remove(action.WarmUp)), "a warm-up ended twice");
                    _coverage.WarmUpReasons.Add(action.WarmUp.Reason);
                    break;
                case ActionKind.UtilizationHigh:
                    Require(action.Limit > 0 && action.Active * 5L > action.Limit * 4L, $"warned of {action.Active} of {action.Limit}");
                    break;
            }
        }

        _actions.Clear();
        Check();
    }

    void Granted(Call call)
    {
        Require(call.Phase is CallPhase.Waiting, $"{call} is granted, but {call.Phase}");
        Require(!_paused && !call.Home.IsPaused && !_draining, $"{call} is granted in a pause");
        var link = _linkOf[call.Connection!];
        Require(link.Home == call.Home && link.Streams.Count < link.Limit(_limits), $"{call} is granted on {link}");
        CheckRest(call, link);
        foreach (var other in link.Home.Links)
        {
            // One that is about to drain may have been left out, or used up, on purpose.
            Require(!other.IsUsable || !other.State.IsUsable || other.Streams.Count >= other.Limit(_limits) || other.Load >= link.Load, $"{call} is granted on {link}, but {other} is less loaded");
        }

        CheckGrant(call);
        Lease(call, link);
    }

    bool CouldRide(ModelKey key)
    {
        var free = false;
        var crowded = false;
        foreach (var link in key.Links)
        {
            if (link.IsUsable && link.State.IsUsable && link.Streams.Count < link.Limit(_limits))
            {
                free = true;
                crowded |= link.Streams.Count >= _limits.TargetStreams;
            }
        }

        return free && !(crowded && IsHeldBack(key));
    }

    /// <summary>A cold burst may wait for its other dials, briefly, rather than crowd the least loaded connection; over only when the Tick that was asked for has come.</summary>
    bool IsHeldBack(ModelKey key)
    {
        if (!key.Links.Exists(link => link is { IsOnItsWay: true, Silent: false }) || StateOf(key) is not { } state)
        {
            return false;
        }

        Require(state.SpreadUntil <= _now + TimeSpan.FromMilliseconds(50), $"{key.Key} holds its burst back for too long");
        return state.SpreadUntil > _now || (state.SpreadUntil > _lastTick && _wakeAt <= state.SpreadUntil);
    }

    void Dialed(ConnectionState state)
    {
        var home = Array.Find(_keys, key => key.Key.Equals(state.Key.Key))!;
        var link = new Link(state, home, _order, _now);
        var ofOrigin = 0;
        foreach (var other in _links)
        {
            ofOrigin += other.Home.Key.Origin == home.Key.Origin ? 1 : 0;
        }

        Require(!IsBoundByPartition(home), $"dials beyond the {PartitionLimit(home)} connections of {home.Key.Partition}");
        Require(_links.Count < _limits.MaxConnections && ofOrigin < _limits.MaxConnectionsPerHost, $"dials beyond the limit: {_links.Count} connections, {ofOrigin} of the origin");
        Require(!_draining && !_paused && !home.IsPaused && state.Key.BackOffUntil <= _now, "dials although it must not");
        Require(IsDialDue(home), $"dials {home.Key} for nobody who could go");
        if (home.Waiting.Count == 0 && home.HeldWarm > 0 && home.Links.Exists(other => other.State is { HasSuccessor: true, IsListedIdle: true }))
        {
            _coverage.Note("a successor is dialled ahead");
        }

        _linkOf.Add(state, link);
        _links.Add(link);
        home.Links.Add(link);
        _dialed.Add(home);
        _duties.Add((Duty.Dial, link));
    }

    /// <summary>A dial is for what is to be warm, for calls that go on, which spread, or for a waiter whom no limit and no reserve holds back. Claimed for a new call's key: elsewhere
    /// a place that was hoped for when the key asked for a permit may have gone to another key by the time one comes.</summary>
    bool IsDialDue(ModelKey home)
    {
        if (_newCall?.Home != home || home.HeldWarm + home.WarmUps.Count + home.Leases > 0)
        {
            return true;
        }

        var capacity = CapacityOf(home);
        return home.Waiting.Exists(call => LackOfPool(call.InLane, call.Tenant) is PoolRejectionReason.None && (capacity.Least <= 1 || FitsKey(home, call.InLane, capacity, surely: false)));
    }

    void Check()
    {
        Require(_scheduler.Leases == _leased.Count, $"{_scheduler.Leases} leases, should be {_leased.Count}");
        Require(_scheduler.Waiting == _waiting.Count, $"{_scheduler.Waiting} waiting, should be {_waiting.Count}");
        Require(_scheduler.Permits.InUse == _links.Count, $"{_scheduler.Permits.InUse} permits out, should be {_links.Count}");
        Require(_scheduler.Facts.Requests == _calls, "requests are miscounted");
        var idle = 0;
        var due = TimeSpan.MaxValue;
        foreach (var key in _keys)
        {
            Count(key);
            idle += key.Idle;
            Compare(key, StateOf(key));
            foreach (var call in key.Waiting)
            {
                due = call.Deadline < due ? call.Deadline : due;
            }
        }

        foreach (var state in _coverage.Events % 4 == 0 ? _scheduler.Keys : [])
        {
            var home = Array.Find(_keys, key => ReferenceEquals(key.Key, state.Key))!;
            var room = CapacityOf(home);
            Require(room.Least == room.Most && _scheduler.Capacity(state) + home.Excess == room.Most, $"{state.Key} can carry {_scheduler.Capacity(state)}, should be {room}");
        }

        Require(_scheduler.Permits.Idle == idle, $"{_scheduler.Permits.Idle} idle, should be {idle}");
        Require(idle <= _limits.MaxIdleConnections, $"{idle} idle");
        if (!_draining)
        {
            CheckPromises(ref due);
        }

        CheckReasons();
        if (_coverage.Events % 64 == 0)
        {
            CheckStats();
        }

        Require(_wakeAt <= due, $"wakes at {_wakeAt}, but {due} is due");
    }

    KeyState? StateOf(ModelKey key)
    {
        foreach (var state in _scheduler.Keys)
        {
            if (ReferenceEquals(state.Key, key.Key))
            {
                return state;
            }
        }

        return null;
    }

    void Count(ModelKey key)
    {
        key.Dialing = key.Awaiting = key.Usable = key.Idle = key.Coming = 0;
        foreach (var link in key.Links)
        {
            var phase = link.State.Phase;
            if (phase is ConnectionPhase.Draining && !link.NoMore)
            {
                // The scheduler's own decision: too old, or another key or a lower limit needs the permit.
                Require(link.State.ExpiresAt <= _now || link.State.IsReclaimed, $"{link} drains without reason");
                _coverage.Note(link.State.IsReclaimed ? "a busy connection gives way" : "a busy connection is too old");
                link.NoMore = true;
            }

            var expected = link.CloseAsked ? ConnectionPhase.Closing
                : link.IsDialing ? ConnectionPhase.Dialing
                : link.NoMore ? ConnectionPhase.Draining
                : link.IsHttp2 && !link.HasSettings ? ConnectionPhase.AwaitingSettings : ConnectionPhase.Open;
            Require(phase == expected, $"{link} should be {expected}");
            Require(phase is not ConnectionPhase.Draining || link.Streams.Count > 0, $"{link} has nothing to drain");
            Require(link.State.Streams == link.Streams.Count && link.State.Limit == link.Limit(_limits), $"{link}: limit should be {link.Limit(_limits)}");
            Require(link.State.UploadBytes == link.Load - (link.Streams.Count * 16L * 1024), $"{link}: weighs {link.State.UploadBytes}");
            key.Dialing += link.IsDialing ? 1 : 0;
            key.Usable += link.IsUsable ? 1 : 0;
            key.Awaiting += expected is ConnectionPhase.AwaitingSettings ? 1 : 0;
            key.Coming += link is { IsOnItsWay: true, Silent: false } ? 1 : 0;
            var isIdle = expected is ConnectionPhase.Open && link.Streams.Count == 0 && link.Limit(_limits) > 0;
            // What is held warm beyond its time is looked at again one idle timeout later.
            link.IdleSince = isIdle && (!link.WasIdle || key.HeldWarm + key.WarmUps.Count > 0) ? _now : link.IdleSince;
            link.RestSince = isIdle && !link.WasIdle ? _now : link.RestSince;
            link.WasIdle = isIdle;
            key.Idle += isIdle ? 1 : 0;
        }
    }

    void Compare(ModelKey key, KeyState? state)
    {
        if (state is null)
        {
            Require(key.Links.Count + key.Waiting.Count + key.Leases + key.HeldWarm + key.WarmUps.Count == 0, $"{key.Key} was forgotten");
            key.Forget();
            return;
        }

        long capacity = 0;
        var streams = 0;
        var available = 0;
        foreach (var link in key.Links)
        {
            capacity += link.Limit(_limits);
            streams += link.IsUsable ? link.Streams.Count : 0;
            available += link.Streams.Count < link.Limit(_limits) ? 1 : 0;
        }

        Require(state.Dialing == key.Dialing && state.AwaitingSettings == key.Awaiting && state.Usable == key.Usable, $"{key.Key}: {state.Dialing} dialing, {state.AwaitingSettings} awaiting, {state.Usable} usable");
        Require(state.Streams == streams && state.OpenCapacity == capacity && state.Leases == key.Leases, $"{key.Key}: {state.Streams} streams, capacity {state.OpenCapacity}, {state.Leases} leases");
        CheckLearned(key, state);
        Require(state.Idle == key.Idle, $"{key.Key}: {state.Idle} idle, should be {key.Idle}");
        Require(state.Available.Count == available, $"{key.Key}: {state.Available.Count} available, should be {available}");
        Require(state.SpeaksHttp2 == key.SpeaksHttp2 && state.AdvertisedLimit == key.Advertised, $"{key.Key}: {state.SpeaksHttp2}, {state.AdvertisedLimit} should be {key.SpeaksHttp2}, {key.Advertised}");
        Require(state.Queue.Count == key.Waiting.Count, $"{key.Key}: {state.Queue.Count} queued, should be {key.Waiting.Count}");
        foreach (var waiter in state.Queue.All())
        {
            Require(waiter is Call { Phase: CallPhase.Waiting } call && call.Home == key, $"{key.Key}: {waiter} is in its queue");
        }
    }

    void CheckDialFailure()
    {
        if (_failedKey is { } key && key.Dialing + key.Usable == 0)
        {
            foreach (var call in key.Waiting)
            {
                Require(call.Order > _failedOrder, $"{call} waits on although its dial failed and nothing is open or coming");
            }
        }

        _failedKey = null;
    }

    void CheckTick()
    {
        foreach (var call in _waiting)
        {
            Require(call.Deadline > _now, $"{call} waits beyond its deadline");
        }

        foreach (var link in _links)
        {
            var phase = link.State.Phase;
            Require(phase is not ConnectionPhase.Open || link.State.ExpiresAt > _now, $"{link} outlives its lifetime");
            Require(phase is not ConnectionPhase.AwaitingSettings || link.OverdueAsked || link.SettingsDueAt > _now, $"{link} is overdue");
            Require(!IsOverIdle(link, _now), $"{link} is idle for too long");
            Require(!link.IsUsable || RestOf(link) < AllowedIdle(link), $"{link} is idle for {RestOf(link)}, its server allows {AllowedIdle(link)}");
        }
    }

    bool IsOverIdle(Link link, TimeSpan now) =>
        link.WasIdle && link.IsUsable && _limits.IdleTimeout != Timeout.InfiniteTimeSpan && link.IdleSince + _limits.IdleTimeout <= now && link.Home.HeldWarm == 0 && link.Home.WarmUps.Count == 0;

    static void Require(bool holds, [InterpolatedStringHandlerArgument(nameof(holds))] ref Complaint complaint)
    {
        if (!holds)
        {
            throw new ModelException(complaint.ToString());
        }
    }

    static void Require(bool holds, string complaint)
    {
        if (!holds)
        {
            throw new ModelException(complaint);
        }
    }
}
