using System.Net;
using System.Net.Http.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Warmline.Tests.Http;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>Small JSON bodies are serialised once, into a buffer that goes back to its pool exactly once, and never while somebody may read it. The pool overwrites what comes back.</summary>
public sealed class BodyBufferTests
{
    const int Small = 500;
    const int Large = 200 * 1024;   // beyond an HTTP/2 window, so that the platform has to wait in the middle of it

    static readonly TimeSpan Limit = TimeSpan.FromSeconds(30);

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, Small)]
    [InlineData(true, Large)]
    [InlineData(false, Small)]
    [InlineData(false, Large)]
    public async Task A_body_goes_as_its_content_wrote_it_and_the_buffer_comes_back(bool http2, int size)
    {
        await using var play = await EchoAsync(http2);
        for (var call = 0; call < 3; call++)
        {
            var content = new RecordedContent(Body(size, call)) { Headers = { { "Content-Language", "de" } } };
            using var request = new HttpRequestMessage(HttpMethod.Post, play.Address) { Content = content };
            using (var response = await play.Client.SendAsync(request, Rig.Ct))
            {
                Assert.Equal($"application/json; charset=utf-8|de|{size}||{Body(size, call)}", await response.Content.ReadAsStringAsync(Rig.Ct));
            }

            Assert.Same(content, request.Content);
            Assert.Equal((1, size), (content.Serialized, content.Headers.ContentLength));
            await play.Buffers.AllBackAsync();
            Assert.Equal(call + 1, play.Buffers.Rented);
        }
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task JsonContent_tells_no_length_is_buffered_as_it_grows_and_sent_with_its_length(bool http2)
    {
        await using var play = await EchoAsync(http2);
        foreach (var size in new[] { 10, 5_000, 100_000, 300_000 })
        {
            var text = new string('x', size);
            using var content = JsonContent.Create(text);
            using var response = await play.Client.PostAsync(play.Address, content, Rig.Ct);

            var framing = size <= 256 * 1024 ? $"{size + 2}|" : http2 ? "|" : "|chunked";   // beyond it is sent as it is
            Assert.Equal($"application/json; charset=utf-8||{framing}|\"{text}\"", await response.Content.ReadAsStringAsync(Rig.Ct));
            Assert.Equal(["Content-Type"], content.Headers.Select(header => header.Key));
            await play.Buffers.AllBackAsync();
        }

        Assert.InRange(play.Buffers.Rented, 3, 20);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(5 * 1024 * 1024, true, "application/json", "POST")]
    [InlineData((256 * 1024) + 1, true, "application/json", "POST")]
    [InlineData(Small, false, "application/json", "POST")]
    [InlineData(Small, true, "text/plain", "POST")]
    [InlineData(Small, true, "application/json", "PUT")]
    public async Task What_is_large_of_unknown_length_or_no_json_post_is_never_buffered(int size, bool tellsLength, string type, string method)
    {
        foreach (var http2 in new[] { true, false })
        {
            await using var play = await EchoAsync(http2, options => options.UseStreamAndBatchLanes());
            var content = new RecordedContent(Body(size), tellsLength) { Headers = { ContentType = new(type) } };
            using var response = await play.Client.SendAsync(new(new(method), play.Address) { Content = content }, Rig.Ct);

            Assert.EndsWith($"|{Body(size)}", await response.Content.ReadAsStringAsync(Rig.Ct), StringComparison.Ordinal);
            Assert.Equal((1, "UploadStream", 0), (content.Serialized, content.WrittenTo, play.Buffers.Rented));
        }
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Many_at_once_never_send_each_others_bytes(bool http2)
    {
        await using var play = await EchoAsync(http2);
        await Task.WhenAll(Enumerable.Range(0, 300).Select(async call =>
        {
            var size = call % 5 == 0 ? Large : 100 + (call * 97);
            using var cancel = CancellationTokenSource.CreateLinkedTokenSource(Rig.Ct);
            using var request = new HttpRequestMessage(HttpMethod.Post, play.Address) { Content = new RecordedContent(Body(size, call)) };
            var sending = play.Client.SendAsync(request, cancel.Token);
            if (call % 7 == 0)
            {
                await cancel.CancelAsync();   // somewhere on its way
            }

            try
            {
                using var response = await sending;
                Assert.EndsWith($"|{Body(size, call)}", await response.Content.ReadAsStringAsync(Rig.Ct), StringComparison.Ordinal);
            }
            catch (OperationCanceledException) when (cancel.IsCancellationRequested)
            {
                // As asked for.
            }
        }));

        Assert.InRange(play.Buffers.Out, 0, 43);   // the cancelled ones may leave theirs to the garbage collector
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_buffer_is_kept_from_its_pool_while_the_upload_goes_on_behind_the_answer()
    {
        await using var play = new Play(http2: true);
        var call = play.Client.SendAsync(new(HttpMethod.Post, play.Address) { Content = new RecordedContent(Body(Large)) }, HttpCompletionOption.ResponseHeadersRead, Rig.Ct);
        using var connection = await play.Frames.AcceptAsync();
        var (stream, read) = await connection.ReadWindowAsync();
        await connection.AnswerAsync(stream, ended: true);
        using (var response = await call)
        {
            Assert.Equal("", await response.Content.ReadAsStringAsync(Rig.Ct));
        }

        // The answer is whole and read. The platform waits for the window, with the buffer in its hands.
        Assert.Equal((65_535, 1, 1), (read.Length, play.Pool.GetStats().Active, play.Buffers.Out));
        await connection.WriteAsync(8, 0, 0, [0, 16, 0, 0]);   // WINDOW_UPDATE
        await connection.WriteAsync(8, 0, stream, [0, 16, 0, 0]);
        var (_, rest) = await connection.ReadBodyAsync();
        Assert.Equal(Body(Large), read + rest);
        await play.Buffers.AllBackAsync();
        Assert.Equal(1, play.Buffers.Rented);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_buffer_whose_upload_did_not_end_well_is_left_to_the_garbage_collector(bool cancelled)
    {
        await using var play = new Play(http2: true);
        using var cancel = CancellationTokenSource.CreateLinkedTokenSource(Rig.Ct);
        var call = play.Client.SendAsync(new(HttpMethod.Post, play.Address) { Content = new RecordedContent(Body(Large)) }, cancel.Token);
        using var connection = await play.Frames.AcceptAsync();
        var (stream, _) = await connection.ReadWindowAsync();
        if (cancelled)
        {
            await cancel.CancelAsync();
        }
        else
        {
            await connection.WriteAsync(RawHttp2Server.Reset, 0, stream, [0, 0, 0, 2]);
        }

        await Assert.ThrowsAnyAsync<Exception>(() => call);
        await Eventually.TrueAsync(() => play.Pool.GetStats().Active == 0, () => Rig.Describe(play.Pool.GetStats()));
        Assert.Equal((1, 0), (play.Buffers.Rented, play.Buffers.Returned));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(Small)]
    [InlineData(Large)]
    public async Task An_answer_before_the_end_of_the_upload_over_http1_returns_the_buffer_at_most_once(int size)
    {
        var heads = 0;
        await using var server = new RawHttp1Server(async connection =>
        {
            await connection.ReadHeadAsync();
            Interlocked.Increment(ref heads);
            await connection.SayAsync("HTTP/1.1 413 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            await connection.ReadToEndAsync();
        });
        await using var pool = new ConnectionPool();
        var buffers = new CountingPool();
        pool.Engine.Buffers = buffers;
        using var client = pool.CreateClient();
        for (var call = 1; call <= 20; call++)
        {
            using var response = await client.PostAsync(new Uri($"http://localhost:{server.Port}/"), new RecordedContent(Body(size)), Rig.Ct);
            Assert.Equal(((HttpStatusCode)413, call), (response.StatusCode, heads));
        }

        await Eventually.TrueAsync(() => pool.GetStats().Active == 0, () => Rig.Describe(pool.GetStats()));
        Assert.Equal(20, buffers.Rented);
        Assert.InRange(buffers.Returned, size == Small ? 20 : 0, 20);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public async Task A_body_of_any_type_is_given_again_when_the_server_did_not_process_it(bool isJson, bool refused)
    {
        await using var play = new Play(http2: true);
        var own = new RecordedContent(Body(Small));
        var call = play.Client.PostAsync(play.Address, isJson ? JsonContent.Create(new { stream = true }) : own, Rig.Ct);
        using var first = await play.Frames.AcceptAsync();
        var (stream, body) = await first.ReadBodyAsync();
        await (refused ? first.RefuseAsync(stream) : first.GoAwayAsync(0));
        using var second = refused ? null : await play.Frames.AcceptAsync();
        var (again, repeated) = await (second ?? first).ReadBodyAsync();
        Assert.Equal(1, play.Buffers.Out);
        await (second ?? first).AnswerAsync(again, ended: true);

        using var response = await call;
        Assert.Equal((HttpStatusCode.OK, isJson ? "{\"stream\":true}" : Body(Small), body, isJson ? 0 : 1), (response.StatusCode, body, repeated, own.Serialized));
        await play.Buffers.AllBackAsync();
        Assert.Equal(1, play.Buffers.Rented);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task An_upload_that_a_going_server_did_not_process_is_given_again_from_its_middle(bool isText)
    {
        await using var play = new Play(http2: true);
        var call = play.Client.PostAsync(play.Address, isText ? new StringContent(Body(Large)) : new RecordedContent(Body(Large)), Rig.Ct);
        using var first = await play.Frames.AcceptAsync();
        await first.ReadWindowAsync();
        await first.GoAwayAsync(0);
        using var second = await play.Frames.AcceptAsync();
        var (stream, read) = await second.ReadWindowAsync();
        await second.WriteAsync(8, 0, 0, [0, 16, 0, 0]);   // WINDOW_UPDATE
        await second.WriteAsync(8, 0, stream, [0, 16, 0, 0]);
        Assert.Equal(Body(Large), read + (await second.ReadBodyAsync()).Body);
        await second.AnswerAsync(stream, ended: true);

        using var response = await call;
        Assert.Equal((HttpStatusCode.OK, 1L), (response.StatusCode, play.Pool.GetStats().Faults.RetriedUnprocessed));
        await Eventually.TrueAsync(() => play.Pool.GetStats().Active == 0, () => Rig.Describe(play.Pool.GetStats()));
        Assert.Equal((isText ? 0 : 1, 0), (play.Buffers.Rented, play.Buffers.Returned));   // of the first upload nobody knows
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_call_that_gets_no_place_gives_its_buffer_back()
    {
        await using var play = await EchoAsync(http2: true, options => options.Timeouts.Pool = TimeSpan.FromMilliseconds(50));
        play.Pool.Pause();
        await Assert.ThrowsAsync<PoolTimeoutException>(() => play.Client.PostAsync(play.Address, new RecordedContent(Body(Small)), Rig.Ct));
        using var cancel = new CancellationTokenSource();
        var waiting = play.Client.SendAsync(new HttpRequestMessage(HttpMethod.Post, play.Address) { Content = new RecordedContent(Body(Small)) }.With(new() { MaxQueueTime = Timeout.InfiniteTimeSpan }), cancel.Token);
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting);

        Assert.Equal((2, 2), (play.Buffers.Rented, play.Buffers.Returned));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_content_that_throws_gives_its_own_exception_and_takes_no_place()
    {
        await using var play = await EchoAsync(http2: true);
        var own = new InvalidDataException("mine");
        Assert.Same(own, await Assert.ThrowsAsync<InvalidDataException>(() => PostAsync((_, _) => throw own)));
        Assert.Same(own, await Assert.ThrowsAsync<InvalidDataException>(() => PostAsync(async (stream, ct) =>
        {
            await stream.WriteAsync(new byte[10], ct);
            await Task.Yield();
            throw own;
        })));
        var wrapped = new InvalidOperationException("mine");
        Assert.Same(wrapped, (await Assert.ThrowsAsync<PoolRequestException>(() => PostAsync((_, _) => throw wrapped))).InnerException);   // as the platform wraps it
        var failed = await Assert.ThrowsAsync<PoolRequestException>(() => PostAsync((_, _) => throw new IOException("disk")));
        Assert.Equal((RequestVerdict.NotSent, "disk"), (failed.Verdict, failed.InnerException!.Message));
        Assert.Equal((0, 4, 4), (play.Pool.GetStats().TotalRequests, play.Buffers.Rented, play.Buffers.Returned));

        Task PostAsync(Func<Stream, CancellationToken, Task> write) => play.Client.PostAsync(play.Address, Json(write, Small), Rig.Ct);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(Small - 1)]
    [InlineData(Small + 1)]
    public async Task A_content_that_is_not_as_long_as_it_says_is_an_error(int written)
    {
        await using var play = await EchoAsync(http2: true);
        var swallows = Json(async (stream, ct) =>
        {
            try
            {
                await stream.WriteAsync(new byte[written], ct);
            }
            catch (IOException)
            {
                // It does not care.
            }
        }, Small);
        foreach (var content in new[] { swallows, Json((stream, ct) => stream.WriteAsync(new byte[written], ct).AsTask(), Small) })
        {
            var error = await Assert.ThrowsAsync<PoolRequestException>(() => play.Client.PostAsync(play.Address, content, Rig.Ct));
            Assert.Equal(RequestVerdict.NotSent, error.Verdict);
            Assert.Contains($"{Small}", error.Message, StringComparison.Ordinal);
        }

        Assert.Equal((0, 2, 2), (play.Pool.GetStats().TotalRequests, play.Buffers.Rented, play.Buffers.Returned));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_content_that_hangs_is_left_when_the_caller_cancels_or_the_whole_call_is_over(bool cancels)
    {
        var time = new ManualTime();
        await using var play = new Play(http2: true, options => options.Timeouts.Total = Limit, time);
        using var cancel = new CancellationTokenSource();
        var goOn = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var wrote = new TaskCompletionSource<Exception?>(TaskCreationOptions.RunContinuationsAsynchronously);
        var call = play.Client.PostAsync(play.Address, Json(async (stream, _) =>
        {
            await stream.WriteAsync(new byte[10], CancellationToken.None);
            await goOn.Task;   // it heeds no token
            wrote.SetResult(await Record.ExceptionAsync(() => stream.WriteAsync(new byte[10], CancellationToken.None).AsTask()));
        }, Small), cancel.Token);
        await (cancels ? cancel.CancelAsync() : Task.Run(() => time.Advance(Limit), Rig.Ct));

        if (cancels)
        {
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => call);
        }
        else
        {
            var error = await Assert.ThrowsAsync<RequestStalledException>(() => call);
            Assert.Equal((StallPhase.Total, Limit, RequestVerdict.NotSent), (error.Phase, error.Limit, error.Verdict));
        }

        Assert.Equal((0, 1, 1), (play.Pool.GetStats().TotalRequests, play.Buffers.Rented, play.Buffers.Returned));
        goOn.SetResult();
        Assert.IsType<IOException>(await wrote.Task);
    }

    static string Body(int size, int seed = 0) => "{\"x\":\"" + new string((char)('a' + (seed % 26)), size - 8) + "\"}";

    static OwnContent Json(Func<Stream, CancellationToken, Task> write, long length) => new(write, length) { Headers = { ContentType = new("application/json") } };

    /// <summary>Tells what came: type, language, length, coding, body.</summary>
    static async Task<Play> EchoAsync(bool http2, Action<ConnectionPoolOptions>? configure = null)
    {
        var play = new Play(http2, configure);
        await play.ServeAsync(async context =>
        {
            using var reader = new StreamReader(context.Request.Body);
            var body = await reader.ReadToEndAsync();
            var headers = context.Request.Headers;
            await context.Response.WriteAsync($"{headers.ContentType}|{headers.ContentLanguage}|{headers.ContentLength}|{headers.TransferEncoding}|{body}");
        });
        return play;
    }

    /// <summary>A server, of frames or Kestrel, and a pool whose buffers are counted.</summary>
    sealed class Play : IAsyncDisposable
    {
        readonly TestAuthority _authority = new();
        readonly bool _http2;
        Support.KestrelServer? _kestrel;
        RawHttp2Server? _frames;

        public Play(bool http2, Action<ConnectionPoolOptions>? configure = null, TimeProvider? time = null)
        {
            _http2 = http2;
            var options = new ConnectionPoolOptions { SslOptions = _authority.Trust() };
            configure?.Invoke(options);
            Pool = new ConnectionPool(options, null, time);
            Pool.Engine.Buffers = Buffers;
            Client = Pool.CreateClient();
        }

        public ConnectionPool Pool { get; }

        public HttpClient Client { get; }

        public CountingPool Buffers { get; } = new();

        public RawHttp2Server Frames => _frames ??= new RawHttp2Server(_authority);

        public Uri Address => _kestrel is null ? Frames.Address : new Uri($"https://localhost:{_kestrel.Port}/");

        public async Task ServeAsync(RequestDelegate answer) => _kestrel = await Support.KestrelServer.StartAsync(_authority.Issue(), answer, _http2 ? HttpProtocols.Http2 : HttpProtocols.Http1);

        public async ValueTask DisposeAsync()
        {
            Client.Dispose();
            await Pool.DisposeAsync();
            _frames?.Dispose();
            await (_kestrel?.DisposeAsync() ?? default);
            _authority.Dispose();
        }
    }
}
