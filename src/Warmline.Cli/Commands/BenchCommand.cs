using System.CommandLine;
using System.Globalization;
using Spectre.Console;
using Warmline.Cli.Bench;
using Warmline.Cli.Demo;
using static Warmline.Cli.Commands.CommandInput;

namespace Warmline.Cli.Commands;

/// <summary><c>warmline bench</c>: calls at a steady rate through a pool, and how far their times are from what is possible.</summary>
internal static class BenchCommand
{
    const int Failed = 1;
    const int BadInput = 2;
    const int Interrupted = 130;

    /// <summary>What somebody may spend without having said how much.</summary>
    const int CallsUnasked = 50;

    /// <summary>More sockets than this gain nothing at 100 calls at once.</summary>
    const int MostWarm = 8;

    static readonly TimeSpan Frame = TimeSpan.FromMilliseconds(200);
    static readonly TimeSpan LineInterval = TimeSpan.FromSeconds(2);

    // All values are read as text and checked by Read, so that every mistake gets one sentence with value, range and remedy, and the same
    // exit code.
    static readonly Argument<string?> Url = new("URL") { Description = "An OpenAI- or Anthropic-compatible endpoint, such as https://api.openai.com. Real calls cost money. Without one: a simulated provider.", Arity = ArgumentArity.ZeroOrOne };
    static readonly Option<string?> Rate = Text("--rate", "Calls to send, such as 20/s or 90/m, whether or not those before are answered. Default: 10/s; 2/s to a provider that is not on this machine.");
    static readonly Option<string?> For = Text("--for", "For how long, such as 30s. Default: 10s.");
    static readonly Option<string?> Calls = Text("--calls", "The most calls to make, 1 to 1000000. Default: 50 to a provider that is not on this machine; else as many as rate and time make. Without --for: exactly so many.");
    static readonly Option<string?> Arrivals = Text("--arrivals", "poisson (each call by itself) or even (equal distances). Default: poisson.");
    static readonly Option<string?> Seed = Text("--seed", "The number that the distances are drawn from. Default: 1.");
    static readonly Option<bool> Streamed = new("--stream") { Description = "Answers as server-sent events, token by token; shows the time to the first token." };
    static readonly Option<string?> Prompt = Text("--prompt", "Letters in the prompt, 0 to 1000000. Default: a short one.");
    static readonly Option<string?> Tokens = Text("--tokens", "The most tokens of an answer, 1 to 100000. Default: 16.");
    static readonly Option<string?> Connections = Text("--connections", "MaxConnections of the pool, 1 to 65535. Default: 50.");
    static readonly Option<string?> Warm = Text("--warm", "Connections opened before the first call, 0 to --connections. Default: up to 8.");
    static readonly Option<string?> Protocols = Text("--protocols", "h1, h2 or both. Default: both.");
    static readonly Option<string?> KeyEnv = Text("--key-env", "The environment variable that holds the key for URL. The key is never printed.");
    static readonly Option<string?> Model = Text("--model", "The model to ask at URL. Default: gpt-4o-mini or claude-haiku-4-5.");
    static readonly Option<string?> Api = Text("--api", "The shape of the calls to URL: openai or anthropic. Default: by the host's name.");
    static readonly Option<string?> CaFile = Text("--ca-file", "Trust the authority in this PEM file too, such as the one that warmline mock writes.");
    static readonly Option<string?> RoundTrip = Text("--rtt", "The simulated provider's round-trip time in milliseconds, 0 to 10000. Default: 50.");
    static readonly Option<string?> Service = Text("--service", "The simulated provider's time to its first byte in milliseconds, 0 to 60000. Default: 100.");
    static readonly Option<string?> SvgFile = Text("--svg", "Write the histogram to this file, as an SVG.");
    static readonly Option<bool> Json = new("--json") { Description = "One JSON document with every figure on standard output; progress on standard error." };

    public static Command Create()
    {
        var command = new DetailedCommand(
            "bench", "Send calls at a steady rate through a pool, and time them.",
            "Latencies count from the moment when a call was meant to be sent; beside them stand the waits for a place, and how near both are to what is possible. Ctrl+C ends it with what was measured.",
            (0, "calls were answered"), (Failed, "no call was, or the endpoint cannot be used"), (BadInput, "bad input"), (Interrupted, "interrupted; what was measured by then is printed"))
        {
            Url, Rate, For, Calls, Arrivals, Seed, Streamed, Prompt, Tokens, Connections, Warm, Protocols, KeyEnv, Model, Api, CaFile, RoundTrip, Service, SvgFile, Json,
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
            using var svg = parsed.GetValue(SvgFile) is { } file ? OpenSvg(file) : null;
            var json = parsed.GetValue(Json);
            var console = CreateConsole(output);
            var report = new BenchReport(settings);
            if (json)
            {
                await errors.WriteLineAsync(report.Head);
            }
            else
            {
                report.WriteHead(console);
            }

            if (settings.Target is { } target)
            {
                // The report has the address already; what is corrected concerns the body alone.
                settings = settings with { Target = await RealEndpoint.CheckAsync(target, time, stop) };
            }

            var run = new BenchRun(settings, time);
            var result = !json && console.Profile.Capabilities.Interactive ? await LiveAsync(console, report, run, time, stop) : await LinesAsync(json ? errors : output, report, run, time, stop);
            if (json)
            {
                await output.WriteLineAsync(report.Json(result));
            }
            else
            {
                report.Write(console, result);
            }

            if (svg is not null)
            {
                await svg.WriteAsync(report.Svg(result));
                await errors.WriteLineAsync($"wrote {parsed.GetValue(SvgFile)}");
            }

            return result.IsInterrupted ? Interrupted : result.Tally.Latency.Count == 0 ? Failed : 0;
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

    static async Task<BenchResult> LiveAsync(IAnsiConsole console, BenchReport report, BenchRun run, TimeProvider time, CancellationToken stop)
    {
        BenchResult? result = null;
        await console.Live(report.Draw(console, run)).AutoClear(true).StartAsync(async live =>
        {
            var running = run.RunAsync(stop);
            while (!running.IsCompleted)
            {
                await Task.WhenAny(running, Task.Delay(Frame, time, CancellationToken.None));
                live.UpdateTarget(report.Draw(console, run));
            }

            result = await running;
        });
        return result!;
    }

    /// <summary>For a file or a pipe: a plain line now and then.</summary>
    static async Task<BenchResult> LinesAsync(TextWriter output, BenchReport report, BenchRun run, TimeProvider time, CancellationToken stop)
    {
        var running = run.RunAsync(stop);
        while (await Task.WhenAny(running, Task.Delay(LineInterval, time, CancellationToken.None)) != running)
        {
            await output.WriteLineAsync(report.Line(run));
        }

        var result = await running;
        await output.WriteLineAsync(report.Line(run) + "\n");
        return result;
    }

    static BenchSettings Read(ParseResult parsed)
    {
        var target = parsed.GetValue(Url) is { } url ? ReadEndpoint("the address", url, parsed, Api, Model, KeyEnv, CaFile) : null;
        foreach (var option in target is null ? new[] { KeyEnv, Model, Api, CaFile } : [RoundTrip, Service])
        {
            Require(parsed.GetValue(option) is null, target is null
                ? $"{option.Name} is '{(option == KeyEnv ? "..." : parsed.GetValue(option))}', but means nothing without an address: name the endpoint, such as warmline bench https://api.openai.com."
                : $"{option.Name} is '{parsed.GetValue(option)}', but only the simulated provider obeys it: leave out {option.Name} or the address.");
        }

        var isOurs = target is null || target.Address.IsLoopback;
        var rate = ReadRate(parsed, isOurs ? 10 : 2);
        var length = OptionalTime(parsed, For, TimeSpan.FromMilliseconds(100), TimeSpan.FromHours(24), TimeSpan.FromSeconds(10));
        var most = Number(parsed, Calls, 1, 1_000_000, isOurs ? 1_000_000 : CallsUnasked, "for example 200");
        var wanted = parsed.GetValue(For) is null && parsed.GetValue(Calls) is not null ? most : Math.Ceiling(rate * length.TotalSeconds);
        Require(wanted <= 1_000_000 || parsed.GetValue(Calls) is not null, $"--rate and --for make {wanted:0} calls, must be 1000000 or fewer: send for a shorter time, or set --calls.");
        var connections = Number(parsed, Connections, 1, 65_535, 50, "for example 50");
        return new BenchSettings
        {
            Target = target,
            Rate = rate,
            Wanted = (int)Math.Min(wanted, int.MaxValue),
            Calls = (int)Math.Min(wanted, most),
            IsEven = parsed.GetValue(Arrivals) switch { null or "poisson" => false, "even" => true, _ => throw Mistake(parsed, Arrivals, "poisson or even", "leave it out for poisson") },
            Seed = Number(parsed, Seed, 0, int.MaxValue, 1, "for example 7"),
            Stream = parsed.GetValue(Streamed),
            PromptLength = Number(parsed, Prompt, 0, 1_000_000, 0, "for example 20000"),
            Tokens = Number(parsed, Tokens, 1, 100_000, DemoSettings.Tokens, "for example 100"),
            MaxConnections = connections,
            WarmConnections = Number(parsed, Warm, 0, connections, Math.Min(MostWarm, connections), "0 starts cold"),
            Mode = parsed.GetValue(Protocols) switch
            {
                null or "both" => Http2Mode.Preferred,
                "h1" => Http2Mode.Disabled,
                "h2" => Http2Mode.Required,
                _ => throw Mistake(parsed, Protocols, "h1, h2 or both", "leave it out for both"),
            },
            RoundTrip = TimeSpan.FromMilliseconds(Number(parsed, RoundTrip, 0, 10_000, 50, "a distant provider is 50 to 200 away")),
            Service = TimeSpan.FromMilliseconds(Number(parsed, Service, 0, 60_000, 100, "0 shows the connections' part alone")),
        };
    }

    /// <summary>Calls a second: a number, or a number and its unit.</summary>
    static double ReadRate(ParseResult parsed, double otherwise)
    {
        if (parsed.GetValue(Rate) is not { } text)
        {
            return otherwise;
        }

        var (digits, seconds) = text.EndsWith("/s", StringComparison.Ordinal) ? (text[..^2], 1) : text.EndsWith("/m", StringComparison.Ordinal) ? (text[..^2], 60) : text.EndsWith("/h", StringComparison.Ordinal) ? (text[..^2], 3600) : (text, 1);
        return double.TryParse(digits, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var number) && number / seconds is >= 0.0001 and <= 1_000_000
            ? number / seconds : throw Mistake(parsed, Rate, "calls a second, minute or hour, at most 1000000/s", "for example 20/s or 90/m");
    }
}
