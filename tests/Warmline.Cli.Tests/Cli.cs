using System.Diagnostics;

namespace Warmline.Cli.Tests;

/// <summary>What one run of the command gave.</summary>
sealed record CliResult(int ExitCode, string Output, string Errors)
{
    public string All => Output + Errors;
}

/// <summary>Runs the built command as a process, as a user does: its output redirected.</summary>
static class Cli
{
    /// <summary>A run that waits for what never comes must fail, not hang. In milliseconds; generous, as build machines are slow.</summary>
    public const int TestLimit = 120_000;

    static readonly string Assembly = Locate();

    public static Task<CliResult> RunAsync(params string[] arguments) => RunAsync([], arguments);

    public static async Task<CliResult> RunAsync((string Name, string Value)[] environment, params string[] arguments)
    {
        using var process = Start(environment, arguments);
        try
        {
            var (output, errors) = (process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken), process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken));
            await process.WaitForExitAsync(TestContext.Current.CancellationToken);
            return new CliResult(process.ExitCode, await output, await errors);
        }
        catch (OperationCanceledException)
        {
            process.Kill();
            throw;
        }
    }

    public static Process Start((string Name, string Value)[] environment, params string[] arguments)
    {
        var start = new ProcessStartInfo(Environment.ProcessPath is { } host && Path.GetFileNameWithoutExtension(host) == "dotnet" ? host : "dotnet", [Assembly, .. arguments])
        {
            UseShellExecute = false,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
        };
        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        return Process.Start(start)!;
    }

    /// <summary>Both projects build into bin/configuration/framework.</summary>
    static string Locate()
    {
        var framework = new DirectoryInfo(AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar));
        var root = framework.Parent!.Parent!.Parent!.Parent!.Parent!;
        return Path.Combine(root.FullName, "src", "Warmline.Cli", "bin", framework.Parent.Name, framework.Name, "Warmline.Cli.dll");
    }
}
