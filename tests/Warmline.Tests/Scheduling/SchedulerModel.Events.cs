using System.Net;
using Warmline.Options;
using Warmline.Scheduling;

namespace Warmline.Tests.Scheduling;

/// <summary>Each event: note in the books what it means, play it, compare.</summary>
internal sealed partial class SchedulerModel
{
    static readonly IPAddress[] Addresses = [IPAddress.Loopback, IPAddress.IPv6Loopback, IPAddress.Parse("192.0.2.1")];
    static readonly IOException DialError = new("no route");

    readonly List<ModelKey> _dialed = [];
    Call? _newCall;
    long _failedOrder = -1;
    ModelKey? _failedKey;
    bool _isTick;
    TimeSpan _lastTick;

    void Acquire(ModelKey key)
    {
        var call = NewCall(key);
        Asked(call);
        _newCall = call;
        Log("Acquire", call);
        _scheduler.Acquire(call, key.Key, _now, _actions);
        Absorb();
        CheckNewCall(call);
        _newCall = null;
    }

    void Cancel(Call call)
    {
        Log("Cancel", call, call.Link?.State.Phase);
        var mattered = call.Phase is CallPhase.Waiting;
        if (mattered)
        {
            LeaveQueue(call);
            End(call);
        }

        _scheduler.Cancel(call, _now, _actions);
        Require(mattered || _actions.Count == 0, "a cancel that came too late did something");
        Absorb();
    }

    void Release(Call call, LeaseOutcome outcome)
    {
        Log("Release " + outcome, call, call.Link?.State.Phase);
        var mattered = call.Phase is CallPhase.Leased;
        var ridden = mattered ? call.Link!.State : null;
        var again = mattered && outcome is LeaseOutcome.NotSent or LeaseOutcome.Unanswered
            && call.Tries < _limits.MaxRedispatches && !_draining && _now < call.Deadline;
        if (mattered)
        {
            var link = call.Link!;
            link.NoMore |= outcome is not (LeaseOutcome.Reusable or LeaseOutcome.Unused);
            DrawHint(link);
            if (again)
            {
                _coverage.Note("placed anew");
                call.Tries++;
                Enqueue(call);   // first: whoever has a call that goes back to its place was never without one
                EndLease(call);
            }
            else
            {
                EndLease(call);
                End(call);
            }
        }

        _scheduler.Release(call, outcome, _now, _actions);
        Require(mattered || _actions.Count == 0, "a release that came twice did something");
        Absorb();
        Require(ridden is not { Phase: ConnectionPhase.Open } || ridden.ExpiresAt > _now, $"{ridden} takes streams beyond its lifetime");
    }

    void UploadEnded(Call call)
    {
        Log("UploadEnded", call, call.Link?.State.Phase);
        call.Weight = 0;
        _scheduler.UploadEnded(call);
        Absorb();
    }

    void DialSucceeded(Link link, bool isHttp2)
    {
        Log($"DialSucceeded {(isHttp2 ? "h2" : "h1")}", link, link.State.Phase);
        var mattered = link.IsDialing;
        if (mattered)
        {
            link.Answered = true;
            link.State.Address = _random.Next(10) == 0 ? null : Addresses[_random.Next(Addresses.Length)];
            link.State.LocalAddress = link.State.Address is null ? null : Addresses[_random.Next(Addresses.Length)];
            link.IsHttp2 = isHttp2;
            link.SettingsDueAt = (link.HasResolved ? link.SettingsDueAt : link.DialedAt) + _limits.ConnectTimeout;
            (link.AdvancedAt, link.Silent, link.GivenUp) = (_now, false, false);
            link.Primed = StateOf(link.Home) is { Failures: > 0 } || link.State.SilentBefore > 0 || link.Home.Links.Exists(other => other.State.Phase is ConnectionPhase.Open);
            link.Home.SpeaksHttp2 = isHttp2;
            if (isHttp2)
            {
                _duties.Add((Duty.Settings, link));
            }
        }

        _scheduler.DialSucceeded(link.State, isHttp2, TimeSpan.FromMilliseconds(50), _now, _actions);
        Require(mattered || _actions.Count == 0, "a dial's answer that came twice did something");
        Absorb();
    }

    void DialAdvanced(Link link)
    {
        Log("DialAdvanced", link, link.State.Phase);
        var mattered = link is { IsDialing: true, GivenUp: false };
        if (mattered)
        {
            link.SettingsDueAt = link.HasResolved ? link.SettingsDueAt : _now;   // the time to connect is added once it is known to be needed
            (link.AdvancedAt, link.Silent, link.HasResolved) = (_now, false, true);
        }

        _scheduler.DialAdvanced(link.State, link.State.Step is DialPhase.Dns ? DialPhase.Tcp : DialPhase.Tls, _now, _actions);
        Require(mattered || _actions.Count == 0, "a step of what is no dial any more did something");
        Absorb();
    }

    void DialFailed(Link link)
    {
        Log("DialFailed", link, link.State.Phase);
        link.State.HasOtherAddress = _random.Next(4) == 0;
        if (link.IsDialing)
        {
            Gone(link);
            Failed(link);
        }
        else if (link.IsUsable && link.IsHttp2 && !link.HasSettings)
        {
            link.NoMore = true;
            Failed(link);
        }

        _scheduler.DialFailed(link.State, DialError, _now, _actions);
        Absorb();
        CheckDialFailure();
    }

    void SettingsSeen(Link link, int limit)
    {
        Log($"SettingsSeen {limit}", link, link.State.Phase);
        if (link.Answered && !link.Closed && !link.CloseAsked && link.IsHttp2)
        {
            link.HasSettings = true;
            link.Silent = false;
            link.Advertised = limit;
            link.Home.Advertised = limit;
        }

        _scheduler.SettingsSeen(link.State, limit, _now, _actions);
        Absorb();
    }

    void ConnectionClosing(Link link, ConnectionEnd end = ConnectionEnd.InOrder)
    {
        Log("ConnectionClosing", link, link.State.Phase);
        NoteIdleEnd(link, RestOf(link), end);
        if (link.IsUsable)
        {
            link.NoMore = true;
            if (link.IsHttp2 && !link.HasSettings)
            {
                Failed(link);
            }
        }

        _scheduler.ConnectionClosing(link.State, end, _now, _actions);
        Absorb();
        CheckFlush();
        CheckDialFailure();
    }

    void ConnectionClosed(Link link)
    {
        Log("ConnectionClosed", link, link.State.Phase);
        NoteIdleEnd(link, RestOf(link), ConnectionEnd.Lost);
        if (link.Answered && !link.Closed)
        {
            if (link.IsUsable && link.IsHttp2 && !link.HasSettings)
            {
                Failed(link);
            }

            Gone(link);
        }

        _scheduler.ConnectionClosed(link.State, _now, _actions);
        Absorb();
        CheckFlush();
        CheckDialFailure();
    }

    void WarmUp(ModelKey key, int target)
    {
        Log($"WarmUp {target}", key.Key);
        var warmUp = new WarmUp(target);
        key.WarmUps.Add(warmUp);
        _scheduler.WarmUp(warmUp, key.Key, _now, _actions);
        Absorb();
    }

    void HoldWarm(ModelKey key, int connections)
    {
        Log($"HoldWarm {connections}", key.Key);
        key.HeldWarm = connections;
        _scheduler.HoldWarm(key.Key, connections, _now, _actions);
        Absorb();
    }

    void SetPaused(ModelKey? key, bool paused)
    {
        // For how long it is paused in any case is sometimes known.
        var atLeast = paused ? TimeSpan.FromMilliseconds(ModelSetup.Pick(_random, 0, 100, 5000)) : default;
        var until = paused ? _now + atLeast : TimeSpan.MinValue;
        Log($"SetPaused {paused}, for {atLeast.TotalMilliseconds} ms", key?.Key.Origin ?? "all");
        if (key is null)
        {
            _paused = paused;
            _pausedUntil = until;
        }

        foreach (var sibling in _keys)
        {
            if (key is not null && sibling.Key.Origin == key.Key.Origin)
            {
                sibling.IsPaused = paused;
                sibling.PausedUntil = until;
            }
        }

        _scheduler.SetPaused(key?.Key.Origin, paused, _now, _actions, atLeast);
        Absorb();
    }

    void Retire(ModelKey? key)
    {
        Log("Retire", key?.Key.Origin ?? "all");
        foreach (var link in _links)
        {
            link.NoMore |= link.IsUsable && (key is null || link.Home.Key.Origin == key.Key.Origin);
        }

        _scheduler.Retire(key?.Key.Origin, _now, _actions);
        Absorb();
    }

    void Retire(string host, IPAddress[] addresses)
    {
        Log("Vanished", host);
        var vanished = 0;
        foreach (var link in _links)
        {
            if (link.IsUsable && link.Home.Key.DialedHost == host && link.State.Address is { } address && !addresses.Contains(address))
            {
                link.NoMore = true;
                vanished++;
            }
        }

        if (vanished > 0)
        {
            _coverage.Note("an address vanished");
        }

        _scheduler.Retire(host, addresses, _now, _actions);
        Require(vanished > 0 || _actions.Count == 0, "an answer that changes nothing did something");
        Absorb();
    }

    void LimitsChanged(SchedulerLimits limits)
    {
        Log("LimitsChanged", limits);
        _log?.Invoke("           " + ModelSetup.Describe(limits));
        _limits = limits;
        TakeLimits();
        _scheduler.LimitsChanged(limits, _now, _actions);
        Absorb();
    }

    void Drain()
    {
        Log("Drain", _links.Count);
        _draining = true;
        Array.ForEach(_keys, key => key.HeldWarm = 0);
        foreach (var link in _links)
        {
            link.NoMore |= link.IsUsable;
        }

        _scheduler.Drain(_now, _actions);
        Absorb();
        Require(_waiting.Count == 0 && WarmUpsUnderWay() == 0, "somebody waits although the pool drains");
    }

    void Tick()
    {
        Log("Tick", _wakeAt);
        _wakeAt = TimeSpan.MaxValue;
        _lastTick = _now;
        _isTick = true;
        _scheduler.Tick(_now, _actions);
        Absorb();
        _isTick = false;
        CheckTick();
    }

    void Failed(Link link)
    {
        if (!link.GivenUp && !link.State.HasOtherAddress)
        {
            _failedOrder = link.Order;
            _failedKey = link.Home;
        }
    }

    void Gone(Link link)
    {
        link.Closed = true;
        _links.Remove(link);
        link.Home.Links.Remove(link);
        if (_gone.Count < 50)
        {
            _gone.Add(link);
        }
        else
        {
            _gone[_random.Next(50)] = link;
        }

        _duties.RemoveAll(duty => duty.Link == link && _random.Next(4) > 0);   // some answers come late all the same
    }

    void End(Call call)
    {
        call.Phase = CallPhase.Ended;
        NoteIdle(call.Tenant);
        if (_finished.Count < 50)
        {
            _finished.Add(call);
        }
        else
        {
            _finished[_random.Next(50)] = call;
        }
    }

    void Log(string name, object subject, ConnectionPhase? phase = null)
    {
        _coverage.Events++;
        if (phase is { } known)
        {
            var space = name.IndexOf(' ');
            _coverage.EventsInPhase.Add((space > 0 && name[0] != 'R' ? name[..space] : name, known));
        }

        _log?.Invoke($"{_now.TotalMilliseconds,8:0} {name} {subject}");
    }
}
