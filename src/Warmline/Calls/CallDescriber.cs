using System.Net.Http.Headers;
using Warmline.Options;
using Warmline.Pool;
using Warmline.Providers;
using Warmline.Transport;

namespace Warmline;

/// <summary>The first step: what the request says about itself, as connection key, lane and user agent. Each handler has one.</summary>
internal sealed class CallDescriber(PoolEngine engine)
{
    const int TenantKeys = 256;   // a power of two
    const int LongestAgent = 4096;

    static readonly Func<ReadOnlySpan<byte>, bool> AsksForStream = RequestShape.AsksForStream;

    ConnectionKey? _lastKey;
    ConnectionKey?[]? _tenantKeys;
    string? _lastAgent;

    /// <summary>The lane that the call's options name.</summary>
    /// <exception cref="ArgumentException">The pool has lanes, and not this one.</exception>
    public LaneSettings? NamedLane(string? name)
    {
        var lanes = engine.Settings.Sharing.Lanes;
        return name is null || lanes.Count == 0 ? null
            : lanes.TryGetValue(name, out var lane) ? lane
            : throw new ArgumentException(
                $"The pool has no lane '{name}'. Its lanes are {string.Join(", ", lanes.Keys.Order(StringComparer.Ordinal))}. "
                + "Name one of these in PoolRequestOptions.Lane, or add it to ConnectionPoolOptions.Lanes.");
    }

    /// <summary>
    /// The lane of a call that names none. The path comes first: what goes to embeddings or batches is bulk work, whatever else it says.
    /// The body comes last, as only it has to be inspected. It has to be inspected, as the OpenAI SDK accepts <c>application/json</c> for
    /// streams too.
    /// </summary>
    public LaneSettings? LaneOf(HttpRequestMessage request, HttpContent? content)
    {
        var sharing = engine.Settings.Sharing;
        return sharing.Batch is { } batch && RequestShape.IsBulk(request.RequestUri!) ? batch
            : sharing.Stream is { } stream && (RequestShape.AcceptsEvents(request) || AsksInBody(request, content)) ? stream
            : null;
    }

    public ConnectionKey KeyOf(HttpRequestMessage request, string tenant)
    {
        var uri = request.RequestUri!;
        var isHttps = uri.Scheme is "https" or "wss";
        var protocols = ProtocolsOf(request, isHttps);
        var tlsName = request.Headers.Host is { } host ? HostWithoutPort(host) : null;

        // Most handlers serve one origin: its key, hash included, is kept. Where tenants have connections of their own, each is a key: as
        // many are kept as are usually active.
        var isApart = engine.Settings.Sharing.Isolation is TenantIsolation.Connections;
        var partition = isApart ? tenant : "";
        ref var last = ref (partition.Length == 0 ? ref _lastKey
            : ref (_tenantKeys ??= new ConnectionKey?[TenantKeys])[partition.GetHashCode(StringComparison.Ordinal) & (TenantKeys - 1)]);
        var proxy = PoolSettings.ProxyOf(uri, engine.Proxy);
        var tunnels = uri.Scheme is "ws";
        var isForwarded = !isHttps && proxy is not null && !tunnels && protocols is not HttpProtocols.Http2;
        if (last is { } kept && kept.IsHttps == isHttps && kept.Port == uri.Port && kept.Protocols == protocols && kept.Host == uri.IdnHost
            && kept.TlsName == (tlsName ?? kept.Host) && kept.Partition == partition && kept.IsForwarded == isForwarded
            && (proxy is null ? kept.Proxy is null : kept.Proxy?.Is(proxy) == true))
        {
            return kept;
        }

        var key = new ConnectionKey(
            isHttps, uri.IdnHost, uri.Port, tlsName, protocols, partition, proxy is null ? null : new ProxyAddress(proxy), tunnels);
        if (!isHttps && proxy is not null && protocols is HttpProtocols.Http2 && engine.Settings.Http2Mode is not Http2Mode.Required)
        {
            throw CallErrors.NoHttp2ThroughProxy(request, key);
        }

        return last = key;
    }

    /// <summary>
    /// The User-Agent of a call whose connection would be a tunnel, for the CONNECT of this or a later dial; null without one. Nearly all
    /// calls of a handler have the same, which is compared in place.
    /// </summary>
    public string? AgentOf(HttpRequestMessage request, ConnectionKey key)
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

    static bool AsksInBody(HttpRequestMessage request, HttpContent? content) =>
        content is not null && Bodies.CanInspect(request, content) && Inspect<bool>.Into(content, AsksForStream);

    /// <summary>
    /// HTTP/1.1 with the default policy is what SDKs say without meaning it: such a call uses what the server speaks. An exact version, or
    /// HTTP/2 or higher, is a requirement.
    /// </summary>
    HttpProtocols ProtocolsOf(HttpRequestMessage request, bool isHttps)
    {
        var (major, policy) = (request.Version.Major, request.VersionPolicy);
        var exact = policy is HttpVersionPolicy.RequestVersionExact;
        if (exact && major > 2)
        {
            throw CallErrors.NoHttp3(request.Version);
        }

        if (engine.Settings.Http2Mode is Http2Mode.Disabled
            && ((major >= 2 && policy is not HttpVersionPolicy.RequestVersionOrLower) || RequestRules.IsExtendedConnect(request)))
        {
            var refusal = CallErrors.Http2Disabled(request.Version);
            CallErrors.MarkForDowngrade(request, refusal);
            throw refusal;
        }

        // An upgrade, as of a WebSocket, is made of an HTTP/1.1 request. One that insists on HTTP/2, or takes it where it is spoken, leaves
        // the header out there.
        if (major < 2
            && (exact || (policy is HttpVersionPolicy.RequestVersionOrLower && request.Headers.NonValidated.Contains("Upgrade"))))
        {
            return HttpProtocols.Http1;
        }

        // Where HTTP/2 is avoided, a request that insists on it gets connections of its own.
        if (exact || (RequestRules.InsistsOnHttp2(request.Version, policy)
            && (!isHttps || engine.Placement.AvoidsHttp2(HttpsOrigin(request.RequestUri!)))))
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

    static string HttpsOrigin(Uri uri) => $"https://{uri.IdnHost}{(uri.Port == 443 ? "" : $":{uri.Port}")}";

    static string HostWithoutPort(string host)
    {
        var colon = host.LastIndexOf(':');
        return colon > 0 && !host.EndsWith(']') ? host[..colon].Trim('[', ']') : host.Trim('[', ']');
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
}
