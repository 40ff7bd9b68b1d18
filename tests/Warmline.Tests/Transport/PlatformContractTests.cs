using System.Net;
using System.Net.Security;
using System.Text;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Transport;

/// <summary>
/// Every behaviour of the platform's <see cref="SocketsHttpHandler"/> and <see cref="SslStream"/> that slots lean on, each by itself and without a slot. None of it is
/// promised by the platform's documentation: when one of these fails on another version of the runtime, the code that leans on it has to change.
/// </summary>
public sealed class PlatformContractTests() : BareHandlerTestBase("contract.example")
{
    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task An_authenticated_stream_from_the_connect_callback_is_taken_as_it_is(bool http2)
    {
        var (invoker, server) = await ConnectAsync(http2);   // a second TLS handshake would find nobody on the other side
        using (invoker)
        {
            Assert.Equal("HTTP " + (http2 ? "2.0" : "1.1"), await CallAsync(invoker, server, http2));
            Assert.Equal((1, 1), (Asked, Filtered));
        }
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task An_answer_without_a_body_has_the_stream_of_a_response_that_is_made_by_hand(bool http2)
    {
        var (invoker, server) = await ConnectAsync(http2);
        using (invoker)
        {
            using var request = Request(http2);
            var sending = invoker.SendAsync(request, Ct);
            if (http2)
            {
                var peer = new Http2Peer(server);
                _ = peer.ListenAsync();
                await peer.SaySettingsAsync(100);
                await peer.AnswerAsync(await peer.HearAsync(Http2Peer.Headers));
            }
            else
            {
                await ReadHeadAsync(server);
                await server.WriteAsync("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"u8.ToArray(), Ct);
            }

            using var response = await sending;
            using var made = new HttpResponseMessage();
            Assert.Same(await made.Content.ReadAsStreamAsync(Ct), await response.Content.ReadAsStreamAsync(Ct));
        }
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task An_exact_version_2_on_a_plain_stream_is_spoken_with_prior_knowledge()
    {
        var (invoker, server) = await ConnectAsync(http2: true, tls: false);
        using (invoker)
        {
            Assert.Equal("HTTP 2.0", await CallAsync(invoker, server, http2: true, scheme: "http"));
        }
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task The_first_bytes_of_http2_are_the_preface_and_settings_with_the_window_that_was_set()
    {
        var (invoker, server) = await ConnectAsync(http2: true, configure: handler => handler.InitialHttp2StreamWindowSize = 1024 * 1024);
        using (invoker)
        {
            using var request = Request(http2: true);
            var sending = invoker.SendAsync(request, Ct);
            var start = new byte[24 + 9];
            await server.ReadExactlyAsync(start, Ct);
            Assert.StartsWith("PRI * HTTP/2.0", Encoding.ASCII.GetString(start));
            var (length, type) = ((start[24] << 16) | (start[25] << 8) | start[26], start[27]);
            Assert.Equal(4, type);
            var settings = new byte[length];
            await server.ReadExactlyAsync(settings, Ct);
            Assert.Contains("0004" + "00100000", Convert.ToHexString(settings));   // SETTINGS_INITIAL_WINDOW_SIZE
            await server.DisposeAsync();
            await Assert.ThrowsAsync<HttpRequestException>(() => sending);
        }
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_connection_that_ended_while_idle_is_asked_for_anew_before_a_body_is_touched_and_the_callbacks_error_is_the_inner_one(bool http2)
    {
        var (invoker, server) = await ConnectAsync(http2);
        using (invoker)
        {
            await CallAsync(invoker, server, http2);
            await server.DisposeAsync();
            if (http2)
            {
                await Eventually.TrueAsync(() => IsClosed);   // its read loop sees the end by itself
            }

            var content = new SlotTestBase.CountedContent();
            using var request = Request(http2, content);
            var error = await Assert.ThrowsAsync<HttpRequestException>(() => invoker.SendAsync(request, Ct));
            Assert.Equal((HttpRequestError.ConnectionError, 2, 0), (error.HttpRequestError, Asked, content.Serialized));
            Assert.IsType<SecondConnection>(error.InnerException);
        }
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_request_cancelled_in_the_connect_callback_is_never_sent_and_the_connection_is_kept(bool http2)
    {
        using var cancel = new CancellationTokenSource();
        var (invoker, server) = await ConnectAsync(http2, onConnect: cancel.Cancel);
        using (invoker)
        {
            using var thrownAway = Request(http2);
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => invoker.SendAsync(thrownAway, cancel.Token));
            await using var peer = http2 ? new Http2Peer(server) : null;
            if (peer is not null)
            {
                _ = peer.ListenAsync();
                await peer.SaySettingsAsync(100);
                await peer.HearAsync(Http2Peer.Settings, 1);   // the handler set the connection up and acknowledges
                Assert.DoesNotContain(Http2Peer.Headers, peer.Heard);
            }

            using var request = Request(http2);
            var sending = invoker.SendAsync(request, Ct);
            if (peer is not null)
            {
                var stream = await peer.HearAsync(Http2Peer.Headers);
                Assert.Single(peer.Heard, type => type is Http2Peer.Headers);
                await peer.AnswerAsync(stream);
            }
            else
            {
                Assert.Equal("GET", (await ReadHeadAsync(server))[..3]);
                await server.WriteAsync("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"u8.ToArray(), Ct);
            }

            using var response = await sending;
            Assert.Equal((HttpStatusCode.OK, 1), (response.StatusCode, Asked));
        }
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_stream_above_a_goaways_last_is_asked_a_new_connection_for()
    {
        var (invoker, peer, _) = await ConnectHttp2Async();
        using (invoker)
        {
            using var request = Request(http2: true, new SlotTestBase.CountedContent());
            var sending = invoker.SendAsync(request, Ct);
            await peer.HearAsync(Http2Peer.Headers);
            await peer.SayGoAwayAsync(0);
            var error = await Assert.ThrowsAsync<HttpRequestException>(() => sending);
            Assert.IsType<SecondConnection>(error.InnerException);
        }
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_stream_below_a_goaways_last_runs_to_its_end_and_the_next_request_asks_for_a_connection()
    {
        var (invoker, peer, _) = await ConnectHttp2Async();
        using (invoker)
        {
            using var request = Request(http2: true);
            var sending = invoker.SendAsync(request, Ct);
            var stream = await peer.HearAsync(Http2Peer.Headers);
            await peer.SayGoAwayAsync((byte)stream);
            await peer.AnswerAsync(stream);
            Assert.Equal(HttpStatusCode.OK, (await sending).StatusCode);
            using var next = Request(http2: true);
            Assert.IsType<SecondConnection>((await Assert.ThrowsAsync<HttpRequestException>(() => invoker.SendAsync(next, Ct))).InnerException);
        }
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_refused_stream_is_sent_again_on_the_same_connection_and_any_other_reset_is_an_error()
    {
        var (invoker, peer, _) = await ConnectHttp2Async();
        using (invoker)
        {
            using var request = Request(http2: true);
            var sending = invoker.SendAsync(request, Ct);
            await peer.SayAsync(3, 0, await peer.HearAsync(Http2Peer.Headers), 0, 0, 0, 7);   // RST_STREAM, REFUSED_STREAM
            await peer.AnswerAsync(await peer.HearAsync(Http2Peer.Headers));
            Assert.Equal((HttpStatusCode.OK, 1), ((await sending).StatusCode, Asked));

            using var other = Request(http2: true);
            var cancelled = invoker.SendAsync(other, Ct);
            await peer.SayAsync(3, 0, await peer.HearAsync(Http2Peer.Headers), 0, 0, 0, 8);   // CANCEL
            var error = await Assert.ThrowsAsync<HttpRequestException>(() => cancelled);
            Assert.Equal((typeof(HttpProtocolException), 1), (error.InnerException?.GetType(), Asked));
        }
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task Streams_beyond_the_servers_limit_wait_in_the_handler()
    {
        var (invoker, peer, _) = await ConnectHttp2Async(limit: 1);
        using (invoker)
        {
            using var first = Request(http2: true);
            using var second = Request(http2: true);
            var sending = invoker.SendAsync(first, Ct);
            var stream = await peer.HearAsync(Http2Peer.Headers);
            var waiting = invoker.SendAsync(second, Ct);
            await peer.AnswerAsync(stream);
            Assert.Equal(HttpStatusCode.OK, (await sending).StatusCode);
            await peer.AnswerAsync(await peer.HearAsync(Http2Peer.Headers));
            Assert.Equal((HttpStatusCode.OK, 1), ((await waiting).StatusCode, Asked));
        }
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_request_without_content_that_was_written_and_not_answered_asks_for_a_connection_and_a_post_does_not()
    {
        foreach (var content in new HttpContent?[] { null, new StringContent("hello") })
        {
            var (invoker, server) = await ConnectAsync(http2: false);
            using (invoker)
            {
                using var request = Request(http2: false, content);
                var sending = invoker.SendAsync(request, Ct);
                await ReadHeadAsync(server);
                await ShutDownAsync(server, content is null ? 0 : 5);
                var error = await Assert.ThrowsAsync<HttpRequestException>(() => sending);
                Assert.Equal(content is null ? (2, typeof(SecondConnection)) : (1, typeof(HttpIOException)), (Asked, error.InnerException?.GetType()));
            }
        }
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task An_abandoned_http1_response_closes_its_connection_at_once_when_nothing_may_be_drained()
    {
        var (invoker, server) = await ConnectAsync(http2: false);
        using (invoker)
        {
            using var request = Request(http2: false);
            var sending = invoker.SendAsync(request, Ct);
            await ReadHeadAsync(server);
            await server.WriteAsync("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"u8.ToArray(), Ct);
            (await sending).Dispose();
            Assert.True(IsClosed);
        }
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task An_abandoned_http2_response_is_reset_and_its_connection_goes_on()
    {
        var (invoker, peer, _) = await ConnectHttp2Async();
        using (invoker)
        {
            using var request = Request(http2: true);
            var sending = invoker.SendAsync(request, Ct);
            var stream = await peer.HearAsync(Http2Peer.Headers);
            await peer.SayAsync(Http2Peer.Headers, 4, stream, 0x88);
            (await sending).Dispose();
            Assert.Equal(stream, await peer.HearAsync(3));
            using var next = Request(http2: true);
            var answered = invoker.SendAsync(next, Ct);
            await peer.AnswerAsync(await peer.HearAsync(Http2Peer.Headers));
            Assert.Equal((HttpStatusCode.OK, 1), ((await answered).StatusCode, Asked));
        }
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task Content_of_an_own_type_is_still_sent_on_http2_while_the_response_is_read()
    {
        var (invoker, peer, _) = await ConnectHttp2Async();
        using (invoker)
        {
            var content = new OpenContent();
            using var request = Request(http2: true, content);
            var sending = invoker.SendAsync(request, Ct);
            var stream = await peer.HearAsync(Http2Peer.Headers);
            await peer.SayAsync(Http2Peer.Headers, 4, stream, 0x88);
            using var response = await sending;   // the content is not at its end
            content.End.SetResult();
            Assert.Equal(stream, await peer.HearAsync(0, 1));
            await peer.SayAsync(0, 1, stream);
            Assert.Equal("", await response.Content.ReadAsStringAsync(Ct));
        }
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_disposed_handler_lets_its_request_end_then_closes_and_takes_no_other(bool http2)
    {
        var (invoker, server) = await ConnectAsync(http2);
        await using var peer = http2 ? new Http2Peer(server) : null;
        using var request = Request(http2);
        var sending = invoker.SendAsync(request, Ct);
        if (peer is null)
        {
            await ReadHeadAsync(server);
            invoker.Dispose();
            await server.WriteAsync("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"u8.ToArray(), Ct);
        }
        else
        {
            _ = peer.ListenAsync();
            await peer.SaySettingsAsync(100);
            var stream = await peer.HearAsync(Http2Peer.Headers);
            invoker.Dispose();
            await peer.AnswerAsync(stream);
        }

        using var response = await sending;
        Assert.Equal("", await response.Content.ReadAsStringAsync(Ct));
        await Eventually.TrueAsync(() => IsClosed);
        using var next = Request(http2);
        Assert.Throws<ObjectDisposedException>(() => { _ = invoker.SendAsync(next, Ct); });   // at once, not by the task
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_request_can_be_sent_again_below_the_client_with_another_version(bool http2First)
    {
        using var request = Request(http2First);
        foreach (var http2 in new[] { http2First, !http2First })
        {
            var (invoker, server) = await ConnectAsync(http2);
            using (invoker)
            {
                request.Version = http2 ? HttpVersion.Version20 : HttpVersion.Version11;
                Assert.Equal("HTTP " + (http2 ? "2.0" : "1.1"), await CallAsync(invoker, server, http2, request: request));
            }
        }
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_read_that_takes_nothing_sees_data_without_consuming_it_and_sees_the_end()
    {
        var (client, server) = await TlsPairAsync(SslApplicationProtocol.Http11);
        var watch = client.ReadAsync(Memory<byte>.Empty, Ct).AsTask();
        Assert.False(watch.IsCompleted);
        await server.WriteAsync("x"u8.ToArray(), Ct);
        Assert.Equal(0, await watch);
        var buffer = new byte[8];
        Assert.Equal(1, await client.ReadAsync(buffer, Ct));
        watch = client.ReadAsync(Memory<byte>.Empty, Ct).AsTask();
        await server.DisposeAsync();
        Assert.Equal(0, await watch);
        Assert.Equal(0, await client.ReadAsync(buffer, Ct));
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task Tls_sessions_are_resumed_between_streams_that_nothing_else_connects()
    {
        var lengths = new List<long>();
        for (var i = 0; i < 2; i++)
        {
            CountingStream? counter = null;
            var (client, server) = await TlsPairAsync(SslApplicationProtocol.Http11, inner => counter = new CountingStream(inner));
            lengths.Add(counter!.BytesRead);
            await server.WriteAsync("x"u8.ToArray(), Ct);
            await client.ReadExactlyAsync(new byte[1], Ct);   // the ticket is learnt with the first data
            await client.ShutdownAsync();
            await client.DisposeAsync();
            await server.DisposeAsync();
        }

        Assert.True(lengths[1] < lengths[0] / 2, $"handshake bytes read: {string.Join(", then ", lengths)}");   // without the certificate
    }
}
