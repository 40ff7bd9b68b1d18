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
        catch (HttpRequestException failed)   // what the platform makes of an IOException in a content, too
        {
            throw new PoolRequestException(RequestVerdict.NotSent, failed.HttpRequestError, $"The call to {key.Origin} failed: {failed.Message}", failed);
        }
    }

    ConnectionKey Describe(HttpRequestMessage request, string tenant)
    {
        var uri = request.RequestUri;
        if (uri is null || !uri.IsAbsoluteUri || uri.Scheme is not ("https" or "http" or "wss" or "ws"))   // the last two are what ClientWebSocket says
        {
            throw new NotSupportedException($"The pool carries http and https requests with an absolute address; this one has '{uri}'. Set an absolute RequestUri, or the client's BaseAddress.");
        }

        var isHttps = uri.Scheme is "https" or "wss";
        var protocols = Protocols(request, isHttps);
        var tlsName = request.Headers.Host is { } host ? HostWithoutPort(host) : null;

        // Most handlers serve one origin: its key, hash included, is kept. Where tenants have connections of their own, each is a key: as many are kept as are usually active.
        var isApart = engine.Settings.Sharing.Isolation is TenantIsolation.Connections;
        var partition = isApart ? tenant : "";
        ref var last = ref (partition.Length == 0 ? ref _lastKey : ref (_tenantKeys ??= new ConnectionKey?[TenantKeys])[partition.GetHashCode(StringComparison.Ordinal) & (TenantKeys - 1)]);
        var proxy = PoolSettings.ProxyOf(uri, engine.Settings.Proxy);
        if (last is { } kept && kept.IsHttps == isHttps && kept.Port == uri.Port && kept.Protocols == protocols && kept.Host == uri.IdnHost && kept.TlsName == (tlsName ?? kept.Host)
            && kept.Partition == partition && (proxy is null ? kept.Proxy is null : kept.Proxy?.Is(proxy) == true))
        {
            return kept;
        }

        return last = new ConnectionKey(isHttps, uri.IdnHost, uri.Port, tlsName, protocols, partition, proxy is null ? null : new ProxyAddress(proxy));
    }

    /// <summary>HTTP/1.1 with the default policy is what SDKs say without meaning it: it rides what the server speaks. Only an exact version is an order.</summary>
    HttpProtocols Protocols(HttpRequestMessage request, bool isHttps)
    {
        var exact = request.VersionPolicy is HttpVersionPolicy.RequestVersionExact;
        if (exact && request.Version.Major > 2)
        {
            throw new HttpRequestException(HttpRequestError.VersionNegotiationError, $"The pool speaks HTTP/1.1 and HTTP/2; the request insists on {request.Version}. Set VersionPolicy to RequestVersionOrLower.");
        }

        if ((exact && request.Version.Major < 2) || request.Headers.NonValidated.Contains("Upgrade"))
        {
            return HttpProtocols.Http1;
        }

        if (exact || (!isHttps && request is { Version.Major: >= 2, VersionPolicy: HttpVersionPolicy.RequestVersionOrHigher }))
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

    static string HostWithoutPort(string host)
    {
        var colon = host.LastIndexOf(':');
        return colon > 0 && !host.EndsWith(']') ? host[..colon].Trim('[', ']') : host.Trim('[', ']');
    }
}
