using System.Net.Security;
using Warmline.Options;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Transport;

/// <summary>How a connection ends on the wire, with the test as the server.</summary>
public sealed class ClosingTests : SlotTestBase
{
    readonly RawServer _server = new();

    public override void Dispose()
    {
        _server.Dispose();
        base.Dispose();
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData(HttpProtocols.Http1, true)]
    [InlineData(HttpProtocols.Http1, false)]
    [InlineData(HttpProtocols.Http2, false)]
    internal async Task A_close_says_close_notify_then_fin_and_waits_for_the_peers_end(HttpProtocols protocols, bool watched)
    {
        (Slot slot, SslStream server, WireSpy wire) = await ConnectAsync(protocols);
        if (protocols is HttpProtocols.Http1)
        {
            await ExchangeAsync(slot, server);
        }
        else
        {
            await slot.PrimeAsync(Key(_server.Port, protocols), Ct);
            await server.ReadExactlyAsync(new byte[24], Ct);   // the preface
        }

        if (watched)
        {
            slot.WatchIdle();
        }

        slot.Close();
        byte[] heard = await ReadToEndAsync(server);

        Assert.False(wire.SawEnd, "TLS ended with the bytes below it: no close_notify");
        Assert.Equal(protocols is HttpProtocols.Http1 ? [] : GoAway, heard[Math.Max(0, heard.Length - 17)..]);
        Assert.Equal(0, await wire.ReadAsync(new byte[1], Ct));

        // It still listens: what the server says after our end resets nothing.
        Assert.DoesNotContain("closed", Events.All);
        for (var i = 0; i < 20; i++)
        {
            await server.WriteAsync(new byte[16 * 1024], Ct);
        }

        await server.DisposeAsync();
        await Events.SeenAsync("closed").WaitAsync(Ct);
        Assert.False(wire.SawReset);
        Assert.Single(Events.All, "closed");
        if (OperatingSystem.IsLinux())
        {
            Assert.True(Sockets.IsInTimeWait(wire.ClientPort, _server.Port));
            Assert.False(Sockets.IsInTimeWait(_server.Port, wire.ClientPort));
        }
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData(HttpProtocols.Http1)]
    [InlineData(HttpProtocols.Http2)]
    internal async Task A_peer_that_does_not_answer_is_given_two_seconds_and_then_reset(HttpProtocols protocols)
    {
        (Slot slot, SslStream server, WireSpy wire) = await ConnectAsync(protocols);
        slot.Close();
        await ReadToEndAsync(server);
        await Time.WaitForTimersAsync(1).WaitAsync(Ct);

        Time.Advance(TimeSpan.FromSeconds(2) - TimeSpan.FromMilliseconds(1));
        Assert.DoesNotContain("closed", Events.All);
        Time.Advance(TimeSpan.FromMilliseconds(1));
        await Events.SeenAsync("closed").WaitAsync(Ct);

        Assert.Equal(0, Time.ArmedTimers);
        await Assert.ThrowsAsync<IOException>(() => DrainAsync(wire));
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_plain_connection_ends_with_fin()
    {
        (Slot slot, Stream server, _) = await ConnectPlainAsync();
        slot.Close();
        Assert.Equal(0, await server.ReadAsync(new byte[1], Ct));
        Assert.DoesNotContain("closed", Events.All);
        await server.WriteAsync(new byte[1], Ct);
        await server.DisposeAsync();
        await Events.SeenAsync("closed").WaitAsync(Ct);
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData(HttpProtocols.Http1)]
    [InlineData(HttpProtocols.Http2)]
    internal async Task A_call_that_is_cut_before_its_response_fails_at_once_and_the_peer_is_told_in_good_order(HttpProtocols protocols)
    {
        (Slot slot, SslStream server, WireSpy wire) = await ConnectAsync(protocols);
        using HttpRequestMessage request = Post(slot, port: _server.Port);
        Task<HttpResponseMessage> sending = slot.SendAsync(request, Ct);
        await (protocols is HttpProtocols.Http1 ? ReadRequestAsync(server) : server.ReadExactlyAsync(new byte[100], Ct).AsTask());

        slot.Cut();

        await Assert.ThrowsAsync<HttpRequestException>(() => sending);
        await ReadToEndAsync(server);
        Assert.False(wire.SawEnd);
        Assert.DoesNotContain("closed", Events.All);
        await server.DisposeAsync();
        await Events.SeenAsync("closed").WaitAsync(Ct);
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task An_http1_response_that_is_cut_or_abandoned_is_ended_at_once_and_hard(bool isCut)
    {
        (Slot slot, SslStream server, WireSpy wire) = await ConnectAsync(HttpProtocols.Http1);
        Task answering = AnswerHttp1Async(server, "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\nbegun");
        using HttpRequestMessage request = Post(slot, port: _server.Port);
        using HttpResponseMessage response = await slot.SendAsync(request, Ct);
        await answering;

        if (isCut)
        {
            slot.Cut();
        }
        else
        {
            slot.Abandon();
            response.Dispose();
        }

        Assert.Equal(["closed"], Events.All);
        Assert.Equal(0, Time.ArmedTimers);
        Assert.Empty(await ReadToEndAsync(server));
        Assert.True(wire.SawEnd);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_response_that_the_server_ends_the_connection_with_is_followed_by_a_good_end()
    {
        (Slot slot, SslStream server, WireSpy wire) = await ConnectAsync(HttpProtocols.Http1);
        Task answering = AnswerHttp1Async(server, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        using HttpRequestMessage request = Post(slot, port: _server.Port);
        using HttpResponseMessage response = await slot.SendAsync(request, Ct);
        Assert.Equal("ok", await response.Content.ReadAsStringAsync(Ct));
        await answering;
        await ReadToEndAsync(server);
        Assert.False(wire.SawEnd);
        await server.DisposeAsync();
        await Events.SeenAsync("closed").WaitAsync(Ct);
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData(HttpProtocols.Http1)]
    [InlineData(HttpProtocols.Http2)]
    internal async Task Closing_from_everywhere_at_once_is_one_close(HttpProtocols protocols)
    {
        for (var round = 0; round < 30; round++)
        {
            var events = new SlotEvents();
            (Slot slot, SslStream server, WireSpy wire) = await ConnectAsync(protocols, events);
            Task closes = Task.WhenAll(Enumerable.Range(0, 4).Select(i => Task.Run(
                () =>
                {
                    if (i == 0)
                    {
                        slot.WatchIdle();
                    }

                    slot.Close();
                },
                Ct)));
            await ReadToEndAsync(server);
            Assert.False(wire.SawEnd || wire.SawReset);
            await server.DisposeAsync();
            await closes;
            await events.SeenAsync("closed").WaitAsync(Ct);
            Assert.Equal(["closed"], events.All);
        }
    }

    static readonly byte[] GoAway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    async Task<(Slot Slot, SslStream Server, WireSpy Wire)> ConnectAsync(HttpProtocols protocols, SlotEvents? events = null)
    {
        Task<DialedConnection> dialing = NewDialer().DialAsync(Key(_server.Port, protocols), Limit, Ct);
        var wire = new WireSpy(await _server.AcceptAsync());
        var server = new SslStream(wire);
        await server.AuthenticateAsServerAsync(
            new SslServerAuthenticationOptions { ServerCertificate = Certificate, ApplicationProtocols = [protocols is HttpProtocols.Http2 ? SslApplicationProtocol.Http2 : SslApplicationProtocol.Http11] }, Ct);
        return (new Slot(await dialing, new(), Time, events ?? Events, null), server, wire);
    }

    async Task<byte[]> ReadToEndAsync(SslStream server)
    {
        using var all = new MemoryStream();
        await server.CopyToAsync(all, Ct);
        return all.ToArray();
    }

    async Task DrainAsync(WireSpy wire)
    {
        // The reset may not have arrived yet.
        while (true)
        {
            await wire.WriteAsync(new byte[1], Ct);
        }
    }
}
