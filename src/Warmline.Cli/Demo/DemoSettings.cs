namespace Warmline.Cli.Demo;

/// <summary>How the calls come.</summary>
internal enum Scenario
{
    /// <summary>All at once.</summary>
    Burst,

    /// <summary>One after another, as an agent loop makes them.</summary>
    Agent,

    /// <summary>With pauses, while idle connections are closed or forgotten.</summary>
    Stale,

    /// <summary>As streams that stop making progress.</summary>
    Stall,

    /// <summary>As streams whose readers leave.</summary>
    Abandon,

    /// <summary>From two classes of traffic that share a pool.</summary>
    Lanes,

    /// <summary>From many customers who share a pool.</summary>
    Tenants,

    /// <summary>While something goes wrong that does so in the field.</summary>
    Field,
}

/// <summary>The ways that are compared, in the order in which they run.</summary>
internal enum WayKind
{
    ClientPerCall,
    DotNetDefault,
    WarmlineCold,
    WarmlineWarmed,
}

/// <summary>A failure that is the user's to mend: one line, no stack trace.</summary>
internal sealed class DemoException(string message) : Exception(message);

/// <summary>The conditions of one demo: the same for every way.</summary>
internal sealed record DemoSettings
{
    /// <summary>Tokens of one answer.</summary>
    public const int Tokens = 16;

    /// <summary>More sockets than this gained nothing at 100 calls at once.</summary>
    const int MostWarmConnections = 8;

    public static readonly TimeSpan StreamTokenGap = TimeSpan.FromMilliseconds(20);

    public required Scenario Scenario { get; init; }

    public required int Calls { get; init; }

    public required int Rounds { get; init; }

    public required bool Stream { get; init; }

    /// <summary>Of the simulated network; zero with a real endpoint, where nobody knows it.</summary>
    public required TimeSpan RoundTrip { get; init; }

    /// <summary>The simulated provider's time from request to first byte; zero with a real endpoint.</summary>
    public required TimeSpan Service { get; init; }

    /// <summary>Shown by a <see cref="ParallelDemo"/>.</summary>
    public bool RunsInParallel => Scenario is not (Scenario.Burst or Scenario.Agent);

    /// <summary>The endpoint of <c>--url</c>; null for the simulated provider.</summary>
    public RealTarget? Target { get; init; }

    /// <summary>With a real endpoint too, a client per call.</summary>
    public bool AllWays { get; init; }

    public TimeSpan TokenGap => Stream && Target is null ? StreamTokenGap : TimeSpan.Zero;

    /// <summary>
    /// What one call takes on an open, idle connection: a round trip, the service and the pace of the tokens. No way can beat it.
    /// </summary>
    public TimeSpan CallLimit => RoundTrip + Service + (TokenGap * (Tokens - 1));

    /// <summary>What all calls take when nothing but physics delays them; null where it is not known.</summary>
    public TimeSpan? Limit => Target is not null || CallLimit == TimeSpan.Zero ? null : Scenario is Scenario.Agent ? CallLimit * Calls : CallLimit;

    /// <summary>One call after another needs one connection.</summary>
    public int WarmConnections => Scenario is Scenario.Agent ? 1 : Math.Min(MostWarmConnections, Calls);

    public IReadOnlyList<WayKind> Ways => Target is null || AllWays
        ? [WayKind.ClientPerCall, WayKind.DotNetDefault, WayKind.WarmlineCold, WayKind.WarmlineWarmed]
        : [WayKind.DotNetDefault, WayKind.WarmlineCold, WayKind.WarmlineWarmed];

    /// <summary>In prose and above a column.</summary>
    public static string Title(WayKind way) => way switch
    {
        WayKind.ClientPerCall => "client per call",
        WayKind.DotNetDefault => ".NET default",
        WayKind.WarmlineCold => "Warmline cold",
        _ => "Warmline warmed",
    };
}
