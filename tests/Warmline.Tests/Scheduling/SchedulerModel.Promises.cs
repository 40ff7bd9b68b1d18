using Warmline.Scheduling;

namespace Warmline.Tests.Scheduling;

/// <summary>What waiters may rely on after every event: nobody waits while something it may use is free, or could be made free.</summary>
internal sealed partial class SchedulerModel
{
    void CheckPromises(ref TimeSpan due)
    {
        var grantable = _limits.MaxConcurrentRequests - _leased.Count;
        var wantedOfPool = 0;
        var starvingOfPool = 0;
        var warm = 0;
        foreach (var key in _keys)
        {
            key.Need = NeedOf(key, grantable, ref due);
            if (key.Need > 0 && !IsBoundByHost(key))
            {
                wantedOfPool += key.Need;
                starvingOfPool += key.Usable + key.Dialing == 0 ? 1 : 0;
            }

            warm += key.HeldWarm;
            foreach (var warmUp in key.WarmUps)
            {
                Require(key.Usable - key.Awaiting < warmUp.Target && key.Dialing + key.Awaiting > 0, $"{key.Key}: the warm-up has nothing to wait for");
            }
        }

        var counts = CountPermits(null);
        if (wantedOfPool > 0)
        {
            Require(_links.Count >= _limits.MaxConnections, "a permit is free while a key needs it");
            CheckGivingWay(_limits.MaxConnections - _links.Count, counts, wantedOfPool, starvingOfPool);
        }

        CheckTurns();

        // What is over a lowered limit is on its way back, as far as it can be told to be.
        Require(_links.Count - counts.Opening - counts.Closing - counts.Reclaimed <= _limits.MaxConnections || counts.Open == 0, $"{_links.Count} connections, and none that is too many gives way");
        foreach (var key in _keys)
        {
            CheckOrigin(key);
            CheckHeldWarm(key, warm);
        }

        foreach (var link in _links)
        {
            NoteDue(link, ref due);
        }
    }

    /// <summary>Who has had no connection for longest gets the next permit; above all, no key takes back at once the permit that it gave to another.</summary>
    void CheckTurns()
    {
        foreach (var key in _keys)
        {
            // When a back-off ends without a Tick, or a place becomes free for several, the scheduler's idea of who came first may be the finer one.
            var isStarving = key.Need > 0 && key.Usable + key.Dialing == 0 && !IsBoundByHost(key) && _limits.MaxConcurrentRequests == int.MaxValue && HasNeverFailed(key);
            foreach (var other in _dialed)
            {
                Require(!isStarving || key.StarvesSince >= other.StarvesSince || !HasNeverFailed(other), $"{other.Key} gets a permit although {key.Key} starves for longer");
            }
        }

        foreach (var key in _keys)
        {
            key.StarvesSince = key.Need == 0 || key.Usable + key.Dialing > 0 ? long.MaxValue : Math.Min(key.StarvesSince, _coverage.Events);
        }

        _dialed.Clear();
    }

    bool HasNeverFailed(ModelKey key) => StateOf(key) is { Failures: 0 } state && state.FailedAt == TimeSpan.MinValue;

    /// <summary>Connections that are missing until each of the key's waiters that may be served has a place coming.</summary>
    int NeedOf(ModelKey key, int grantable, ref TimeSpan due)
    {
        if (key.Waiting.Count == 0 || _paused || key.IsPaused || grantable <= 0)
        {
            return 0;
        }

        Require(!CouldRide(key), $"{key.Waiting[0]} waits although a connection is free");
        if (StateOf(key) is { } holding && key.Links.Any(link => link.IsUsable && link.State.IsUsable && link.Streams.Count < link.Limit(_limits)))
        {
            _coverage.Situations.Add("a cold burst is held back");
            due = holding.SpreadUntil < due ? holding.SpreadUntil : due;
            return 0;
        }

        if (StateOf(key) is { } state && (state.BackOffUntil > _now || (state.BackOffUntil > _lastTick && _wakeAt <= state.BackOffUntil)))
        {
            // Over only when the Tick that was asked for has come.
            due = state.BackOffUntil < due ? state.BackOffUntil : due;
            return 0;
        }

        var each = key.SpeaksHttp2 is false ? 1 : Math.Min(_limits.MaxStreamsPerConnection, key.Advertised ?? int.MaxValue);
        if (each == 0)
        {
            return key.Usable + key.Dialing == 0 ? 1 : 0;
        }

        var coming = ((long)key.Dialing * each) + ((long)key.Awaiting * (each - 1));
        var missing = Math.Max(0, Math.Min(key.Waiting.Count, grantable) - coming);
        if (_limits.MaxConcurrentRequests < int.MaxValue)
        {
            // A place that another key freed is offered to each key in turn: at least one connection has to be on its way, more follow.
            missing = coming > 0 ? 0 : Math.Min(missing, 1);
        }

        var dials = (int)((missing + each - 1) / each);
        dials = key.SpeaksHttp2 is null ? Math.Min(dials, Math.Max(0, _limits.SpreadConnections - key.Dialing)) : dials;
        return Math.Min(dials, Math.Max(0, _limits.MaxDialsInFlight - key.Dialing));
    }

    void CheckOrigin(ModelKey first)
    {
        var wanted = 0;
        var starving = 0;
        foreach (var key in _keys)
        {
            if (key.Key.Origin == first.Key.Origin && key.Need > 0 && IsBoundByHost(key))
            {
                wanted += key.Need;
                starving += key.Usable + key.Dialing == 0 ? 1 : 0;
            }
        }

        var counts = CountPermits(first);
        if (wanted > 0)
        {
            CheckGivingWay(_limits.MaxConnectionsPerHost - counts.All, counts, wanted, starving);
        }

        Require((long)counts.All - counts.Opening - counts.Closing - counts.Reclaimed <= _limits.MaxConnectionsPerHost || counts.Open == 0, $"{first.Key.Origin}: {counts.All} connections, and none that is too many gives way");
    }

    void CheckGivingWay(int free, (int All, int Opening, int Open, int Idle, int Closing, int Reclaimed) counts, int wanted, int starving)
    {
        Require(counts.Idle == 0 || free + counts.Closing >= wanted, $"{counts.Idle} connections stay idle while {wanted} are wanted and {counts.Closing} close");
        Require(counts.Open == 0 || free + counts.Closing + counts.Reclaimed >= starving, $"{starving} keys starve, but only {counts.Closing} + {counts.Reclaimed} connections give way");
        _coverage.Situations.Add(starving > 1 ? "several keys starve" : starving == 1 ? "a key starves" : "a key wants more");
    }

    (int All, int Opening, int Open, int Idle, int Closing, int Reclaimed) CountPermits(ModelKey? ofOrigin)
    {
        (int All, int Opening, int Open, int Idle, int Closing, int Reclaimed) counts = default;
        foreach (var link in _links)
        {
            if (ofOrigin is not null && link.Home.Key.Origin != ofOrigin.Key.Origin)
            {
                continue;
            }

            counts.All++;
            counts.Opening += link.State.Phase is ConnectionPhase.Dialing or ConnectionPhase.AwaitingSettings ? 1 : 0;
            counts.Open += link.State.Phase is ConnectionPhase.Open ? 1 : 0;
            counts.Idle += link.WasIdle && link.IsUsable ? 1 : 0;
            counts.Closing += link.CloseAsked ? 1 : 0;
            counts.Reclaimed += !link.CloseAsked && link.NoMore && link.State.IsReclaimed ? 1 : 0;
        }

        return counts;
    }

    bool IsBoundByHost(ModelKey key)
    {
        var count = 0;
        foreach (var link in _links)
        {
            count += link.Home.Key.Origin == key.Key.Origin ? 1 : 0;
        }

        return count >= _limits.MaxConnectionsPerHost;
    }

    /// <summary>What is to be held warm is there, or coming, where nothing stands against it.</summary>
    void CheckHeldWarm(ModelKey key, int warm)
    {
        if (key.HeldWarm > key.Usable + key.Dialing && key.Dialing < _limits.MaxDialsInFlight && warm <= _limits.MaxIdleConnections
            && !_paused && !key.IsPaused && _links.Count < _limits.MaxConnections && !IsBoundByHost(key))
        {
            var backOff = StateOf(key)!.BackOffUntil;
            Require(backOff > _now || (backOff > _lastTick && _wakeAt <= backOff), $"{key.Key}: {key.Usable} + {key.Dialing} connections, should hold {key.HeldWarm}");
        }
    }

    void CheckWarmth()
    {
        foreach (var key in _keys)
        {
            _coverage.Situations.Add(key.HeldWarm > 0 && key.HeldWarm <= key.Usable ? "warm again after all" : "nothing to hold");
        }
    }

    void NoteDue(Link link, ref TimeSpan due)
    {
        var at = link.State.Phase switch
        {
            ConnectionPhase.AwaitingSettings when !link.OverdueAsked => link.SettingsDueAt,
            ConnectionPhase.Open => link.State.ExpiresAt,
            _ => TimeSpan.MaxValue,
        };
        if (IsOverIdle(link, TimeSpan.MaxValue) && link.IdleSince + _limits.IdleTimeout < at)
        {
            at = link.IdleSince + _limits.IdleTimeout;
        }

        if (link is { WasIdle: true, IsUsable: true } && AllowedIdle(link) is var allowed && allowed < TimeSpan.MaxValue && link.RestSince + allowed < at)
        {
            at = link.RestSince + allowed;
        }

        due = at < due ? at : due;
    }
}
