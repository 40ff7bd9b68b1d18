using System.Net;
using Warmline.Options;

namespace Warmline.Transport;

/// <summary>
/// Has the platform send its requests in absolute form, as a proxy that forwards plain http wants them (RFC 9112, section 3.2.2). The
/// connection to the proxy exists already, with TLS if the proxy requires it, so the address only selects the absolute form. No
/// credentials are given to the platform, because the pool sends them itself.
/// </summary>
internal sealed class ForwardProxy(ProxyAddress proxy, string? basic) : IWebProxy
{
    readonly Uri _address = new UriBuilder(Uri.UriSchemeHttp, proxy.Host, proxy.Port).Uri;

    /// <summary>The value of Proxy-Authorization as of the dial; null where no credentials were known.</summary>
    public string? Login { get; } = ProxyLogin.Value(basic);

    public ICredentials? Credentials { get; set; }

    public Uri? GetProxy(Uri destination) => _address;

    public bool IsBypassed(Uri host) => false;
}

/// <summary>One call's login at the proxy that forwards it. The caller's request has the header only while it is sent.</summary>
internal sealed class ProxyLogin(ConnectionKey key, ICredentials? credentials)
{
    const string Header = "Proxy-Authorization";

    string? _sent;
    string? _renewed;
    bool _isOurs;

    public static string? Value(string? basic) => basic is null ? null : $"Basic {basic}";

    /// <summary>Adds what is known to the request, unless the caller did.</summary>
    public void Add(HttpRequestMessage request, Slot slot)
    {
        TakeBack(request);
        if (request.Headers.NonValidated.Contains(Header))
        {
            _renewed = "";   // the caller's own, and the caller's to renew
            return;
        }

        if (_renewed is { Length: > 0 })
        {
            slot.ProxyLogin = _renewed;
        }

        _sent = slot.ProxyLogin;
        _isOurs = _sent is not null && request.Headers.TryAddWithoutValidation(Header, _sent);
    }

    public void TakeBack(HttpRequestMessage request)
    {
        if (_isOurs)
        {
            request.Headers.Remove(Header);
            _isOurs = false;
        }
    }

    /// <summary>
    /// True if the proxy wants a login and there is one that it has not seen, such as a password that was changed. Then the next attempt
    /// sends that one. Once for a call.
    /// </summary>
    public bool TryRenew(HttpResponseMessage response)
    {
        if (_renewed is not null || response.StatusCode is not HttpStatusCode.ProxyAuthenticationRequired
            || !response.Headers.ProxyAuthenticate.Any(
                static way => string.Equals(way.Scheme, "Basic", StringComparison.OrdinalIgnoreCase)))
        {
            return false;
        }

        var known = Value(ProxyTunnel.BasicFor(key.Proxy!, credentials));
        if (known is null || known == _sent)
        {
            return false;
        }

        _renewed = known;
        return true;
    }
}

/// <summary>The proxy did not forward the request and wants a login, which is known now.</summary>
internal sealed class ProxyLoginException(ConnectionKey key) : HttpRequestException(HttpRequestError.ProxyTunnelError,
    $"The proxy {key.Proxy} rejected the credentials (407), and the request could not be resent with new ones.", null,
    HttpStatusCode.ProxyAuthenticationRequired);
