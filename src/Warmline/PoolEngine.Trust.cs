using System.Globalization;
using System.Net.Http.Headers;
using Warmline.Options;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline;

/// <summary>Which connections may still be believed in: the look before a request, the clock that jumped, the network that changed.</summary>
internal sealed partial class PoolEngine
{
    /// <summary>A wall clock this far ahead of ours tells of a sleep. Less is set by time servers now and then, and a sleep that short harms no connection.</summary>
    static readonly TimeSpan Sleep = TimeSpan.FromSeconds(5);

    static readonly TimeSpan ClockLook = TimeSpan.FromSeconds(1);

    TimeSpan _lookedAt;
    DateTimeOffset _wallAt;
    TimeSpan _lostAt;
    int _addressesLook;

    /// <summary>Looks at the connection of a call that was just placed. When it is gone the call is put back to its place, and has to be awaited again.</summary>
    public bool Bypass(PooledCall call)
    {
        var state = call.Slot.Look(call.Rested);
        if (state is WireState.Alive)
        {
            return false;
        }

        return Move(call, state switch { WireState.Ended => ConnectionEnd.InOrder, WireState.Lost => ConnectionEnd.Lost, _ => ConnectionEnd.Alone }, always: true);
    }

    /// <summary>Takes a call off a connection on which no body gets on, and the connection out of use. False where there is no other to be
    /// had: then it has to wait there.</summary>
    public bool TryMove(PooledCall call) => Move(call, ConnectionEnd.Alone, always: false);

    /// <summary>Lets a connection that takes no bodies end: it gets no further calls.</summary>
    public void TakeOutOfUse(ConnectionState connection) =>
        Play(connection, static (scheduler, connection, now, actions) => scheduler.TakeOutOfUse(connection, now, actions));

    bool Move(PooledCall call, ConnectionEnd end, bool always)
    {
        var actions = RentActions();
        bool moves;
        lock (_gate)
        {
            moves = always || _scheduler.CanMove(call);
            if (moves)
            {
                call.ResetPlacement();   // before the event: it may be placed within it
                _scheduler.Bypass(call, end, Now, actions);
                NoteReason_NeedsLock(call);
                NoteEnds();
            }
        }

        Run(actions);
        return moves;
    }

    /// <summary>Notes how long the server keeps the connection (RFC 2068 section 19.7.1.1, said by Node and Apache): <c>Keep-Alive: timeout=5, max=100</c>. The call holds the lease, so that
    /// nobody else writes it.</summary>
    public static void NoteHint(PooledCall call, HttpResponseHeaders headers)
    {
        if (call.Connection is { IsHttp2: false } connection)
        {
            connection.HintSeconds = headers.NonValidated.TryGetValues("Keep-Alive", out var values) ? SecondsIn(values.ToString()) : -1;
        }
    }

    /// <summary>Whether a connection that opens now should send no PINGs, as the server took them for abuse.</summary>
    public bool PingsAreUnwelcome(KeyState key) => Read((_, now) => now < key.Origin.PingsFrom);

    /// <summary>The server closed a connection because of what we sent beside requests: its others send less from now on.</summary>
    public void CalmDown(ConnectionState connection, bool byPings, long resets)
    {
        var (isNews, pause) = Read((scheduler, now) =>
            (scheduler.AskedForCalm(connection, byPings, resets, now), connection.Key.Origin.PingPause));
        if (!isNews)
        {
            return;
        }

        foreach (var slot in Read((_, _) => connection.Key.Origin.Keys.SelectMany(key => key.Connections).Select(other => other.Slot).OfType<Slot>().ToArray()))
        {
            slot.WithholdPings();
        }

        LogMessages.PingsPaused(_logger, connection.Key.Key.Origin, pause.TotalHours, Duration.Format(Settings.Http2.PingDelay));
    }

    /// <summary>The machine's addresses have changed. Asking for them takes a while, and changes come in groups.</summary>
    public void AddressesChanged()
    {
        if (Interlocked.Exchange(ref _addressesLook, 1) == 0)
        {
            RunApart(this, static engine => engine.LookAtAddresses());
        }
    }

    internal static int SecondsIn(string hint)
    {
        foreach (var part in hint.Split(','))
        {
            var equals = part.IndexOf('=', StringComparison.Ordinal);
            if (equals > 0 && part.AsSpan(0, equals).Trim().Equals("timeout", StringComparison.OrdinalIgnoreCase)
                && int.TryParse(part.AsSpan(equals + 1).Trim().Trim('"'), NumberStyles.None, CultureInfo.InvariantCulture, out var seconds))
            {
                return seconds;
            }
        }

        return -1;
    }

    void LookAtAddresses()
    {
        Volatile.Write(ref _addressesLook, 0);
        try
        {
            var addresses = _network.LocalAddresses();
            if (addresses.Count > 0 && !_disposed)
            {
                Play(addresses, static (scheduler, addresses, now, actions) => scheduler.LocalAddresses(addresses, now, actions));
            }
        }
        catch (Exception error)   // nobody above would catch it, and the process would end
        {
            LogFault(error);
        }
    }

    /// <summary>
    /// While the machine sleeps our clock stands still on Linux and macOS; the wall clock does not. Looked at once in a second at most, with whatever event comes, so that
    /// the first call after the sleep is covered as well as a pool that is never quiet.
    /// </summary>
    void LookAtClock(TimeSpan now, List<SchedulerAction> actions)
    {
        if (now - _lookedAt < ClockLook)
        {
            return;
        }

        var wall = _time.GetUtcNow();
        if (Now - now >= ClockLook)
        {
            return;   // this thread was held up between its looks at the two clocks: they cannot be compared
        }

        var lost = LostTime;
        var ahead = wall - _wallAt - (now - _lookedAt) - (lost - _lostAt);   // time that stood still for want of threads is no sleep
        (_lookedAt, _wallAt, _lostAt) = (now, wall, lost);
        if (ahead > Sleep)
        {
            _scheduler.ClockJumped(now, actions);
        }
    }

    void TellCostlyWarmth(string origin, TimeSpan lasted, int connections) => LogMessages.WarmthIsCostly(_logger, origin, lasted.TotalSeconds,
        lasted < TimeSpan.FromSeconds(1)
            ? $"To hold {connections} ready, the pool dials again after pauses that grow to {_scheduler.Limits.MaxBackOff.TotalSeconds:0} s. Check that the server accepts this client, or set WarmConnections to 0"
            : $"Holding {connections} ready costs about {connections * 60 / lasted.TotalSeconds:0} dials a minute. Raise the server's time limit for unused connections, or lower WarmConnections");

    void TellTrust(in SchedulerAction action)
    {
        var key = (KeyState?)action.Target;
        if (action.Kind is ActionKind.Flushed)
        {
            LogMessages.Flushed(_logger, action.Active, key?.Key.Origin ?? "all hosts", action.Cause switch
            {
                FlushCause.Loss => "an idle one was reset, timed out or answered no ping",
                FlushCause.Silence => "the system found an idle one reset or without an answer to its probes",
                FlushCause.Sleep => "the clock jumped, so the machine slept",
                _ => "the machine lost the address that they come from",
            });
        }
        else
        {
            LogMessages.IdleLimitLearned(_logger, key!.Key.Origin, Read((scheduler, _) => scheduler.AllowedIdle(key)).TotalSeconds);
        }
    }
}
