using System.Globalization;
using System.Security.Authentication;

namespace Warmline.Transport;

/// <summary>A fatal TLS alert of the peer, found in the error that it made of a read.</summary>
/// <param name="Code">Its number (RFC 8446, section 6).</param>
internal readonly record struct TlsAlert(int Code)
{
    /// <summary>OpenSSL's reason for an alert of the peer is this plus its number.</summary>
    const int OpenSslReason = 1000;

    const string OpenSslError = "error:";

    public const int NoApplicationProtocol = 120;

    /// <summary>The alert's name, in words.</summary>
    public string Name => Code switch
    {
        0 => "close notify",
        10 => "unexpected message",
        20 => "bad record MAC",
        22 => "record overflow",
        40 => "handshake failure",
        41 => "no certificate",
        42 => "bad certificate",
        43 => "unsupported certificate",
        44 => "certificate revoked",
        45 => "certificate expired",
        46 => "certificate unknown",
        47 => "illegal parameter",
        48 => "unknown CA",
        49 => "access denied",
        50 => "decode error",
        51 => "decrypt error",
        70 => "protocol version",
        71 => "insufficient security",
        80 => "internal error",
        86 => "inappropriate fallback",
        90 => "user canceled",
        109 => "missing extension",
        110 => "unsupported extension",
        112 => "unrecognized name",
        113 => "bad certificate status response",
        115 => "unknown PSK identity",
        116 => "certificate required",
        NoApplicationProtocol => "no application protocol",
        _ => "alert",
    };

    /// <summary>
    /// Whether only a handshake ends in it. A TLS 1.3 server sends it after the client believes the handshake to be over, and processes no
    /// application data before (RFC 8446, section 4.4.2.4). The others may be about a record of the request.
    /// </summary>
    public bool IsOfHandshake => Code is (>= 40 and <= 49) or 51 or 70 or 71 or 86 or (>= 109 and <= NoApplicationProtocol);

    /// <summary>What to change, as a sentence after a space; empty where there is nothing to say.</summary>
    public string Advice(bool sendsCertificate) => Code switch
    {
        116 or 41 => " The server requires a client certificate: set SslOptions.ClientCertificates.",
        40 or (>= 42 and <= 46) or 48 or 49 when !sendsCertificate =>
            " The server may require a client certificate: set SslOptions.ClientCertificates.",
        (>= 42 and <= 46) or 48 or 49 => " The server does not accept the client certificate of SslOptions.",
        _ => "",
    };

    /// <summary>The alert that caused an error; null where the system names none.</summary>
    public static TlsAlert? Of(Exception? error)
    {
        for (var at = error; at is not null; at = at.InnerException)
        {
            if (ReasonIn(at.Message) is >= OpenSslReason and <= OpenSslReason + byte.MaxValue and var reason)
            {
                return new TlsAlert(reason - OpenSslReason);
            }
        }

        return null;
    }

    /// <summary>Whether TLS itself failed, rather than the connection below it.</summary>
    public static bool IsTlsFailure(Exception? error)
    {
        for (var at = error; at is not null; at = at.InnerException)
        {
            if (at is AuthenticationException || Of(at) is not null)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>As in "error:0A00045C:SSL routines::tlsv13 alert certificate required": the last 23 bits of the number.</summary>
    static int ReasonIn(string message)
    {
        const int Digits = 8, ReasonMask = 0x7F_FFFF;
        var start = message.IndexOf(OpenSslError, StringComparison.Ordinal);
        return start >= 0 && message.Length >= start + OpenSslError.Length + Digits
            && uint.TryParse(message.AsSpan(start + OpenSslError.Length, Digits), NumberStyles.HexNumber, CultureInfo.InvariantCulture,
                out var number)
            ? (int)(number & ReasonMask) : 0;
    }
}
