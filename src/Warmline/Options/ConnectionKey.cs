namespace Warmline.Options;

/// <summary>The HTTP versions that a connection may speak; part of the key, because ALPN offers exactly these.</summary>
internal enum HttpProtocols
{
    /// <summary>Offer h2 and http/1.1 and take what the server picks.</summary>
    Any,

    /// <summary>HTTP/1.1 only: the request insists on it, or HTTP/2 is switched off.</summary>
    Http1,

    /// <summary>HTTP/2 only: the request insists on it, or <see cref="Http2Mode.Required"/> does. On plain http: with prior knowledge.</summary>
    Http2,
}

/// <summary>
/// Who may share a connection: origin, TLS name, partition and the versions on offer. Immutable, with its hash computed once:
/// the handler looks one up for every request.
/// </summary>
internal sealed class ConnectionKey : IEquatable<ConnectionKey>
{
    readonly int _hash;

    public ConnectionKey(bool isHttps, string host, int port, string? tlsName = null, HttpProtocols protocols = HttpProtocols.Any, string partition = "")
    {
        IsHttps = isHttps;
        Host = host;
        Port = port;
        TlsName = tlsName ?? host;
        Protocols = protocols;
        Partition = partition;
        _hash = HashCode.Combine(isHttps, StringComparer.OrdinalIgnoreCase.GetHashCode(host), port, TlsName, protocols, partition);
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

    /// <summary>scheme://host:port, as people write it.</summary>
    public string Origin => field ??= $"{(IsHttps ? "https" : "http")}://{(Host.Contains(':') ? $"[{Host}]" : Host)}{(Port == (IsHttps ? 443 : 80) ? "" : $":{Port}")}";

    public bool Equals(ConnectionKey? other) => ReferenceEquals(this, other) || (other is not null
        && _hash == other._hash && IsHttps == other.IsHttps && Port == other.Port && Protocols == other.Protocols
        && string.Equals(Host, other.Host, StringComparison.OrdinalIgnoreCase)
        && string.Equals(TlsName, other.TlsName, StringComparison.Ordinal)   // the platform tells connections apart by its exact spelling
        && string.Equals(Partition, other.Partition, StringComparison.Ordinal));

    public override bool Equals(object? obj) => Equals(obj as ConnectionKey);

    public override int GetHashCode() => _hash;

    public override string ToString() => Origin + (Protocols is HttpProtocols.Any ? "" : $" ({Protocols})") + (Partition.Length == 0 ? "" : $" [{Partition}]");
}
