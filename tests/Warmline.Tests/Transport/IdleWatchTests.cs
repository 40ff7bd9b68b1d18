using System.Net.Security;
using System.Net.Sockets;
using Microsoft.AspNetCore.Http;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;
using HttpProtocols = Warmline.Options.HttpProtocols;

namespace Warmline.Tests.Transport;

/// <summary>The end of an idle connection, and the absence of false alarms.</summary>
public sealed class IdleWatchTests : SlotTestBase
{
    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData(false)]
    [InlineData(true)]
    public async Task An_idle_http1_connection_that_the_server_ends_is_reported_while_idle(bool byReset)
    {
        (Slot slot, SslStream server) = await ConnectAsync(HttpProtocols.Http1);
        await ExchangeAsync(slot, server);
        slot.WatchIdle(slot.Sends);
        slot.WatchIdle(slot.Sends);
        Assert.Empty(Events.All);

        await EndAsync(server, byReset);
        await Events.SeenAsync("closing").WaitAsync(Ct);
        await AssertDeadAndNothingSentAsync(slot);
        slot.Close();
        await Events.SeenAsync("closed").WaitAsync(Ct);
        Assert.Equal(["closing", "closed"], Events.All);
        Assert.Equal(byReset ? ConnectionEnd.Lost : ConnectionEnd.InOrder, Events.End);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_warm_http1_connection_that_was_never_used_is_watched_too()
    {
        (Slot slot, SslStream server) = await ConnectAsync(HttpProtocols.Http1);
        slot.WatchIdle();
        await EndAsync(server, byReset: false);
        await Events.SeenAsync("closing").WaitAsync(Ct);
        await AssertDeadAndNothingSentAsync(slot);
        Assert.Equal(0, slot.BytesWritten);
        slot.Close();
        await Events.SeenAsync("closed").WaitAsync(Ct);
        Assert.Equal(["closing", "closed"], Events.All);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_warm_http1_connection_that_ended_unwatched_takes_no_request()
    {
        (Slot slot, Stream server, DialedConnection dialed) = await ConnectPlainAsync();
        await server.DisposeAsync();
        Assert.True(((NetworkStream)dialed.Transport).Socket.Poll(TimeSpan.FromSeconds(30), SelectMode.SelectRead));   // the end has arrived
        using HttpRequestMessage request = Post(slot, scheme: "http");
        HttpRequestException error = await Assert.ThrowsAsync<HttpRequestException>(() => slot.SendAsync(request, Ct));
        Assert.IsType<SlotDeadException>(error.InnerException);
        Assert.Equal(0, slot.BytesWritten);
        slot.Close();
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_warm_http1_connection_works_after_it_was_watched()
    {
        (Slot slot, SslStream server) = await ConnectAsync(HttpProtocols.Http1);
        slot.WatchIdle();
        await ExchangeAsync(slot, server);
        Assert.Empty(Events.All);
        slot.Close();
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task Bytes_that_nobody_asked_for_are_an_end()
    {
        (Slot slot, SslStream server) = await ConnectAsync(HttpProtocols.Http1);
        await ExchangeAsync(slot, server);
        slot.WatchIdle(slot.Sends);
        await server.WriteAsync("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"u8.ToArray(), Ct);
        await Events.SeenAsync("closing").WaitAsync(Ct);
        await AssertDeadAndNothingSentAsync(slot);
        slot.Close();
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_watch_that_comes_after_the_next_request_has_begun_does_nothing()
    {
        (Slot slot, SslStream server) = await ConnectAsync(HttpProtocols.Http1);
        await ExchangeAsync(slot, server);
        long sends = slot.Sends;
        using HttpRequestMessage request = Post(slot);
        Task<HttpResponseMessage> sending = slot.SendAsync(request, Ct);
        await AnswerHttp1Async(server, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha");
        using HttpResponseMessage response = await sending;

        slot.WatchIdle(sends);
        await server.WriteAsync("lf"u8.ToArray(), Ct);
        Assert.Equal("half", await response.Content.ReadAsStringAsync(Ct));
        Assert.Empty(Events.All);
        slot.Close();
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData(false)]
    [InlineData(true)]
    public async Task An_idle_http2_connection_that_the_server_ends_is_reported_without_being_asked(bool byReset)
    {
        (Slot slot, SslStream server) = await ConnectAsync(HttpProtocols.Http2);
        var peer = new Http2Peer(server);
        Task listening = peer.ListenAsync();
        await slot.PrimeAsync(Key(HttpProtocols.Http2), Ct);
        await peer.SaySettingsAsync(7);
        await peer.HearAsync(Http2Peer.Settings, flags: 1);   // after its acknowledgement the client has nothing left to write
        slot.WatchIdle();

        await EndAsync(server, byReset);
        await Events.SeenAsync("closed").WaitAsync(Ct);
        await AssertDeadAndNothingSentAsync(slot);
        slot.Close();
        await listening;
        Assert.Equal(["settings 7", "closing", "closed"], Events.All);
        Assert.Equal(byReset ? ConnectionEnd.Lost : ConnectionEnd.InOrder, Events.End);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_hundred_watched_pauses_raise_no_alarm()
    {
        await using KestrelServer server = await KestrelServer.StartAsync(Certificate, context => context.Response.WriteAsync("ok"));
        Slot slot = await DialAsync(server.Port, HttpProtocols.Http1);
        for (int i = 0; i < 100; i++)
        {
            slot.WatchIdle(slot.Sends);
            await SendAsync(slot, server.Port);
        }

        Assert.Equal(100, slot.Sends);
        Assert.Empty(Events.All);
        slot.Close();
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task Watches_that_race_with_the_next_request_raise_no_alarm()
    {
        await using KestrelServer server = await KestrelServer.StartAsync(Certificate, context => context.Response.WriteAsync("ok"));
        Slot slot = await DialAsync(server.Port, HttpProtocols.Http1);
        for (int i = 0; i < 1000; i++)
        {
            long sends = slot.Sends;
            using var both = new Barrier(2);
            Task watching = Task.Run(() =>
            {
                both.SignalAndWait();
                slot.WatchIdle(sends);
            });
            both.SignalAndWait();
            await SendAsync(slot, server.Port);
            await watching;
            Assert.Empty(Events.All);
        }

        slot.Close();
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task The_watch_does_not_carry_the_context_of_the_call_that_began_it()
    {
        (Slot slot, SslStream server) = await ConnectAsync(HttpProtocols.Http1);
        await ExchangeAsync(slot, server);
        var local = new AsyncLocal<string?>();
        var seen = new TaskCompletionSource<string?>(TaskCreationOptions.RunContinuationsAsynchronously);
        Events.OnEvent = what => _ = what == "closing" && seen.TrySetResult(local.Value);
        local.Value = "the call's";
        slot.WatchIdle();
        await EndAsync(server, byReset: false);
        Assert.Null(await seen.Task.WaitAsync(Ct));
        slot.Close();
    }

    async Task SendAsync(Slot slot, int port)
    {
        using HttpRequestMessage request = Post(slot, port: port);
        using HttpResponseMessage response = await slot.SendAsync(request, Ct);
        Assert.Equal("ok", await response.Content.ReadAsStringAsync(Ct));
    }

    static async Task EndAsync(SslStream server, bool byReset)
    {
        if (byReset)
        {
            Socket socket = SocketOf(server);
            socket.LingerState = new LingerOption(true, 0);
            socket.Dispose();
        }
        else
        {
            await server.ShutdownAsync();
            await server.DisposeAsync();
        }
    }

    [System.Runtime.CompilerServices.UnsafeAccessor(System.Runtime.CompilerServices.UnsafeAccessorKind.Method, Name = "get_InnerStream")]
    static extern Stream InnerStream(AuthenticatedStream stream);

    static Socket SocketOf(SslStream stream) => ((NetworkStream)InnerStream(stream)).Socket;
}
