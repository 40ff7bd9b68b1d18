using System.Runtime.InteropServices;
using System.Text.Json;

namespace Warmline.Cli.Demo;

/// <summary>What a program reads: the conditions and every figure. Times are in milliseconds.</summary>
internal static class DemoJson
{
    static readonly JsonSerializerOptions Indented = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.CamelCase };

    public static string Format(DemoSettings settings, IReadOnlyList<WayResult> results) => JsonSerializer.Serialize(
        new
        {
            Conditions = new
            {
                Scenario = settings.Scenario is Scenario.Agent ? "agent" : "burst",
                settings.Calls,
                settings.Rounds,
                settings.Stream,
                Endpoint = settings.Target?.Display ?? "simulated",
                settings.Target?.Model,
                RoundTripMs = settings.Target is null ? Ms(settings.RoundTrip) : null,
                ServiceMs = settings.Target is null ? Ms(settings.Service) : null,
                DemoSettings.Tokens,
                TokenGapMs = settings.Target is null ? Ms(settings.TokenGap) : null,
                LimitMs = Ms(settings.Limit),
                settings.WarmConnections,
                Processors = Environment.ProcessorCount,
                Runtime = RuntimeInformation.FrameworkDescription,
                System = RuntimeInformation.OSDescription,
            },
            Ways = results.Select(result => Way(settings, result)),
        },
        Indented);

    static object Way(DemoSettings settings, WayResult result)
    {
        var ideal = settings.Target is null ? DemoText.Ideal(settings, result) : (TimeSpan?)null;
        return new
        {
            Way = Name(result.Kind),
            Title = DemoSettings.Title(result.Kind),
            WallMs = Ms(result.Wall),
            WallTimesLimit = settings.Limit is { } limit ? Math.Round(result.Wall / limit, 3) : (double?)null,
            LatencySumMs = Ms(result.LatencySum),
            LatencyMeanMs = Ms(result.LatencyMean),
            LatencyP50Ms = Ms(result.LatencyP50),
            LatencyP99Ms = Ms(result.LatencyP99),
            LatencySumIdealMs = Ms(ideal),
            LatencySumBeyondIdealMs = Ms(result.LatencySum - ideal),
            FirstByteP50Ms = settings.Stream ? Ms(result.FirstByteP50) : null,
            FirstByteP99Ms = settings.Stream ? Ms(result.FirstByteP99) : null,
            result.Sockets,
            HandshakeMs = Ms(result.Handshake),
            WarmUpMs = Ms(result.WarmUp),
            WarmUpCpuMs = Ms(result.WarmUpCpu),
            ReuseRate = Math.Round(result.ReuseRate, 4),
            SavedMs = Ms(result.Saved),
            QueueWaitMaxMs = Ms(result.QueueWaitMax),
            CpuMs = Ms(result.Cpu),
            result.Failures,
            result.FirstFailure,
            PoolStats = result.StatsLine,
        };
    }

    static string Name(WayKind way) => way switch
    {
        WayKind.ClientPerCall => "client-per-call",
        WayKind.DotNetDefault => "dotnet-default",
        WayKind.WarmlineCold => "warmline-cold",
        _ => "warmline-warmed",
    };

    static double? Ms(TimeSpan? time) => time is { } value ? Math.Round(value.TotalMilliseconds, 3) : null;
}
