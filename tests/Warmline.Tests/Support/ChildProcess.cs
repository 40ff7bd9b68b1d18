using System.Diagnostics;
using Xunit;

namespace Warmline.Tests.Support;

/// <summary>Runs one test of this assembly in a process of its own, with an environment of its own, and brings what it found.</summary>
internal static class ChildProcess
{
    const string Answer = "WARMLINE_TEST_CHILD";

    /// <summary>Skips the test where it is not run as a child.</summary>
    public static void SkipUnlessChild() =>
        Assert.SkipWhen(Environment.GetEnvironmentVariable(Answer) is null, "Runs in a process of its own, started by another test.");

    /// <summary>For the parent.</summary>
    public static void Tell(string found) => File.WriteAllText(Environment.GetEnvironmentVariable(Answer)!, found);

    /// <summary>What the child told.</summary>
    public static async Task<string> RunAsync(Type test, params (string Name, string? Value)[] environment)
    {
        var answer = Path.Combine(Path.GetTempPath(), $"warmline-child-{Guid.NewGuid():N}");
        var program = Path.ChangeExtension(typeof(ChildProcess).Assembly.Location, OperatingSystem.IsWindows() ? ".exe" : null);
        var start = new ProcessStartInfo(program, ["-noColor", "-class", test.FullName!])
        {
            UseShellExecute = false,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = Environment.CurrentDirectory,
        };
        start.Environment[Answer] = answer;
        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        using var process = Process.Start(start)!;
        try
        {
            var output = process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
            var errors = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
            await process.WaitForExitAsync(TestContext.Current.CancellationToken);
            Assert.True(File.Exists(answer), $"The child told nothing: {await output}{await errors}");
            return await File.ReadAllTextAsync(answer, TestContext.Current.CancellationToken);
        }
        finally
        {
            if (!process.HasExited)
            {
                process.Kill();
            }

            File.Delete(answer);
        }
    }
}
