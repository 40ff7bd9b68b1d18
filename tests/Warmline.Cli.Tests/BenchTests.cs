using System.Globalization;
using System.Text.Json;
using System.Xml.Linq;
using Warmline.MockLlm;

namespace Warmline.Cli.Tests;

/// <summary><c>bench</c>: against its own provider, and against one in this process that wants a key, has a certificate of its own authority, and misbehaves as asked.</summary>
public sealed class BenchTests : IAsyncLifetime
{
    const string Key = "sk-correct-horse-4711";

    readonly string _authority = Path.GetTempFileName();
    volatile Func<MockRequest, MockReply?>? _script;
    MockLlmServer _server = null!;

    public async ValueTask InitializeAsync()
    {
        _server = await MockLlmServer.StartAsync(new MockLlmOptions { RequiredApiKey = Key, OnRequest = request => _script?.Invoke(request) }, cancellationToken: TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(_authority, _server.CertificateAuthority.ExportCertificatePem(), TestContext.Current.CancellationToken);
    }

    public async ValueTask DisposeAsync()
    {
        await _server.DisposeAsync();
        File.Delete(_authority);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task WithoutAnAddressItBringsItsOwnProvider()
    {
        var result = await Cli.RunAsync("bench", "--calls", "30", "--rate", "60/s", "--rtt", "20", "--service", "30", "--stream", "--json");

        using var json = JsonDocument.Parse(result.Output);
        var root = json.RootElement;
        Assert.Equal(0, result.ExitCode);
        Assert.Equal((30, 30, 0), (root.GetProperty("sent").GetInt32(), root.GetProperty("answered").GetInt32(), root.GetProperty("failed").GetInt32()));
        Assert.Equal("simulated", root.GetProperty("conditions").GetProperty("endpoint").GetString());

        // Physics: nothing comes before a round trip, the service, and 15 gaps of 20 ms between 16 tokens.
        var (limit, latency, first) = (root.GetProperty("limitMs").GetDouble(), root.GetProperty("latency"), root.GetProperty("firstToken"));
        Assert.True(root.GetProperty("roundTripMs").GetDouble() >= 19, result.Output);
        Assert.True(limit >= 340, result.Output);
        Assert.True(first.GetProperty("minMs").GetDouble() is >= 45 && first.GetProperty("minMs").GetDouble() < limit, result.Output);
        Assert.True(latency.GetProperty("minMs").GetDouble() >= limit && latency.GetProperty("p50Ms").GetDouble() <= latency.GetProperty("p99Ms").GetDouble(), result.Output);
        Assert.Equal(30, root.GetProperty("histogram").EnumerateArray().Sum(bucket => bucket.GetProperty("count").GetInt32()));
        Assert.All(root.GetProperty("histogram").EnumerateArray(), bucket => Assert.True(bucket.GetProperty("toMs").GetDouble() <= bucket.GetProperty("fromMs").GetDouble() * 1.02, $"{bucket}"));
        var (lowest, highest) = (root.GetProperty("histogram")[0], root.GetProperty("histogram").EnumerateArray().Last());
        Assert.InRange(latency.GetProperty("minMs").GetDouble(), lowest.GetProperty("fromMs").GetDouble(), lowest.GetProperty("toMs").GetDouble());
        Assert.InRange(latency.GetProperty("maxMs").GetDouble(), highest.GetProperty("fromMs").GetDouble(), highest.GetProperty("toMs").GetDouble());
        Assert.Equal(1, root.GetProperty("reuseRate").GetDouble());   // warmed
        Assert.InRange(root.GetProperty("pool").GetProperty("peakConnections").GetInt32(), 1, 8);
    }

    /// <summary>One connection carries 6 calls a second and 20 come: a loop that waited for answers would never notice.</summary>
    [Fact(Timeout = Cli.TestLimit)]
    public async Task TheWaitOfCallsThatCouldNotBeSentCounts()
    {
        var result = await Cli.RunAsync("bench", "--calls", "20", "--rate", "20/s", "--arrivals", "even", "--rtt", "0", "--service", "150", "--connections", "1", "--protocols", "h1", "--json");

        using var json = JsonDocument.Parse(result.Output);
        var root = json.RootElement;
        Assert.Equal(20, root.GetProperty("answered").GetInt32());

        // The last is meant for 0.95 s and ends after 20 answers of 150 ms.
        Assert.True(root.GetProperty("latency").GetProperty("maxMs").GetDouble() >= 2_000, result.Output);
        Assert.True(root.GetProperty("limitMs").GetDouble() is >= 145 && root.GetProperty("p99TimesLimit").GetDouble() > 2, result.Output);
        Assert.Equal((1, 1, 1), (root.GetProperty("pool").GetProperty("peakLeases").GetInt32(), root.GetProperty("pool").GetProperty("capacity").GetInt32(), root.GetProperty("pool").GetProperty("peakConnections").GetInt32()));
        Assert.Equal(1, root.GetProperty("pool").GetProperty("peakUtilization").GetDouble());
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task AFullPoolIsSaidInASentence()
    {
        var result = await Cli.RunAsync("bench", "--calls", "12", "--rate", "50/s", "--arrivals", "even", "--rtt", "0", "--service", "100", "--connections", "1", "--protocols", "h1");

        Assert.Equal(0, result.ExitCode);
        Assert.Matches(@"It was full: one call in a hundred[\s\S]*Raise\s+--connections", result.Output);
        Assert.All(result.Output.Split('\n'), line => Assert.True(line.TrimEnd().Length <= 80, line));
        Assert.All(["wait for a place", "sent late", "p50", "p99", "The limit:", "Pool: 12 requests", "at equal distances (even)"], part => Assert.Contains(part, result.Output));
        Assert.DoesNotContain('\u001b', result.Output);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task AGeneratorThatCannotKeepUpSaysSo()
    {
        // Two thousand calls within two milliseconds: no machine starts a call in a microsecond.
        var result = await Cli.RunAsync("bench", "--calls", "2000", "--rate", "1000000/s", "--rtt", "0", "--service", "0", "--json");

        using var json = JsonDocument.Parse(result.Output);
        var root = json.RootElement;
        Assert.False(root.GetProperty("keptUp").GetBoolean());
        Assert.True(root.GetProperty("sentLate").GetProperty("maxMs").GetDouble() > 2, result.Output);

        // The lateness is part of a latency, as it is of the time to the first byte.
        Assert.True(root.GetProperty("latency").GetProperty("meanMs").GetDouble() >= root.GetProperty("firstByte").GetProperty("meanMs").GetDouble(), result.Output);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task ARealEndpointIsCheckedAndMeasuredAndItsKeyNeverShown()
    {
        _server.ResetCounters();
        var svg = Path.GetTempFileName();
        try
        {
            var result = await RunAsync("--calls", "10", "--rate", "100/s", "--prompt", "5000", "--svg", svg);

            Assert.True(result.ExitCode == 0, result.All);
            Assert.Equal(11, _server.GetCounters().Requests);   // one to check
            Assert.DoesNotContain(Key, result.All);
            Assert.DoesNotContain("cost money", result.Output);   // on this machine
            Assert.Contains("10 calls were sent", result.Output);
            var words = result.Output.ReplaceLineEndings(" ");
            Assert.All(["10 calls at 100/s, at random moments (poisson), to ", "One more call comes first, to check address and key. An answer has at most 16 tokens."], part => Assert.Contains(part, words));
            var text = string.Concat(XDocument.Load(svg).Root!.Descendants().Select(element => element.Value));
            Assert.All(["limit", "p50", "p99", "latency"], part => Assert.Contains(part, text));
        }
        finally
        {
            File.Delete(svg);
        }
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task FailuresAreCountedByKindAndNotTimed()
    {
        _script = request => request.Sequence == 1 ? null : (request.Sequence % 3) switch
        {
            0 => new MockReply { Status = 503, DelayBeforeHeaders = TimeSpan.Zero },
            1 => new MockReply { Fault = MockFault.Cancel },
            _ => null,
        };
        var result = await RunAsync("--calls", "12", "--rate", "200/s", "--json");

        using var json = JsonDocument.Parse(result.Output);
        var root = json.RootElement;
        Assert.Equal((4, 8), (root.GetProperty("answered").GetInt32(), root.GetProperty("failed").GetInt32()));
        Assert.Equal(4, root.GetProperty("histogram").EnumerateArray().Sum(bucket => bucket.GetProperty("count").GetInt32()));
        Assert.Equal(["HTTP 503", "broken (Unknown)"], root.GetProperty("failures").EnumerateArray().Select(failure => failure.GetProperty("kind").GetString()!).Order(StringComparer.Ordinal));
        Assert.All(root.GetProperty("failures").EnumerateArray(), failure => Assert.Equal(4, failure.GetProperty("count").GetInt32()));
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task CallsThatNobodyAnswersEndInFailure()
    {
        _script = request => request.Sequence == 1 ? null : new MockReply { Status = 500 };
        var result = await RunAsync("--calls", "3", "--rate", "100/s");

        Assert.Equal(1, result.ExitCode);
        Assert.Contains("3 x HTTP 500", result.Output);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task WithoutBeingToldMoreItMakes50CallsToAProviderElsewhere()
    {
        // Reserved for documentation: nobody is there, and the check fails before a call is made; what it would have made is said before.
        var result = await Cli.RunAsync("bench", "https://api.provider.invalid", "--rate", "20/s", "--for", "60s");

        Assert.Equal(1, result.ExitCode);
        Assert.StartsWith("50 calls at 20/s, at random moments (poisson), to https://api.provider.invalid/v1/chat/completions", result.Output.ReplaceLineEndings(" "), StringComparison.Ordinal);
        Assert.Matches(@"Real\s+calls\s+cost\s+money", result.Output);
        Assert.Contains("--calls 1200", result.Output.ReplaceLineEndings(" "));
        Assert.StartsWith("error: cannot reach", result.Errors, StringComparison.Ordinal);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task AWrongKeyIsOneLineBeforeAnythingIsMeasured()
    {
        var result = await Cli.RunAsync([("WARMLINE_TEST_KEY", "sk-battery-staple-0815")], "bench", _server.BaseAddress.ToString(), "--ca-file", _authority, "--key-env", "WARMLINE_TEST_KEY");

        Assert.Equal(1, result.ExitCode);
        Assert.Contains("401", result.Errors);
        Assert.DoesNotContain("sk-battery", result.All);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task CtrlCEndsItWithWhatWasMeasured()
    {
        using var process = Cli.Start([], "bench", "--rate", "50/s", "--for", "1h", "--rtt", "0", "--service", "1");
        try
        {
            // The first line that tells of answers; from then on there is something to sum up.
            while (await process.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken) is { } line && !line.Contains("p99", StringComparison.Ordinal))
            {
            }

            using var interrupt = System.Diagnostics.Process.Start("kill", ["-INT", process.Id.ToString(CultureInfo.InvariantCulture)]);
            var rest = await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
            await process.WaitForExitAsync(TestContext.Current.CancellationToken);

            Assert.Equal(130, process.ExitCode);
            Assert.Matches(@"Stopped after \d+ of 180000 calls", rest.ReplaceLineEndings(" "));
            Assert.Contains("The limit:", rest);
        }
        finally
        {
            process.Kill();
            await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        }
    }

    [Theory(Timeout = Cli.TestLimit)]
    [InlineData("--rate is 'fast', must be calls a second, minute or hour, at most 1000000/s: for example 20/s or 90/m.", "--rate", "fast")]
    [InlineData("--for is '30', must be a time with its unit, from 100ms to 24h: for example 500ms, 8s or 2m.", "--for", "30")]
    [InlineData("--warm is '9', must be a whole number from 0 to 5: 0 starts cold.", "--connections", "5", "--warm", "9")]
    [InlineData("--arrivals is 'closed', must be poisson or even: leave it out for poisson.", "--arrivals", "closed")]
    [InlineData("--model is 'm', but means nothing without an address: name the endpoint, such as warmline bench https://api.openai.com.", "--model", "m")]
    [InlineData("--rtt is '5', but only the simulated provider obeys it: leave out --rtt or the address.", "https://127.0.0.1:1", "--rtt", "5")]
    [InlineData("the address is 'api.openai.com', must be an absolute https or http address without user name: for example https://api.openai.com.", "api.openai.com")]
    public async Task AMistakeIsOneSentence(string sentence, params string[] arguments)
    {
        var result = await Cli.RunAsync(["bench", .. arguments]);

        Assert.Equal((2, "", "error: " + sentence), (result.ExitCode, result.Output, result.Errors.TrimEnd()));
    }

    Task<CliResult> RunAsync(params string[] more) => Cli.RunAsync(
        [("WARMLINE_TEST_KEY", Key)], ["bench", _server.BaseAddress.ToString(), "--key-env", "WARMLINE_TEST_KEY", "--ca-file", _authority, .. more]);
}
