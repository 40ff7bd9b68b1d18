using System.Collections.Concurrent;
using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Http;
using HttpProtocols = Microsoft.AspNetCore.Server.Kestrel.Core.HttpProtocols;
using Warmline.MockLlm;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>A lease lasts until both bodies have ended, whatever way they end; the caller's request stays the caller's.</summary>
public sealed class LeaseTests
{
    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_response_read_to_its_end_ends_the_lease_without_being_disposed(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2);
        var response = await rig.SendAsync(Calls.Chat());
        Assert.Equal(1, rig.Stats.Active);

        Assert.Contains("Warm connections", await response.Content.ReadAsStringAsync(Rig.Ct));

        await rig.StatsAsync(stats => stats is { Active: 0, Idle: 1 });
        await rig.CallAsync();
        Assert.Equal(1, rig.Counters.ConnectionsAccepted);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_response_disposed_early_stops_the_server(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2);
        var response = await rig.SendAsync(Calls.Stream());
        await using var body = await response.Content.ReadAsStreamAsync(Rig.Ct);
        Assert.True(await body.ReadAsync(new byte[100], Rig.Ct) > 0);

        response.Dispose();

        Assert.Equal(0, rig.Stats.Active);
        await rig.MockAsync(counters => counters is { AbortedRequests: 1, StreamsOpen: 0 });
        await rig.CallAsync();
        Assert.Equal(http2 ? 1 : 2, rig.Counters.ConnectionsAccepted);   // HTTP/2 keeps its connection
        response.Dispose();
        Assert.Equal(0, rig.Stats.Active);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Connections_that_end_with_the_calls_that_were_left_are_no_reason_to_back_off()
    {
        await using var rig = await Rig.StartHttp1Async(time: new ManualTime());   // a back-off would never end on this clock
        for (var i = 0; i < 5; i++)
        {
            using var left = await rig.SendAsync(Calls.Stream());
        }

        await rig.DoneAsync(rig.CallAsync());
        Assert.Equal((6L, 0L), (rig.Counters.ConnectionsAccepted, rig.Stats.FailedDials));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_response_that_nobody_looked_at_ends_its_lease_when_it_is_disposed(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2);
        for (var i = 0; i < 20; i++)
        {
            (await rig.SendAsync(Calls.Chat())).Dispose();
        }

        await rig.QuietAsync();
        Assert.Equal(20, rig.Counters.Requests);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, "GET", "/empty", HttpStatusCode.OK)]
    [InlineData(false, "GET", "/empty", HttpStatusCode.OK)]
    [InlineData(true, "GET", "/204", HttpStatusCode.NoContent)]
    [InlineData(false, "GET", "/204", HttpStatusCode.NoContent)]
    [InlineData(true, "GET", "/304", HttpStatusCode.NotModified)]
    [InlineData(false, "GET", "/304", HttpStatusCode.NotModified)]
    [InlineData(true, "HEAD", "/", HttpStatusCode.OK)]
    [InlineData(false, "HEAD", "/", HttpStatusCode.OK)]
    public async Task A_response_without_a_body_ends_its_lease_by_itself(bool http2, string method, string path, HttpStatusCode status)
    {
        await using var server = await Server.StartAsync(http2);
        for (var i = 0; i < 3; i++)
        {
            var response = await server.Client.SendAsync(new HttpRequestMessage(new HttpMethod(method), path), HttpCompletionOption.ResponseHeadersRead, Rig.Ct);   // neither read nor disposed

            Assert.Equal(status, response.StatusCode);
            await server.QuietAsync();
        }

        Assert.Equal((3L, 1L), (server.Pool.GetStats().TotalRequests, server.Pool.GetStats().NewConnections));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_request_without_a_body_and_an_error_status_are_ordinary_calls(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2);
        using var models = await rig.Client.GetAsync("v1/models", Rig.Ct);
        using var missing = await rig.Client.GetAsync("v1/nothing", Rig.Ct);
        using var busy = await rig.SendAsync(Calls.Chat(false, ("x-mock-status", "429"), ("x-mock-retry-after", "1")));
        using var broken = await rig.SendAsync(Calls.Chat(false, ("x-mock-status", "500")));

        Assert.Equal([HttpStatusCode.OK, HttpStatusCode.NotFound, HttpStatusCode.TooManyRequests, HttpStatusCode.InternalServerError], new[] { models, missing, busy, broken }.Select(response => response.StatusCode));
        Assert.Contains("rate_limit", await busy.Content.ReadAsStringAsync(Rig.Ct));
        Assert.Equal(4, rig.Counters.RequestsCompleted);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task An_answer_that_comes_before_the_upload_ends_is_given_at_once_and_the_lease_ends_with_the_upload()
    {
        await using var server = await Server.StartAsync(http2: true);
        var gate = new Gate();
        using var response = await server.Client.SendAsync(gate.Hold(new HttpRequestMessage(HttpMethod.Post, "/early") { Content = Calls.Body() }), HttpCompletionOption.ResponseHeadersRead, Rig.Ct);

        Assert.Equal(HttpStatusCode.Unauthorized, response.StatusCode);
        Assert.Equal("no", await response.Content.ReadAsStringAsync(Rig.Ct));
        gate.Open();
        await server.QuietAsync();
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task An_early_answer_that_is_disposed_while_the_upload_runs_ends_the_lease(bool http2)
    {
        await using var server = await Server.StartAsync(http2);
        using var stop = new CancellationTokenSource();
        var gate = new Gate();
        var call = server.Client.SendAsync(gate.Hold(new HttpRequestMessage(HttpMethod.Post, "/early") { Content = Calls.Body() }), HttpCompletionOption.ResponseHeadersRead, stop.Token);
        if (http2)
        {
            (await call).Dispose();
        }
        else
        {
            // The platform shows an HTTP/1.1 answer only after the upload: the caller can but leave.
            await server.Answered;
            await stop.CancelAsync();
            await Assert.ThrowsAsync<TaskCanceledException>(() => call);
        }

        await server.QuietAsync();
        using var next = await server.Client.GetAsync("/", Rig.Ct);
        Assert.Equal(HttpStatusCode.OK, next.StatusCode);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task The_request_gets_its_own_version_policy_and_content_back(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2);
        foreach (var path in new[] { "v1/chat/completions", "fail" })
        {
            using var request = Calls.Chat();
            var content = request.Content;
            request.RequestUri = path == "fail" ? new Uri("https://127.0.0.1:1/") : new Uri(path, UriKind.Relative);
            (request.Version, request.VersionPolicy) = (HttpVersion.Version11, HttpVersionPolicy.RequestVersionOrHigher);
            using var response = path == "fail" ? null : await rig.SendAsync(request);
            if (response is null)
            {
                await Assert.ThrowsAsync<PoolConnectException>(() => rig.SendAsync(request));
            }

            Assert.Equal((HttpVersion.Version11, HttpVersionPolicy.RequestVersionOrHigher), (request.Version, request.VersionPolicy));
            Assert.Same(content, request.Content);
            Assert.Equal(response?.Version, response is null ? null : http2 ? HttpVersion.Version20 : HttpVersion.Version11);
            Assert.Same(response?.RequestMessage, response is null ? null : request);
            Assert.Contains("gpt-4o-mini", await content!.ReadAsStringAsync(Rig.Ct));   // not disposed by the pool
        }
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_synchronous_call_works_and_can_be_cancelled(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2);
        using var response = await Task.Run(() => rig.Client.Send(Calls.Chat(), Rig.Ct));
        using var reader = new StreamReader(response.Content.ReadAsStream(Rig.Ct));
        Assert.Contains("Warm connections", await Task.Run(reader.ReadToEnd));

        using var streamed = await Task.Run(() => rig.Client.Send(Calls.Stream(tokens: 50), HttpCompletionOption.ResponseHeadersRead, Rig.Ct));
        using var copy = new MemoryStream();
        await Task.Run(() => streamed.Content.CopyTo(copy, null, Rig.Ct));
        Assert.EndsWith("data: [DONE]\n\n", System.Text.Encoding.UTF8.GetString(copy.ToArray()));

        using var stop = new CancellationTokenSource();
        var endless = Task.Run(() => rig.Client.Send(Calls.Stream(gapMilliseconds: 5), stop.Token));
        await rig.MockAsync(counters => counters.StreamsOpen == 1);
        await stop.CancelAsync();
        Assert.Equal(stop.Token, (await Assert.ThrowsAnyAsync<OperationCanceledException>(() => endless)).CancellationToken);
        await rig.MockAsync(counters => counters.AbortedRequests == 1);
        await rig.QuietAsync();
        Assert.Equal(http2 ? "HTTP/2" : "HTTP/1.1", rig.Counters.Connections[0].Protocol);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_request_that_insists_on_a_version_gets_it_and_any_other_rides_what_the_server_speaks()
    {
        await using var rig = await Rig.StartAsync();
        var asked = new (Version Version, HttpVersionPolicy Policy, Version Got)[]
        {
            (HttpVersion.Version11, HttpVersionPolicy.RequestVersionOrLower, HttpVersion.Version20),
            (HttpVersion.Version11, HttpVersionPolicy.RequestVersionOrHigher, HttpVersion.Version20),
            (HttpVersion.Version20, HttpVersionPolicy.RequestVersionOrLower, HttpVersion.Version20),
            (HttpVersion.Version30, HttpVersionPolicy.RequestVersionOrLower, HttpVersion.Version20),
            (HttpVersion.Version20, HttpVersionPolicy.RequestVersionExact, HttpVersion.Version20),
            (HttpVersion.Version11, HttpVersionPolicy.RequestVersionExact, HttpVersion.Version11),
            (HttpVersion.Version10, HttpVersionPolicy.RequestVersionExact, HttpVersion.Version11),
        };
        foreach (var (version, policy, got) in asked)
        {
            var request = Calls.Chat();
            (request.Version, request.VersionPolicy) = (version, policy);
            using var response = await rig.SendAsync(request);
            Assert.Equal((version, policy, got), (version, policy, response.Version));
        }

        Assert.Contains(rig.Counters.Connections, connection => connection.Protocol == "HTTP/2");
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Every_way_to_call_works_on_the_handler()
    {
        await using var rig = await Rig.StartAsync();
        using var invoker = new HttpMessageInvoker(rig.Pool.CreateHandler());
        var request = Calls.Chat();
        request.RequestUri = new Uri(rig.Mock.BaseAddress, request.RequestUri!);
        using var invoked = await invoker.SendAsync(request, Rig.Ct);
        Assert.Contains("Warm", await invoked.Content.ReadAsStringAsync(Rig.Ct));

        using var buffered = await rig.Client.SendAsync(Calls.Chat(), Rig.Ct);
        Assert.Equal(0, rig.Stats.Active);   // the body is in memory
        Assert.Contains("Warm", await buffered.Content.ReadAsStringAsync(Rig.Ct));
        Assert.Contains("Warm", await buffered.Content.ReadAsStringAsync(Rig.Ct));

        using var posted = await rig.Client.PostAsync("v1/chat/completions", Calls.Body(), Rig.Ct);
        Assert.Contains("gpt-4o-mini", await rig.Client.GetStringAsync("v1/models", Rig.Ct));
        await using var stream = await rig.Client.GetStreamAsync("v1/models", Rig.Ct);
        Assert.True(await stream.ReadAsync(new byte[10], Rig.Ct) > 0);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Disposing_a_client_or_handler_leaves_the_pool_open()
    {
        await using var rig = await Rig.StartAsync();
        var handler = rig.Pool.CreateHandler();
        using (var client = rig.Pool.CreateClient(rig.Mock.BaseAddress))
        using (await client.SendAsync(Calls.Chat(), Rig.Ct))
        {
        }

        handler.Dispose();
        await rig.CallAsync();
        var request = Calls.Chat();
        request.RequestUri = new Uri(rig.Mock.BaseAddress, request.RequestUri!);
        using var again = await new HttpMessageInvoker(handler).SendAsync(request, Rig.Ct);
        Assert.Equal(HttpStatusCode.OK, again.StatusCode);
        Assert.Equal(1, rig.Counters.ConnectionsAccepted);
    }

    [Theory]
    [InlineData("https://api.openai.com/v1", "https://api.openai.com/v1/")]
    [InlineData("https://api.openai.com/v1/", "https://api.openai.com/v1/")]
    [InlineData("https://api.openai.com", "https://api.openai.com/")]
    [InlineData("http://localhost:8080/a/b?api-version=1", "http://localhost:8080/a/b/?api-version=1")]
    public async Task A_clients_base_address_ends_in_a_slash(string given, string expected)
    {
        await using var pool = new ConnectionPool();
        using var client = pool.CreateClient(new Uri(given));
        Assert.Equal((expected, Timeout.InfiniteTimeSpan), (client.BaseAddress!.ToString(), client.Timeout));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Large_bodies_arrive_whole_both_ways_in_parallel(bool http2)
    {
        await using var server = await Server.StartAsync(http2);
        await Task.WhenAll(Enumerable.Range(0, 50).Select(async seed =>
        {
            var bytes = new byte[5 * 1024 * 1024];
            new Random(seed).NextBytes(bytes);
            HttpContent content = seed % 2 == 0 ? new ByteArrayContent(bytes) : new StreamContent(new MemoryStream(bytes));
            using var response = await server.Client.SendAsync(new HttpRequestMessage(HttpMethod.Post, "/echo") { Content = content }, HttpCompletionOption.ResponseHeadersRead, Rig.Ct);
            await using var body = await response.Content.ReadAsStreamAsync(Rig.Ct);
            Assert.Equal(SHA256.HashData(bytes), await SHA256.HashDataAsync(body, Rig.Ct));
        }));
        await server.QuietAsync();
        Assert.Equal(50, server.Pool.GetStats().TotalRequests);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_body_that_ends_before_its_length_is_an_error_and_no_short_answer(bool http2)
    {
        await using var server = await Server.StartAsync(http2);

        await Assert.ThrowsAnyAsync<HttpRequestException>(() => server.Client.GetByteArrayAsync("/short", Rig.Ct));
        await server.QuietAsync();
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task An_upload_that_fails_in_the_callers_own_code_is_the_callers_error()
    {
        await using var rig = await Rig.StartAsync();
        var request = Calls.Chat();
        request.Content = new StreamContent(new FailingStream());

        var error = await Assert.ThrowsAnyAsync<Exception>(() => rig.SendAsync(request));

        Assert.Contains("the caller's own", error.ToString());
        await rig.QuietAsync();
        await rig.CallAsync();
    }

    /// <summary>Kestrel and a pool that trusts it, for answers that the mock does not give.</summary>
    sealed class Server : IAsyncDisposable
    {
        readonly TestAuthority _authority = new();
        readonly TaskCompletionSource _answered = new(TaskCreationOptions.RunContinuationsAsynchronously);
        X509Certificate2 _certificate = null!;
        KestrelServer _server = null!;

        public ConnectionPool Pool { get; private set; } = null!;

        public HttpClient Client { get; private set; } = null!;

        /// <summary>The early answer is on its way.</summary>
        public Task Answered => _answered.Task;

        public static async Task<Server> StartAsync(bool http2)
        {
            var server = new Server();
            server._certificate = server._authority.Issue();
            server._server = await KestrelServer.StartAsync(server._certificate, server.AnswerAsync, http2 ? HttpProtocols.Http1AndHttp2 : HttpProtocols.Http1);
            server.Pool = new ConnectionPool(new ConnectionPoolOptions { SslOptions = server._authority.Trust() });
            server.Client = server.Pool.CreateClient(new Uri($"https://localhost:{server._server.Port}"));
            return server;
        }

        public Task QuietAsync() => Eventually.TrueAsync(() => Pool.GetStats() is { Active: 0, Queued: 0 }, () => Rig.Describe(Pool.GetStats()));

        public async ValueTask DisposeAsync()
        {
            Client.Dispose();
            await Pool.DisposeAsync();
            await _server.DisposeAsync();
            _certificate.Dispose();
            _authority.Dispose();
        }

        async Task AnswerAsync(HttpContext http)
        {
            switch (http.Request.Path.Value)
            {
                case "/empty":
                    http.Response.ContentLength = 0;
                    break;
                case "/204":
                    http.Response.StatusCode = StatusCodes.Status204NoContent;
                    break;
                case "/304":
                    http.Response.StatusCode = StatusCodes.Status304NotModified;
                    break;
                case "/early":
                    http.Response.StatusCode = StatusCodes.Status401Unauthorized;
                    await http.Response.WriteAsync("no");
                    await http.Response.CompleteAsync();
                    _answered.TrySetResult();
                    break;
                case "/echo":
                    using (var whole = new MemoryStream())
                    {
                        await http.Request.Body.CopyToAsync(whole);
                        http.Response.ContentLength = whole.Length;
                        await http.Response.Body.WriteAsync(whole.GetBuffer().AsMemory(0, (int)whole.Length));
                    }

                    break;
                case "/short":
                    http.Response.ContentLength = 100;
                    await http.Response.WriteAsync("short");
                    await http.Response.Body.FlushAsync();
                    http.Abort();
                    break;
                default:
                    http.Response.ContentLength = HttpMethods.IsHead(http.Request.Method) ? 1234 : 2;
                    await http.Response.WriteAsync(HttpMethods.IsHead(http.Request.Method) ? "" : "ok");
                    break;
            }
        }
    }

    sealed class FailingStream : MemoryStream
    {
        public override Task CopyToAsync(Stream destination, int bufferSize, CancellationToken cancellationToken) => Task.FromException(new InvalidOperationException("the caller's own"));
    }
}
