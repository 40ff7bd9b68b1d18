using Warmline.Scheduling;

namespace Warmline.Tests.Scheduling;

/// <summary>Who goes next: each grant is held against all that waited, by the rules alone.</summary>
internal sealed partial class SchedulerModel
{
    /// <summary>Before the grant is noted: may this call go, and did nobody come before it?</summary>
    void CheckGrant(Call call)
    {
        var (lane, tenant) = (call.InLane, call.Tenant);
        Require(tenant.Held < tenant.Limits.MaxConcurrentRequests, $"{call} is granted beyond its tenant's limit of {tenant.Limits.MaxConcurrentRequests}");
        Require(lane.Held < lane.Ceiling, $"{call} is granted beyond its lane's ceiling of {lane.Ceiling}");
        Require(_leased.Count < _limits.MaxConcurrentRequests, $"{call} is granted beyond MaxConcurrentRequests");
        Require(LackOfPool(lane, tenant) is PoolRejectionReason.None, $"{call} takes what other lanes have reserved of {_limits.MaxConcurrentRequests}: {HeldText(_heldOf)}");
        var capacity = CapacityOf(call.Home);
        Require(FitsKey(call.Home, lane, capacity, surely: false), $"{call} takes what other lanes have reserved of the key's {capacity}: {HeldText(call.Home.HeldOf)}");
        NoteGrant(call);
        if (call.Home.Waiting.Count > 1)
        {
            CheckOrder(call, call.Home.Waiting, capacity);
        }

        // The last place of the pool goes to whom it is due, whichever key it is that freed it.
        if (_limits.MaxConcurrentRequests - _leased.Count == 1 && _newCall != call && _waiting.Count > 1)
        {
            CheckOrder(call, _waiting, null);
        }
    }

    /// <summary>Nobody among them who surely could have gone comes before the call.</summary>
    void CheckOrder(Call call, List<Call> waiting, (long Least, long Most)? capacity)
    {
        foreach (var other in waiting)
        {
            other.InLane.Oldest = other.Stake.Oldest = long.MaxValue;
            other.InLane.OldestMaybe = other.Stake.OldestMaybe = long.MaxValue;
        }

        // First the candidates: who has waited longest in each lane, and of each tenant in it.
        foreach (var other in waiting)
        {
            other.IsCandidate = other == call || MayGo(other, capacity, surely: true);
            if (other.IsCandidate)
            {
                other.InLane.Oldest = Math.Min(other.InLane.Oldest, other.Order);
                other.Stake.Oldest = Math.Min(other.Stake.Oldest, other.Order);
            }

            if (other.IsCandidate || MayGo(other, capacity, surely: false))
            {
                other.InLane.OldestMaybe = Math.Min(other.InLane.OldestMaybe, other.Order);
                other.Stake.OldestMaybe = Math.Min(other.Stake.OldestMaybe, other.Order);
            }
        }

        var isOverKeys = capacity is null;
        foreach (var other in waiting)
        {
            if (other == call || !other.IsCandidate)
            {
                NotePassed(call, other);
                continue;
            }

            if (other.InLane != call.InLane)
            {
                CheckLanes(call, other);
            }
            else if (other.Tenant != call.Tenant)
            {
                CheckTenants(call, other);
            }
            else
            {
                var comesFirst = other.Priority > call.Priority || (other.Priority == call.Priority && other.Order < call.Order);
                if (isOverKeys && other.Home != call.Home)
                {
                    comesFirst = other.Order < call.Order && other.Priority >= call.Priority;   // between keys priority decides nothing, and who waits longest is told by the keys' first ones
                }

                Require(!comesFirst, $"{call} is granted before {other}, of the same tenant: {other.Order} with priority {other.Priority} before {call.Order} with {call.Priority}");
                if (other.Order < call.Order)
                {
                    _coverage.Note("a priority overtakes");
                }
            }
        }
    }

    void CheckLanes(Call call, Call other)
    {
        Require(call.InLane.Excess <= other.InLane.Excess, $"{call} is granted, its lane holds {call.InLane.Excess} beyond its reserve; {other} waits, its lane holds {other.InLane.Excess}");
        Require(call.InLane.Excess < other.InLane.Excess || call.InLane.OldestMaybe <= other.InLane.Oldest, $"{call} is granted, its lane waits since {call.InLane.OldestMaybe}; {other} waits, its lane since {other.InLane.Oldest}");
        if (other.Order < call.Order)
        {
            _coverage.Note(call.InLane.Excess < other.InLane.Excess ? "a lane overtakes by what it holds" : "a lane overtakes by its oldest call");
        }
    }

    void CheckTenants(Call call, Call other)
    {
        long weight = call.Tenant.Limits.Weight, otherWeight = other.Tenant.Limits.Weight;
        long held = call.Stake.Held * otherWeight, otherHeld = other.Stake.Held * weight;
        var all = call.InLane.Held;
        var weights = WeightsOf(call.InLane);
        Require(call.Stake.Held * weights <= weight * all || other.Stake.Held * weights >= otherWeight * all,
            $"{call} is granted although its tenant holds {call.Stake.Held} of {all}, more than {weight} of {weights}; {other} waits, its tenant holds {other.Stake.Held} and should have {otherWeight} of {weights}");
        Require(held <= otherHeld, $"{call} is granted, its tenant holds {call.Stake.Held} in the lane at weight {weight}; {other} waits, its tenant holds {other.Stake.Held} at weight {otherWeight}");
        if (held == otherHeld)
        {
            Require(call.Stake.Virtual <= other.Stake.Virtual, $"{call} is granted at virtual time {call.Stake.Virtual}; {other} waits at {other.Stake.Virtual}");
            Require(call.Stake.Virtual < other.Stake.Virtual || call.Stake.OldestMaybe <= other.Stake.Oldest, $"{call} is granted, its tenant waits since {call.Stake.OldestMaybe}; {other} waits, its tenant since {other.Stake.Oldest}");
        }

        if (other.Order < call.Order)
        {
            _coverage.Note(held < otherHeld ? "a tenant overtakes by what it holds" : call.Stake.Virtual < other.Stake.Virtual ? "a tenant overtakes by virtual time" : "a tenant overtakes by its oldest call");
        }
    }

    /// <summary>The weights of all that have, or want, something in the lane.</summary>
    long WeightsOf(ModelLane lane)
    {
        long sum = 0;
        foreach (var ((ofLane, tenant), share) in _shares)
        {
            sum += ofLane == lane && share.Held + share.Waiting > 0 ? tenant.Limits.Weight : 0;
        }

        return sum;
    }

    /// <summary>Whether a waiter could go now: surely, or perhaps. Over all keys when no capacity is given: then a stream has to be free at its own.</summary>
    bool MayGo(Call call, (long Least, long Most)? capacity, bool surely)
    {
        if (LackOfPool(call.InLane, call.Tenant) is not PoolRejectionReason.None)
        {
            return false;
        }

        return capacity is { } known ? FitsKey(call.Home, call.InLane, known, surely)
            : !_paused && !call.Home.IsPaused && CouldRide(call.Home) && FitsKey(call.Home, call.InLane, CapacityOf(call.Home), surely);
    }

    void NoteGrant(Call call)
    {
        if (_reserved > 0)
        {
            var where = call.InLane.Reserve == 0 ? "in a lane without reserve" : call.InLane.Held < call.InLane.Reserve ? "in its reserve" : "beyond its reserve";
            _coverage.Note("granted " + where);
        }

        if (call.Tenant.Held + 1 == call.Tenant.Limits.MaxConcurrentRequests)
        {
            _coverage.Note("a tenant reaches its limit");
        }

        if (call.InLane.Held + 1 == call.InLane.Ceiling)
        {
            _coverage.Note("a lane reaches its ceiling");
        }

        if (call.Priority != 0)
        {
            _coverage.Note("granted with a priority");
        }
    }

    void NotePassed(Call call, Call other)
    {
        if (other != call && other.Order < call.Order && other.Home == call.Home)
        {
            var lack = LackOfPool(other.InLane, other.Tenant);
            _coverage.Note($"went past one that lacks {(lack is PoolRejectionReason.None ? "room at the key" : lack.ToString())}");
        }
    }

    string HeldText(int[] held) => string.Join(", ", _lanes.Select(lane => $"'{lane.Name}' {held[lane.Index]} (reserve {lane.Reserve})"));
}
