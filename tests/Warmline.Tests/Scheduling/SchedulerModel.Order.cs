using Warmline.Scheduling;

namespace Warmline.Tests.Scheduling;

/// <summary>Who goes next: each grant is held against all that waited, by the rules alone.</summary>
internal sealed partial class SchedulerModel
{
    readonly Dictionary<(ModelKey Key, ModelShare Share), Call> _heads = [];
    readonly Call?[] _nexts = new Call?[ModelSetup.LaneNames.Length];

    /// <summary>Before the grant is noted: may this call go, and did nobody come before it?</summary>
    void CheckGrant(Call call)
    {
        var (lane, tenant) = (call.InLane, call.Tenant);
        Require(tenant.Held < tenant.Limits.MaxConcurrentRequests, $"{call} is granted beyond its tenant's limit of {tenant.Limits.MaxConcurrentRequests}");
        Require(lane.Held < lane.Ceiling, $"{call} is granted beyond its lane's ceiling of {lane.Ceiling}");
        Require(_leased.Count < _limits.MaxConcurrentRequests, $"{call} is granted beyond MaxConcurrentRequests");
        _hasShrunk = _isSpokenFor = false;
        Require(LackOfPool(lane, tenant) is PoolRejectionReason.None, $"{call} takes what other lanes have reserved of {_limits.MaxConcurrentRequests}: {HeldText(_heldOf)}");
        _coverage.Note(_isSpokenFor ? "a reserve of the pool is used when nothing else is left" : "granted otherwise");
        _isSpokenFor = false;
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

    /// <summary>Nobody among them who surely could have gone comes before the call. A capacity: all are of one key. None: over all keys.</summary>
    void CheckOrder(Call call, List<Call> waiting, (long Least, long Most)? capacity)
    {
        // Who stands for each tenant in each lane on each key: the highest priority, there the first that came.
        _heads.Clear();
        foreach (var other in waiting)
        {
            if (other != call && (other == _newCall || !MayGo(other, capacity)))   // before the new call comes, one that waited for a burst's other dials may find that time over
            {
                NotePassed(call, other);
            }
            else if (!_heads.TryGetValue((other.Home, other.Stake), out var head) || IsFirstOfTenant(other, head))
            {
                _heads[(other.Home, other.Stake)] = other;
            }
        }

        var first = _heads[(call.Home, call.Stake)];
        Require(first == call, $"{call} is granted before {first}, of the same tenant: they came as {call.Order} and {first.Order}");

        // Who stands for each lane: the tenant that holds least for its weight, then the one that was served least, then the one whose head came first.
        Array.Clear(_nexts);
        foreach (var head in _heads.Values)
        {
            ref var next = ref _nexts[head.InLane.Index];
            next = next is null || CompareTenants(head, next) < 0 ? head : next;
            if (head.InLane == call.InLane && head != call)
            {
                CheckTenants(call, head);
            }
        }

        foreach (var next in _nexts)
        {
            if (next is not null && next.InLane != call.InLane)
            {
                CheckLanes(call, next);
            }
        }

        NoteOvertaking(call, waiting);
    }

    static bool IsFirstOfTenant(Call left, Call right) => left.Priority != right.Priority ? left.Priority > right.Priority : left.Order < right.Order;

    static int CompareTenants(Call left, Call right)
    {
        var byShare = ((long)left.Stake.Held * right.Tenant.Limits.Weight).CompareTo((long)right.Stake.Held * left.Tenant.Limits.Weight);
        return byShare != 0 ? byShare
            : left.Stake.Virtual != right.Stake.Virtual ? left.Stake.Virtual.CompareTo(right.Stake.Virtual)
            : left.Order.CompareTo(right.Order);
    }

    void CheckLanes(Call call, Call next)
    {
        Require(call.InLane.Excess <= next.InLane.Excess, $"{call} is granted, its lane holds {call.InLane.Excess} beyond its reserve; {next} waits, its lane holds {next.InLane.Excess}");

        // Which of a lane's waiters stands for it is a matter of all its keys when a limit of the pool holds some back: so lanes that draw are compared where both wait at this key alone.
        var isDraw = call.InLane.Excess == next.InLane.Excess && _waiting.TrueForAll(other => other.Home == call.Home || (other.InLane != call.InLane && other.InLane != next.InLane));
        Require(!isDraw || call.Order < next.Order, $"{call} is granted and came as {call.Order}; {next} waits, is first of a lane that holds as much beyond its reserve, and came as {next.Order}");
    }

    void CheckTenants(Call call, Call head)
    {
        var all = call.InLane.Held;
        var weights = WeightsOf(call.InLane);
        Require(call.Stake.Held * weights <= call.Tenant.Limits.Weight * (long)all || head.Stake.Held * weights >= head.Tenant.Limits.Weight * (long)all,
            $"{call} is granted although its tenant holds {call.Stake.Held} of {all}, more than its share; {head} waits, whose tenant holds {head.Stake.Held}, less than its share");
        Require(CompareTenants(call, head) < 0, $"{call} is granted: {Standing(call)}; {head} waits: {Standing(head)}");
    }

    static string Standing(Call call) => $"holds {call.Stake.Held} in the lane at weight {call.Tenant.Limits.Weight}, virtual time {call.Stake.Virtual}, came as {call.Order}";

    void NoteOvertaking(Call call, List<Call> waiting)
    {
        foreach (var other in waiting)
        {
            if (other.Order < call.Order && _heads.ContainsKey((other.Home, other.Stake)))
            {
                _coverage.Note(other.InLane != call.InLane ? (call.InLane.Excess < other.InLane.Excess ? "a lane overtakes by what it holds" : "a lane overtakes by its next call")
                    : other.Stake == call.Stake ? "a priority overtakes"
                    : (long)call.Stake.Held * other.Tenant.Limits.Weight < (long)other.Stake.Held * call.Tenant.Limits.Weight ? "a tenant overtakes by what it holds"
                    : call.Stake.Virtual < other.Stake.Virtual ? "a tenant overtakes by virtual time" : "a tenant overtakes by its first call");
                if (other.Home != call.Home)
                {
                    _coverage.Note("a key overtakes another");
                }
            }
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

    /// <summary>Whether a waiter surely could go now. Over all keys when no capacity is given: then a stream has to be free at its own.</summary>
    bool MayGo(Call call, (long Least, long Most)? capacity)
    {
        if (LackOfPool(call.InLane, call.Tenant) is not PoolRejectionReason.None)
        {
            return false;
        }

        return capacity is { } known ? FitsKey(call.Home, call.InLane, known, surely: true)
            : !_paused && !call.Home.IsPaused && CouldRide(call.Home) && FitsKey(call.Home, call.InLane, CapacityOf(call.Home), surely: true);
    }

    void NoteGrant(Call call)
    {
        if (_reserved > 0)
        {
            _coverage.Note(_hasShrunk ? "granted where reserves have shrunk" : "granted where reserves are whole");
            _coverage.Note(_isSpokenFor ? "a reserve of the key is used when nothing else is left" : "granted otherwise");
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
