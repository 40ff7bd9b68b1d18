using System.Globalization;

namespace Warmline.Cli.Demo;

/// <summary>The sentences of the report, each true for whatever was measured: also when the pool was slower.</summary>
internal static class DemoText
{
    /// <summary>DNS, TCP and TLS: what a call with a dial of its own pays before its request.</summary>
    const int RoundTripsOfADial = 3;

    /// <summary>Waits below it are the scheduling of threads, not a queue.</summary>
    static readonly TimeSpan ShortWait = TimeSpan.FromMilliseconds(10);

    /// <summary>Figures of one row in one unit, so that they can be compared at a glance; a dash where there is none.</summary>
    public static IReadOnlyList<string> Times(IReadOnlyList<TimeSpan?> times)
    {
        var most = times.Max() ?? TimeSpan.Zero;
        return [.. times.Select(time => time is { } value ? Format(value, most) : "-")];
    }

    public static IReadOnlyList<string> Times(IReadOnlyList<TimeSpan> times) => Times([.. times.Select(time => (TimeSpan?)time)]);

    public static IEnumerable<string> Summary(DemoSettings settings, IReadOnlyList<WayResult> results)
    {
        var warm = results[^1];
        if (warm.Failures > 0)
        {
            yield return Line($"{warm.Failures} calls of Warmline, warmed, failed: its times cannot be compared.");
            yield break;
        }

        foreach (var other in results.Where(result => result.Kind is WayKind.ClientPerCall or WayKind.DotNetDefault))
        {
            var who = other.Kind is WayKind.ClientPerCall ? "a client per call" : ".NET's default handler";
            if (other.Failures > 0)
            {
                // A call that fails is soon over: to compare times would praise the failures.
                yield return Line($"With {who}, {other.Failures} of {Calls(other.Calls * settings.Rounds)} failed in {Time(other.Wall)}; with Warmline, warmed, none in {Time(warm.Wall)}, on {Sockets(warm.Sockets)} against {other.Sockets}.");
                continue;
            }

            yield return Line($"Warmline, warmed, {Sooner(other.Wall / warm.Wall)} {who} ({Time(warm.Wall)} against {Time(other.Wall)}) for the same {Calls(warm.Calls)}, on {Sockets(warm.Sockets)} against {other.Sockets}; summed latency {Less(other.LatencySum / warm.LatencySum)} ({Time(warm.LatencySum)} against {Time(other.LatencySum)}).");
        }

        if (settings.Scenario is Scenario.Agent)
        {
            yield return "One call at a time, .NET's default handler keeps its one connection as well: what a pool adds here is the first call, after every pause too. The burst (without --scenario) shows the rest.";
        }

        if (settings.Target is null && results[0].Failures == 0)
        {
            yield return Remainder(settings, results[0], "Of a client per call's") + " " + Remainder(settings, warm, "Of Warmline's, warmed,");
        }
    }

    /// <summary>
    /// What the network and the provider ask of every call, and the rest, which is waiting for a processor: mostly for handshakes.
    /// </summary>
    static string Remainder(DemoSettings settings, WayResult result, string whose)
    {
        var ideal = Ideal(settings, result);
        var service = (settings.CallLimit - settings.RoundTrip) * result.Calls;
        var parts = $"{Time(ideal - service)} are round trips ({Line($"{RoundTrips(result):0.#}")} per call)" + (service > TimeSpan.Zero ? $", {Time(service)} the provider's service" : "");
        return $"{whose} {Time(result.LatencySum)}, {parts} and {Time(Max(result.LatencySum - ideal, TimeSpan.Zero))} {(result.QueueWaitMax > ShortWait ? "waiting for a place and for the CPU" : "CPU and waiting for it")}.";
    }

    /// <summary>Summed latency on a machine of infinite speed, with the dials that this way made its calls pay.</summary>
    public static TimeSpan Ideal(DemoSettings settings, WayResult result) => (settings.CallLimit + (settings.RoundTrip * (RoundTrips(result) - 1))) * result.Calls;

    static double RoundTrips(WayResult result) => 1 + (RoundTripsOfADial * (1 - result.ReuseRate));

    public static IEnumerable<string> Method(DemoSettings settings)
    {
        yield return "the code of every way ran first against another server, so that no figure holds compile time.";
        if (settings.Target is null)
        {
            yield return $"Client and provider share this process and its {Environment.ProcessorCount} processors; CPU is both sides', so a handshake weighs twice. Sockets are counted at the provider, handshakes (DNS, TCP, TLS) at the client.";
            yield return "A DNS lookup costs one round trip: .NET looks up for each connection, the pool keeps the answer.";
        }
        else
        {
            yield return "Sockets and handshakes (DNS, TCP, TLS) are counted at the client. Later ways may profit from names and TLS sessions remembered since the first.";
        }

        yield return "Latency counts from the moment a call was meant to start.";
        yield return settings.Rounds > 1 ? $"Every figure is the median of {settings.Rounds} rounds by itself; failures are their sum." : "One round: --rounds 5 gives medians.";
    }

    public static IEnumerable<string> Next(DemoSettings settings)
    {
        yield return "\"Use it\" in README.md puts the pool under your client in a few lines.";
        if (settings.Scenario is not Scenario.Agent)
        {
            yield return "`--scenario agent`: one call after another.";
        }

        if (!settings.Stream)
        {
            yield return "`--stream`: answers token by token.";
        }

        if (settings.Target is null)
        {
            yield return "`--url https://api.openai.com --key-env OPENAI_API_KEY`: the same with real calls.";
        }
    }

    /// <summary>What the limit is made of; nothing where it is not known.</summary>
    public static string? Limit(DemoSettings settings)
    {
        if (settings.Limit is not { } limit)
        {
            return null;
        }

        var tokens = settings.TokenGap > TimeSpan.Zero ? $", and {Time(settings.TokenGap * (DemoSettings.Tokens - 1))} until the last token" : "";
        var each = settings.Scenario is Scenario.Agent ? $", {settings.Calls} times" : "";
        return $"The limit is what nobody can beat: one round trip ({Time(settings.RoundTrip)}) and the provider's service ({Time(settings.Service)}){tokens}{each}, {Time(limit)} in all.";
    }

    static string Sooner(double ratio) => ratio switch
    {
        >= 1.05 => Line($"finished {ratio:0.0} times sooner than"),
        <= 0.95 => Line($"took {1 / ratio:0.00} times as long as"),
        _ => "took as long as",
    };

    static string Less(double ratio) => ratio switch
    {
        >= 1.05 => Line($"{ratio:0.0} times less"),
        <= 0.95 => Line($"{1 / ratio:0.00} times as much"),
        _ => "the same",
    };

    static string Calls(long count) => count == 1 ? "1 call" : Line($"{count} calls");

    static string Sockets(long count) => count == 1 ? "1 socket" : Line($"{count} sockets");

    public static string Time(TimeSpan time) => time.TotalMilliseconds switch
    {
        >= 10_000 => Line($"{time.TotalSeconds:0.0} s"),
        >= 1_000 => Line($"{time.TotalSeconds:0.00} s"),
        > 0 and < 10 => Line($"{time.TotalMilliseconds:0.0} ms"),
        _ => Line($"{time.TotalMilliseconds:0} ms"),
    };

    static string Format(TimeSpan time, TimeSpan most) => most.TotalMilliseconds switch
    {
        >= 10_000 => Line($"{time.TotalSeconds:0.0} s"),
        >= 2_000 => Line($"{time.TotalSeconds:0.00} s"),
        >= 10 => Line($"{time.TotalMilliseconds:0} ms"),
        _ => Line($"{time.TotalMilliseconds:0.00} ms"),
    };

    static TimeSpan Max(TimeSpan a, TimeSpan b) => a > b ? a : b;

    static string Line(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
