using Warmline.Options;
using Warmline.Scheduling;

namespace Warmline.Tests.Scheduling;

/// <summary>The books of lanes and tenants, and who may go by them: counted from events and grants alone.</summary>
internal sealed partial class SchedulerModel
{
    readonly ModelLane[] _lanes = [.. ModelSetup.LaneNames.Select((name, index) => new ModelLane(name, index))];
    readonly Dictionary<string, ModelTenant> _tenants = [];
    readonly Dictionary<(ModelLane Lane, ModelTenant Tenant), ModelShare> _shares = [];
    readonly int[] _heldOf = new int[ModelSetup.LaneNames.Length];
    long _reserved;
    bool _hasShrunk;
    bool _isSpokenFor;

    ModelTenant TenantOf(string name)
    {
        if (!_tenants.TryGetValue(name, out var tenant))
        {
            _tenants.Add(name, tenant = new ModelTenant(name) { Limits = _limits.Sharing.LimitsOf(name) });
        }

        return tenant;
    }

    ModelShare ShareOf(ModelLane lane, ModelTenant tenant)
    {
        if (!_shares.TryGetValue((lane, tenant), out var share))
        {
            _shares.Add((lane, tenant), share = new ModelShare());
        }

        return share;
    }

    Call NewCall(ModelKey key)
    {
        var lane = _lanes[_setup.Sharing is SharingKind.None or SharingKind.Tenants ? 0 : _random.Next(_lanes.Length)];
        var tenant = TenantOf(_setup.Sharing switch
        {
            SharingKind.None or SharingKind.Lanes => "",
            SharingKind.Partitions => key.Key.Partition,
            _ => ModelSetup.TenantName(_random.NextDouble() < _setup.FirstTenantShare ? 1 : _random.Next(_setup.Tenants + 1)),
        });
        return new Call(++_calls, key, ++_order, lane, tenant, ShareOf(lane, tenant))
        {
            UploadBytes = _random.Next(3) == 0 ? _random.Next(100_000) : 0,
            Deadline = _setup.MaxQueueMilliseconds == 0 || _random.Next(10) == 0 ? TimeSpan.MaxValue : _now + TimeSpan.FromMilliseconds(_random.Next(_setup.MaxQueueMilliseconds)),
            LaneName = lane.Name,
            TenantName = tenant.Name,
            Priority = _setup.Sharing is SharingKind.None || _random.Next(2) == 0 ? 0 : _random.Next(-2, 3),
        };
    }

    void Asked(Call call)
    {
        call.InLane.Requests++;
        call.Tenant.Requests++;
        NoteAsked(call.Tenant);
        Enqueue(call);
    }

    void Enqueue(Call call)
    {
        if (call.Stake is { Held: 0, Waiting: 0 } share)
        {
            share.Virtual = call.InLane.Virtual;
        }

        call.Phase = CallPhase.Waiting;
        call.Stake.Waiting++;
        call.InLane.Waiting++;
        call.Tenant.Waiting++;
        _waiting.Add(call);
        var at = call.Home.Waiting.FindLastIndex(other => other.Order < call.Order);
        call.Home.Waiting.Insert(at + 1, call);
    }

    void LeaveQueue(Call call)
    {
        call.Home.Waiting.Remove(call);
        _waiting.Remove(call);
        call.Stake.Waiting--;
        call.InLane.Waiting--;
        call.Tenant.Waiting--;
    }

    void Lease(Call call, Link link)
    {
        call.InLane.Virtual = call.Stake.Virtual;
        call.Stake.Virtual += ModelSetup.VirtualStep / call.Tenant.Limits.Weight;
        LeaveQueue(call);
        call.Phase = CallPhase.Leased;
        call.Link = link;
        call.Weight = call.UploadBytes;
        call.Home.Leases++;
        call.Stake.Held++;
        call.InLane.Peak = Math.Max(call.InLane.Peak, ++call.InLane.Held);
        call.Tenant.Peak = Math.Max(call.Tenant.Peak, ++call.Tenant.Held);
        link.Streams.Add(call);
        _leased.Add(call);
    }

    void EndLease(Call call)
    {
        call.Link!.Streams.Remove(call);
        call.Home.Leases--;
        call.Stake.Held--;
        call.InLane.Held--;
        call.Tenant.Held--;
        _leased.Remove(call);
        call.Weight = 0;
        call.Link = null;
    }

    void TakeLimits()
    {
        _reserved = 0;
        foreach (var lane in _lanes)
        {
            var settings = _limits.Sharing.Lanes.GetValueOrDefault(lane.Name);
            if (lane.IsConfigured && settings is null && lane.Held > 0)
            {
                _coverage.Note("a lane vanished with calls in flight");
            }

            lane.IsConfigured = settings is not null;
            lane.IsSteady &= lane.IsConfigured;
            lane.Reserve = settings?.Reserve ?? 0;
            lane.Ceiling = settings?.Ceiling ?? int.MaxValue;
            lane.MaxQueueLength = settings?.MaxQueueLength ?? int.MaxValue;
            _reserved += lane.Reserve;
        }

        foreach (var tenant in _tenants.Values)
        {
            var limits = _limits.Sharing.LimitsOf(tenant.Name);
            if (limits.Weight != tenant.Limits.Weight && tenant.IsBusy)
            {
                _coverage.Note("a weight changed in flight");
            }

            tenant.Limits = limits;
        }

        ForgetTenants();
    }

    /// <summary>What the pool lacks for one more call of the lane and the tenant, wherever it goes; None when nothing.</summary>
    PoolRejectionReason LackOfPool(ModelLane lane, ModelTenant tenant)
    {
        if (tenant.Held >= tenant.Limits.MaxConcurrentRequests)
        {
            return PoolRejectionReason.TenantLimit;
        }

        if (lane.Held >= lane.Ceiling)
        {
            return PoolRejectionReason.LaneCeiling;
        }

        if (_leased.Count + _triedLeases >= _limits.MaxConcurrentRequests)
        {
            return PoolRejectionReason.MaxConcurrentRequests;
        }

        if (_limits.MaxConcurrentRequests == int.MaxValue || _reserved == 0)
        {
            return PoolRejectionReason.None;
        }

        foreach (var other in _lanes)
        {
            _heldOf[other.Index] = other.Held;
        }

        return Fits(_limits.MaxConcurrentRequests, _heldOf, lane) ? PoolRejectionReason.None : PoolRejectionReason.LaneReserve;
    }

    /// <summary>Whether a place of so many is the lane's own, or one that no other lane has reserved.</summary>
    bool Fits(long capacity, int[] held, ModelLane lane)
    {
        long room = Math.Max(0, capacity - 1), taken = 0, own = 0;
        _hasShrunk |= _reserved > room;
        foreach (var other in _lanes)
        {
            var reserve = _reserved <= room ? other.Reserve : other.Reserve * room / _reserved;
            taken += Math.Max(held[other.Index], reserve);
            own = other == lane ? reserve : own;
        }

        _isSpokenFor = taken >= capacity;
        return held[lane.Index] < own || taken + 1 <= capacity;
    }

    /// <summary>Whether the reserves leave room at a key that can carry between so many and so many streams: surely, or perhaps.
    /// A larger capacity is not always kinder: it can raise two reserves at once.</summary>
    bool FitsKey(ModelKey key, ModelLane lane, (long Least, long Most) capacity, bool surely)
    {
        if (_reserved == 0)
        {
            return true;
        }

        if (capacity.Most - capacity.Least > 200)
        {
            return !surely;
        }

        for (var at = capacity.Least; at <= capacity.Most; at++)
        {
            if (Fits(at, key.HeldOf, lane) != surely)
            {
                return !surely;
            }
        }

        return surely;
    }

    /// <summary>Streams that the key can have: on what is open, on what comes, on what could still be opened; the least and the most, as within an event the scheduler
    /// counts a connection as idle, and so as obtainable for others, a little later than it becomes so. Streams beyond a limit that the server lowered take
    /// nothing from other connections. Counts on the way what each lane holds there.</summary>
    (long Least, long Most) CapacityOf(ModelKey key)
    {
        long open = 0;
        int dialing = 0, inOrigin = 0, inPartition = 0;
        (int All, int OfOrigin, int OfPartition) idleSurely = default, idlePerhaps = default;
        var unsure = false;
        Array.Clear(key.HeldOf);
        key.Excess = 0;
        foreach (var link in _links)
        {
            var ofOrigin = link.Home.Key.Origin == key.Key.Origin ? 1 : 0;
            var ofPartition = link.Home.Key.Partition == key.Key.Partition ? 1 : 0;
            inOrigin += ofOrigin;
            inPartition += ofPartition;
            if (link.Home == key)
            {
                open += link.Limit(_limits);
                dialing += link.IsDialing ? 1 : 0;
                unsure |= link.IsUsable && !link.State.IsUsable && link.Streams.Count > 0;   // it drains by the end of this event: before or after this moment
                if (link.IsUsable)
                {
                    key.Excess += Math.Max(0, link.Streams.Count - link.Limit(_limits));
                    foreach (var call in link.Streams)
                    {
                        key.HeldOf[call.InLane.Index]++;
                    }
                }
            }
            else if (link is { IsUsable: true, Streams.Count: 0 } && link.Limit(_limits) > 0 && (!link.IsHttp2 || link.HasSettings))
            {
                idlePerhaps = (idlePerhaps.All + 1, idlePerhaps.OfOrigin + ofOrigin, idlePerhaps.OfPartition + ofPartition);
                if (link.WasIdle)
                {
                    idleSurely = (idleSurely.All + 1, idleSurely.OfOrigin + ofOrigin, idleSurely.OfPartition + ofPartition);
                }
            }
        }

        var each = key.SpeaksHttp2 is null || (key.SpeaksHttp2 is true && key.Advertised is null) ? 1 : key.SpeaksHttp2 is false ? 1 : Math.Min(_limits.MaxStreamsPerConnection, key.Advertised ?? int.MaxValue);
        open += key.Excess;
        return unsure ? (0, long.MaxValue) : (open + ((dialing + Obtainable(idleSurely)) * each), open + ((dialing + Obtainable(idlePerhaps)) * each));

        // What is free of each kind of permit, and what others would give: their idle connections.
        long Obtainable((int All, int OfOrigin, int OfPartition) idle) => Math.Max(0, Math.Min((long)_limits.MaxConnections - _links.Count + idle.All,
            Math.Min((long)_limits.MaxConnectionsPerHost - inOrigin + idle.OfOrigin, (long)PartitionLimit(key) - inPartition + idle.OfPartition)));
    }

    int PartitionLimit(ModelKey key) =>
        _limits.Sharing.Isolation is TenantIsolation.Connections && key.Key.Partition.Length > 0 ? _limits.Sharing.LimitsOf(key.Key.Partition).MaxConnections : int.MaxValue;

    bool IsBoundByPartition(ModelKey key)
    {
        var limit = PartitionLimit(key);
        return limit < int.MaxValue && _links.Count(link => link.Home.Key.Partition == key.Key.Partition) >= limit;
    }

    SharingSettings WithoutZeros(SharingSettings sharing) => new()
    {
        Lanes = sharing.Lanes.ToDictionary(lane => lane.Key, lane => lane.Value with { Ceiling = Math.Max(1, lane.Value.Ceiling) }),
        Isolation = sharing.Isolation,
        EachTenant = WithoutZero(sharing.EachTenant),
        Named = sharing.Named.ToDictionary(tenant => tenant.Key, tenant => WithoutZero(tenant.Value)),
        MaxKnownTenants = sharing.MaxKnownTenants,
    };

    static TenantLimits WithoutZero(TenantLimits limits) => limits with { MaxConcurrentRequests = Math.Max(1, limits.MaxConcurrentRequests) };
}
