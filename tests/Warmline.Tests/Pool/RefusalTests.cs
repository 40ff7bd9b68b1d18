using System.Net;
using System.Text;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Warmline.Tests.Http;
using Warmline.Tests.Providers;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>What a refusal says in its headers or its body is kept to, and its caller never waits for the pool to know it.</summary>
public sealed class RefusalTests
{
    const string RetryInfo = """{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"5.25s"}]}}""";
    const string SlowDown = """{"error":{"message":"Slow down","type":"server_error","param":null,"code":"slow_down"}}""";

    static readonly TimeSpan Moment = TimeSpan.FromMilliseconds(10);

    [Theory(Timeout = Rig.Patience)]
    [InlineData("x-ms-retry-after-ms: 4500", 4.5)]
    [InlineData("X-MS-Retry-After-Ms: 4500.5; Retry-After: 1", 4.5005)]
    [InlineData("Retry-After: 1; x-ms-retry-after-ms: 4500", 4.5)]
    [InlineData("retry-after-ms: 2500; x-ms-retry-after-ms: 9000; Retry-After: 30", 2.5)]
    [InlineData("retry-after-ms: soon; x-ms-retry-after-ms: -1; Retry-After: 3", 3)]
    [InlineData("x-ms-retry-after-ms: 7200000", 600)]
    public async Task Each_form_of_the_header_is_kept_to_on_every_refusal(string headers, double seconds)
    {
        foreach (var (status, http2) in new[] { (429, false), (429, true), (503, false), (503, true), (529, false), (529, true) })
        {
            await using var play = await Play.StartAsync(http2, status, "{}", headers: headers);
            using (var refused = await play.PostAsync())
            {
                Assert.Equal(status, (int)refused.StatusCode);
            }

            await play.WaitsAsync(seconds);
        }
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(429)]
    [InlineData(503)]
    [InlineData(529)]
    public async Task A_wait_in_the_body_is_kept_to_however_the_body_comes(int status)
    {
        foreach (var encoding in new[] { "", "gzip", "deflate", "raw", "br" })
        {
            foreach (var (http2, hasLength, decompress) in new[] { (false, true, false), (false, false, false), (true, true, false), (true, false, false), (false, false, true), (true, false, true) })
            {
                await using var play = await Play.StartAsync(http2, status, RetryInfo, encoding, hasLength, decompress);
                using (var refused = await play.PostAsync())
                {
                    // Not a byte is lost by the inspection.
                    Assert.Equal(decompress ? Encoding.ASCII.GetBytes(RetryInfo) : play.Body, await refused.Content.ReadAsByteArrayAsync(Rig.Ct));
                }

                await play.WaitsAsync(5.25);
            }
        }
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("0.837906927s", "", 0.837907)]   // sooner than the second that is guessed without it
    [InlineData("5.25s", "Retry-After: 1", 5.25)]
    [InlineData("5.25s", "Retry-After: 9", 9)]
    [InlineData("5.25s", "x-ratelimit-remaining-requests: 0; x-ratelimit-reset-requests: 20s", 20)]
    [InlineData("7200s", "", 600)]
    [InlineData("tomorrow", "", 1)]
    [InlineData("tomorrow", "Retry-After: 2", 2)]
    public async Task Of_header_and_body_the_longer_wait_counts_and_a_guess_gives_way_to_both(string delay, string headers, double seconds)
    {
        foreach (var http2 in new[] { false, true })
        {
            await using var play = await Play.StartAsync(http2, 429, RetryInfo.Replace("5.25s", delay, StringComparison.Ordinal), headers: headers);
            (await play.PostAsync()).Dispose();

            await play.WaitsAsync(seconds);
        }
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_body_of_a_hundred_kilobytes_under_any_type_is_read_and_a_refusal_that_says_nothing_is_none_at_503(bool http2)
    {
        var filler = RetryInfo.Replace("\"code\":429", $"\"code\":429,\"message\":\"{new string('x', 100_000)}\"", StringComparison.Ordinal);
        await using (var play = await Play.StartAsync(http2, 503, $"[{filler}]", hasLength: false, type: "text/plain"))
        {
            (await play.PostAsync()).Dispose();
            await play.WaitsAsync(5.25);
        }

        await using var other = await Play.StartAsync(http2, 503, """{"error":{"code":503,"message":"overloaded"}}""");
        (await other.PostAsync()).Dispose();
        using var second = await other.PostAsync();
        Assert.Equal((HttpStatusCode.OK, 2), (second.StatusCode, other.Requests));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(false, "", true)]
    [InlineData(false, "", false)]
    [InlineData(false, "gzip", false)]
    [InlineData(true, "", false)]
    [InlineData(true, "br", false)]
    public async Task Slow_down_is_seen_however_the_body_comes(bool http2, string encoding, bool hasLength)
    {
        foreach (var (status, decompress, padding) in new[] { (429, false, 0), (503, true, 0), (503, false, 20_000) })
        {
            await using var play = await Play.StartAsync(http2, status, SlowDown + new string(' ', padding), encoding, hasLength, decompress, headers: "Retry-After: 1");
            (await play.PostAsync()).Dispose();
            play.Time.Advance(TimeSpan.FromSeconds(2));
            using (var second = await play.PostAsync())
            {
                Assert.Equal(HttpStatusCode.OK, second.StatusCode);
            }

            // One request in the last minute: the next is not at once, although nothing cools down any more.
            var third = play.PostAsync();
            await Eventually.TrueAsync(() => play.Pool.GetWaiters().Count == 1 || third.IsCompleted);
            Assert.Equal(PoolRejectionReason.ProviderLimit, Assert.Single(play.Pool.GetWaiters()).Reason);
            play.Time.Advance(TimeSpan.FromMinutes(2));
            (await third).Dispose();
        }
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("Content-Length: 100\r\n\r\n{")]
    [InlineData("Content-Length: 100\r\n\r\n")]
    [InlineData("Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")]
    [InlineData("Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n")]
    public async Task A_refusal_whose_body_does_not_come_is_answered_at_once(string rest)
    {
        var time = new ManualTime();   // no clock will ever end it
        await using var server = new RawHttp1Server(async peer =>
        {
            await peer.ReadHeadAsync();
            await peer.SayAsync("HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 1\r\n" + rest);
            await peer.ReadToEndAsync();
        });
        await using var pool = new ConnectionPool(new ConnectionPoolOptions { Pacing = true }, null, time);
        using var client = pool.CreateClient();
        using var request = new HttpRequestMessage(HttpMethod.Post, $"http://localhost:{server.Port}/");

        using var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Rig.Ct);

        Assert.Equal(HttpStatusCode.TooManyRequests, response.StatusCode);
        if (rest.EndsWith('{') || rest.EndsWith("{\r\n", StringComparison.Ordinal))
        {
            await using var body = await response.Content.ReadAsStreamAsync(Rig.Ct);
            Assert.Equal('{', body.ReadByte());
        }
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_body_that_comes_byte_by_byte_is_read_as_it_comes_and_acts_before_it_ends(bool isCompressed)
    {
        var body = isCompressed ? ErrorBodyTests.Encode(Encoding.ASCII.GetBytes(RetryInfo), "gzip") : Encoding.ASCII.GetBytes(RetryInfo);
        await using var server = new RawHttp1Server(async peer =>
        {
            await peer.ReadHeadAsync();
            await peer.SayAsync($"HTTP/1.1 429 Too Many Requests\r\n{(isCompressed ? "Content-Encoding: gzip\r\n" : "")}Transfer-Encoding: chunked\r\n\r\n");
            foreach (var part in body)
            {
                await peer.SayAsync($"1\r\n{(char)part}\r\n");
            }

            await peer.ReadToEndAsync();   // the last chunk never comes
        });
        var time = new ManualTime();
        await using var pool = new ConnectionPool(new ConnectionPoolOptions { Pacing = true, Timeouts = { Pool = Timeout.InfiniteTimeSpan } }, null, time);
        using var client = pool.CreateClient();
        using var request = new HttpRequestMessage(HttpMethod.Post, $"http://localhost:{server.Port}/");
        using var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Rig.Ct);
        var stream = await response.Content.ReadAsStreamAsync(Rig.Ct);
        var read = new byte[body.Length];
        for (var i = 0; i < read.Length; i++)
        {
            Assert.Equal(1, await stream.ReadAsync(read.AsMemory(i, 1), Rig.Ct));   // a reader of single bytes
        }

        Assert.Equal(body, read);
        if (isCompressed)
        {
            response.Dispose();   // at the latest
            await pool.StatsAsync(static stats => stats.Active == 0);
        }

        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Rig.Ct);
        var second = client.GetAsync(request.RequestUri, stop.Token);
        await Eventually.TrueAsync(() => pool.GetWaiters().Count == 1 || second.IsCompleted);
        time.Advance(TimeSpan.FromSeconds(5.2));
        await Eventually.TrueAsync(() => pool.GetWaiters() is [{ Reason: PoolRejectionReason.ProviderLimit }], () => string.Join("; ", pool.GetWaiters()));   // a dial may be under way first
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => second);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task What_has_come_counts_also_for_a_caller_that_does_not_read_it(bool hasLength)
    {
        var answers = 0;
        await using var server = new RawHttp1Server(async peer =>
        {
            while (await peer.ReadHeadAsync() is not "")
            {
                var framing = hasLength ? $"Content-Length: {RetryInfo.Length}\r\n\r\n{RetryInfo}" : $"Transfer-Encoding: chunked\r\n\r\n{RetryInfo.Length:x}\r\n{RetryInfo}\r\n0\r\n\r\n";
                await peer.SayAsync(Interlocked.Increment(ref answers) == 1 ? "HTTP/1.1 429 Too Many Requests\r\n" + framing : RawHttp1.Ok("ok"));
            }
        });
        await using var play = new Play(new Uri($"http://localhost:{server.Port}/"), () => answers, options => { });
        using (var refused = await play.SendAsync(HttpCompletionOption.ResponseHeadersRead))
        {
            Assert.Equal(HttpStatusCode.TooManyRequests, refused.StatusCode);
        }

        await play.WaitsAsync(5.25);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task The_same_over_http2()
    {
        using var server = new RawHttp2Server();
        await using var play = new Play(server.Address, () => -1, pool: server.NewPool(Play.Paced), time: null);
        var call = play.SendAsync(HttpCompletionOption.ResponseHeadersRead);
        using var connection = await server.AcceptAsync();
        var stream = await connection.ReadRequestAsync();
        await connection.WriteAsync(RawHttp2Server.Headers, 4, stream, [0x08, 3, .. "503"u8]);
        using (var refused = await call)
        {
            // The pong says that the client has what came before the ping.
            await connection.WriteAsync(RawHttp2Server.Data, 0, stream, Encoding.ASCII.GetBytes(RetryInfo.Replace("5.25s", "500s", StringComparison.Ordinal)));
            await connection.WriteAsync(RawHttp2Server.Ping, 0, 0, new byte[8]);
            while (await connection.ReadAsync() is not { Type: RawHttp2Server.Ping, Flags: 1 })
            {
            }
        }

        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Rig.Ct);
        var second = play.Client.GetAsync(server.Address, stop.Token);
        await Eventually.TrueAsync(() => play.Pool.GetWaiters().Count == 1);
        Assert.Equal(PoolRejectionReason.ProviderLimit, play.Pool.GetWaiters()[0].Reason);
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => second);
    }

    /// <summary>A server that refuses once, and a paced pool on a clock that stands still.</summary>
    sealed class Play : IAsyncDisposable
    {
        readonly TestAuthority _authority = new();
        readonly Func<int> _requests;
        Support.KestrelServer? _server;

        public Play(Uri address, Func<int> requests, Action<ConnectionPoolOptions> configure)
            : this(address, requests, null, new ManualTime(), configure)
        {
        }

        public Play(Uri address, Func<int> requests, ConnectionPool? pool, ManualTime? time, Action<ConnectionPoolOptions>? configure = null)
        {
            Address = address;
            _requests = requests;
            Time = time ?? new ManualTime();
            var options = new ConnectionPoolOptions { SslOptions = _authority.Trust() };
            Paced(options);
            configure?.Invoke(options);
            Pool = pool ?? new ConnectionPool(options, null, Time);
            Client = Pool.CreateClient();
        }

        public Uri Address { get; private set; }

        public ManualTime Time { get; }

        public ConnectionPool Pool { get; }

        public HttpClient Client { get; }

        public byte[] Body { get; private init; } = [];

        public int Requests => _requests();

        public static async Task<Play> StartAsync(bool http2, int status, string body, string encoding = "", bool hasLength = true, bool decompress = false, string headers = "", string type = "application/json; charset=UTF-8")
        {
            var requests = 0;
            var bytes = ErrorBodyTests.Encode(Encoding.ASCII.GetBytes(body), encoding);
            var play = new Play(null!, () => requests, options => options.AutomaticDecompression = decompress ? DecompressionMethods.All : DecompressionMethods.None) { Body = bytes };
            play._server = await Support.KestrelServer.StartAsync(play._authority.Issue(), async context =>
            {
                if (Interlocked.Increment(ref requests) > 1)
                {
                    return;
                }

                context.Response.StatusCode = status;
                context.Response.ContentType = type;
                context.Response.ContentLength = hasLength ? bytes.Length : null;
                if (encoding.Length > 0)
                {
                    context.Response.Headers.ContentEncoding = encoding == "raw" ? "deflate" : encoding;
                }

                foreach (var header in headers.Split(';', StringSplitOptions.RemoveEmptyEntries))
                {
                    context.Response.Headers[header[..header.IndexOf(':', StringComparison.Ordinal)].Trim()] = header[(header.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim();
                }

                await context.Response.Body.WriteAsync(bytes.AsMemory(0, bytes.Length / 2));
                await context.Response.Body.FlushAsync();
                await context.Response.Body.WriteAsync(bytes.AsMemory(bytes.Length / 2));
            }, http2 ? HttpProtocols.Http2 : HttpProtocols.Http1);
            play.Address = new Uri($"https://localhost:{play._server.Port}/");
            return play;
        }

        public static void Paced(ConnectionPoolOptions options)
        {
            options.Pacing = true;
            options.Timeouts.Pool = Timeout.InfiniteTimeSpan;
        }

        public Task<HttpResponseMessage> PostAsync() => SendAsync(HttpCompletionOption.ResponseContentRead);

        public Task<HttpResponseMessage> SendAsync(HttpCompletionOption completion) =>
            Client.SendAsync(new HttpRequestMessage(HttpMethod.Post, Address) { Content = completion is HttpCompletionOption.ResponseContentRead ? new StringContent("{}") : null }, completion, Rig.Ct);

        /// <summary>The next call waits for so long, by the provider's word, and no longer.</summary>
        public async Task WaitsAsync(double seconds)
        {
            var requests = Requests;
            var call = PostAsync();
            await Eventually.TrueAsync(() => Pool.GetWaiters().Count == 1 || call.IsCompleted);
            Assert.Equal(PoolRejectionReason.ProviderLimit, Assert.Single(Pool.GetWaiters()).Reason);
            Time.Advance(TimeSpan.FromSeconds(seconds) - Moment);
            Assert.Single(Pool.GetWaiters());
            Assert.Equal(requests, Requests);
            Time.Advance(2 * Moment);
            using var answer = await call;
            Assert.Equal((HttpStatusCode.OK, requests + 1), (answer.StatusCode, Requests));
        }

        public async ValueTask DisposeAsync()
        {
            Client.Dispose();
            await Pool.DisposeAsync();
            await (_server?.DisposeAsync() ?? default);
            _authority.Dispose();
        }
    }
}
