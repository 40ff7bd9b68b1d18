using System.Net;
using Warmline.Options;
using Warmline.Pool;
using Warmline.Providers;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline;

/// <summary>How the answer counts among the pool's streams of events. Each value may follow only those above it.</summary>
internal enum StreamState : byte
{
    /// <summary>It is no stream of events, or has not begun.</summary>
    None,

    /// <summary>It is a stream of events, and counts.</summary>
    Streaming,

    /// <summary>The call has ended: nothing counts any more.</summary>
    Over,
}

/// <summary>
/// The second part of a <see cref="PooledCall"/>: one attempt on the connection that was granted. Its request body and its response body
/// keep the lease; the lease ends when both have ended, failed or been left.
/// </summary>
internal abstract class Exchange : PlacedCall
{
    /// <summary>A sentinel instead of a nullable, to save memory in each call.</summary>
    public static readonly TimeSpan Never = TimeSpan.MinValue;

    Upload _upload = new();
    AttemptStart _start;
    int _openParts;
    TimeSpan _headersAt = Never;
    TimeSpan _endedAt = Never;
    Seldom? _seldom;
    StreamState _stream;
    bool _isRefusal;
    volatile bool _isBroken;

    protected Exchange(PoolEngine engine, CallTimeouts timeouts, CancellationToken caller)
        : base(engine, timeouts, caller)
    {
    }

    public SseWatcher? Events
    {
        get;
        set
        {
            field = value;
            if (value is null)
            {
                if (Interlocked.CompareExchange(ref _stream, StreamState.None, StreamState.Streaming) == StreamState.Streaming)
                {
                    Engine.Figures.StreamEnded();
                }
            }
            else if (Interlocked.CompareExchange(ref _stream, StreamState.Streaming, StreamState.None) == StreamState.None)
            {
                Engine.Figures.StreamBegan();
            }
        }
    }

    public override bool IsStreaming => Events is not null;

    public override bool HasAnswer => HeadersAt is not null;

    public TimeSpan? HeadersAt => At(_headersAt);

    public TimeSpan? EndedAt => At(_endedAt);

    /// <summary>The request body.</summary>
    public ref readonly Upload Upload => ref _upload;

    /// <summary>How the last attempt failed; null as long as none has.</summary>
    public AttemptFailure? Failure
    {
        get => RareIfAny?.Failure;
        set => Rare.Failure = value;
    }

    /// <summary>What its connection had carried before the attempt.</summary>
    public ref readonly AttemptStart Start => ref _start;

    /// <summary>
    /// Whether the upload is a part of the exchange that has not ended. The count of open parts answers that, because the upload's own
    /// state changes before it.
    /// </summary>
    public bool IsUploadOpen => Volatile.Read(ref _openParts) > 1;

    /// <summary>What few calls need; null as long as this one has not needed it.</summary>
    public Seldom? RareIfAny => Volatile.Read(ref _seldom);

    public Seldom Rare => _seldom ?? Interlocked.CompareExchange(ref _seldom, new(), null) ?? _seldom;

    /// <summary>
    /// A clock ended the call, and not even a sign of life had come during it: on HTTP/2 the next call should not be the next to wait
    /// there. If it was the write clock, no sign of life counts: other calls may be answered, and PINGs, on a connection that takes no
    /// bodies.
    /// </summary>
    bool IsOnDeadConnection => Clocks.Stalled is { } stalled and not StallPhase.Total
        && (_start.IsNothingRead(Slot) || (stalled is StallPhase.Write && Connection!.IsHttp2));

    public static TimeSpan? At(TimeSpan time) => time == Never ? null : time;

    /// <summary>
    /// Whether a body of this length has nothing to wait for on the connection that was granted: on HTTP/2 the server's credit covers it.
    /// Then it goes out in one write that nothing holds up.
    /// </summary>
    public bool Claim(long bytes) => _upload.Claim(Slot, bytes);

    /// <summary>Starts an attempt on the connection that was granted.</summary>
    /// <param name="hasContent">There is a body, and it is watched.</param>
    /// <param name="isLong">The server may answer it before its end.</param>
    /// <param name="now">The time.</param>
    public void Begin(bool hasContent, bool isLong, TimeSpan now)
    {
        if (Failure is { } failure)
        {
            failure.IsRefusedHere = false;
            failure.Verdict = RequestVerdict.Unknown;   // that of the attempt before said nothing about this one
        }

        _openParts = hasContent ? 2 : 1;
        _upload.Reset(isWatched: hasContent);
        _isBroken = false;
        if (isLong && !Connection!.IsHttp2)
        {
            _upload.WatchForEarlyAnswer(Slot);
        }

        Clocks.Sending = null;
        _start = new AttemptStart(Slot);
        Clocks.Start(now - AskedAt);
        Clocks.BeginFirstByte();   // also before the body: the connection may not take the headers, or the server hold the stream back
    }

    public bool IsCovered(long written, int bytes) => Slot.Frames is not { } frames
        || (written + bytes <= frames.InitialWindowSize && bytes <= Slot.Credit);

    public void UploadBegan()
    {
        if (!_upload.TryBegin())
        {
            return;
        }

        Clocks.EndWait();   // from here to its end the write clock counts, while a write is under way: a body may take its time to be made
        Clocks.Sending = new SendWatch(Slot);
        if (_upload.Early is not null)
        {
            Slot.UploadBegan();
        }
    }

    public void UploadEnded(bool whole, bool cancelled)
    {
        if (!_upload.TryEnd(whole, cancelled))
        {
            return;
        }

        Clocks.EndWrite();
        _upload.Unclaim(Slot);
        _upload.SetEndedAt(Now);
        if (_headersAt == Never)
        {
            Clocks.BeginFirstByte();
        }

        EndWeight();
        EndPart(whole);
        RareIfAny?.UploadOver?.TrySetResult();
    }

    /// <summary>The attempt has its answer, or failed: what the pool does for its upload is over.</summary>
    public void EndUploadWatch()
    {
        if (Volatile.Read(ref _openParts) == 2 && _upload.TrySkip())
        {
            EndWeight();
            EndPart(whole: true);
        }

        if (_upload.Early is { } early)
        {
            Slot.UploadEnded();
            if (early.WasCut)
            {
                _isBroken = true;
            }
        }
    }

    public void HeadersCame(HttpStatusCode status)
    {
        _headersAt = Now;
        Key!.Origin.Http2.Answered(Connection!.IsHttp2);
        Clocks.EndWait();
        EndUploadWatch();
        _isRefusal = status >= HttpStatusCode.MultipleChoices;
        if (_upload.State is UploadState.UnderWay)
        {
            Clocks.BeginAnswer();
        }

        if (status is HttpStatusCode.SwitchingProtocols)
        {
            Clocks.Stop();   // the connection is the caller's from here on, who may be silent for any time
            Rare.HeldSince = TimeSpan.MaxValue;
        }
    }

    public void ResponseEnded(bool whole)
    {
        _endedAt = Now;
        RareIfAny?.InspectedRefusal?.Conclude();   // what it says must count before the lease ends and the next call goes out
        Clocks.EndWait();
        Clocks.EndAnswer();
        if (_upload.State is UploadState.UnderWay && (_isRefusal || !whole))
        {
            Clocks.Abort();   // HTTP/2: the rest of the body is of no use, and would keep the lease
        }

        EndPart(whole);
    }

    /// <summary>The connection must not be used again.</summary>
    public void BreakConnection() => _isBroken = true;

    /// <summary>Ends an attempt that failed, before the call is placed again.</summary>
    public void EndAttempt()
    {
        Clocks.Stop();
        _upload.Unclaim(Slot);
        _upload.SetEndedAt(Never);
    }

    /// <summary>
    /// Completes when the upload is over. The platform may report that a stream was not processed before it reports the end of its upload,
    /// which is then about to come: what is written is in memory, and the stream is over. Another attempt would take that end for its own.
    /// </summary>
    public async ValueTask UploadOverAsync()
    {
        var over = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Interlocked.Exchange(ref Rare.UploadOver, over);
        if (IsUploadOpen)
        {
            await over.Task.WaitAsync(Clocks.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <summary>
    /// Completes when both bodies are over. For a response that was read to its end or disposed, that takes a moment at most.
    /// </summary>
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

    /// <summary>The body no longer weighs on its connection.</summary>
    protected abstract void EndWeight();

    /// <summary>Both bodies are over: gives the lease back.</summary>
    protected abstract void EndLease(LeaseOutcome outcome);

    /// <summary>The call does not count as a stream from now on. A read may find it to be a stream in this moment.</summary>
    protected void EndStream()
    {
        if (Interlocked.Exchange(ref _stream, StreamState.Over) == StreamState.Streaming)
        {
            Engine.Figures.StreamEnded();
        }
    }

    void EndPart(bool whole)
    {
        if (!whole && !Connection!.IsHttp2)
        {
            _isBroken = true;   // set, never computed from itself: both bodies may end at the same time
        }

        if (Interlocked.Decrement(ref _openParts) == 0)
        {
            Clocks.Stop();
            _upload.Unclaim(Slot);
            EndLease(_isBroken || IsOnDeadConnection ? LeaseOutcome.ConnectionBroken
                : Failure?.IsRefusedHere == true ? LeaseOutcome.Unused : LeaseOutcome.Reusable);
            RareIfAny?.Settled?.TrySetResult();
        }
    }
}
