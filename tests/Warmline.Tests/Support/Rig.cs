using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using System.Globalization;
using System.Net;
using System.Text;
using Microsoft.Extensions.Logging;
using Warmline.MockLlm;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Support;

/// <summary>A mock provider on a real socket and a pool that trusts it. Disposing it also checks that the pool lets go of everything.</summary>
internal sealed class Rig : IAsyncDisposable
{
    /// <summary>Milliseconds after which a test counts as hung: a net under the test, no measure of speed.</summary>
    public const int Patience = 60_000;

    Rig(MockLlmServer mock, ConnectionPool pool, LogRecorder logs, string? host)
    {
        Mock = mock;
        Pool = pool;
        Logs = logs;
        Client = pool.CreateClient(host is null ? mock.BaseAddress : new UriBuilder(mock.BaseAddress) { Host = host }.Uri);
    }

    public MockLlmServer Mock { get; }

    public ConnectionPool Pool { get; }

    public HttpClient Client { get; }

    public LogRecorder Logs { get; }

    public PoolStats Stats => Pool.GetStats();

    public MockCounters Counters => Mock.GetCounters();

    public static CancellationToken Ct => TestContext.Current.CancellationToken;

    public static async Task<Rig> StartAsync(Action<ConnectionPoolOptions>? configure = null, MockLlmOptions? mock = null, TimeProvider? time = null, INetwork? network = null, string? host = null,
        IMeterFactory? meters = null)
    {
        var server = await MockLlmServer.StartAsync(mock, cancellationToken: Ct);
        var options = Options(server, configure);
        var logs = new LogRecorder();
        return new Rig(server, new ConnectionPool(options, logs, time, network, meters), logs, host);
    }

    public static Task<Rig> StartHttp1Async(Action<ConnectionPoolOptions>? configure = null, MockLlmOptions? mock = null, TimeProvider? time = null)
    {
        mock ??= new MockLlmOptions();
        mock.Protocols = Microsoft.AspNetCore.Server.Kestrel.Core.HttpProtocols.Http1;
        return StartAsync(configure, mock, time);
    }

    /// <summary>A rig for each protocol, for what must hold on both.</summary>
    public static Task<Rig> StartAsync(bool http2, Action<ConnectionPoolOptions>? configure = null, MockLlmOptions? mock = null, TimeProvider? time = null) =>
        http2 ? StartAsync(configure, mock, time) : StartHttp1Async(configure, mock, time);

    public static ConnectionPoolOptions Options(MockLlmServer server, Action<ConnectionPoolOptions>? configure = null)
    {
        var options = new ConnectionPoolOptions { SslOptions = server.CreateClientSslOptions() };
        configure?.Invoke(options);
        return options;
    }

    /// <summary>Sends, and takes the response when its headers are there.</summary>
    public Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken? ct = null) => Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, ct ?? Ct);

    /// <summary>Sends, checks the status and reads the answer to its end.</summary>
    public async Task<string> CallAsync(HttpRequestMessage? request = null)
    {
        using var response = await Client.SendAsync(request ?? Calls.Chat(), Ct);
        var text = await response.Content.ReadAsStringAsync(Ct);
        Assert.True(response.StatusCode == HttpStatusCode.OK, $"{response.StatusCode}: {text}");
        return text;
    }

    /// <summary>Completes when the mock's counters say so.</summary>
    public Task MockAsync(Func<MockCounters, bool> reached) =>
        Eventually.TrueAsync(() => reached(Counters), () => $"{Counters}; {string.Join("; ", Counters.Connections)}; {Describe(Stats)}");

    /// <summary>Completes when the pool's numbers say so.</summary>
    public Task StatsAsync(Func<PoolStats, bool> reached) => Eventually.TrueAsync(() => reached(Stats), () => Describe(Stats));

    /// <summary>Completes with the tasks; what they hang at is told.</summary>
    public async Task DoneAsync(params Task[] tasks)
    {
        await Eventually.TrueAsync(() => tasks.All(task => task.IsCompleted), () =>
            $"{tasks.Count(task => !task.IsCompleted)} of {tasks.Length} tasks hang. {Describe(Stats)}\nstreams: {string.Join("; ", Pool.GetStreams())}\nwaiters: {string.Join("; ", Pool.GetWaiters())}\n"
            + $"{Counters}; {string.Join("; ", Counters.Connections.Where(connection => connection.End is MockConnectionEnd.Open))}\n{string.Join("\n", Logs.Entries.TakeLast(40))}");
        await Task.WhenAll(tasks);
    }

    /// <summary>All calls have ended and nothing of them is left.</summary>
    public Task QuietAsync() => StatsAsync(stats => stats is { Active: 0, Queued: 0 });

    /// <summary>Calls whose request bodies end only when the gate opens: until then they are all in flight.</summary>
    public async Task<Task<string>[]> HoldAsync(int calls, Gate gate, Func<HttpRequestMessage>? request = null)
    {
        var running = Enumerable.Range(0, calls).Select(_ => CallAsync(gate.Hold(request?.Invoke() ?? Calls.Chat()))).ToArray();
        await Eventually.TrueAsync(() => gate.Held >= calls || running.Any(call => call.IsCompleted), () => Describe(Stats));
        return running;
    }

    public async ValueTask DisposeAsync()
    {
        await Pool.DisposeAsync();
        Assert.Equal((0, 0), (Stats.Queued, Stats.Connections));
        await QuietAsync();   // a call that was cut ends when its own code has seen it
        Client.Dispose();
        await Mock.DisposeAsync();
    }

    public static string Describe(PoolStats stats) => string.Create(CultureInfo.InvariantCulture,
        $"{stats} | active={stats.Active} connections={stats.Connections} idle={stats.Idle} failed dials={stats.FailedDials} refused={stats.Refused}; ")
        + string.Join("; ", stats.Origins.Select(origin => origin.ToString()));
}

/// <summary>The requests that the tests send.</summary>
internal static class Calls
{
    public static HttpRequestMessage Chat(bool stream = false, params (string Name, string Value)[] headers)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, "v1/chat/completions") { Content = Body(stream) };
        foreach (var (name, value) in headers)
        {
            request.Headers.Add(name, value);
        }

        return request;
    }

    /// <summary>A stream of so many tokens with that pause between them; endless enough for what a test wants to break off.</summary>
    public static HttpRequestMessage Stream(int tokens = 1_000_000, int gapMilliseconds = 1, params (string Name, string Value)[] headers) =>
        Chat(true, [.. headers, ("x-mock-tokens", $"{tokens}"), ("x-mock-token-gap-ms", $"{gapMilliseconds}")]);

    public static HttpRequestMessage With(this HttpRequestMessage request, PoolRequestOptions options)
    {
        request.Options.SetPool(options);
        return request;
    }

    public static StringContent Body(bool stream = false) =>
        new($$"""{"model":"gpt-4o-mini","stream":{{(stream ? "true" : "false")}},"messages":[{"role":"user","content":"Hi"}]}""", Encoding.UTF8, "application/json");
}

/// <summary>Holds requests in flight: each sends half of its body, and the rest when the gate opens.</summary>
internal sealed class Gate
{
    readonly TaskCompletionSource _open = new(TaskCreationOptions.RunContinuationsAsynchronously);
    int _held;

    /// <summary>Requests whose first half is written.</summary>
    public int Held => Volatile.Read(ref _held);

    public void Open() => _open.TrySetResult();

    public HttpRequestMessage Hold(HttpRequestMessage request)
    {
        request.Content = new HeldContent(request.Content!, this);
        return request;
    }

    sealed class HeldContent : HttpContent
    {
        readonly HttpContent _inner;
        readonly Gate _gate;

        public HeldContent(HttpContent inner, Gate gate)
        {
            _inner = inner;
            _gate = gate;
            Headers.ContentType = new("text/plain");   // a JSON body of known length would be serialised before the call asks for its place
        }

        protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) => SerializeToStreamAsync(stream, context, CancellationToken.None);

        protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken)
        {
            var bytes = await _inner.ReadAsByteArrayAsync(cancellationToken);
            await stream.WriteAsync(bytes.AsMemory(0, bytes.Length / 2), cancellationToken);
            await stream.FlushAsync(cancellationToken);
            Interlocked.Increment(ref _gate._held);
            await _gate._open.Task.WaitAsync(cancellationToken);
            await stream.WriteAsync(bytes.AsMemory(bytes.Length / 2), cancellationToken);
        }

        protected override bool TryComputeLength(out long length)
        {
            length = _inner.Headers.ContentLength ?? 0;
            return true;
        }
    }
}

/// <summary>Keeps every log message.</summary>
internal sealed class LogRecorder : ILoggerFactory, ILogger
{
    readonly ConcurrentQueue<(LogLevel Level, string Message)> _entries = new();

    public IReadOnlyList<(LogLevel Level, string Message)> Entries => [.. _entries];

    public ILogger CreateLogger(string categoryName) => this;

    public void AddProvider(ILoggerProvider provider) => throw new NotSupportedException();

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => true;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
        _entries.Enqueue((logLevel, formatter(state, exception) + exception));

    public void Dispose()
    {
    }
}
