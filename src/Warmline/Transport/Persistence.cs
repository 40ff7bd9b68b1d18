using System.Net;
using System.Net.Http.Headers;

namespace Warmline.Transport;

/// <summary>
/// Whether a connection outlasts an answer, where the platform does not decide it: it closes for <c>Connection: close</c> only.
/// </summary>
internal static class Persistence
{
    /// <summary>
    /// Whether an answer of HTTP/1.0 ends its connection. Without <c>Connection: keep-alive</c> it does (RFC 9112, section 9.3), and with
    /// a Transfer-Encoding always, as 1.0 has none (section 6.1). <c>Proxy-Connection</c> keeps nothing (appendix C.2.2).
    /// </summary>
    public static bool EndsConnection(HttpResponseMessage response) =>
        response.Version == HttpVersion.Version10 && !IsKept(response.Headers);

    static bool IsKept(HttpResponseHeaders headers)
    {
        if (headers.NonValidated.Contains("Transfer-Encoding") || !headers.NonValidated.TryGetValues("Connection", out var values))
        {
            return false;
        }

        var isKept = false;
        foreach (var value in values)
        {
            foreach (var part in value.AsSpan().Split(','))
            {
                var option = value.AsSpan(part).Trim();
                if (option.Equals("close", StringComparison.OrdinalIgnoreCase))
                {
                    return false;
                }

                isKept |= option.Equals("keep-alive", StringComparison.OrdinalIgnoreCase);
            }
        }

        return isKept;
    }
}
