using System.Net;

namespace Warmline.Options;

/// <summary>Which connections a call may ride.</summary>
internal sealed partial record PoolSettings
{
    /// <summary>The proxy's address for a call to <paramref name="uri"/>; null for a direct connection.</summary>
    public static Uri? ProxyOf(Uri uri, IWebProxy? proxy)
    {
        try
        {
            return proxy is null || proxy.IsBypassed(uri) || proxy.GetProxy(uri) is not { } address || ReferenceEquals(address, uri)
                ? null : address;   // some give the target itself for "none"
        }
        catch (Exception)
        {
            return null;   // as the platform does
        }
    }

    /// <summary>The key of an origin that may speak whatever <paramref name="mode"/> allows.</summary>
    public static ConnectionKey KeyOf(Uri origin, Http2Mode mode, IWebProxy? proxy = null) => new(origin.Scheme == Uri.UriSchemeHttps, origin.IdnHost, origin.Port, protocols: mode switch
    {
        Http2Mode.Disabled => HttpProtocols.Http1,
        Http2Mode.Required => HttpProtocols.Http2,
        _ => HttpProtocols.Any,
    }, proxy: ProxyOf(origin, proxy) is { } address ? new ProxyAddress(address) : null);
}
