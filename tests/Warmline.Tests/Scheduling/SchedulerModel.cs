using Warmline.Scheduling;

namespace Warmline.Tests.Scheduling;

/// <summary>
/// One random run: plays events against a scheduler and answers its actions late and in random order, as a slow and unreliable network would.
/// Books of its own are kept and compared after every event (see the other half). Everything follows from the seed.
/// </summary>
internal sealed partial class SchedulerModel
{
    readonly Random _random;
    readonly ModelSetup _setup;
    readonly ModelCoverage _coverage;
    readonly Action<string>? _log;
    readonly Scheduler _scheduler;
    readonly List<SchedulerAction> _actions = [];
    readonly ModelKey[] _keys;
    readonly List<Call> _waiting = [];
    readonly List<Call> _leased = [];
    readonly List<Call> _finished = [];
    readonly List<Link> _links = [];
    readonly List<Link> _gone = [];
    readonly List<(Duty Duty, Link Link)> _duties = [];
    readonly Dictionary<ConnectionState, Link> _linkOf = [];

    SchedulerLimits _limits;
    TimeSpan _now = TimeSpan.FromSeconds(1);
    TimeSpan _wakeAt = TimeSpan.MaxValue;
    long _order;
    int _calls;
    bool _paused;
    TimeSpan _pausedUntil = TimeSpan.MinValue;
    bool _draining;
    bool _isKind;
    int _step;

    public SchedulerModel(int seed, ModelCoverage coverage, Action<string>? log = null)
    {
        _random = new Random(seed);
        _setup = ModelSetup.Draw(_random);
        _coverage = coverage;
        _log = log;
        _limits = _setup.Limits;
        _scheduler = new Scheduler(_limits, seed);
        _keys = [.. _setup.Keys.Select(key => new ModelKey(key))];
        TakeLimits();
        log?.Invoke(_setup.ToString());
    }

    public void Run()
    {
        for (var step = 0; step < _setup.Steps; step++)
        {
            Step();
        }

        if (_random.Next(3) > 0)
        {
            Quiesce();
        }

        Drain();
        for (var step = _random.Next(50); step > 0; step--)
        {
            Step();
        }

        Empty();
    }

    void Step()
    {
        Advance(TimeSpan.FromMilliseconds(_random.Next(5) == 0 ? _random.Next(_setup.MaxStepMilliseconds + 1) : 0));
        if (++_step % 16 == 0 && _links.Find(link => link is { IsUsable: true, State.Served: true } && RestOf(link) >= Moment) is { } rested)
        {
            ConnectionClosing(rested);   // two such ends teach a limit
        }

        var dice = _random.NextDouble();
        if ((dice -= _setup.AcquireShare) < 0)
        {
            Acquire(_keys[_random.Next(_keys.Length)]);
        }
        else if ((dice -= _setup.ReleaseShare) < 0)
        {
            if (_leased.Count > 0)
            {
                Release(Any(_leased), DrawOutcome());
            }
        }
        else if (_random.NextDouble() < _setup.OddShare)
        {
            OddEvent();
        }
        else if (_random.Next(12) == 0)
        {
            UsualEvent();
        }
        else
        {
            AnswerSomething();
        }
    }

    void UsualEvent()
    {
        switch (_random.Next(6))
        {
            case 5 when _links.Count > 0:
                DialAdvanced(Any(_links));
                break;
            case 0 when _waiting.Count > 0:
                Cancel(Any(_waiting));
                break;
            case 1 when _leased.Count > 0:
                UploadEnded(Any(_leased));
                break;
            case 2 when _links.Count > 0:
                ConnectionClosing(Any(_links));
                break;
            case 3 when _links.Count > 0:
                ConnectionClosed(Any(_links));
                break;
            case 4 when _links.Count > 0:
                SettingsSeen(Any(_links), DrawStreamLimit());
                break;
        }
    }

    /// <summary>What happens seldom, and what comes too late, twice or to the wrong phase.</summary>
    void OddEvent()
    {
        var key = _keys[_random.Next(_keys.Length)];
        var link = _gone.Count > 0 && _random.Next(3) == 0 ? Any(_gone) : _links.Count > 0 ? Any(_links) : null;
        switch (_random.Next(21))
        {
            case 0 or 1:
                WarmUp(key, _random.Next(1, 12));
                break;
            case 2:
                HoldWarm(key, _random.Next(3) == 0 ? 0 : _random.Next(1, 6));
                break;
            case 3:
                SetPaused(_random.Next(4) == 0 ? null : key, paused: true);
                break;
            case 4 or 5:
                SetPaused(_random.Next(4) == 0 ? null : key, paused: false);
                break;
            case 6:
                Retire(_random.Next(3) == 0 ? null : key);
                break;
            case 16:
                Retire(key.Key.DialedHost, [.. Addresses.Where(_ => _random.Next(3) > 0)]);
                break;
            case 17 when _random.Next(4) == 0:
                ClockJumped();
                break;
            case 18:
                LocalAddresses([.. Addresses.Where(_ => _random.Next(5) > 0)]);
                break;
            case 19 when link is not null:
                ConnectionClosing(link, (ConnectionEnd)_random.Next(3));
                break;
            case 20 when _leased.Count > 0:
                Bypass(Any(_leased), (ConnectionEnd)_random.Next(3));
                break;
            case 7:
                LimitsChanged(ModelSetup.DrawLimits(_random, _setup.Sharing, _setup.Tenants));
                break;
            case 8 when _leased.Count > 0:
                Cancel(Any(_leased));
                break;
            case 9 when _finished.Count > 0:
                Stale(Any(_finished));
                break;
            case 10 when _waiting.Count > 0:
                Release(Any(_waiting), LeaseOutcome.Reusable);
                break;
            case 11:
                Tick();
                break;
            case 12 when link is not null:
                DialSucceeded(link, _random.Next(2) == 0);
                break;
            case 13 when link is not null:
                DialFailed(link);
                break;
            case 14 when link is not null:
                SettingsSeen(link, DrawStreamLimit());
                break;
            case 15 when link is not null:
                if (_random.Next(2) == 0)
                {
                    ConnectionClosing(link);
                }
                else
                {
                    ConnectionClosed(link);
                }

                break;
        }
    }

    void Stale(Call call)
    {
        switch (_random.Next(4))
        {
            case 0:
                Cancel(call);
                break;
            case 3:
                Bypass(call, (ConnectionEnd)_random.Next(3));
                break;
            case 1:
                Release(call, (LeaseOutcome)_random.Next(4));
                break;
            default:
                UploadEnded(call);
                break;
        }
    }

    void AnswerSomething()
    {
        if (_duties.Count == 0)
        {
            return;
        }

        var at = _random.Next(_duties.Count);
        var (duty, link) = _duties[at];
        _duties[at] = _duties[^1];
        _duties.RemoveAt(_duties.Count - 1);
        switch (duty)
        {
            case Duty.Dial when _random.NextDouble() < (_isKind ? 0.1 : _setup.DialFailureShare):
                DialFailed(link);
                break;
            case Duty.Dial:
                DialSucceeded(link, link.Home.Key.Protocols switch
                {
                    Options.HttpProtocols.Http1 => false,
                    Options.HttpProtocols.Http2 => true,
                    _ => link.Home.Key.IsHttps && _random.NextDouble() < _setup.Http2Share,
                });
                break;
            case Duty.Settings:
                var luck = _random.Next(10);
                if (luck < 7 || _isKind)
                {
                    SettingsSeen(link, _isKind ? 100 : DrawStreamLimit());
                }
                else if (luck == 7)
                {
                    ConnectionClosed(link);
                }

                break;   // else they never come
            case Duty.Overdue:
                DialFailed(link);
                break;
            case Duty.Close:
                ConnectionClosed(link);
                break;
        }
    }

    /// <summary>No new requests; the network behaves and time goes on: everyone has to be served or refused, and the pool to come to rest.</summary>
    void Quiesce()
    {
        _isKind = true;
        _log?.Invoke("-- quiesce");
        SetPaused(null, paused: false);
        foreach (var key in _keys)
        {
            SetPaused(key, paused: false);
        }

        if (_lanes.Any(lane => lane.Ceiling == 0) || _tenants.Values.Any(tenant => tenant.Limits.MaxConcurrentRequests == 0))
        {
            LimitsChanged(_limits with { Sharing = WithoutZeros(_limits.Sharing) });   // or they would wait for ever, as they should
        }

        for (var round = 0; _waiting.Count + _leased.Count + _duties.Count + WarmUpsUnderWay() > 0; round++)
        {
            Require(round < 30_000, $"comes to no rest: {_waiting.Count} waiting, {_leased.Count} leased, {_duties.Count} duties, {WarmUpsUnderWay()} warm-ups");
            if (_duties.Count > 0 && _random.Next(3) > 0)
            {
                AnswerSomething();
            }
            else if (_leased.Count > 0 && _random.Next(2) == 0)
            {
                Release(Any(_leased), LeaseOutcome.Reusable);
            }
            else if (_links.Find(link => link is { IsUsable: true, HasSettings: true, Advertised: 0 }) is { } closedToAll)
            {
                SettingsSeen(closedToAll, 100);
            }
            else if (_duties.Count + _leased.Count == 0)
            {
                Require(_wakeAt < TimeSpan.MaxValue, $"{_waiting.Count} waiting, nothing under way and no timer");
                _now = _wakeAt > _now ? _wakeAt : _now;
                Tick();
            }
        }

        CheckWarmth();
        _isKind = false;
    }

    /// <summary>After a drain: every answer comes, every stream ends; nothing may be left.</summary>
    void Empty()
    {
        _log?.Invoke("-- empty");
        for (var round = 0; _leased.Count + _duties.Count + WarmUpsUnderWay() > 0; round++)
        {
            Require(round < 10_000, "does not get empty");
            if (_leased.Count > 0 && _random.Next(2) == 0)
            {
                Release(Any(_leased), DrawOutcome());
            }
            else
            {
                AnswerSomething();
            }
        }

        foreach (var key in _keys.Where(key => key.HeldWarm > 0))
        {
            HoldWarm(key, 0);
        }

        for (var round = 0; _wakeAt < TimeSpan.MaxValue; round++)
        {
            Require(round < 1000, "timers without end");
            _now = _wakeAt > _now ? _wakeAt : _now;
            Tick();
        }

        Require(_scheduler is { Leases: 0, Waiting: 0 }, "leases or waiters are left");
        CheckStats();
        Require(_scheduler.Permits is { InUse: 0, Idle: 0 }, "permits are left");
        Require(_links.Count == 0 && _duties.Count == 0, "connections are left");
        Require(_scheduler.Keys.Count == 0, "keys are left");
    }

    void Advance(TimeSpan step)
    {
        _now += step;
        if (_now >= _wakeAt && _random.Next(4) > 0)
        {
            Tick();
        }
    }

    int WarmUpsUnderWay()
    {
        var count = 0;
        foreach (var key in _keys)
        {
            count += key.WarmUps.Count;
        }

        return count;
    }

    LeaseOutcome DrawOutcome() => _isKind ? LeaseOutcome.Reusable : _random.Next(10) switch
    {
        0 => LeaseOutcome.ConnectionBroken,
        1 => _leased.Count % 2 == 0 ? LeaseOutcome.NotSent : LeaseOutcome.Unanswered,
        2 => LeaseOutcome.Unused,
        _ => LeaseOutcome.Reusable,
    };

    int DrawStreamLimit() => ModelSetup.Pick(_random, 0, 1, 10, 100, 100, int.MaxValue);

    T Any<T>(List<T> items) => items[_random.Next(items.Count)];
}
