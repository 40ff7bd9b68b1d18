using Warmline.Options;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline;

/// <summary>What a server said last on a connection, in words: a TLS alert, a GOAWAY, or nothing.</summary>
internal static class LastWords
{
    public const uint InadequateSecurity = 12;
    public const uint Http11Required = 13;

    /// <summary>The codes of RFC 9113, section 7.</summary>
    static readonly string[] Codes =
    [
        "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR",
        "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
    ];

    public static string CodeName(uint code) => code < Codes.Length ? Codes[code] : $"0x{code:x}";

    /// <summary>Whether the code asks for HTTP/1.1.</summary>
    public static bool AsksForHttp1(long code) => code is InadequateSecurity or Http11Required;

    /// <summary>As "GOAWAY PROTOCOL_ERROR: \"what it said\""; null where no GOAWAY came.</summary>
    public static string? GoAway(Slot slot) => slot.Frames is { HasGoAway: true } frames
        ? $"GOAWAY {CodeName(frames.GoAwayCode)}{(frames.GoAwayText is { Length: > 0 } text ? $": \"{text}\"" : "")}" : null;

    /// <summary>
    /// The alert in which the connection ended before an answer came. A TLS 1.3 server that refuses the handshake says so when this side
    /// believes it to be over, and may have a request by then. It has processed none (RFC 8446, section 4.4.2.4).
    /// </summary>
    public static DialException? Refusal(Slot slot, ConnectionKey key)
    {
        if (slot.HasAnswered || slot.EndCause is not { } cause || TlsAlert.Of(cause) is not { } alert)
        {
            return null;
        }

        // HTTP/2's first frames may come before the server has seen the client's certificate.
        var isEarly = slot.BytesRead == 0 || alert.IsOfHandshake;
        return isEarly ? new DialException(DialPhase.Tls,
            $"The TLS handshake with {key.Authority} failed: the server refused it with the alert \"{alert.Name}\" ({alert.Code})."
            + alert.Advice(slot.SentCertificate), cause) : null;
    }

    /// <summary>Whether such an alert proves that no request was processed.</summary>
    public static bool ProvesUnprocessed(Slot slot) => slot.IsTls13 && TlsAlert.Of(slot.EndCause) is { IsOfHandshake: true };

    /// <summary>
    /// Records in the scheduler's connection why it ends and what that says about HTTP/2. Called before the event of that end.
    /// </summary>
    public static void Record(ConnectionState connection, Slot slot, TimeSpan age)
    {
        if (slot.Frames is { HasGoAway: true } frames && AsksForHttp1(frames.GoAwayCode))
        {
            connection.Doubt = Http2Doubt.Refused;
        }

        if (slot.HasAnswered && slot.FirstWords is null)
        {
            return;
        }

        var key = connection.Key.Key;
        if (Refusal(slot, key) is { } refused)
        {
            (connection.FailedIn, connection.EndCause) = (DialPhase.Tls, refused);
            return;
        }

        if (connection.Phase is not ConnectionPhase.AwaitingSettings && (age >= Scheduler.EarlyDeath || slot.SentRequest))
        {
            return;   // it was idle, or the call on it says what happened
        }

        var early = EarlyEnd(slot, key);
        (connection.FailedIn, connection.EndCause) = (early.Phase, early);
        if (slot.Frames is { SawSettings: false } && connection.Doubt is Http2Doubt.None)
        {
            connection.Doubt = Http2Doubt.Broken;
        }
    }

    /// <summary>The error for a connection that ended before it was of any use.</summary>
    public static DialException EarlyEnd(Slot slot, ConnectionKey key)
    {
        var said = slot.FirstWords is { } words ? $": it sent \"{words}\" before receiving a request"
            : GoAway(slot) is { } goAway ? $" ({goAway})"
            : slot.EndCause is { } cause ? $": {cause.GetBaseException().Message.TrimEnd('.', ' ')}" : "";
        return slot.Frames is { SawSettings: false }
            ? new DialException(DialPhase.Http2Settings,
                $"{key.Origin} closed the connection before it sent its HTTP/2 SETTINGS{said}.", slot.EndCause)
            : slot.IsHttp2 ? new DialException(DialPhase.Http2Settings,
                $"{key.Origin} closed the HTTP/2 connection before any request was answered on it{said}.", slot.EndCause)
            : new DialException(key.IsHttps ? DialPhase.Tls : DialPhase.Tcp,
                $"{key.Origin} closed the connection immediately after it was opened{said}."
                    + (key.IsHttps && said.Length == 0 ? " It may require a client certificate: see SslOptions." : ""), slot.EndCause);
    }
}
