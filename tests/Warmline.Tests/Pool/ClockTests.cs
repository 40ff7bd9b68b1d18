using System.Net;
using System.Net.Sockets;
using System.Text;
using Warmline.MockLlm;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>The clocks of a call: each ends a silence in its own phase, aborts the exchange at the server, and leaves what progresses alone.</summary>
public sealed class ClockTests
{
    static readonly TimeSpan Short = TimeSpan.FromMilliseconds(200);

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task No_headers_end_in_the_first_byte_clock(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2, options => options.Timeouts.FirstByte = Short, new() { OnRequest = _ => new MockReply { DelayBeforeHeaders = Timeout.InfiniteTimeSpan } });

        var error = await Assert.ThrowsAsync<RequestStalledException>(() => rig.CallAsync());

        await AssertStalledAsync(rig, error, StallPhase.FirstByte, $"No response headers came from {Origin(rig)} for 0.2 s (Timeouts.FirstByte). Raise Timeouts.FirstByte");
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Silence_in_mid_body_ends_in_the_read_clock(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2, options => options.Timeouts.Read = Short);
        using var response = await rig.SendAsync(Calls.Stream(tokens: 2, gapMilliseconds: 3_600_000));
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);

        var error = await Assert.ThrowsAsync<RequestStalledException>(() => response.Content.ReadAsStringAsync(Rig.Ct));

        await AssertStalledAsync(rig, error, StallPhase.Read, $"No byte of the response body came from {Origin(rig)} for 0.2 s (Timeouts.Read)");
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, true)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    [InlineData(false, false)]
    public async Task The_total_clock_ends_a_call_that_progresses(bool http2, bool inBody)
    {
        await using var rig = await Rig.StartAsync(http2, options => options.Timeouts.Total = Short, inBody ? null : new() { OnRequest = _ => new MockReply { DelayBeforeHeaders = Timeout.InfiniteTimeSpan } });

        var error = await Assert.ThrowsAsync<RequestStalledException>(() => rig.CallAsync(Calls.Stream(gapMilliseconds: 5)));

        await AssertStalledAsync(rig, error, StallPhase.Total, $"The call did not end at {Origin(rig)} for 0.2 s (Timeouts.Total)");
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_server_that_takes_no_more_of_the_body_ends_in_the_write_clock(bool http2)
    {
        // A service time that never ends before the body is read: it stays in the windows of HTTP/2 and TCP, and the rest cannot be written.
        await using var rig = await Rig.StartAsync(http2, options => options.Timeouts.Write = Short, new() { OnRequest = _ => new MockReply { BeforeBody = true, DelayBeforeHeaders = Timeout.InfiniteTimeSpan } });
        var request = Calls.Chat();
        request.Content = new ByteArrayContent(new byte[64 * 1024 * 1024]);

        var error = await Assert.ThrowsAsync<RequestStalledException>(() => rig.CallAsync(request));

        await AssertStalledAsync(rig, error, StallPhase.Write, $"No byte of the request body could be written to {Origin(rig)} for 0.2 s (Timeouts.Write)", seenByServer: http2);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_body_whose_own_source_is_slow_is_not_stalled(bool http2)
    {
        var time = new ManualTime();
        await using var rig = await Rig.StartAsync(http2, time: time);
        var source = new SlowContent();
        var request = Calls.Chat();
        request.Content = source;
        var call = rig.CallAsync(request);
        await rig.DoneAsync(source.Asked);   // nothing is written yet
        await rig.StatsAsync(stats => !http2 || stats.Origins[0].StreamLimit is not null);   // or the hour would end the wait for SETTINGS

        time.Advance(TimeSpan.FromHours(1));
        Assert.False(call.IsCompleted);
        source.Go();
        await rig.DoneAsync(call);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_slow_stream_that_progresses_is_not_cut(bool http2)
    {
        var time = new ManualTime();
        await using var rig = await Rig.StartAsync(http2, time: time);
        using var response = await rig.SendAsync(Calls.Stream(tokens: 40, gapMilliseconds: 3));
        await using var body = await response.Content.ReadAsStreamAsync(Rig.Ct);
        var (buffer, total) = (new byte[64 * 1024], 0);
        for (int read; (read = await body.ReadAsync(buffer, Rig.Ct)) > 0; total += read)
        {
            time.Advance(TimeSpan.FromMinutes(10));   // the caller takes its time between two reads; the stream as a whole takes hours
        }

        Assert.True(total > 1000);
        Assert.Equal((1L, 0L), (rig.Counters.RequestsCompleted, rig.Counters.AbortedRequests));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(StallPhase.FirstByte)]
    [InlineData(StallPhase.Read)]
    [InlineData(StallPhase.Total)]
    public async Task A_call_can_bring_its_own_clocks(StallPhase phase)
    {
        await using var rig = await Rig.StartAsync(options => options.Timeouts = new() { FirstByte = Timeout.InfiniteTimeSpan, Read = Timeout.InfiniteTimeSpan, Write = TimeSpan.FromSeconds(1) });
        var own = new PoolRequestOptions { Timeouts = phase switch { StallPhase.FirstByte => new() { FirstByte = Short }, StallPhase.Read => new() { Read = Short }, _ => new() { Total = Short } } };
        var request = phase is StallPhase.FirstByte ? Calls.Chat(false, ("x-mock-service-ms", "3600000")) : Calls.Stream(tokens: 2, gapMilliseconds: 3_600_000);

        var error = await Assert.ThrowsAsync<RequestStalledException>(() => rig.CallAsync(request.With(own)));

        Assert.Equal((phase, Short), (error.Phase, error.Limit));
        using (PoolRequestOptions.Use(own))
        {
            request = phase is StallPhase.FirstByte ? Calls.Chat(false, ("x-mock-service-ms", "3600000")) : Calls.Stream(tokens: 2, gapMilliseconds: 3_600_000);
            Assert.Equal(phase, (await Assert.ThrowsAsync<RequestStalledException>(() => rig.CallAsync(request))).Phase);
        }

        Assert.Null(PoolRequestOptions.Current);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_wait_for_a_place_ends_in_a_pool_timeout_with_the_reason(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2, options =>
        {
            (options.MaxConnections, options.MaxConcurrentRequests, options.Timeouts.Pool) = (1, http2 ? 1 : null, Short);
        });
        var gate = new Gate();
        var running = await rig.HoldAsync(1, gate);

        var error = await Assert.ThrowsAsync<PoolTimeoutException>(() => rig.CallAsync());

        Assert.Equal((http2 ? PoolRejectionReason.MaxConcurrentRequests : PoolRejectionReason.MaxConnections, 1), (error.Reason, error.Limit));
        Assert.True(error.Waited >= Short);
        Assert.Contains($"No place for a request to {Origin(rig)} within 0.2 s (Timeouts.Pool): ", error.Message);
        Assert.Contains(http2 ? "1 request (MaxConcurrentRequests) is in flight. Raise MaxConcurrentRequests, send fewer calls at once, or raise Timeouts.Pool (1 in flight, 1 connection of which 0 idle, 0 waiting)."
            : "the only connection (MaxConnections) is busy. Raise MaxConnections, send fewer calls at once, or raise Timeouts.Pool (1 in flight, 1 connection of which 0 idle, 0 waiting).", error.Message);
        Assert.Equal((1, 0, 1L), (error.Stats.Active, error.Stats.Queued, error.Stats.Refused));
        Assert.IsNotType<HttpRequestException>(error, exactMatch: false);   // SDKs would send it again at once
        gate.Open();
        await rig.DoneAsync(running);
        Assert.Equal(1, rig.Counters.Requests);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_wait_that_the_total_clock_ends_names_that_clock()
    {
        await using var rig = await Rig.StartAsync(options => (options.MaxConcurrentRequests, options.Timeouts.Pool, options.Timeouts.Total) = (1, TimeSpan.FromHours(1), Short));
        var gate = new Gate();
        var running = await rig.HoldAsync(1, gate, () => Calls.Chat().With(new() { Timeouts = new() { Total = Timeout.InfiniteTimeSpan } }));

        var error = await Assert.ThrowsAsync<PoolTimeoutException>(() => rig.CallAsync());

        Assert.Contains("within 0.2 s (Timeouts.Total)", error.Message);
        Assert.Contains("send fewer calls at once, or raise Timeouts.Total (", error.Message);
        gate.Open();
        await rig.DoneAsync(running);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public async Task A_cancelled_call_is_the_callers_own_cancellation_and_is_aborted_at_the_server(bool http2, bool inBody)
    {
        await using var rig = await Rig.StartAsync(http2);
        using var caller = new CancellationTokenSource();
        using var request = inBody ? Calls.Stream(gapMilliseconds: 5) : Calls.Chat(false, ("x-mock-service-ms", "3600000"));
        var call = rig.Client.SendAsync(request, caller.Token);   // buffered: the body is read under the same token
        await rig.MockAsync(counters => counters.StreamsOpen == 1);
        await caller.CancelAsync();

        var error = await Assert.ThrowsAsync<TaskCanceledException>(() => call);

        Assert.Equal(caller.Token, error.CancellationToken);
        await rig.MockAsync(counters => counters.AbortedRequests == 1);
        await rig.StatsAsync(stats => stats.Active == 0 && stats.Connections == (http2 ? 1 : 0));   // an HTTP/1.1 connection cannot outlive the stream that is cut
        await rig.CallAsync();
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_cancelled_read_is_the_callers_own_cancellation_and_is_aborted_at_the_server(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2);
        using var caller = new CancellationTokenSource();
        using var response = await rig.SendAsync(Calls.Stream(tokens: 2, gapMilliseconds: 3_600_000));
        await using var body = await response.Content.ReadAsStreamAsync(Rig.Ct);
        var buffer = new byte[64 * 1024];
        Assert.True(await body.ReadAsync(buffer, caller.Token) > 0);
        var read = ReadOnAsync();
        await caller.CancelAsync();

        var error = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => read);

        Assert.Equal(caller.Token, error.CancellationToken);
        await rig.MockAsync(counters => counters.AbortedRequests == 1);
        await rig.QuietAsync();   // without the response having been disposed

        async Task ReadOnAsync()
        {
            while (await body.ReadAsync(buffer, caller.Token) > 0)
            {
            }
        }
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_call_cancelled_before_it_begins_takes_no_place()
    {
        await using var rig = await Rig.StartAsync();

        var error = await Assert.ThrowsAsync<TaskCanceledException>(() => rig.Client.SendAsync(Calls.Chat(), new CancellationToken(canceled: true)));

        Assert.True(error.CancellationToken.IsCancellationRequested);
        Assert.Equal((0, 0, 0L), (rig.Stats.Active, rig.Stats.Queued, rig.Counters.ConnectionsAccepted));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task The_clients_own_timeout_is_told_from_the_pools()
    {
        await using var rig = await Rig.StartAsync();
        using var impatient = new HttpClient(rig.Pool.CreateHandler()) { BaseAddress = rig.Mock.BaseAddress, Timeout = Short };

        var error = await Assert.ThrowsAsync<TaskCanceledException>(() => impatient.SendAsync(Calls.Chat(false, ("x-mock-service-ms", "3600000"))));

        Assert.IsType<TimeoutException>(error.InnerException);
        Assert.Contains("HttpClient.Timeout", error.Message);
        await rig.MockAsync(counters => counters.AbortedRequests == 1);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_request_whose_headers_cannot_be_written_is_under_the_first_byte_clock()
    {
        using var server = new RawServer();
        await using var pool = new ConnectionPool(new ConnectionPoolOptions { Timeouts = { FirstByte = Short } });
        using var client = pool.CreateClient(new Uri($"http://127.0.0.1:{server.Port}"));
        var accepting = server.AcceptAsync();   // and never read

        var error = await Assert.ThrowsAsync<RequestStalledException>(() => client.SendAsync(Calls.Chat(false, ("x-long", new string('x', 32 * 1024 * 1024))), Rig.Ct));

        Assert.Equal(StallPhase.FirstByte, error.Phase);
        await Eventually.TrueAsync(() => pool.GetStats() is { Active: 0, Connections: 0 }, () => Rig.Describe(pool.GetStats()));
        (await accepting).Dispose();
    }

    static async Task AssertStalledAsync(Rig rig, RequestStalledException error, StallPhase phase, string message, bool seenByServer = true)
    {
        Assert.Equal((phase, Short, RequestVerdict.Unknown), (error.Phase, error.Limit, error.Verdict));
        Assert.StartsWith(message, error.Message);
        if (seenByServer)   // on HTTP/1.1 a server that reads no more does not see the end either
        {
            await rig.MockAsync(counters => counters is { AbortedRequests: 1, StreamsOpen: 0 });
        }

        await rig.QuietAsync();
    }

    static string Origin(Rig rig) => rig.Mock.BaseAddress.GetLeftPart(UriPartial.Authority);

    /// <summary>Waits before its first byte.</summary>
    sealed class SlowContent : HttpContent
    {
        readonly TaskCompletionSource _asked = new(TaskCreationOptions.RunContinuationsAsynchronously);
        readonly TaskCompletionSource _go = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public Task Asked => _asked.Task;

        public void Go() => _go.SetResult();

        protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context)
        {
            _asked.SetResult();
            await _go.Task;
            await stream.WriteAsync("{}"u8.ToArray());
        }

        protected override bool TryComputeLength(out long length)
        {
            length = 0;
            return false;
        }
    }
}
