using System.Net.Sockets;
using System.Text;
using Warmline.MockLlm;

namespace Warmline.Cli.Demo;

/// <summary>One way in a demo of faults.</summary>
/// <param name="Key">In JSON.</param>
/// <param name="Title">Above its column.</param>
/// <param name="IsPool">Ours.</param>
internal sealed record FaultWay(string Key, string Title, bool IsPool);

/// <summary>One figure for each way: a time, a number, or words. A time that was not reached in the run is null.</summary>
/// <param name="Key">In JSON; times get <c>Ms</c> behind it.</param>
/// <param name="Label">Before its row; a row without values is a heading.</param>
/// <param name="Values">A <see cref="TimeSpan"/>, a number or null, in the order of the ways.</param>
/// <param name="Missing">What null means.</param>
internal sealed record FaultFigure(string Key, string Label, IReadOnlyList<object?> Values, string Missing = "-");

/// <summary>What a demo of faults has measured.</summary>
internal sealed record FaultResult
{
    public required IReadOnlyList<FaultFigure> Figures { get; init; }

    /// <summary>The figures that are drawn, each with its title; null counts as <see cref="Window"/>.</summary>
    public required IReadOnlyList<(string Title, FaultFigure Figure)> Charts { get; init; }

    /// <summary>How long was watched.</summary>
    public TimeSpan Window { get; init; }

    public required IReadOnlyList<string> Sentences { get; init; }
}

/// <summary>A demo in which the simulated provider, or the way to it, fails on purpose: the ways meet the same faults at the same time, each at a server of its own.</summary>
internal abstract class FaultDemo(TimeProvider time)
{
    /// <summary>Enough for the methods on the way of a call to be compiled.</summary>
    const int RehearsalCalls = 12;

    readonly Tracker _rehearsal = new("(warming up the code)", RehearsalCalls * 2, time);
    int _endpoints;

    public static FaultDemo Create(Scenario scenario, DemoSettings settings, TimeProvider time) => scenario switch
    {
        Scenario.Stale => new StaleDemo(settings.RoundTrip, time),
        Scenario.Stall => new StallDemo(settings.RoundTrip, time),
        _ => new AbandonDemo(settings.Calls, settings.RoundTrip, time),
    };

    public abstract string Name { get; }

    /// <summary>The conditions, in words.</summary>
    public abstract string Head { get; }

    /// <summary>The conditions, as figures.</summary>
    public abstract IReadOnlyDictionary<string, object> Conditions { get; }

    public abstract string Method { get; }

    public abstract IReadOnlyList<FaultWay> Ways { get; }

    public IReadOnlyList<Tracker> Trackers => [_rehearsal, .. WayTrackers];

    protected abstract IReadOnlyList<Tracker> WayTrackers { get; }

    protected TimeProvider Time => time;

    protected abstract Task<FaultResult> MeasureAsync(CancellationToken stop);

    public async Task<FaultResult> RunAsync(DemoProgress progress, CancellationToken stop)
    {
        await RehearseAsync(stop);
        progress.Finished(_rehearsal);
        foreach (var tracker in WayTrackers)
        {
            tracker.Start();
        }

        var result = await MeasureAsync(stop);
        foreach (var tracker in WayTrackers)
        {
            tracker.Stop();
            progress.Finished(tracker);
        }

        return result;
    }

    async Task RehearseAsync(CancellationToken stop)
    {
        _rehearsal.Start();
        foreach (var isPool in new[] { false, true })
        {
            await using var lane = await StartAsync(isPool, TimeSpan.FromMilliseconds(1), true, null, null, null, stop);
            for (var i = 0; i < RehearsalCalls; i++)
            {
                using var response = await lane.Client.SendAsync(lane.Endpoint.CreateRequest(), HttpCompletionOption.ResponseHeadersRead, stop);
                await ReadAsync(response, null, stop);
                _rehearsal.Advance();
            }
        }

        _rehearsal.Stop();
    }

    /// <summary>A client with a server of its own.</summary>
    protected async Task<Lane> StartAsync(
        bool isPool, TimeSpan roundTrip, bool stream, Action<MockLlmOptions>? script, Action<ConnectionPoolOptions>? pool, Action<SocketsHttpHandler>? handler, CancellationToken stop) =>
        Open(isPool, await StartServerAsync(roundTrip, stream, script, stop), true, pool, handler);

    protected Task<SimulatedEndpoint> StartServerAsync(TimeSpan roundTrip, bool stream, Action<MockLlmOptions>? script, CancellationToken stop) => SimulatedEndpoint.StartAsync(
        $"api{Interlocked.Increment(ref _endpoints)}.provider.example", roundTrip, TimeSpan.Zero, TimeSpan.Zero, stream, stop, script);

    /// <summary>One more client.</summary>
    protected Lane Open(bool isPool, SimulatedEndpoint endpoint, bool isItsOwn, Action<ConnectionPoolOptions>? pool, Action<SocketsHttpHandler>? handler) =>
        isPool ? Lane.WithPool(endpoint, isItsOwn, pool, time) : Lane.WithHandler(endpoint, isItsOwn, handler, time);

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
    protected static bool IsFailure(Exception error) =>
        error is HttpRequestException or IOException or OperationCanceledException or TimeoutException or PoolRejectedException or SocketException;

    /// <summary>A client and the server that it talks to.</summary>
    internal sealed class Lane : IAsyncDisposable
    {
        bool _ownsEndpoint;
        ConnectionPool? _pool;

        public required SimulatedEndpoint Endpoint { get; init; }

        public required HttpClient Client { get; init; }

        /// <summary>As the SDKs have it: one client for all calls, HTTP/1.1.</summary>
        public static Lane WithHandler(SimulatedEndpoint endpoint, bool isItsOwn, Action<SocketsHttpHandler>? configure, TimeProvider time)
        {
            var handler = new PlainDialer(endpoint, time).CreateHandler();
            configure?.Invoke(handler);
            return new Lane { Endpoint = endpoint, Client = new HttpClient(handler), _ownsEndpoint = isItsOwn };
        }

        public static Lane WithPool(SimulatedEndpoint endpoint, bool isItsOwn, Action<ConnectionPoolOptions>? configure, TimeProvider time)
        {
            var options = new ConnectionPoolOptions { SslOptions = endpoint.CreateSslOptions(), UseProxy = false };
            configure?.Invoke(options);
            var pool = new ConnectionPool(options, null, time, endpoint.Network);
            return new Lane { Endpoint = endpoint, Client = pool.CreateClient(), _ownsEndpoint = isItsOwn, _pool = pool };
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
