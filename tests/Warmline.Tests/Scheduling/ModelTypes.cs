using System.Runtime.CompilerServices;
using Warmline.Options;
using Warmline.Scheduling;

namespace Warmline.Tests.Scheduling;

/// <summary>An invariant does not hold.</summary>
internal sealed class ModelException(string message) : Exception(message);

/// <summary>A message that is only put together when the claim does not hold: there are dozens of claims for each of millions of events.</summary>
[InterpolatedStringHandler]
internal ref struct Complaint
{
    DefaultInterpolatedStringHandler _text;

    public Complaint(int literalLength, int formattedCount, bool holds, out bool isNeeded)
    {
        isNeeded = !holds;
        _text = holds ? default : new DefaultInterpolatedStringHandler(literalLength, formattedCount);
    }

    public void AppendLiteral(string text) => _text.AppendLiteral(text);

    public void AppendFormatted<T>(T value) => _text.AppendFormatted(value);

    public override string ToString() => _text.ToStringAndClear();
}

/// <summary>What random runs have met, so that the test can tell that nothing was left out.</summary>
internal sealed class ModelCoverage
{
    public long Events { get; set; }

    public HashSet<ActionKind> Actions { get; } = [];

    public HashSet<(RefusalKind Kind, PoolRejectionReason Reason)> Refusals { get; } = [];

    public HashSet<PoolRejectionReason> WarmUpReasons { get; } = [];

    public HashSet<(string Event, ConnectionPhase Phase)> EventsInPhase { get; } = [];

    public HashSet<string> Situations { get; } = [];
}

internal enum CallPhase
{
    New,
    Waiting,
    Leased,
    Ended,
}

/// <summary>A request as the test sees it, beside what the scheduler notes in its base.</summary>
internal sealed class Call(int number, ModelKey home, long order) : Waiter
{
    public ModelKey Home { get; } = home;

    /// <summary>The order of arrival.</summary>
    public long Order { get; } = order;

    public CallPhase Phase { get; set; }

    public Link? Link { get; set; }

    public long Weight { get; set; }

    public int Tries { get; set; }

    public override string ToString() => $"call {number} ({Home.Key})";
}

/// <summary>A connection as the test sees it.</summary>
internal sealed class Link(ConnectionState state, ModelKey home, long order, TimeSpan dialedAt)
{
    public ConnectionState State { get; } = state;

    public ModelKey Home { get; } = home;

    /// <summary>The latest arrival when the dial began.</summary>
    public long Order { get; } = order;

    public TimeSpan DialedAt { get; } = dialedAt;

    public bool Answered { get; set; }

    public bool IsHttp2 { get; set; }

    public bool HasSettings { get; set; }

    public int Advertised { get; set; } = int.MaxValue;

    /// <summary>It must take no more: somebody said so, or the scheduler let it drain.</summary>
    public bool NoMore { get; set; }

    public bool CloseAsked { get; set; }

    public bool OverdueAsked { get; set; }

    public bool Closed { get; set; }

    public TimeSpan SettingsDueAt { get; set; }

    public TimeSpan IdleSince { get; set; }

    public bool WasIdle { get; set; }

    /// <summary>When its present rest began; beside the above, whatever is held warm.</summary>
    public TimeSpan RestSince { get; set; }

    public int Hint { get; set; } = -1;

    public List<Call> Streams { get; } = [];

    public bool IsDialing => !Answered && !Closed;

    public bool IsUsable => Answered && !Closed && !CloseAsked && !NoMore;

    public long Load
    {
        get
        {
            var load = Streams.Count * 16L * 1024;
            foreach (var call in Streams)
            {
                load += call.Weight;
            }

            return load;
        }
    }

    public int Limit(SchedulerLimits limits) => !IsUsable ? 0 : !IsHttp2 ? 1 : !HasSettings ? (Home.Advertised == 0 ? 0 : 1) : Math.Min(limits.MaxStreamsPerConnection, Advertised);

    public override string ToString() => $"{State} ({Streams.Count} streams{(CloseAsked ? ", told to close" : "")}{(NoMore ? ", takes no more" : "")})";
}

/// <summary>A connection key as the test sees it.</summary>
internal sealed class ModelKey(ConnectionKey key)
{
    public ConnectionKey Key { get; } = key;

    /// <summary>Sorted by arrival.</summary>
    public List<Call> Waiting { get; } = [];

    public List<Link> Links { get; } = [];

    public List<WarmUp> WarmUps { get; } = [];

    /// <summary>Connections that the server ended in order while they were idle: for how long they had been, and when.</summary>
    public List<(TimeSpan Age, TimeSpan At)> IdleEnds { get; } = [];

    public int HeldWarm { get; set; }

    public bool IsPaused { get; set; }

    public bool? SpeaksHttp2 { get; set; } = InitialProtocol(key);

    public int? Advertised { get; set; }

    public int Leases { get; set; }

    // Counted anew by each check.
    public int Dialing { get; set; }

    public int Awaiting { get; set; }

    public int Usable { get; set; }

    public int Idle { get; set; }

    public int Need { get; set; }

    /// <summary>The event since which it has waiters in need and no connection at all; MaxValue when it has.</summary>
    public long StarvesSince { get; set; } = long.MaxValue;

    public void Forget()
    {
        SpeaksHttp2 = InitialProtocol(Key);
        Advertised = null;
        IdleEnds.Clear();
    }

    static bool? InitialProtocol(ConnectionKey key) => key.Protocols switch
    {
        HttpProtocols.Http1 => false,
        HttpProtocols.Http2 => true,
        _ => key.IsHttps ? null : false,
    };
}

/// <summary>What the simulated shell has still to answer.</summary>
internal enum Duty
{
    Dial,
    Settings,
    Overdue,
    Close,
}

/// <summary>How one run is set up; drawn from its seed.</summary>
internal sealed record ModelSetup
{
    public required SchedulerLimits Limits { get; init; }

    public required ConnectionKey[] Keys { get; init; }

    public required int Steps { get; init; }

    /// <summary>The longest step in time.</summary>
    public required int MaxStepMilliseconds { get; init; }

    public required double AcquireShare { get; init; }

    public required double ReleaseShare { get; init; }

    public required double DialFailureShare { get; init; }

    public required double Http2Share { get; init; }

    public required double OddShare { get; init; }

    public required int MaxQueueMilliseconds { get; init; }

    public static ModelSetup Draw(Random random)
    {
        var keys = new ConnectionKey[random.Next(1, 7)];
        for (var i = 0; i < keys.Length; i++)
        {
            keys[i] = new ConnectionKey(random.Next(4) > 0, "host" + random.Next(1, 4), 443, protocols: (HttpProtocols)Pick(random, 0, 0, 0, 1, 2), partition: Pick(random, "", "", "p" + i));
        }

        return new ModelSetup
        {
            Limits = DrawLimits(random),
            Keys = [.. keys.Distinct()],
            Steps = random.Next(100, 1500),
            MaxStepMilliseconds = Pick(random, 2, 20, 100, 1000),
            AcquireShare = 0.1 + (random.NextDouble() * 0.4),
            ReleaseShare = 0.05 + (random.NextDouble() * 0.4),
            DialFailureShare = Pick(random, 0, 0.1, 0.3, 0.9),
            Http2Share = Pick(random, 0, 0.5, 1, 1),
            OddShare = Pick(random, 0, 0.02, 0.1),
            MaxQueueMilliseconds = Pick(random, 50, 1000, 10_000, 0),
        };
    }

    public static SchedulerLimits DrawLimits(Random random)
    {
        var connections = Pick(random, 1, 2, 3, 5, 10, random.Next(1, 51));
        return new SchedulerLimits
        {
            MaxConnections = connections,
            MaxConnectionsPerHost = Pick(random, int.MaxValue, int.MaxValue, random.Next(1, connections + 1)),
            MaxConcurrentRequests = Pick(random, int.MaxValue, int.MaxValue, random.Next(1, 30)),
            MaxIdleConnections = Pick(random, connections, (connections + 1) / 2, random.Next(0, connections + 1), 0),
            MaxQueueLength = Pick(random, 1000, 1000, random.Next(1, 20)),
            IdleTimeout = Pick(random, Timeout.InfiniteTimeSpan, TimeSpan.FromMilliseconds(50), TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(20)),
            ConnectionLifetime = Pick(random, Timeout.InfiniteTimeSpan, TimeSpan.FromMilliseconds(200), TimeSpan.FromSeconds(3), TimeSpan.FromSeconds(60)),
            ConnectTimeout = Pick(random, TimeSpan.FromMilliseconds(100), TimeSpan.FromSeconds(5)),
            TargetStreams = Pick(random, 8, 1, random.Next(1, 12)),
            SpreadConnections = Pick(random, 8, 1, random.Next(1, 10)),
            MaxStreamsPerConnection = Pick(random, 32, 100, random.Next(1, 20)),
            MaxDialsInFlight = Pick(random, 64, 64, random.Next(1, 6)),
            BackOff = TimeSpan.FromMilliseconds(Pick(random, 10, 100)),
            MaxBackOff = TimeSpan.FromMilliseconds(Pick(random, 200, 10_000)),
            MaxRedispatches = random.Next(0, 4),
            IdleMemory = Pick(random, TimeSpan.FromHours(1), TimeSpan.FromSeconds(5)),
            KeyMemory = Pick(random, TimeSpan.FromHours(1), TimeSpan.FromMilliseconds(100)),
        };
    }

    public static T Pick<T>(Random random, params ReadOnlySpan<T> choices) => choices[random.Next(choices.Length)];

    public override string ToString() =>
        $"{Limits}\n{Keys.Length} keys: {string.Join(", ", (IEnumerable<ConnectionKey>)Keys)}\n{Steps} steps of up to {MaxStepMilliseconds} ms, acquire {AcquireShare:0.00}, release {ReleaseShare:0.00}, "
        + $"failing dials {DialFailureShare}, h2 {Http2Share}, odd {OddShare}, queue time {MaxQueueMilliseconds} ms";
}
