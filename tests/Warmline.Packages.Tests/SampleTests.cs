using System.Text.RegularExpressions;

namespace Warmline.Packages.Tests;

/// <summary>Every sample, run as it stands, in a copy of the repository; some also as a reader has them who copied one file out of it. The web application has tests of its own.</summary>
public sealed partial class SampleTests(Feed feed)
{
    const string Answer = "Warm connections answer at once";
    const string Line = @"Pool: {0} requests \| reuse=\d+\.\d% \| peak=\d+ \| queued=0 \(max wait \d+\.\dms\) \| avg handshake=\d+\.\dms \| saved=\d+\.\ds";

    static readonly Dictionary<string, string[]> Outcomes = new()
    {
        ["configured-client"] = [@"^2 warm connections to https://localhost:\d+/\nHTTP/2\.0, 200: " + Answer, Stats(1), @"reuse=100\.0%"],
        ["hosted-service"] = [@"^Started with 2 warm connections\.\n", @"What is a connection pool\? " + Answer, @"And why is it warm\? " + Answer, Stats(2), @"reuse=100\.0%"],
        ["monitored-client"] =
        [
            @"cold: queue \d+ ms \(tcp \d+, tls [1-9]\d*\), headers after [2-9]\d\d+ ms, connection 1\n", @"warm: queue \d+ ms \(tcp 0, tls 0\), .*, reused\n", @"warn: Warmline\[\d+\].* Pool utilization high: 9/10 \(90%\)",
            @"meter: 11 durations, mean [2-9]\d\d+ ms\nmeter: warmline\.requests = 11, warmline\.connections\.opened = [1-3]\n", Stats(11),
        ],
        ["gathered-calls"] = [@"^20 calls: [1-9]\d+\.\d s of latency in \d+\.\d s of wall time, ([2-9]|1\d|20)\.\d times", @"\n[1-9] connections\n", Stats(20)],
        ["shared-pool"] = [@"^30 calls by 3 clients: at most ([2-9]|1[0-2]) at once, on [1-3] connections\nthe longest wait for a place was [1-9]\d+ ms\n", Stats(30)],
        ["two-lanes"] = ["^" + Answer, @"\nstream: 1 calls, at most 1 at once, longest wait \d+ ms\nbatch: 40 calls, at most [2-8] at once, longest wait [1-9]\d\d+ ms\n", @"\n12 chunks streamed while 40 batch calls ran\n"],
        ["stats-line"] = [$@"info: Warmline\[\d+\] {Stats(@"\d+")}\n(.*\n)*info: Warmline\[\d+\] Pool: \d+ requests", $@"(^|\n){Stats(@"\d+")}\n"],
        ["openai-sdk"] = [$"^answer: {Answer}.*\nstream: {Answer}.*\n", Stats(3), @"reuse=66\.7%"],
        ["anthropic-sdk"] = [$"^answer: {Answer}.*\nstream: {Answer}.*\n", Stats(2), @"reuse=50\.0%"],
        ["chat-client"] = [$"^claude answers: {Answer}.*\nclaude streams: {Answer}.*\ngpt answers: {Answer}.*\ngpt streams: {Answer}.*\n", Stats(4), @"reuse=75\.0%"],
        ["tests-with-faults"] = ["^(passed: .*\n){3}3 passed\n$"],
    };

    public static TheoryData<string> Names => [.. Outcomes.Keys];

    [Fact]
    public void No_sample_is_forgotten()
    {
        var samples = Directory.EnumerateFiles(Path.Combine(Feed.Repository, "samples"), "*.cs").Select(path => Path.GetFileNameWithoutExtension(path)).ToHashSet(StringComparer.Ordinal);
        var table = File.ReadAllText(Path.Combine(Feed.Repository, "samples", "README.md"));

        Assert.Equal(Outcomes.Keys.Append("aspnetcore").Order(StringComparer.Ordinal), samples.Order(StringComparer.Ordinal));
        Assert.All(samples, name => Assert.Contains($"| [{name}]({name}.cs) |", table, StringComparison.Ordinal));
    }

    [Fact]
    public void Versions_in_samples_are_those_of_the_repository()
    {
        var central = Versions(File.ReadAllText(Path.Combine(Feed.Repository, "Directory.Packages.props")), CentralVersion());
        foreach (var sample in Directory.EnumerateFiles(Path.Combine(Feed.Repository, "samples"), "*.cs"))
        {
            Assert.All(Versions(File.ReadAllText(sample), PackageLine()), package => Assert.True(central.Contains(package), $"{Path.GetFileName(sample)}: {package}"));
        }

        static HashSet<string> Versions(string text, Regex pattern) => [.. pattern.Matches(text).Select(match => $"{match.Groups["id"].Value}@{match.Groups["version"].Value}")];
    }

    [Theory(Timeout = Command.TestLimit)]
    [MemberData(nameof(Names))]
    public async Task A_sample_runs_in_the_repository(string name) =>
        Check(name, await Command.DotnetAsync(feed, feed.Source, "run", "-c", "Release", $"samples/{name}.cs"));

    [Theory(Timeout = Command.TestLimit)]
    [InlineData("chat-client")]
    [InlineData("hosted-service")]
    public async Task A_sample_runs_anywhere_on_the_packages(string name) =>
        Check(name, await Command.DotnetAsync(feed, CopyOut(feed, name), "run", $"{name}.cs"));

    /// <summary>The sample alone in an empty folder, its references to projects replaced by those to packages.</summary>
    internal static string CopyOut(Feed feed, string name)
    {
        var folder = feed.NewFolder("sample-" + name);
        var text = ProjectLine().Replace(File.ReadAllText(Path.Combine(Feed.Repository, "samples", name + ".cs")), $"#:package ${{id}}@{feed.Version}");
        Assert.DoesNotContain("#:project", text, StringComparison.Ordinal);
        File.WriteAllText(Path.Combine(folder, name + ".cs"), text);
        return folder;
    }

    static void Check(string name, CommandResult run)
    {
        var output = run.Checked().Output.ReplaceLineEndings("\n");
        Assert.All(Outcomes[name], pattern => Assert.True(Regex.IsMatch(output, pattern), $"{name} did not print {pattern} but:\n{run.All}"));
    }

    static string Stats(object requests) => Line.Replace("{0}", requests.ToString(), StringComparison.Ordinal);

    [GeneratedRegex(@"^#:project \.\./src/(?<id>[\w.]+)/\k<id>\.csproj$", RegexOptions.Multiline)]
    private static partial Regex ProjectLine();

    [GeneratedRegex(@"^#:package (?<id>[\w.]+)@(?<version>\S+)$", RegexOptions.Multiline)]
    private static partial Regex PackageLine();

    [GeneratedRegex("<PackageVersion Include=\"(?<id>[^\"]+)\" Version=\"(?<version>[^\"]+)\"")]
    private static partial Regex CentralVersion();
}
