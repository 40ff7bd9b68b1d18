using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace Warmline.Cli.Tests;

/// <summary><c>size --from</c>: against a server in this process that gives the stats document which MapPoolStats gives.</summary>
public sealed class SizeFromTests : IAsyncLifetime
{
    WebApplication _application = null!;
    string _address = "";
    int _asked;
    volatile Func<int, HttpContext, IResult> _answer = (_, _) => Results.NotFound();

    public async ValueTask InitializeAsync()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        _application = builder.Build();
        _application.Urls.Add("http://127.0.0.1:0");
        _application.MapGet("/warmline/stats", context => _answer(Interlocked.Increment(ref _asked), context).ExecuteAsync(context));
        await _application.StartAsync(TestContext.Current.CancellationToken);
        _address = _application.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Single();
    }

    public ValueTask DisposeAsync() => _application.DisposeAsync();

    [Fact(Timeout = Cli.TestLimit)]
    public async Task AFullPoolThatRefusedIsToBeRaised()
    {
        // 3 calls a second of 8 s each: 24 in flight by Little's law, in a pool of 20.
        Answer(Stats(age: 1000, requests: 3000, lease: 8, max: 20, peak: 20, peakConnections: 20, maxWait: 10, refused: new() { ["maxConnections"] = 420 }));
        var result = await Cli.RunAsync("size", "--from", _address);

        Assert.Equal((0, ""), (result.ExitCode, result.Errors));
        Assert.Matches(@"arrivals +3/s", result.Output);
        Assert.Matches(@"in flight, mean +24 ", result.Output);
        Assert.Contains("420 calls were refused", result.Output.ReplaceLineEndings(" "));
        Assert.Matches(@"Raise MaxConnections from 20 to (3[5-9]|4[0-5]):", result.Output);
        Assert.Matches(@"new ConnectionPoolOptions \{ MaxConnections = \d+, MaxIdleConnections = \d+ \}$", result.Output.TrimEnd());
        Assert.All(result.Output.Split('\n'), line => Assert.True(line.TrimEnd().Length <= 80, line));
    }

    [Theory(Timeout = Cli.TestLimit)]
    [InlineData("1.1", 200, "lower", 15)]    // 5 in flight and 9 at most in 200 connections
    [InlineData("1.1", 20, "keep", 20)]
    [InlineData("2.0", 50, "lower", 5)]      // 11 places on connections that carry 32, spread 8 to each
    [InlineData("2.0", 5, "keep", 5)]
    public async Task APoolThatIsLargeEnoughIsKeptOrLowered(string http, int max, string verdict, int recommended)
    {
        Answer(Stats(age: 200, requests: 1000, lease: 1, max: max, peak: 9, peakConnections: http == "2.0" ? 2 : 9, maxWait: 0.08, http: http));
        var pool = await AdviceAsync();

        Assert.Equal((verdict, recommended), (pool.GetProperty("verdict").GetString(), pool.GetProperty("recommended").GetProperty("maxConnections").GetInt32()));
        Assert.Equal(5, pool.GetProperty("meanInFlight").GetDouble());
        Assert.Equal(http == "2.0" ? "2" : "1.1", pool.GetProperty("http").GetString());
    }

    [Theory(Timeout = Cli.TestLimit)]
    [InlineData(1.0)]
    [InlineData(0.3)]    // idle connections are no more taken away than others
    public async Task FewCallsAreNoReasonToShrink(double reuse)
    {
        Answer(Stats(age: 199.8, requests: 999, lease: 1, max: 200, peak: 9, peakConnections: 9, maxWait: 0.08, reused: (long)(999 * reuse)));
        var pool = await AdviceAsync();

        Assert.Equal(("keep", 200), (pool.GetProperty("verdict").GetString(), pool.GetProperty("recommended").GetProperty("maxConnections").GetInt32()));
        Assert.True(pool.GetProperty("recommended").GetProperty("maxIdleConnections").GetInt32() >= 100);
        Assert.Contains("Only 999 calls were seen: too few to shrink a pool by.", pool.GetProperty("why").EnumerateArray().Select(sentence => sentence.GetString()));
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task FewCallsThatWereRefusedAreAReasonToGrow()
    {
        Answer(Stats(age: 10, requests: 60, lease: 2, max: 5, peak: 5, peakConnections: 5, maxWait: 9, refused: new() { ["maxConnections"] = 12 }));
        var pool = await AdviceAsync();

        Assert.Equal("raise", pool.GetProperty("verdict").GetString());
        Assert.DoesNotContain("too few to shrink", pool.GetProperty("why").ToString());
    }

    [Theory(Timeout = Cli.TestLimit)]
    [InlineData(100_000, "0.0003", "<0.01/s", "<0.01", "less than 0.01 calls")]
    [InlineData(1000, "0.5", "0.03/s", "0.02", "0.02 calls")]
    [InlineData(10, "0.5", "3/s", "1.5", "1.5 calls")]
    public async Task ASmallMeanIsNotShownAsNone(double age, string lease, string arrivals, string inFlight, string sentence)
    {
        Answer(Stats(age, requests: 30, lease: double.Parse(lease, System.Globalization.CultureInfo.InvariantCulture), max: 5, peak: 2, peakConnections: 2, maxWait: 0));
        var result = await Cli.RunAsync("size", "--from", _address);

        Assert.Contains($"  {arrivals}", result.Output);
        Assert.Matches($" {inFlight}   arrivals times that", result.Output);
        Assert.Contains($" {sentence} are in flight on average", result.Output.ReplaceLineEndings(" "));
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task WhatIsMissingMayBeAnotherLimit()
    {
        Answer(Stats(age: 100, requests: 2000, lease: 1, max: 50, peak: 20, peakConnections: 8, maxWait: 9, http: "2.0", concurrent: 20, refused: new() { ["maxConcurrentRequests"] = 40, ["laneCeiling"] = 2 }));
        var pool = await AdviceAsync();

        Assert.True(pool.GetProperty("recommended").GetProperty("maxConcurrentRequests").GetInt32() > 20);
        var why = string.Join(' ', pool.GetProperty("why").EnumerateArray().Select(sentence => sentence.GetString()));
        Assert.Contains("Raise MaxConcurrentRequests from 20", why);
        Assert.Contains("2 calls were refused for laneCeiling", why);
        Assert.DoesNotContain("Raise MaxConnections", why);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task ConnectionsThatAreNotKeptAreSeen()
    {
        Answer(Stats(age: 100, requests: 1000, lease: 1, max: 20, peak: 16, peakConnections: 20, maxWait: 0.1, reused: 300));
        var pool = await AdviceAsync();

        Assert.True(pool.GetProperty("recommended").GetProperty("maxIdleConnections").GetInt32() > 10);
        Assert.Contains("Only 30 % of the calls found a connection open", pool.GetProperty("why").ToString());
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task TwoReadingsTellOfTheTimeBetween()
    {
        // 1,000 s of nearly nothing, then 10 s with 20 calls a second of 2 s each.
        _answer = (asked, _) => Json(asked == 1
            ? Stats(age: 1000, requests: 100, lease: 0.5, max: 100, peak: 5, peakConnections: 5, maxWait: 0)
            : Stats(age: 1010, requests: 300, lease: 1.5, max: 100, peak: 45, peakConnections: 45, maxWait: 0));
        var result = await Cli.RunAsync("size", "--from", _address + "/warmline/stats", "--for", "1s", "--json");

        using var json = JsonDocument.Parse(result.Output);
        var pool = json.RootElement.GetProperty("pools")[0];
        Assert.Equal((10, 20, 2000, 40), (pool.GetProperty("seconds").GetDouble(), pool.GetProperty("arrivalsPerSecond").GetDouble(), pool.GetProperty("meanLeaseMs").GetDouble(), pool.GetProperty("meanInFlight").GetDouble()));
        Assert.Equal(2, _asked);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task APoolThatBeganAnewBetweenIsNoneToJudge()
    {
        _answer = (asked, _) => Json(Stats(age: asked == 1 ? 1000 : 1, requests: asked == 1 ? 100 : 30, lease: 1, max: 10, peak: 5, peakConnections: 5, maxWait: 0));
        AssertError(await Cli.RunAsync("size", "--from", _address, "--for", "1s"), "began anew");
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task APoolThatHasSeenTooLittleIsNotJudged()
    {
        Answer(Stats(age: 12, requests: 3, lease: 1, max: 10, peak: 1, peakConnections: 1, maxWait: 0));
        AssertError(await Cli.RunAsync("size", "--from", _address), "the pool 'llm' has seen too little: 3 calls ended in 12 s");
    }

    [Theory(Timeout = Cli.TestLimit)]
    [InlineData(403, "AllowRemote")]
    [InlineData(401, "--key-env")]
    [InlineData(404, "app.MapPoolStats()")]
    [InlineData(500, "answered 500")]
    public async Task ARefusalComesWithTheRemedy(int status, string remedy)
    {
        _answer = (_, _) => Results.StatusCode(status);
        AssertError(await Cli.RunAsync("size", "--from", _address), remedy);
    }

    [Theory(Timeout = Cli.TestLimit)]
    [InlineData("<html>hello</html>")]
    [InlineData("[]")]
    [InlineData("{\"pools\":[{\"name\":\"llm\",\"stats\":{}}]}")]
    [InlineData("{\"pools\":[{\"name\":\"llm\",\"stats\":{\"granted\":-1,\"active\":0}}]}")]
    [InlineData("{\"pools\":[{\"name\":\"llm\",\"stats\":{\"granted\":\"many\",\"active\":0}}]}")]
    public async Task WhatIsNoStatsDocumentIsSaidToBeNone(string body)
    {
        _answer = (_, _) => Results.Text(body);
        AssertError(await Cli.RunAsync("size", "--from", _address), "not with the stats of a pool");
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task ATokenGoesAlongAndIsNotShown()
    {
        _answer = (_, context) => context.Request.Headers.Authorization == "Bearer token-4711" ? Json(Stats(age: 100, requests: 500, lease: 1, max: 20, peak: 9, peakConnections: 9, maxWait: 0)) : Results.StatusCode(401);
        var result = await Cli.RunAsync([("WARMLINE_TEST_TOKEN", "token-4711")], "size", "--from", _address, "--key-env", "WARMLINE_TEST_TOKEN");

        Assert.Equal(0, result.ExitCode);
        Assert.DoesNotContain("token-4711", result.All);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task NobodyThereIsOneLine()
    {
        using var taken = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        taken.Bind(new IPEndPoint(IPAddress.Loopback, 0));   // bound and not listening: refused, and nobody else gets the port
        AssertError(await Cli.RunAsync("size", "--from", $"http://127.0.0.1:{((IPEndPoint)taken.LocalEndPoint!).Port}"), "Connection refused). Does the application run, and is that its address? It logs 'Now listening on: …'.");

        var mistake = await Cli.RunAsync("size", "--from", "localhost:5000");
        Assert.Equal(2, mistake.ExitCode);
        Assert.Contains("must be an absolute https or http address", mistake.Errors);
    }

    static void AssertError(CliResult result, string part)
    {
        Assert.Equal((1, ""), (result.ExitCode, result.Output));
        var lines = result.Errors.TrimEnd().Split('\n');
        Assert.StartsWith("error: ", lines[^1], StringComparison.Ordinal);
        Assert.Contains(part, lines[^1]);
    }

    async Task<JsonElement> AdviceAsync()
    {
        var result = await Cli.RunAsync("size", "--from", _address, "--json");
        Assert.True(result.ExitCode == 0, result.Errors);
        using var json = JsonDocument.Parse(result.Output);
        return Assert.Single(json.RootElement.GetProperty("pools").EnumerateArray()).Clone();
    }

    void Answer(JsonObject stats) => _answer = (_, _) => Json(stats);

    static IResult Json(JsonObject stats) => Results.Text(
        new JsonObject { ["pools"] = new JsonArray(new JsonObject { ["name"] = "llm", ["stats"] = stats.DeepClone(), ["waiters"] = new JsonArray(), ["streams"] = new JsonArray() }) }.ToJsonString(), "application/json");

    /// <summary>A document as MapPoolStats writes it, of a pool whose calls have all ended.</summary>
    static JsonObject Stats(double age, long requests, double lease, int max, int peak, int peakConnections, double maxWait, string http = "1.1", int? concurrent = null, Dictionary<string, long>? refused = null, long? reused = null)
    {
        var granted = requests - (refused?.Values.Sum() ?? 0);
        return new JsonObject
        {
            ["name"] = "llm",
            ["ageSeconds"] = age,
            ["totalRequests"] = requests,
            ["granted"] = granted,
            ["reusedConnections"] = reused ?? granted,
            ["newConnections"] = peakConnections,
            ["active"] = 0,
            ["peakActive"] = peak,
            ["connections"] = peakConnections,
            ["peakConnections"] = peakConnections,
            ["maxConnections"] = max,
            ["maxIdleConnections"] = (max + 1) / 2,
            ["maxConcurrentRequests"] = concurrent,
            ["queued"] = 0,
            ["refused"] = requests - granted,
            ["refusedBy"] = new JsonObject((refused ?? []).Select(reason => KeyValuePair.Create(reason.Key, (JsonNode?)reason.Value))),
            ["queueWaitSeconds"] = maxWait / 10,
            ["maxQueueWaitSeconds"] = maxWait,
            ["averageLeaseSeconds"] = lease,
            ["averageHandshakeSeconds"] = 0.08,
            ["utilization"] = 0.0,
            ["origins"] = new JsonArray(new JsonObject { ["origin"] = "https://api.openai.com", ["partition"] = "", ["httpVersion"] = http, ["streamLimit"] = http == "2.0" ? 100 : null, ["totalRequests"] = requests, ["active"] = 0, ["peakActive"] = peak }),
        };
    }
}
