using System.CommandLine;
using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using Warmline.Cli.Demo;
using Warmline.Cli.Sizing;
using Warmline.Options;
using static Warmline.Cli.Commands.CommandInput;

namespace Warmline.Cli.Commands;

/// <summary>
/// <c>warmline size</c>: how large a pool must be for so many users: by a formula, by simulation, or by what a running pool has seen.
/// </summary>
internal static class SizeCommand
{
    const int Failed = 1;
    const int BadInput = 2;
    const int Interrupted = 130;

    static readonly JsonSerializerOptions Indented = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.CamelCase, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    // All values are read as text and checked by Read, so that every mistake gets one sentence with value, range and remedy, and the same
    // exit code.
    static readonly Option<string?> Users = Text("--users", "Users at the same time. Required, unless --from is given.");
    static readonly Option<string?> Response = Text("--response", "How long a call takes to the last byte of its answer, such as 8s, 500ms or 2m. Required as --users is.");
    static readonly Option<string?> Interval = Text("--interval", "How often a user asks, from one call's start to the next one's, such as 30s. Required as --users is.");
    static readonly Option<string?> CallsPerUser = Text("--calls", "Calls that one user makes at once. Default: 1.");
    static readonly Option<bool> Simulate = new("--simulate") { Description = "Play the calls against the pool's own scheduler, for many sizes, and show the waits and the knee." };
    static readonly Option<string?> Arrivals = Text("--arrivals", "With --simulate: poisson, even, bursts (a user's --calls together) or closed (users wait for their answers). Default: poisson; closed where users never pause.");
    static readonly Option<string?> Durations = Text("--durations", "With --simulate: exponential, fixed or log-normal, with --response as their mean. Default: exponential.");
    static readonly Option<string?> Protocol = Text("--protocol", "With --simulate: h1 or h2. Default: h1.");
    static readonly Option<string?> Handshake = Text("--handshake", "With --simulate: how long a dial takes, 0ms to 5s. Default: 80ms.");
    static readonly Option<string?> PoolTimeout = Text("--pool-timeout", "With --simulate: Timeouts.Pool, the longest wait for a place, or infinite. Default: 10s.");
    static readonly Option<string?> MaxWait = Text("--max-wait", "With --simulate: the p99 wait that is good enough. Default: a twentieth of --response and one handshake.");
    static readonly Option<string?> Connections = Text("--connections", "With --simulate: the sizes to try, such as 20-60. Default: from below the formula's to beyond the knee.");
    static readonly Option<string?> Samples = Text("--samples", "With --simulate: calls measured at each size, 1000 to 10000000. Default: 100000, or 50 for each call in flight up to 1000000.");
    static readonly Option<string?> Seed = Text("--seed", "With --simulate: the number that all randomness is drawn from. The same gives the same figures. Default: 1.");
    static readonly Option<string?> SvgFile = Text("--svg", "With --simulate: write the curve to this file, as an SVG.");
    static readonly Option<string?> From = Text("--from", "Recommend from what a running pool has seen: the address of its stats (MapPoolStats), or of its application.");
    static readonly Option<string?> For = Text("--for", "With --from: watch for so long, such as 30s, in place of the pool's whole life.");
    static readonly Option<string?> KeyEnv = Text("--key-env", "With --from: the environment variable that holds a bearer token for it. Never printed.");
    static readonly Option<string?> CaFile = Text("--ca-file", "With --from: trust the authority in this PEM file too.");
    static readonly Option<bool> Json = new("--json") { Description = "One JSON document on standard output." };

    static readonly Option[] OfSimulation = [Arrivals, Durations, Protocol, Handshake, PoolTimeout, MaxWait, Connections, Samples, Seed, SvgFile];
    static readonly Option[] OfTraffic = [Users, Response, Interval, CallsPerUser, Simulate, .. OfSimulation];

    public static Command Create()
    {
        var command = new DetailedCommand(
            "size", "Recommend how many connections a pool needs, as a line of code.", "By a formula, with --simulate by trying, with --from by what a running pool has seen.",
            (0, "a size is recommended"), (Failed, "the pool of --from cannot be read, or has seen too little"), (BadInput, "bad input"), (Interrupted, "interrupted"))
        {
            Users, Response, Interval, CallsPerUser, Simulate, Arrivals, Durations, Protocol, Handshake, PoolTimeout, MaxWait, Connections, Samples, Seed, SvgFile, From, For, KeyEnv, CaFile, Json,
        };
        command.SetAction((parsed, stop) => RunAsync(parsed, TimeProviderOfProcess(), stop));
        return command;
    }

    static async Task<int> RunAsync(ParseResult parsed, TimeProvider time, CancellationToken stop)
    {
        var (output, errors) = (parsed.InvocationConfiguration.Output, parsed.InvocationConfiguration.Error);
        try
        {
            if (parsed.GetValue(From) is not null)
            {
                await RecommendFromAsync(parsed, output, errors, time, stop);
                return 0;
            }

            foreach (var option in new[] { For, KeyEnv, CaFile })
            {
                Require(parsed.GetValue(option) is null, $"{option.Name} is '{parsed.GetValue(option)}', but means nothing without --from: name the running pool's address.");
            }

            var (users, response, interval, calls) = (Count(parsed, Users, null), Time(parsed, Response), Time(parsed, Interval), Count(parsed, CallsPerUser, 1));
            var size = PoolSizing.Recommend(users, response, interval, calls);
            if (!parsed.GetValue(Simulate))
            {
                foreach (var option in OfSimulation.Cast<Option<string?>>())
                {
                    Require(parsed.GetValue(option) is null, $"{option.Name} is '{parsed.GetValue(option)}', but means nothing without --simulate: add that, or leave it out.");
                }

                await output.WriteLineAsync(parsed.GetValue(Json) ? Document(size, null) : Page(size, users, response, interval, calls, alone: true));
                return 0;
            }

            await SimulateAsync(parsed, size, output, errors, stop);
            return 0;
        }
        catch (FormatException mistake)
        {
            return Refuse(mistake.Message, BadInput);
        }
        catch (DemoException failure)
        {
            return Refuse(failure.Message, Failed);
        }
        catch (ArgumentOutOfRangeException mistake) when (mistake.Message.Contains("must be", StringComparison.Ordinal))
        {
            // Only that all together need too many connections: the values by themselves are checked.
            return Refuse($"--users is {parsed.GetValue(Users)}: {mistake.Message[(mistake.Message.IndexOf("must be", StringComparison.Ordinal))..mistake.Message.IndexOf(". (Param", StringComparison.Ordinal)]}.", BadInput);
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            await errors.WriteLineAsync("stopped");
            return Interrupted;
        }

        int Refuse(string message, int code)
        {
            errors.WriteLine("error: " + message);
            return code;
        }
    }

    static async Task SimulateAsync(ParseResult parsed, PoolSizing size, TextWriter output, TextWriter errors, CancellationToken stop)
    {
        var settings = ReadSimulation(parsed, size.ConcurrentCalls);
        var maxWait = OptionalTime(parsed, MaxWait, TimeSpan.Zero, TimeSpan.FromDays(1), SizingCurve.DefaultMaxWait(settings));
        var range = ReadRange(parsed);
        using var svg = parsed.GetValue(SvgFile) is { } file ? OpenSvg(file) : null;
        var progress = new SizingProgress(errors);
        var report = new SizingReport(await Task.Run(() => SizingCurve.Simulate(settings, size, maxWait, range, progress.Done, stop), stop));
        progress.End();
        if (parsed.GetValue(Json))
        {
            await output.WriteLineAsync(Document(size, report.Document()));
        }
        else
        {
            await output.WriteLineAsync(Page(size, settings.Users, settings.Response, settings.Interval, settings.CallsPerUser, alone: false) + "\n");
            report.Write(CreateConsole(output));
        }

        if (svg is not null)
        {
            await svg.WriteAsync(report.Svg());
            await errors.WriteLineAsync($"wrote {parsed.GetValue(SvgFile)}");
        }
    }

    static async Task RecommendFromAsync(ParseResult parsed, TextWriter output, TextWriter errors, TimeProvider time, CancellationToken stop)
    {
        foreach (var option in OfTraffic)
        {
            Require(parsed.GetResult(option) is null or { Implicit: true }, $"{option.Name} means nothing beside --from, which reads the traffic from the pool: leave out one of them.");
        }

        TimeSpan? watch = parsed.GetValue(For) is null ? null : OptionalTime(parsed, For, TimeSpan.FromSeconds(1), TimeSpan.FromHours(24), default);
        using var source = new PoolSource(PoolSource.AddressOf(parsed.GetValue(From)!), parsed.GetValue(KeyEnv) is { } name ? ReadKey(name) : null, parsed.GetValue(CaFile) is { } file ? ReadAuthority(file) : null);
        var advice = await PoolAdvice.AdviseAsync(source, watch, errors, time, stop);
        if (parsed.GetValue(Json))
        {
            await output.WriteLineAsync(JsonSerializer.Serialize(new { Pools = advice.Select(pool => pool.Document()) }, Indented));
            return;
        }

        var console = CreateConsole(output);
        foreach (var pool in advice)
        {
            pool.Write(console);
        }
    }

    static SimulationSettings ReadSimulation(ParseResult parsed, int concurrentCalls)
    {
        var (users, response, interval, calls) = (Count(parsed, Users, null), Time(parsed, Response), Time(parsed, Interval), Count(parsed, CallsPerUser, 1));
        var never = interval <= response;
        var arrivals = parsed.GetValue(Arrivals) switch
        {
            null => never ? ArrivalKind.Closed : ArrivalKind.Poisson,
            "poisson" => ArrivalKind.Poisson,
            "even" => ArrivalKind.Even,
            "bursts" => ArrivalKind.Bursts,
            "closed" => ArrivalKind.Closed,
            _ => throw Mistake(parsed, Arrivals, "poisson, even, bursts or closed", "leave it out for poisson"),
        };
        Require(!never || arrivals is ArrivalKind.Closed, $"--arrivals is '{parsed.GetValue(Arrivals)}', but with --interval not above --response every user's calls run all the time: that is --arrivals closed.");
        Require(arrivals is not ArrivalKind.Bursts || calls > 1, "--arrivals is 'bursts', but a burst of one call is poisson: add --calls, such as --calls 5.");
        return new SimulationSettings
        {
            Users = users,
            CallsPerUser = calls,
            Response = response,
            Interval = interval,
            Arrivals = arrivals,
            Durations = parsed.GetValue(Durations) switch
            {
                null or "exponential" => DurationKind.Exponential,
                "fixed" => DurationKind.Fixed,
                "log-normal" or "lognormal" => DurationKind.LogNormal,
                _ => throw Mistake(parsed, Durations, "exponential, fixed or log-normal", "leave it out for exponential"),
            },
            IsHttp2 = parsed.GetValue(Protocol) switch { null or "h1" => false, "h2" => true, _ => throw Mistake(parsed, Protocol, "h1 or h2", "leave it out for h1") },
            Handshake = OptionalTime(parsed, Handshake, TimeSpan.Zero, TimeSpan.FromSeconds(5), TimeSpan.FromMilliseconds(80)),
            PoolTimeout = parsed.GetValue(PoolTimeout) is "infinite" ? Timeout.InfiniteTimeSpan : OptionalTime(parsed, PoolTimeout, TimeSpan.FromMilliseconds(1), TimeSpan.FromDays(1), CallTimeouts.Default.Pool),
            Calls = Number(parsed, Samples, 1_000, 10_000_000, (int)Math.Clamp(50L * concurrentCalls, 100_000, 1_000_000), "more are slower and exacter"),
            Seed = Number(parsed, Seed, 0, int.MaxValue, 1, "for example 7"),
        };
    }

    static (int From, int To)? ReadRange(ParseResult parsed)
    {
        if (parsed.GetValue(Connections) is not { } text)
        {
            return null;
        }

        var parts = text.Split('-');
        return parts.Length <= 2 && int.TryParse(parts[0], NumberStyles.None, CultureInfo.InvariantCulture, out var from) && int.TryParse(parts[^1], NumberStyles.None, CultureInfo.InvariantCulture, out var to)
            && from >= 1 && to >= from && to <= 65_535 ? (from, to) : throw Mistake(parsed, Connections, "two whole numbers from 1 to 65535, the larger one last", "for example 20-60");
    }

    static string Page(PoolSizing size, int users, TimeSpan response, TimeSpan interval, int calls, bool alone) => string.Create(CultureInfo.InvariantCulture,
        $"""
        {users} {(users == 1 ? "user" : "users")}, {calls} {(calls == 1 ? "call" : "calls")} at once each, an answer in {Duration.Format(response)}, a question every {Duration.Format(interval)}:

          calls at once       {size.ConcurrentCalls,6}
          MaxConnections      {size.MaxConnections,6}   {(HasAll(size, users, calls) ? "all that these users call at once" : "a tenth more, to the next multiple of 5")}
          MaxIdleConnections  {size.MaxIdleConnections,6}   half of it
          over HTTP/1.1       {size.DescriptorsHttp1,6}   of them opened, one for each call: about {Megabytes(size.MemoryHttp1)}
          over HTTP/2         {size.DescriptorsHttp2,6}   of them opened, for as many calls: about {Megabytes(size.MemoryHttp2)}
        """) + (alone ? $"\n\n{Outlook(size, users, calls)}\n\n{size.ToCode()}" : "");

    static bool HasAll(PoolSizing size, int users, int calls) => size.MaxConnections >= (long)users * calls;

    static string Outlook(PoolSizing size, int users, int calls) => HasAll(size, users, calls)
        ? "That is a place for every call that these users make at once: none has to wait."
        : "That is by the mean: where calls come unevenly, many of them would wait.\n--simulate says how many and how long, and which size avoids it.";

    static string Document(PoolSizing size, object? simulation)
    {
        var document = new Dictionary<string, object>
        {
            ["concurrentCalls"] = size.ConcurrentCalls,
            ["maxConnections"] = size.MaxConnections,
            ["maxIdleConnections"] = size.MaxIdleConnections,
            ["http1"] = new { Sockets = size.DescriptorsHttp1, MemoryBytes = size.MemoryHttp1 },
            ["http2"] = new { Sockets = size.DescriptorsHttp2, MemoryBytes = size.MemoryHttp2 },
            ["code"] = size.ToCode(),
        };
        if (simulation is not null)
        {
            document["simulation"] = simulation;
        }

        return JsonSerializer.Serialize(document, Indented);
    }

    static string Megabytes(long bytes) => string.Create(CultureInfo.InvariantCulture, $"{bytes / 1048576.0:0.0} MB");

    static string Needed(ParseResult parsed, Option<string?> option, string example) =>
        parsed.GetValue(option) ?? throw new FormatException($"{option.Name} is missing: for example {option.Name} {example}.");

    static int Count(ParseResult parsed, Option<string?> option, int? otherwise)
    {
        if (parsed.GetValue(option) is null && otherwise is { } value)
        {
            return value;
        }

        var text = Needed(parsed, option, "100");
        return int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number) && number >= 1
            ? number : throw new FormatException($"{option.Name} is '{text}', must be a whole number, 1 or more: for example 100.");
    }

    static TimeSpan Time(ParseResult parsed, Option<string?> option)
    {
        var text = Needed(parsed, option, "8s");
        return Duration.TryParse(text, out var time) && time > TimeSpan.Zero && time <= TimeSpan.FromDays(1)
            ? time : throw new FormatException($"{option.Name} is '{text}', must be a time with its unit, above 0 and at most a day: for example 500ms, 8s or 2m.");
    }
}
