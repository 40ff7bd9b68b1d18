using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using Xunit;

namespace Warmline.Tests.Guards;

/// <summary>The clocks in BannedSymbols.txt are banned in fact: a build with the repository's settings fails at each.</summary>
public sealed partial class BannedClockTests
{
    static readonly string[] Banned =
    [
        "_ = System.DateTime.UtcNow;",
        "_ = System.DateTimeOffset.Now;",
        "_ = System.Environment.TickCount64;",
        "_ = System.Diagnostics.Stopwatch.GetTimestamp();",
        "_ = System.TimeProvider.System;",
        "await System.Threading.Tasks.Task.Delay(1);",
        "await System.Threading.Tasks.Task.Delay(span);",
        "System.Threading.Thread.Sleep(1);",
        "using var source1 = new System.Threading.CancellationTokenSource(1);",
        "using var source2 = new System.Threading.CancellationTokenSource(span);",
        "using var timer = new System.Threading.PeriodicTimer(span);",
    ];

    static readonly string[] Allowed =
    [
        "_ = time.GetUtcNow();",
        "await System.Threading.Tasks.Task.Delay(span, time);",
        "using var source3 = new System.Threading.CancellationTokenSource(span, time);",
    ];

    [Fact(Timeout = 300_000)]
    public async Task Every_static_clock_breaks_the_build_and_a_clock_by_constructor_does_not()
    {
        var folder = Directory.CreateTempSubdirectory("warmline-clocks-");
        try
        {
            Write(folder);

            var output = await BuildAsync(folder);

            var flagged = Rs0030().Matches(output).Select(match => int.Parse(match.Groups["line"].Value, CultureInfo.InvariantCulture)).Distinct().Order().ToArray();
            Assert.True(Enumerable.Range(1, Banned.Length).SequenceEqual(flagged), $"RS0030 in lines {string.Join(", ", flagged)} of {Banned.Length}:\n{output}");
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    /// <summary>A project that is set up like the repository's own, with one statement to a line.</summary>
    static void Write(DirectoryInfo folder)
    {
        Put("Directory.Build.props", $"""<Project><Import Project="{Path.Combine(Repo.Root, "Directory.Build.props")}" /></Project>""");
        Put("Directory.Packages.props", $"""<Project><Import Project="{Path.Combine(Repo.Root, "Directory.Packages.props")}" /></Project>""");
        Put(".editorconfig", Repo.Read(".editorconfig"));
        Put("global.json", Repo.Read("global.json"));
        Put("NuGet.config", "<configuration><packageSources><clear /></packageSources></configuration>");   // what the repository restored must do
        Put("Clocks.csproj", """<Project Sdk="Microsoft.NET.Sdk"><PropertyGroup><GenerateDocumentationFile>true</GenerateDocumentationFile></PropertyGroup></Project>""");
        Put("Clocks.cs", $$"""
            #line 1000
            namespace Clocks;
            static class Program
            {
                public static async System.Threading.Tasks.Task RunAsync(System.TimeProvider time, System.TimeSpan span)
                {
            #line 1
            {{string.Join('\n', Banned.Concat(Allowed))}}
            #line 2000
                }
            }
            """);

        void Put(string name, string text) => File.WriteAllText(Path.Combine(folder.FullName, name), text);
    }

    static async Task<string> BuildAsync(DirectoryInfo folder)
    {
        // No server and no node outlives the build.
        string[] arguments = ["build", "Clocks.csproj", "-nologo", "-v:q", "-m:1", "-nodeReuse:false", "-p:UseSharedCompilation=false", "-p:UseAppHost=false"];
        var beside = Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "../../../dotnet"));
        var start = new ProcessStartInfo(File.Exists(beside) ? beside : "dotnet", arguments)
        {
            UseShellExecute = false, WorkingDirectory = folder.FullName, RedirectStandardOutput = true, RedirectStandardError = true,
        };
        foreach (var name in start.Environment.Keys.Where(name => name.StartsWith("MSBUILD", StringComparison.OrdinalIgnoreCase)).ToList())
        {
            start.Environment.Remove(name);   // a test run inside MSBuild must not lend its own paths
        }

        using var process = Process.Start(start)!;
        try
        {
            var output = process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
            var errors = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
            return await output + await errors;
        }
        finally
        {
            if (!process.HasExited)
            {
                process.Kill(entireProcessTree: true);
            }
        }
    }

    [GeneratedRegex(@"\((?<line>\d+),\d+\): error RS0030")]
    private static partial Regex Rs0030();
}
