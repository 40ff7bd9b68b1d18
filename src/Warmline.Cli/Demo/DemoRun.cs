using System.Buffers;
using System.Net.Sockets;
using System.Security.Authentication;

namespace Warmline.Cli.Demo;

/// <summary>Runs the ways one after the other and measures them.</summary>
internal sealed class DemoRun
{
    /// <summary>Enough for the methods on the way of a call to be compiled; more of them changed no figure.</summary>
    const int RehearsalRounds = 3;
    const int RehearsalCalls = 24;

    readonly DemoSettings _settings;
    readonly TimeProvider _time;
    readonly Tracker _rehearsal;
    readonly Dictionary<WayKind, Tracker> _trackers;
    int _endpoints;

    public DemoRun(DemoSettings settings, TimeProvider time)
    {
        _settings = settings;
        _time = time;
        _rehearsal = new Tracker("(warming up the code)", RehearsalRounds * RehearsalCalls * settings.Ways.Count, time);
        _trackers = settings.Ways.ToDictionary(way => way, way => new Tracker(DemoSettings.Title(way), settings.Calls * settings.Rounds, time));
    }

    public IReadOnlyList<Tracker> Trackers => [_rehearsal, .. _trackers.Values];

    public async Task<IReadOnlyList<WayResult>> RunAsync(DemoProgress progress, CancellationToken stop)
    {
        // 1 rehearse: the same code against another server, so that nobody's figures hold the compiler's time
        await RehearseAsync(stop);
        progress.Finished(_rehearsal);

        // 2 measure: the ways take turns, each against a server of its own
        var results = _settings.Ways.ToDictionary(way => way, _ => new List<WayResult>());
        for (var round = 0; round < _settings.Rounds; round++)
        {
            foreach (var way in _settings.Ways)
            {
                var tracker = _trackers[way];
                await using var endpoint = await StartEndpointAsync(stop);
                results[way].Add(await MeasureAsync(way, endpoint, _settings.Calls, _settings.Scenario, tracker, stop));
                if (tracker.IsOver)
                {
                    progress.Finished(tracker);
                }
            }
        }

        return [.. results.Values.Select(WayResult.Median)];
    }

    async Task RehearseAsync(CancellationToken stop)
    {
        _rehearsal.Start();
        for (var round = 0; round < RehearsalRounds; round++)
        {
            foreach (var way in _settings.Ways)
            {
                await using var endpoint = await SimulatedEndpoint.StartAsync(NextHost(), TimeSpan.FromMilliseconds(1), TimeSpan.Zero, TimeSpan.Zero, _settings.Stream, stop);
                await MeasureAsync(way, endpoint, RehearsalCalls, Scenario.Burst, _rehearsal, stop);
            }
        }

        _rehearsal.Stop();
    }

    async Task<Endpoint> StartEndpointAsync(CancellationToken stop) => _settings.Target is { } target
        ? new RealEndpoint(target, _settings.Stream)
        : await SimulatedEndpoint.StartAsync(NextHost(), _settings.RoundTrip, _settings.Service, _settings.TokenGap, _settings.Stream, stop);

    string NextHost() => $"api{++_endpoints}.provider.example";

    async Task<WayResult> MeasureAsync(WayKind kind, Endpoint endpoint, int calls, Scenario scenario, Tracker tracker, CancellationToken stop)
    {
        await using var way = Way.Create(kind, endpoint, _settings.WarmConnections, _time);
        GC.Collect();   // nobody pays for the rubbish of the way before
        var (cpu, started) = (Environment.CpuUsage.TotalTime, _time.GetTimestamp());
        TimeSpan? warmUp = null, warmUpCpu = null;
        if (await PrepareAsync(way, stop))
        {
            (warmUp, warmUpCpu) = (_time.GetElapsedTime(started), Environment.CpuUsage.TotalTime - cpu);
        }

        if (tracker != _rehearsal)
        {
            tracker.Start();
        }

        (cpu, started) = (Environment.CpuUsage.TotalTime, _time.GetTimestamp());
        CallSample[] samples;
        if (scenario is Scenario.Burst)
        {
            // All are meant to start now: what a call waits for the start of those before it belongs to its latency.
            samples = await Task.WhenAll(Enumerable.Range(0, calls).Select(_ => CallAsync(way, endpoint, started, tracker, stop)));
        }
        else
        {
            samples = new CallSample[calls];
            for (var i = 0; i < calls; i++)
            {
                samples[i] = await CallAsync(way, endpoint, _time.GetTimestamp(), tracker, stop);
            }
        }

        var (wall, used) = (_time.GetElapsedTime(started), Environment.CpuUsage.TotalTime - cpu);
        if (tracker != _rehearsal)
        {
            tracker.Stop();
        }

        stop.ThrowIfCancellationRequested();
        var facts = way.Facts(calls);
        return WayResult.From(kind, samples, wall, used, facts, endpoint.SocketsAtServer ?? facts.Sockets, warmUp, warmUpCpu);
    }

    static async Task<bool> PrepareAsync(Way way, CancellationToken stop)
    {
        try
        {
            return await way.PrepareAsync(stop);
        }
        catch (Exception failure) when (failure is PoolConnectException or PoolRejectedException)
        {
            throw new DemoException("the warm-up failed: " + failure.Message);
        }
    }

    async Task<CallSample> CallAsync(Way way, Endpoint endpoint, long intendedStart, Tracker tracker, CancellationToken stop)
    {
        var client = way.Rent();
        try
        {
            using var request = endpoint.CreateRequest();
            using var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, stop);
            var firstByte = await ReadAsync(response, intendedStart, stop);
            return new CallSample(_time.GetElapsedTime(intendedStart), firstByte, response.IsSuccessStatusCode ? null : $"the answer was {(int)response.StatusCode} {response.ReasonPhrase}".TrimEnd());
        }
        catch (Exception failure) when (failure is HttpRequestException or IOException or OperationCanceledException or TimeoutException or PoolRejectedException or SocketException or AuthenticationException)
        {
            return new CallSample(default, default, failure is HttpRequestException { InnerException: { } inner } ? $"{failure.Message} {inner.Message}" : failure.Message);
        }
        finally
        {
            if (!stop.IsCancellationRequested)
            {
                tracker.Advance();
            }

            way.Return(client);
        }
    }

    /// <summary>Reads the body to its end and tells when its first byte was there.</summary>
    async Task<TimeSpan> ReadAsync(HttpResponseMessage response, long intendedStart, CancellationToken stop)
    {
        var buffer = ArrayPool<byte>.Shared.Rent(4096);
        try
        {
            await using var body = await response.Content.ReadAsStreamAsync(stop);
            TimeSpan? firstByte = null;
            while (await body.ReadAsync(buffer, stop) > 0)
            {
                firstByte ??= _time.GetElapsedTime(intendedStart);
            }

            return firstByte ?? _time.GetElapsedTime(intendedStart);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }
}
