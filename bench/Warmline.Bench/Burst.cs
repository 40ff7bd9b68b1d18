using System.Net;
using System.Net.Sockets;

namespace Warmline.Bench;

/// <summary>A burst of calls at once over a link with a round-trip time: how near to what the link allows, on how many sockets.</summary>
sealed class Burst(TimeProvider time, Uri server, string caFile, double rtt, double service, int calls, int promptBytes, int rounds, IWebProxy? proxy)
{
    readonly byte[] _body = Measure.Prompt(promptBytes);
    readonly string _ca = File.ReadAllText(caFile);

    public async Task<int> RunAsync()
    {
        Console.WriteLine($"{calls} calls at once, {promptBytes}-byte prompts, {rtt} ms round trip, {service} ms service, {rounds} interleaved rounds; medians");
        Console.WriteLine($"limit warm {rtt + service:0} ms; cold {Cold:0} ms (TCP, {(proxy is null ? "" : "CONNECT, ")}TLS 1.3, call)");
        if (proxy is not null)
        {
            Console.WriteLine($"every way goes through the proxy {proxy.GetProxy(server)?.GetComponents(UriComponents.SchemeAndServer, UriFormat.UriEscaped)}; the link is taken to lie before or behind it, not both");
        }

        // Ways that keep their connections over the rounds, and the code warm-up for the cold ones.
        await using var warmed = new ConnectionPool(Options());
        await warmed.WarmUpAsync(server, 8);
        using var plain2 = Plain();
        using var plain1 = Plain();
        using var warm = warmed.CreateClient();
        var ways = new (string Name, Func<Task<(double Wall, long Sockets)>> Run)[]
        {
            ("Warmline, warmed", async () => (await TimeAsync(warm, HttpVersion.Version20), warmed.GetStats().Connections)),
            (".NET, http/1.1, warm", async () => (await TimeAsync(plain1.Client, HttpVersion.Version11), plain1.Sockets())),
            (".NET, h2, warm", async () => (await TimeAsync(plain2.Client, HttpVersion.Version20), plain2.Sockets())),
            ("Warmline, cold", ColdPoolAsync),
            (".NET, http/1.1, cold", () => ColdPlainAsync(HttpVersion.Version11)),
            (".NET, h2, cold", () => ColdPlainAsync(HttpVersion.Version20)),
        };
        foreach (var way in ways)
        {
            await way.Run();
            await way.Run();
        }

        var results = ways.Select(_ => new List<(double Wall, long Sockets)>()).ToArray();
        for (var round = 0; round < rounds; round++)
        {
            for (var i = 0; i < ways.Length; i++)
            {
                results[i].Add(await ways[i].Run());
            }
        }

        for (var i = 0; i < ways.Length; i++)
        {
            var limit = ways[i].Name.Contains("cold", StringComparison.Ordinal) ? Cold : rtt + service;
            var median = Measure.Median(results[i].Select(r => r.Wall));
            Console.WriteLine($"{ways[i].Name,-24} {median,7:0.0} ms  {median / limit,6:0.000} x limit  min {results[i].Min(r => r.Wall),6:0.0} max {results[i].Max(r => r.Wall),6:0.0}  sockets {results[i].Max(r => r.Sockets)}");
        }

        return 0;
    }

    /// <summary>A round trip each for TCP, the proxy's tunnel, TLS and the call.</summary>
    double Cold => ((proxy is null ? 3 : 4) * rtt) + service;

    ConnectionPoolOptions Options() => new() { SslOptions = Measure.Trust(_ca), UseProxy = proxy is not null, Proxy = proxy };

    PlainClient Plain()
    {
        long sockets = 0;
        var handler = new SocketsHttpHandler
        {
            SslOptions = Measure.Trust(_ca),
            UseProxy = proxy is not null,
            Proxy = proxy,
            ConnectCallback = async (context, cancel) =>
            {
                Interlocked.Increment(ref sockets);
                var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
                await socket.ConnectAsync(context.DnsEndPoint, cancel);
                return new NetworkStream(socket, ownsSocket: true);
            },
        };
        return new PlainClient(new HttpClient(handler), () => Interlocked.Read(ref sockets));
    }

    async Task<(double Wall, long Sockets)> ColdPoolAsync()
    {
        await using var pool = new ConnectionPool(Options());
        using var client = pool.CreateClient();
        return (await TimeAsync(client, HttpVersion.Version20), pool.GetStats().NewConnections);
    }

    async Task<(double Wall, long Sockets)> ColdPlainAsync(Version version)
    {
        using var client = Plain();
        return (await TimeAsync(client.Client, version), client.Sockets());
    }

    async Task<double> TimeAsync(HttpClient client, Version version)
    {
        GC.Collect();
        var start = time.GetTimestamp();
        await Task.WhenAll(Enumerable.Range(0, calls).Select(_ => Measure.CallAsync(client, server, version, Measure.Json(_body))));
        return time.GetElapsedTime(start).TotalMilliseconds;
    }

    sealed record PlainClient(HttpClient Client, Func<long> Sockets) : IDisposable
    {
        public void Dispose() => Client.Dispose();
    }
}
