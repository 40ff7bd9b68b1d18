using Warmline.Options;
using Warmline.Scheduling;

namespace Warmline.Tests.Scheduling;

/// <summary>What the calls of a run share, and by which rules.</summary>
internal enum SharingKind
{
    /// <summary>Neither lanes nor tenants.</summary>
    None,

    Lanes,

    Tenants,

    LanesAndTenants,

    /// <summary>Each tenant has connections of its own; lanes as well.</summary>
    Partitions,
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

    public required SharingKind Sharing { get; init; }

    /// <summary>Tenants that send calls, beside those that name none.</summary>
    public required int Tenants { get; init; }

    /// <summary>How much of the load is the first tenant's, beyond its part.</summary>
    public required double FirstTenantShare { get; init; }

    public static ModelSetup Draw(Random random)
    {
        var sharing = (SharingKind)random.Next(5);
        var tenants = Pick(random, 1, 2, 3, 5, 20);
        var keys = new ConnectionKey[sharing is SharingKind.Partitions ? random.Next(2, 11) : random.Next(1, 7)];
        for (var i = 0; i < keys.Length; i++)
        {
            var partition = sharing is SharingKind.Partitions ? TenantName(random.Next(Math.Min(tenants, 4) + 1)) : Pick(random, "", "", "p" + i);
            keys[i] = new ConnectionKey(random.Next(4) > 0, "host" + random.Next(1, 4), 443, protocols: (HttpProtocols)Pick(random, 0, 0, 0, 1, 2), partition: partition);
        }

        return new ModelSetup
        {
            Limits = DrawLimits(random, sharing, tenants),
            Sharing = sharing,
            Tenants = tenants,
            FirstTenantShare = Pick(random, 0, 0.5, 0.9),
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

    public static readonly string[] LaneNames = ["", "stream", "batch", "embed", "eval"];

    /// <summary>Weights whose steps in virtual time are whole numbers.</summary>
    public const long VirtualStep = 60;

    public static string TenantName(int number) => number == 0 ? "" : "t" + number;

    public static SchedulerLimits DrawLimits(Random random, SharingKind sharing, int tenants)
    {
        var connections = Pick(random, 1, 2, 3, 5, 10, random.Next(1, 51));
        var concurrent = sharing is SharingKind.None ? Pick(random, int.MaxValue, int.MaxValue, random.Next(1, 30)) : Pick(random, int.MaxValue, random.Next(1, 30), random.Next(4, 20));
        return new SchedulerLimits
        {
            MaxConnections = connections,
            MaxConnectionsPerHost = Pick(random, int.MaxValue, int.MaxValue, random.Next(1, connections + 1)),
            MaxConcurrentRequests = concurrent,
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
            Sharing = DrawSharing(random, sharing, tenants, concurrent),
        };
    }

    static SharingSettings DrawSharing(Random random, SharingKind kind, int tenants, int concurrent) => new()
    {
        Lanes = kind is SharingKind.Lanes or SharingKind.LanesAndTenants or SharingKind.Partitions ? DrawLanes(random, concurrent) : SharingSettings.None.Lanes,
        Isolation = kind is SharingKind.Partitions ? TenantIsolation.Connections : TenantIsolation.Leases,
        EachTenant = kind is SharingKind.None or SharingKind.Lanes ? TenantLimits.None : DrawTenant(random, kind),
        Named = kind is SharingKind.None or SharingKind.Lanes ? SharingSettings.None.Named
            : Enumerable.Range(1, tenants).Where(_ => random.Next(3) == 0).ToDictionary(TenantName, _ => DrawTenant(random, kind)),
        MaxKnownTenants = Pick(random, 10_000, random.Next(1, tenants + 1)),
    };

    static Dictionary<string, LaneSettings> DrawLanes(Random random, int concurrent)
    {
        var lanes = new Dictionary<string, LaneSettings>();
        var unreserved = concurrent - 1;
        foreach (var name in LaneNames.AsSpan(1))
        {
            if (random.Next(3) == 0)
            {
                continue;
            }

            var reserve = Math.Min(unreserved, Pick(random, 0, 1, 3, random.Next(1, 30)));
            unreserved -= reserve;
            var ceiling = Pick(random, int.MaxValue, int.MaxValue, reserve + random.Next(1, 8), reserve == 0 ? 0 : reserve);
            lanes.Add(name, new LaneSettings(name, reserve, ceiling, Pick(random, int.MaxValue, int.MaxValue, random.Next(1, 6)), CallTimeouts.Default));
        }

        return lanes;
    }

    static TenantLimits DrawTenant(Random random, SharingKind kind) => new(
        Pick(random, 1, 1, 1, 2, 3, 4, 5, 10),
        Pick(random, int.MaxValue, int.MaxValue, int.MaxValue, random.Next(1, 6), random.Next(1, 3), random.Next(8) == 0 ? 0 : 20),
        kind is SharingKind.Partitions ? Pick(random, int.MaxValue, 1, 2, 3) : int.MaxValue,
        Pick(random, int.MaxValue, int.MaxValue, random.Next(1, 5)));

    public static T Pick<T>(Random random, params ReadOnlySpan<T> choices) => choices[random.Next(choices.Length)];

    public override string ToString() =>
        $"{Limits}\n{Keys.Length} keys: {string.Join(", ", (IEnumerable<ConnectionKey>)Keys)}\n{Steps} steps of up to {MaxStepMilliseconds} ms, acquire {AcquireShare:0.00}, release {ReleaseShare:0.00}, "
        + $"failing dials {DialFailureShare}, h2 {Http2Share}, odd {OddShare}, queue time {MaxQueueMilliseconds} ms, {Sharing}, {Tenants} tenants, {Describe(Limits)}";

    /// <summary>What the record's own text leaves out.</summary>
    public static string Describe(SchedulerLimits limits) =>
        $"lanes [{string.Join("; ", limits.Sharing.Lanes.Values.Select(lane => $"{lane.Name} {lane.Reserve}..{lane.Ceiling} queue {lane.MaxQueueLength}"))}], each {limits.Sharing.EachTenant}, "
        + $"named [{string.Join("; ", limits.Sharing.Named)}], known {limits.Sharing.MaxKnownTenants}";
}
