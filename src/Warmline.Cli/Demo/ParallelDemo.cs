using System.Net.Sockets;
using System.Text;
using Warmline.MockLlm;

namespace Warmline.Cli.Demo;

/// <summary>One way in a demo.</summary>
/// <param name="Key">In JSON.</param>
/// <param name="Title">Above its column.</param>
/// <param name="IsPool">Ours.</param>
internal sealed record ParallelWay(string Key, string Title, bool IsPool);

/// <summary>One figure for each way: a time, a number, or words. A time that was not reached in the run is null.</summary>
/// <param name="Key">In JSON; times get <c>Ms</c> behind it.</param>
/// <param name="Label">Before its row; a row without values is a heading.</param>
/// <param name="Values">A <see cref="TimeSpan"/>, a number or null, in the order of the ways.</param>
/// <param name="Missing">What null means.</param>
/// <param name="Apart">Each time in the unit that suits it: the ways are too far apart for one.</param>
internal sealed record ParallelFigure(string Key, string Label, IReadOnlyList<object?> Values, string Missing = "-", bool Apart = false)
{
    /// <summary>In a picture behind each bar's value: what the value does not tell.</summary>
    public IReadOnlyList<string> Notes { get; init; } = [];
}

/// <summary>One line of a picture.</summary>
/// <param name="Way">The number of its way.</param>
/// <param name="Key">In JSON.</param>
/// <param name="Name">Behind its way's title.</param>
/// <param name="Values">From left to right.</param>
/// <param name="Label">At its end.</param>
internal sealed record SparkRow(int Way, string Key, string Name, IReadOnlyList<double> Values, string Label);

/// <summary>A part of a report with a table of its own.</summary>
/// <param name="Title">Above it.</param>
/// <param name="Lines">What happens there.</param>
/// <param name="Figures">Its table.</param>
/// <param name="Notes">Below the table.</param>
/// <param name="IsAsItShould">Whether Warmline did what it should.</param>
internal sealed record ParallelSection(string Title, IReadOnlyList<string> Lines, IReadOnlyList<ParallelFigure> Figures, IReadOnlyList<string> Notes, bool IsAsItShould);

/// <summary>What a demo has measured.</summary>
internal sealed record ParallelResult
{
    public required IReadOnlyList<ParallelFigure> Figures { get; init; }

    /// <summary>The figures by parts, in place of one table; none: there is one.</summary>
    public IReadOnlyList<ParallelSection> Sections { get; init; } = [];

    /// <summary>The figures that are drawn, each with its title; null counts as <see cref="Window"/>.</summary>
    public required IReadOnlyList<(string Title, ParallelFigure Figure)> Charts { get; init; }

    /// <summary>Lines that are drawn to one scale, each picture with its title.</summary>
    public IReadOnlyList<(string Title, IReadOnlyList<SparkRow> Rows)> Sparks { get; init; } = [];

    /// <summary>How long was watched.</summary>
    public TimeSpan Window { get; init; }

    public required IReadOnlyList<string> Sentences { get; init; }
}

/// <summary>A demo whose ways run at the same time, each at a server of its own: they meet the same faults, or the same load.</summary>
internal abstract class ParallelDemo(TimeProvider time)
{
    /// <summary>Enough for the methods on the way of a call to be compiled.</summary>
    const int RehearsalCalls = 12;

    readonly Tracker _rehearsal = new("(warming up the code)", RehearsalCalls * 2, time);
    readonly Lock _lock = new();
    readonly HashSet<Tracker> _finished = [];
    DemoProgress? _progress;
    int _endpoints;

    public static ParallelDemo Create(Scenario scenario, DemoSettings settings, TimeProvider time) => scenario switch
    {
        Scenario.Stale => new StaleDemo(settings.RoundTrip, time),
        Scenario.Stall => new StallDemo(settings.RoundTrip, time),
        Scenario.Lanes => new LanesDemo(settings.RoundTrip, time),
        Scenario.Tenants => new TenantsDemo(settings.RoundTrip, time),
        Scenario.Field => new FieldDemo(time),
        _ => new AbandonDemo(settings.Calls, settings.RoundTrip, time),
    };

    public abstract string Name { get; }

    /// <summary>The conditions, in words.</summary>
    public abstract string Head { get; }

    /// <summary>The conditions, as figures.</summary>
    public abstract IReadOnlyDictionary<string, object> Conditions { get; }

    public abstract string Method { get; }

    /// <summary>Where to read on.</summary>
    public virtual string ReadOn => "docs/testing.md shows how to put these faults into your own tests.";

    public abstract IReadOnlyList<ParallelWay> Ways { get; }

    public IReadOnlyList<Tracker> Trackers => [_rehearsal, .. WayTrackers];

    protected abstract IReadOnlyList<Tracker> WayTrackers { get; }

    protected TimeProvider Time => time;

    protected abstract Task<ParallelResult> MeasureAsync(CancellationToken stop);

    public async Task<ParallelResult> RunAsync(DemoProgress progress, CancellationToken stop)
    {
        _progress = progress;
        await RehearseAsync(stop);
        Finish(_rehearsal);
        foreach (var tracker in WayTrackers)
        {
            tracker.Start();
        }

        var result = await MeasureAsync(stop);
        foreach (var tracker in WayTrackers)
        {
            Finish(tracker);
        }

        return result;
    }

    /// <summary>A part is over, maybe before the others.</summary>
    protected void Finish(Tracker tracker)
    {
        lock (_lock)
        {
            if (_finished.Add(tracker))
            {
                tracker.Stop();
                _progress!.Finished(tracker);
            }
        }
    }

    async Task RehearseAsync(CancellationToken stop)
    {
        _rehearsal.Start();
        foreach (var isPool in new[] { false, true })
        {
            await using var side = await StartAsync(isPool, TimeSpan.FromMilliseconds(1), true, null, null, null, stop);
            for (var i = 0; i < RehearsalCalls; i++)
            {
                using var response = await side.Client.SendAsync(side.Endpoint.CreateRequest(), HttpCompletionOption.ResponseHeadersRead, stop);
                await ReadAsync(response, null, stop);
                _rehearsal.Advance();
            }
        }

        _rehearsal.Stop();
    }

    /// <summary>A client with a server of its own.</summary>
    protected async Task<Side> StartAsync(
        bool isPool, TimeSpan roundTrip, bool stream, Action<MockLlmOptions>? script, Action<ConnectionPoolOptions>? pool, Action<SocketsHttpHandler>? handler, CancellationToken stop) =>
        Open(isPool, await StartServerAsync(roundTrip, stream, script, stop), true, pool, handler);

    protected Task<SimulatedEndpoint> StartServerAsync(TimeSpan roundTrip, bool stream, Action<MockLlmOptions>? script, CancellationToken stop) => SimulatedEndpoint.StartAsync(
        $"api{Interlocked.Increment(ref _endpoints)}.provider.example", roundTrip, TimeSpan.Zero, TimeSpan.Zero, stream, stop, script);

    /// <summary>One more client.</summary>
    protected Side Open(bool isPool, SimulatedEndpoint endpoint, bool isItsOwn, Action<ConnectionPoolOptions>? pool, Action<SocketsHttpHandler>? handler) =>
        isPool ? Side.WithPool(endpoint, isItsOwn, pool, time) : Side.WithHandler(endpoint, isItsOwn, handler, time);

    /// <summary>Reads a stream to its end, or until so many tokens have come; returns the tokens.</summary>
    protected static async Task<int> ReadAsync(HttpResponseMessage response, int? most, CancellationToken stop)
    {
        var (buffer, text, tokens) = (new byte[4096], new StringBuilder(), 0);
        var body = await response.Content.ReadAsStreamAsync(stop);
        while (!(tokens >= most) && await body.ReadAsync(buffer, stop) is > 0 and var read)
        {
            text.Append(Encoding.UTF8.GetString(buffer, 0, read));
            tokens = text.ToString().Split("\"delta\":{\"content\":").Length - 1;
        }

        return tokens;
    }

    /// <summary>A call that did not succeed for a reason that a caller has to live with.</summary>
    internal static bool IsFailure(Exception error) =>
        error is HttpRequestException or IOException or OperationCanceledException or TimeoutException or PoolRejectedException or SocketException;

    /// <summary>A client and the server that it talks to.</summary>
    internal sealed class Side : IAsyncDisposable
    {
        bool _ownsEndpoint;
        ConnectionPool? _pool;

        public required SimulatedEndpoint Endpoint { get; init; }

        public required HttpClient Client { get; init; }

        /// <summary>As the SDKs have it: one client for all calls, HTTP/1.1.</summary>
        public static Side WithHandler(SimulatedEndpoint endpoint, bool isItsOwn, Action<SocketsHttpHandler>? configure, TimeProvider time)
        {
            var handler = new PlainDialer(endpoint, time).CreateHandler();
            configure?.Invoke(handler);
            return new Side { Endpoint = endpoint, Client = new HttpClient(handler), _ownsEndpoint = isItsOwn };
        }

        public static Side WithPool(SimulatedEndpoint endpoint, bool isItsOwn, Action<ConnectionPoolOptions>? configure, TimeProvider time)
        {
            var options = new ConnectionPoolOptions { SslOptions = endpoint.CreateSslOptions(), UseProxy = false };
            configure?.Invoke(options);
            var pool = new ConnectionPool(options, null, time, endpoint.Network);
            return new Side { Endpoint = endpoint, Client = pool.CreateClient(), _ownsEndpoint = isItsOwn, _pool = pool };
        }

        public async ValueTask DisposeAsync()
        {
            Client.Dispose();
            if (_pool is not null)
            {
                await _pool.DisposeAsync();
            }

            if (_ownsEndpoint)
            {
                await Endpoint.DisposeAsync();
            }
        }
    }
}
