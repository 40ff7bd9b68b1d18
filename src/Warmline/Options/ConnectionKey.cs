namespace Warmline.Options;

/// <summary>The HTTP versions that a connection may speak; part of the key, because ALPN offers exactly these.</summary>
internal enum HttpProtocols
{
    /// <summary>Offer h2 and http/1.1 and take what the server picks.</summary>
    Any,

    /// <summary>HTTP/1.1 only: the request insists on it, or HTTP/2 is switched off.</summary>
    Http1,

    /// <summary>
    /// HTTP/2 only: the request insists on it, or <see cref="Http2Mode.Required"/> does. On plain http: with prior knowledge.
    /// </summary>
    Http2,
}

/// <summary>
/// Who may share a connection: origin, TLS name, proxy, partition and the versions on offer. Immutable, with its hash computed once:
/// the handler looks one up for every request.
/// </summary>
internal sealed class ConnectionKey : IEquatable<ConnectionKey>
{
    readonly int _hash;

    public ConnectionKey(
        bool isHttps, string host, int port, string? tlsName = null, HttpProtocols protocols = HttpProtocols.Any, string partition = "",
        ProxyAddress? proxy = null, bool tunnels = false)
    {
        IsHttps = isHttps;
        Host = host;
        Port = port;
        TlsName = tlsName ?? host;
        Protocols = protocols;
        Partition = partition;
        Proxy = proxy;
        IsForwarded = !isHttps && proxy is not null && !tunnels && protocols is not HttpProtocols.Http2;
        _hash = HashCode.Combine(isHttps, StringComparer.OrdinalIgnoreCase.GetHashCode(host), port, TlsName, protocols, partition, proxy);
    }

    public bool IsHttps { get; }

    /// <summary>The host to resolve and connect to: a name in its ASCII form, or an address without brackets.</summary>
    public string Host { get; }

    public int Port { get; }

    /// <summary>The name that TLS asks for and checks: the Host header's where there is one, as the platform does.</summary>
    public string TlsName { get; }

    public HttpProtocols Protocols { get; }

    /// <summary>Empty unless connections must not be shared between parts of the application.</summary>
    public string Partition { get; }

    /// <summary>The proxy on the way; null for a direct connection.</summary>
    public ProxyAddress? Proxy { get; }

    /// <summary>Whether its requests go to the proxy in absolute form (RFC 9112, section 3.2.2), as the platform sends plain http. Else a
    /// proxy gives a tunnel, by CONNECT: for https, for <c>ws://</c>, and for HTTP/2 with prior knowledge, which no proxy
    /// forwards.</summary>
    public bool IsForwarded { get; }

    /// <summary>
    /// The host that is resolved and connected to first: the proxy's where there is one, as the origin's name is the proxy's to resolve.
    /// </summary>
    public string DialedHost => Proxy?.Host ?? Host;

    /// <summary>The port that goes with <see cref="DialedHost"/>.</summary>
    public int DialedPort => Proxy?.Port ?? Port;

    /// <summary>host:port, as CONNECT asks for it and errors name it.</summary>
    public string Authority => Host.Contains(':') ? $"[{Host}]:{Port}" : $"{Host}:{Port}";

    /// <summary>scheme://host:port, as people write it.</summary>
    public string Origin => field ??= $"{(IsHttps ? "https" : "http")}://{(Host.Contains(':') ? $"[{Host}]" : Host)}{(Port == (IsHttps ? 443 : 80) ? "" : $":{Port}")}";

    /// <summary>The same, with HTTP/1.1 alone on offer.</summary>
    public ConnectionKey WithoutHttp2() => new(IsHttps, Host, Port, TlsName, HttpProtocols.Http1, Partition, Proxy);

    public bool Equals(ConnectionKey? other) => ReferenceEquals(this, other) || (other is not null
        && _hash == other._hash && IsHttps == other.IsHttps && Port == other.Port && Protocols == other.Protocols
        && string.Equals(Host, other.Host, StringComparison.OrdinalIgnoreCase)
        && string.Equals(TlsName, other.TlsName, StringComparison.Ordinal)   // the platform tells connections apart by its exact spelling
        && string.Equals(Partition, other.Partition, StringComparison.Ordinal) && Equals(Proxy, other.Proxy)
        && IsForwarded == other.IsForwarded);

    public override bool Equals(object? obj) => Equals(obj as ConnectionKey);

    public override int GetHashCode() => _hash;

    public override string ToString() => Origin + (Protocols is HttpProtocols.Any ? "" : $" ({Protocols})") + (Partition.Length == 0 ? "" : $" [{Partition}]") + (Proxy is null ? "" : $" through {Proxy}");
}

/// <summary>An HTTP proxy. The user name and password in its address tell connections apart, and are never shown.</summary>
internal sealed class ProxyAddress(Uri uri) : IEquatable<ProxyAddress>
{
    /// <summary>As the <see cref="System.Net.IWebProxy"/> gave it, user name and password included.</summary>
    public Uri Uri => uri;

    /// <summary>The host to resolve and connect to: a name in its ASCII form, or an address without brackets.</summary>
    public string Host { get; } = uri.IdnHost;

    public int Port => uri.Port;

    /// <summary>Whether the proxy itself is spoken to over TLS.</summary>
    public bool IsHttps => uri.Scheme == Uri.UriSchemeHttps;

    public bool IsSupported => uri.Scheme == Uri.UriSchemeHttp || IsHttps;

    /// <summary>Whether the address is that one, user name and password included.</summary>
    public bool Is(Uri other) => ReferenceEquals(uri, other) || (uri.Equals(other) && string.Equals(uri.UserInfo, other.UserInfo, StringComparison.Ordinal));   // Uri's own comparison leaves them out

    public bool Equals(ProxyAddress? other) => other is not null && Is(other.Uri);

    public override bool Equals(object? obj) => Equals(obj as ProxyAddress);

    public override int GetHashCode() => uri.GetHashCode();

    /// <summary>scheme://host:port, and nothing more of the address.</summary>
    public override string ToString() => $"{uri.Scheme}://{(Host.Contains(':') ? $"[{Host}]" : Host)}{(uri.Port < 0 ? "" : $":{uri.Port}")}";
}
