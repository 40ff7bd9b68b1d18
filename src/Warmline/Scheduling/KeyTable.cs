using Warmline.Options;

namespace Warmline.Scheduling;

/// <summary>Finds, creates and forgets keys, origins, and tenants that have connections of their own.</summary>
internal sealed class KeyTable(Agenda agenda, PoolState pool)
{
    readonly Dictionary<ConnectionKey, KeyState> _keys = [];
    readonly Dictionary<string, OriginState> _origins = new(StringComparer.OrdinalIgnoreCase);
    readonly Dictionary<string, PermitGroup> _partitions = new(StringComparer.Ordinal);

    public Dictionary<ConnectionKey, KeyState>.ValueCollection Keys => _keys.Values;

    /// <summary>Kept so that the pool's sum does not shrink when a key is forgotten.</summary>
    public TimeSpan TimeSavedByForgotten { get; private set; }

    public KeyState? Find(ConnectionKey key) => _keys.GetValueOrDefault(key);

    public KeyState KeyFor(ConnectionKey connectionKey)
    {
        if (!_keys.TryGetValue(connectionKey, out var key))
        {
            var origin = OriginFor(connectionKey.Origin);
            key = new KeyState(connectionKey, origin, PartitionFor(connectionKey.Partition));
            key.IdleLimit.Known = pool.Limits.Providers.ProfileOf(connectionKey).IdleLimit;
            origin.Keys.Add(key);
            key.Partition?.Keys.Add(key);
            _keys.Add(connectionKey, key);
            // Needed if its first call is refused and no other event follows.
            agenda.StartTimer(key, agenda.Now + pool.Limits.KeyMemory);
        }

        return key;
    }

    public OriginState OriginFor(string name)
    {
        if (!_origins.TryGetValue(name, out var origin))
        {
            _origins.Add(name, origin = new OriginState(name));
        }

        return origin;
    }

    /// <summary>Number of permits in use by a tenant that has connections of its own.</summary>
    public int PermitsOf(string tenant) => _partitions.TryGetValue(tenant, out var partition) ? partition.InUse : 0;

    public void Forget(KeyState key)
    {
        TimeSavedByForgotten += key.Facts.TimeSaved;
        _keys.Remove(key.Key);
        key.Origin.Keys.Remove(key);
        if (key.Partition is { } partition && partition.Keys.Remove(key) && partition.Keys.Count == 0)
        {
            _partitions.Remove(partition.Name);
        }

        ForgetIfUnused(key.Origin);
    }

    public void ForgetIfUnused(OriginState origin)
    {
        if (origin.Keys.Count == 0 && !origin.IsPaused)
        {
            _origins.Remove(origin.Name);
        }
    }

    PermitGroup? PartitionFor(string name)
    {
        if (name.Length == 0)
        {
            return null;
        }

        if (!_partitions.TryGetValue(name, out var partition))
        {
            _partitions.Add(name, partition = new PermitGroup(name));
        }

        return partition;
    }
}
