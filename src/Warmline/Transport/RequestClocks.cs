namespace Warmline.Transport;

/// <summary>
/// One timer for all requests in flight: each second counted in a few ticks, and at each tick a look at every request's clocks. Ten
/// thousand open streams cost ten thousand comparisons a tick and no timer of their own. Late by up to two ticks, never early.
/// </summary>
internal sealed class CoarseClock : IDisposable
{
    readonly TimeProvider _time;
    readonly long _start;
    readonly ITimer _timer;
    readonly Lock _gate = new();
    RequestClocks? _first;
    bool _running;
    bool _stopped;
    long _now;

    public CoarseClock(TimeProvider time, TimeSpan resolution)
    {
        _time = time;
        _start = time.GetTimestamp();
        Resolution = resolution;
        _timer = time.CreateTimer(static state => ((CoarseClock)state!).Tick(), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
    }

    public TimeSpan Resolution { get; }

    /// <summary>Ticks (100 ns) since the start, as of the last tick; always above 0.</summary>
    public long Now => Volatile.Read(ref _now);

    /// <summary>A resolution at which the shortest of these limits is late by a tenth at most.</summary>
    public static TimeSpan ResolutionFor(params ReadOnlySpan<TimeSpan> limits)
    {
        var shortest = TimeSpan.FromSeconds(5);
        foreach (var limit in limits)
        {
            shortest = limit > TimeSpan.Zero && limit < shortest ? limit : shortest;
        }

        var resolution = shortest / 20;
        return resolution > TimeSpan.FromMilliseconds(10) ? resolution : TimeSpan.FromMilliseconds(10);
    }

    public void Add(RequestClocks clocks)
    {
        lock (_gate)
        {
            if (!_running && !_stopped)
            {
                _running = true;
                Volatile.Write(ref _now, Elapsed());
                _timer.TrySet(Resolution, Resolution);
            }

            clocks.Next = _first;
            if (_first is { } first)
            {
                first.Previous = clocks;
            }

            _first = clocks;
            clocks.IsListed = true;
        }
    }

    public void Remove(RequestClocks clocks)
    {
        lock (_gate)
        {
            if (!clocks.IsListed)
            {
                return;
            }

            clocks.IsListed = false;
            if (clocks.Previous is { } previous)
            {
                previous.Next = clocks.Next;
            }
            else
            {
                _first = clocks.Next;
            }

            if (clocks.Next is { } next)
            {
                next.Previous = clocks.Previous;
            }

            clocks.Previous = clocks.Next = null;
        }
    }

    public void Dispose()
    {
        lock (_gate)
        {
            _stopped = true;
        }

        _timer.Dispose();
    }

    long Elapsed() => _time.GetElapsedTime(_start).Ticks + 1;

    void Tick()
    {
        List<RequestClocks>? sending = null, over = null;
        long before;
        lock (_gate)
        {
            var now = Elapsed();
            before = now - Resolution.Ticks;
            Volatile.Write(ref _now, now);
            for (var at = _first; at is not null; at = at.Next)
            {
                if (at.IsSending)
                {
                    (sending ??= []).Add(at);
                }

                if (at.Overdue(before) is not null)
                {
                    (over ??= []).Add(at);
                }
            }

            // Stopped while nothing is in flight: an idle pool wakes nobody.
            if (_first is null && !_stopped)
            {
                _running = false;
                _timer.TrySet(Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
            }
        }

        // Outside the lock: this asks the system, and cancelling runs the platform's code. What has moved on the wire since the last tick
        // is not silent.
        foreach (var clocks in sending ?? [])
        {
            try
            {
                clocks.SeeProgress();
            }
            catch (Exception)
            {
                // The system tells nothing: as where it cannot. The clocks of the others go on.
            }
        }

        foreach (var clocks in over ?? [])
        {
            if (clocks.Overdue(before) is { } phase)
            {
                clocks.Stall(phase);
            }
        }
    }
}

/// <summary>
/// The clocks of one request and its abort switch in one: what a clock, the caller's token or the pool cancels is this source. Upload and
/// download have a clock each, as both may be under way at once. Written by the request, read by the tick; a plain volatile write a read or
/// write, no timer.
/// </summary>
internal sealed class RequestClocks(CoarseClock clock, Warmline.Options.CallTimeouts limits) : CancellationTokenSource
{
    long _writeSince;
    long _waitSince;
    long _totalSince;
    long _eventless;
    long _leftUntil;
    byte _phase = (byte)StallPhase.FirstByte;
    sbyte _stalled = -1;
    bool _watchesContent;
    volatile bool _isAnswering;
    int _reads;

    internal RequestClocks? Previous { get; set; }

    internal RequestClocks? Next { get; set; }

    internal bool IsListed { get; set; }

    /// <summary>The clock that ran out, if one did.</summary>
    public StallPhase? Stalled => Volatile.Read(ref _stalled) is >= 0 and var phase ? (StallPhase)phase : null;

    /// <summary>Reads of the response body that were begun.</summary>
    public int Reads => Volatile.Read(ref _reads);

    /// <summary>Whether the headers, or more of the body, are waited for.</summary>
    public bool IsWaiting => Volatile.Read(ref _waitSince) != 0;

    /// <summary>How long nothing has come, or gone, of what is waited for.</summary>
    public TimeSpan Silence => (Volatile.Read(ref _writeSince), Volatile.Read(ref _waitSince)) switch
    {
        (0, 0) => TimeSpan.Zero,
        (0, var wait) => new(clock.Now - wait),
        (var write, _) => new(clock.Now - write),
    };

    public TimeSpan LimitOf(StallPhase phase) => phase switch
    {
        StallPhase.Write => limits.Write,
        StallPhase.FirstByte => limits.FirstByte,
        StallPhase.Read => limits.Read,
        StallPhase.Content => limits.Content,
        _ => limits.Total,
    };

    /// <summary>How long nothing had come when it did.</summary>
    public TimeSpan StalledFor { get; private set; }

    /// <summary>Follows the request body on the wire; null where none is watched.</summary>
    public SendWatch? Sending { get; set; }

    /// <summary>Whether to ask the kernel for the body's progress: a write is under way, or the headers are awaited.</summary>
    internal bool IsSending => Sending is { IsOver: false } && (Volatile.Read(ref _writeSince) != 0
        || (Volatile.Read(ref _waitSince) != 0 && _phase == (byte)StallPhase.FirstByte));

    /// <summary>Starts to be watched. <paramref name="alreadySpent"/> is what the call has used of its total.</summary>
    public void Start(TimeSpan alreadySpent)
    {
        clock.Add(this);
        _totalSince = limits.Total > TimeSpan.Zero ? clock.Now - alreadySpent.Ticks : long.MaxValue;
    }

    public void Stop() => clock.Remove(this);

    /// <summary>The time of the last tick, in ticks of 100 ns.</summary>
    public long Now => clock.Now;

    /// <summary>Time between two ticks, in ticks of 100 ns.</summary>
    public long Resolution => clock.Resolution.Ticks;

    /// <summary>The server answers although the body is not sent: from now on the answer's own clocks count, as it may never take the rest
    /// (RFC 9113, section 8.1).</summary>
    public void BeginAnswer() => _isAnswering = true;

    /// <summary>The answer is over. What is left of the body must not keep the call's place for ever.</summary>
    public void EndAnswer()
    {
        if (_isAnswering)
        {
            if (Volatile.Read(ref _writeSince) is not 0 and var since)
            {
                Interlocked.CompareExchange(ref _writeSince, clock.Now, since);
            }

            _isAnswering = false;
        }
    }

    public void BeginWrite() => Volatile.Write(ref _writeSince, clock.Now);

    public void EndWrite() => Volatile.Write(ref _writeSince, 0);

    public void BeginFirstByte() => BeginWait(StallPhase.FirstByte);

    public void BeginRead()
    {
        _reads++;
        BeginWait(StallPhase.Read);
    }

    /// <summary>The body is a stream of events, or has not begun: bytes alone are no progress from here on.</summary>
    public void WatchContent() => _watchesContent = true;

    /// <summary>The body has begun, and is no stream of events: every byte is progress.</summary>
    public void EndContent()
    {
        _watchesContent = false;
        Volatile.Write(ref _eventless, 0);
    }

    /// <summary>The headers, or bytes of the body, have come.</summary>
    public void EndWait()
    {
        var since = _waitSince;
        Volatile.Write(ref _waitSince, 0);   // before the sum: the tick must not count this wait twice
        if (_watchesContent && since != 0)
        {
            Volatile.Write(ref _eventless, _eventless + Math.Max(1, clock.Now - since));
        }
    }

    /// <summary>An event has come that is no ping.</summary>
    public void GotEvent() => Volatile.Write(ref _eventless, 0);

    /// <summary>The caller has left, and the rest is read on for the connection's sake alone: for so long.</summary>
    public void BeginRest(TimeSpan longest) => Volatile.Write(ref _leftUntil, clock.Now + longest.Ticks);

    public void EndRest() => Volatile.Write(ref _leftUntil, 0);

    /// <summary>A clock measures silence: where the wire has taken bytes of the body since the last look, it begins again.</summary>
    internal void SeeProgress()
    {
        var (writeSince, waitSince) = (Volatile.Read(ref _writeSince), Volatile.Read(ref _waitSince));
        if (Sending?.CheckProgress(isWriting: writeSince != 0) != true)
        {
            return;
        }

        // Only if the same wait is still on: the request may have ended it, or begun another.
        if (writeSince != 0)
        {
            Interlocked.CompareExchange(ref _writeSince, clock.Now, writeSince);
        }
        else if (waitSince != 0)
        {
            Interlocked.CompareExchange(ref _waitSince, clock.Now, waitSince);
        }
    }

    internal StallPhase? Overdue(long now)
    {
        if (_stalled >= 0)
        {
            return null;
        }

        var waitSince = Volatile.Read(ref _waitSince);
        StallPhase? over = !_isAnswering && IsOver(Volatile.Read(ref _writeSince), limits.Write, now) ? StallPhase.Write
            : IsOver(waitSince, LimitOf((StallPhase)_phase), now) ? (StallPhase)_phase
            : IsEventless(waitSince, now) ? StallPhase.Content
            : _totalSince != 0 && _totalSince != long.MaxValue && now - _totalSince >= limits.Total.Ticks ? StallPhase.Total
            : Volatile.Read(ref _leftUntil) is not 0 and var until && now >= until ? StallPhase.Read
            : null;
        if (over is { } phase)
        {
            var since = phase is StallPhase.Write ? _writeSince : waitSince;
            StalledFor = new TimeSpan((since == 0 ? 0 : now - since) + (phase is StallPhase.Content ? _eventless : 0));
        }

        return over;
    }

    internal void Stall(StallPhase phase)
    {
        Volatile.Write(ref _stalled, (sbyte)phase);
        Abort();
    }

    /// <summary>Cancels the call. Its content and BeforeSend have the token, and what they registered with it runs here: what that throws
    /// is theirs, and must not end a timer, a drain or the return of a lease.</summary>
    public void Abort()
    {
        try
        {
            Cancel();
        }
        catch (Exception error) when (error is ObjectDisposedException or AggregateException)
        {
            // It ended meanwhile, or all has run and some of it threw.
        }
    }

    void BeginWait(StallPhase phase)
    {
        _phase = (byte)phase;
        Volatile.Write(ref _waitSince, clock.Now);
    }

    /// <summary>
    /// Only time that the caller waits counts, summed up over its reads since the last event. Bytes must have come in it: mere silence is
    /// the read clock's.
    /// </summary>
    bool IsEventless(long waitSince, long now)
    {
        if (!_watchesContent || waitSince == 0 || limits.Content <= TimeSpan.Zero)
        {
            return false;
        }

        // A wait that ended just now is in the sum already: it shows by its own time having changed.
        var eventless = Volatile.Read(ref _eventless);
        return eventless > 0 && eventless + now - waitSince >= limits.Content.Ticks && Volatile.Read(ref _waitSince) == waitSince;
    }

    static bool IsOver(long since, TimeSpan limit, long now) => since != 0 && limit > TimeSpan.Zero && now - since >= limit.Ticks;
}
