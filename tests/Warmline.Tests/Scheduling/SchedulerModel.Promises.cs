using Warmline.Scheduling;

namespace Warmline.Tests.Scheduling;

/// <summary>What waiters may rely on after every event: nobody waits while something it may use is free, or could be made free.</summary>
internal sealed partial class SchedulerModel
{
    readonly List<Call> _tried = [];
    int _triedLeases;

    void CheckPromises(ref TimeSpan due)
    {
        var wantedOfPool = 0;
        var starvingOfPool = 0;
        var warm = 0;
        foreach (var key in _keys)
        {
            key.Need = NeedOf(key, ref due);
            if (key.Need > 0 && !IsBoundByHost(key) && !IsBoundByPartition(key))
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
            CheckPartition(key);
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
            // So it may when lanes and tenants decide whether a key has anyone to dial for.
            var isStarving = _setup.Sharing is SharingKind.None && key.Need > 0 && key.Usable + key.Dialing == 0 && !IsBoundByHost(key) && _limits.MaxConcurrentRequests == int.MaxValue && HasNeverFailed(key);
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
    int NeedOf(ModelKey key, ref TimeSpan due)
    {
        if (key.Waiting.Count == 0 || _paused || key.IsPaused)
        {
            return 0;
        }

        var capacity = CapacityOf(key);
        CheckNobodyIsForgotten(key, capacity);
        var isStarving = key.Usable + key.Dialing == 0;
        var grantable = isStarving && capacity.Most == 0 ? Math.Min(1, GrantableOf(key, null)) : GrantableOf(key, capacity.Least);   // one connection tells more
        if (grantable == 0)
        {
            return 0;
        }

        if (StateOf(key) is { } holding && key.Links.Any(link => link.IsUsable && link.State.IsUsable && link.Streams.Count < link.Limit(_limits)))
        {
            _coverage.Note("a cold burst is held back");
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
            return isStarving ? 1 : 0;
        }

        var coming = ((long)key.Coming * each) - key.Links.Sum(link => link is { IsOnItsWay: true, Silent: false } ? link.Limit(_limits) : 0);
        var missing = Math.Max(0, grantable - coming);
        if (_limits.MaxConcurrentRequests < int.MaxValue || key.Waiting.Exists(call => call.InLane.Ceiling < int.MaxValue || call.Tenant.Limits.MaxConcurrentRequests < int.MaxValue))
        {
            // A place that another key freed is offered to each key in turn: at least one connection has to be on its way, more follow.
            missing = coming > 0 ? 0 : Math.Min(missing, 1);
        }

        var dials = (int)((missing + each - 1) / each);
        dials = key.SpeaksHttp2 is null ? Math.Min(dials, Math.Max(0, _limits.SpreadConnections - key.Links.Count(link => link is { IsDialing: true, Silent: false }))) : dials;
        dials = StateOf(key) is { Hedge.SilentInRow: > 0 } silent ? Math.Min(dials, silent.Hedge.IsOver ? 0 : Math.Max(0, 1 - key.Coming)) : dials;   // one at a time, until one gets through
        return Math.Min(dials, Math.Max(0, _limits.MaxDialsInFlight - key.Dialing));
    }

    /// <summary>Nobody waits while a stream is free that it may use; least of all for a place that its own lane has reserved.</summary>
    void CheckNobodyIsForgotten(ModelKey key, (long Least, long Most) capacity)
    {
        if (!CouldRide(key))
        {
            return;
        }

        foreach (var call in key.Waiting)
        {
            var lack = LackOfPool(call.InLane, call.Tenant);
            if (lack is PoolRejectionReason.None && !FitsKey(key, call.InLane, capacity, surely: true))
            {
                lack = PoolRejectionReason.LaneReserve;
            }

            Require(lack is not PoolRejectionReason.None || call.InLane.Held >= call.InLane.Reserve, $"{call} waits although a place is free that its lane has reserved");
            Require(lack is not PoolRejectionReason.None, $"{call} waits although a connection is free");
            _coverage.Note($"a stream stays free for want of {lack}");
        }
    }

    /// <summary>How many of the key's waiters could go together if it had the streams, by the lanes, tenants and the reserves of the pool, and of the key where its capacity is given:
    /// tried out one by one in the order of their arrival. Another order may let more go, so this is the least.</summary>
    int GrantableOf(ModelKey key, long? capacity)
    {
        if (_setup.Sharing is SharingKind.None)
        {
            return Math.Max(0, Math.Min(key.Waiting.Count, _limits.MaxConcurrentRequests - _leased.Count));
        }

        var count = 0;
        _tried.Clear();
        foreach (var call in key.Waiting)
        {
            if (LackOfPool(call.InLane, call.Tenant) is not PoolRejectionReason.None || (capacity is { } known && _reserved > 0 && !Fits(known, key.HeldOf, call.InLane)))
            {
                continue;
            }

            Try(call, 1);
            _tried.Add(call);
            if (++count == 200)
            {
                break;
            }
        }

        foreach (var call in _tried)
        {
            Try(call, -1);
        }

        return count;
    }

    /// <summary>As if it were granted.</summary>
    void Try(Call call, int sign)
    {
        call.InLane.Held += sign;
        call.Tenant.Held += sign;
        call.Home.HeldOf[call.InLane.Index] += sign;
        _triedLeases += sign;
    }

    void CheckOrigin(ModelKey first)
    {
        var wanted = 0;
        var starving = 0;
        foreach (var key in _keys)
        {
            if (key.Key.Origin == first.Key.Origin && key.Need > 0 && IsBoundByHost(key) && !IsBoundByPartition(key))
            {
                wanted += key.Need;
                starving += key.Usable + key.Dialing == 0 ? 1 : 0;
            }
        }

        var counts = CountPermits(link => link.Home.Key.Origin == first.Key.Origin);
        if (wanted > 0)
        {
            CheckGivingWay(_limits.MaxConnectionsPerHost - counts.All, counts, wanted, starving);
        }

        Require((long)counts.All - counts.Opening - counts.Closing - counts.Reclaimed <= _limits.MaxConnectionsPerHost || counts.Open == 0, $"{first.Key.Origin}: {counts.All} connections, and none that is too many gives way");
    }

    /// <summary>A partition's keys give way to each other as an origin's do.</summary>
    void CheckPartition(ModelKey first)
    {
        var limit = PartitionLimit(first);
        if (limit == int.MaxValue)
        {
            return;
        }

        var wanted = 0;
        var starving = 0;
        foreach (var key in _keys)
        {
            if (key.Key.Partition == first.Key.Partition && key.Need > 0 && IsBoundByPartition(key) && !IsBoundByHost(key))
            {
                wanted += key.Need;
                starving += key.Usable + key.Dialing == 0 ? 1 : 0;
            }
        }

        var counts = CountPermits(link => link.Home.Key.Partition == first.Key.Partition);
        if (wanted > 0)
        {
            CheckGivingWay(limit - counts.All, counts, wanted, starving);
            _coverage.Note(starving > 0 ? "a key starves by its partition" : "a key wants more than its partition has");
        }

        Require((long)counts.All - counts.Opening - counts.Closing - counts.Reclaimed <= limit || counts.Open == 0, $"{first.Key.Partition}: {counts.All} connections, and none that is too many gives way");
    }

    void CheckGivingWay(int free, (int All, int Opening, int Open, int Idle, int Closing, int Reclaimed) counts, int wanted, int starving)
    {
        Require(counts.Idle == 0 || free + counts.Closing >= wanted, $"{counts.Idle} connections stay idle while {wanted} are wanted and {counts.Closing} close");
        Require(counts.Open == 0 || free + counts.Closing + counts.Reclaimed >= starving, $"{starving} keys starve, but only {counts.Closing} + {counts.Reclaimed} connections give way");
        _coverage.Note(starving > 1 ? "several keys starve" : starving == 1 ? "a key starves" : "a key wants more");
    }

    (int All, int Opening, int Open, int Idle, int Closing, int Reclaimed) CountPermits(Predicate<Link>? which)
    {
        (int All, int Opening, int Open, int Idle, int Closing, int Reclaimed) counts = default;
        foreach (var link in _links)
        {
            if (which?.Invoke(link) is false)
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
        if (key.HeldWarm > key.Usable + key.Dialing - key.Links.Count(link => link is { IsOnItsWay: true, Silent: true }) && key.Dialing < _limits.MaxDialsInFlight && warm <= _limits.MaxIdleConnections
            && !_paused && !key.IsPaused && _links.Count < _limits.MaxConnections && !IsBoundByHost(key) && !IsBoundByPartition(key))
        {
            var state = StateOf(key)!;
            var backOff = state.BackOffUntil;
            if (((state.Failures > 0 || state.Hedge.SilentInRow > 0) && key.Coming > 0) || state.Hedge.IsOver || state.ProbationUntil > _lastTick)
            {
                return;   // one at a time
            }

            Require(backOff > _now || (backOff > _lastTick && _wakeAt <= backOff), $"{key.Key}: {key.Usable} + {key.Dialing} connections, should hold {key.HeldWarm}");
        }
    }

    void CheckWarmth()
    {
        foreach (var key in _keys)
        {
            _coverage.Note(key.HeldWarm > 0 && key.HeldWarm <= key.Usable ? "warm again after all" : "nothing to hold");
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
