using System.Runtime.CompilerServices;

namespace Warmline;

/// <summary>The phase of a dial: the way from a host name to a connection that can carry a request.</summary>
public enum DialPhase
{
    /// <summary>Resolving the host name: the proxy's where calls go through one.</summary>
    Dns,

    /// <summary>Opening the TCP connection: to the proxy where calls go through one.</summary>
    Tcp,

    /// <summary>Getting a tunnel from the proxy: <c>CONNECT</c>, and TLS to a proxy whose address is https.</summary>
    Proxy,

    /// <summary>The TLS handshake, certificate check and ALPN included.</summary>
    Tls,

    /// <summary>Waiting for the server's HTTP/2 SETTINGS on a connection that agreed to speak HTTP/2.</summary>
    Http2Settings,
}

/// <summary>How a peer ended a connection, or was seen to be gone.</summary>
internal enum ConnectionEnd
{
    /// <summary>FIN, close_notify, GOAWAY without an error; also an answer that nobody asked for, such as 408.</summary>
    InOrder,

    /// <summary>GOAWAY with an error, or an end of our own making: that tells nothing of other connections.</summary>
    Alone,

    /// <summary>Reset, timed out, or silent.</summary>
    Lost,
}

/// <summary>What is known about a request that failed: whether the server can have worked on it.</summary>
public enum RequestVerdict
{
    /// <summary>No byte of the request was sent. Sending it again is safe.</summary>
    NotSent,

    /// <summary>
    /// The request may have been sent, but the server declared that it did not process it (HTTP/2 GOAWAY below, REFUSED_STREAM). Sending it
    /// again is safe.
    /// </summary>
    Unprocessed,

    /// <summary>The server may have processed the request. Sending it again may do, and bill, the work twice.</summary>
    Unknown,
}

/// <summary>The clock that ended a call.</summary>
public enum StallPhase
{
    /// <summary>No byte of the request body could be written for <see cref="PoolTimeouts.Write"/>.</summary>
    Write,

    /// <summary>No response headers came within <see cref="PoolTimeouts.FirstByte"/> after the request was sent.</summary>
    FirstByte,

    /// <summary>The response body was silent for <see cref="PoolTimeouts.Read"/> while the caller waited for it.</summary>
    Read,

    /// <summary>A stream of events brought bytes, but for <see cref="PoolTimeouts.Content"/> no event that was whole and neither a ping nor
    /// a comment, while the caller waited for it;
    /// or another body brought nothing but whitespace for as long.</summary>
    Content,

    /// <summary>The whole call took longer than <see cref="PoolTimeouts.Total"/>.</summary>
    Total,
}

/// <summary>The resource that a refused or waiting request lacked.</summary>
public enum PoolRejectionReason
{
    /// <summary>Nothing was lacking: the request was about to be placed.</summary>
    None,

    /// <summary>All of <see cref="ConnectionPoolOptions.MaxConnections"/> are open and busy.</summary>
    MaxConnections,

    /// <summary>All of <see cref="ConnectionPoolOptions.MaxConnectionsPerHost"/> are open and busy.</summary>
    MaxConnectionsPerHost,

    /// <summary>As many requests as <see cref="ConnectionPoolOptions.MaxConcurrentRequests"/> allows are in flight.</summary>
    MaxConcurrentRequests,

    /// <summary>The open connections are at the stream limit that the server set, and it leaves no use in opening another.</summary>
    StreamLimit,

    /// <summary>A connection is being opened and was not ready in time.</summary>
    Dialing,

    /// <summary>The last dial failed and the pause before the next one is not over.</summary>
    BackOff,

    /// <summary>The origin, or the whole pool, is paused.</summary>
    Paused,

    /// <summary><see cref="ConnectionPoolOptions.MaxQueueLength"/> requests are waiting already.</summary>
    QueueFull,

    /// <summary>The pool drains: it ends the requests it has and takes no new ones.</summary>
    Draining,

    /// <summary>The pool was disposed.</summary>
    Disposed,

    /// <summary>As many requests of the lane as its <see cref="LaneOptions.Ceiling"/> allows are in flight.</summary>
    LaneCeiling,

    /// <summary>What is free is the <see cref="LaneOptions.Reserve"/> of other lanes.</summary>
    LaneReserve,

    /// <summary>The lane's <see cref="LaneOptions.MaxQueueLength"/> requests are waiting already.</summary>
    LaneQueueFull,

    /// <summary>As many requests of the tenant as its <see cref="TenantOptions.MaxConcurrentRequests"/> allows are in flight.</summary>
    TenantLimit,

    /// <summary>All of the tenant's <see cref="TenantOptions.MaxConnections"/> are open and busy.</summary>
    TenantConnections,

    /// <summary>The tenant's <see cref="TenantOptions.MaxQueueLength"/> requests are waiting already.</summary>
    TenantQueueFull,

    /// <summary>
    /// The provider's rate limit is used up, or it said when to come back, and <see cref="ConnectionPoolOptions.Pacing"/> is on.
    /// </summary>
    ProviderLimit,
}

/// <summary>Counts by kind. Any thread may add.</summary>
internal sealed class Tally<TKind>
    where TKind : struct, Enum
{
    static readonly TKind[] Kinds = Enum.GetValues<TKind>();   // none of them skips a number

    readonly long[] _counts = new long[Kinds.Length];

    public void Add(TKind kind) => Interlocked.Increment(ref _counts[Unsafe.BitCast<TKind, int>(kind)]);

    /// <summary>The kinds that occurred.</summary>
    public IReadOnlyDictionary<TKind, long> Report() => Kinds.Select(kind => (Kind: kind, Count: Volatile.Read(ref _counts[Unsafe.BitCast<TKind, int>(kind)])))
        .Where(static counted => counted.Count > 0).ToDictionary(static counted => counted.Kind, static counted => counted.Count);
}
