using System.Buffers;
using System.Net;
using System.Net.Sockets;
using System.Security.Authentication;
using Warmline.Cli.Demo;
using Warmline.Transport;

namespace Warmline.Cli.Bench;

/// <summary>What is sent where, and how fast.</summary>
internal sealed record BenchSettings
{
    /// <summary>The endpoint; null for a simulated provider in this process.</summary>
    public required RealTarget? Target { get; init; }

    /// <summary>Calls a second.</summary>
    public required double Rate { get; init; }

    /// <summary>Calls to make, all together.</summary>
    public required int Calls { get; init; }

    /// <summary>Calls that the rate and the time would make, where <see cref="Calls"/> is fewer.</summary>
    public required int Wanted { get; init; }

    /// <summary>At equal distances, and not at random.</summary>
    public required bool IsEven { get; init; }

    public required int Seed { get; init; }

    public required bool Stream { get; init; }

    public required int PromptLength { get; init; }

    public required int Tokens { get; init; }

    public required int MaxConnections { get; init; }

    public required int WarmConnections { get; init; }

    public required Http2Mode Mode { get; init; }

    public required TimeSpan RoundTrip { get; init; }

    public required TimeSpan Service { get; init; }

    /// <summary>Words, so that a provider counts about one token for every five letters.</summary>
    public string Prompt => PromptLength == 0 ? "Say hello." : string.Concat(Enumerable.Repeat("lorem ipsum dolor sit amet ", (PromptLength / 27) + 1))[..PromptLength];
}

/// <summary>How many calls stand where, and what they took. Written by the calls, read by whoever draws it.</summary>
internal sealed class BenchTally
{
    readonly Lock _lock = new();
    readonly Dictionary<string, (long Count, string First)> _failures = [];

    public LatencyHistogram Latency { get; } = new();

    public LatencyHistogram Queue { get; } = new();

    public LatencyHistogram FirstByte { get; } = new();

    public LatencyHistogram FirstToken { get; } = new();

    public LatencyHistogram Late { get; } = new();

    /// <summary>Of the answered: from place to last byte, and of these to the first byte.</summary>
    public LatencyHistogram Served { get; } = new();

    public LatencyHistogram ServedFirst { get; } = new();

    public long Sent { get; private set; }

    public long Reused { get; private set; }

    /// <summary>Cut by Ctrl+C.</summary>
    public long Cut { get; private set; }

    public long Failed => _failures.Values.Sum(failure => failure.Count);

    public long InFlight => Sent - Latency.Count - Failed - Cut;

    /// <summary>By kind, most first.</summary>
    public IReadOnlyList<(string Kind, long Count, string First)> Failures => [.. _failures.Select(failure => (failure.Key, failure.Value.Count, failure.Value.First)).OrderByDescending(failure => failure.Count)];

    public T Read<T>(Func<BenchTally, T> read)
    {
        lock (_lock)
        {
            return read(this);
        }
    }

    public void Starts(TimeSpan late)
    {
        lock (_lock)
        {
            Sent++;
            Late.Record(late);
        }
    }

    public void Ends(TimeSpan latency, TimeSpan late, RequestTimings timings)
    {
        lock (_lock)
        {
            Latency.Record(latency);
            Queue.Record(timings.Queue);
            FirstByte.Record(late + timings.Queue + timings.FirstByte);
            ServedFirst.Record(timings.FirstByte);
            Served.Record(timings.LastByte ?? timings.FirstByte);
            Reused += timings.Reused ? 1 : 0;
            if (timings.FirstToken is { } token)
            {
                FirstToken.Record(late + timings.Queue + token);
            }
        }
    }

    public void Fails(string kind, string message)
    {
        lock (_lock)
        {
            var (count, first) = _failures.GetValueOrDefault(kind, (0, message));
            _failures[kind] = (count + 1, first);
        }
    }

    public void Cuts()
    {
        lock (_lock)
        {
            Cut++;
        }
    }
}

/// <summary>What a run gave.</summary>
internal sealed record BenchResult(BenchTally Tally, TimeSpan Sending, TimeSpan Whole, PoolStats Stats, TimeSpan? RoundTrip, double MeanLeases, double PeakUtilization, bool IsInterrupted);

/// <summary>
/// Sends calls at their times, whether or not those before have been answered: an open loop. Latency counts from when a call was meant to
/// be sent.
/// </summary>
internal sealed class BenchRun(BenchSettings settings, TimeProvider time)
{
    const int RehearsalCalls = 48;

    static readonly TimeSpan SampleInterval = TimeSpan.FromMilliseconds(50);

    BenchTally _tally = new();
    ConnectionPool? _pool;
    long _started;

    public BenchTally Tally => _tally;

    public TimeSpan Elapsed => _started == 0 ? TimeSpan.Zero : time.GetElapsedTime(_started);

    /// <summary>The pool as it is now; null before the run.</summary>
    public PoolStats? Stats => _pool?.GetStats();

    public async Task<BenchResult> RunAsync(CancellationToken stop)
    {
        // 1 rehearse: the same code against another server, so that no figure holds the compiler's time
        await using (var rehearsal = await SimulatedEndpoint.StartAsync("rehearsal.provider.example", TimeSpan.FromMilliseconds(1), TimeSpan.Zero, TimeSpan.Zero, settings.Stream, stop))
        {
            await MeasureAsync(rehearsal, settings with { Calls = RehearsalCalls, Rate = 400, WarmConnections = 1 }, stop);
        }

        stop.ThrowIfCancellationRequested();   // nothing was measured yet

        // 2 measure
        _tally = new BenchTally();
        await using var endpoint = await StartAsync(stop);
        return await MeasureAsync(endpoint, settings, stop);
    }

    async Task<Endpoint> StartAsync(CancellationToken stop) => settings.Target is { } target
        ? new RealEndpoint(target, settings.Stream) { Prompt = settings.Prompt, Tokens = settings.Tokens }
        : await SimulatedEndpoint.StartAsync("api.provider.example", settings.RoundTrip, settings.Service, settings.Stream ? DemoSettings.StreamTokenGap : TimeSpan.Zero, settings.Stream, stop, null, settings.Prompt, settings.Tokens);

    async Task<BenchResult> MeasureAsync(Endpoint endpoint, BenchSettings run, CancellationToken stop)
    {
        var network = new TimedNetwork(endpoint.Network, time);
        await using var pool = new ConnectionPool(
            new ConnectionPoolOptions { MaxConnections = run.MaxConnections, MaxIdleConnections = run.MaxConnections, SslOptions = endpoint.CreateSslOptions(), UseProxy = false, Http2 = { Mode = run.Mode } }, null, time, network);
        using var client = pool.CreateClient();
        if (run.WarmConnections > 0)
        {
            await WarmUpAsync(pool, endpoint, run.WarmConnections, stop);
        }

        _pool = pool;
        _started = time.GetTimestamp();
        using var over = new CancellationTokenSource();
        var sampling = SampleAsync(pool, over.Token);
        var calls = new List<Task>(run.Calls);
        var random = new Random(run.Seed);
        var due = 0.0;
        for (var i = 0; i < run.Calls && !stop.IsCancellationRequested; i++)
        {
            // The schedule is absolute: a late call does not delay those after it, and its lateness is its own.
            var intended = _started + (long)(due * time.TimestampFrequency);
            while (TimeSpan.FromSeconds(due) - time.GetElapsedTime(_started) is { Ticks: > 0 } early && !stop.IsCancellationRequested)
            {
                // In whole milliseconds, as timers count, and again where one fired a little early: late by some of them, but never early.
                await Task.Delay(TimeSpan.FromMilliseconds(Math.Ceiling(early.TotalMilliseconds)), time, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }

            if (!stop.IsCancellationRequested)
            {
                calls.Add(CallAsync(client, endpoint, intended, stop));
                due += (run.IsEven ? 1 : -Math.Log(1 - random.NextDouble())) / run.Rate;
            }
        }

        var sending = time.GetElapsedTime(_started);
        await Task.WhenAll(calls);
        var whole = time.GetElapsedTime(_started);
        await over.CancelAsync();
        var (leases, utilization) = await sampling;
        return new BenchResult(_tally, sending, whole, pool.GetStats(), network.Fastest, leases, utilization, stop.IsCancellationRequested);
    }

    static async Task WarmUpAsync(ConnectionPool pool, Endpoint endpoint, int connections, CancellationToken stop)
    {
        try
        {
            await pool.WarmUpAsync(endpoint.Address, connections, stop);
        }
        catch (Exception failure) when (failure is PoolConnectException or PoolRejectedException)
        {
            throw new DemoException("the warm-up failed: " + failure.Message);
        }
    }

    async Task CallAsync(HttpClient client, Endpoint endpoint, long intended, CancellationToken stop)
    {
        var late = time.GetElapsedTime(intended);
        _tally.Starts(late);
        try
        {
            using var request = endpoint.CreateRequest();
            using var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, stop).ConfigureAwait(false);
            await ReadAsync(response, stop).ConfigureAwait(false);
            if (response.IsSuccessStatusCode && response.TryGetPoolTimings(out var timings))
            {
                _tally.Ends(time.GetElapsedTime(intended), late, timings);
            }
            else
            {
                _tally.Fails($"HTTP {(int)response.StatusCode}", response.ReasonPhrase ?? "");
            }
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            _tally.Cuts();
        }
        catch (Exception failure) when (failure is HttpRequestException or IOException or OperationCanceledException or TimeoutException or PoolRejectedException or SocketException or AuthenticationException)
        {
            if (stop.IsCancellationRequested)
            {
                _tally.Cuts();
            }
            else
            {
                _tally.Fails(KindOf(failure), failure.Message);
            }
        }
    }

    static string KindOf(Exception failure) => failure switch
    {
        PoolTimeoutException timeout => $"pool timeout ({timeout.Reason})",
        PoolRejectedException rejected => $"refused by the pool ({rejected.Reason})",
        PoolConnectException connect => $"no connection ({connect.Phase})",
        RequestStalledException stalled => $"stalled ({stalled.Phase})",
        PoolRequestException broken => $"broken ({broken.Verdict})",
        _ => failure.GetType().Name,
    };

    static async Task ReadAsync(HttpResponseMessage response, CancellationToken stop)
    {
        var buffer = ArrayPool<byte>.Shared.Rent(4096);
        try
        {
            await using var body = await response.Content.ReadAsStreamAsync(stop).ConfigureAwait(false);
            while (await body.ReadAsync(buffer, stop).ConfigureAwait(false) > 0)
            {
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <summary>Looks at the pool while the calls run.</summary>
    async Task<(double MeanLeases, double PeakUtilization)> SampleAsync(ConnectionPool pool, CancellationToken over)
    {
        var (leases, samples, most) = (0L, 0L, 0.0);
        while (!over.IsCancellationRequested)
        {
            var stats = pool.GetStats();
            leases += stats.Active;
            samples++;
            most = Math.Max(most, stats.Utilization);
            await Task.Delay(SampleInterval, time, over).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        return (samples == 0 ? 0 : (double)leases / samples, most);
    }

    /// <summary>The machine's network, with the TCP handshakes on the clock: the fastest is the round trip.</summary>
    sealed class TimedNetwork(INetwork inner, TimeProvider time) : INetwork
    {
        long _fastest = long.MaxValue;

        public TimeSpan? Fastest => Interlocked.Read(ref _fastest) is < long.MaxValue and var ticks ? TimeSpan.FromTicks(ticks) : null;

        public ValueTask<IPAddress[]> ResolveAsync(string host, CancellationToken cancellationToken) => inner.ResolveAsync(host, cancellationToken);

        public async ValueTask<Stream> ConnectAsync(IPEndPoint endPoint, CancellationToken cancellationToken)
        {
            var started = time.GetTimestamp();
            var stream = await inner.ConnectAsync(endPoint, cancellationToken).ConfigureAwait(false);
            var ticks = time.GetElapsedTime(started).Ticks;
            for (var seen = Interlocked.Read(ref _fastest); ticks < seen; seen = Interlocked.Read(ref _fastest))
            {
                Interlocked.CompareExchange(ref _fastest, ticks, seen);
            }

            return stream;
        }
    }
}
