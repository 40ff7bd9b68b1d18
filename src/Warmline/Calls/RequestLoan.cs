using System.Net;
using System.Net.Http.Headers;
using Warmline.Options;
using Warmline.Transport;

namespace Warmline;

/// <summary>
/// The caller's request is changed for the send and gets its own values back, whatever happens. This remembers what they were and what was
/// added.
/// </summary>
internal readonly struct RequestLoan
{
    readonly List<StringWithQualityHeaderValue>? _encodings;

    public RequestLoan(HttpRequestMessage request, ConnectionKey key, DecompressionMethods decompress, IWebProxy? proxy)
    {
        (Content, Version, Policy, Decompress) = (request.Content, request.Version, request.VersionPolicy, decompress);
        _encodings = decompress is DecompressionMethods.None ? null : Decompression.Ask(request, decompress);
        Login = key.IsForwarded ? new ProxyLogin(key, proxy?.Credentials) : null;
    }

    public HttpContent? Content { get; }

    public Version Version { get; }

    public HttpVersionPolicy Policy { get; }

    public DecompressionMethods Decompress { get; }

    /// <summary>The login at the proxy that forwards the call; null without one.</summary>
    public ProxyLogin? Login { get; }

    /// <summary>The request as the caller gave it, for the callback that runs before an attempt.</summary>
    public void Show(HttpRequestMessage request)
    {
        (request.Content, request.Version, request.VersionPolicy) = (Content, Version, Policy);
        Login?.TakeBack(request);
    }

    /// <summary>Gives the request back to the caller.</summary>
    public void Return(HttpRequestMessage request)
    {
        Show(request);
        if (_encodings is not null)
        {
            Decompression.TakeBack(request, _encodings);
        }
    }
}
