using System.Net;
using Warmline.Tests.Http;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>An answer that ends its connection: the next call is on another, without an error, a pause or a lesson.</summary>
public sealed class PersistenceTests
{
    const int Calls = 4;

    [Theory(Timeout = Rig.Patience)]
    [InlineData("GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello")]
    [InlineData("POST", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello")]
    [InlineData("POST", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")]
    [InlineData("HEAD", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n")]
    [InlineData("GET", "HTTP/1.0 204 No Content\r\n\r\n")]
    [InlineData("GET", "HTTP/1.0 304 Not Modified\r\nContent-Length: 5\r\n\r\n")]
    [InlineData("POST", "HTTP/1.0 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")]
    [InlineData("POST", "HTTP/1.0 500 Internal Server Error\r\nContent-Length: 5\r\n\r\nhello")]
    [InlineData("GET", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")]
    [InlineData("GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")]
    [InlineData("GET", "HTTP/1.0 200 OK\r\nConnection: x-a\r\nContent-Length: 5\r\n\r\nhello")]
    [InlineData("GET", "HTTP/1.0 200 OK\r\nConnection: x-keep-alive\r\nContent-Length: 5\r\n\r\nhello")]
    [InlineData("GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive, Close\r\nContent-Length: 5\r\n\r\nhello")]
    [InlineData("GET", "HTTP/1.0 200 OK\r\nKeep-Alive: timeout=60\r\nContent-Length: 5\r\n\r\nhello")]
    [InlineData("GET", "HTTP/1.0 200 OK\r\nProxy-Connection: keep-alive\r\nContent-Length: 5\r\n\r\nhello")]
    [InlineData("GET", "HTTP/1.0 200 OK\r\n\r\nhello", true)]
    [InlineData("GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", true)]
    [InlineData("POST", "HTTP/1.1 200 OK\r\n\r\nhello", true)]
    [InlineData("GET", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", true)]
    [InlineData("GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello")]
    [InlineData("POST", "HTTP/1.1 200 OK\r\nconnection: x-a, CLOSE\r\nContent-Length: 5\r\n\r\nhello")]
    [InlineData("GET", "HTTP/1.1 200 OK\r\nConnection: x-a\r\nConnection: Close\r\nContent-Length: 5\r\n\r\nhello")]
    [InlineData("GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")]
    public async Task Each_call_has_a_connection_of_its_own(string method, string answer, bool serverCloses = false) => await PlayAsync(method, answer, serverCloses, connections: Calls);

    [Theory(Timeout = Rig.Patience)]
    [InlineData("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello")]
    [InlineData("HTTP/1.0 200 OK\r\nconnection: x-a, Keep-Alive\r\nContent-Length: 5\r\n\r\nhello")]
    [InlineData("HTTP/1.0 200 OK\r\nConnection: x-a\r\nConnection: KEEP-ALIVE\r\nContent-Length: 5\r\n\r\nhello")]
    [InlineData("HTTP/1.0 204 No Content\r\nConnection: Keep-Alive\r\n\r\n")]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")]
    [InlineData("HTTP/1.1 200 OK\r\nConnection: x-close\r\nContent-Length: 5\r\n\r\nhello")]
    public async Task A_connection_that_is_kept_carries_the_next(string answer) => await PlayAsync("GET", answer, serverCloses: false, connections: 1);

    [Theory(Timeout = Rig.Patience)]
    [InlineData("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", "hello")]
    [InlineData("HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "hello")]
    [InlineData("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "")]
    [InlineData("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello")]
    public async Task A_call_that_waits_gets_no_connection_that_has_ended(string answer, string body)
    {
        await using var server = new RawHttp1Server(async peer =>
        {
            await peer.ReadHeadAsync();
            await peer.SayAsync(answer);
            await peer.ReadToEndAsync();   // its own end comes after the client's
        });
        await using var pool = new ConnectionPool(new ConnectionPoolOptions { MaxConnections = 2 });
        using var client = pool.CreateClient(new Uri($"http://localhost:{server.Port}/"));

        var answers = await Task.WhenAll(Enumerable.Range(0, 20).Select(_ => client.GetStringAsync("", Rig.Ct)));

        Assert.All(answers, answer => Assert.Equal(body, answer));
        Assert.Equal((0, 20), (pool.GetStats().Faults.RetriedNotSent, pool.GetStats().NewConnections));
    }

    static async Task PlayAsync(string method, string answer, bool serverCloses, int connections)
    {
        var order = new List<int>();
        await using var server = new RawHttp1Server(async peer =>
        {
            while (await peer.ReadHeadAsync() is not "")
            {
                lock (order)
                {
                    order.Add(peer.Number);
                }

                await peer.SayAsync(answer);
                if (serverCloses)
                {
                    return;
                }
            }
        });
        var time = new ManualTime();   // a back-off would never end
        await using var pool = new ConnectionPool(new ConnectionPoolOptions { MaxConnections = 1, MaxIdleConnections = 1, Timeouts = { Pool = Timeout.InfiniteTimeSpan } }, null, time);
        using var client = pool.CreateClient();
        var limit = new List<TimeSpan?>();
        for (var call = 0; call < Calls; call++)
        {
            using var request = new HttpRequestMessage(new HttpMethod(method), $"http://localhost:{server.Port}/");
            using var response = await client.SendAsync(request, Rig.Ct);
            var body = await response.Content.ReadAsStringAsync(Rig.Ct);
            Assert.Equal(answer.EndsWith("hello", StringComparison.Ordinal) || answer.Contains("\nhello", StringComparison.Ordinal) ? "hello" : "", body);
            limit.Add(Assert.Single(pool.GetStats().Origins).IdleLimit);
        }

        var stats = pool.GetStats();
        Assert.Equal(connections == 1 ? [0, 0, 0, 0] : [0, 1, 2, 3], order);
        Assert.Equal((Calls, connections, 0, 0), (stats.TotalRequests, stats.NewConnections, stats.FailedDials, stats.Refused));
        Assert.Single(limit.Distinct());
    }
}
