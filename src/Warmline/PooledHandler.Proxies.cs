using System.Net.Http.Headers;
using Warmline.Options;
using Warmline.Transport;

namespace Warmline;

/// <summary>What calls through a proxy need beyond others.</summary>
internal sealed partial class PooledHandler
{
    const int LongestAgent = 4096;

    string? _lastAgent;

    /// <summary>
    /// The User-Agent of a call whose connection would be a tunnel, for the CONNECT of this or a later dial; null without one. Nearly all
    /// calls of a handler have the same, which is compared in place.
    /// </summary>
    string? AgentOf(HttpRequestMessage request, ConnectionKey key)
    {
        if (key.Proxy is null || key.IsForwarded || !request.Headers.NonValidated.TryGetValues("User-Agent", out var values))
        {
            return null;
        }

        var last = Volatile.Read(ref _lastAgent);
        if (last is not null && IsSame(values, last))
        {
            return last;
        }

        var agent = string.Join(' ', values);
        if (agent.Length is 0 or > LongestAgent || !agent.All(static letter => letter is >= ' ' and <= '~'))
        {
            return null;   // it cannot be sent
        }

        Volatile.Write(ref _lastAgent, agent);
        return agent;
    }

    static bool IsSame(HeaderStringValues values, ReadOnlySpan<char> joined)
    {
        var isFirst = true;
        foreach (var value in values)
        {
            if (!isFirst)
            {
                if (joined.IsEmpty || joined[0] != ' ')
                {
                    return false;
                }

                joined = joined[1..];
            }

            if (!joined.StartsWith(value, StringComparison.Ordinal))
            {
                return false;
            }

            joined = joined[value.Length..];
            isFirst = false;
        }

        return joined.IsEmpty;
    }

    /// <summary>The answer, unless the proxy that forwards wants a login that is known by now: then the call is sent once more.</summary>
    static void CheckLogin(ProxyLogin? login, ConnectionKey key, HttpResponseMessage response, HttpContent? content)
    {
        if (login is not null && (content is null || Bodies.IsReplayable(content)) && login.IsRenewed(response))
        {
            response.Dispose();
            throw new ProxyLoginException(key);
        }
    }

    /// <summary>As the platform: a proxy that forwards takes HTTP/1.1 alone.</summary>
    static HttpRequestException NoHttp2ThroughProxy(HttpRequestMessage request, ConnectionKey key) => new(
        HttpRequestError.VersionNegotiationError,
        $"Calls to {key.Origin} go through the proxy {key.Proxy}, which forwards plain http by HTTP/1.1 only, but the request requires "
        + $"{request.Version}. Set VersionPolicy to RequestVersionOrLower, or Http2.Mode to Required for a tunnel.");
}
