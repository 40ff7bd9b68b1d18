using System.Diagnostics;
using System.IO.Compression;
using System.Text.RegularExpressions;
using Warmline.Packages.Tests;

[assembly: AssemblyFixture(typeof(Feed))]
[assembly: CollectionBehavior(MaxParallelThreads = 2)]

namespace Warmline.Packages.Tests;

/// <summary>
/// The packages, made once for all tests: from a copy of the sources in another folder, so that what depends on the folder shows, and with a version that exists nowhere else. Their users
/// restore from this feed into a package folder of their own, which is deleted with it; what else they need is taken from the machine's package folder without writing there.
/// </summary>
public sealed partial class Feed : IAsyncLifetime
{
    public static readonly string[] Ids = ["Warmline", "Warmline.AspNetCore", "Warmline.Cli", "Warmline.MockLlm"];

    static readonly string[] Sources = ["src", "docs", "samples", "monitoring"];

    readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("warmline-packages-");

    /// <summary>The repository: tests are built into tests/project/bin/configuration/framework.</summary>
    public static string Repository { get; } = new DirectoryInfo(AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar)).Parent!.Parent!.Parent!.Parent!.Parent!.FullName;

    /// <summary>The version of the packages.</summary>
    public string Version { get; } = $"0.1.0-test.{Guid.NewGuid():N}"[..24];

    /// <summary>The folder that the packages were built in.</summary>
    public string Source => Path.Combine(_folder.FullName, "copy");

    /// <summary>What packing said.</summary>
    public string PackOutput { get; private set; } = "";

    string Packages => Path.Combine(_folder.FullName, "feed");

    /// <summary>A new empty folder within reach of the feed's NuGet.config and of nothing of the repository's.</summary>
    public string NewFolder(string name) => Directory.CreateDirectory(Path.Combine(_folder.FullName, "users", name)).FullName;

    /// <summary>A package, or with <paramref name="extension"/> its symbols.</summary>
    public ZipArchive Open(string id, string extension = "nupkg") => ZipFile.OpenRead(Path.Combine(Packages, $"{id}.{Version}.{extension}"));

    public async ValueTask InitializeAsync()
    {
        foreach (var folder in Sources.Where(folder => Directory.Exists(Path.Combine(Repository, folder))))
        {
            Copy(new DirectoryInfo(Path.Combine(Repository, folder)), Path.Combine(Source, folder));
        }

        foreach (var file in Directory.EnumerateFiles(Repository).Where(file => !file.EndsWith(".slnx", StringComparison.Ordinal)))
        {
            File.Copy(file, Path.Combine(Source, Path.GetFileName(file)));
        }

        await File.WriteAllTextAsync(Path.Combine(Source, "Packages.slnx"),
            $"<Solution>{string.Concat(Ids.Select(id => $"""<Project Path="src/{id}/{id}.csproj" />"""))}</Solution>");
        await ConfigureAsync();

        var packed = await Command.DotnetAsync(this, Source, "pack", "Packages.slnx", "-c", "Release", "-o", Packages, "--nologo");
        PackOutput = packed.Checked().Output;
    }

    public ValueTask DisposeAsync()
    {
        _folder.Delete(recursive: true);
        return ValueTask.CompletedTask;
    }

    /// <summary>Nothing of the machine's or of this test run's settings reaches the process, and it writes below the feed's folder only.</summary>
    internal void Settle(ProcessStartInfo start)
    {
        foreach (var name in start.Environment.Keys.Where(name => name.StartsWith("MSBUILD", StringComparison.OrdinalIgnoreCase) || name.EndsWith("_API_KEY", StringComparison.Ordinal)).ToList())
        {
            start.Environment.Remove(name);
        }

        start.Environment["NUGET_PACKAGES"] = Path.Combine(_folder.FullName, "packages");
        start.Environment["XDG_DATA_HOME"] = Path.Combine(_folder.FullName, "data");   // where file-based apps are built
        start.Environment["DOTNET_NOLOGO"] = start.Environment["DOTNET_CLI_TELEMETRY_OPTOUT"] = start.Environment["MSBUILDDISABLENODEREUSE"] = "1";
        start.Environment["DOTNET_CLI_USE_MSBUILD_SERVER"] = "0";
        if (start.WorkingDirectory == Source)
        {
            // Builds take these as properties. The version is the packages' alone: the assemblies keep theirs, so that they can be compared with those of the repository.
            (start.Environment["PackageVersion"], start.Environment["SourceRevisionId"]) = (Version, Revision());
        }
    }

    /// <summary>The feed for the packages, the machine's sources for everything else, and its package folder before those.</summary>
    async Task ConfigureAsync()
    {
        Directory.CreateDirectory(Packages);
        var locals = new ProcessStartInfo(Command.Dotnet, ["nuget", "locals", "global-packages", "--list", "--force-english-output"]) { WorkingDirectory = Repository };
        var machine = (await Command.RunAsync(locals)).Checked().Output.Split(':', 2)[1].Trim();
        var list = new ProcessStartInfo(Command.Dotnet, ["nuget", "list", "source"]) { WorkingDirectory = Repository };
        list.Environment["DOTNET_CLI_UI_LANGUAGE"] = "en";
        var others = EnabledSource().Matches((await Command.RunAsync(list)).Checked().Output)
            .Select(match => $"""<packageSource key="{match.Groups["name"].Value}"><package pattern="*" /></packageSource>""");
        await File.WriteAllTextAsync(Path.Combine(_folder.FullName, "NuGet.config"), $"""
            <configuration>
              <packageSources><add key="built" value="{Packages}" /></packageSources>
              <packageSourceMapping><packageSource key="built"><package pattern="Warmline*" /></packageSource>{string.Concat(others)}</packageSourceMapping>
              <fallbackPackageFolders><add key="machine" value="{machine}" /></fallbackPackageFolders>
            </configuration>
            """);
    }

    /// <summary>The commit that the repository's own build names; there is none in the copy, which has no history.</summary>
    internal static string Revision() => FileVersionInfo.GetVersionInfo(Built("Warmline")).ProductVersion!.Split('+', 2) is [_, var revision] ? revision : "";

    /// <summary>An assembly as the repository's build made it.</summary>
    public static string Built(string id) => Path.Combine(Repository, "src", id, "bin", "Release", "net10.0", id + ".dll");

    static void Copy(DirectoryInfo from, string to)
    {
        Directory.CreateDirectory(to);
        foreach (var file in from.EnumerateFiles())
        {
            file.CopyTo(Path.Combine(to, file.Name));
        }

        foreach (var folder in from.EnumerateDirectories().Where(folder => folder.Name is not ("bin" or "obj")))
        {
            Copy(folder, Path.Combine(to, folder.Name));
        }
    }

    [GeneratedRegex(@"^\s*\d+\.\s+(?<name>.+?) \[Enabled\]", RegexOptions.Multiline)]
    private static partial Regex EnabledSource();
}
