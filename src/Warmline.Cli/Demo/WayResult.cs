namespace Warmline.Cli.Demo;

/// <summary>One call: how long it took, measured from when it was meant to start, and why it failed.</summary>
internal readonly record struct CallSample(TimeSpan Latency, TimeSpan FirstByte, string? Failure);

/// <summary>The figures of one way.</summary>
internal sealed record WayResult
{
    public required WayKind Kind { get; init; }

    public required int Calls { get; init; }

    public required int Failures { get; init; }

    /// <summary>Why the first failed call did; null when none did.</summary>
    public required string? FirstFailure { get; init; }

    /// <summary>From the start of the first call to the end of the last.</summary>
    public required TimeSpan Wall { get; init; }

    /// <summary>Of the calls that succeeded, as the next five.</summary>
    public required TimeSpan LatencySum { get; init; }

    public required TimeSpan LatencyMean { get; init; }

    public required TimeSpan LatencyP50 { get; init; }

    public required TimeSpan LatencyP99 { get; init; }

    public required TimeSpan FirstByteP50 { get; init; }

    public required TimeSpan FirstByteP99 { get; init; }

    public required long Sockets { get; init; }

    /// <summary>DNS, TCP and TLS, summed over the connections; those opened by the warm-up too.</summary>
    public required TimeSpan Handshake { get; init; }

    public required TimeSpan? QueueWaitMax { get; init; }

    public required double ReuseRate { get; init; }

    public required TimeSpan Saved { get; init; }

    /// <summary>Processor time of this process while the calls ran, the simulated provider's part included.</summary>
    public required TimeSpan Cpu { get; init; }

    /// <summary>The warm-up, before the clock started; null without one.</summary>
    public required TimeSpan? WarmUp { get; init; }

    public required TimeSpan? WarmUpCpu { get; init; }

    public required string? StatsLine { get; init; }

    public static WayResult From(WayKind kind, IReadOnlyList<CallSample> samples, TimeSpan wall, TimeSpan cpu, WayFacts facts, long sockets, TimeSpan? warmUp, TimeSpan? warmUpCpu)
    {
        var good = samples.Where(sample => sample.Failure is null).ToArray();
        var latencies = good.Select(sample => sample.Latency).Order().ToArray();
        var firstBytes = good.Select(sample => sample.FirstByte).Order().ToArray();
        return new WayResult
        {
            Kind = kind,
            Calls = samples.Count,
            Failures = samples.Count - good.Length,
            FirstFailure = samples.FirstOrDefault(sample => sample.Failure is not null).Failure,
            Wall = wall,
            LatencySum = latencies.Aggregate(TimeSpan.Zero, (sum, latency) => sum + latency),
            LatencyMean = latencies.Length == 0 ? TimeSpan.Zero : latencies.Aggregate(TimeSpan.Zero, (sum, latency) => sum + latency) / latencies.Length,
            LatencyP50 = Percentile(latencies, 0.50),
            LatencyP99 = Percentile(latencies, 0.99),
            FirstByteP50 = Percentile(firstBytes, 0.50),
            FirstByteP99 = Percentile(firstBytes, 0.99),
            Sockets = sockets,
            Handshake = facts.Handshake,
            QueueWaitMax = facts.QueueWaitMax,
            ReuseRate = facts.ReuseRate,
            Saved = facts.Saved,
            Cpu = cpu,
            WarmUp = warmUp,
            WarmUpCpu = warmUpCpu,
            StatsLine = facts.StatsLine,
        };
    }

    /// <summary>The median of every figure by itself; failures are added up, as none may get lost in a median.</summary>
    public static WayResult Median(IReadOnlyList<WayResult> rounds) => rounds.Count == 1 ? rounds[0] : rounds[^1] with
    {
        Calls = rounds.Sum(round => round.Calls) / rounds.Count,
        Failures = rounds.Sum(round => round.Failures),
        FirstFailure = rounds.FirstOrDefault(round => round.FirstFailure is not null)?.FirstFailure,
        Wall = Of(rounds, round => round.Wall),
        LatencySum = Of(rounds, round => round.LatencySum),
        LatencyMean = Of(rounds, round => round.LatencyMean),
        LatencyP50 = Of(rounds, round => round.LatencyP50),
        LatencyP99 = Of(rounds, round => round.LatencyP99),
        FirstByteP50 = Of(rounds, round => round.FirstByteP50),
        FirstByteP99 = Of(rounds, round => round.FirstByteP99),
        Sockets = rounds.Select(round => round.Sockets).Order().ElementAt(rounds.Count / 2),
        Handshake = Of(rounds, round => round.Handshake),
        QueueWaitMax = rounds[0].QueueWaitMax is null ? null : Of(rounds, round => round.QueueWaitMax!.Value),
        ReuseRate = rounds.Select(round => round.ReuseRate).Order().ElementAt(rounds.Count / 2),
        Saved = Of(rounds, round => round.Saved),
        Cpu = Of(rounds, round => round.Cpu),
        WarmUp = rounds[0].WarmUp is null ? null : Of(rounds, round => round.WarmUp!.Value),
        WarmUpCpu = rounds[0].WarmUpCpu is null ? null : Of(rounds, round => round.WarmUpCpu!.Value),
    };

    static TimeSpan Of(IReadOnlyList<WayResult> rounds, Func<WayResult, TimeSpan> figure)
    {
        var ordered = rounds.Select(figure).Order().ToArray();
        return ordered.Length % 2 == 1 ? ordered[ordered.Length / 2] : (ordered[(ordered.Length / 2) - 1] + ordered[ordered.Length / 2]) / 2;
    }

    /// <summary>Nearest rank: a value that was measured, never one between two.</summary>
    static TimeSpan Percentile(TimeSpan[] ordered, double share) => ordered.Length == 0 ? TimeSpan.Zero : ordered[Math.Max(0, (int)Math.Ceiling(share * ordered.Length) - 1)];
}
