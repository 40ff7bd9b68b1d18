using System.Net;
using System.Net.Security;

namespace Warmline;

/// <summary>
/// How a <see cref="ConnectionPool"/> behaves. Every default states its reason; nothing is silently corrected: a value out of range
/// is reported, with all other problems at once, when the pool is made.
/// </summary>
public sealed class ConnectionPoolOptions
{
    int? _maxConnections;
    int? _maxConcurrentRequests;
    int? _maxIdleConnections;
    TimeSpan? _idleTimeout;
    Http2Options _http2 = new();
    TenantsOptions _tenants = new();

    /// <summary>What metrics, spans and logs call the pool; several pools of one name are shown as one. Default null: with dependency
    /// injection the name that it is registered by, else
    /// <c>default</c>. Keep it to a few fixed names: each is a series in the metrics. Fixed for the pool's life. Range: 1 to 64 characters,
    /// none of them a control character.</summary>
    public string? Name { get; set; }

    /// <summary>Whether new calls go through the pool. Default true. False is the way out when in doubt: they then take one plain
    /// <see cref="SocketsHttpHandler"/> with the same TLS and proxy settings and none of the pool's limits, clocks and figures; calls that
    /// run already end in the pool. Can be changed while the pool runs.</summary>
    public bool Enabled { get; set; } = true;

    /// <summary>Connections open at the same time, over all hosts together. Default 50: with HTTP/2 that carries 1,600 calls, with HTTP/1.1
    /// it is what a backend usually allows itself towards one provider. httpx calls it <c>max_connections</c>, aiohttp <c>limit</c>. Range:
    /// 1 to 65,535.</summary>
    public int MaxConnections { get => _maxConnections ?? Preset?.MaxConnections ?? 50; set => _maxConnections = value; }

    /// <summary>Connections open at the same time to one origin; none by default, so that one busy provider may use them all.
    /// aiohttp calls it <c>limit_per_host</c>, undici <c>connections</c>. Range: 1 to 65,535.</summary>
    public int? MaxConnectionsPerHost { get; set; }

    /// <summary>Requests in flight at the same time, over all origins; none by default, so that the connections' capacity decides. This is
    /// the limit to set where a budget is meant as a number of calls: one HTTP/2 connection carries many. Range: 1 and up.</summary>
    public int? MaxConcurrentRequests { get => _maxConcurrentRequests ?? Preset?.MaxConcurrentRequests; set => _maxConcurrentRequests = value; }

    /// <summary>Connections kept open without a request. Default: half of <see cref="MaxConnections"/>, rounded up, as the next burst is
    /// seldom larger than the last. httpx calls it <c>max_keepalive_connections</c>. Range: 0 to <see cref="MaxConnections"/>.</summary>
    public int? MaxIdleConnections { get => _maxIdleConnections ?? Preset?.MaxIdleConnections; set => _maxIdleConnections = value; }

    /// <summary>How long a connection is kept without a request, at most: less where the server would end it earlier, as is known of the
    /// provider, told by it (<c>Keep-Alive: timeout</c>) or learned. Default 120 s: below the 350 s and 400 s at which load balancers and
    /// edges close, long enough for a person to read an answer. httpx calls it <c>keepalive_expiry</c>, undici <c>keepAliveTimeout</c>.
    /// Range: above 0, 24 days at most, or infinite.</summary>
    public TimeSpan IdleTimeout { get => _idleTimeout ?? Preset?.IdleTimeout ?? TimeSpan.FromSeconds(120); set => _idleTimeout = value; }

    /// <summary>How old a connection may become before it takes no new request; running ones end undisturbed. Default 15 minutes, shortened
    /// by up to a tenth at random so that connections opened together do not end together: DNS and load balancer changes are followed
    /// within it. Range: above 0, 24 days at most, or infinite.</summary>
    public TimeSpan ConnectionLifetime { get; set; } = TimeSpan.FromMinutes(15);

    /// <summary>Requests that may wait at the same time, over all origins. Default 10,000: about 25 MB with the client's part, and more
    /// than can be served within the pool timeout; beyond it a request is refused at once. Range: 1 and up.</summary>
    public int MaxQueueLength { get; set; } = 10_000;

    /// <summary>Calls that may be sent again beyond one for every five that end well, where the server saw the attempt and provably did not
    /// start on it, or the call is an idempotent one without a body. Default 100: a connection that refuses all its streams once costs
    /// nobody anything, a server in trouble is not asked for much more than its callers ask. Range: 0 (none) and up.</summary>
    public int RetryBudget { get; set; } = 100;

    /// <summary>How long a response may be held without anybody reading on before it is reported, in the log and with the stack of its
    /// call: a stream that makes progress is none, however long it runs. None by default, as recording the stack of each call costs some 10
    /// µs. What is let go unread is reported and closed without it, too, once the garbage collector finds it. Range: 1 s to 24
    /// days.</summary>
    public TimeSpan? LeakThreshold { get; set; }

    /// <summary>HTTP/2: whether to speak it and how calls spread over connections.</summary>
    public Http2Options Http2
    {
        get => _http2;
        set
        {
            _http2 = value;
            value?.Preset = Preset;
        }
    }

    /// <summary>The clocks of a call, phase by phase. A call can set its own by <see cref="PoolRequestOptions.Timeouts"/>.</summary>
    public PoolTimeouts Timeouts { get; set; } = new();

    /// <summary>The cache of resolved host names.</summary>
    public DnsOptions Dns { get; set; } = new();

    /// <summary>TCP keep-alive: how a connection whose peer vanished is noticed, and how idle ones stay known to NATs.</summary>
    public TcpKeepAliveOptions TcpKeepAlive { get; set; } = new();

    /// <summary>TLS: a custom CA (<c>CertificateChainPolicy</c>), client certificates, protocol versions. The target host and the
    /// application protocols are the pool's to set and must be left unset. None by default: the platform's trust.</summary>
    public SslClientAuthenticationOptions? SslOptions { get; set; }

    /// <summary>Whether calls go through a proxy where one is set. Default true, as the platform's own handler does.</summary>
    public bool UseProxy { get; set; } = true;

    /// <summary>The HTTP proxy and its bypass list. As in .NET, https uses <c>CONNECT</c> and plain http is sent in absolute form.
    /// Default null: the platform's, <see cref="HttpClient.DefaultProxy"/>, which reads the environment variables <c>HTTPS_PROXY</c>,
    /// <c>HTTP_PROXY</c>, <c>ALL_PROXY</c> and <c>NO_PROXY</c>. Queried on every call; its credentials are read on every dial. If it
    /// throws, no proxy is used; if its credentials throw, none are sent. <c>CONNECT</c> carries the <c>User-Agent</c> last sent to that
    /// origin. SOCKS is not supported.</summary>
    public IWebProxy? Proxy { get; set; }

    /// <summary>Whether redirects are followed (300 to 303, 307, 308; 50 at most; never from https to http), as
    /// <c>HttpClientHandler.AllowAutoRedirect</c> does. Default false: APIs do not redirect, and a key sent along to another place is worse
    /// than an error. When the origin changes, the headers that hold credentials (Authorization, Cookie, x-api-key, api-key and their like)
    /// are left out. Fixed for the pool's life.</summary>
    public bool AllowAutoRedirect { get; set; }

    /// <summary>Which compressed answers are decompressed, as <c>HttpClientHandler.AutomaticDecompression</c> does: the request asks for
    /// them (Accept-Encoding), and Content-Encoding and Content-Length leave the answer. Default none: most answers are streams of small
    /// events, which compression only delays. Fixed for the pool's life.</summary>
    public DecompressionMethods AutomaticDecompression { get; set; }

    /// <summary>
    /// What is special about one origin, by its address, e.g. <c>https://api.openai.com</c>. Without a scheme (<c>api.openai.com</c>) it
    /// means https.
    /// </summary>
    public IDictionary<string, OriginOptions> Hosts { get; } = new Dictionary<string, OriginOptions>(StringComparer.OrdinalIgnoreCase);

    /// <summary>
    /// Classes of traffic, by name; none by default: then all calls share all capacity. <see cref="PoolPreset.Batch"/> brings
    /// <c>stream</c> and <c>batch</c> where they are not set here. Names count to the letter; at most 32. A call that names no lane is
    /// put into <c>batch</c>, where that is configured, if its path ends in <c>/embeddings</c> or <c>/batches</c>; else into
    /// <c>stream</c>, where that is configured, if it asks for a stream (<c>Accept: text/event-stream</c>, or <c>"stream": true</c> in
    /// the JSON body of a POST, of up to 256 KB). Any other call is in no lane: it shares what no lane reserves.
    /// </summary>
    public IDictionary<string, LaneOptions> Lanes { get; } = new Dictionary<string, LaneOptions>(StringComparer.Ordinal);

    /// <summary>How tenants share the pool.</summary>
    public TenantsOptions Tenants
    {
        get => _tenants;
        set
        {
            _tenants = value;
            value?.Preset = Preset;
        }
    }

    /// <summary>Whether requests wait, instead of being sent, while their provider's rate limit is known to be used up, from its own
    /// headers, or it has said when to come back (429, 529). Default false: such headers are shown in <see cref="PoolStats.RateLimits"/>
    /// and nothing is delayed. <see cref="OriginOptions.Pacing"/> sets it for one origin.</summary>
    public bool Pacing { get; set; }

    /// <summary>Called for each attempt once the call has its place on a connection, before anything is sent: use it to sign the request or
    /// to add a fresh token, however long the call has waited. None by default. <see cref="PoolRequestOptions.BeforeSend"/> documents the
    /// details and overrides this for one call or client. It also runs while <see cref="Enabled"/> is false. Can be changed while the pool
    /// runs.</summary>
    public Func<HttpRequestMessage, CancellationToken, ValueTask>? BeforeSend { get; set; }

    /// <summary>
    /// How often the line of <see cref="PoolStats"/> is logged at level Information. None by default. Range: 1 s to 24 days.
    /// </summary>
    public TimeSpan? StatsLogInterval { get; set; }

    internal PoolPreset? Preset { get; private set; }

    /// <summary>The lanes, with those of the preset.</summary>
    internal IReadOnlyDictionary<string, LaneOptions> EffectiveLanes =>
        Preset is { } preset ? preset.With(Lanes, MaxConcurrentRequests) : Lanes.AsReadOnly();

    /// <summary>What was wrong in the configuration that these options were read from; reported with everything else.</summary>
    internal List<string> ConfigurationProblems { get; } = [];

    /// <summary>
    /// Takes the preset's values for everything that is not set, before or after; a later preset replaces an earlier one.
    /// </summary>
    /// <returns>The same options.</returns>
    public ConnectionPoolOptions UsePreset(PoolPreset preset)
    {
        ArgumentNullException.ThrowIfNull(preset);
        Preset = preset;
        _http2?.Preset = preset;
        _tenants?.Preset = preset;
        return this;
    }

    /// <summary>Sets up the usual two lanes: <c>stream</c> (at most 40 in flight; 180 s for the first byte and for each silence, as a model
    /// may think that long) and <c>batch</c> (at most 20; 60 s, as nobody watches it think). Where either is configured already it is left
    /// as it is.</summary>
    /// <returns>The same options.</returns>
    public ConnectionPoolOptions UseStreamAndBatchLanes()
    {
        Lanes.TryAdd("stream", StreamLane(reserve: 0, ceiling: 40));
        Lanes.TryAdd("batch", LaneOf(reserve: 0, ceiling: 20, TimeSpan.FromSeconds(60)));
        return this;
    }

    internal static LaneOptions StreamLane(int reserve, int? ceiling) => LaneOf(reserve, ceiling, TimeSpan.FromSeconds(180));

    static LaneOptions LaneOf(int reserve, int? ceiling, TimeSpan silence) =>
        new() { Reserve = reserve, Ceiling = ceiling, Timeouts = new PoolTimeouts { FirstByte = silence, Read = silence } };
}

/// <summary>Whether a pool speaks HTTP/2.</summary>
public enum Http2Mode
{
    /// <summary>Offer HTTP/2 and HTTP/1.1 and ride what the server picks.</summary>
    Preferred,

    /// <summary>Only HTTP/1.1: one connection for each call in flight. Requests that insist on HTTP/2 (RequestVersionExact or
    /// RequestVersionOrHigher) are refused.</summary>
    Disabled,

    /// <summary>Only HTTP/2: a server that does not speak it is a failed dial. On plain http: with prior knowledge. Requests that insist
    /// on HTTP/1.1 (RequestVersionExact), or are to be upgraded, as a
    /// WebSocket's, go over HTTP/1.1 all the same.</summary>
    Required,
}

/// <summary>How calls spread over HTTP/2 connections.</summary>
public sealed class Http2Options
{
    int? _spreadConnections;

    /// <summary>Whether to speak HTTP/2. Default <see cref="Http2Mode.Preferred"/>.</summary>
    public Http2Mode Mode { get; set; } = Http2Mode.Preferred;

    /// <summary>Calls that a connection carries before another is opened beside it, while there are fewer than
    /// <see cref="SpreadConnections"/>. Default 8: measured at 50 ms round trip, 100 calls then finish as fast as on 100 sockets. Range: 1
    /// to <see cref="MaxStreamsPerConnection"/>.</summary>
    public int TargetStreams { get; set; } = 8;

    /// <summary>
    /// Connections to one origin over which calls are spread early. Default 8: more gained nothing at 100 calls. Range: 1 to 1,024.
    /// </summary>
    public int SpreadConnections { get => _spreadConnections ?? Preset?.SpreadConnections ?? 8; set => _spreadConnections = value; }

    /// <summary>Calls that one connection may carry at most, whatever the server allows. Default 32: one dead connection must not take 100
    /// calls with it. Range: 1 to 1,000.</summary>
    public int MaxStreamsPerConnection { get; set; } = 32;

    /// <summary>Silence on a connection, idle ones included, after which the peer is asked for a sign of life. Default 15 s. Range: 1 s to
    /// 24 days, or infinite for never. After a GOAWAY of the server there are none: there TCP keep-alive and the clocks of the calls
    /// remain. An origin that closes a connection because of PINGs (ENHANCE_YOUR_CALM) gets none for an hour, and for twice as long each
    /// further time, a day at most.</summary>
    public TimeSpan PingDelay { get; set; } = TimeSpan.FromSeconds(15);

    /// <summary>How long a PING may stay unanswered, with no other sign of life, before the connection counts as dead. Bytes read, and
    /// bytes
    /// acknowledged by the peer's kernel, are signs of life. Default 10 s. Range: 1 s to 24 days, or infinite.</summary>
    public TimeSpan PingTimeout { get; set; } = TimeSpan.FromSeconds(10);

    internal PoolPreset? Preset { get; set; }
}

/// <summary>The clocks of a call. A value that is not set falls back to the pool's, there to the default;
/// <see cref="Timeout.InfiniteTimeSpan"/> switches one off. Each is above 0 and 24 days at most.</summary>
public sealed class PoolTimeouts
{
    /// <summary>How long a call may wait for a place on a connection. Default 15 s, which allows for two DNS retries (at 5 s and
    /// 10 s). Ends in <see cref="PoolTimeoutException"/>.</summary>
    public TimeSpan? Pool { get; set; }

    /// <summary>One dial: DNS, TCP, the proxy's tunnel, TLS and the server's HTTP/2 SETTINGS. Default 5 s, as the provider SDKs allow. Ends
    /// in <see cref="PoolConnectException"/>. A pool-wide clock: a dial serves whoever comes, so a call cannot set it.</summary>
    public TimeSpan? Connect { get; set; }

    /// <summary>Silence while writing the request body: the server granted no HTTP/2 credit, or its kernel acknowledged nothing. Default
    /// 10 s. Ends in <see cref="RequestStalledException"/>.</summary>
    public TimeSpan? Write { get; set; }

    /// <summary>From the request sent to the response's headers. Default 600 s: what a completion that does not stream may take, and what
    /// the provider SDKs allow. Ends in <see cref="RequestStalledException"/>.</summary>
    public TimeSpan? FirstByte { get; set; }

    /// <summary>
    /// Silence while the caller waits for more of the response body. Default 120 s. Ends in <see cref="RequestStalledException"/>.
    /// </summary>
    public TimeSpan? Read { get; set; }

    /// <summary>In a stream of server-sent events: bytes come, but only pings, comments, blank lines or the beginning of an event that does
    /// not end. In any other body: only whitespace
    /// has come; once it has begun, it has no such clock. Counted from the last other event, or the
    /// headers, while the caller waits for more; silence without a byte is <see cref="Read"/>'s alone. Default 600 s: as long as
    /// <see cref="FirstByte"/> allows a model to think where it does not stream; behind pings it may think as long. Ends in
    /// <see cref="RequestStalledException"/>.</summary>
    public TimeSpan? Content { get; set; }

    /// <summary>The whole call, from asking for a place to the last byte. None by default: a healthy stream may run for many minutes.
    /// Ends in <see cref="RequestStalledException"/>.</summary>
    public TimeSpan? Total { get; set; }

    /// <summary>These, and those of others where these are unset.</summary>
    internal PoolTimeouts Over(PoolTimeouts others) => new()
    {
        Pool = Pool ?? others.Pool,
        Connect = Connect ?? others.Connect,
        Write = Write ?? others.Write,
        FirstByte = FirstByte ?? others.FirstByte,
        Read = Read ?? others.Read,
        Content = Content ?? others.Content,
        Total = Total ?? others.Total,
    };
}

/// <summary>The cache of resolved host names.</summary>
public sealed class DnsOptions
{
    /// <summary>Whether answers are kept. Default true.</summary>
    public bool CacheEnabled { get; set; } = true;

    /// <summary>
    /// How long an answer is kept. Default 300 s: the platform does not tell the record's own time to live. Range: above 0, 24 days at
    /// most.
    /// </summary>
    public TimeSpan CacheTtl { get; set; } = TimeSpan.FromSeconds(300);

    /// <summary>How long an answer is used beyond <see cref="CacheTtl"/>, at once, while a new one is fetched in the background. Default 1
    /// h: a call does not wait for the resolver, and its outage does not stop calls to hosts that are well. Range: 0 (never) to 24
    /// days.</summary>
    public TimeSpan MaxStale { get; set; } = TimeSpan.FromHours(1);

    /// <summary>How long a failed lookup is remembered, so that a burst of calls asks the resolver once. Default 1 s: shorter than anybody
    /// waits for a name to be put right. Range: 0 (never) to 5 minutes.</summary>
    public TimeSpan FailureTtl { get; set; } = TimeSpan.FromSeconds(1);
}

/// <summary>TCP keep-alive. On Linux the same numbers also bound how long sent bytes may stay unacknowledged (TCP_USER_TIMEOUT).</summary>
public sealed class TcpKeepAliveOptions
{
    /// <summary>
    /// Silence before the first probe. Default 15 s: below the shortest NAT timeouts seen, 60 s. Range: 1 s to 9 h, whole seconds.
    /// </summary>
    public TimeSpan Idle { get; set; } = TimeSpan.FromSeconds(15);

    /// <summary>Time between probes. Default 15 s. Range: 1 s to 9 h, whole seconds.</summary>
    public TimeSpan Interval { get; set; } = TimeSpan.FromSeconds(15);

    /// <summary>
    /// Unanswered probes after which the connection is dead. Default 4: a dead peer is noticed after 75 s. Range: 1 to 127.
    /// </summary>
    public int Count { get; set; } = 4;
}

/// <summary>What is special about one origin.</summary>
public sealed class OriginOptions
{
    /// <summary>Connections held open and ready from the pool's start on, whatever <see cref="ConnectionPoolOptions.IdleTimeout"/> says;
    /// each is replaced, ahead of time, at the end of its lifetime and of the server's own idle limit. Default 0. Range: 0 to
    /// <see cref="ConnectionPoolOptions.MaxIdleConnections"/>.</summary>
    public int WarmConnections { get; set; }

    /// <summary>What is known of its server before the first call, by <see cref="ProviderProfile"/>. Null by default: chosen by the host's
    /// name, which says nothing of a server behind a gateway or a private name: set it there.</summary>
    public ProviderProfile? Profile { get; set; }

    /// <summary>Whether requests to it are paced: see <see cref="ConnectionPoolOptions.Pacing"/>. Null by default: as the pool.</summary>
    public bool? Pacing { get; set; }
}
