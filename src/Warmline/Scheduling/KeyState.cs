using Warmline.Options;

namespace Warmline.Scheduling;

/// <summary>
/// Everything known of one connection key: who waits, what is open, what was learned. Its capacity is counted here, once.
/// </summary>
internal sealed class KeyState : Timed
{
    public int WantingPlace = -1;

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

    /// <summary>The queue for permits that it is in, if any.</summary>
    public PermitQueue? WantsFrom { get; set; }

    /// <summary>Permits that it waits for in that queue.</summary>
    public int Wants { get; set; }

    /// <summary>The connections of its tenant, by weight, when it was put there; 0 where tenants share them.</summary>
    public double WantsShare { get; set; }

    /// <summary>Whether it was starving when it was put there.</summary>
    public bool WantsAsStarving { get; set; }

    /// <summary>A smaller number began to starve earlier: who had no connection first gets one first.</summary>
    public long StarvesSince { get; set; }

    public ConnectionKey Key { get; }

    public OriginState Origin { get; }

    /// <summary>The permits of the tenant that it belongs to; null unless tenants have connections of their own.</summary>
    public PermitGroup? Partition { get; }

    public FairQueue Queue { get; }

    /// <summary>Whether it is looked at again when permits move.</summary>
    public bool IsReserved { get; set; }

    /// <summary>Connections that can take one more stream.</summary>
    public IndexedHeap<ConnectionState, ConnectionState.LeastLoadedFirst> Available { get; } = new();

    public IReadOnlyList<ConnectionState> Connections => _connections;

    // Kept by Count, for every connection in every phase.
    public int Dialing { get; private set; }

    public int AwaitingSettings { get; private set; }

    /// <summary>Of the dials, those that have been silent for too long.</summary>
    public int SilentDials { get; private set; }

    /// <summary>Of the connections that await their SETTINGS, those that have done so for too long.</summary>
    public int SilentSettings { get; private set; }

    /// <summary>Streams that those connections that await their SETTINGS, and are not silent, may carry before they come.</summary>
    public int FirstStreams { get; private set; }

    /// <summary>Dials that fell silent in a row since the last one that led to a connection.</summary>
    public int SilentInRow { get; set; }

    /// <summary>
    /// A silent dial has used up its time to connect: those beside it may go on, and no more are started until they are over.
    /// </summary>
    public bool HedgesEnd { get; set; }

    /// <summary>When any of its dials last got on.</summary>
    public TimeSpan DialAdvancedAt { get; set; } = TimeSpan.MinValue / 2;

    /// <summary>When a dial last led to a usable connection.</summary>
    public TimeSpan GotThroughAt { get; set; } = TimeSpan.MinValue;

    /// <summary>Until then a connection that followed failed ones has to show that it lasts.</summary>
    public TimeSpan ProbationUntil { get; set; } = TimeSpan.MinValue;

    /// <summary>The warning about connections that end unused was given.</summary>
    public bool HasWarnedOfEarlyEnds { get; set; }

    /// <summary>Connections that take streams, full ones included.</summary>
    public int Usable { get; private set; }

    /// <summary>Leases on usable connections.</summary>
    public int Streams { get; private set; }

    /// <summary>Streams that the usable connections can carry together.</summary>
    public long OpenCapacity { get; private set; }

    /// <summary>Streams beyond the limits of their connections, which servers lowered under them.</summary>
    public int Excess { get; private set; }

    /// <summary>Idle connections.</summary>
    public int Idle { get; set; }

    /// <summary>All leases, those on draining connections included.</summary>
    public int Leases { get; set; }

    /// <summary>What ALPN agreed on last; null until the first dial succeeded.</summary>
    public bool? SpeaksHttp2 { get; set; }

    /// <summary>The stream limit that a server of this key advertised last; null until one did.</summary>
    public int? AdvertisedLimit { get; set; }

    /// <summary>Times that dials failed since the last one that succeeded; those that were under way together count once.</summary>
    public int Failures { get; set; }

    /// <summary>When that was counted last.</summary>
    public TimeSpan FailedAt { get; set; } = TimeSpan.MinValue;

    public TimeSpan BackOffUntil { get; set; } = TimeSpan.MinValue;

    /// <summary>Until then the first connection of a cold burst takes no more than its share.</summary>
    public TimeSpan SpreadUntil { get; set; } = TimeSpan.MinValue;

    /// <summary>Connections to hold ready, from the options.</summary>
    public int WarmConnections { get; set; }

    /// <summary>Calls of WarmUpAsync under way.</summary>
    public List<WarmUp> WarmUps { get; } = [];

    /// <summary>Connections to keep even when idle: what it holds warm and what a warm-up asks for, within MaxIdleConnections.</summary>
    public int WarmGoal { get; set; }

    /// <summary>Whether it had a warm goal before warm connections were last allotted.</summary>
    public bool HadWarmGoal { get; set; }

    /// <summary>The warning about utilisation was given and is not re-armed yet.</summary>
    public bool HasWarned { get; set; }

    public Exception? LastDialError { get; set; }

    /// <summary>When the rate-limit headers of an answer are looked at next; by the shell.</summary>
    public TimeSpan LimitsDue { get; set; }

    /// <summary>What the last answer said that was looked at; by the shell.</summary>
    public ToldLimits? Limits { get; set; }

    /// <summary>The same of its tenant's calls alone, where tenants have connections of their own.</summary>
    public string? UserAgent { get; set; }

    public KeyFacts Facts { get; } = new();

    /// <summary>RST_STREAM and PING frames that its connections sent.</summary>
    public SentFrames Sent { get; } = new();

    public ExpiryWatch Expiry { get; } = new();

    public IdleLimit IdleLimit { get; } = new();

    /// <summary>No connection and none coming: its waiters depend on others to give way.</summary>
    public bool IsStarving => Usable + Dialing == 0;

    public bool IsForgettable => _connections.Count == 0 && Queue.Count == 0 && WarmUps.Count == 0 && Leases == 0 && WarmConnections == 0;

    /// <summary>Connections that are ready, the server's SETTINGS seen where it speaks HTTP/2.</summary>
    public int Ready => Usable - AwaitingSettings;

    /// <summary>Connections that are ready, or on their way and not silent.</summary>
    public int ReadyOrComing => Usable - SilentSettings + Dialing - SilentDials;

    /// <summary>Connections on their way that are not silent.</summary>
    public int Coming => Dialing - SilentDials + AwaitingSettings - SilentSettings;

    /// <summary>What the connection that is nearest to being ready is busy with; null when none is on its way.</summary>
    public DialPhase? StepOfDials => _connections
        .Where(static connection => connection.Phase is ConnectionPhase.Dialing or ConnectionPhase.AwaitingSettings)
        .Max(static connection => (DialPhase?)connection.Step);

    /// <summary>Streams that a further connection would carry: 1 on HTTP/1.1; our cap until a server said less.</summary>
    public int StreamsPerConnection(SchedulerLimits limits) =>
        SpeaksHttp2 is false ? 1 : Math.Min(limits.MaxStreamsPerConnection, AdvertisedLimit ?? int.MaxValue);

    /// <summary>
    /// How many connections more the spreading rule wants: one for every <c>TargetStreams</c> calls, those of
    /// <paramref name="grantable"/> waiters included, up to <c>SpreadConnections</c>.
    /// </summary>
    public int MissingForSpread(SchedulerLimits limits, int grantable)
    {
        var target = Math.Min(limits.TargetStreams, StreamsPerConnection(limits));
        if (target == 0)
        {
            return 0;
        }

        var demand = Streams + grantable;
        return WithinHedge(Math.Min((demand + target - 1) / target, limits.SpreadConnections) - Usable - Dialing);
    }

    /// <summary>How many connections more it takes until every one of <paramref name="grantable"/> waiters has a place.</summary>
    public int MissingForNeed(SchedulerLimits limits, int grantable)
    {
        var each = StreamsPerConnection(limits);
        if (each == 0)
        {
            // The server allows no stream at present. Another connection would get the same answer; the one we have will tell when that
            // changes.
            return Usable + Dialing == 0 ? 1 : 0;
        }

        var coming = ((long)Coming * each) - FirstStreams;
        var missing = (int)Math.Min(int.MaxValue, (Math.Max(0, grantable - coming) + each - 1) / each);

        // Until ALPN is known a connection may carry one stream or dozens: find out with few.
        var few = Math.Max(0, limits.SpreadConnections - Dialing + SilentDials);
        return WithinHedge(SpeaksHttp2 is null ? Math.Min(missing, few) : missing);
    }

    /// <summary>
    /// Beside silent dials one more is tried at a time, until one gets through: what they all wait for may be a server that is
    /// overloaded.
    /// </summary>
    public int WithinHedge(int missing) => SilentInRow > 0 ? Math.Min(missing, HedgesEnd ? 0 : Math.Max(0, 1 - Coming)) : missing;

    /// <summary>
    /// How long a connection may be idle that the server told <paramref name="hintSeconds"/>, margin taken off; MaxValue when no limit is
    /// known.
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
    /// Adds (+1) or takes away (-1) what a connection stands for. Called around each change of its phase, limit or streams, so that no
    /// sum can drift.
    /// </summary>
    public void Count(ConnectionState connection, int sign)
    {
        Dialing += connection.Phase is ConnectionPhase.Dialing ? sign : 0;
        AwaitingSettings += connection.Phase is ConnectionPhase.AwaitingSettings ? sign : 0;
        if (connection.IsSilent)
        {
            SilentDials += connection.Phase is ConnectionPhase.Dialing ? sign : 0;
            SilentSettings += connection.Phase is ConnectionPhase.AwaitingSettings ? sign : 0;
        }
        else if (connection.Phase is ConnectionPhase.AwaitingSettings)
        {
            FirstStreams += sign * connection.Limit;
        }

        if (connection.IsUsable)
        {
            Usable += sign;
            Streams += sign * connection.Streams;
            OpenCapacity += sign * connection.Limit;
            Excess += sign * Math.Max(0, connection.Streams - connection.Limit);
        }
    }

    /// <summary>
    /// A key without any connection first, the one that lost its last connection longest ago before others; then, where tenants have
    /// connections of their own, the one whose tenant has the fewest for its weight; then the one whose first waiter waits longest.
    /// </summary>
    internal struct StarvingFirst : IHeapOrder<KeyState>
    {
        // Not by the first waiter alone: a key with an endless queue would take back at once the permit that it gave to another.
        public static bool Before(KeyState left, KeyState right) =>
            left.WantsAsStarving != right.WantsAsStarving ? left.WantsAsStarving
            : left.WantsAsStarving ? left.StarvesSince < right.StarvesSince
            : left.WantsShare != right.WantsShare ? left.WantsShare < right.WantsShare
            : (left.Queue.First?.Sequence ?? long.MaxValue) < (right.Queue.First?.Sequence ?? long.MaxValue);

        public static ref int Place(KeyState item) => ref item.WantingPlace;
    }
}
