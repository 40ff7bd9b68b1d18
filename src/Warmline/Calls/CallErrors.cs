using System.Net.Sockets;
using Warmline.Options;
using Warmline.Pool;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline;

/// <summary>
/// The errors that the caller of a placed call sees: why the request cannot be sent as it is, a clock, the pool's end, or what went wrong
/// on the wire. <see cref="PoolErrors"/> has those of calls that get no place.
/// </summary>
internal static class CallErrors
{
    /// <summary>The platform's text, so that an error is known by it here too. A test compares them.</summary>
    public const string SendFailed = "An error occurred while sending the request.";

    /// <summary>
    /// The platform's mark: by it <see cref="System.Net.WebSockets.ClientWebSocket"/> knows that HTTP/1.1 may succeed.
    /// </summary>
    const string NoHttp2 = "HTTP2_ENABLED";

    /// <summary>What to throw for an attempt that failed before its answer and is not made again; null for the platform's error.</summary>
    public static Exception? OfSend(PooledCall call, Exception error, CancellationToken caller) =>
        OfExchange(call, error, caller) ?? error switch
        {
            PoolRejectedException or PoolConnectException => null,
            _ when call.Failure?.TlsRefusal is { } refusal =>
                new PoolConnectException(refusal.Phase, call.Verdict, refusal.Message, refusal.InnerException),
            HttpRequestException failed when Resend.IsHttp1Required(call) =>
                new PoolRequestException(call.Verdict, HttpRequestError.HttpProtocolError,
                    $"The call to {call.Key!.Key.Origin} failed: {Http1Required(call)}", failed.InnerException, failed.StatusCode),
            _ when call.Slot.Frames is { SawSettings: false } && !IsRefusedHere(call)
                && (call.Slot.HasEnded || IsOfTheWire(call, error)) => NoSettings(call.Connection!, call.Verdict, error),

            // The platform gave its own error up for a second connection. It is what an end without an answer is.
            HttpRequestException { InnerException: SlotDeadException } failed when call.Verdict is RequestVerdict.Unknown =>
                new PoolRequestException(call.Verdict, HttpRequestError.ResponseEnded, Failed(call, failed),
                    new HttpIOException(HttpRequestError.ResponseEnded, Cause(failed, call))),

            // Not the platform's: a content threw an error of its own type.
            HttpRequestException when error.GetType() != typeof(HttpRequestException) => null,

            // In place of the platform's error, with its cause: code that checks InnerException sees what it would see without the pool. If
            // nothing came from the wire, it is not the target's error.
            HttpRequestException failed => new PoolRequestException(call.Verdict, failed.HttpRequestError,
                IsRefusedHere(call) || (call.Upload.HasFailed && !IsOfTheWire(call, failed)) ? failed.Message : Failed(call, failed),
                failed.InnerException, failed.StatusCode),

            // The platform cancels a body's source when the connection breaks, and gives the caller that cancellation: it would look like
            // the caller's own, or like a timeout.
            OperationCanceledException when call.Upload.WasCancelled => new PoolRequestException(call.Verdict, HttpRequestError.Unknown,
                $"The call to {call.Key!.Key.Origin} failed: the connection broke while the request body was being sent.", error),
            IOException failed => new PoolRequestException(
                call.Verdict, HttpRequestError.Unknown, $"The call to {call.Key!.Key.Origin} failed: {failed.Message}", failed),
            _ => null,
        };

    /// <summary>
    /// What to throw for a failure after the call had its place, also while its answer is read; null for the platform's error.
    /// </summary>
    public static Exception? OfExchange(PooledCall call, Exception error, CancellationToken caller)
    {
        var seen = OfPool(call, error, caller);
        call.Trace?.Broke(seen ?? error);
        return seen;
    }

    /// <summary>
    /// What to throw for a call that ended while its <see cref="PoolRequestOptions.BeforeSend"/> ran; null if it did not end, or if
    /// <paramref name="error"/> is the application's own.
    /// </summary>
    public static Exception? OfBeforeSend(PooledCall call, Exception? error, CancellationToken caller)
    {
        if (error is not (null or OperationCanceledException))
        {
            return null;
        }

        if (call.AbortReason is { } reason)
        {
            return new PoolAbortedException(reason);
        }

        if (call.Clocks.Stalled is { } phase)
        {
            Count(call, caller);
            var (limit, silence) = (call.Clocks.LimitOf(phase), call.Clocks.StalledFor);
            return new RequestStalledException(phase, limit, silence, RequestVerdict.NotSent, call.Key!.Key.Origin, null);
        }

        return Cancelled(error, caller);
    }

    public static PoolRequestException OnlyHttp1(string origin, Version version, HttpVersionPolicy policy) =>
        new(RequestVerdict.NotSent, HttpRequestError.VersionNegotiationError,
            $"{origin} supports only HTTP/1.1, but the request requires {version}"
            + $"{(policy is HttpVersionPolicy.RequestVersionOrHigher ? " or higher" : "")}. "
            + "Set VersionPolicy to RequestVersionOrLower.", null);

    public static PoolRequestException NoHttp3(Version version) =>
        new(RequestVerdict.NotSent, HttpRequestError.VersionNegotiationError,
            $"The pool supports HTTP/1.1 and HTTP/2, but the request requires {version}. "
            + "Set VersionPolicy to RequestVersionOrLower.", null);

    public static PoolRequestException Http2Disabled(Version version) =>
        new(RequestVerdict.NotSent, HttpRequestError.VersionNegotiationError,
            $"The pool supports only HTTP/1.1 (Http2.Mode is Disabled), but the request requires {version}. "
            + "Set Http2.Mode to Preferred, or VersionPolicy to RequestVersionOrLower.", null);

    /// <summary>As the platform: a proxy that forwards takes HTTP/1.1 alone.</summary>
    public static HttpRequestException NoHttp2ThroughProxy(HttpRequestMessage request, ConnectionKey key) => new(
        HttpRequestError.VersionNegotiationError,
        $"Calls to {key.Origin} go through the proxy {key.Proxy}, which forwards plain http by HTTP/1.1 only, but the request requires "
        + $"{request.Version}. Set VersionPolicy to RequestVersionOrLower, or Http2.Mode to Required for a tunnel.");

    /// <summary>Marks the error of an extended CONNECT that HTTP/2 cannot carry, as the platform does.</summary>
    public static void MarkForDowngrade(HttpRequestMessage request, Exception error)
    {
        if (RequestRules.IsExtendedConnect(request)
            && error is PoolConnectException { LacksHttp2: true }
                or PoolRequestException { HttpRequestError: HttpRequestError.VersionNegotiationError }
                or PoolRequestException
                {
                    HttpRequestError: HttpRequestError.HttpProtocolError,
                    InnerException: HttpProtocolException { ErrorCode: LastWords.InadequateSecurity or LastWords.Http11Required },
                })
        {
            error.Data[NoHttp2] = false;
        }
    }

    static bool IsRefusedHere(PooledCall call) => call.Failure?.IsRefusedHere == true;

    /// <summary>The pool, a clock or the caller ended the call.</summary>
    static Exception? OfPool(PooledCall call, Exception error, CancellationToken caller)
    {
        if (call.AbortReason is { } reason)
        {
            return new PoolAbortedException(reason);
        }

        Count(call, caller);
        if (call.Clocks.Stalled is { } phase)
        {
            return new RequestStalledException(phase, call.Clocks.LimitOf(phase), call.Clocks.StalledFor,
                Resend.VerdictOfStall(call, error), call.Key!.Key.Origin, call.Events);
        }

        return Cancelled(error, caller);
    }

    static OperationCanceledException? Cancelled(Exception? error, CancellationToken caller) =>
        caller.IsCancellationRequested ? new OperationCanceledException("The call was cancelled.", error, caller) : null;

    /// <summary>Counts the failure once for a call. A caller who cancelled has lost nothing.</summary>
    static void Count(PooledCall call, CancellationToken caller)
    {
        var stalled = call.Clocks.Stalled;
        if ((stalled is null && caller.IsCancellationRequested) || !call.TryCountFailure())
        {
            return;
        }

        if (stalled is { } phase)
        {
            call.Engine.Figures.CountStall(phase);
        }
        else
        {
            call.Engine.Figures.Count(call.Verdict switch
            {
                RequestVerdict.NotSent => Fault.FailedNotSent,
                RequestVerdict.Unprocessed => Fault.FailedUnprocessed,
                _ => Fault.FailedUnknown,
            });
        }
    }

    /// <summary>
    /// A content that throws, or is not as long as it said, is no fault of the wire. Needed beside the connection's end, as the platform
    /// may end the call first.
    /// </summary>
    static bool IsOfTheWire(PooledCall call, Exception error) => error switch
    {
        HttpRequestException failed => failed.InnerException is IOException || failed.HttpRequestError is not HttpRequestError.Unknown,
        OperationCanceledException => call.Upload.WasCancelled,
        _ => error is IOException,
    };

    static string Failed(PooledCall call, HttpRequestException error) =>
        $"The call to {call.Key!.Key.Origin} failed: {Cause(error, call)}{HttpsHint(call, error)}";

    static string Cause(HttpRequestException error, PooledCall call) => error.InnerException switch
    {
        null => error.Message,
        SlotDeadException => call.Verdict switch
        {
            RequestVerdict.NotSent => "each connection ended before the request was sent.",
            RequestVerdict.Unprocessed =>
                $"the server closed the connection{GoAwayOf(call)} and declared that it had not processed the request."
                + (call.IsOverBudget ? " It is not sent again, as the pool's RetryBudget is used up." : ""),
            _ => $"the server closed the connection{GoAwayOf(call)} without an answer.",
        },

        // On HTTP/2 both say the same.
        var inner => (error.Message.Contains(inner.Message, StringComparison.Ordinal) ? error.Message : $"{error.Message} {inner.Message}")
            + (call.Slot.Frames?.GoAwayText is { Length: > 0 } text ? $" The server said: \"{text}\"." : ""),
    };

    static string GoAwayOf(PooledCall call) => LastWords.GoAway(call.Slot) is { } goAway ? $" ({goAway})" : "";

    /// <summary>A server that expects a TLS handshake closes on plain http without a word.</summary>
    static string HttpsHint(PooledCall call, HttpRequestException error) =>
        call is { Key.Key.IsHttps: false, Verdict: RequestVerdict.Unknown, Slot.BytesRead: 0 }
        && (error.HttpRequestError is HttpRequestError.ResponseEnded
            || error.InnerException is SlotDeadException or { InnerException: SocketException }) ? " Does the server want https?" : "";

    /// <summary>The error for a call whose HTTP/2 connection broke before the server's SETTINGS.</summary>
    static PoolConnectException NoSettings(ConnectionState connection, RequestVerdict verdict, Exception error)
    {
        var (slot, key) = ((Slot)connection.Slot!, connection.Key.Key);
        var cause = error is HttpRequestException ? error.InnerException : error;
        if (connection.EndCause is DialException { TimedOut: true } overdue)
        {
            return new PoolConnectException(DialPhase.Http2Settings, verdict, overdue.Message, cause);
        }

        var said = LastWords.GoAway(slot) is { } goAway ? $" but {goAway}" : slot.HasEnded ? ", and closed the connection" : "";
        return new PoolConnectException(DialPhase.Http2Settings, verdict,
            $"{key.Origin} negotiated HTTP/2 but sent no SETTINGS{said}. Set Http2.Mode to Disabled if its HTTP/2 is broken.",
            slot.EndCause ?? cause);
    }

    /// <summary>What a server of HTTP/1.1 only, or for this request only, said, and what to change.</summary>
    static string Http1Required(PooledCall call)
    {
        var frames = call.Slot.Frames!;
        var (frame, code, text) = frames.HasGoAway && LastWords.AsksForHttp1(frames.GoAwayCode)
            ? ("GOAWAY", frames.GoAwayCode, frames.GoAwayText) : ("RST_STREAM", call.Failure?.ResetCode ?? 0, "");
        var isRequiredByMode = call.Engine.Settings.Http2Mode is Http2Mode.Required;
        var remedy = call.MayFallBack ? "From now on, calls that allow HTTP/1.1 will use it"
            : call.Key!.Key.Protocols is HttpProtocols.Http2 && isRequiredByMode ? "Set Http2.Mode to Preferred"
            : "Set VersionPolicy to RequestVersionOrLower";
        var said = text.Length > 0 ? $": \"{text}\"" : "";
        var processed = call.Verdict is RequestVerdict.Unprocessed ? " and did not process the request" : "";
        return $"the server requires HTTP/1.1 ({frame} {LastWords.CodeName(code)}, 0x{code:x}{said}){processed}. {remedy}.";
    }
}
