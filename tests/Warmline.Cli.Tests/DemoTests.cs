using System.Diagnostics;
using System.Text.Json;

namespace Warmline.Cli.Tests;

/// <summary>The demo against its own simulated provider. No figure has an upper bound in time: a slow machine is no failure.</summary>
public sealed class DemoTests
{
    static readonly string[] WayNames = ["client-per-call", "dotnet-default", "warmline-cold", "warmline-warmed"];

    static readonly string[] Figures =
    [
        "wallMs", "wallTimesLimit", "latencySumMs", "latencyMeanMs", "latencyP50Ms", "latencyP99Ms", "latencySumIdealMs", "latencySumBeyondIdealMs", "sockets", "handshakeMs",
        "reuseRate", "savedMs", "cpuMs", "failures",
    ];

    [Fact(Timeout = Cli.TestLimit)]
    public async Task JsonHoldsEveryFigureAndNothingElseIsOnStandardOutput()
    {
        const int Calls = 30;
        var result = await Cli.RunAsync("demo", "--json", "--calls", "30", "--rtt", "50", "--service", "0");

        Assert.Equal(0, result.ExitCode);
        using var json = JsonDocument.Parse(result.Output);   // fails when anything stands before or after the document
        var conditions = json.RootElement.GetProperty("conditions");
        Assert.Equal("burst", conditions.GetProperty("scenario").GetString());
        Assert.Equal(Calls, conditions.GetProperty("calls").GetInt32());
        Assert.Equal(50, conditions.GetProperty("limitMs").GetDouble());
        var ways = json.RootElement.GetProperty("ways");
        Assert.Equal(WayNames, ways.EnumerateArray().Select(way => way.GetProperty("way").GetString()));
        foreach (var way in ways.EnumerateArray())
        {
            Assert.All(Figures, figure => Assert.Equal(JsonValueKind.Number, way.GetProperty(figure).ValueKind));
            Assert.Equal(0, way.GetProperty("failures").GetInt32());
            Assert.True(way.GetProperty("wallMs").GetDouble() >= 50);
            Assert.True(way.GetProperty("latencySumMs").GetDouble() >= Calls * 50);
        }

        Assert.Equal(Calls, ways[0].GetProperty("sockets").GetInt32());
        Assert.Equal(0, ways[0].GetProperty("reuseRate").GetDouble());
        Assert.True(ways[0].GetProperty("handshakeMs").GetDouble() >= Calls * 150, "DNS, TCP and TLS take a round trip each");
        Assert.True(ways[0].GetProperty("wallMs").GetDouble() >= 200);
        Assert.InRange(ways[2].GetProperty("sockets").GetInt32(), 1, 8);
        Assert.True(ways[2].GetProperty("reuseRate").GetDouble() > 0.5);
        Assert.InRange(ways[3].GetProperty("sockets").GetInt32(), 1, 8);
        Assert.Equal(1, ways[3].GetProperty("reuseRate").GetDouble());
        Assert.True(ways[3].GetProperty("warmUpMs").GetDouble() >= 150);
        Assert.StartsWith("Pool: 30 requests | reuse=100.0%", ways[3].GetProperty("poolStats").GetString());
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task RedirectedOutputIsPlainTextWithTableAndPicture()
    {
        var result = await Cli.RunAsync("demo", "--calls", "20", "--rtt", "5", "--service", "5");

        Assert.Equal(0, result.ExitCode);
        Assert.Equal("", result.Errors);
        Assert.DoesNotContain('\u001b', result.Output);
        Assert.All(["wall time", "times the limit", "latency, summed", "latency, p50", "latency, p99", "sockets opened", "handshakes, summed", "reused a connection", "longest wait in queue",
            "CPU, both sides", "failures", "Sockets opened (fewer is better)", "█", "Pool: 20 requests", "How it was measured:", "The limit is what nobody can beat: one round trip (5.0 ms)", "10 ms in all", "Next:"], part => Assert.Contains(part, result.Output));
        Assert.All(result.Output.Split('\n'), line => Assert.True(line.Length <= 80, $"wider than 80 columns: {line}"));
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task RoundsAreCounted()
    {
        var result = await Cli.RunAsync("demo", "--calls", "4", "--rounds", "3", "--rtt", "1", "--service", "1");

        Assert.Equal(0, result.ExitCode);
        Assert.Contains("client per call: 12/12 calls", result.Output);
        Assert.Contains("median of 3 rounds", result.Output);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task AgentKeepsOneConnection()
    {
        var result = await Cli.RunAsync("demo", "--json", "--scenario", "agent", "--rtt", "4", "--service", "2");

        Assert.Equal(0, result.ExitCode);
        using var json = JsonDocument.Parse(result.Output);
        Assert.Equal(20, json.RootElement.GetProperty("conditions").GetProperty("calls").GetInt32());
        Assert.Equal(20 * 6, json.RootElement.GetProperty("conditions").GetProperty("limitMs").GetDouble());
        var ways = json.RootElement.GetProperty("ways");
        Assert.Equal([20, 1, 1, 1], ways.EnumerateArray().Select(way => way.GetProperty("sockets").GetInt32()));
        Assert.Equal([0, 0.95, 0.95, 1], ways.EnumerateArray().Select(way => way.GetProperty("reuseRate").GetDouble()));
        Assert.All(ways.EnumerateArray(), way => Assert.True(way.GetProperty("wallMs").GetDouble() >= 20 * 6));
        Assert.True(ways[3].GetProperty("savedMs").GetDouble() > 0);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task AgentPrintsItsOwnTable()
    {
        var result = await Cli.RunAsync("demo", "--scenario", "agent", "--calls", "5", "--rtt", "2", "--service", "1");

        Assert.Equal(0, result.ExitCode);
        Assert.All(["one after another", "latency, mean", "time saved by reuse", "handshakes, summed"], part => Assert.Contains(part, result.Output));
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task StreamedAnswersTellTheTimeToTheFirstByte()
    {
        var result = await Cli.RunAsync("demo", "--json", "--stream", "--calls", "10", "--rtt", "20", "--service", "10");

        Assert.Equal(0, result.ExitCode);
        using var json = JsonDocument.Parse(result.Output);
        Assert.Equal(30 + (15 * 20), json.RootElement.GetProperty("conditions").GetProperty("limitMs").GetDouble());
        foreach (var way in json.RootElement.GetProperty("ways").EnumerateArray())
        {
            var (first, last) = (way.GetProperty("firstByteP50Ms").GetDouble(), way.GetProperty("latencyP50Ms").GetDouble());
            Assert.True(first >= 30 && way.GetProperty("firstByteP99Ms").GetDouble() >= first);
            Assert.True(last >= 330, "the tokens are paced");
            Assert.True(first < last);
            Assert.Equal(0, way.GetProperty("failures").GetInt32());
        }
    }

    [Theory(Timeout = Cli.TestLimit)]
    [InlineData("--calls", "0", "--calls is '0', must be a whole number from 1 to 10000: ")]
    [InlineData("--calls", "10001", "--calls is '10001'")]
    [InlineData("--calls", "many", "--calls is 'many'")]
    [InlineData("--rtt", "-1", "--rtt is '-1', must be a whole number from 0 to 10000: ")]
    [InlineData("--service", "1.5", "--service is '1.5'")]
    [InlineData("--rounds", "0", "--rounds is '0', must be a whole number from 1 to 100: ")]
    [InlineData("--scenario", "storm", "--scenario is 'storm', must be burst, agent, stale, stall, abandon, lanes, tenants or field: ")]
    [InlineData("--url", "api.openai.com", "--url is 'api.openai.com', must be an absolute https or http address")]
    [InlineData("--model", "gpt-4o", "--model is 'gpt-4o', but means nothing without --url: ")]
    [InlineData("--speed", "9", "'--speed' is not known here. See: warmline demo --help")]
    public async Task BadInputIsOneClearLineAndExitCodeTwo(string option, string value, string expected)
    {
        var result = await Cli.RunAsync("demo", option, value);

        Assert.Equal(2, result.ExitCode);
        Assert.Equal("", result.Output);
        Assert.StartsWith("error: ", result.Errors);
        Assert.Contains(expected, result.Errors);
        Assert.Single(result.Errors.Split('\n', StringSplitOptions.RemoveEmptyEntries));
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task HelpNamesTheCommandAsItIsInstalled()
    {
        var (root, demo) = (await Cli.RunAsync(), await Cli.RunAsync("demo", "--help"));

        Assert.Equal((0, 0), (root.ExitCode, demo.ExitCode));
        Assert.All(["warmline", "demo", "mock"], part => Assert.Contains(part, root.Output));
        Assert.All(["--calls", "--scenario", "--url", "--key-env", "--json"], part => Assert.Contains(part, demo.Output));
        Assert.All(root.Output.Split('\n'), line => Assert.True(line.TrimEnd().Length <= 80, line));
    }

    [Theory(Timeout = Cli.TestLimit)]
    [InlineData("probe", "0    answered, whatever the status", "8    timed out", "130  interrupted", "HTTPS_PROXY")]
    [InlineData("bench", "0    calls were answered", "130  interrupted", "meant to be sent")]
    [InlineData("mock", "0    ended by Ctrl+C or SIGTERM", "2    bad input")]
    [InlineData("size", "1    the pool of --from cannot be read", "130  interrupted")]
    [InlineData("demo", "2    bad input", "130  interrupted")]
    public async Task ExitCodesStandInTheHelpOfTheirCommand(string command, params string[] parts)
    {
        var (root, own) = (await Cli.RunAsync("--help"), await Cli.RunAsync(command, "--help"));

        Assert.Equal((0, 0), (root.ExitCode, own.ExitCode));
        Assert.All([.. parts, "Exit codes:"], part => Assert.Contains(part, own.Output));
        Assert.All([.. parts, "Exit codes"], part => Assert.DoesNotContain(part, root.Output));
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task InterruptEndsItWithoutAStackTrace()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux() || OperatingSystem.IsMacOS(), "signals are sent by kill");
        using var process = Cli.Start([], "demo", "--scenario", "agent", "--rtt", "1000");
        try
        {
            Assert.NotNull(await process.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken));   // it runs

            using (var kill = Process.Start("kill", ["-INT", process.Id.ToString(System.Globalization.CultureInfo.InvariantCulture)]))
            {
                await kill.WaitForExitAsync(TestContext.Current.CancellationToken);
            }

            var errors = await process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
            await process.WaitForExitAsync(TestContext.Current.CancellationToken);
            Assert.Equal(130, process.ExitCode);
            Assert.Equal("stopped", errors.Trim());
        }
        finally
        {
            if (!process.HasExited)
            {
                process.Kill();
            }
        }
    }
}
