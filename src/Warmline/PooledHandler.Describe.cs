using Warmline.Options;
using Warmline.Providers;
using Warmline.Transport;

namespace Warmline;

/// <summary>The first step of the way: what the request says of itself.</summary>
internal sealed partial class PooledHandler
{
    const int TenantKeys = 256;   // a power of two

    static readonly Func<ReadOnlySpan<byte>, bool> AsksForStream = RequestShape.AsksForStream;

    ConnectionKey? _lastKey;
    ConnectionKey?[]? _tenantKeys;

    /// <summary>The lane that the call's options name.</summary>
    /// <exception cref="ArgumentException">The pool has lanes, and not this one.</exception>
    LaneSettings? NamedLane(string? name)
    {
        var lanes = engine.Settings.Sharing.Lanes;
        return name is null || lanes.Count == 0 ? null
            : lanes.TryGetValue(name, out var lane) ? lane
            : throw new ArgumentException($"The pool has no lane '{name}'. Its lanes are {string.Join(", ", lanes.Keys.Order(StringComparer.Ordinal))}. Name one of these in PoolRequestOptions.Lane, or add it to ConnectionPoolOptions.Lanes.");
    }

    /// <summary>
    /// The lane of a call that names none. The path comes first: what goes to embeddings or batches is bulk work whatever else it says. The body comes last, as only it has to be
    /// looked into; it has to be, as the OpenAI SDK accepts <c>application/json</c> for streams too.
    /// </summary>
    LaneSettings? LaneOf(HttpRequestMessage request, HttpContent? content)
    {
        var sharing = engine.Settings.Sharing;
        return sharing.Batch is { } batch && RequestShape.IsBulk(request.RequestUri!) ? batch
            : sharing.Stream is { } stream && (RequestShape.AcceptsEvents(request) || AsksInBody(request, content)) ? stream
            : null;
    }

    static bool AsksInBody(HttpRequestMessage request, HttpContent? content) => content is not null && CanPeek(request, content) && Peek<bool>.Into(content, AsksForStream);

    /// <summary>Whether the body can be looked into: JSON of a POST, in memory.</summary>
    internal static bool CanPeek(HttpRequestMessage request, HttpContent content) =>
        request.Method == HttpMethod.Post && (content is BufferedContent || (Bodies.IsMemory(content) && content.Headers.ContentLength <= RequestShape.LargestBody))
        && RequestShape.IsJson(content) && !RequestShape.IsEncoded(content);

    /// <summary>Whether the body is serialised ahead: the JSON of a POST, if it is small and its content is none that can be looked at and given again as it is.</summary>
    static bool Buffers(HttpRequestMessage request) =>
        request.Content is { } content && request.Method == HttpMethod.Post && !Bodies.IsMemory(content) && RequestShape.IsJson(content) && BufferedContent.Takes(content, content.Headers.ContentLength);

    async ValueTask<BufferedContent?> BufferAsync(HttpRequestMessage request, ConnectionKey key, CallTimeouts timeouts, CancellationToken cancellationToken)
    {
        var content = request.Content!;
        try
        {
            return await BufferedContent.MakeAsync(content, content.Headers.ContentLength, engine.Buffers, timeouts.Total, engine.Time, cancellationToken).ConfigureAwait(false);
        }
        catch (BufferedContent.OverdueException)
        {
            throw new RequestStalledException(StallPhase.Total, timeouts.Total, timeouts.Total, RequestVerdict.NotSent, key.Origin, null);
        }
        catch (HttpRequestException failed) when (failed.GetType() == typeof(HttpRequestException))
        {
            // Also what the platform makes of an IOException in a content.
            throw new PoolRequestException(RequestVerdict.NotSent, failed.HttpRequestError, failed.Message, failed.InnerException);
        }
        catch (InvalidOperationException failed)   // the platform wraps these, and only these, where it sends the content itself
        {
            throw new PoolRequestException(RequestVerdict.NotSent, HttpRequestError.Unknown, SendFailed, failed);
        }
    }

    ConnectionKey Describe(HttpRequestMessage request, string tenant)
    {
        var uri = request.RequestUri!;
        var isHttps = uri.Scheme is "https" or "wss";
        var protocols = Protocols(request, isHttps);
        var tlsName = request.Headers.Host is { } host ? HostWithoutPort(host) : null;

        // Most handlers serve one origin: its key, hash included, is kept. Where tenants have connections of their own, each is a key: as many are kept as are usually active.
        var isApart = engine.Settings.Sharing.Isolation is TenantIsolation.Connections;
        var partition = isApart ? tenant : "";
        ref var last = ref (partition.Length == 0 ? ref _lastKey : ref (_tenantKeys ??= new ConnectionKey?[TenantKeys])[partition.GetHashCode(StringComparison.Ordinal) & (TenantKeys - 1)]);
        var proxy = PoolSettings.ProxyOf(uri, engine.Proxy);
        var tunnels = uri.Scheme is "ws";
        var isForwarded = !isHttps && proxy is not null && !tunnels && protocols is not HttpProtocols.Http2;
        if (last is { } kept && kept.IsHttps == isHttps && kept.Port == uri.Port && kept.Protocols == protocols && kept.Host == uri.IdnHost && kept.TlsName == (tlsName ?? kept.Host)
            && kept.Partition == partition && kept.IsForwarded == isForwarded
            && (proxy is null ? kept.Proxy is null : kept.Proxy?.Is(proxy) == true))
        {
            return kept;
        }

        var key = new ConnectionKey(
            isHttps, uri.IdnHost, uri.Port, tlsName, protocols, partition, proxy is null ? null : new ProxyAddress(proxy), tunnels);
        if (!isHttps && proxy is not null && protocols is HttpProtocols.Http2 && engine.Settings.Http2Mode is not Http2Mode.Required)
        {
            throw NoHttp2ThroughProxy(request, key);
        }

        return last = key;
    }

    /// <summary>HTTP/1.1 with the default policy is what SDKs say without meaning it: it rides what the server speaks. An exact version,
    /// or HTTP/2 or higher, is a requirement.</summary>
    HttpProtocols Protocols(HttpRequestMessage request, bool isHttps)
    {
        var (major, policy) = (request.Version.Major, request.VersionPolicy);
        var exact = policy is HttpVersionPolicy.RequestVersionExact;
        if (exact && major > 2)
        {
            throw new PoolRequestException(RequestVerdict.NotSent, HttpRequestError.VersionNegotiationError,
                $"The pool supports HTTP/1.1 and HTTP/2, but the request requires {request.Version}. Set VersionPolicy to RequestVersionOrLower.", null);
        }

        if (engine.Settings.Http2Mode is Http2Mode.Disabled && ((major >= 2 && policy is not HttpVersionPolicy.RequestVersionOrLower) || IsExtendedConnect(request)))
        {
            var refusal = new PoolRequestException(RequestVerdict.NotSent, HttpRequestError.VersionNegotiationError,
                $"The pool supports only HTTP/1.1 (Http2.Mode is Disabled), but the request requires {request.Version}. "
                + "Set Http2.Mode to Preferred, or VersionPolicy to RequestVersionOrLower.", null);
            MarkForDowngrade(request, refusal);
            throw refusal;
        }

        // An upgrade, as of a WebSocket, is made of an HTTP/1.1 request. One that insists on HTTP/2, or takes it where it is spoken,
        // leaves the header out there.
        if (major < 2 && (exact || (policy is HttpVersionPolicy.RequestVersionOrLower && request.Headers.NonValidated.Contains("Upgrade"))))
        {
            return HttpProtocols.Http1;
        }

        // Where HTTP/2 is avoided, a request that insists on it gets connections of its own.
        if (exact || (InsistsOnHttp2(request.Version, policy)
            && (!isHttps || engine.Placement.AvoidsHttp2($"https://{request.RequestUri!.IdnHost}{(request.RequestUri.Port == 443 ? "" : $":{request.RequestUri.Port}")}"))))
        {
            return HttpProtocols.Http2;
        }

        return engine.Settings.Http2Mode switch
        {
            Http2Mode.Disabled => HttpProtocols.Http1,
            Http2Mode.Required => HttpProtocols.Http2,
            _ => HttpProtocols.Any,
        };
    }

    /// <summary>HTTP/2 or higher, over TLS: offered as every other call, whose connections it shares, so only the connection tells whether
    /// the server speaks it.</summary>
    static bool InsistsOnHttp2(Version version, HttpVersionPolicy policy) =>
        version.Major >= 2 && policy is HttpVersionPolicy.RequestVersionOrHigher;

    static string HostWithoutPort(string host)
    {
        var colon = host.LastIndexOf(':');
        return colon > 0 && !host.EndsWith(']') ? host[..colon].Trim('[', ']') : host.Trim('[', ']');
    }
}
