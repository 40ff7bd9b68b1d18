using Warmline.Options;

namespace Warmline.Scheduling;

/// <summary>Everything known about one connection key: its waiters, its connections, and what was learned.</summary>
internal sealed class KeyState : KeyTotals
{
    readonly List<ConnectionState> _connections = [];

    public KeyState(ConnectionKey key, OriginState origin, PermitGroup? partition)
    {
        Key = key;
        Origin = origin;
        Partition = partition;
        Queue = new FairQueue(this);
        SpeaksHttp2 = key.Protocols switch
        {
            HttpProtocols.Http1 => false,
            HttpProtocols.Http2 => true,
            _ => key.IsHttps ? null : false,
        };
    }

    public ConnectionKey Key { get; }

    public OriginState Origin { get; }

    /// <summary>The permits of its tenant; null unless tenants have connections of their own.</summary>
    public PermitGroup? Partition { get; }

    public FairQueue Queue { get; }

    /// <summary>The permits that it waits for.</summary>
    public PermitWish Wish { get; } = new();

    /// <summary>What its dials have shown about each other.</summary>
    public HedgeState Hedge { get; } = new();

    /// <summary>Whether it is checked again when permits change hands.</summary>
    public bool IsReserved { get; set; }

    /// <summary>Connections that can take one more stream.</summary>
    public IndexedHeap<ConnectionState, ConnectionState.LeastLoadedFirst> Available { get; } = new();

    public IReadOnlyList<ConnectionState> Connections => _connections;

    /// <summary>Until then a connection that opened after failures has to show that it lasts.</summary>
    public TimeSpan ProbationUntil { get; set; } = TimeSpan.MinValue;

    /// <summary>The warning about connections that end unused was given.</summary>
    public bool HasWarnedOfEarlyEnds { get; set; }

    /// <summary>Whether ALPN last chose HTTP/2; null until the first dial succeeded.</summary>
    public bool? SpeaksHttp2 { get; set; }

    /// <summary>The stream limit that a server of this key advertised last; null until one did.</summary>
    public int? AdvertisedLimit { get; set; }

    /// <summary>Number of failures since the last dial that succeeded. Dials that were under way together count once.</summary>
    public int Failures { get; set; }

    /// <summary>When <see cref="Failures"/> last grew.</summary>
    public TimeSpan FailedAt { get; set; } = TimeSpan.MinValue;

    public TimeSpan BackOffUntil { get; set; } = TimeSpan.MinValue;

    /// <summary>Until then the first connection of a cold burst takes no more than its share.</summary>
    public TimeSpan SpreadUntil { get; set; } = TimeSpan.MinValue;

    /// <summary>Number of connections to keep ready, from the options.</summary>
    public int WarmConnections { get; set; }

    /// <summary>Calls of WarmUpAsync under way.</summary>
    public List<WarmUp> WarmUps { get; } = [];

    /// <summary>
    /// Number of connections to keep even when idle: those kept warm and those that a warm-up asks for, within MaxIdleConnections.
    /// </summary>
    public int WarmGoal { get; set; }

    /// <summary>Whether it had a warm goal before warm connections were last allotted.</summary>
    public bool HadWarmGoal { get; set; }

    /// <summary>The warning about utilisation was given and is not re-armed yet.</summary>
    public bool HasWarned { get; set; }

    public Exception? LastDialError { get; set; }

    /// <summary>When the shell samples the rate-limit headers of an answer next.</summary>
    public TimeSpan LimitsDue { get; set; }

    /// <summary>The rate-limit headers that the shell sampled last.</summary>
    public ToldLimits? Limits { get; set; }

    /// <summary>
    /// The last User-Agent of its tenant's calls, where tenants have connections of their own. See <see cref="OriginState.UserAgent"/>.
    /// </summary>
    public string? UserAgent { get; set; }

    public KeyFacts Facts { get; } = new();

    /// <summary>RST_STREAM and PING frames that its connections sent.</summary>
    public SentFrames Sent { get; } = new();

    public ExpiryWatch Expiry { get; } = new();

    public IdleLimit IdleLimit { get; } = new();

    public bool IsForgettable => _connections.Count == 0 && Queue.Count == 0 && WarmUps.Count == 0 && Leases == 0 && WarmConnections == 0;

    /// <summary>The phase of the dial that is nearest to being ready; null when there is no dial.</summary>
    public DialPhase? StepOfDials => _connections
        .Where(static connection => connection.Phase is ConnectionPhase.Dialing or ConnectionPhase.AwaitingSettings)
        .Max(static connection => (DialPhase?)connection.Step);

    /// <summary>
    /// Streams that a further connection would carry: 1 on HTTP/1.1; on HTTP/2 our limit, or the server's if that is lower.
    /// </summary>
    public int StreamsPerConnection(SchedulerLimits limits) =>
        SpeaksHttp2 is false ? 1 : Math.Min(limits.MaxStreamsPerConnection, AdvertisedLimit ?? int.MaxValue);

    /// <summary>
    /// How long a connection may stay idle, less a margin, if the server's hint was <paramref name="hintSeconds"/>; MaxValue if no limit
    /// is known.
    /// </summary>
    public TimeSpan AllowedIdle(int hintSeconds, SchedulerLimits limits, TimeSpan now) =>
        IdleLimit.Allowed(hintSeconds, Facts.AverageHandshake ?? TimeSpan.Zero, isKeptWarm: WarmGoal > 0, now, limits.IdleMemory);

    public void Add(ConnectionState connection)
    {
        connection.ListPlace = _connections.Count;
        _connections.Add(connection);
    }

    public void Remove(ConnectionState connection)
    {
        var last = _connections[^1];
        _connections[connection.ListPlace] = last;
        last.ListPlace = connection.ListPlace;
        _connections.RemoveAt(_connections.Count - 1);
    }

    /// <summary>
    /// First the keys without any connection, the longest starving one first. Then, where tenants have connections of their own, the key
    /// whose tenant has the fewest for its weight. Then the key whose first waiter has waited longest.
    /// </summary>
    internal struct StarvingFirst : IHeapOrder<KeyState>
    {
        // Not by the first waiter alone: a key with an endless queue would at once take back the permit that it gave to another.
        public static bool Before(KeyState left, KeyState right) =>
            left.Wish.IsStarving != right.Wish.IsStarving ? left.Wish.IsStarving
            : left.Wish.IsStarving ? left.Wish.StarvesSince < right.Wish.StarvesSince
            : left.Wish.Share != right.Wish.Share ? left.Wish.Share < right.Wish.Share
            : (left.Queue.First?.Sequence ?? long.MaxValue) < (right.Queue.First?.Sequence ?? long.MaxValue);

        public static ref int Place(KeyState item) => ref item.Wish.Place;
    }
}
