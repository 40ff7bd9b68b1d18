using System.Text.RegularExpressions;
using Xunit;

namespace Warmline.Tests.Guards;

/// <summary>What holds for every file of the repository.</summary>
public sealed partial class SourceTests
{
    const int MostLines = 450;

    static readonly string[] Binary = [".png", ".ico", ".gif", ".jpg", ".webp", ".woff2", ".snk", ".user"];

    [Fact]
    public void No_source_is_longer_than_450_lines() =>
        Repo.AssertNone("Too long; split by what changes together:", new[] { "src", "tests", "bench", "samples" }
            .Where(folder => Directory.Exists(Path.Combine(Repo.Root, folder))).SelectMany(Repo.Files)
            .Where(path => path.EndsWith(".cs", StringComparison.Ordinal))
            .Select(path => (Path: path, Lines: Repo.Read(path).AsSpan().TrimEnd('\n').Count('\n') + 1))
            .Where(file => file.Lines > MostLines).Select(file => $"{file.Path}: {file.Lines} lines"));

    [Fact]
    public void No_file_names_a_machines_path_or_package_server()
    {
        var files = Repo.Files().Where(path => !Binary.Contains(Path.GetExtension(path))).ToList();

        Assert.Contains("README.md", files);
        Repo.AssertNone("Paths and hosts that exist on one machine only:", files.SelectMany(path => Places(Repo.Read(path)).Select(place => $"{path}: {place}")));
    }

    [Theory]
    [InlineData("ork/shared/design.md", "/w")]
    [InlineData("mp/x.log", "see \"/t")]
    [InlineData("oot/.nuget", "path=/r")]
    [InlineData("ome/me/warmline", "cd /h")]
    [InlineData("//10.0.0.7/v3/index.json", "http:")]
    [InlineData("//nexus:8081/feed", "https:")]
    [InlineData("//npm.company.com/left-pad", "https:")]
    [InlineData("rp", "pull from packages.co")]
    public void A_place_of_one_machine_is_found(string end, string start) => Assert.Single(Places(start + end));   // in two parts, or this file had one

    [Theory]
    [InlineData("https://api.openai.com/v1/home https://localhost:5001 https://127.0.0.1:{port} https://{host} http://provider.example:80", "")]
    [InlineData("rk/tmp, a/home/b, ~/roots, /workers, https://github.com/a/b", "src/wo")]
    public void A_public_place_passes(string end, string start) => Assert.Empty(Places(start + end));

    static IEnumerable<string> Places(string text) => MachinePaths().Matches(text).Concat(InnerHosts().Matches(text)).Select(match => match.Value)
        .Concat(Urls().Matches(text).Where(match => !IsPublic(match.Groups["host"].Value)).Select(match => match.Value));

    static bool IsPublic(string host) =>
        host is "localhost" or "127.0.0.1" || Reserved().IsMatch(host) || (host.Contains('.', StringComparison.Ordinal) && !PrivateAddress().IsMatch(host) && !PackageServer().IsMatch(host));

    [GeneratedRegex(@"(?<![\w.*~\-])/(?:work|tmp|root|home)\b(?:/[\w./\-]*)?")]
    private static partial Regex MachinePaths();

    [GeneratedRegex(@"(?<![\w./@])[a-z][a-z0-9\-]*(?:\.[a-z0-9\-]+)*\.(?:corp|lan|intranet)\b")]
    private static partial Regex InnerHosts();

    [GeneratedRegex(@"https?://(?:[^/\s@""]*@)?(?<host>[A-Za-z0-9][A-Za-z0-9.\-]*[A-Za-z0-9])")]
    private static partial Regex Urls();

    [GeneratedRegex(@"(?:^|\.)(?:test|example|invalid|localhost|example\.(?:com|org|net))$")]
    private static partial Regex Reserved();

    [GeneratedRegex(@"^\d+\.\d+\.\d+\.\d+$|\.(?:local|internal)$")]
    private static partial Regex PrivateAddress();

    [GeneratedRegex("nuget|npm|pypi|registry|artifact|nexus|mirror|proxy|pkgs|packages|feed")]
    private static partial Regex PackageServer();
}
