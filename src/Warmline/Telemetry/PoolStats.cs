using System.Globalization;

namespace Warmline;

/// <summary>What a pool did and does, at one moment. <see cref="ToString"/> is the line to log.</summary>
public sealed record PoolStats
{
    /// <summary>Requests that asked for a place.</summary>
    public long TotalRequests { get; init; }

    /// <summary>Requests that needed no dial of their own: they rode a connection that was open, or was opened for another or by a warm-up.</summary>
    public long ReusedConnections { get; init; }

    /// <summary>Connections opened.</summary>
    public long NewConnections { get; init; }

    /// <summary>Dials that failed.</summary>
    public long FailedDials { get; init; }

    /// <summary>Share of the requests with a place that needed no dial of their own, 0 to 1; 0 before the first.</summary>
    public double ReuseRate { get; init; }

    /// <summary>Requests in flight: each holds a lease until its request and response bodies have ended.</summary>
    public int Active { get; init; }

    /// <summary>The most requests that were in flight at the same time.</summary>
    public int PeakActive { get; init; }

    /// <summary>Connections open or being opened or closed: the permits that are out.</summary>
    public int Connections { get; init; }

    /// <summary>The most connections that were open at the same time.</summary>
    public int PeakConnections { get; init; }

    /// <summary>Connections open without a request.</summary>
    public int Idle { get; init; }

    /// <summary>Idle connections that were lost (reset, or silent), or given up together with one that was, or because the machine slept or changed its network. If this rises, look at
    /// what lies between here and the host: a NAT or firewall that forgets silent connections calls for a smaller <see cref="TcpKeepAliveOptions.Idle"/>.</summary>
    public long LostConnections { get; init; }

    /// <summary>Requests that wait for a place.</summary>
    public int Queued { get; init; }

    /// <summary>Requests that were refused a place: queue full, pool timeout, failed dial, draining.</summary>
    public long Refused { get; init; }

    /// <summary>Time from asking for a place to having it, averaged over all requests; a wait for a dial counts.</summary>
    public TimeSpan QueueWait { get; init; }

    /// <summary>The longest such time.</summary>
    public TimeSpan MaxQueueWait { get; init; }

    /// <summary>Mean duration of a dial that succeeded: DNS, TCP, the proxy's tunnel and TLS; <see langword="null"/> before the first.</summary>
    public TimeSpan? AverageHandshake { get; init; }

    /// <summary>Handshakes avoided: reuses times the mean handshake of their origin, 80 ms until one was measured.</summary>
    public TimeSpan TimeSaved { get; init; }

    /// <summary>Whether new calls go through the pool: <see cref="ConnectionPoolOptions.Enabled"/>.</summary>
    public bool Enabled { get; init; } = true;

    /// <summary>Calls that were sent past the pool, by a plain handler, because it was switched off; they are in no other figure.</summary>
    public long Bypassed { get; init; }

    /// <summary>The same for each origin that is in use or remembered.</summary>
    public IReadOnlyList<OriginStats> Origins { get; init; } = [];

    /// <summary>The line that <see cref="ConnectionPoolOptions.StatsLogInterval"/> logs.</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture,
        $"Pool: {TotalRequests} requests | reuse={ReuseRate * 100:0.0}% | peak={PeakActive} | queued={Queued} (max wait {MaxQueueWait.TotalMilliseconds:0.0}ms)"
        + $" | avg handshake={(AverageHandshake ?? TimeSpan.Zero).TotalMilliseconds:0.0}ms | saved={TimeSaved.TotalSeconds:0.0}s{(Enabled ? "" : $" | off: {Bypassed} calls past the pool")}");
}

/// <summary>What a pool did and does for one origin; parts of it that may not share connections are listed apart.</summary>
public sealed record OriginStats
{
    /// <summary>The origin, e.g. <c>https://api.openai.com</c>.</summary>
    public required string Origin { get; init; }

    /// <summary>What sets these connections apart from others to the same origin, e.g. HTTP/1.1 only, or the proxy on the way; empty usually.</summary>
    public required string Partition { get; init; }

    /// <summary>What the origin agreed to speak: 1.1 or 2.0; <see langword="null"/> before the first connection.</summary>
    public Version? HttpVersion { get; init; }

    /// <summary>The stream limit that the server advertised last; <see langword="null"/> if it never did.</summary>
    public int? StreamLimit { get; init; }

    /// <summary>Requests that asked for a place.</summary>
    public long TotalRequests { get; init; }

    /// <summary>Requests that needed no dial of their own.</summary>
    public long ReusedConnections { get; init; }

    /// <summary>Connections opened.</summary>
    public long NewConnections { get; init; }

    /// <summary>Requests in flight.</summary>
    public int Active { get; init; }

    /// <summary>The most requests that were in flight at the same time.</summary>
    public int PeakActive { get; init; }

    /// <summary>Connections that take requests.</summary>
    public int Connections { get; init; }

    /// <summary>Connections that end when their requests have ended.</summary>
    public int Draining { get; init; }

    /// <summary>Connections being opened.</summary>
    public int Dialing { get; init; }

    /// <summary>Requests that wait for a place.</summary>
    public int Queued { get; init; }

    /// <summary>Requests that the open connections, and those that may still be opened, can carry together.</summary>
    public long Capacity { get; init; }

    /// <summary>Mean duration of a dial that succeeded; <see langword="null"/> before the first.</summary>
    public TimeSpan? AverageHandshake { get; init; }

    /// <summary>How long a connection is kept idle at most because the server would end it: known of the provider, told by it (<c>Keep-Alive: timeout</c>) or learned from connections that it ended,
    /// less a margin. <see langword="null"/> when nothing is known; then only <see cref="ConnectionPoolOptions.IdleTimeout"/> counts.</summary>
    public TimeSpan? IdleLimit { get; init; }
}

/// <summary>A request that waits for a place.</summary>
/// <param name="Origin">The origin it goes to.</param>
/// <param name="Waited">How long it has waited.</param>
/// <param name="Reason">What it waits for.</param>
public readonly record struct WaiterInfo(string Origin, TimeSpan Waited, PoolRejectionReason Reason);

/// <summary>A request in flight.</summary>
/// <param name="Origin">The origin it goes to.</param>
/// <param name="ConnectionId">The connection that it rides.</param>
/// <param name="Age">How long it has had its place.</param>
public readonly record struct StreamInfo(string Origin, long ConnectionId, TimeSpan Age);
