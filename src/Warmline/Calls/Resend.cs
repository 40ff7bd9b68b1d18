using Warmline.Options;
using Warmline.Pool;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline;

/// <summary>
/// What becomes of an attempt that failed before its answer: whether the server can have worked on it, and whether it is made again. No
/// other class decides that.
/// </summary>
internal static class Resend
{
    const long RefusedStream = 7;   // RFC 9113, section 7

    /// <summary>
    /// The attempt failed before the response's headers. Ends it, and returns whether the call is placed again: only when the server
    /// provably did not start on it, or the call may be repeated, and the body can be given once more.
    /// </summary>
    public static async ValueTask<bool> TryAsync(
        PooledCall call, Exception error, HttpMethod method, HttpContent? content, bool mayUseHttp1)
    {
        var failure = Record(call, error, mayUseHttp1);
        var proof = Proof(call, error);
        failure.IsRefusedHere = proof is null && error is not OperationCanceledException && IsNeverSent(call, error);
        failure.Verdict = proof ?? (failure.IsRefusedHere ? RequestVerdict.NotSent : RequestVerdict.Unknown);
        var isReplayable = content is null || Bodies.IsReplayable(content);
        if (proof is RequestVerdict.NotSent or RequestVerdict.Unprocessed && isReplayable && call.IsUploadOpen)
        {
            await call.UploadOverAsync().ConfigureAwait(false);
        }

        var isRefused = IsHttp1Required(call);
        var mayRepeat = proof is RequestVerdict.NotSent or RequestVerdict.Unprocessed
            || (content is null && IsIdempotent(method)
                && (isRefused || error is HttpRequestException { InnerException: SlotDeadException }));
        mayRepeat &= failure.TlsRefusal is null && (!isRefused || failure.MayFallBack);   // else every connection ends in the same way
        var untouched = !call.IsUploadOpen && (call.Upload.EndedAt is null || isReplayable);
        if (!mayRepeat || !untouched || call.Clocks.IsCancellationRequested)
        {
            EndForGood(call, failure, error, isRefused);
            return false;
        }

        call.EndAttempt();
        return call.Engine.Placement.Redispatch(call, failure.Verdict switch
        {
            RequestVerdict.NotSent => Fault.RetriedNotSent,
            RequestVerdict.Unprocessed => Fault.RetriedUnprocessed,
            _ => Fault.RetriedIdempotent,
        }, isRefused ? Http2Doubt.Refused : Http2Doubt.None);
    }

    /// <summary>
    /// Fails an attempt if the proxy that forwards it wants a login that is known by now. Then the call is sent once more.
    /// </summary>
    public static void CheckLogin(ProxyLogin? login, ConnectionKey key, HttpResponseMessage response, HttpContent? content)
    {
        if (login is not null && (content is null || Bodies.IsReplayable(content)) && login.TryRenew(response))
        {
            response.Dispose();
            throw new ProxyLoginException(key);
        }
    }

    /// <summary>The server refused the last attempt because it came over HTTP/2.</summary>
    public static bool IsHttp1Required(PooledCall call) => call.Slot.Frames is { } frames
        && (LastWords.AsksForHttp1(call.Failure?.ResetCode ?? 0) || (frames.HasGoAway && LastWords.AsksForHttp1(frames.GoAwayCode)));

    /// <summary>
    /// The verdict on a call that a clock ended. Once the platform has pulled the body over HTTP/2, the HEADERS stand in its buffer at
    /// least, and go out with the reset.
    /// </summary>
    public static RequestVerdict VerdictOfStall(PooledCall call, Exception error) =>
        (call.Start.IsNothingWritten(call.Slot) || !call.Slot.SentRequest) && !(call.Upload.WasPulled && call.Connection!.IsHttp2)
            ? RequestVerdict.NotSent
        : Proof(call, error) ?? (IsNeverSent(call, error) ? RequestVerdict.NotSent : RequestVerdict.Unknown);

    static AttemptFailure Record(PooledCall call, Exception error, bool mayUseHttp1)
    {
        var key = call.Key!.Key;
        var connection = call.Connection!;
        call.EndUploadWatch();
        if (call.Clocks.Stalled is StallPhase.Write && connection.IsHttp2)
        {
            call.Engine.Placement.TakeOutOfUse(connection);   // before the caller knows, who may call again at once
        }

        return call.Failure = new AttemptFailure
        {
            MayFallBack = mayUseHttp1 && connection.IsHttp2 && key is { Protocols: HttpProtocols.Any, IsHttps: true },
            ResetCode = CodeIn(error),
            TlsRefusal = LastWords.Refusal(call.Slot, key),
        };
    }

    static void EndForGood(PooledCall call, AttemptFailure failure, Exception error, bool isRefused)
    {
        var connection = call.Connection!;
        var isKept = failure.IsRefusedHere && !call.Slot.HasEnded;
        if (!isKept && (!connection.IsHttp2 || failure.Verdict is not RequestVerdict.Unknown))
        {
            call.BreakConnection();
        }

        if (failure.MayFallBack && failure.TlsRefusal is null && !failure.IsRefusedHere
            && (isRefused || (IsNoAnswer(call, error) && connection.EndCause is not DialException { TimedOut: true })))
        {
            call.Engine.Placement.DoubtHttp2(call, isRefused ? Http2Doubt.Refused
                : call.Slot.Frames is { SawSettings: false } ? Http2Doubt.Broken : Http2Doubt.NoAnswer);
        }

        call.ResponseEnded(whole: isKept);
    }

    /// <summary>
    /// What the connection's end proves about the attempt; null where it proves nothing. A call whose method is not idempotent is sent
    /// again only with such a proof.
    /// </summary>
    static RequestVerdict? Proof(PooledCall call, Exception error)
    {
        var slot = call.Slot;
        if (call.Failure?.TlsRefusal is not null)
        {
            return call.Start.IsNothingWritten(slot) || LastWords.ProvesUnprocessed(slot) ? RequestVerdict.NotSent : null;
        }

        // The platform asks a slot for a second connection only when it would itself retry the request. On HTTP/2 that is proof: it does so
        // for unprocessed streams alone. On HTTP/1.1 it also does so for a request without content that was written and never answered, so
        // there the count of bytes decides.
        if (error is HttpRequestException { InnerException: SlotDeadException })
        {
            return call.Start.IsNothingWritten(slot) ? RequestVerdict.NotSent
                : call.Connection!.IsHttp2 ? RequestVerdict.Unprocessed : RequestVerdict.Unknown;
        }

        if (error is ProxyLoginException)
        {
            return RequestVerdict.NotSent;   // it went no further than the proxy
        }

        // Whatever the platform makes of an end that comes right behind it: what the server said has been read.
        if (call.Start.IsAboveGoAway(slot))
        {
            return RequestVerdict.Unprocessed;
        }

        // The platform has tried it again on this connection as often as it does, and the server refused it each time.
        if (error is HttpRequestException { InnerException: HttpProtocolException { ErrorCode: RefusedStream } })
        {
            return RequestVerdict.Unprocessed;
        }

        if (IsHttp1Required(call) && AsksThisCallForHttp1(slot))
        {
            return RequestVerdict.Unprocessed;
        }

        // A server whose first SETTINGS allow no stream: the platform fails the request that was to start the connection, unsent and with
        // no cause inside.
        return error is HttpRequestException { InnerException: null } && call.Connection is { IsHttp2: true, AdvertisedLimit: 0 }
            && !slot.SentRequest ? RequestVerdict.NotSent : null;
    }

    /// <summary>
    /// The server asks for HTTP/1.1 instead, so it does not answer the request in this protocol (RFC 9113, section 7). Said for a stream,
    /// it is about that stream. Said for the connection, it may be about another stream; if there was no other, it is about this one as
    /// well, whatever last id the server names. A server that has sent anything in answer has started.
    /// </summary>
    static bool AsksThisCallForHttp1(Slot slot)
    {
        var frames = slot.Frames!;
        var isOnlyCall = slot.Sent.Requests <= 1;
        var isForConnection = frames.HasGoAway && LastWords.AsksForHttp1(frames.GoAwayCode);
        return isOnlyCall ? frames.Answers == 0 : !isForConnection;
    }

    /// <summary>
    /// Whether the failure is the platform's or the content's own, before anything was sent. Sending it again would fail in the same way.
    /// </summary>
    static bool IsNeverSent(PooledCall call, Exception error) => NothingHandedOver(call) && (!call.Connection!.IsHttp2
        || (!call.Slot.HasEnded && !call.Upload.WasPulled && call.HeadersAt is null
            && error is not OperationCanceledException && !HasWireCause(error)));

    /// <summary>
    /// Whether nothing of the request was handed to the connection. On HTTP/1.1, where nothing else is written at the same time, the count
    /// of bytes proves it. On HTTP/2 other calls write too: there the HEADERS of at least one call that was begun were never written.
    /// </summary>
    static bool NothingHandedOver(PooledCall call) =>
        call.Start.IsNothingWritten(call.Slot) || (call.Connection!.IsHttp2 && call.Slot.Sends > call.Slot.Sent.Requests);

    /// <summary>
    /// HTTP/2 brought no answer for a reason of its own: not a clock, the caller, or the content. The platform may report a broken
    /// connection as the cancellation of the upload.
    /// </summary>
    static bool IsNoAnswer(PooledCall call, Exception error) => call.Clocks.Stalled is null && !call.IsCancelledByCaller
        && !call.Upload.HasFailed
        && (HasWireCause(error) || ((call.Upload.WasCancelled || call.Slot.HasEnded) && call.AbortReason is null));

    /// <summary>
    /// Whether the error, or what caused it, is one of reading or writing: a connection's end, a broken protocol, or a content's own.
    /// </summary>
    static bool HasWireCause(Exception error)
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

    /// <summary>By RFC 9110, section 9.2.2.</summary>
    static bool IsIdempotent(HttpMethod method) => method == HttpMethod.Get || method == HttpMethod.Head || method == HttpMethod.Options
        || method == HttpMethod.Trace || method == HttpMethod.Put || method == HttpMethod.Delete;

    static uint CodeIn(Exception error) =>
        error is HttpRequestException { InnerException: HttpProtocolException { ErrorCode: >= 0 and <= uint.MaxValue and var code } }
            ? (uint)code : 0;
}
