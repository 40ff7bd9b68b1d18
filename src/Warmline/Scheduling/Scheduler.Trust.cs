using System.Net;

namespace Warmline.Scheduling;

/// <summary>Connections that are no longer believed in: they go together, before one call after the other meets them.</summary>
internal sealed partial class Scheduler
{
    /// <summary>Lower bound for a learned limit of resets.</summary>
    const int MinResets = 4;

    /// <summary>How long an origin that took PINGs for abuse gets none; doubled each time that it does so again.</summary>
    static readonly TimeSpan FirstPingPause = TimeSpan.FromHours(1);

    static readonly TimeSpan MaxPingPause = TimeSpan.FromDays(1);

    /// <summary>
    /// The look before a request was sent found the connection, which had rested, ended, or could not trust it. Nothing was written: the waiter goes back to its place. That is
    /// no try that failed, so it is not counted as one; each time takes a connection away, so it comes to an end.
    /// </summary>
    public void Bypass(Waiter waiter, ConnectionEnd end, TimeSpan now, List<SchedulerAction> actions)
    {
        if (waiter.State is not WaiterState.Leased)
        {
            return;
        }

        Begin(now, actions);
        var connection = waiter.Connection!;
        if (connection.IsUsable)   // else somebody saw the same before
        {
            NoteIdleEnd(connection, waiter.Rested, end, FlushCause.Silence);
        }

        EndLease(waiter, LeaseOutcome.NotSent);
        if (IsDraining)
        {
            Refuse(waiter, RefusalKind.Rejected, PoolRejectionReason.Draining);
        }
        else
        {
            PlaceAnew(waiter);
            _sharing.NoteIdle(waiter.Share.Tenant);
        }

        Released(connection, keep: false);
        End();
    }

    /// <summary>Whether a lease that has not been used could be had on another connection of its key.</summary>
    public bool CanMove(Waiter waiter) => waiter is { State: WaiterState.Leased, Connection: { } connection, Key: { } key }
        && (key.Dialing > 0 || key.Available.Count > (connection.CanTakeStream ? 1 : 0) || Obtainable(key) > 0);

    /// <summary>The connection is found to be of no use to further calls: those that run on it end.</summary>
    public void TakeOutOfUse(ConnectionState connection, TimeSpan now, List<SchedulerAction> actions)
    {
        if (!connection.IsUsable)
        {
            return;
        }

        Begin(now, actions);
        Drain(connection);
        Settle(connection.Key);
        RestoreWarmth();
        End();
    }

    /// <summary>
    /// The connection nears the number of resets that servers tolerate. First it gets a successor, if its key has no other; at its limit it
    /// drains: what may be reset next goes to
    /// another, and its long streams end in peace.
    /// </summary>
    public void ResetsSent(ConnectionState connection, long resets, TimeSpan now, List<SchedulerAction> actions)
    {
        if (resets >= connection.ResetLimit)
        {
            TakeOutOfUse(connection, now, actions);
            return;
        }

        if (!connection.IsUsable)
        {
            return;
        }

        Begin(now, actions);
        var key = connection.Key;
        if (!connection.IsWorn)
        {
            connection.IsWorn = true;
            if (key.Dialing == 0 && !key.Connections.Any(static other => other is { IsUsable: true, IsWorn: false }) && MayDialAhead(key))
            {
                Dial(key, owesFirstUse: false);
            }
        }

        End();
    }

    /// <summary>
    /// The server took our resets, or our PINGs, for abuse (ENHANCE_YOUR_CALM): the origin gets fewer for a while. True if a pause of PINGs
    /// begins.
    /// </summary>
    public bool AskedForCalm(ConnectionState connection, bool byPings, long resets, TimeSpan now)
    {
        var origin = connection.Key.Origin;
        if (!byPings)
        {
            if (resets >= 2 * MinResets)   // after fewer it meant something else
            {
                origin.ResetLimit = (int)Math.Min(resets / 2, origin.ResetLimit);
                origin.ResetLimitUntil = now + _limits.KeyMemory;
            }

            return false;
        }

        if (now < origin.PingsFrom)
        {
            return false;   // another connection was on its way to the same end
        }

        origin.PingPause = origin.PingPause == TimeSpan.Zero ? FirstPingPause : origin.PingPause * 2 < MaxPingPause ? origin.PingPause * 2 : MaxPingPause;
        origin.PingsFrom = now + origin.PingPause;
        return true;
    }

    /// <summary>The wall clock ran ahead of ours: the machine slept. Servers and NATs did not, so no idle connection is worth a try.</summary>
    public void ClockJumped(TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        var count = 0;
        foreach (var key in _keys.Values)
        {
            count += DropIdle(key);
        }

        Flushed(null, count, FlushCause.Sleep);
        SettleAll();
        End();
    }

    /// <summary>The machine has these addresses now. Connections from others go, idle ones at once, busy ones when their streams have ended, if they can.</summary>
    public void LocalAddresses(IReadOnlyCollection<IPAddress> addresses, TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        var count = 0;
        foreach (var key in _keys.Values)
        {
            foreach (var connection in key.Connections)
            {
                if (connection is not { IsUsable: true, LocalAddress: { } address } || addresses.Contains(address))
                {
                    continue;
                }

                count++;
                connection.IsLost = true;
                Drain(connection);
            }
        }

        if (count > 0)
        {
            Flushed(null, count, FlushCause.Network);
            SettleAll();
        }

        End();
    }

    /// <summary>A connection ended, or was found ended, after it had been idle for a while: its server's limit may be learned from it, or its fellows be as lost as it is.</summary>
    void NoteIdleEnd(ConnectionState connection, TimeSpan rested, ConnectionEnd end, FlushCause cause)
    {
        var key = connection.Key;
        if (rested < IdleLimit.Moment)
        {
            return;   // it belongs to the answer before
        }

        if (!connection.Served && end is ConnectionEnd.InOrder)
        {
            return;   // how long a server waits for a first request says nothing of how long it waits for the next
        }

        if (end is ConnectionEnd.Lost)
        {
            connection.IsLost = true;
            Flushed(key, 1 + DropIdle(key, connection), cause);
        }
        else if (end is ConnectionEnd.InOrder && key.IdleLimit.Ended(rested, _now, _limits.IdleMemory))
        {
            RestartIdleTimers(key);
            _actions.Add(new SchedulerAction(ActionKind.IdleLimitLearned, key));
        }
    }

    /// <summary>How long a connection has been idle by now; zero when it is not.</summary>
    TimeSpan Rested(ConnectionState connection) => connection.IsListedIdle ? _now - connection.IdleSince : TimeSpan.Zero;

    /// <summary>Ends all connections of the key that carry nothing: they were opened before what happened, and share its cause.</summary>
    int DropIdle(KeyState key, ConnectionState? except = null)
    {
        var count = 0;
        foreach (var connection in key.Connections)
        {
            if (connection is { Phase: ConnectionPhase.Open, Streams: 0 } && connection != except)
            {
                connection.IsLost = true;
                BeginClose(connection);
                count++;
            }
        }

        return count;
    }

    void Flushed(KeyState? key, int count, FlushCause cause)
    {
        if (count > 0)
        {
            Facts.Lost += count;
            _actions.Add(new SchedulerAction(ActionKind.Flushed, key, Active: count, Cause: cause));
        }
    }
}
