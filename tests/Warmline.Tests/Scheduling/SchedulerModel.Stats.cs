using Warmline.Options;
using Warmline.Scheduling;

namespace Warmline.Tests.Scheduling;

/// <summary>What is shown of lanes and tenants is what the books say, and no more tenants are remembered than may be.</summary>
internal sealed partial class SchedulerModel
{
    /// <summary>Tenants that are remembered; the one of the calls that name none always is, and does not count.</summary>
    readonly HashSet<ModelTenant> _known = [];

    /// <summary>Of these, those without a request, by when they had their last.</summary>
    readonly List<ModelTenant> _idleTenants = [];

    void NoteAsked(ModelTenant tenant)
    {
        if (tenant.Name.Length > 0 && _known.Add(tenant))
        {
            ForgetTenants();
        }
    }

    void NoteIdle(ModelTenant tenant)
    {
        if (tenant is { Name.Length: > 0, IsBusy: false } && !_idleTenants.Contains(tenant))
        {
            _idleTenants.Add(tenant);
            ForgetTenants();
        }
    }

    void ForgetTenants()
    {
        while (_known.Count > _limits.Sharing.MaxKnownTenants && _idleTenants.Count > 0)
        {
            _coverage.Note("a tenant is forgotten");
            _idleTenants[0].Forget();
            _known.Remove(_idleTenants[0]);
            _idleTenants.RemoveAt(0);
        }

        if (_known.Count > _limits.Sharing.MaxKnownTenants)
        {
            _coverage.Note("more tenants are busy than may be known");
        }
    }

    void CheckStats()
    {
        var stats = _scheduler.Stats();
        Require(stats.Lanes.Count == _limits.Sharing.Lanes.Count, $"{stats.Lanes.Count} lanes are shown, {_limits.Sharing.Lanes.Count} are configured");
        foreach (var shown in stats.Lanes)
        {
            var lane = Array.Find(_lanes, lane => lane.Name == shown.Lane);
            Require(lane is { IsConfigured: true }, $"lane {shown.Lane} is shown");
            Require(shown.Reserve == lane!.Reserve && (shown.Ceiling ?? int.MaxValue) == lane.Ceiling, $"{shown}: {lane.Reserve}..{lane.Ceiling} is in force");
            Require(shown.Active == lane.Held && shown.Queued == lane.Waiting, $"{shown}: {lane.Held} held, {lane.Waiting} waiting");
            Require(shown.Available == AvailableTo(lane), $"{shown}: {AvailableTo(lane)} could still be placed");
            Require(!lane.IsSteady || (shown.TotalRequests == lane.Requests && shown.Refused == lane.Refused && shown.PeakActive == lane.Peak), $"{shown}: {lane.Requests} requests, {lane.Refused} refused, at most {lane.Peak}");
        }

        foreach (var tenant in _scheduler.Sharing.Tenants)
        {
            Require(tenant.Name.Length == 0 || _known.Contains(_tenants[tenant.Name]), $"tenant {tenant.Name} is remembered beyond {_limits.Sharing.MaxKnownTenants}");
        }

        Require(_scheduler.Sharing.Tenants.Count(tenant => tenant.Name.Length > 0) == _known.Count, $"{_known.Count} tenants should be remembered");
        var busy = _tenants.Values.Where(tenant => tenant.IsBusy).ToList();
        Require(stats.Tenants.Count == busy.Count, $"{stats.Tenants.Count} tenants are shown, {busy.Count} have requests");
        foreach (var shown in stats.Tenants)
        {
            var tenant = _tenants.GetValueOrDefault(shown.Tenant);
            Require(tenant is { IsBusy: true }, $"tenant {shown.Tenant} is shown");
            Require(shown.Weight == tenant!.Limits.Weight && (shown.MaxConcurrentRequests ?? int.MaxValue) == tenant.Limits.MaxConcurrentRequests, $"{shown}: {tenant.Limits} is in force");
            Require(shown.Active == tenant.Held && shown.Queued == tenant.Waiting, $"{shown}: {tenant.Held} held, {tenant.Waiting} waiting");
            Require(shown.TotalRequests == tenant.Requests && shown.Refused == tenant.Refused && shown.PeakActive == tenant.Peak, $"{shown}: {tenant.Requests} requests, {tenant.Refused} refused, at most {tenant.Peak}");
            var connections = _limits.Sharing.Isolation is TenantIsolation.Connections && shown.Tenant.Length > 0 ? _links.Count(link => link.Home.Key.Partition == shown.Tenant) : 0;
            Require(shown.Connections == connections, $"{shown}: {connections} connections");
        }
    }

    /// <summary>Calls of the lane that could still be placed: in the pool, and at the key with the most room.</summary>
    long AvailableTo(ModelLane lane)
    {
        var ofKeys = -1L;
        foreach (var state in _scheduler.Keys)
        {
            var key = Array.Find(_keys, key => ReferenceEquals(key.Key, state.Key))!;
            ofKeys = Math.Max(ofKeys, RoomOf(CapacityOf(key).Most - key.Excess, key.HeldOf, lane));
        }

        var most = Math.Min((long)_limits.MaxConcurrentRequests - _leased.Count, (long)lane.Ceiling - lane.Held);
        foreach (var other in _lanes)
        {
            _heldOf[other.Index] = other.Held;
        }

        most = _limits.MaxConcurrentRequests == int.MaxValue ? most : Math.Min(most, RoomOf(_limits.MaxConcurrentRequests, _heldOf, lane));
        return Math.Max(0, ofKeys < 0 ? most : Math.Min(most, ofKeys));
    }

    long RoomOf(long capacity, int[] held, ModelLane lane)
    {
        long room = Math.Max(0, capacity - 1), taken = 0, own = 0;
        foreach (var other in _lanes)
        {
            var reserve = _reserved <= room ? other.Reserve : other.Reserve * room / _reserved;
            taken += Math.Max(held[other.Index], reserve);
            own = other == lane ? Math.Max(0, reserve - held[lane.Index]) : own;
        }

        return own + Math.Max(0, capacity - taken);
    }
}
