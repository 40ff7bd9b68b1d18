using System.Globalization;

namespace Warmline;

/// <summary>What a pool did and does, at one moment. <see cref="ToString"/> is the line to log.</summary>
public sealed record PoolStats
{
    /// <summary>The pool's <see cref="ConnectionPool.Name"/>.</summary>
    public string Name { get; init; } = "";

    /// <summary>How long ago the pool was made.</summary>
    public TimeSpan Age { get; init; }

    /// <summary>Requests that asked for a place.</summary>
    public long TotalRequests { get; init; }

    /// <summary>Requests that got a place.</summary>
    public long Granted { get; init; }

    /// <summary>
    /// Requests that needed no dial of their own: they rode a connection that was open, or was opened for another or by a warm-up.
    /// </summary>
    public long ReusedConnections { get; init; }

    /// <summary>Connections opened.</summary>
    public long NewConnections { get; init; }

    /// <summary>Dials that failed.</summary>
    public long FailedDials { get; init; }

    /// <summary>The same by the phase that failed; phases in which none did are left out.</summary>
    public IReadOnlyDictionary<DialPhase, long> FailedDialsIn { get; init; } = new Dictionary<DialPhase, long>();

    /// <summary>Share of the requests with a place that needed no dial of their own, 0 to 1; 0 before the first.</summary>
    public double ReuseRate { get; init; }

    /// <summary>Requests in flight: each holds a lease until its request and response bodies have ended.</summary>
    public int Active { get; init; }

    /// <summary>Those of them whose answers are streams of server-sent events.</summary>
    public int Streaming { get; init; }

    /// <summary>The most requests that were in flight at the same time.</summary>
    public int PeakActive { get; init; }

    /// <summary>
    /// Mean time for which requests held their leases, of those that ended; <see langword="null"/> before the first. Requests a second
    /// times this is how many are in flight at once.
    /// </summary>
    public TimeSpan? AverageLease { get; init; }

    /// <summary>The highest <see cref="OriginStats.Utilization"/>: how close the pool is to a limit.</summary>
    public double Utilization { get; init; }

    /// <summary>Connections open or being opened or closed: the permits that are out.</summary>
    public int Connections { get; init; }

    /// <summary><see cref="ConnectionPoolOptions.MaxConnections"/> as it is now.</summary>
    public int MaxConnections { get; init; }

    /// <summary><see cref="ConnectionPoolOptions.MaxIdleConnections"/> as it is now.</summary>
    public int MaxIdleConnections { get; init; }

    /// <summary><see cref="ConnectionPoolOptions.MaxConcurrentRequests"/> as it is now; <see langword="null"/> for none.</summary>
    public int? MaxConcurrentRequests { get; init; }

    /// <summary>The most connections that were open at the same time.</summary>
    public int PeakConnections { get; init; }

    /// <summary>Connections open without a request.</summary>
    public int Idle { get; init; }

    /// <summary>Idle connections that were lost (reset, or silent), or given up together with one that was, or because the machine slept or
    /// changed its network. If this rises, look at what lies between here and the host: a NAT or firewall that forgets silent connections
    /// calls for a smaller <see cref="TcpKeepAliveOptions.Idle"/>.</summary>
    public long LostConnections { get; init; }

    /// <summary>Requests that wait for a place.</summary>
    public int Queued { get; init; }

    /// <summary>Requests that were refused a place: queue full, pool timeout, failed dial, draining.</summary>
    public long Refused { get; init; }

    /// <summary>
    /// The same by what they lacked; <see cref="PoolRejectionReason.Dialing"/> stands for a dial that failed, too. Reasons that never
    /// occurred are left out.
    /// </summary>
    public IReadOnlyDictionary<PoolRejectionReason, long> RefusedBy { get; init; } = new Dictionary<PoolRejectionReason, long>();

    /// <summary>Time from asking for a place to having it, averaged over all requests; a wait for a dial counts.</summary>
    public TimeSpan QueueWait { get; init; }

    /// <summary>The longest such time.</summary>
    public TimeSpan MaxQueueWait { get; init; }

    /// <summary>
    /// Mean duration of a dial that succeeded: DNS, TCP, the proxy's tunnel and TLS; <see langword="null"/> before the first.
    /// </summary>
    public TimeSpan? AverageHandshake { get; init; }

    /// <summary>Handshakes avoided: reuses times the mean handshake of their origin, 80 ms until one was measured.</summary>
    public TimeSpan TimeSaved { get; init; }

    /// <summary>Whether new calls go through the pool: <see cref="ConnectionPoolOptions.Enabled"/>.</summary>
    public bool Enabled { get; init; } = true;

    /// <summary>Calls that were sent past the pool, by a plain handler, because it was switched off; they are in no other figure.</summary>
    public long Bypassed { get; init; }

    /// <summary>What went wrong with calls, and what was done about it.</summary>
    public FaultStats Faults { get; init; } = new();

    /// <summary>The same for each origin that is in use or remembered.</summary>
    public IReadOnlyList<OriginStats> Origins { get; init; } = [];

    /// <summary>The configured lanes; calls in no lane are in none of them.</summary>
    public IReadOnlyList<LaneStats> Lanes { get; init; } = [];

    /// <summary>The tenants that have requests now, those with the most first, 1,000 at most.</summary>
    public IReadOnlyList<TenantStats> Tenants { get; init; } = [];

    /// <summary>
    /// The tenants that the options name, whether they have requests now or not; only where <see cref="Tenants"/> is filled.
    /// </summary>
    internal IReadOnlyCollection<string> NamedTenants { get; init; } = [];

    /// <summary>What providers said of their rate limits last, in the headers of their answers.</summary>
    public IReadOnlyList<RateLimitStats> RateLimits { get; init; } = [];

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

    /// <summary>
    /// What sets these connections apart from others to the same origin, e.g. HTTP/1.1 only, or the proxy on the way; empty usually.
    /// </summary>
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

    /// <summary>Connections among them that carry none.</summary>
    public int Idle { get; init; }

    /// <summary>Connections that end when their requests have ended.</summary>
    public int Draining { get; init; }

    /// <summary>Connections being opened.</summary>
    public int Dialing { get; init; }

    /// <summary>Requests that wait for a place.</summary>
    public int Queued { get; init; }

    /// <summary>Requests that the open connections, and those that may still be opened, can carry together.</summary>
    public long Capacity { get; init; }

    /// <summary>
    /// Requests in flight over the smallest limit that applies, 0 to 1: <see cref="Capacity"/>, or
    /// <see cref="ConnectionPoolOptions.MaxConcurrentRequests"/> over all origins. Above 0.8 there is a warning in the log.
    /// </summary>
    public double Utilization { get; init; }

    /// <summary>Mean duration of a dial that succeeded; <see langword="null"/> before the first.</summary>
    public TimeSpan? AverageHandshake { get; init; }

    /// <summary>HTTP/2 streams that this pool reset (RST_STREAM) because the call was cancelled, timed out or abandoned. Servers close
    /// connections that reset many streams, so a connection is drained well before 100.</summary>
    public long ResetsSent { get; init; }

    /// <summary>HTTP/2 PINGs sent (<see cref="Http2Options.PingDelay"/>), including those that .NET uses to measure the round
    /// trip.</summary>
    public long PingsSent { get; init; }

    /// <summary>How long a connection is kept idle at most because the server would end it: known of the provider, told by it
    /// (<c>Keep-Alive: timeout</c>) or learned from connections that it ended, less a margin. <see langword="null"/> when nothing is known;
    /// then only <see cref="ConnectionPoolOptions.IdleTimeout"/> counts.</summary>
    public TimeSpan? IdleLimit { get; init; }

    /// <summary>Time left during which this origin is called over HTTP/1.1, by calls that allow it, because the server refused HTTP/2
    /// (HTTP_1_1_REQUIRED, INADEQUATE_SECURITY) or HTTP/2 failed before its first response. <see langword="null"/> otherwise.</summary>
    public TimeSpan? Http2AvoidedFor { get; init; }
}

/// <summary>A request that waits for a place.</summary>
/// <param name="Origin">The origin it goes to.</param>
/// <param name="Waited">How long it has waited.</param>
/// <param name="Reason">What it waits for.</param>
/// <param name="Lane">Its lane; empty when it is in none.</param>
/// <param name="Tenant">Its tenant; empty when it has none.</param>
/// <param name="Priority">Its priority.</param>
public readonly record struct WaiterInfo(string Origin, TimeSpan Waited, PoolRejectionReason Reason, string Lane, string Tenant, int Priority)
{
    /// <summary>
    /// A line to read, like <c>waits 42 ms for a dial (Dialing) to https://api.openai.com, lane chat, tenant acme, priority 1</c>; what is
    /// empty or 0 is left out.
    /// </summary>
    public override string ToString()
    {
        var place = Reason switch
        {
            PoolRejectionReason.MaxConnections or PoolRejectionReason.MaxConnectionsPerHost or PoolRejectionReason.TenantConnections => "a connection",
            PoolRejectionReason.StreamLimit => "a stream",
            PoolRejectionReason.Dialing => "a dial",
            PoolRejectionReason.BackOff => "the next dial",
            PoolRejectionReason.Paused => "Resume",
            PoolRejectionReason.ProviderLimit => "the provider",
            _ => "a place",
        };
        return $"waits {InfoText.Time(Waited)} for {place} ({Reason}) to {Origin}{InfoText.Of(Lane, Tenant)}{(Priority == 0 ? "" : string.Create(CultureInfo.InvariantCulture, $", priority {Priority}"))}";
    }
}

/// <summary>What went wrong with calls since the pool was made. Answers with an error status are answers and in none of these.</summary>
public sealed record FaultStats
{
    /// <summary>Attempts that ended before a byte was sent, because the connection was gone, and whose call was placed anew.</summary>
    public long RetriedNotSent { get; init; }

    /// <summary>Attempts that the server declared not to have processed (GOAWAY, REFUSED_STREAM), and whose call was sent again.</summary>
    public long RetriedUnprocessed { get; init; }

    /// <summary>Idempotent calls without a body (GET and its like) that got no answer and were sent again, as the platform does.</summary>
    public long RetriedIdempotent { get; init; }

    /// <summary>
    /// Calls that could have been sent again but had used up their tries, or the pool its <see cref="ConnectionPoolOptions.RetryBudget"/>.
    /// </summary>
    public long RetriesRefused { get; init; }

    /// <summary>Calls that failed without a byte having been sent.</summary>
    public long FailedNotSent { get; init; }

    /// <summary>
    /// Calls that failed although the server declared that it had not processed them: their bodies could not be given again, or the retries
    /// were used up.
    /// </summary>
    public long FailedUnprocessed { get; init; }

    /// <summary>Calls that failed and may have been processed; answers that broke off are among them.</summary>
    public long FailedUnknown { get; init; }

    /// <summary>Calls that a clock ended.</summary>
    public long Stalled { get; init; }

    /// <summary>The same by the clock; clocks that ended none are left out.</summary>
    public IReadOnlyDictionary<StallPhase, long> StalledIn { get; init; } = new Dictionary<StallPhase, long>();

    /// <summary>Responses that their readers left before the end; the exchange was aborted at once. A stream that was left after its
    /// terminal event, or an error event, is none, however
    /// its rest fails.</summary>
    public long Abandoned { get; init; }

    /// <summary>Responses that were let go, neither read to their end nor disposed, and that the garbage collector found.</summary>
    public long Leaked { get; init; }

    /// <summary>
    /// Streams of server-sent events that brought an error event after they had begun with a good status; each counts once.
    /// </summary>
    public long StreamErrors { get; init; }
}

/// <summary>Where a request in flight stands.</summary>
public enum StreamPhase
{
    /// <summary>Its body is being sent.</summary>
    Sending,

    /// <summary>It was sent, and the response's headers are to come.</summary>
    Waiting,

    /// <summary>The caller waits for more of the response body.</summary>
    Reading,

    /// <summary>The caller has the response, or a part of it, and does not ask for more at this moment.</summary>
    Held,
}

/// <summary>A request in flight.</summary>
/// <param name="Origin">The origin it goes to.</param>
/// <param name="ConnectionId">The connection that it rides.</param>
/// <param name="Age">How long it has had its place.</param>
/// <param name="Phase">Where it stands.</param>
/// <param name="Silence">How long nothing has come or gone on it, as far as that is awaited; to within a twentieth of the shortest
/// clock.</param>
/// <param name="Events">Server-sent events that have come, pings not counted; 0 where it is no stream of events.</param>
/// <param name="Lane">Its lane; empty when it is in none.</param>
/// <param name="Tenant">Its tenant; empty when it has none.</param>
public readonly record struct StreamInfo(string Origin, long ConnectionId, TimeSpan Age, StreamPhase Phase, TimeSpan Silence, long Events, string Lane, string Tenant)
{
    /// <summary>
    /// A line to read, like <c>reading on connection 4 to https://api.openai.com, 12.3 s old, silent for 210 ms, 57 events, lane chat</c>;
    /// what is empty or 0 is left out.
    /// </summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Phase.ToString().ToLowerInvariant()} on connection {ConnectionId} to {Origin}, {InfoText.Time(Age)} old")
        + (Silence < TimeSpan.FromMilliseconds(1) ? "" : $", silent for {InfoText.Time(Silence)}")
        + (Events == 0 ? "" : string.Create(CultureInfo.InvariantCulture, $", {Events} {(Events == 1 ? "event" : "events")}"))
        + InfoText.Of(Lane, Tenant);
}

/// <summary>The parts that lines of calls have in common.</summary>
file static class InfoText
{
    public static string Time(TimeSpan time) => time < TimeSpan.FromSeconds(1)
        ? string.Create(CultureInfo.InvariantCulture, $"{time.TotalMilliseconds:0} ms")
        : string.Create(CultureInfo.InvariantCulture, $"{time.TotalSeconds:0.0} s");

    public static string Of(string lane, string tenant) => (string.IsNullOrEmpty(lane) ? "" : $", lane {lane}") + (string.IsNullOrEmpty(tenant) ? "" : $", tenant {tenant}");
}
