using System.Diagnostics.Metrics;
using System.Net;
using System.Net.Security;
using Microsoft.AspNetCore.Http;
using Warmline.Options;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;
using HttpProtocols = Warmline.Options.HttpProtocols;

namespace Warmline.Tests.Transport;

/// <summary>A slot's requests, and how it ends.</summary>
public sealed class SlotTests : SlotTestBase
{
    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData(HttpProtocols.Http1)]
    [InlineData(HttpProtocols.Http2)]
    internal async Task Requests_ride_one_connection(HttpProtocols protocols)
    {
        var connections = new HashSet<string>();
        await using KestrelServer server = await KestrelServer.StartAsync(Certificate, async context =>
        {
            connections.Add(context.Connection.Id);
            await context.Request.Body.CopyToAsync(context.Response.Body);
        });
        Slot slot = await DialAsync(server.Port, protocols);
        for (int i = 0; i < 5; i++)
        {
            using HttpRequestMessage request = Post(slot, port: server.Port);
            using HttpResponseMessage response = await slot.SendAsync(request, Ct);
            Assert.Equal("hello", await response.Content.ReadAsStringAsync(Ct));
            Assert.Equal(slot.Version, response.Version);
        }

        Assert.Single(connections);
        Assert.Equal(5, slot.Sends);
        Assert.True(slot.BytesWritten > 5 * "hello".Length && slot.BytesRead > 5 * "hello".Length);
        Assert.Equal("tag", slot.Tag);
        Assert.Equal(protocols == HttpProtocols.Http2 ? ["settings 100"] : [], Events.All);
        slot.Close();
        Assert.True(slot.IsClosed);
        await Events.SeenAsync("closed").WaitAsync(Ct);
        Assert.Equal("closed", Events.All[^1]);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task Plain_http2_works_with_prior_knowledge()
    {
        await using KestrelServer server = await KestrelServer.StartAsync(
            null, context => context.Response.WriteAsync(context.Request.Protocol), Microsoft.AspNetCore.Server.Kestrel.Core.HttpProtocols.Http2);
        Slot slot = await DialAsync(server.Port, HttpProtocols.Http2, isHttps: false);
        using HttpRequestMessage request = Post(slot, port: server.Port, scheme: "http");
        using HttpResponseMessage response = await slot.SendAsync(request, Ct);
        Assert.Equal("HTTP/2", await response.Content.ReadAsStringAsync(Ct));
        slot.Close();
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task The_byte_count_is_exact_on_http1()
    {
        (Slot slot, Stream server, _) = await ConnectPlainAsync();
        using HttpRequestMessage request = Post(slot, scheme: "http");
        Task<HttpResponseMessage> sending = slot.SendAsync(request, Ct);
        byte[] buffer = new byte[4096];
        int received = 0;
        while (received < slot.BytesWritten || received == 0)
        {
            received += await server.ReadAsync(buffer, Ct);
        }

        Assert.Equal(received, slot.BytesWritten);
        byte[] answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"u8.ToArray();
        await server.WriteAsync(answer, Ct);
        using HttpResponseMessage response = await sending;
        Assert.Equal("ok", await response.Content.ReadAsStringAsync(Ct));
        Assert.Equal(answer.Length, slot.BytesRead);
        slot.Close();
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task Priming_sends_no_request_and_learns_the_stream_limit()
    {
        (Slot slot, SslStream server) = await ConnectAsync(HttpProtocols.Http2);
        await using var peer = new Http2Peer(server);
        Task listening = peer.ListenAsync();
        await slot.PrimeAsync(Key(HttpProtocols.Http2), Ct);
        await peer.HearAsync(Http2Peer.Settings);
        await peer.SaySettingsAsync(7);
        await Events.SeenAsync("settings 7").WaitAsync(Ct);
        await peer.HearAsync(Http2Peer.Settings, flags: 1);   // the acknowledgement: the handler has taken it up
        Assert.DoesNotContain(Http2Peer.Headers, peer.Heard);

        using HttpRequestMessage request = Post(slot, new ByteArrayContent([]));
        Task<HttpResponseMessage> sending = slot.SendAsync(request, Ct);
        int stream = await peer.HearAsync(Http2Peer.Headers);
        await peer.AnswerAsync(stream);
        using HttpResponseMessage response = await sending;
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        Assert.Single(peer.Heard, Http2Peer.Headers);

        await peer.SaySettingsAsync(3);
        await Events.SeenAsync("settings 3").WaitAsync(Ct);
        slot.Close();
        await listening;
        await Events.SeenAsync("closed").WaitAsync(Ct);
        Assert.Equal(["settings 7", "settings 3", "closed"], Events.All);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task Priming_twice_sends_nothing_the_second_time_either()
    {
        (Slot slot, SslStream server) = await ConnectAsync(HttpProtocols.Http2);
        await using var peer = new Http2Peer(server);
        Task listening = peer.ListenAsync();
        await slot.PrimeAsync(Key(HttpProtocols.Http2), Ct);
        await slot.PrimeAsync(Key(HttpProtocols.Http2), Ct);
        await peer.SaySettingsAsync(7);
        await peer.HearAsync(Http2Peer.Settings, flags: 1);
        Assert.DoesNotContain(Http2Peer.Headers, peer.Heard);
        slot.Close();
        await listening;
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task Priming_http1_does_nothing()
    {
        (Slot slot, SslStream server) = await ConnectAsync(HttpProtocols.Http1);
        await slot.PrimeAsync(Key(HttpProtocols.Http1), Ct);
        await ExchangeAsync(slot, server);
        slot.Close();
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_goaway_is_reported_and_the_running_request_ends_well()
    {
        (Slot slot, SslStream server) = await ConnectAsync(HttpProtocols.Http2);
        await using var peer = new Http2Peer(server);
        Task listening = peer.ListenAsync();
        await peer.SaySettingsAsync(7);
        using HttpRequestMessage request = Post(slot);
        Task<HttpResponseMessage> sending = slot.SendAsync(request, Ct);
        int stream = await peer.HearAsync(Http2Peer.Headers);
        await peer.SayGoAwayAsync((byte)stream);
        await Events.SeenAsync("closing").WaitAsync(Ct);
        Assert.False(sending.IsCompleted);

        await peer.AnswerAsync(stream);
        (await sending).Dispose();
        await Events.SeenAsync("closed").WaitAsync(Ct);
        await AssertDeadAndNothingSentAsync(slot);
        slot.Close();
        await listening;
        Assert.Equal(["settings 7", "closing", "closed"], Events.All);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_goaway_below_a_running_request_ends_in_slot_dead_although_bytes_were_written()
    {
        (Slot slot, SslStream server) = await ConnectAsync(HttpProtocols.Http2);
        await using var peer = new Http2Peer(server);
        Task listening = peer.ListenAsync();
        await peer.SaySettingsAsync(7);
        var content = new CountedContent();
        using HttpRequestMessage request = Post(slot, content);
        Task<HttpResponseMessage> sending = slot.SendAsync(request, Ct);
        await peer.HearAsync(Http2Peer.Headers);
        await peer.SayGoAwayAsync(0);
        HttpRequestException error = await Assert.ThrowsAsync<HttpRequestException>(() => sending);
        Assert.IsType<SlotDeadException>(error.InnerException);
        Assert.Equal(HttpRequestError.ConnectionError, error.HttpRequestError);
        Assert.True(slot.BytesWritten > 0);
        Assert.Equal(1, content.Serialized);
        slot.Close();
        await listening;
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_request_without_content_that_got_no_answer_ends_in_slot_dead_although_bytes_were_written()
    {
        (Slot slot, SslStream server) = await ConnectAsync(HttpProtocols.Http1);
        using var request = new HttpRequestMessage(HttpMethod.Get, Post(slot).RequestUri) { VersionPolicy = HttpVersionPolicy.RequestVersionExact };
        Task<HttpResponseMessage> sending = slot.SendAsync(request, Ct);
        await ReadRequestAsync(server, end: "\r\n\r\n");
        await server.DisposeAsync();
        HttpRequestException error = await Assert.ThrowsAsync<HttpRequestException>(() => sending);
        Assert.IsType<SlotDeadException>(error.InnerException);
        Assert.True(slot.BytesWritten > 0);
        slot.Close();
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_post_whose_connection_ends_without_an_answer_is_not_slot_dead()
    {
        (Slot slot, SslStream server) = await ConnectAsync(HttpProtocols.Http1);
        using HttpRequestMessage request = Post(slot);
        Task<HttpResponseMessage> sending = slot.SendAsync(request, Ct);
        await ReadRequestAsync(server);
        await server.DisposeAsync();
        HttpRequestException error = await Assert.ThrowsAsync<HttpRequestException>(() => sending);
        Assert.IsNotType<SlotDeadException>(error.InnerException);
        await Events.SeenAsync("closed").WaitAsync(Ct);
        Assert.Equal(["closing", "closed"], Events.All);
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData(HttpProtocols.Http1)]
    [InlineData(HttpProtocols.Http2)]
    internal async Task Closing_ends_a_running_request_at_once(HttpProtocols protocols)
    {
        var reached = new TaskCompletionSource();
        var gone = new TaskCompletionSource();
        await using KestrelServer server = await KestrelServer.StartAsync(Certificate, async context =>
        {
            context.RequestAborted.Register(gone.SetResult);
            await context.Response.Body.FlushAsync();
            reached.SetResult();
            await gone.Task;
        });
        Slot slot = await DialAsync(server.Port, protocols);
        using HttpRequestMessage request = Post(slot, port: server.Port);
        using HttpResponseMessage response = await slot.SendAsync(request, Ct);
        Task<string> reading = response.Content.ReadAsStringAsync(Ct);
        await reached.Task.WaitAsync(Ct);

        slot.Close();
        await Assert.ThrowsAnyAsync<Exception>(() => reading);
        await gone.Task.WaitAsync(Ct);
        await AssertDeadAndNothingSentAsync(slot, server.Port);
        slot.Close();
        await Events.SeenAsync("closed").WaitAsync(Ct);
        Assert.Single(Events.All, "closed");
        Assert.DoesNotContain("closing", Events.All);
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData(HttpProtocols.Http1)]
    [InlineData(HttpProtocols.Http2)]
    internal async Task Closing_a_connection_that_was_never_used_closes_its_socket(HttpProtocols protocols)
    {
        (Slot slot, SslStream server) = await ConnectAsync(protocols);
        slot.WatchIdle();
        slot.Close();
        slot.Close();
        Assert.Equal(0, await server.ReadAsync(new byte[1], Ct));
        await server.DisposeAsync();
        await Events.SeenAsync("closed").WaitAsync(Ct);
        await AssertDeadAndNothingSentAsync(slot);
        Assert.Equal(["closed"], Events.All);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task An_owner_may_close_the_slot_when_it_hears_of_a_goaway()
    {
        (Slot slot, SslStream server) = await ConnectAsync(HttpProtocols.Http2);
        await using var peer = new Http2Peer(server);
        Task listening = peer.ListenAsync();
        Events.OnEvent = what => CloseOn(what, slot);
        await peer.SaySettingsAsync(7);
        using HttpRequestMessage request = Post(slot);
        Task<HttpResponseMessage> sending = slot.SendAsync(request, Ct);
        await peer.SayGoAwayAsync((byte)await peer.HearAsync(Http2Peer.Headers));
        await Assert.ThrowsAsync<HttpRequestException>(() => sending);
        await listening;
        await Events.SeenAsync("closed").WaitAsync(Ct);
        Assert.Equal(["settings 7", "closing", "closed"], Events.All);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task An_owner_may_close_the_slot_when_it_hears_of_the_end_of_an_idle_connection()
    {
        (Slot slot, SslStream server) = await ConnectAsync(HttpProtocols.Http1);
        await ExchangeAsync(slot, server);
        Events.OnEvent = what => CloseOn(what, slot);
        slot.WatchIdle(slot.Sends);
        await server.DisposeAsync();
        await Events.SeenAsync("closed").WaitAsync(Ct);
        Assert.Equal(["closing", "closed"], Events.All);
        Assert.True(slot.IsClosed);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_connection_primed_for_another_tls_name_serves_requests_with_that_host_header()
    {
        (Slot slot, SslStream server) = await ConnectAsync(HttpProtocols.Http2);
        await using var peer = new Http2Peer(server);
        Task listening = peer.ListenAsync();
        ConnectionKey key = Key(HttpProtocols.Http2);
        await slot.PrimeAsync(new ConnectionKey(true, key.Host, key.Port, "api.test", HttpProtocols.Http2), Ct);
        await peer.SaySettingsAsync(7);
        using HttpRequestMessage request = Post(slot);
        request.Headers.Host = "api.test:8443";
        Task<HttpResponseMessage> sending = slot.SendAsync(request, Ct);
        await peer.AnswerAsync(await peer.HearAsync(Http2Peer.Headers));
        (await sending).Dispose();
        slot.Close();
        await listening;
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task An_http1_response_that_ends_the_connection_closes_the_slot()
    {
        (Slot slot, SslStream server) = await ConnectAsync(HttpProtocols.Http1);
        Task answering = AnswerHttp1Async(server, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        using HttpRequestMessage request = Post(slot);
        using HttpResponseMessage response = await slot.SendAsync(request, Ct);
        Assert.Equal("ok", await response.Content.ReadAsStringAsync(Ct));
        await answering;
        await server.DisposeAsync();
        await Events.SeenAsync("closed").WaitAsync(Ct);
        await AssertDeadAndNothingSentAsync(slot);
        slot.Close();
        Assert.Single(Events.All, "closed");
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task An_abandoned_http1_response_closes_the_connection_at_once()
    {
        (Slot slot, SslStream server) = await ConnectAsync(HttpProtocols.Http1);
        Task answering = AnswerHttp1Async(server, "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\nbegun");
        using HttpRequestMessage request = Post(slot);
        HttpResponseMessage response = await slot.SendAsync(request, Ct);
        await answering;
        slot.Abandon();
        response.Dispose();
        await Events.SeenAsync("closed").WaitAsync(Ct);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task An_open_request_is_pinged_for()
    {
        (Slot slot, SslStream server) = await ConnectAsync(HttpProtocols.Http2, new Http2Options { PingDelay = TimeSpan.FromSeconds(1), PingTimeout = TimeSpan.FromSeconds(1) });
        await using var peer = new Http2Peer(server);
        Task listening = peer.ListenAsync();
        await peer.SaySettingsAsync(7);
        using HttpRequestMessage request = Post(slot);
        Task<HttpResponseMessage> sending = slot.SendAsync(request, Ct);
        await peer.HearAsync(Http2Peer.Headers);
        await peer.HearAsync(Http2Peer.Ping);

        // Unanswered, and nothing else moves: the connection counts as dead.
        await Eventually.TrueAsync(() =>
        {
            Time.Advance(TimeSpan.FromMilliseconds(250));
            return sending.IsCompleted;
        });
        HttpRequestException error = await Assert.ThrowsAsync<HttpRequestException>(() => sending);
        Assert.Contains("no HTTP/2 PING within 1 s (Http2.PingTimeout)", Assert.IsType<HttpProtocolException>(error.InnerException).Message, StringComparison.Ordinal);
        await Events.SeenAsync("closed").WaitAsync(Ct);
        await listening;
    }

    static void CloseOn(string what, Slot slot)
    {
        if (what == "closing")
        {
            slot.Close();
        }
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task The_platforms_instruments_stay_silent()
    {
        var published = new List<string>();
        using var listener = new MeterListener
        {
            InstrumentPublished = (instrument, self) =>
            {
                lock (published)
                {
                    published.Add(instrument.Meter.Name);
                }

                self.EnableMeasurementEvents(instrument);
            },
        };
        listener.Start();
        (Slot slot, SslStream server) = await ConnectAsync(HttpProtocols.Http1);
        await ExchangeAsync(slot, server);
        slot.Close();
        lock (published)
        {
            Assert.DoesNotContain("Warmline.Silent", published);
        }
    }
}
