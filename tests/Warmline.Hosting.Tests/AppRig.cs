using System.Collections.Concurrent;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Warmline.MockLlm;

namespace Warmline.Hosting.Tests;

/// <summary>A mock provider, a directory with the application's settings, and the application itself on a free port.</summary>
internal sealed class AppRig : IAsyncDisposable
{
    /// <summary>Milliseconds after which a test counts as hung: a net under the test, no measure of speed.</summary>
    public const int Patience = 120_000;

    readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("warmline-app-");

    AppRig(MockLlmServer mock) => Mock = mock;

    public MockLlmServer Mock { get; }

    public Recorder Logs { get; } = new();

    public WebApplication? App { get; private set; }

    public HttpClient Client { get; } = new() { Timeout = Timeout.InfiniteTimeSpan };

    public string AuthorityFile => Path.Combine(_directory.FullName, "authority.pem");

    public static CancellationToken Ct => TestContext.Current.CancellationToken;

    public PoolStats Stats => App!.Services.GetRequiredService<ConnectionPool>().GetStats();

    public static async Task<AppRig> CreateAsync(MockLlmOptions? mock = null, string settings = "{}")
    {
        var rig = new AppRig(await MockLlmServer.StartAsync(mock, cancellationToken: Ct));
        await File.WriteAllTextAsync(rig.AuthorityFile, rig.Mock.CertificateAuthority.ExportCertificatePem(), Ct);
        rig.Write(settings);
        return rig;
    }

    public static async Task<AppRig> StartAsync(MockLlmOptions? mock = null, string settings = "{}")
    {
        var rig = await CreateAsync(mock, settings);
        await rig.StartAppAsync();
        return rig;
    }

    /// <summary>What the command line of the application says: where it listens, where its provider is, whom it trusts.</summary>
    public string[] Arguments => ["--contentRoot", _directory.FullName, "--urls", "http://127.0.0.1:0", $"--{TestApp.Address}", Mock.BaseAddress.ToString(), $"--{TestApp.Authority}", AuthorityFile];

    public async Task StartAppAsync()
    {
        App = TestApp.Build(Arguments, builder => builder.Logging.ClearProviders().AddProvider(Logs));
        await App.StartAsync(Ct);
        Client.BaseAddress = new Uri(App.Urls.First());
    }

    /// <summary>The pool's section of appsettings.json, replaced as an editor does it: at once.</summary>
    public void Write(string llm)
    {
        var (settings, fresh) = (Path.Combine(_directory.FullName, "appsettings.json"), Path.Combine(_directory.FullName, "appsettings.new"));
        File.WriteAllText(fresh, $$"""{ "Llm": {{llm}} }""");
        File.Move(fresh, settings, overwrite: true);
    }

    public Task<string> GetAsync(string path) => Client.GetStringAsync(new Uri(path, UriKind.Relative), Ct);

    public Task LoggedAsync(string part, int times = 1) =>
        Eventually.TrueAsync(() => Logs.Messages.Count(message => message.Contains(part, StringComparison.Ordinal)) >= times, () => string.Join('\n', Logs.Messages));

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        if (App is not null)
        {
            await App.DisposeAsync();
        }

        await Mock.DisposeAsync();
        _directory.Delete(recursive: true);
    }
}

/// <summary>Keeps the pool's log messages.</summary>
internal sealed class Recorder : ILoggerProvider, ILogger
{
    readonly ConcurrentQueue<string> _messages = new();

    public IReadOnlyList<string> Messages => [.. _messages];

    public ILogger CreateLogger(string categoryName) => this;

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Information;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) => _messages.Enqueue(formatter(state, exception) + exception);

    public void Dispose()
    {
    }
}

/// <summary>Waits for what nothing announces: it ends when the condition holds, and fails the test after some half a minute.</summary>
internal static class Eventually
{
    const int Rounds = 3_000;

#pragma warning disable RS0030 // The tests' one use of the system's clock: to look again a little later, and to tell how long a process took to end.
    public static readonly TimeProvider Clock = TimeProvider.System;
#pragma warning restore RS0030

    public static async Task TrueAsync(Func<bool> condition, Func<string>? describe = null)
    {
        for (var round = 0; !condition(); round++)
        {
            Assert.True(round < Rounds, $"Did not come true: {describe?.Invoke()}");
            await Task.Delay(TimeSpan.FromMilliseconds(10), Clock, TestContext.Current.CancellationToken);
        }
    }
}
