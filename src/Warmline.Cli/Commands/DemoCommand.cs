using System.CommandLine;
using Warmline.Cli.Demo;
using static Warmline.Cli.Commands.CommandInput;

namespace Warmline.Cli.Commands;

/// <summary><c>warmline demo</c>: what a pool changes, on this machine, within seconds and without a key.</summary>
internal static class DemoCommand
{
    const int Failed = 1;
    const int BadInput = 2;
    const int Interrupted = 130;

    // All values are read as text and checked by Read, so that every mistake gets one sentence with value, range and remedy, and the same
    // exit code.
    static readonly Option<string?> CallCount = Text("--calls", "Calls per way, 1 to 10000. Default: 100; 20 for agent and abandon, 10 with --url.");
    static readonly Option<string?> RoundTrip = Text("--rtt", "Simulated round-trip time in milliseconds, 0 to 10000. Default: 50.");
    static readonly Option<string?> Service = Text("--service", "Simulated time of the provider to its first byte in milliseconds, 0 to 60000. Default: 100.");
    static readonly Option<bool> Streamed = new("--stream") { Description = "Answers as server-sent events, token by token; shows the time to the first byte too." };
    static readonly Option<string?> Scenarios = Text("--scenario", "burst: all calls at once. agent: one after another. stale: pauses, and connections that die in them. stall: streams that stop. abandon: readers who leave. lanes: chat beside batch. tenants: one customer beside others. field: a dead address, a slow name, HTTP/1.1 required, a slow upload, an odd content type. Default: burst.");
    static readonly Option<string?> Rounds = Text("--rounds", "How often everything is repeated, 1 to 100; figures are medians then. Default: 1.");
    static readonly Option<bool> Json = new("--json") { Description = "One JSON document with every figure on standard output; progress on standard error." };
    static readonly Option<string?> Url = Text("--url", "A real endpoint instead of the simulated one, such as https://api.openai.com. Real calls cost money.");
    static readonly Option<string?> KeyEnv = Text("--key-env", "The environment variable that holds the key for --url. The key is never printed.");
    static readonly Option<string?> Model = Text("--model", "The model to ask with --url. Default: gpt-4o-mini or claude-haiku-4-5.");
    static readonly Option<string?> Api = Text("--api", "The shape of the calls with --url: openai or anthropic. Default: by the host's name.");
    static readonly Option<string?> CaFile = Text("--ca-file", "With --url, trust the authority in this PEM file too.");
    static readonly Option<bool> AllWays = new("--all-ways") { Description = "With --url, also try a client per call." };

    public static Command Create()
    {
        var command = new DetailedCommand(
            "demo", "Make the same calls without and with the pool. Needs no key.", "In up to four ways, side by side, with a table and a picture of the difference.",
            (0, "calls were answered in every way"), (Failed, "the calls of one way all failed, the endpoint cannot be used, or Warmline did not do what it should in --scenario field"), (BadInput, "bad input"), (Interrupted, "interrupted"))
        {
            CallCount, RoundTrip, Service, Streamed, Scenarios, Rounds, Json, Url, KeyEnv, Model, Api, CaFile, AllWays,
        };
        command.SetAction((parsed, stop) => RunAsync(parsed, TimeProviderOfProcess(), stop));
        return command;
    }

    static async Task<int> RunAsync(ParseResult parsed, TimeProvider time, CancellationToken stop)
    {
        var (output, errors) = (parsed.InvocationConfiguration.Output, parsed.InvocationConfiguration.Error);
        try
        {
            var settings = Read(parsed);
            if (settings.Target is { } target)
            {
                settings = settings with { Target = await RealEndpoint.CheckAsync(target, time, stop) };
            }

            if (settings.RunsInParallel)
            {
                return await RunParallelAsync(ParallelDemo.Create(settings.Scenario, settings, time), parsed.GetValue(Json), output, errors, time, stop);
            }

            var run = new DemoRun(settings, time);
            IReadOnlyList<WayResult> results = [];
            if (parsed.GetValue(Json))
            {
                results = await run.RunAsync(new LineProgress(errors), stop);
                await output.WriteLineAsync(DemoJson.Format(settings, results));
            }
            else
            {
                var console = CreateConsole(output);
                var report = new DemoReport(console, settings);
                report.WriteHead();
                DemoProgress progress = console.Profile.Capabilities.Interactive ? new LiveProgress(console, time) : new LineProgress(output);
                await progress.RunAsync(run.Trackers, async () => results = await run.RunAsync(progress, stop));
                report.Write(results);
            }

            return results.All(result => result.Failures >= result.Calls) ? Failed : 0;
        }
        catch (FormatException mistake)
        {
            await errors.WriteLineAsync("error: " + mistake.Message);
            return BadInput;
        }
        catch (DemoException failure)
        {
            await errors.WriteLineAsync("error: " + failure.Message);
            return Failed;
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            await errors.WriteLineAsync("stopped");
            return Interrupted;
        }
    }

    static async Task<int> RunParallelAsync(ParallelDemo demo, bool asJson, TextWriter output, TextWriter errors, TimeProvider time, CancellationToken stop)
    {
        if (asJson)
        {
            var measured = await demo.RunAsync(new LineProgress(errors), stop);
            await output.WriteLineAsync(ParallelReport.Json(demo, measured));
            return ExitCode(measured);
        }

        var console = CreateConsole(output);
        var report = new ParallelReport(console, demo);
        report.WriteHead();
        DemoProgress progress = console.Profile.Capabilities.Interactive ? new LiveProgress(console, time) : new LineProgress(output);
        ParallelResult? result = null;
        await progress.RunAsync(demo.Trackers, async () => result = await demo.RunAsync(progress, stop));
        report.Write(result!);
        return ExitCode(result!);
    }

    static int ExitCode(ParallelResult result) => result.Sections.All(section => section.IsAsItShould) ? 0 : Failed;

    static DemoSettings Read(ParseResult parsed)
    {
        var scenario = parsed.GetValue(Scenarios) switch
        {
            null or "burst" => Scenario.Burst,
            "agent" => Scenario.Agent,
            "stale" => Scenario.Stale,
            "stall" => Scenario.Stall,
            "abandon" => Scenario.Abandon,
            "lanes" => Scenario.Lanes,
            "tenants" => Scenario.Tenants,
            "field" => Scenario.Field,
            _ => throw Mistake(parsed, Scenarios, "burst, agent, stale, stall, abandon, lanes, tenants or field", "leave it out for burst"),
        };
        if (scenario is not (Scenario.Burst or Scenario.Agent))
        {
            foreach (var option in scenario switch
            {
                Scenario.Abandon => new[] { Url, Service, Rounds },
                Scenario.Field => [Url, Service, Rounds, CallCount, RoundTrip],
                _ => [Url, Service, Rounds, CallCount],
            })
            {
                Require(parsed.GetValue(option) is null, $"{option.Name} is '{parsed.GetValue(option)}', but means nothing with --scenario {parsed.GetValue(Scenarios)}, which brings its own calls: leave it out.");
            }
        }

        var target = ReadTarget(parsed);
        foreach (var option in new[] { RoundTrip, Service })
        {
            Require(target is null || parsed.GetValue(option) is null, $"{option.Name} is '{parsed.GetValue(option)}', but only the simulated provider obeys it: leave out {option.Name} or --url.");
        }

        return new DemoSettings
        {
            Scenario = scenario,
            Calls = Number(parsed, CallCount, 1, 10_000, target is not null ? 10 : scenario is Scenario.Agent or Scenario.Abandon ? 20 : 100, "for example 100"),
            Rounds = Number(parsed, Rounds, 1, 100, 1, "for example 5"),
            RoundTrip = TimeSpan.FromMilliseconds(target is null ? Number(parsed, RoundTrip, 0, 10_000, 50, "a distant provider is 50 to 200 away") : 0),
            Service = TimeSpan.FromMilliseconds(target is null ? Number(parsed, Service, 0, 60_000, 100, "0 shows the connections' part alone") : 0),
            Stream = parsed.GetValue(Streamed),
            Target = target,
            AllWays = parsed.GetValue(AllWays),
        };
    }

    static RealTarget? ReadTarget(ParseResult parsed)
    {
        if (parsed.GetValue(Url) is not { } url)
        {
            foreach (var option in new[] { KeyEnv, Model, Api, CaFile })
            {
                Require(parsed.GetValue(option) is null, $"{option.Name} is '{parsed.GetValue(option)}', but means nothing without --url: name the endpoint, such as --url https://api.openai.com.");
            }

            Require(!parsed.GetValue(AllWays), "--all-ways means nothing without --url: the simulated provider is always tried in all ways.");
            return null;
        }

        return ReadEndpoint(Url.Name, url, parsed, Api, Model, KeyEnv, CaFile);
    }
}
