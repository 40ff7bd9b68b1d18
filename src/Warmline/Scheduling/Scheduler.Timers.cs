using Warmline.Options;

namespace Warmline.Scheduling;

/// <summary>What falls due, and the keys that are remembered until then.</summary>
internal sealed partial class Scheduler
{
    public void Tick(TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        _wakeAt = TimeSpan.MaxValue;
        while (_timers.First is { } timed && timed.Due <= now)
        {
            _timers.Remove(timed);
            timed.Due = TimeSpan.MaxValue;
            switch (timed)
            {
                case Waiter waiter:
                    var reason = ReasonFor(waiter);
                    Leave(waiter);
                    Refuse(waiter, RefusalKind.TimedOut, reason);
                    Settle(waiter.Key!);
                    break;
                case ConnectionState connection:
                    ConnectionDue(connection);
                    break;
                case BudgetState budget:
                    Reopened(budget);
                    ServeReopened();
                    break;
                case KeyState { IsForgettable: true } key:
                    Forget(key);
                    break;
                case KeyState key:
                    Settle(key);
                    break;
            }
        }

        End();
    }

    void StartTimer(Timed timed, TimeSpan due)
    {
        timed.Due = due;
        if (due < TimeSpan.MaxValue)
        {
            _timers.Set(timed);
        }
        else
        {
            _timers.Remove(timed);
        }
    }

    public KeyState? Find(ConnectionKey key) => _keys.GetValueOrDefault(key);

    KeyState KeyFor(ConnectionKey connectionKey)
    {
        if (!_keys.TryGetValue(connectionKey, out var key))
        {
            var origin = OriginFor(connectionKey.Origin);
            key = new KeyState(connectionKey, origin, PartitionFor(connectionKey.Partition));
            key.IdleLimit.Known = _limits.Providers.ProfileOf(connectionKey).IdleLimit;
            origin.Keys.Add(key);
            key.Partition?.Keys.Add(key);
            _keys.Add(connectionKey, key);
            StartTimer(key, _now + _limits.KeyMemory);   // also when its first request is refused and nothing else ever comes
        }

        return key;
    }

    OriginState OriginFor(string name)
    {
        if (!_origins.TryGetValue(name, out var origin))
        {
            _origins.Add(name, origin = new OriginState(name));
        }

        return origin;
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

    void Forget(KeyState key)
    {
        TimeSavedByForgotten += key.Facts.TimeSaved;
        _keys.Remove(key.Key);
        _reserved.Remove(key);
        LeaveBudgets(key);
        key.Origin.Keys.Remove(key);
        if (key.Partition is { } partition && partition.Keys.Remove(key) && partition.Keys.Count == 0)
        {
            _partitions.Remove(partition.Name);
        }

        ForgetIfUnused(key.Origin);
    }

    void ForgetIfUnused(OriginState origin)
    {
        if (origin.Keys.Count == 0 && !origin.IsPaused)
        {
            _origins.Remove(origin.Name);
        }
    }
}
