using System.Net;

namespace Warmline;

/// <summary>
/// What the request itself rules out: what the platform refuses before it looks for a connection, and what only HTTP/2 can carry. The pool
/// refuses the same, before it asks for a place, resolves a name or dials.
/// </summary>
internal static class RequestRules
{
    // The platform's texts, so that an error is known by them here too. A test compares them.
    const string NoSuchVersion = "Request version value must be one of 1.0, 1.1, 2.0, or 3.0.";
    const string NothingToChunk = "'Transfer-Encoding: chunked' header can not be used when content object is not specified.";
    const string NoChunksInHttp10 = "HTTP 1.0 does not support chunking.";
    const string NoAddress =
        "An invalid request URI was provided. Either the request URI must be an absolute URI or BaseAddress must be set.";

    /// <summary>The error for a request that cannot be sent at all, in the platform's order; null for any other.</summary>
    public static Exception? Refusal(HttpRequestMessage request)
    {
        var version = request.Version;
        if (version != HttpVersion.Version11 && version != HttpVersion.Version20
            && version != HttpVersion.Version10 && version != HttpVersion.Version30)
        {
            return new NotSupportedException(NoSuchVersion);
        }

        var isChunked = request.Headers.TransferEncodingChunked is true;
        if (isChunked && request.Content is null)
        {
            var cause = new InvalidOperationException(NothingToChunk);
            return new PoolRequestException(RequestVerdict.NotSent, HttpRequestError.Unknown, CallErrors.SendFailed, cause);
        }

        if (version == HttpVersion.Version10
            && (isChunked || (request.Content is { Headers.ContentLength: null } && !RequestBody.IsBuffered(request))))
        {
            return new NotSupportedException(NoChunksInHttp10);
        }

        return request.RequestUri is not { IsAbsoluteUri: true } uri ? new InvalidOperationException(NoAddress)
            : uri.Scheme is "https" or "http" or "wss" or "ws" ? null   // the last two are what ClientWebSocket says
            : new NotSupportedException($"The pool supports only http and https; the request URI is '{uri.GetLeftPart(UriPartial.Path)}'.");
    }

    /// <summary>
    /// An extended CONNECT (RFC 8441), as of a WebSocket over HTTP/2: sent as HTTP/1.1 it would ask a server to be a proxy.
    /// </summary>
    public static bool IsExtendedConnect(HttpRequestMessage request) =>
        request.Method == HttpMethod.Connect && request.Headers.Protocol is not null;

    /// <summary>
    /// HTTP/2 or higher, over TLS: offered as every other call, whose connections it shares, so only the connection shows whether the
    /// server speaks it.
    /// </summary>
    public static bool InsistsOnHttp2(Version version, HttpVersionPolicy policy) =>
        version.Major >= 2 && policy is HttpVersionPolicy.RequestVersionOrHigher;
}
