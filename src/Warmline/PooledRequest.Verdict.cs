using Warmline.Pool;
using Warmline.Options;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline;

/// <summary>What becomes of an attempt that failed: whether the server can have worked on it, whether it is made again, what the caller sees.</summary>
internal sealed partial class PooledRequest
{
    const long RefusedStream = 7;   // RFC 9113, section 7

    /// <summary>The last attempt was refused by the platform, or by the request's own content, before anything was sent.</summary>
    public bool IsRefusedHere { get; private set; }

    /// <summary>Whether the call may use HTTP/1.1 instead of the HTTP/2 on which its last attempt failed.</summary>
    public bool MayFallBack => _seldom?.MayFallBack == true;

    /// <summary>The HTTP/2 error code in which the last attempt ended; 0 for none.</summary>
    public uint ResetCode => _seldom?.ResetCode ?? 0;

    /// <summary>The server refused the TLS handshake of the last attempt's connection, after this side believed it to be over.</summary>
    public DialException? TlsRefusal => _seldom?.TlsRefusal;

    /// <summary>The options, not the request, require HTTP/2.</summary>
    public bool RequiresHttp2ByMode => _engine.Settings.Http2Mode is Http2Mode.Required;

    /// <summary>The server refused the last attempt because it came over HTTP/2.</summary>
    public bool IsHttp1Required => Slot.Frames is { } frames
        && (LastWords.AsksForHttp1(ResetCode) || (frames.HasGoAway && LastWords.AsksForHttp1(frames.GoAwayCode)));

    /// <summary>Whether the upload is a part of the exchange that has not ended. Told by the parts, as its own state changes before they do.</summary>
    bool IsUploadOpen => Volatile.Read(ref _openParts) > 1;

    /// <summary>
    /// The attempt failed before the response's headers. Ends it and tells whether it is placed again: only when the server provably did not start on it, or the
    /// call may be repeated, and the body can be given once more.
    /// </summary>
    public async ValueTask<bool> FailedAsync(Exception error, HttpMethod method, HttpContent? content, bool mayUseHttp1)
    {
        var rare = Rare;
        rare.MayFallBack = mayUseHttp1 && Connection!.IsHttp2 && Key!.Key is { Protocols: HttpProtocols.Any, IsHttps: true };
        rare.ResetCode = CodeIn(error);
        UploadNeverBegan();
        EndEarly();
        if (Clocks.Stalled is StallPhase.Write && Connection!.IsHttp2)
        {
            _engine.Placement.TakeOutOfUse(Connection);   // before the caller knows, who may call again at once
        }

        rare.TlsRefusal = LastWords.Refusal(Slot, Key!.Key);
        var proof = Proof(error);
        IsRefusedHere = proof is null && error is not OperationCanceledException && IsNeverSent(error);
        _verdict = proof ?? (IsRefusedHere ? RequestVerdict.NotSent : RequestVerdict.Unknown);
        var isReplayable = content is null || Bodies.IsReplayable(content);
        if (proof is RequestVerdict.NotSent or RequestVerdict.Unprocessed && isReplayable && IsUploadOpen)
        {
            await UploadOverAsync().ConfigureAwait(false);
        }

        var isRefused = IsHttp1Required;
        var mayRepeat = proof is RequestVerdict.NotSent or RequestVerdict.Unprocessed
            || (content is null && IsIdempotent(method) && (isRefused || error is HttpRequestException { InnerException: SlotDeadException }));
        mayRepeat &= TlsRefusal is null && (!isRefused || MayFallBack);   // else every connection ends in the same way
        var untouched = !IsUploadOpen && (UploadedAt is null || isReplayable);
        if (!mayRepeat || !untouched || Clocks.IsCancellationRequested)
        {
            var isKept = IsRefusedHere && !Slot.HasEnded;
            _broken = _broken || (!isKept && (!Connection!.IsHttp2 || _verdict is not RequestVerdict.Unknown));
            if (MayFallBack && TlsRefusal is null && !IsRefusedHere && (isRefused || (IsNoAnswer(error) && Connection!.EndCause is not DialException { TimedOut: true })))
            {
                _engine.Placement.DoubtHttp2(this, isRefused ? Http2Doubt.Refused : Slot.Frames is { SawSettings: false } ? Http2Doubt.Broken : Http2Doubt.NoAnswer);
            }

            ResponseEnded(whole: isKept);
            return false;
        }

        Clocks.Stop();
        Unclaim();
        _uploadedAt = Never;
        return _engine.Placement.Redispatch(this, _verdict switch
        {
            RequestVerdict.NotSent => Fault.RetriedNotSent,
            RequestVerdict.Unprocessed => Fault.RetriedUnprocessed,
            _ => Fault.RetriedIdempotent,
        }, isRefused ? Http2Doubt.Refused : Http2Doubt.None);
    }

    /// <summary>The platform may tell that a stream was not processed before the end of its upload has been told, which is then about to come: what is written is in memory, and the stream is over. Another attempt would
    /// take that end for its own.</summary>
    async ValueTask UploadOverAsync()
    {
        var over = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Interlocked.Exchange(ref Rare.UploadOver, over);
        if (IsUploadOpen)
        {
            await over.Task.WaitAsync(Clocks.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <summary>What the caller should see for a failure after it had its place.</summary>
    public Exception? Translate(Exception error, CancellationToken caller)
    {
        var told = Tell(error, caller);
        _trace?.Broke(told ?? error);
        return told;
    }

    Exception? Tell(Exception error, CancellationToken caller)
    {
        if (Volatile.Read(ref _aborted) is not 0 and var reason)
        {
            return new PoolAbortedException((PoolRejectionReason)reason);
        }

        CountFailure(caller);
        if (Clocks.Stalled is { } phase)
        {
            return new RequestStalledException(phase, Clocks.LimitOf(phase), Clocks.StalledFor, VerdictOfStall(error), Key!.Key.Origin, Events);
        }

        return caller.IsCancellationRequested ? new OperationCanceledException("The call was cancelled.", error, caller) : null;
    }

    static uint CodeIn(Exception error) =>
        error is HttpRequestException { InnerException: HttpProtocolException { ErrorCode: >= 0 and <= uint.MaxValue and var code } } ? (uint)code : 0;

    /// <summary>HTTP/2 brought no answer for a reason of its own: not a clock, the caller, or the content.</summary>
    bool IsNoAnswer(Exception error) => Clocks.Stalled is null && !_caller.IsCancellationRequested && !UploadFailed
        && (IsOfTheWire(error) || ((UploadWasCancelled || Slot.HasEnded) && Volatile.Read(ref _aborted) == 0));   // the platform may report a broken connection as the cancellation of the upload

    /// <summary>By RFC 9110, section 9.2.2.</summary>
    static bool IsIdempotent(HttpMethod method) =>
        method == HttpMethod.Get || method == HttpMethod.Head || method == HttpMethod.Options || method == HttpMethod.Trace || method == HttpMethod.Put || method == HttpMethod.Delete;

    /// <summary>Once for a call, however often its reader asks; a caller who cancelled has lost nothing.</summary>
    void CountFailure(CancellationToken caller)
    {
        var stalled = Clocks.Stalled;
        if ((stalled is null && caller.IsCancellationRequested) || Interlocked.Exchange(ref _wasCounted, true))
        {
            return;
        }

        if (stalled is { } phase)
        {
            _engine.Figures.CountStall(phase);
        }
        else
        {
            _engine.Figures.Count(_verdict switch
            {
                RequestVerdict.NotSent => Fault.FailedNotSent,
                RequestVerdict.Unprocessed => Fault.FailedUnprocessed,
                _ => Fault.FailedUnknown,
            });
        }
    }

    /// <summary>Once the platform has pulled the body over HTTP/2, the HEADERS stand in its buffer at least, and go out with the
    /// reset.</summary>
    RequestVerdict VerdictOfStall(Exception error) =>
        (NothingWritten || !Slot.SentRequest) && !(_wasPulled && Connection!.IsHttp2) ? RequestVerdict.NotSent : Judge(error);

    RequestVerdict Judge(Exception error) => Proof(error) ?? (IsNeverSent(error) ? RequestVerdict.NotSent : RequestVerdict.Unknown);

    /// <summary>Whether the failure is the platform's or the content's own, before anything was sent: sending it again would fail in the
    /// same way.</summary>
    bool IsNeverSent(Exception error) => NeverSent && (!Connection!.IsHttp2
        || (!Slot.HasEnded && !_wasPulled && HeadersAt is null && error is not OperationCanceledException && !IsOfTheWire(error)));

    /// <summary>
    /// Whether nothing of the request was handed to the connection. On HTTP/1.1, where nothing else is written at the same time, the count
    /// of
    /// bytes proves it. On HTTP/2 other calls write too: there the HEADERS of at least one call that was begun were never written.
    /// </summary>
    bool NeverSent => NothingWritten || (Connection!.IsHttp2 && Slot.Sends > Slot.Sent.Requests);

    /// <summary>Whether the error, or what caused it, is one of reading or writing: a connection's end, a broken protocol, or a content's
    /// own.</summary>
    static bool IsOfTheWire(Exception error)
    {
        for (var at = error; at is not null; at = at.InnerException)
        {
            if (at is IOException or HttpRequestException { HttpRequestError: not HttpRequestError.Unknown })
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>
    /// The server asks for HTTP/1.1 instead, so it does not answer the request in this protocol (RFC 9113, section 7). Said for a stream, it is about that stream. Said for
    /// the connection, it may be about another stream; if there was no other, it is about this one as well, whatever last id the server names. A server that has sent
    /// anything in answer has started.
    /// </summary>
    bool AsksThisCallForHttp1(Http2FrameWatcher frames)
    {
        var isOnlyCall = Slot.Sent.Requests <= 1;
        var isForConnection = frames.HasGoAway && LastWords.AsksForHttp1(frames.GoAwayCode);
        return isOnlyCall ? frames.Answers == 0 : !isForConnection;
    }

    /// <summary>What the connection's end says of the attempt; null where it says nothing. Only what is proved so may be sent
    /// again.</summary>
    RequestVerdict? Proof(Exception error)
    {
        if (TlsRefusal is not null)
        {
            return NothingWritten || LastWords.ProvesUnprocessed(Slot) ? RequestVerdict.NotSent : null;
        }

        // The platform asks a slot for a second connection only when it would itself retry the request. On HTTP/2 that is proof: it does so for unprocessed
        // streams alone. On HTTP/1.1 it also does so for a request without content that was written and never answered, so the bytes have to tell.
        if (error is HttpRequestException { InnerException: SlotDeadException })
        {
            return NothingWritten ? RequestVerdict.NotSent : Connection!.IsHttp2 ? RequestVerdict.Unprocessed : RequestVerdict.Unknown;
        }

        if (error is ProxyLoginException)
        {
            return RequestVerdict.NotSent;   // it went no further than the proxy
        }

        // Whatever the platform makes of an end that comes right behind it: what the server said has been read.
        if (IsAboveGoAway)
        {
            return RequestVerdict.Unprocessed;
        }

        // The platform has tried it again on this connection as often as it does, and it was refused each time.
        if (error is HttpRequestException { InnerException: HttpProtocolException { ErrorCode: RefusedStream } })
        {
            return RequestVerdict.Unprocessed;
        }

        if (IsHttp1Required && AsksThisCallForHttp1(Slot.Frames!))
        {
            return RequestVerdict.Unprocessed;
        }

        // A server whose first SETTINGS allow no stream: the platform fails the request that was to start the connection, unsent and with no cause inside.
        return error is HttpRequestException { InnerException: null } && Connection is { IsHttp2: true, AdvertisedLimit: 0 } && !Slot.SentRequest
            ? RequestVerdict.NotSent
            : null;
    }
}
