using System.Globalization;
using System.Text.Json;
using System.Xml.Linq;

namespace Warmline.Cli.Tests;

/// <summary><c>size --simulate</c>: what it shows, and whether it is true where theory knows the truth.</summary>
public sealed class SizeSimulationTests
{
    static readonly string[] FormulaAt = ["size", "--users", "100", "--response", "8s", "--interval", "30s"];

    /// <summary>Poisson arrivals, exponential durations, HTTP/1.1, no handshake, nobody refused: M/M/c. Deterministic, as the seed is given; other seeds came within 2 % as well.</summary>
    [Theory(Timeout = Cli.TestLimit)]
    [InlineData(100, 50, 3, 4)]
    [InlineData(80, 10, 10, 12)]
    [InlineData(270, 10, 31, 33)]
    public async Task WaitsAreThoseOfQueueingTheory(int users, int interval, int from, int to)
    {
        var pools = await PoolsAsync("--users", $"{users}", "--response", "1s", "--interval", $"{interval}s", "--connections", $"{from}-{to}", "--samples", "2000000", "--handshake", "0ms", "--pool-timeout", "infinite");

        Assert.Equal(Enumerable.Range(from, to - from + 1), pools.Select(pool => pool.GetProperty("connections").GetInt32()));
        var load = (double)users / interval;
        foreach (var pool in pools)
        {
            var places = pool.GetProperty("connections").GetInt32();
            var waiting = ErlangC(load, places);
            Near(waiting, pool.GetProperty("waiting").GetDouble(), 0.05);
            Near(1000 * waiting / (places - load), pool.GetProperty("waitMeanMs").GetDouble(), 0.05);
            Near(load, pool.GetProperty("inFlightMean").GetDouble(), 0.01);   // Little
            foreach (var (share, name) in new[] { (0.9, "waitP90Ms"), (0.99, "waitP99Ms") })
            {
                Near(1000 * Math.Max(0, Math.Log(waiting / (1 - share)) / (places - load)), pool.GetProperty(name).GetDouble(), 0.05);
            }

            Assert.Equal(0, pool.GetProperty("refused").GetDouble());
            Assert.InRange(pool.GetProperty("socketsPeak").GetInt32(), 1, places);
        }
    }

    /// <summary>One connection: Pollaczek and Khinchine know the mean wait for any durations.</summary>
    [Theory(Timeout = Cli.TestLimit)]
    [InlineData("fixed", 0)]
    [InlineData("exponential", 1)]
    [InlineData("log-normal", 1)]
    public async Task DurationsHaveTheirSpread(string durations, double squaredVariation)
    {
        var pool = Assert.Single(await PoolsAsync("--users", "5", "--response", "1s", "--interval", "10s", "--durations", durations, "--connections", "1-1", "--samples", "2000000", "--handshake", "0ms", "--pool-timeout", "infinite"));

        const double Load = 0.5;
        Near(1000 * Load / (1 - Load) * (1 + squaredVariation) / 2, pool.GetProperty("waitMeanMs").GetDouble(), 0.05);
        Near(Load, pool.GetProperty("inFlightMean").GetDouble(), 0.02);
    }

    /// <summary>Users who wait for their answers: an arrival sees the queue of the others (M/M/c with a finite population).</summary>
    [Fact(Timeout = Cli.TestLimit)]
    public async Task ClosedUsersMeetEachOther()
    {
        const int Users = 20;
        var pools = await PoolsAsync("--users", $"{Users}", "--response", "1s", "--interval", "4s", "--arrivals", "closed", "--connections", "5-7", "--samples", "500000", "--handshake", "0ms", "--pool-timeout", "infinite");

        foreach (var pool in pools)
        {
            // Of the others, n have a call in the pool with a weight that follows from n - 1: those who think may ask, those in service end.
            var places = pool.GetProperty("connections").GetInt32();
            var weights = new double[Users];
            weights[0] = 1;
            for (var n = 1; n < Users; n++)
            {
                weights[n] = weights[n - 1] * (Users - n) / 3 / Math.Min(n, places);
            }

            Near(weights.Skip(places).Sum() / weights.Sum(), pool.GetProperty("waiting").GetDouble(), 0.05);
        }

        Assert.Equal(3, pools.Count);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task EvenCallsOfFixedLengthNeverWait()
    {
        // 4 a second of 2 s each: 8 are always in flight, and the ninth comes when the first ends.
        var pools = await PoolsAsync("--users", "40", "--response", "2s", "--interval", "10s", "--arrivals", "even", "--durations", "fixed", "--connections", "7-9", "--samples", "20000", "--handshake", "0ms");

        Assert.True(pools[0].GetProperty("refused").GetDouble() > 0.1, "7 cannot carry 8 calls");
        Assert.Equal([0, 0], pools.Skip(1).Select(pool => pool.GetProperty("waiting").GetDouble()));
        Assert.Equal(8, pools[2].GetProperty("inFlightPeak").GetInt32());
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task BurstsNeedMoreThanSingleCalls()
    {
        string[] traffic = ["--users", "20", "--calls", "5", "--response", "1s", "--interval", "10s", "--connections", "14-14", "--samples", "50000", "--handshake", "0ms"];
        var (alone, together) = (Assert.Single(await PoolsAsync([.. traffic, "--arrivals", "poisson"])), Assert.Single(await PoolsAsync([.. traffic, "--arrivals", "bursts"])));

        Near(alone.GetProperty("inFlightMean").GetDouble(), together.GetProperty("inFlightMean").GetDouble(), 0.05);
        Assert.True(together.GetProperty("waiting").GetDouble() > 1.5 * alone.GetProperty("waiting").GetDouble(), "five calls at once find fewer places free than five calls apart");
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task ADialCostsAHandshakeAndTheTimeoutEndsAWait()
    {
        // Calls further apart than the idle timeout: each pays for its own connection.
        var rare = Assert.Single(await PoolsAsync("--users", "1", "--response", "1s", "--interval", "1000s", "--arrivals", "even", "--connections", "5-5", "--samples", "1000", "--handshake", "500ms"));
        Assert.Equal((500, 500, 1, 1), (rare.GetProperty("waitP50Ms").GetDouble(), rare.GetProperty("waitMaxMs").GetDouble(), rare.GetProperty("waiting").GetDouble(), rare.GetProperty("dialsPerCall").GetDouble()));

        var crowded = Assert.Single(await PoolsAsync("--users", "10", "--response", "1s", "--interval", "2s", "--connections", "2-2", "--samples", "20000", "--pool-timeout", "3s"));
        Assert.Equal((3000, 3000), (crowded.GetProperty("waitP50Ms").GetDouble(), crowded.GetProperty("waitMaxMs").GetDouble()));   // who is refused has waited as well
        Near(0.6, crowded.GetProperty("refused").GetDouble(), 0.05);   // 5 calls a second come, 2 go
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task OverHttp2AFewConnectionsCarryThemAll()
    {
        var result = await Cli.RunAsync([.. FormulaAt, "--simulate", "--protocol", "h2", "--samples", "20000", "--json"]);

        using var json = JsonDocument.Parse(result.Output);
        var simulation = json.RootElement.GetProperty("simulation");
        Assert.InRange(simulation.GetProperty("kneeConnections").GetInt32(), 1, 4);   // 32 calls each, and one may be draining at the end of its lifetime
        Assert.All(simulation.GetProperty("pools").EnumerateArray(), pool => Assert.InRange(pool.GetProperty("socketsPeak").GetInt32(), 1, 8));
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task TheKneeIsTheSmallestSizeFromWhichOnTheBoundHolds()
    {
        var result = await Cli.RunAsync([.. FormulaAt, "--simulate", "--samples", "20000", "--max-wait", "1s", "--json"]);

        using var json = JsonDocument.Parse(result.Output);
        Assert.Equal(30, json.RootElement.GetProperty("maxConnections").GetInt32());
        var simulation = json.RootElement.GetProperty("simulation");
        var pools = simulation.GetProperty("pools").EnumerateArray().Select(pool => (Size: pool.GetProperty("connections").GetInt32(), P99: pool.GetProperty("waitP99Ms").GetDouble())).ToArray();
        var knee = simulation.GetProperty("kneeConnections").GetInt32();
        Assert.Equal(pools.OrderBy(pool => pool.Size), pools);
        Assert.All(pools.Where(pool => pool.Size >= knee), pool => Assert.True(pool.P99 <= 1000, $"{pool}"));
        Assert.Contains(pools, pool => pool.Size == knee - 1 && pool.P99 > 1000);   // no smaller size was overlooked
        Assert.Contains(pools, pool => pool.Size == 30);
        Assert.Equal($"new ConnectionPoolOptions {{ MaxConnections = {knee}, MaxIdleConnections = {(knee + 1) / 2} }}", simulation.GetProperty("code").GetString());
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task TheSameSeedGivesTheSameFiguresAndAnotherOneOthers()
    {
        string[] arguments = [.. FormulaAt, "--simulate", "--samples", "2000", "--json", "--seed"];
        var (first, again, other) = (await Cli.RunAsync([.. arguments, "7"]), await Cli.RunAsync([.. arguments, "7"]), await Cli.RunAsync([.. arguments, "8"]));

        Assert.Equal(first.Output, again.Output);
        Assert.NotEqual(first.Output.Replace("\"seed\": 7", "", StringComparison.Ordinal), other.Output.Replace("\"seed\": 8", "", StringComparison.Ordinal));
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task ThePageIsMadeFor80ColumnsAndEndsInTheCode()
    {
        var svg = Path.GetTempFileName();
        try
        {
            var result = await Cli.RunAsync([.. FormulaAt, "--simulate", "--samples", "5000", "--svg", svg]);

            Assert.Equal(0, result.ExitCode);
            Assert.All(result.Output.Split('\n'), line => Assert.True(line.TrimEnd().Length <= 80, line));
            Assert.DoesNotContain('\u001b', result.Output);
            Assert.Matches(@"(?m)^ *30 .* formula *$", result.Output);
            Assert.Matches(@"(?m)^> \d+ .* knee *$", result.Output);
            Assert.Contains("The knee is the smallest size whose p99 wait", result.Output);
            Assert.Contains("seed 1", result.Output);
            Assert.Matches(@"new ConnectionPoolOptions \{ MaxConnections = \d+, MaxIdleConnections = \d+ \}$", result.Output.TrimEnd());
            Assert.Single(result.Output.Split('\n'), line => line.Contains("new ConnectionPoolOptions", StringComparison.Ordinal));   // one recommendation
            Assert.Matches(@"(?m)^  30 connections: p99 wait ", result.Errors);

            var picture = XDocument.Load(svg);
            Assert.Equal("svg", picture.Root!.Name.LocalName);
            var text = string.Concat(picture.Root.Descendants().Select(element => element.Value));
            Assert.All(["formula 30", "knee", "MaxConnections", "prefers-color-scheme: dark"], part => Assert.Contains(part, text));
            Assert.DoesNotContain("href", await File.ReadAllTextAsync(svg, TestContext.Current.CancellationToken));   // nothing of others
        }
        finally
        {
            File.Delete(svg);
        }
    }

    [Theory(Timeout = Cli.TestLimit)]
    [InlineData("--arrivals is 'now and then', must be poisson, even, bursts or closed: leave it out for poisson.", "--simulate", "--arrivals", "now and then")]
    [InlineData("--arrivals is 'bursts', but a burst of one call is poisson: add --calls, such as --calls 5.", "--simulate", "--arrivals", "bursts")]
    [InlineData("--durations is 'long', must be exponential, fixed or log-normal: leave it out for exponential.", "--simulate", "--durations", "long")]
    [InlineData("--handshake is '6s', must be a time with its unit, from 0ms to 5s: for example 500ms, 8s or 2m.", "--simulate", "--handshake", "6s")]
    [InlineData("--connections is '60-20', must be two whole numbers from 1 to 65535, the larger one last: for example 20-60.", "--simulate", "--connections", "60-20")]
    [InlineData("--samples is '10', must be a whole number from 1000 to 10000000: more are slower and exacter.", "--simulate", "--samples", "10")]
    [InlineData("--seed is '7', but means nothing without --simulate: add that, or leave it out.", "--seed", "7")]
    [InlineData("--for is '10s', but means nothing without --from: name the running pool's address.", "--for", "10s")]
    [InlineData("--users means nothing beside --from, which reads the traffic from the pool: leave out one of them.", "--from", "http://localhost:5000")]
    public async Task AMistakeIsOneSentence(string sentence, params string[] arguments)
    {
        var result = await Cli.RunAsync([.. FormulaAt, .. arguments]);

        Assert.Equal((2, "", "error: " + sentence), (result.ExitCode, result.Output, result.Errors.TrimEnd()));
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task UsersWhoNeverPauseAreClosed()
    {
        string[] busy = ["size", "--users", "6", "--response", "8s", "--interval", "8s", "--simulate", "--samples", "1000"];
        using var json = JsonDocument.Parse((await Cli.RunAsync([.. busy, "--json"])).Output);
        Assert.Equal("closed", json.RootElement.GetProperty("simulation").GetProperty("arrivals").GetString());
        Assert.All(json.RootElement.GetProperty("simulation").GetProperty("pools").EnumerateArray(), pool => Assert.InRange(pool.GetProperty("inFlightPeak").GetInt32(), 1, 6));

        var refused = await Cli.RunAsync([.. busy, "--arrivals", "poisson"]);
        Assert.Equal(2, refused.ExitCode);
        Assert.Contains("--arrivals closed", refused.Errors);
    }

    static async Task<IReadOnlyList<JsonElement>> PoolsAsync(params string[] arguments)
    {
        var result = await Cli.RunAsync(["size", "--simulate", "--seed", "1", "--json", .. arguments]);
        Assert.True(result.ExitCode == 0, result.Errors);
        using var json = JsonDocument.Parse(result.Output);
        return [.. json.RootElement.GetProperty("simulation").GetProperty("pools").EnumerateArray().Select(pool => pool.Clone())];
    }

    /// <summary>The share of calls that wait in M/M/c: the textbook's sum.</summary>
    static double ErlangC(double load, int places)
    {
        double term = 1, sum = 0;
        for (var n = 0; n < places; n++)
        {
            sum += term;
            term *= load / (n + 1);
        }

        var all = term * places / (places - load);
        return all / (sum + all);
    }

    static void Near(double expected, double actual, double tolerance) => Assert.True(Math.Abs(actual - expected) <= Math.Abs(expected) * tolerance,
        string.Create(CultureInfo.InvariantCulture, $"{actual} is {(actual / expected) - 1:P1} from {expected}"));
}
