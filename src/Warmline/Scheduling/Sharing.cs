using Warmline.Options;

namespace Warmline.Scheduling;

/// <summary>A class of traffic, over all keys.</summary>
internal sealed class LaneState(LaneSettings settings)
{
    public LaneSettings Settings { get; set; } = settings;

    public string Name => Settings.Name;

    /// <summary>Leases, those on draining connections included.</summary>
    public int Leases { get; set; }

    public int Waiting { get; set; }

    /// <summary>Waiters that were counted to get a lease, while those of a key are counted.</summary>
    public int Counted { get; set; }

    /// <summary>How far its tenants have been served: the virtual time of the one served last, before that counted.</summary>
    public long VirtualTime { get; set; }

    public KeyFacts Facts { get; } = new();

    /// <summary>The lane on keys where limits of the whole pool hold its waiters back.</summary>
    public IndexedHeap<LaneQueue, LaneQueue.FairOrder> Held { get; } = new();

    /// <summary>What it holds beyond its reserve: among lanes the one with the least goes first.</summary>
    public int Surplus => Math.Max(0, Leases - Settings.Reserve);
}

/// <summary>Whoever shares the pool with others, over all keys and lanes.</summary>
internal sealed class TenantState(string name, TenantLimits limits)
{
    public string Name { get; } = name;

    public TenantLimits Limits { get; set; } = limits;

    public int Leases { get; set; }

    public int Waiting { get; set; }

    public KeyFacts Facts { get; } = new();

    /// <summary>The tenant in each lane that it used.</summary>
    public List<TenantShare> Shares { get; } = [];

    /// <summary>Leases that it may still get.</summary>
    public int Room => Math.Max(0, Limits.MaxConcurrentRequests - Leases);

    public bool IsLimited => Limits.MaxConcurrentRequests < int.MaxValue;

    public bool IsIdle => Leases == 0 && Waiting == 0;

    /// <summary>Its place among those that could be forgotten, the one first that has been idle for longest; null while it is not idle.</summary>
    public LinkedListNode<TenantState>? Idle { get; set; }
}

/// <summary>A tenant in a lane: what fairness counts.</summary>
internal sealed class TenantShare(TenantState tenant, LaneState lane)
{
    /// <summary>Divides by every weight up to 20 without a rest.</summary>
    const long OneLease = 232_792_560;

    public TenantState Tenant { get; } = tenant;

    public LaneState Lane { get; } = lane;

    public int Leases { get; private set; }

    /// <summary>What it was served so far, by weight: among tenants that hold alike the one with the least goes first, so that also a single place goes round.</summary>
    public long VirtualTime { get; private set; }

    /// <summary>The most leases by which any of its queues has its place in an order: while it holds no fewer, none has to move up.</summary>
    public int Highest { get; set; }

    /// <summary>Where it waits: once for each key. With the key's lane, so that the right one is found without touching the others.</summary>
    public List<(LaneQueue Lane, TenantQueue Queue)> Queues { get; } = [];

    /// <summary>It asks. One that was away gets no credit for it.</summary>
    public void Returns()
    {
        if (Leases == 0 && Queues.Count == 0)
        {
            VirtualTime = Lane.VirtualTime;
        }
    }

    public void Granted()
    {
        Leases++;
        Lane.Leases++;
        Tenant.Leases++;
        Lane.VirtualTime = VirtualTime;
        VirtualTime += OneLease / Tenant.Limits.Weight;
    }

    public void Ended()
    {
        Leases--;
        Lane.Leases--;
        Tenant.Leases--;
    }
}

/// <summary>The lanes and tenants that a pool knows, and the arithmetic of reserves.</summary>
internal sealed class SharingLedger
{
    readonly Dictionary<string, LaneState> _lanes = new(StringComparer.Ordinal);
    readonly Dictionary<string, TenantState> _tenants = new(StringComparer.Ordinal);
    readonly LinkedList<TenantState> _idle = new();
    readonly List<LaneState> _reserving = [];
    readonly TenantShare _plain;
    SharingSettings _settings;
    long _reserved;

    public SharingLedger(SharingSettings settings)
    {
        _settings = settings;
        var lane = Add(new LaneState(Without("")));
        _plain = new TenantShare(AddTenant(""), lane);
        _plain.Tenant.Shares.Add(_plain);
        Configure();
    }

    /// <summary>All lanes; a list, as every event goes through it.</summary>
    public List<LaneState> Lanes { get; } = [];

    public IReadOnlyCollection<TenantState> Tenants => _tenants.Values;

    /// <summary>Lanes with a reserve.</summary>
    public List<LaneState> Reserving => _reserving;

    public bool HasReserves => _reserved > 0;

    public bool HasLanes => _lanes.Count > 1;

    public TenantShare ShareOf(string laneName, string tenantName)
    {
        if (laneName.Length == 0 && tenantName.Length == 0)
        {
            return _plain;
        }

        if (!_tenants.TryGetValue(tenantName, out var tenant))
        {
            tenant = AddTenant(tenantName);
            Trim();
        }

        if (!_lanes.TryGetValue(laneName, out var lane))
        {
            lane = Add(new LaneState(Without(laneName)));   // it was taken out of the options while the call was on its way
        }

        foreach (var share in tenant.Shares)
        {
            if (share.Lane == lane)
            {
                return share;
            }
        }

        var added = new TenantShare(tenant, lane);
        tenant.Shares.Add(added);
        return added;
    }

    /// <summary>To be told when a tenant may have become idle, or may be it no longer.</summary>
    public void NoteIdle(TenantState tenant)
    {
        if (tenant.Name.Length == 0 || tenant.IsIdle == (tenant.Idle?.List is not null))
        {
            return;
        }

        if (!tenant.IsIdle)
        {
            _idle.Remove(tenant.Idle!);
            return;
        }

        _idle.AddLast(tenant.Idle ??= new LinkedListNode<TenantState>(tenant));
        Trim();
    }

    /// <summary>A lane's reserve where the capacity is so much: all of it, or its part of all but one place. That one is for those without a reserve.</summary>
    public long Reserved(LaneState lane, long capacity)
    {
        var room = Math.Max(0, capacity - 1);
        return _reserved <= room ? lane.Settings.Reserve : lane.Settings.Reserve * room / _reserved;
    }

    /// <summary>New options. Who waits must have been taken out of every order before, as weights change, and is put back after it.</summary>
    public void Configure(SharingSettings settings)
    {
        _settings = settings;
        foreach (var tenant in _tenants.Values)
        {
            tenant.Limits = settings.LimitsOf(tenant.Name);
        }

        Configure();
        Trim();
    }

    void Configure()
    {
        foreach (var lane in _lanes.Values.ToArray())
        {
            lane.Settings = _settings.Lanes.TryGetValue(lane.Name, out var known) ? known : Without(lane.Name);
            if (known is null && lane is { Name.Length: > 0, Leases: 0, Waiting: 0 })
            {
                _lanes.Remove(lane.Name);
                Lanes.Remove(lane);
            }
        }

        foreach (var settings in _settings.Lanes.Values)
        {
            if (!_lanes.ContainsKey(settings.Name))
            {
                Add(new LaneState(settings));
            }
        }

        _reserving.Clear();
        _reserving.AddRange(_lanes.Values.Where(lane => lane.Settings.Reserve > 0));
        _reserved = _reserving.Sum(lane => (long)lane.Settings.Reserve);
    }

    public bool Knows(LaneState lane) => _lanes.TryGetValue(lane.Name, out var known) && known == lane;

    void Trim()
    {
        while (_tenants.Count - 1 > _settings.MaxKnownTenants && _idle.First is { } longest)
        {
            _idle.Remove(longest);
            _tenants.Remove(longest.Value.Name);
        }
    }

    LaneState Add(LaneState lane)
    {
        _lanes.Add(lane.Name, lane);
        Lanes.Add(lane);
        return lane;
    }

    TenantState AddTenant(string name)
    {
        var tenant = new TenantState(name, _settings.LimitsOf(name));
        _tenants.Add(name, tenant);
        return tenant;
    }

    static LaneSettings Without(string name) => LaneSettings.None(CallTimeouts.Default) with { Name = name };
}
