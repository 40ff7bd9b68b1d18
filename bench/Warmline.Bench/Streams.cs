using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.ServerSentEvents;
using System.Runtime;
using Warmline.MockLlm;

namespace Warmline.Bench;

/// <summary>Streams: how soon the server learns that a reader has left, what abandoned and open streams leave behind, and what an event costs; beside .NET's own handler.</summary>
sealed class Streams(TimeProvider time)
{
    /// <summary>Readers leave in mid-stream, one after another: from Dispose to the moment at which the server sees the abort. One process, so one clock.</summary>
    public async Task<int> AbortAsync(int times)
    {
        await using var mock = await MockLlmServer.StartAsync(new MockLlmOptions { RecordRequests = true, TokenGap = TimeSpan.FromMilliseconds(2) });
        Console.WriteLine($"{times} readers leave after some tokens of an endless stream: time until the server sees it");
        foreach (var version in new[] { HttpVersion.Version11, HttpVersion.Version20 })
        {
            await using var pool = new ConnectionPool(new ConnectionPoolOptions { SslOptions = mock.CreateClientSslOptions(), UseProxy = false });
            using var ours = pool.CreateClient();
            using var plain = new HttpClient(new SocketsHttpHandler { SslOptions = mock.CreateClientSslOptions(), UseProxy = false });
            foreach (var (name, client, rounds) in new[] { ("Warmline", ours, times), (".NET", plain, version.Major == 2 ? times : Math.Min(times, 20)) })
            {
                var late = new List<double>();
                var sockets = mock.GetCounters().ConnectionsAccepted;
                for (var i = 0; i < rounds; i++)
                {
                    using var request = Request(mock.BaseAddress, version, 1_000_000);
                    var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
                    var body = await response.Content.ReadAsStreamAsync();
                    var buffer = new byte[64];
                    for (var reads = 0; reads < 1 + (i % 5); reads++)
                    {
                        await body.ReadExactlyAsync(buffer);
                    }

                    var aborted = mock.GetCounters().AbortedRequests;
                    var left = time.GetUtcNow();
                    response.Dispose();
                    await mock.WaitForAsync(counters => counters.AbortedRequests > aborted);
                    late.Add((mock.GetRequests()[^1].Ended!.Value - left).TotalMilliseconds);
                    if (i % 100 == 99)
                    {
                        mock.ResetCounters();
                        sockets = mock.GetCounters().ConnectionsAccepted;
                    }
                }

                late.Sort();
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                    $"  {(version.Major == 2 ? "h2" : "http/1.1"),-9} {name,-9} {rounds,5} times: median {late[rounds / 2],7:0.00} ms, p99 {late[(int)(rounds * 0.99)],7:0.00} ms, most {late[^1],8:0.00} ms, within 50 ms {late.Count(ms => ms <= 50)}"));
            }
        }

        return 0;
    }

    /// <summary>So many abandoned streams in all: counts and memory afterwards.</summary>
    public async Task<int> AbandonAsync(int streams)
    {
        await using var server = await BenchServer.StartAsync(50);
        foreach (var version in new[] { HttpVersion.Version20, HttpVersion.Version11 })
        {
            await using var pool = new ConnectionPool(new ConnectionPoolOptions { SslOptions = Measure.Trust(server.CaPem), UseProxy = false });
            using var client = pool.CreateClient();
            var total = version.Major == 2 ? streams : streams / 10;
            Console.WriteLine($"{(version.Major == 2 ? "h2" : "http/1.1")}: {total} streams abandoned, 64 at once");
            for (var part = 1; part <= 4; part++)
            {
                var left = total / 4;
                await Task.WhenAll(Enumerable.Range(0, 64).Select(_ => Task.Run(async () =>
                {
                    while (Interlocked.Decrement(ref left) >= 0)
                    {
                        using var request = Request(server.Address, version, 1_000_000);
                        using var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
                        await (await response.Content.ReadAsStreamAsync()).ReadExactlyAsync(new byte[256]);
                    }
                })));
                await QuietAsync(pool);
                var stats = pool.GetStats();
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                    $"  after {total / 4 * part,7}: heap {Heap() / 1024.0,7:0} KB, handles {Handles(),4}, in flight {stats.Active}, waiting {stats.Queued}, connections {stats.Connections}, opened {stats.NewConnections}, abandoned {stats.Faults.Abandoned}"));
            }
        }

        return 0;
    }

    /// <summary>Open streams that are silent: memory and CPU for each.</summary>
    public async Task<int> OpenAsync(int streams, int seconds)
    {
        await using var server = await BenchServer.StartAsync(3_600_000);
        Console.WriteLine($"{streams} open streams, silent for {seconds} s; heap after a full collection, CPU of this process");
        foreach (var ours in new[] { true, false, true, false })
        {
            var connections = (streams + 31) / 32;
            await using var pool = ours ? new ConnectionPool(new ConnectionPoolOptions { SslOptions = Measure.Trust(server.CaPem), UseProxy = false, MaxConnections = connections + 10, MaxQueueLength = streams * 2, Timeouts = { Pool = TimeSpan.FromSeconds(60) } }) : null;
            using var client = pool?.CreateClient() ?? new HttpClient(new SocketsHttpHandler { SslOptions = Measure.Trust(server.CaPem), UseProxy = false, EnableMultipleHttp2Connections = true }) { Timeout = Timeout.InfiniteTimeSpan };
            var heap = Heap();
            var open = new List<HttpResponseMessage>();
            var reads = new List<Task>();
            foreach (var part in Enumerable.Range(0, streams).Chunk(200))
            {
                var responses = await Task.WhenAll(part.Select(async _ =>
                {
                    using var request = Request(server.Address, HttpVersion.Version20, 3);
                    return await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
                }));
                foreach (var response in responses)
                {
                    open.Add(response);
                    var body = await response.Content.ReadAsStreamAsync();
                    reads.Add(ReadAsync(body));
                }
            }

            var held = Heap() - heap;
            using var self = Process.GetCurrentProcess();
            var (cpu, start) = (self.TotalProcessorTime, time.GetTimestamp());
            await Task.Delay(TimeSpan.FromSeconds(seconds), time, CancellationToken.None);
            self.Refresh();
            var share = (self.TotalProcessorTime - cpu) / time.GetElapsedTime(start);
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"  {(ours ? "Warmline" : ".NET"),-9} {held / 1024.0 / streams,6:0.00} KB a stream, {share * 100,6:0.00} % of a core, {reads.Count(read => read.IsCompleted)} ended, connections {pool?.GetStats().Connections.ToString(CultureInfo.InvariantCulture) ?? "-"}"));
            foreach (var response in open)
            {
                response.Dispose();
            }

            await Task.WhenAll(reads.Select(read => read.ContinueWith(static _ => { }, TaskScheduler.Default)));
        }

        return 0;

        static async Task ReadAsync(Stream body)
        {
            var buffer = new byte[512];
            while (await body.ReadAsync(buffer) > 0)
            {
            }
        }
    }

    /// <summary>CPU for each event of a stream that is read to its end.</summary>
    public async Task<int> EventsAsync(int rounds)
    {
        const int Tokens = 2_000;
        const int Streams = 16;
        await using var server = await BenchServer.StartAsync(0);
        Console.WriteLine($"{Streams} streams of {Tokens} events at once, {rounds} interleaved rounds; CPU of this process for each event, medians");
        foreach (var version in new[] { HttpVersion.Version20, HttpVersion.Version11 })
        {
            await using var pool = new ConnectionPool(new ConnectionPoolOptions { SslOptions = Measure.Trust(server.CaPem), UseProxy = false, Http2 = { TargetStreams = 100, SpreadConnections = 1, MaxStreamsPerConnection = 100 } });
            using var ours = pool.CreateClient();
            using var bare = new HttpClient(new SocketsHttpHandler { SslOptions = Measure.Trust(server.CaPem), UseProxy = false, InitialHttp2StreamWindowSize = 1024 * 1024, ResponseDrainTimeout = TimeSpan.Zero });
            using var other = new HttpClient(new SocketsHttpHandler { SslOptions = Measure.Trust(server.CaPem), UseProxy = false, InitialHttp2StreamWindowSize = 1024 * 1024, ResponseDrainTimeout = TimeSpan.Zero });
            var ways = new[] { ours, bare, other };
            var costs = ways.Select(_ => new List<(double Cpu, double Bytes)>()).ToArray();
            for (long before = -1, compiled = 0, tries = 0; tries < 10 && compiled - before > 5; tries++)
            {
                before = JitInfo.GetCompiledMethodCount();
                foreach (var way in ways)
                {
                    await RoundAsync(way);
                }

                await Task.Delay(TimeSpan.FromMilliseconds(300), time, CancellationToken.None);
                compiled = JitInfo.GetCompiledMethodCount();
            }

            for (var round = 0; round < rounds; round++)
            {
                for (var i = 0; i < ways.Length; i++)
                {
                    var at = (i + round) % ways.Length;
                    costs[at].Add(await RoundAsync(ways[at]));
                }
            }

            double Ratio(int a, int b) => Measure.Median(costs[a].Zip(costs[b], (x, y) => x.Cpu / y.Cpu));
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"  {(version.Major == 2 ? "h2" : "http/1.1"),-9} Warmline {Measure.Median(costs[0].Select(c => c.Cpu)),6:0.000} us and {Measure.Median(costs[0].Select(c => c.Bytes)),5:0} bytes an event, bare {Measure.Median(costs[1].Select(c => c.Cpu)),6:0.000} us and {Measure.Median(costs[1].Select(c => c.Bytes)),5:0}: {Ratio(0, 1):0.000}; bare against itself {Ratio(2, 1):0.000}"));

            async Task<(double Cpu, double Bytes)> RoundAsync(HttpClient client)
            {
                GC.Collect();
                using var self = Process.GetCurrentProcess();
                var (cpu, bytes, events) = (self.TotalProcessorTime, GC.GetTotalAllocatedBytes(precise: true), 0);
                await Task.WhenAll(Enumerable.Range(0, Streams).Select(_ => Task.Run(async () =>
                {
                    using var request = Request(server.Address, version, Tokens);
                    using var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
                    await foreach (var item in SseParser.Create(await response.Content.ReadAsStreamAsync(), static (_, data) => data.Length).EnumerateAsync())
                    {
                        Interlocked.Increment(ref events);
                    }
                })));
                self.Refresh();
                return ((self.TotalProcessorTime - cpu).TotalMicroseconds / events, (double)(GC.GetTotalAllocatedBytes(precise: true) - bytes) / events);
            }
        }

        return 0;
    }

    static HttpRequestMessage Request(Uri server, Version version, int tokens)
    {
        var request = Measure.Completion(server, version, Measure.StreamPrompt);
        request.Headers.Add("x-mock-tokens", tokens.ToString(CultureInfo.InvariantCulture));
        return request;
    }

    async Task QuietAsync(ConnectionPool pool)
    {
        while (pool.GetStats().Active > 0)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(10), time, CancellationToken.None);
        }
    }

    static long Heap()
    {
        for (var i = 0; i < 3; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        return GC.GetTotalMemory(forceFullCollection: true);
    }

    static int Handles()
    {
        using var self = Process.GetCurrentProcess();
        return self.HandleCount;
    }
}
