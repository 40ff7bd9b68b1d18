using System.Text.Json;

namespace Warmline.Cli.Tests;

/// <summary>The demos of faults, as a user runs them. What has an upper bound in time here is bounded by the faults themselves, not by the machine.</summary>
public sealed class FaultDemoTests
{
    [Fact(Timeout = Cli.TestLimit)]
    public async Task PausesCostThePlatformCallsAndThePoolNone()
    {
        using var json = await RunAsync("stale");
        var conditions = json.RootElement.GetProperty("conditions");
        var (clients, each) = (conditions.GetProperty("pausesMs").GetArrayLength(), conditions.GetProperty("callsEach").GetInt32());
        var (platform, tuned, pool) = (Way(json, 0, "dotnet-default"), Way(json, 1, "dotnet-tuned"), Way(json, 2, "warmline"));

        // Three pauses are longer than the limit, and a connection that was forgotten says nothing: these calls hang whatever the machine does.
        Assert.InRange(platform.GetProperty("forgottenHangs").GetInt32(), 3, clients * each);
        Assert.True(platform.GetProperty("forgottenLatenessMs").GetDouble() >= 3 * conditions.GetProperty("patienceMs").GetDouble());
        Assert.InRange(tuned.GetProperty("forgottenConnections").GetInt32(), clients + 3, clients * each);
        Assert.Equal(0, pool.GetProperty("closedFailures").GetInt32());
        Assert.Equal(0, pool.GetProperty("forgottenFailures").GetInt32());
        Assert.InRange(pool.GetProperty("forgottenConnections").GetInt32(), clients + 3, clients * each);
        Assert.All(json.RootElement.GetProperty("ways").EnumerateArray(), way => Assert.True(way.GetProperty("closedLatenessMs").GetDouble() > 0));
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task StallsAreNoticedByClocksOnly()
    {
        using var json = await RunAsync("stall");
        var conditions = json.RootElement.GetProperty("conditions");
        var (platform, pool) = (Way(json, 0, "dotnet-default"), Way(json, 1, "warmline"));

        Assert.All(["noHeadersMs", "silenceMs", "pingsOnlyMs", "dribbleMs"], stall => Assert.Equal(JsonValueKind.Null, platform.GetProperty(stall).ValueKind));
        Assert.True(pool.GetProperty("noHeadersMs").GetDouble() >= conditions.GetProperty("firstByteMs").GetDouble());
        Assert.All(["pingsOnlyMs", "dribbleMs"], stall => Assert.InRange(pool.GetProperty(stall).GetDouble(), 0.5 * conditions.GetProperty("contentMs").GetDouble(), conditions.GetProperty("windowMs").GetDouble()));
        // The clock starts with the last bytes, their reader's a moment later.
        Assert.InRange(pool.GetProperty("silenceMs").GetDouble(), 0.5 * conditions.GetProperty("readMs").GetDouble(), conditions.GetProperty("windowMs").GetDouble());
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task AbandonedStreamsEndSoonerWithThePool()
    {
        using var json = await RunAsync("abandon", "--calls", "10", "--rtt", "20");
        var (platform, pool) = (Way(json, 0, "dotnet-default"), Way(json, 1, "warmline"));

        Assert.Equal(10, json.RootElement.GetProperty("conditions").GetProperty("calls").GetInt32());
        Assert.Equal(10, platform.GetProperty("connectionsForStreams").GetInt32());
        Assert.True(platform.GetProperty("tokensForNobody").GetInt32() > pool.GetProperty("tokensForNobody").GetInt32());
        Assert.True(platform.GetProperty("wentOnMeanMs").GetDouble() > 1000, "the platform drains for two seconds");
        Assert.True(pool.GetProperty("wentOnMeanMs").GetDouble() < platform.GetProperty("wentOnMeanMs").GetDouble());
        Assert.All([platform, pool], way => Assert.Equal(0, way.GetProperty("failures").GetInt32()));
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task TheyPrintConditionsATableAPictureAndWhatItMeans()
    {
        var result = await Cli.RunAsync("demo", "--scenario", "abandon", "--calls", "3", "--rtt", "1");

        Assert.Equal((0, ""), (result.ExitCode, result.Errors));
        Assert.DoesNotContain('\u001b', result.Output);
        Assert.All(["3 streams at once", "(warming up the code): 24/24", "Warmline: 6/6 calls", ".NET default", "server went on, mean", "tokens for nobody", "(fewer is better)", "█",
            "After the readers had left", "How it was measured:", "Next:", "docs/testing.md"], part => Assert.Contains(part, result.Output));
        Assert.All(result.Output.Split('\n'), line => Assert.True(line.Length <= 80, $"wider than 80 columns: {line}"));
    }

    /// <summary>A way that loses calls at once has little lateness, and must not look best for it.</summary>
    [Fact(Timeout = Cli.TestLimit)]
    public async Task LostCallsAreDrawnFirstAndMarkedWhereTimesAreDrawn()
    {
        var result = await Cli.RunAsync("demo", "--scenario", "stale");

        Assert.Equal((0, ""), (result.ExitCode, result.Errors));
        var lines = result.Output.ReplaceLineEndings("\n").Split('\n');
        var (lost, forgotten) = (Array.IndexOf(lines, "Calls lost (fewer is better)"), Array.IndexOf(lines, "Lateness where the way forgets (shorter is better)"));
        Assert.InRange(lost, 0, Array.IndexOf(lines, "Lateness where the server closes (shorter is better)"));
        Assert.Matches(@"^  \.NET default +█+ [1-9]\d*\s*$", lines[lost + 1]);

        // Those that were forgotten hang whatever the machine does.
        Assert.Matches(@"^  \.NET default +█+ [\d.]+ m?s, [1-9]\d* calls lost\s*$", lines[forgotten + 1]);
        Assert.Contains(".NET default: ", result.Output);
        Assert.All(lines, line => Assert.True(line.Length <= 80, $"wider than 80 columns: {line}"));
        Assert.DoesNotContain("`warmline demo", result.Output);   // whoever runs it by `dotnet run` has no such command
    }

    [Theory(Timeout = Cli.TestLimit)]
    [InlineData("stale", "--calls", "5")]
    [InlineData("stall", "--url", "https://api.openai.com")]
    [InlineData("abandon", "--rounds", "3")]
    public async Task WhatTheyDoNotObeyIsRefused(string scenario, string option, string value)
    {
        var result = await Cli.RunAsync("demo", "--scenario", scenario, option, value);

        Assert.Equal((2, ""), (result.ExitCode, result.Output));
        Assert.StartsWith($"error: {option} is '{value}', but means nothing with --scenario {scenario}", result.Errors);
    }

    static async Task<JsonDocument> RunAsync(string scenario, params string[] more)
    {
        var result = await Cli.RunAsync(["demo", "--json", "--scenario", scenario, .. more]);
        Assert.Equal(0, result.ExitCode);
        var json = JsonDocument.Parse(result.Output);   // fails when anything stands before or after the document
        Assert.Equal(scenario, json.RootElement.GetProperty("conditions").GetProperty("scenario").GetString());
        return json;
    }

    static JsonElement Way(JsonDocument json, int index, string name)
    {
        var way = json.RootElement.GetProperty("ways")[index];
        Assert.Equal(name, way.GetProperty("way").GetString());
        return way;
    }
}
