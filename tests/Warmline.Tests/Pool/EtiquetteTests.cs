using System.Net;
using System.Text;
using Microsoft.Extensions.Logging;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>What HTTP/2 servers count against a client: resets and PINGs. And what is believed of a connection whose PING is not answered
/// at once.</summary>
public sealed class EtiquetteTests
{
    const int EnhanceYourCalm = 11;
    static readonly byte[] EventStream = [0x88, 0x0f, 0x10, 17, .. "text/event-stream"u8];   // :status 200, content-type

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Calls_that_are_cancelled_cost_no_long_stream_its_connection(bool leftAfterTheFirstEvent)
    {
        const int Most = 100;
        using var server = new RawHttp2Server();
        var came = new SemaphoreSlim(0);
        server.Serve(async (connection, frame, _) =>
        {
            if (frame.Type is RawHttp2Server.Reset && connection.Count(RawHttp2Server.Reset) >= Most)
            {
                await connection.GoAwayAsync(int.MaxValue, EnhanceYourCalm, "too many resets");
                connection.Dispose();
            }
            else if (frame.EndsStream)
            {
                // The first eight are long streams, the others answers that their readers leave.
                if (leftAfterTheFirstEvent || Interlocked.Increment(ref _streams) <= 8)
                {
                    await connection.RespondAsync(frame.Stream, EventStream, "data: {\"a\":1}\n\n", ended: false);
                }

                came.Release();
            }
        });
        await using var pool = server.NewPool();
        using var client = pool.CreateClient(server.Address);
        await pool.WarmUpAsync(server.Address, 4, Rig.Ct);
        var streams = new List<Stream>();
        for (var i = 0; i < 8; i++)
        {
            streams.Add(await OpenAsync(client));
            await came.WaitAsync(Rig.Ct);
        }

        for (var i = 0; i < 4 * 120; i++)
        {
            if (leftAfterTheFirstEvent)
            {
                await (await OpenAsync(client)).DisposeAsync();
            }
            else
            {
                using var leaving = new CancellationTokenSource();
                var call = client.PostAsync("v1", new StringContent("{}"), leaving.Token);
                await came.WaitAsync(Rig.Ct);
                await leaving.CancelAsync();
                await Assert.ThrowsAnyAsync<OperationCanceledException>(() => call);
            }
        }

        await pool.StatsAsync(stats => stats.Active == 8);
        Assert.All(server.Served, connection => Assert.InRange(connection.Count(RawHttp2Server.Reset), 0, Most - 1));
        await pool.StatsAsync(static stats => stats.Origins.Sum(static origin => origin.ResetsSent) >= 4 * 115);   // one that was the last on a draining connection ended with it
        foreach (var stream in streams)
        {
            await stream.DisposeAsync();
        }
    }

    int _streams;

    [Fact(Timeout = Rig.Patience)]
    public async Task A_goaway_with_an_error_is_logged_once_with_what_was_sent()
    {
        using var server = new RawHttp2Server();
        server.Serve(static async (connection, frame, _) =>
        {
            if (frame.Type is RawHttp2Server.Reset)
            {
                await connection.GoAwayAsync(3, EnhanceYourCalm, "again");
                await connection.AnswerAsync(1, ended: true);
            }
            else if (frame.EndsStream && frame.Stream == 3)
            {
                await connection.GoAwayAsync(3, EnhanceYourCalm, "slow\r\ndown, please");
            }
        });
        var logs = new LogRecorder();
        await using var pool = server.NewPool(logs: logs);
        using var client = pool.CreateClient(server.Address);

        using var leaving = new CancellationTokenSource();
        var first = client.PostAsync("v1", new StringContent("{}"), Rig.Ct);
        await Eventually.TrueAsync(() => server.Served is [var only] && only.Count(RawHttp2Server.Headers) == 1);
        var second = client.PostAsync("v1", new StringContent("{}"), leaving.Token);
        await Eventually.TrueAsync(() => logs.Entries.Any(static entry => entry.Message.Contains("GOAWAY", StringComparison.Ordinal)));
        await leaving.CancelAsync();   // its reset makes the server say it once more
        using var response = await first;
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => second);
        await pool.StatsAsync(static stats => stats.Connections == 0);

        var (level, message) = Assert.Single(logs.Entries, static entry => entry.Message.Contains("GOAWAY", StringComparison.Ordinal));
        Assert.Equal(LogLevel.Warning, level);
        Assert.Equal($"{server.Address.GetLeftPart(UriPartial.Authority)} closed connection 1 with GOAWAY ENHANCE_YOUR_CALM: \"slow??down, please\", "
            + "after 0 RST_STREAM and 0 PING frames were sent on it", message);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_graceful_goaway_is_not_logged()
    {
        using var server = new RawHttp2Server();
        server.Serve(static async (connection, frame, _) =>
        {
            if (frame.EndsStream)
            {
                await connection.AnswerAsync(frame.Stream, ended: true);
                await connection.GoAwayAsync(frame.Stream, 0, "bye");
            }
        });
        var logs = new LogRecorder();
        await using var pool = server.NewPool(logs: logs);
        using var client = pool.CreateClient(server.Address);

        using var response = await client.PostAsync("v1", new StringContent("{}"), Rig.Ct);
        await pool.StatsAsync(static stats => stats.Connections == 0);

        Assert.DoesNotContain(logs.Entries, static entry => entry.Message.Contains("GOAWAY", StringComparison.Ordinal));
    }

    /// <summary>gRPC's servers allow two PINGs without data in between. Another origin, which does not mind, shows the time that
    /// passes.</summary>
    [Theory(Timeout = Rig.Patience)]
    [InlineData("too_many_pings")]
    [InlineData("")]
    public async Task An_origin_that_takes_pings_for_abuse_gets_no_more(string text)
    {
        using var server = new RawHttp2Server();
        using var metronome = new RawHttp2Server();
        var calls = new SemaphoreSlim(0);
        server.Serve(async (connection, frame, _) =>
        {
            if (frame.EndsStream)
            {
                calls.Release();
            }
            else if (frame is { Type: RawHttp2Server.Ping, Flags: 0 } && connection.Count(RawHttp2Server.Ping) == 3)
            {
                await connection.GoAwayAsync(1, EnhanceYourCalm, text);
                connection.Dispose();
            }
        });
        metronome.Serve(static (_, _, _) => Task.CompletedTask);
        var logs = new LogRecorder();
        await using var pool = server.NewPool(Often, logs: logs);
        await using var other = metronome.NewPool(Often);
        using var client = pool.CreateClient(server.Address);

        var first = client.PostAsync("v1", new StringContent("{}"), Rig.Ct);
        await calls.WaitAsync(Rig.Ct);
        await Assert.ThrowsAsync<PoolRequestException>(() => first);
        var (_, message) = Assert.Single(logs.Entries, static entry => entry.Message.Contains("Http2.PingDelay", StringComparison.Ordinal));
        Assert.Contains("because it received too many HTTP/2 PINGs (ENHANCE_YOUR_CALM). No PINGs will be sent to it for 1 h. Raise Http2.PingDelay (now 1s)", message, StringComparison.Ordinal);

        var second = client.PostAsync("v1", new StringContent("{}"), Rig.Ct);
        await calls.WaitAsync(Rig.Ct);
        await other.WarmUpAsync(metronome.Address, 1, Rig.Ct);
        await Eventually.TrueAsync(() => metronome.Served is [var ticking] && ticking.Count(RawHttp2Server.Ping) >= 4);
        var connection = server.Served[^1];
        Assert.Equal((0, 2), (connection.Count(RawHttp2Server.Ping), server.Served.Count));
        await connection.AnswerAsync(1, ended: true);
        using var response = await second;
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
    }

    /// <summary>Not even on connections that were open then.</summary>
    [Fact(Timeout = Rig.Patience)]
    public async Task After_one_connection_was_closed_for_its_pings_the_others_send_none()
    {
        using var server = new RawHttp2Server();
        using var metronome = new RawHttp2Server();
        server.Serve(static (_, _, _) => Task.CompletedTask);
        metronome.Serve(static (_, _, _) => Task.CompletedTask);
        await using var pool = server.NewPool(Often);
        await using var other = metronome.NewPool(Often);
        await pool.WarmUpAsync(server.Address, 2, Rig.Ct);
        await Eventually.TrueAsync(() => server.Served.Count == 2 && server.Served.All(static connection => connection.Count(RawHttp2Server.Ping) >= 1));

        await server.Served[0].GoAwayAsync(0, EnhanceYourCalm, "too_many_pings");
        await pool.StatsAsync(static stats => stats.Connections == 1);
        var before = server.Served[1].Count(RawHttp2Server.Ping);
        await other.WarmUpAsync(metronome.Address, 1, Rig.Ct);
        await Eventually.TrueAsync(() => metronome.Served is [var ticking] && ticking.Count(RawHttp2Server.Ping) >= 3);

        Assert.InRange(server.Served[1].Count(RawHttp2Server.Ping), before, before + 1);   // one may have been on its way
        Assert.Equal(1, pool.GetStats().Connections);
    }

    /// <summary>The answer to a PING waits behind data, as it does behind a long download on a slow way.</summary>
    [Fact(Timeout = Rig.Patience)]
    public async Task A_ping_whose_answer_waits_behind_data_has_not_failed()
    {
        var time = new ManualTime();
        using var server = new RawHttp2Server();
        byte[]? unanswered = null;
        var request = new TaskCompletionSource<int>(TaskCreationOptions.RunContinuationsAsynchronously);
        server.Serve((_, frame, payload) =>
        {
            unanswered = frame is { Type: RawHttp2Server.Ping, Flags: 0 } ? payload : unanswered;
            if (frame.EndsStream)
            {
                request.TrySetResult(frame.Stream);
            }

            return Task.CompletedTask;
        }, answersPings: false);
        await using var pool = server.NewPool(Often, time);
        using var client = pool.CreateClient(server.Address);
        var call = OpenAsync(client);
        var stream = await request.Task.WaitAsync(Rig.Ct);
        var connection = server.Served[0];
        await connection.WriteAsync(RawHttp2Server.Headers, 4, stream, EventStream);
        var body = await call;
        await Eventually.TrueAsync(() => unanswered is not null);

        var buffer = new byte[1000];
        for (var i = 0; i < 20; i++)
        {
            await connection.WriteAsync(RawHttp2Server.Data, 0, stream, buffer);
            await body.ReadExactlyAsync(buffer, Rig.Ct);
            time.Advance(TimeSpan.FromMilliseconds(700));   // 14 s in all, and PingTimeout is 1 s
        }

        await connection.WriteAsync(RawHttp2Server.Ping, 1, 0, unanswered!);
        await connection.EndAsync(stream);
        Assert.Equal(0, await body.ReadAsync(buffer, Rig.Ct));
    }

    /// <summary>The PING itself waits behind an upload that the peer's kernel takes slowly.</summary>
    [Fact(Timeout = Rig.Patience)]
    public void A_ping_has_failed_when_nothing_has_moved_since()
    {
        var time = new ManualTime();
        var (acknowledged, dead) = (0L, new List<Exception>());
        using var watch = new Warmline.Transport.PingWatch(time, TimeSpan.FromSeconds(1), () => new(acknowledged, 1_000_000), dead.Add);

        watch.Sent(1);
        for (var i = 0; i < 20; i++)
        {
            acknowledged += 1000;
            time.Advance(TimeSpan.FromMilliseconds(900));
        }

        Assert.Empty(dead);
        time.Advance(TimeSpan.FromMilliseconds(1200));
        Assert.IsType<HttpProtocolException>(Assert.Single(dead));
        Assert.False(watch.IsWaiting);

        // Answered: no matter how long nothing moves.
        watch.Sent(1);
        watch.Read(answered: 2);
        time.Advance(TimeSpan.FromMinutes(1));
        Assert.Single(dead);

        // The answer to the second of two does not come.
        watch.Sent(2);
        watch.Read(answered: 3);
        Assert.True(watch.IsWaiting);
        time.Advance(TimeSpan.FromSeconds(2));
        Assert.Equal(2, dead.Count);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task An_origin_that_minds_fewer_resets_gets_fewer()
    {
        const int Most = 30;
        using var server = new RawHttp2Server();
        var came = new SemaphoreSlim(0);
        server.Serve(async (connection, frame, _) =>
        {
            if (frame.Type is RawHttp2Server.Reset && connection.Count(RawHttp2Server.Reset) == Most)
            {
                await connection.GoAwayAsync(int.MaxValue, EnhanceYourCalm, "");
                connection.Dispose();
            }
            else if (frame.EndsStream)
            {
                came.Release();
            }
        });
        await using var pool = server.NewPool();
        using var client = pool.CreateClient(server.Address);
        for (var i = 0; i < 3 * Most; i++)
        {
            using var leaving = new CancellationTokenSource();
            var call = client.PostAsync("v1", new StringContent("{}"), leaving.Token);
            var coming = came.WaitAsync(leaving.Token);
            if (await Task.WhenAny(coming, call) == call)
            {
                await Assert.ThrowsAsync<PoolRequestException>(() => call);   // the one that met the end
            }

            await leaving.CancelAsync();
            await Task.WhenAll(call, coming).ContinueWith(static _ => { }, TaskScheduler.Default);
        }

        Assert.Single(server.Served, static connection => connection.Count(RawHttp2Server.Reset) >= Most);
    }

    static void Often(ConnectionPoolOptions options) => (options.Http2.PingDelay, options.Http2.PingTimeout) = (TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(1));

    static async Task<Stream> OpenAsync(HttpClient client)
    {
        var response = await client.SendAsync(new(HttpMethod.Post, "v1") { Content = new StringContent("{}", Encoding.UTF8, "application/json") }, HttpCompletionOption.ResponseHeadersRead, Rig.Ct);
        return await response.Content.ReadAsStreamAsync(Rig.Ct);
    }
}
