using System.Diagnostics;
using System.Runtime.InteropServices;

namespace Warmline.Packages.Tests;

/// <summary>What a process gave.</summary>
sealed record CommandResult(string What, int ExitCode, string Output, string Errors)
{
    public string All => $"{What}\n{Output}{Errors}";

    /// <summary>It ended well, or its whole output is the failure's message.</summary>
    public CommandResult Checked()
    {
        Assert.True(ExitCode == 0, $"Exit code {ExitCode} of {All}");
        return this;
    }
}

/// <summary>Runs processes to their end. None outlives its test.</summary>
static class Command
{
    /// <summary>A run that waits for what never comes must fail, not hang. In milliseconds; generous, as build machines are slow.</summary>
    public const int TestLimit = 600_000;

    /// <summary>The host that runs these tests.</summary>
    public static readonly string Dotnet = Locate();

    /// <summary>Runs <c>dotnet</c> in a folder of the feed's, with the feed's settings.</summary>
    public static async Task<CommandResult> DotnetAsync(Feed feed, string folder, params string[] arguments)
    {
        var start = new ProcessStartInfo(Dotnet, arguments) { WorkingDirectory = folder };
        feed.Settle(start);
        return await RunAsync(start);
    }

    public static async Task<CommandResult> RunAsync(ProcessStartInfo start)
    {
        Redirect(start);
        using var process = Process.Start(start)!;
        try
        {
            process.StandardInput.Close();
            var output = process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
            var errors = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
            await process.WaitForExitAsync(TestContext.Current.CancellationToken);
            return new CommandResult($"{Path.GetFileName(start.FileName)} {string.Join(' ', start.ArgumentList)}", process.ExitCode, await output, await errors);
        }
        finally
        {
            if (!process.HasExited)
            {
                process.Kill(entireProcessTree: true);
            }
        }
    }

    public static void Redirect(ProcessStartInfo start)
    {
        start.UseShellExecute = false;
        start.RedirectStandardInput = start.RedirectStandardOutput = start.RedirectStandardError = true;
    }

    static string Locate()
    {
        var beside = Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "../../../dotnet"));
        return File.Exists(beside) ? beside : "dotnet";
    }
}
