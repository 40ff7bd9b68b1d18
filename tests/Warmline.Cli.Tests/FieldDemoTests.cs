using System.Text.Json;

namespace Warmline.Cli.Tests;

/// <summary>The demo of what happens in the field, as a user runs it. Outcomes, which do not depend on the machine's speed.</summary>
public sealed class FieldDemoTests
{
    [Fact(Timeout = Cli.TestLimit)]
    public async Task WarmlineAnswersWhereThePlatformFailsAndEndsWhatStalls()
    {
        var result = await Cli.RunAsync("demo", "--json", "--scenario", "field");

        Assert.Equal(0, result.ExitCode);
        using var json = JsonDocument.Parse(result.Output);
        var (root, conditions) = (json.RootElement, json.RootElement.GetProperty("conditions"));
        var (pool, platform) = (root.GetProperty("ways")[0], root.GetProperty("ways")[1]);
        var calls = conditions.GetProperty("calls").GetInt32();
        Assert.Equal(("field", "warmline", "dotnet"), (Text(conditions, "scenario"), Text(pool, "way"), Text(platform, "way")));
        Assert.Equal(5, root.GetProperty("cases").GetArrayLength());
        Assert.All(root.GetProperty("cases").EnumerateArray(), one => Assert.True(one.GetProperty("asItShould").GetBoolean(), Text(one, "title")));

        Assert.Equal(("answered", "answered"), (Text(pool, "deadAddressFirst"), Text(pool, "deadAddressNext")));
        Assert.Equal(("failed", "failed"), (Text(platform, "deadAddressFirst"), Text(platform, "deadAddressNext")));
        Assert.Equal(("answered", "failed", "answered"), (Text(pool, "slowNameFirst"), Text(platform, "slowNameFirst"), Text(platform, "slowNameNext")));
        Assert.True(pool.GetProperty("slowNameFirstTookMs").GetDouble() >= conditions.GetProperty("lookupMs").GetDouble() - 20);
        Assert.Equal((calls, 1), (Number(pool, "http11Answered"), Number(pool, "http11Refused")));
        Assert.Equal((0, calls), (Number(platform, "http11Answered"), Number(platform, "http11Refused")));
        Assert.Equal(("answered", "ended"), (Text(pool, "slowUpload"), Text(pool, "stalledUpload")));
        Assert.Equal(("answered", "still waiting"), (Text(platform, "slowUpload"), Text(platform, "stalledUpload")));
        Assert.True(pool.GetProperty("slowUploadTookMs").GetDouble() > 2 * conditions.GetProperty("writeMs").GetDouble());
        Assert.Equal((calls, "ended"), (Number(pool, "oddTypeAnswered"), Text(pool, "oddTypeStalled")));
        Assert.Equal((calls, "still waiting"), (Number(platform, "oddTypeAnswered"), Text(platform, "oddTypeStalled")));
        Assert.Equal((JsonValueKind.Number, JsonValueKind.Null), (pool.GetProperty("oddTypeFirstTokenMs").ValueKind, platform.GetProperty("oddTypeFirstTokenMs").ValueKind));
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task ItExplainsEachCaseAboveItsTable()
    {
        var result = await Cli.RunAsync("demo", "--scenario", "field");

        Assert.Equal((0, ""), (result.ExitCode, result.Errors));
        Assert.DoesNotContain('\u001b', result.Output);
        Assert.All(["1. A dead address", "2. A slow name", "3. HTTP/1.1 required", "4. A slow upload", "5. An odd content type", "dead address: 4/4 calls", "The caller of .NET reads:",
            "The caller of Warmline reads:", "in all 5 cases", "How it was measured:", "Next:", "docs/errors.md"], part => Assert.Contains(part, result.Output));
        Assert.All(result.Output.Split('\n'), line => Assert.True(line.Length <= 80, $"wider than 80 columns: {line}"));
    }

    [Theory(Timeout = Cli.TestLimit)]
    [InlineData("--calls", "5")]
    [InlineData("--rtt", "5")]
    [InlineData("--url", "https://api.openai.com")]
    public async Task WhatItDoesNotObeyIsRefused(string option, string value)
    {
        var result = await Cli.RunAsync("demo", "--scenario", "field", option, value);

        Assert.Equal((2, ""), (result.ExitCode, result.Output));
        Assert.StartsWith($"error: {option} is '{value}', but means nothing with --scenario field", result.Errors);
    }

    static string? Text(JsonElement element, string name) => element.GetProperty(name).GetString();

    static int Number(JsonElement element, string name) => element.GetProperty(name).GetInt32();
}
