using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Warmline.Packages.Tests;

/// <summary>The ASP.NET Core sample, built once from an empty folder with the packages alone.</summary>
public sealed class SampleApp(Feed feed) : IAsyncLifetime
{
    internal string Executable { get; private set; } = "";

    public async ValueTask InitializeAsync()
    {
        var folder = SampleTests.CopyOut(feed, "aspnetcore");
        (await Command.DotnetAsync(feed, folder, "build", "aspnetcore.cs", "-o", "out", "--nologo")).Checked();
        Executable = Path.Combine(folder, "out", OperatingSystem.IsWindows() ? "aspnetcore.exe" : "aspnetcore");
    }

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    /// <summary>Starts it on a free port of the loopback. Returns at once: it does not listen yet.</summary>
    internal RunningApp Start(params (string Name, string Value)[] environment)
    {
        var port = FreePort();
        var start = new ProcessStartInfo(Executable) { WorkingDirectory = Path.GetDirectoryName(Executable)! };
        feed.Settle(start);
        start.Environment["ASPNETCORE_URLS"] = string.Create(CultureInfo.InvariantCulture, $"http://127.0.0.1:{port}");
        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        return new RunningApp(start, port);
    }

    /// <summary>Free a moment ago; nobody else on a test machine asks for one in between.</summary>
    internal static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}

/// <summary>A server in a process of its own, and what it prints.</summary>
sealed class RunningApp : IAsyncDisposable
{
    readonly Process _process;
    readonly StringBuilder _output = new();

    public RunningApp(ProcessStartInfo start, int port)
    {
        Client = new HttpClient(new SocketsHttpHandler { UseProxy = false }) { BaseAddress = new Uri(string.Create(CultureInfo.InvariantCulture, $"http://127.0.0.1:{port}")) };
        Command.Redirect(start);
        _process = Process.Start(start)!;
        _process.OutputDataReceived += (_, line) => Keep(line.Data);
        _process.ErrorDataReceived += (_, line) => Keep(line.Data);
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    public HttpClient Client { get; }

    public string Output
    {
        get
        {
            lock (_output)
            {
                return _output.ToString();
            }
        }
    }

    /// <summary>Asks until the answer is good; refused connections count as <see langword="null"/>. A process that has ended is a failure at once.</summary>
    public async Task<IReadOnlyList<string?>> AskUntilAsync(string path, Func<string, bool> isGood)
    {
        var answers = new List<string?>();
        for (var round = 0; round < 2_400; round++)
        {
            Assert.False(_process.HasExited, $"It ended: {Output}");
            answers.Add(await AskAsync(path));
            if (answers[^1] is { } answer && isGood(answer))
            {
                return answers;
            }

            await Waiting.AMomentAsync();
        }

        throw new TimeoutException($"{path} never answered well, last with {answers[^1] ?? "nothing"}. {Output}");
    }

    /// <summary>Asks it to end, as a service manager does, and waits until it has.</summary>
    public async Task<int> StopAsync()
    {
        using var kill = Process.Start("kill", ["-TERM", _process.Id.ToString(CultureInfo.InvariantCulture)]);
        await _process.WaitForExitAsync(TestContext.Current.CancellationToken);
        return _process.ExitCode;
    }

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        if (!_process.HasExited)
        {
            _process.Kill();
            await _process.WaitForExitAsync();
        }

        _process.Dispose();
    }

    /// <summary>Status and body, or <see langword="null"/> when nobody listens.</summary>
    async Task<string?> AskAsync(string path)
    {
        try
        {
            using var response = await Client.GetAsync(path, TestContext.Current.CancellationToken);
            return $"{(int)response.StatusCode} {await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken)}";
        }
        catch (HttpRequestException)
        {
            return null;
        }
    }

    void Keep(string? line)
    {
        lock (_output)
        {
            _output.AppendLine(line);
        }
    }
}

/// <summary>The tests' one use of the system's clock: to look again a little later.</summary>
static class Waiting
{
#pragma warning disable RS0030
    static readonly TimeProvider Clock = TimeProvider.System;
#pragma warning restore RS0030

    public static Task AMomentAsync() => Task.Delay(TimeSpan.FromMilliseconds(50), Clock, TestContext.Current.CancellationToken);
}
