using System.Net;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>The last that an HTTP/2 server said on a stream or a connection is believed, whatever follows it.</summary>
public sealed class LastFramesTests
{
    const byte Cancel = 8;

    /// <summary>The end right behind a GOAWAY may fail a stream before the platform has looked at the GOAWAY; what was read proves all the
    /// same that nothing was processed.</summary>
    [Theory(Timeout = Rig.Patience)]
    [InlineData(0)]
    [InlineData(2)]
    public async Task Streams_above_a_goaways_last_id_are_unprocessed_though_the_connection_closes_at_once(int code)
    {
        using var server = new RawHttp2Server();
        server.Serve(async (connection, frame, _) =>
        {
            if (frame.Type is RawHttp2Server.Headers && connection.Count(RawHttp2Server.Headers) == 1)
            {
                await connection.GoAwayAsync(0, code, "");
                await connection.HangUpAsync();   // at once
            }
        });
        await using var pool = server.NewPool(static options => options.RetryBudget = 0);
        using var client = pool.CreateClient(server.Address);
        for (var round = 0; round < 10; round++)
        {
            var calls = Enumerable.Range(0, 20).Select(_ => client.PostAsync("v1", new StringContent("{}"), Rig.Ct)).ToArray();
            await Task.WhenAll(calls).ContinueWith(static _ => { }, TaskScheduler.Default);
            Assert.All(calls, static call => Assert.True(Verdict(call.Exception!.InnerException!) is not RequestVerdict.Unknown, $"{call.Exception}"));
        }

        static RequestVerdict Verdict(Exception error) => error switch
        {
            PoolRequestException request => request.Verdict,
            PoolConnectException connect => connect.Verdict,
            PoolRejectedException => RequestVerdict.NotSent,
            _ => throw new InvalidOperationException("Another error", error),
        };
    }

    /// <summary>A stream at or below the last id may have been processed.</summary>
    [Fact(Timeout = Rig.Patience)]
    public async Task A_stream_that_a_goaway_names_is_not_sent_again()
    {
        using var server = new RawHttp2Server();
        server.Serve(static async (connection, frame, _) =>
        {
            if (frame.EndsStream)
            {
                await connection.GoAwayAsync(frame.Stream, 2, "");
                connection.Dispose();
            }
        });
        await using var pool = server.NewPool();
        using var client = pool.CreateClient(server.Address);

        var error = await Assert.ThrowsAsync<PoolRequestException>(() => client.PostAsync("v1", new StringContent("{}"), Rig.Ct));

        Assert.Equal((RequestVerdict.Unknown, 1), (error.Verdict, server.Served.Count));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_stream_error_in_the_middle_of_an_upload_keeps_its_code(bool answered)
    {
        using var server = new RawHttp2Server();
        server.Serve(async (connection, frame, _) =>
        {
            if (frame.Type is RawHttp2Server.Data && connection.BodyBytes == 65_535)
            {
                if (answered)
                {
                    await connection.AnswerAsync(frame.Stream, ended: false);
                }

                await connection.ResetAsync(frame.Stream, Cancel);
            }
        });
        await using var pool = server.NewPool();
        using var client = pool.CreateClient(server.Address);

        var error = await Assert.ThrowsAnyAsync<HttpRequestException>(() => client.PostAsync("v1", new WaitingContent(), Rig.Ct));

        Assert.Equal(HttpRequestError.HttpProtocolError, error.HttpRequestError);
        Assert.Contains("'CANCEL' (0x8)", $"{error}", StringComparison.Ordinal);
        Assert.DoesNotContain("connection broke", $"{error}", StringComparison.Ordinal);
        Assert.Equal(1, pool.GetStats().Connections);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task After_a_protocol_error_of_the_server_no_goaway_says_that_there_was_none()
    {
        using var server = new RawHttp2Server();
        server.Serve(static (connection, frame, _) => frame.Type is RawHttp2Server.Headers ? connection.WriteAsync(RawHttp2Server.Data, 0, frame.Stream, [1]) : Task.CompletedTask);
        await using var pool = server.NewPool();
        using var client = pool.CreateClient(server.Address);

        await Assert.ThrowsAsync<PoolRequestException>(() => client.PostAsync("v1", new StringContent("{}"), Rig.Ct));
        await server.Served[0].Ended.Task.WaitAsync(Rig.Ct);

        Assert.Null(server.Served[0].ClientGoAway);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_connection_that_the_pool_closes_says_goodbye()
    {
        using var server = new RawHttp2Server();
        server.Serve(static (connection, frame, _) => frame.EndsStream ? connection.AnswerAsync(frame.Stream, ended: true) : Task.CompletedTask);
        await using (var pool = server.NewPool())
        {
            using var client = pool.CreateClient(server.Address);
            using var response = await client.PostAsync("v1", new StringContent("{}"), Rig.Ct);
            Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        }

        await server.Served[0].Ended.Task.WaitAsync(Rig.Ct);
        Assert.Equal(new byte[8], server.Served[0].ClientGoAway);
    }

    /// <summary>What the platform refuses before its HEADERS are written was not sent, also while other calls write on the same
    /// connection.</summary>
    [Theory(Timeout = Rig.Patience)]
    [InlineData("X-Title", "Café")]
    [InlineData("Authorization", "Bearer ｋｅｙ")]
    [InlineData("Authorization", "Bearer long")]
    public async Task A_request_that_the_platform_refuses_was_not_sent(string name, string value)
    {
        value = value.Replace("long", new string('k', 6000), StringComparison.Ordinal);
        using var server = new RawHttp2Server { Says = [(6, 4096)] };   // SETTINGS_MAX_HEADER_LIST_SIZE
        server.Serve(static (connection, frame, _) => frame.EndsStream ? connection.AnswerAsync(frame.Stream, ended: true) : Task.CompletedTask);
        await using var pool = server.NewPool(static options => options.Http2.SpreadConnections = 1);
        using var client = pool.CreateClient(server.Address);
        await pool.WarmUpAsync(server.Address, 1, Rig.Ct);
        var good = Enumerable.Range(0, 4).Select(_ => Task.Run(async () =>
        {
            for (var i = 0; i < 50; i++)
            {
                using var response = await client.PostAsync("v1", new StringContent("{}"), Rig.Ct);
                Assert.Equal(HttpStatusCode.OK, response.StatusCode);
            }
        })).ToArray();

        for (var i = 0; i < 20; i++)
        {
            using var request = new HttpRequestMessage(HttpMethod.Post, "v1") { Content = new StringContent("{}") };
            request.Headers.TryAddWithoutValidation(name, value);
            var error = await Assert.ThrowsAsync<PoolRequestException>(() => client.SendAsync(request, Rig.Ct));
            Assert.True(error.Verdict is RequestVerdict.NotSent, $"{error}");
        }

        await Task.WhenAll(good);
        var stats = pool.GetStats();
        Assert.Equal((1, 20L, 0L), (server.Served.Count, stats.Faults.FailedNotSent, stats.Faults.FailedUnknown));
    }

    /// <summary>A content of one's own that writes until its token stops it, and waits in between.</summary>
    sealed class WaitingContent : HttpContent
    {
        protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) => SerializeToStreamAsync(stream, context, CancellationToken.None);

        protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken)
        {
            await stream.WriteAsync(new byte[65_535], cancellationToken);
            await stream.FlushAsync(cancellationToken);
            var never = new TaskCompletionSource();
            await never.Task.WaitAsync(cancellationToken);
        }

        protected override bool TryComputeLength(out long length)
        {
            length = 0;
            return false;
        }
    }
}
