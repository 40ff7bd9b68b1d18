namespace Warmline;

/// <summary>Requests that only HTTP/2 can carry.</summary>
internal sealed partial class PooledHandler
{
    /// <summary>The platform's mark: by it <see cref="System.Net.WebSockets.ClientWebSocket"/> knows that HTTP/1.1 may succeed.</summary>
    const string NoHttp2 = "HTTP2_ENABLED";

    /// <summary>An extended CONNECT (RFC 8441), as of a WebSocket over HTTP/2: sent as HTTP/1.1 it would ask a server to be a proxy.</summary>
    static bool IsExtendedConnect(HttpRequestMessage request) => request.Method == HttpMethod.Connect && request.Headers.Protocol is not null;

    static PoolRequestException OnlyHttp1(string origin, Version version, HttpVersionPolicy policy) =>
        new(RequestVerdict.NotSent, HttpRequestError.VersionNegotiationError,
            $"{origin} supports only HTTP/1.1, but the request requires {version}{(policy is HttpVersionPolicy.RequestVersionOrHigher ? " or higher" : "")}. "
            + "Set VersionPolicy to RequestVersionOrLower.", null);

    /// <summary>Marks the error of an extended CONNECT that HTTP/2 cannot carry, as the platform does.</summary>
    static void MarkForDowngrade(HttpRequestMessage request, Exception error)
    {
        if (IsExtendedConnect(request)
            && error is PoolConnectException { LacksHttp2: true } or PoolRequestException { HttpRequestError: HttpRequestError.VersionNegotiationError }
                or PoolRequestException { HttpRequestError: HttpRequestError.HttpProtocolError, InnerException: HttpProtocolException { ErrorCode: LastWords.InadequateSecurity or LastWords.Http11Required } })
        {
            error.Data[NoHttp2] = false;
        }
    }
}
