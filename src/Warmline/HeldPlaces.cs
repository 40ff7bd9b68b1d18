using System.Globalization;
using System.Runtime.InteropServices;
using Warmline.Scheduling;

namespace Warmline;

/// <summary>
/// Of the places that a waiting call could have: how many are taken, and how many of these by responses that are not being read. A caller
/// that waits for a place inside the loop that reads a response holds one itself; if all are held in this way, none becomes free.
/// </summary>
[StructLayout(LayoutKind.Auto)]
internal readonly record struct HeldPlaces(int Held, int Taken, TimeSpan OldestGrant)
{
    public bool AreAll => Taken > 0 && Held == Taken;

    /// <summary>Counts them, in one pass over all leases. Needs the pool's lock.</summary>
    public static HeldPlaces Of(Scheduler scheduler, Waiter waiter, PoolRejectionReason reason, Func<PooledCall, bool> isHeld)
    {
        var (held, taken, oldest) = (0, 0, TimeSpan.MaxValue);
        if (!IsOfLeases(reason))
        {
            return default;
        }

        foreach (var lease in scheduler.Leased())
        {
            if (!Competes(waiter, lease, reason))
            {
                continue;
            }

            taken++;
            if (isHeld((PooledCall)lease))
            {
                held++;
                oldest = lease.GrantedAt < oldest ? lease.GrantedAt : oldest;
            }
        }

        return new HeldPlaces(held, taken, oldest);
    }

    /// <summary>A sentence for the end of a refusal; empty where none is held.</summary>
    public string Explain() => Held == 0 ? ""
        : string.Create(CultureInfo.InvariantCulture, $" {Held} of {Taken} {Subject} not being read{(AreAll ? Remedy : "")}.");

    string Subject => (Held == 1, Taken == 1) switch
    {
        (true, true) => "place is held by a response that is",
        (true, false) => "places is held by a response that is",
        _ => "places are held by responses that are",
    };

    string Remedy => Held == 1 ? ": read it to the end or dispose it before calling again"
        : ": read them to the end or dispose them before calling again";

    /// <summary>Whether a lease that ends is what the reason waits for.</summary>
    static bool IsOfLeases(PoolRejectionReason reason) => reason is PoolRejectionReason.MaxConcurrentRequests
        or PoolRejectionReason.MaxConnections or PoolRejectionReason.MaxConnectionsPerHost or PoolRejectionReason.StreamLimit
        or PoolRejectionReason.LaneCeiling or PoolRejectionReason.LaneReserve or PoolRejectionReason.TenantLimit
        or PoolRejectionReason.TenantConnections;

    static bool Competes(Waiter waiter, Waiter lease, PoolRejectionReason reason) => reason switch
    {
        PoolRejectionReason.MaxConnectionsPerHost => lease.Key!.Origin == waiter.Key?.Origin,
        PoolRejectionReason.StreamLimit => lease.Key == waiter.Key,
        PoolRejectionReason.LaneCeiling => lease.Share.Lane == waiter.Share.Lane,
        PoolRejectionReason.TenantLimit => lease.Share.Tenant == waiter.Share.Tenant,
        PoolRejectionReason.TenantConnections => lease.Key!.Partition == waiter.Key?.Partition,
        _ => true,
    };
}
