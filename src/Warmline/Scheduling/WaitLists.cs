namespace Warmline.Scheduling;

/// <summary>Remembers the lanes and keys to check again when a limit over all keys, a tenant or a reserve leaves room.</summary>
internal sealed class WaitLists(PoolState pool, SharingLedger sharing, Admission admission)
{
    /// <summary>
    /// Keys with waiters, if there are reserves: the number that may be served depends on the key's capacity, which depends on the
    /// permits of other keys.
    /// </summary>
    readonly List<KeyState> _reserved = [];

    /// <summary>Keys with waiters of a tenant that is below its limit again.</summary>
    readonly List<KeyState> _unblocked = [];

    public bool HasReserved => _reserved.Count > 0;

    /// <summary>Parks the lanes of the key that wait for a limit over all keys.</summary>
    public void ParkBlocked(KeyState key)
    {
        if (key.Queue.Eligible == 0 || pool.IsPaused(key))
        {
            return;
        }

        foreach (var lane in key.Queue.Lanes)
        {
            if (lane.Eligible > 0 && !admission.PoolAdmits(lane.Lane) && admission.IsOpen(lane.Budget))
            {
                lane.SetParked(true);
            }
        }
    }

    /// <summary>Parks all waiting lanes of the key, so that they compete with those of other keys.</summary>
    public void ParkAll(KeyState key)
    {
        if (pool.IsPaused(key))
        {
            return;
        }

        foreach (var lane in key.Queue.Lanes)
        {
            if (lane.Eligible > 0)
            {
                lane.SetParked(true);
            }
        }
    }

    public void ParkUnblocked()
    {
        foreach (var key in _unblocked)
        {
            ParkAll(key);
        }
    }

    public static void UnparkAll(KeyState key)
    {
        foreach (var lane in key.Queue.Lanes)
        {
            lane.SetParked(false);
        }
    }

    public bool IsAnyParked()
    {
        foreach (var lane in sharing.Lanes)
        {
            if (lane.Parked.Count > 0)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Remembers the key while reserves may block some of its waiters.</summary>
    public void TrackReserved(KeyState key)
    {
        if (sharing.HasReserves && !key.IsReserved && key.Queue.Eligible > 0 && !pool.IsPaused(key))
        {
            key.IsReserved = true;
            _reserved.Add(key);
        }
    }

    public void AddUnblocked(KeyState key) => _unblocked.Add(key);

    /// <summary>Takes the keys whose tenant is below its limit again, in the order of their first waiters.</summary>
    public KeyState[] TakeUnblocked()
    {
        if (_unblocked.Count == 0)
        {
            return [];
        }

        var keys = _unblocked.Distinct().OrderBy(static key => key.Queue.First?.Sequence ?? long.MaxValue).ToArray();
        _unblocked.Clear();
        return keys;
    }

    public KeyState[] TakeReserved()
    {
        var keys = _reserved.ToArray();
        _reserved.Clear();
        foreach (var key in keys)
        {
            key.IsReserved = false;
        }

        return keys;
    }

    public void Forget(KeyState key) => _reserved.Remove(key);
}
