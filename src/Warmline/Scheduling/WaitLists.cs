namespace Warmline.Scheduling;

/// <summary>Which lanes and keys are looked at again when a limit over all keys gives room.</summary>
internal sealed class WaitLists(PoolState pool, SharingLedger sharing, Admission admission)
{
    /// <summary>Keys with waiters, where there are reserves: how many of them may go depends on what the key can carry, and that on others' permits.</summary>
    readonly List<KeyState> _reserved = [];
    readonly List<KeyState> _unblocked = [];

    /// <summary>Notes which lanes of the key wait for a limit over all keys.</summary>
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

    /// <summary>All of the key that waits competes with what waits on other keys.</summary>
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

    /// <summary>Remembers the key while reserves may hold back some of its waiters.</summary>
    public void TrackReserved(KeyState key)
    {
        if (sharing.HasReserves && !key.IsReserved && key.Queue.Eligible > 0 && !pool.IsPaused(key))
        {
            key.IsReserved = true;
            _reserved.Add(key);
        }
    }

    public bool HasReserved => _reserved.Count > 0;

    public void AddUnblocked(KeyState key) => _unblocked.Add(key);

    /// <summary>Keys whose tenant is below its limit again, the one whose first waiter came first before others.</summary>
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
