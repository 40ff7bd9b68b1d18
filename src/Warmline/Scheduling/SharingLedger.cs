using Warmline.Options;

namespace Warmline.Scheduling;

/// <summary>The lanes and tenants that a pool knows, and the size of reserves.</summary>
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

    /// <summary>All lanes. A list, as every event iterates over it.</summary>
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
            lane = Add(new LaneState(Without(laneName)));   // it was removed from the options while the call was on its way
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

    /// <summary>Updates the list of idle tenants. Called when a tenant may have become idle or busy.</summary>
    public void TrackIdle(TenantState tenant)
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

    /// <summary>
    /// A lane's reserve at this capacity: all of it, or its part of all places but one. That one is for lanes without a reserve.
    /// </summary>
    public long Reserved(LaneState lane, long capacity)
    {
        var room = Math.Max(0, capacity - 1);
        return _reserved <= room ? lane.Settings.Reserve : lane.Settings.Reserve * room / _reserved;
    }

    /// <summary>Takes new options. As weights change, waiters must be removed from every order before and put back afterwards.</summary>
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
