using Warmline.Pool;
using System.Diagnostics;
using System.Net;
using System.Threading.Tasks.Sources;
using Warmline.Options;
using Warmline.Providers;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline;

/// <summary>
/// One call: the waiter that the scheduler places, the lease it becomes, and the exchange whose two bodies keep the lease. One object for all of it, as there is
/// one for every call. Awaiting <see cref="PlacedAsync"/> allocates nothing; it completes asynchronously, so that no caller runs on the thread that made room.
/// </summary>
internal sealed partial class PooledRequest : Waiter, IValueTaskSource, IExchange
{
    const byte NoStream = 0;
    const byte Streaming = 1;
    const byte StreamOver = 2;

    static readonly TimeSpan Never = TimeSpan.MinValue;

    readonly PoolEngine _engine;
    readonly CancellationToken _caller;
    ManualResetValueTaskSourceCore<bool> _placed = new() { RunContinuationsAsynchronously = true };
    object? _refusal;   // boxed: nearly every call is granted its place, and each would carry the room for it
    CancellationTokenRegistration _callerRegistration;
    long _writtenBefore;
    long _readBefore;
    long _claimed;
    int _streamBefore;
    int _openParts;
    int _aborted;
    Seldom? _seldom;
    RequestVerdict _verdict = RequestVerdict.Unknown;
    TimeSpan _headersAt = Never;   // a sentinel instead of a nullable, to save memory in each call
    TimeSpan _uploadedAt = Never;
    TimeSpan _endedAt = Never;
    byte _upload;
    byte _stream;
    bool _wasCounted;
    bool _refused;
    bool _wasPulled;
    volatile bool _broken;

    public PooledRequest(PoolEngine engine, CallTimeouts timeouts, CancellationToken caller)
    {
        _caller = caller;
        _engine = engine;
        Timeouts = timeouts;
        Clocks = new RequestClocks(engine.Clock, timeouts);
    }

    public CallTimeouts Timeouts { get; }

    public RequestClocks Clocks { get; }

    public TimeSpan Now => _engine.Now;

    public SseWatcher? Events
    {
        get;
        set
        {
            field = value;
            if (value is null)
            {
                if (Interlocked.CompareExchange(ref _stream, NoStream, Streaming) == Streaming)
                {
                    _engine.Figures.StreamEnded();
                }
            }
            else if (Interlocked.CompareExchange(ref _stream, Streaming, NoStream) == NoStream)
            {
                _engine.Figures.StreamBegan();
            }
        }
    }

    public override bool IsStreaming => Events is not null;

    public override bool HasAnswer => HeadersAt is not null;

    public bool EndsWithItsAnswer => !Connection!.IsHttp2;

    public Slot Slot => (Slot)Connection!.Slot!;

    /// <summary>Why it got no place, if it was refused one.</summary>
    public SchedulerAction? Refusal => (SchedulerAction?)_refusal;

    public TimeSpan? HeadersAt => At(_headersAt);

    public TimeSpan? UploadedAt => At(_uploadedAt);

    public TimeSpan? EndedAt => At(_endedAt);

    /// <summary>Where the call comes from; only recorded where leaks are looked for.</summary>
    public StackTrace? TakenBy
    {
        get => _seldom?.TakenBy;
        init
        {
            if (value is not null)
            {
                Rare.TakenBy = value;
            }
        }
    }

    /// <summary>The body, where it was serialised ahead.</summary>
    public BufferedContent? Buffered { get; set; }

    /// <summary>The pool's retry budget did not allow another attempt.</summary>
    public bool IsOverBudget { get; set; }

    /// <summary>Ends an upload whose rest the server refuses; null where none is watched.</summary>
    public EarlyAnswer? Early { get; private set; }

    /// <summary>The platform stopped the upload: on its connection's end, if it was not told to.</summary>
    public bool UploadWasCancelled { get; private set; }

    /// <summary>The upload ended before the body did, and the platform did not stop it: the content, or a write, failed.</summary>
    public bool UploadFailed { get; private set; }

    TimeSpan ConnectionAge => Connection is { } connection ? GrantedAt - connection.OpenedAt : TimeSpan.Zero;

    public RefusalContent InspectedRefusal
    {
        set => Rare.InspectedRefusal = value;
    }

    Seldom Rare => _seldom ?? Interlocked.CompareExchange(ref _seldom, new(), null) ?? _seldom;

    StreamPhase Phase => HeadersAt is not null ? Clocks.IsWaiting ? StreamPhase.Reading : StreamPhase.Held
        : Volatile.Read(ref _upload) is UploadOver ? StreamPhase.Waiting : StreamPhase.Sending;

    /// <summary>The caller has the response and does not read on at this moment.</summary>
    public bool IsHeld => Phase is StreamPhase.Held;

    /// <summary>The same, all the time between the last two checks.</summary>
    public bool IsUnread { get; private set; }

    /// <summary>
    /// A clock ended the call, and not even a sign of life had come during it: on HTTP/2 the next call should not be the next to wait
    /// there. If it was the write clock,
    /// no sign of life counts: other calls may be answered, and PINGs, on a connection that takes no bodies.
    /// </summary>
    bool IsOnDeadConnection => Clocks.Stalled is { } stalled and not StallPhase.Total
        && (Slot.BytesRead == _readBefore || (stalled is StallPhase.Write && Connection!.IsHttp2));

    /// <summary>The server's GOAWAY proves that it did not process the call: its stream is above the last one that it names. All that was
    /// opened before it was sent is below it.</summary>
    bool IsAboveGoAway => Slot.Frames is { } frames && frames.LastStreamId <= _streamBefore;

    bool NothingWritten => Slot.BytesWritten == _writtenBefore;

    public RequestTimings Timings
    {
        get
        {
            var timings = Reused || Connection?.Slot is not Slot slot ? default : slot.Timings;
            return new RequestTimings
            {
                Queue = GrantedAt - AskedAt,
                Dns = timings.Dns,
                Tcp = timings.Tcp,
                Proxy = timings.Proxy,
                Tls = timings.Tls,
                Send = (UploadedAt ?? GrantedAt) - GrantedAt,
                FirstByte = (HeadersAt ?? GrantedAt) - GrantedAt,
                LastByte = EndedAt - GrantedAt,
                FirstToken = Events?.FirstContentAt - GrantedAt,
                Tokens = Events?.Contents ?? 0,
                LongestTokenGap = Events?.LongestGap,
                MeanTokenGap = Events?.MeanGap,
                ConnectionId = Connection?.Id ?? 0,
                ConnectionAge = ConnectionAge,
                Reused = Reused,
            };
        }
    }

    /// <summary>Completes when it has its place, or its <see cref="Refusal"/>; faults with <see cref="OperationCanceledException"/> when the caller gave up.</summary>
    public ValueTask PlacedAsync() => new(this, _placed.Version);

    public void Place(in SchedulerAction action)
    {
        _refusal = action.Kind is ActionKind.Refuse ? action : null;
        _placed.SetResult(true);
    }

    /// <summary>The caller left before it was placed.</summary>
    public void GiveUp() => _placed.SetException(new OperationCanceledException(_caller));

    public void CancelWait() => _engine.Placement.Cancel(this);

    /// <summary>Before another attempt: it waits again.</summary>
    public void ResetPlacement() => _placed.Reset();

    /// <summary>The caller's token aborts the call from now on until the headers are there.</summary>
    public void ObeyCaller() =>
        _callerRegistration = _caller.UnsafeRegister(static state => ((RequestClocks)state!).Abort(), Clocks);

    public void DisobeyCaller() => _callerRegistration.Dispose();

    /// <summary>Starts an attempt on the connection that was granted. <paramref name="hasContent"/>: a body that is watched. <paramref name="isLong"/>: one that
    /// the server may answer before its end. <paramref name="at"/>: now.</summary>
    public void Begin(bool hasContent, bool isLong, TimeSpan at)
    {
        IsRefusedHere = false;
        _openParts = hasContent ? 2 : 1;
        _upload = hasContent ? NoUpload : UploadOver;
        _broken = false;
        UploadWasCancelled = UploadFailed = false;
        Early = null;
        if (isLong && !Connection!.IsHttp2)
        {
            Slot.WatchUpload(Early = new EarlyAnswer());
        }

        Clocks.Sending = null;
        _wasPulled = false;
        _streamBefore = Connection!.IsHttp2 ? Slot.Sent.LastStreamId : 0;
        _writtenBefore = Slot.BytesWritten;
        _readBefore = Slot.BytesRead;
        Clocks.Start(at - AskedAt);
        Clocks.BeginFirstByte();   // also before the body: the connection may not take the headers, or the server hold the stream back
    }

    /// <summary>Whether a connection that had rested is found to be gone, before anything is sent on it: then the call is placed anew.</summary>
    public bool IsBypassed() => Rested >= IdleLimit.Moment && _engine.Placement.TryReplaceStale(this);

    /// <summary>Gives the lease back without having used it.</summary>
    public void ReturnUnused() => _engine.Placement.Release(this, LeaseOutcome.Unused);

    public void ResponseAbandoned(bool isCounted)
    {
        if (isCounted)
        {
            _engine.Figures.Count(Fault.Abandoned);
        }

        Slot.Abandon();
    }

    public void ResponseLeaked() => _engine.Leaks.ReportLeak(this);

    public void StreamErrorSeen() => _engine.Figures.Count(Fault.StreamErrors);

    public void ResponseEnded(bool whole)
    {
        _endedAt = _engine.Now;
        _seldom?.InspectedRefusal?.Conclude();   // what it says must count before the lease ends and lets the next call go
        Clocks.EndWait();
        Clocks.EndAnswer();
        if (Volatile.Read(ref _upload) is Uploading && (_refused || !whole))
        {
            Clocks.Abort();   // HTTP/2: nobody wants the rest of the body, and it would keep the lease
        }

        PartEnded(whole);
    }

    public void HeadersCame(HttpStatusCode status)
    {
        _headersAt = _engine.Now;
        Key!.Origin.Http2.Answered(Connection!.IsHttp2);
        Clocks.EndWait();
        UploadNeverBegan();
        EndEarly();
        _refused = status >= HttpStatusCode.MultipleChoices;
        if (Volatile.Read(ref _upload) is Uploading)
        {
            Clocks.BeginAnswer();
        }

        if (status is HttpStatusCode.SwitchingProtocols)
        {
            Clocks.Stop();   // the connection is the caller's from here on, who may be silent as long as he likes
            Rare.HeldSince = TimeSpan.MaxValue;
        }
    }

    /// <summary>
    /// An HTTP/1.0 response may end its connection without saying so: then the connection must not be used again. Called before the body is
    /// watched, as that may end the lease at once.
    /// </summary>
    public void CheckPersistence(HttpResponseMessage response)
    {
        if (Persistence.EndsConnection(response))
        {
            _broken = true;
        }
    }

    /// <summary>Completes when both bodies are over, which for a response that was read to its end or disposed takes a moment at most.</summary>
    public Task SettledAsync()
    {
        var settled = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Interlocked.Exchange(ref Rare.Settled, settled);
        if (Volatile.Read(ref _openParts) == 0)
        {
            settled.TrySetResult();
        }

        return settled.Task;
    }

    /// <summary>Whether the server can have worked on the call, as of the last attempt that failed.</summary>
    public RequestVerdict Verdict => _verdict;

    /// <summary>As <see cref="ConnectionPool.GetStreams"/> shows it.</summary>
    public StreamInfo Describe(TimeSpan now) => new(Key!.Key.Origin, Connection!.Id, now - GrantedAt, Phase, Clocks.Silence, Events?.Events ?? 0, LaneName, TenantName);

    /// <summary>How long the caller has held the response and not read on, if that is at least <paramref name="threshold"/> and was not told yet. Seen from look to look: progress costs the
    /// reader a count and no time stamp.</summary>
    public TimeSpan? IsHeldFor(TimeSpan threshold, TimeSpan now)
    {
        var rare = Rare;
        if (_headersAt == Never || rare.HeldSince == TimeSpan.MaxValue)
        {
            return null;
        }

        var reads = Clocks.Reads;
        if (Clocks.IsWaiting || reads != rare.ReadsSeen)
        {
            (rare.HeldSince, rare.ReadsSeen) = (now, reads);
        }

        var held = now - (At(rare.HeldSince) ?? _headersAt);
        if (held < threshold)
        {
            return null;
        }

        rare.HeldSince = TimeSpan.MaxValue;
        return held;
    }

    /// <summary>Looks whether it was read on since the last look.</summary>
    public void RecordReads()
    {
        var reads = Clocks.Reads;
        IsUnread = IsHeld && reads == Rare.ReadsAtCheck;
        Rare.ReadsAtCheck = reads;
    }

    /// <summary>The pool ends the call.</summary>
    public void Abort(PoolRejectionReason reason)
    {
        Volatile.Write(ref _aborted, (int)reason);
        if (HeadersAt is null && Volatile.Read(ref _upload) is UploadOver)
        {
            Slot.CutWaits();
        }

        Clocks.Abort();
    }

    void IValueTaskSource.GetResult(short token) => _placed.GetResult(token);

    ValueTaskSourceStatus IValueTaskSource.GetStatus(short token) => _placed.GetStatus(token);

    void IValueTaskSource.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _placed.OnCompleted(continuation, state, token, flags);

    static TimeSpan? At(TimeSpan time) => time == Never ? null : time;

    void PartEnded(bool whole)
    {
        if (!whole && !Connection!.IsHttp2)
        {
            _broken = true;   // set, never computed from itself: both bodies may end at the same time
        }

        if (Interlocked.Decrement(ref _openParts) == 0)
        {
            Clocks.Stop();
            Unclaim();
            Buffered?.Leave();
            TellEnd();
            _engine.Placement.Release(this, _broken || IsOnDeadConnection ? LeaseOutcome.ConnectionBroken : IsRefusedHere ? LeaseOutcome.Unused : LeaseOutcome.Reusable);
            Volatile.Read(ref _seldom)?.Settled?.TrySetResult();
        }
    }

    /// <summary>What few calls need, in an object of its own: each call would carry the room for it.</summary>
    sealed class Seldom
    {
        public TaskCompletionSource? Settled;
        public TaskCompletionSource? UploadOver;

        public StackTrace? TakenBy { get; set; }

        /// <summary>Since when the response is not read on; MaxValue once that was reported.</summary>
        public TimeSpan HeldSince { get; set; } = Never;

        public int ReadsSeen { get; set; }

        /// <summary>How the last attempt failed.</summary>
        public bool MayFallBack { get; set; }

        public uint ResetCode { get; set; }

        public DialException? TlsRefusal { get; set; }

        public int ReadsAtCheck { get; set; } = -1;

        /// <summary>The body of a refusal that is read for the provider's advice.</summary>
        public RefusalContent? InspectedRefusal { get; set; }
    }
}
