using System.Text.Json;

namespace Warmline.Cli.Tests;

/// <summary>The demos of sharing, as a user runs them. What is compared here differs by the load that they bring, several times over, not by the machine's speed.</summary>
public sealed class SharingDemoTests
{
    [Fact(Timeout = Cli.TestLimit)]
    public async Task ChatDoesNotWaitBehindBatchNorBatchBehindStreams()
    {
        using var json = await RunAsync("lanes");
        var (platform, byHand, pool) = (Way(json, 0, "dotnet-default"), Way(json, 1, "two-pools"), Way(json, 2, "warmline"));

        // A thousand calls stand before the platform's first chat; the pool's has a place that was kept.
        Assert.True(pool.GetProperty("chatPoolWaitP50Ms").GetDouble() * 10 < platform.GetProperty("chatWaitP50Ms").GetDouble());
        Assert.True(pool.GetProperty("chatWaitP50Ms").GetDouble() * 4 < platform.GetProperty("chatWaitP50Ms").GetDouble());
        Assert.Equal(JsonValueKind.Null, platform.GetProperty("chatPoolWaitP99Ms").ValueKind);

        // Six rounds of streams stand before the platform's first batch call; three quarters of the places are not the streams' where they have a pool of their own.
        Assert.True(pool.GetProperty("floodBatchFirstMs").GetDouble() < platform.GetProperty("floodBatchFirstMs").GetDouble());
        Assert.True(pool.GetProperty("floodUnused").GetDouble() < byHand.GetProperty("floodUnused").GetDouble());
        Assert.True(pool.GetProperty("floodStreamsDoneMs").GetDouble() < byHand.GetProperty("floodStreamsDoneMs").GetDouble());
        Assert.All([platform, byHand, pool], way =>
        {
            Assert.Equal((0, 0), (way.GetProperty("chatFailures").GetInt32(), way.GetProperty("floodFailures").GetInt32()));
            Assert.Equal(40, way.GetProperty("floodStreamsHeld").GetArrayLength());
        });
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task TenantsShareByWhatTheyHoldNotByWhatTheyAskFor()
    {
        using var json = await RunAsync("tenants");
        var (platform, byHand, pool) = (Way(json, 0, "dotnet-default"), Way(json, 1, "pool-each"), Way(json, 2, "warmline"));

        Assert.InRange(platform.GetProperty("crowdJain").GetDouble(), 0.1, 0.6);
        Assert.InRange(pool.GetProperty("crowdJain").GetDouble(), 0.9, 1);
        Assert.True(pool.GetProperty("crowdUnused").GetDouble() < byHand.GetProperty("crowdUnused").GetDouble());
        Assert.True(pool.GetProperty("weightedOff").GetDouble() < platform.GetProperty("weightedOff").GetDouble());
        Assert.InRange(platform.GetProperty("manyPeakEach").GetInt32(), 11, 60);
        Assert.All([byHand, pool], way => Assert.InRange(way.GetProperty("manyPeakEach").GetInt32(), 1, 10));
        Assert.All([platform, byHand, pool], way =>
        {
            Assert.InRange(way.GetProperty("manyPeak").GetInt32(), 100, 200);
            Assert.Equal(0, way.GetProperty("failures").GetInt32());
            Assert.Equal((10, 3, 50), (way.GetProperty("crowdHeld").GetArrayLength(), way.GetProperty("weightedHeld").GetArrayLength(), way.GetProperty("manyPeaks").GetArrayLength()));
        });
        Assert.InRange(pool.GetProperty("manySockets").GetInt32(), 1, 200);
        Assert.InRange(byHand.GetProperty("manySockets").GetInt32(), 201, 500);
    }

    [Theory(Timeout = Cli.TestLimit)]
    [InlineData("lanes", "Places in use over time", "two pools", "batch calls a second", "the p99 of chat's wait was", "A reserve is never lent")]
    [InlineData("tenants", "Places held, one column a tenant", "pool each", "Jain's index", "is fair by its limits")]
    public async Task TheyPrintConditionsATableAPictureAndWhatItMeans(string scenario, params string[] parts)
    {
        var result = await Cli.RunAsync("demo", "--scenario", scenario, "--rtt", "10");

        Assert.Equal((0, ""), (result.ExitCode, result.Errors));
        Assert.DoesNotContain('\u001b', result.Output);
        Assert.All([.. parts, "(warming up the code): 24/24", "█", "▂", "How it was measured:", "ConnectionPoolOptions."], part => Assert.Contains(part, result.Output));
        Assert.All(result.Output.Split('\n'), line => Assert.True(line.Length <= 80, $"wider than 80 columns: {line}"));
    }

    [Theory(Timeout = Cli.TestLimit)]
    [InlineData("lanes", "--calls", "5")]
    [InlineData("lanes", "--service", "5")]
    [InlineData("tenants", "--url", "https://api.openai.com")]
    public async Task WhatTheyDoNotObeyIsRefused(string scenario, string option, string value)
    {
        var result = await Cli.RunAsync("demo", "--scenario", scenario, option, value);

        Assert.Equal((2, ""), (result.ExitCode, result.Output));
        Assert.StartsWith($"error: {option} is '{value}', but means nothing with --scenario {scenario}", result.Errors);
    }

    static async Task<JsonDocument> RunAsync(string scenario)
    {
        var result = await Cli.RunAsync("demo", "--json", "--scenario", scenario);
        Assert.Equal(0, result.ExitCode);
        var json = JsonDocument.Parse(result.Output);
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
