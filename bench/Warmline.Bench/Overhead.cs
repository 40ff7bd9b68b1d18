using System.Diagnostics;
using System.Net;
using System.Runtime;

namespace Warmline.Bench;

/// <summary>What the pool adds to a call: CPU and bytes, against a bare SocketsHttpHandler that does the same.</summary>
sealed class Overhead(TimeProvider time, int rounds, int calls, int atOnce, bool lanes, int tenants, string? heard = null)
{
    const int Reserve = 10;

    /// <summary>What the calls want of the pool, by turns, as an application keeps it for each customer; empty: they say nothing.</summary>
    readonly PoolRequestOptions[] _wishes = !lanes && tenants == 0 ? [] :
        [.. Enumerable.Range(0, 2 * Math.Max(1, tenants)).Select(i => new PoolRequestOptions { Lane = lanes && i % 2 == 0 ? "batch" : null, Tenant = tenants > 0 ? $"tenant-{i / 2}" : null })];

    readonly byte[] _body = Measure.Prompt(20);
    readonly byte[] _plainBody = """{"model":"mock","stream":false,"messages":[{"role":"user","content":"xxxxxxxxxxxxxxxxxxxx"}]}"""u8.ToArray();   // has to be parsed to know

    public async Task<int> RunAsync()
    {
        await using var server = await BenchServer.StartAsync();
        using var metrics = heard is "metrics" or "all" ? TelemetryCost.HearMetrics() : null;
        using var spans = heard is "spans" or "all" ? TelemetryCost.HearSpans() : null;
        Console.WriteLine($".NET {Environment.Version}, {Environment.ProcessorCount} cores; {calls} calls a round, {atOnce} at once, {rounds} rounds; medians{(lanes ? "; lanes stream and batch, every other call names batch, the rest are looked at" : "")}{(tenants > 0 ? $"; {tenants} tenants" : "")}{(heard is null ? "" : $"; {heard} heard")}");
        Console.WriteLine($"{"",-44} {"CPU us/call",12} {"bare",8} {"ratio",7} {"bytes/call",11} {"bare",8} {"wall ratio",11} {"server CPU",11}");
        foreach (var version in new[] { HttpVersion.Version20, HttpVersion.Version11 })
        {
            var name = version.Major == 2 ? "h2" : "http/1.1";
            await CompareAsync(server, version, $"{name}: bare against itself", () => Bare(server, version), () => Bare(server, version), []);
            await using (var pool = new ConnectionPool(Options(server, o =>
            {
                o.Http2 = new Http2Options { TargetStreams = 100, SpreadConnections = 1, MaxStreamsPerConnection = 100 };
            })))
            {
                await CompareAsync(server, version, $"{name}: Warmline, connections as bare", () => pool.CreateClient(), () => Bare(server, version), _wishes, lanes ? Measure.Json : null);
            }

            if (version.Major == 2)
            {
                await using var pool = new ConnectionPool(Options(server, static _ => { }));
                await CompareAsync(server, version, $"{name}: Warmline, defaults (8 connections)", () => pool.CreateClient(), () => Bare(server, version), _wishes, lanes ? Measure.Json : null);
                await CompareAsync(server, version, $"{name}: Warmline, body of a type of its own", () => pool.CreateClient(), () => Bare(server, version), _wishes, body => new OwnJson(body));
            }
        }

        return 0;
    }

    ConnectionPoolOptions Options(BenchServer server, Action<ConnectionPoolOptions> change)
    {
        var connections = Math.Max(50, atOnce + (lanes ? Reserve : 0));   // no call waits for a place that is kept: the bare handler has no such limit
        var options = new ConnectionPoolOptions { MaxConnections = connections, MaxIdleConnections = connections, SslOptions = Measure.Trust(server.CaPem), UseProxy = false };
        if (lanes)
        {
            (options.Lanes["stream"], options.Lanes["batch"]) = (new LaneOptions { Reserve = Reserve }, new LaneOptions());
        }

        change(options);
        return options;
    }

    static HttpClient Bare(BenchServer server, Version version) => new(new SocketsHttpHandler
    {
        SslOptions = Measure.Trust(server.CaPem),
        PooledConnectionIdleTimeout = TimeSpan.FromMinutes(10),
        UseCookies = false,
        UseProxy = false,
        AllowAutoRedirect = false,
        ActivityHeadersPropagator = null,
        InitialHttp2StreamWindowSize = version.Major == 2 ? 1024 * 1024 : 65_535,
    }) { Timeout = Timeout.InfiniteTimeSpan };

    async Task CompareAsync(BenchServer server, Version version, string name, Func<HttpClient> ours, Func<HttpClient> bare, PoolRequestOptions[] wishes, Func<byte[], HttpContent>? content = null)
    {
        using var a = ours();
        using var b = bare();

        // Warm means that a whole round of both compiled (nearly) nothing any more; the framework comes precompiled, our code starts in the lowest tier.
        for (long before = -1, compiled = 0, tries = 0; tries < 20 && compiled - before > 5; tries++)
        {
            before = JitInfo.GetCompiledMethodCount();
            await RoundAsync(a, server.Address, version, content, wishes);
            await RoundAsync(b, server.Address, version, content, []);
            await Task.Delay(TimeSpan.FromMilliseconds(300), time, CancellationToken.None);   // lets the background compiler in
            compiled = JitInfo.GetCompiledMethodCount();
        }

        var cpu = new List<(double Ours, double Bare)>();
        var bytes = new List<(double Ours, double Bare)>();
        var wall = new List<double>();
        var serverBefore = server.Cpu;
        for (var round = 0; round < rounds; round++)
        {
            // A B, then B A: neither is always the one that follows a collection.
            var first = round % 2 == 0 ? await RoundAsync(a, server.Address, version, content, wishes) : default;
            var other = await RoundAsync(b, server.Address, version, content, []);
            var one = round % 2 == 0 ? first : await RoundAsync(a, server.Address, version, content, wishes);
            cpu.Add((one.Cpu, other.Cpu));
            bytes.Add((one.Bytes, other.Bytes));
            wall.Add(one.Wall / other.Wall);
        }

        Console.WriteLine($"{name,-44} {Measure.Median(cpu.Select(c => c.Ours)),12:0.00} {Measure.Median(cpu.Select(c => c.Bare)),8:0.00} {Measure.Median(cpu.Select(c => c.Ours / c.Bare)),7:0.000}"
            + $" {Measure.Median(bytes.Select(c => c.Ours)),11:0} {Measure.Median(bytes.Select(c => c.Bare)),8:0} {Measure.Median(wall),11:0.000}"
            + $" {(server.Cpu - serverBefore).TotalMicroseconds / (2.0 * rounds * calls),11:0.00}");
    }

    async Task<(double Cpu, double Bytes, double Wall)> RoundAsync(HttpClient client, Uri server, Version version, Func<byte[], HttpContent>? content, PoolRequestOptions[] wishes)
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        using var self = Process.GetCurrentProcess();
        var (cpu, bytes, start) = (self.TotalProcessorTime, GC.GetTotalAllocatedBytes(precise: true), time.GetTimestamp());
        var left = calls;
        await Task.WhenAll(Enumerable.Range(0, atOnce).Select(_ => Task.Run(async () =>
        {
            while (Interlocked.Decrement(ref left) is >= 0 and var call)
            {
                await Measure.CallAsync(client, server, version, content is null ? Measure.Json(_body) : content(_plainBody), wishes.Length == 0 ? null : wishes[call % wishes.Length]);
            }
        })));
        var wall = time.GetElapsedTime(start).TotalMilliseconds;
        self.Refresh();
        return ((self.TotalProcessorTime - cpu).TotalMicroseconds / calls, (double)(GC.GetTotalAllocatedBytes(precise: true) - bytes) / calls, wall);
    }

    /// <summary>As SDKs have it.</summary>
    sealed class OwnJson : HttpContent
    {
        readonly byte[] _body;

        public OwnJson(byte[] body)
        {
            _body = body;
            Headers.TryAddWithoutValidation("Content-Type", "application/json");
        }

        protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) => stream.WriteAsync(_body).AsTask();

        protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken) => stream.WriteAsync(_body, cancellationToken).AsTask();

        protected override bool TryComputeLength(out long length)
        {
            length = _body.Length;
            return true;
        }
    }
}
