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

    /// <summary>How often each was met.</summary>
    public SortedDictionary<string, long> Situations { get; } = new(StringComparer.Ordinal);

    public void Note(string situation) => Situations[situation] = Situations.GetValueOrDefault(situation) + 1;
}

internal enum CallPhase
{
    New,
    Waiting,
    Leased,
    Ended,
}

/// <summary>A request as the test sees it, beside what the scheduler notes in its base.</summary>
internal sealed class Call(int number, ModelKey home, long order, ModelLane lane, ModelTenant tenant, ModelShare share) : Waiter
{
    public ModelKey Home { get; } = home;

    public ModelLane InLane { get; } = lane;

    public ModelTenant Tenant { get; } = tenant;

    public ModelShare Stake { get; } = share;

    /// <summary>The order of arrival.</summary>
    public long Order { get; } = order;

    public CallPhase Phase { get; set; }

    public Link? Link { get; set; }

    public long Weight { get; set; }

    public int Tries { get; set; }

    public override string ToString() => $"call {number} ({Home.Key}, lane '{InLane.Name}', tenant '{Tenant.Name}', priority {Priority})";
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

    /// <summary>When its dial last got on.</summary>
    public TimeSpan AdvancedAt { get; set; } = dialedAt;

    public bool HasResolved { get; set; }

    /// <summary>The scheduler said that it stands still, and it has not got on since.</summary>
    public bool Silent { get; set; }

    public bool GivenUp { get; set; }

    /// <summary>It gets no call before its SETTINGS.</summary>
    public bool Primed { get; set; }

    public bool IsOnItsWay => IsDialing || (IsUsable && IsHttp2 && !HasSettings);

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

    public int Limit(SchedulerLimits limits) => !IsUsable ? 0 : !IsHttp2 ? 1 : !HasSettings ? (Primed || Home.Advertised == 0 ? 0 : 1) : Math.Min(limits.MaxStreamsPerConnection, Advertised);

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

    public TimeSpan PausedUntil { get; set; } = TimeSpan.MinValue;

    public bool? SpeaksHttp2 { get; set; } = InitialProtocol(key);

    public int? Advertised { get; set; }

    public int Leases { get; set; }

    /// <summary>Leases on usable connections, by lane.</summary>
    public int[] HeldOf { get; } = new int[ModelSetup.LaneNames.Length];

    /// <summary>Streams beyond their connections' limits.</summary>
    public int Excess { get; set; }

    // Counted anew by each check.
    public int Dialing { get; set; }

    public int Awaiting { get; set; }

    /// <summary>Connections on their way that do not stand still.</summary>
    public int Coming { get; set; }

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
