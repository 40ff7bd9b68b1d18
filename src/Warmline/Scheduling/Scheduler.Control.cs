using System.Net;
using Warmline.Options;

namespace Warmline.Scheduling;

/// <summary>Events from those who run the pool: warm-up, pause, retire, new limits, drain.</summary>
internal sealed partial class Scheduler
{
    /// <summary>Opens connections until as many are ready as the warm-up asks for.</summary>
    public void WarmUp(WarmUp warmUp, ConnectionKey connectionKey, TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        var key = KeyFor(connectionKey);
        key.WarmUps.Add(warmUp);
        AllotWarmth();
        Settle(key);
        End();
    }

    /// <summary>Holds that many connections ready from now on.</summary>
    public void HoldWarm(ConnectionKey connectionKey, int connections, TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        var key = KeyFor(connectionKey);
        key.WarmConnections = connections;
        AllotWarmth();
        Settle(key);
        RestoreWarmth();   // what one key gives up, another may hold
        End();
    }

    /// <summary>Stops, or starts again, to place and to dial for one origin; for all when it is null. <paramref name="atLeast"/>: how long the pause lasts in any case.</summary>
    public void SetPaused(string? origin, bool paused, TimeSpan now, List<SchedulerAction> actions, TimeSpan atLeast = default)
    {
        Begin(now, actions);
        if (origin is null)
        {
            _paused = paused;
            _pausedUntil = paused ? _now + atLeast : TimeSpan.MinValue;
        }
        else
        {
            var state = OriginFor(origin);
            state.IsPaused = paused;
            state.PausedUntil = paused ? _now + atLeast : TimeSpan.MinValue;
            ForgetIfUnused(state);
        }

        SettleAll();
        End();
    }

    /// <summary>Lets the connections of an origin (all, when it is null) that are open now end: those with streams when these have ended.</summary>
    public void Retire(string? origin, TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        foreach (var key in _keys.Values)
        {
            if (origin is null || string.Equals(key.Origin.Name, origin, StringComparison.OrdinalIgnoreCase))
            {
                DrainAll(key);
            }
        }

        SettleAll();
        End();
    }

    /// <summary>A host's name leads to these addresses now: connections to others take no new stream, and end when their streams have.</summary>
    public void Retire(string host, IPAddress[] addresses, TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        var vanished = false;
        foreach (var key in _keys.Values)
        {
            if (!string.Equals(key.Key.DialedHost, host, StringComparison.OrdinalIgnoreCase))
            {
                continue;
            }

            foreach (var connection in key.Connections)
            {
                if (connection is { IsUsable: true, Address: { } address } && !addresses.Contains(address))
                {
                    Drain(connection);
                    vanished = true;
                }
            }
        }

        if (vanished)
        {
            SettleAll();
        }

        End();
    }

    public void LimitsChanged(SchedulerLimits limits, TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        if (!_limits.Sharing.Equals(limits.Sharing))
        {
            SharingChanged(limits.Sharing);
        }

        _limits = limits;
        _permits.Moves++;
        foreach (var key in _keys.Values)
        {
            key.IdleLimit.Known = limits.Providers.ProfileOf(key.Key).IdleLimit;
            foreach (var connection in key.Connections)
            {
                LimitsChanged(connection);
            }
        }

        AllotWarmth();
        SettleAll();
        TrimIdle();
        End();
    }

    /// <summary>Takes nothing new, for good: waiters are refused, idle connections close, busy ones when their streams have ended.</summary>
    public void Drain(TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        IsDraining = true;
        foreach (var key in _keys.Values)
        {
            key.WarmConnections = 0;
            foreach (var waiter in key.Queue.All().ToArray())
            {
                Leave(waiter);
                Refuse(waiter, RefusalKind.Rejected, PoolRejectionReason.Draining);
            }

            EndWarmUps(key);
            DrainAll(key);
        }

        AllotWarmth();
        SettleAll();
        End();
    }

    void SettleAll()
    {
        // All that wait compete, for places as for permits, before any key is served by itself.
        foreach (var key in _keys.Values)
        {
            if (key.Queue.Count > 0)
            {
                HoldAll(key);
                NoteNeed(key);
            }
        }

        ServeHeld();
        foreach (var key in _keys.Values)
        {
            Settle(key);
        }
    }

    /// <summary>Shares out what may be idle: first to what is held warm, then to warm-ups. More than MaxIdleConnections together, and keys would close each other's connections in turn.</summary>
    void AllotWarmth()
    {
        var room = _limits.MaxIdleConnections;
        foreach (var key in _keys.Values)
        {
            key.HadWarmGoal = key.WarmGoal > 0;
            key.WarmGoal = Math.Min(key.WarmConnections, room);
            room -= key.WarmGoal;
        }

        foreach (var key in _keys.Values)
        {
            foreach (var warmUp in key.WarmUps)
            {
                var more = Math.Clamp(warmUp.Target - key.WarmGoal, 0, room);
                key.WarmGoal += more;
                room -= more;
            }
        }

        _isAnyHeldWarm = room < _limits.MaxIdleConnections;
        foreach (var key in _keys.Values)
        {
            if (key.HadWarmGoal != key.WarmGoal > 0)
            {
                RestartIdleTimers(key);   // what is held warm may be idle for longer
            }
        }
    }

    /// <summary>A permit may be free that no waiter needs: what should be held warm gets it.</summary>
    void RestoreWarmth()
    {
        if (!_isAnyHeldWarm || _permits.InUse >= _limits.MaxConnections)
        {
            return;
        }

        foreach (var key in _keys.Values)
        {
            if (key.WarmGoal > key.ReadyOrComing)
            {
                Grow(key);
            }
        }
    }

    void CheckWarmUps(KeyState key)
    {
        if (key.WarmUps.Count > 0)
        {
            EndWarmUpsThatAreOver(key);   // apart, as its closure would cost every event an allocation
        }
    }

    void EndWarmUpsThatAreOver(KeyState key)
    {
        var inProgress = key.Dialing + key.AwaitingSettings > 0;
        if (key.WarmUps.RemoveAll(warmUp => (key.Ready >= warmUp.Target || !inProgress) && EndWarmUp(key, warmUp)) > 0)
        {
            AllotWarmth();
        }
    }

    void EndWarmUps(KeyState key) => key.WarmUps.RemoveAll(warmUp => EndWarmUp(key, warmUp));

    bool EndWarmUp(KeyState key, WarmUp warmUp)
    {
        warmUp.Ready = key.Ready;
        if (warmUp.Ready < warmUp.Target)
        {
            warmUp.Error = key.BackOffUntil > _now ? key.LastDialError : null;
            warmUp.Reason = IsDraining ? PoolRejectionReason.Draining
                : IsPaused(key) ? PoolRejectionReason.Paused
                : key.BackOffUntil > _now ? PoolRejectionReason.BackOff
                : key.Origin.InUse >= _limits.MaxConnectionsPerHost ? PoolRejectionReason.MaxConnectionsPerHost
                : key.Partition is { } partition && partition.InUse >= LimitOf(partition) ? PoolRejectionReason.TenantConnections
                : PoolRejectionReason.MaxConnections;
        }

        _actions.Add(new SchedulerAction(ActionKind.WarmUpEnded, warmUp));
        return true;
    }
}
