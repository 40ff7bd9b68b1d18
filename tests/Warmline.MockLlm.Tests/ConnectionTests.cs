using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using Microsoft.AspNetCore.Server.Kestrel.Core;

namespace Warmline.MockLlm.Tests;

/// <summary>TLS, protocols, counters, ends of connections and scripted faults.</summary>
public sealed class ConnectionTests
{
    static readonly Version Http11 = new(1, 1), Http20 = new(2, 0);

    [Theory]
    [InlineData(HttpProtocols.Http1, true, "1.1")]
    [InlineData(HttpProtocols.Http2, true, "2.0")]
    [InlineData(HttpProtocols.Http1AndHttp2, true, "2.0")]
    [InlineData(HttpProtocols.Http1, false, "1.1")]
    [InlineData(HttpProtocols.Http2, false, "2.0")]
    public async Task Speaks_what_it_was_told(HttpProtocols protocols, bool tls, string version)
    {
        await using var server = await MockLlmServer.StartAsync(new() { Protocols = protocols, UseTls = tls });
        using var client = server.Client(version: tls ? null : Version.Parse(version));

        using var response = await client.ChatAsync();

        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        Assert.Equal(Version.Parse(version), response.Version);
        Assert.Equal(tls ? 1 : 0, server.GetCounters().TlsHandshakes);
    }

    [Theory]
    [InlineData(MockCertificate.Expired)]
    [InlineData(MockCertificate.WrongName)]
    [InlineData(MockCertificate.Untrusted)]
    public async Task A_bad_certificate_is_refused_by_the_client(MockCertificate certificate)
    {
        await using var server = await MockLlmServer.StartAsync(new() { Certificate = certificate });
        using var client = server.Client();

        var error = await Assert.ThrowsAsync<HttpRequestException>(() => client.ChatAsync());

        Assert.Equal(HttpRequestError.SecureConnectionError, error.HttpRequestError);
        var reason = Assert.IsType<AuthenticationException>(error.InnerException).Message;
        Assert.Contains(certificate switch { MockCertificate.Expired => "NotTimeValid", MockCertificate.WrongName => "NameMismatch", _ => "PartialChain" }, reason);
    }

    [Theory]
    [InlineData("localhost")]
    [InlineData("127.0.0.1")]
    [InlineData("::1")]
    [InlineData("api.example.test")]
    [InlineData("10.1.2.3")]
    public async Task The_certificate_is_good_for_all_names(string name)
    {
        await using var server = await MockLlmServer.StartAsync(new() { HostNames = { "api.example.test", "10.1.2.3" } });
        using var tls = await ConnectTlsAsync(server, name);

        Assert.True(tls.IsAuthenticated);
        Assert.False(server.CertificateAuthority.HasPrivateKey);
    }

    [Fact]
    public async Task Counts_handshakes_failed_and_resumed()
    {
        // A name of its own: sessions are kept per process and name, and every other server here is localhost.
        await using var server = await MockLlmServer.StartAsync(new() { HostNames = { "resume.example.test" } });
        for (var i = 0; i < 2; i++)
        {
            using var client = server.Client(server.CreateNetwork());
            client.BaseAddress = new UriBuilder(server.BaseAddress) { Host = "resume.example.test" }.Uri;
            using var response = await client.ChatAsync();
        }

        using (var socket = await ConnectAsync(server))
        {
            await socket.SendAsync("this is no ClientHello"u8.ToArray());
            await server.WaitForAsync(c => c.TlsHandshakesFailed == 1);
        }

        var counters = server.GetCounters();
        Assert.Equal(2, counters.TlsHandshakes);
        Assert.Equal(1, counters.TlsHandshakesResumed);
        Assert.Equal([false, true, false], counters.Connections.Select(c => c.TlsResumed));
    }

    [Fact]
    public async Task Counts_requests_streams_and_connections_exactly()
    {
        await using var server = await MockLlmServer.StartAsync(new() { RecordRequests = true });
        using var client = server.Client();
        using (await client.ChatAsync())
        {
        }

        server.ResetCounters();
        var gate = server.WaitForAsync(c => c.StreamsOpen == 10);
        using var stop = new CancellationTokenSource();
        var calls = Enumerable.Range(0, 10).Select(i => client.SendAsync(client.Chat(false, ("x-mock-service-ms", "60000"), ("x-mock-id", $"{i}")), stop.Token)).ToArray();
        await gate;
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Task.WhenAll(calls));
        await server.WaitForAsync(c => c.AbortedRequests == 10);
        using (await client.ChatAsync())
        {
        }

        var counters = server.GetCounters();
        Assert.Equal((0L, 1, 1), (counters.ConnectionsAccepted, counters.ConnectionsOpen, counters.PeakConnections));
        Assert.Equal((11L, 1L, 10L), (counters.Requests, counters.RequestsCompleted, counters.AbortedRequests));
        Assert.Equal((0, 10, 10), (counters.StreamsOpen, counters.PeakStreams, counters.PeakStreamsPerConnection));
        Assert.Equal(11, counters.RequestsByPath["/v1/chat/completions"]);
        var connection = Assert.Single(counters.Connections);
        Assert.Equal(("HTTP/2", 11, 10, MockConnectionEnd.Open), (connection.Protocol, connection.Requests, connection.PeakStreams, connection.End));
        var requests = server.GetRequests();
        Assert.Equal(11, requests.Count);
        Assert.Equal(Enumerable.Range(0, 10).Select(i => $"{i}"), requests.Where(r => r.Aborted).Select(r => r.MockId).Order(StringComparer.Ordinal));
        Assert.All(requests, r => Assert.True(r.Ended >= r.Started && (r.Aborted || r.BodyLength > 0) && r.ConnectionId == connection.Id));
    }

    [Theory]
    [InlineData("1.1")]
    [InlineData("2.0")]
    public async Task One_call_after_the_other_is_never_two_streams(string version)
    {
        await using var server = await MockLlmServer.StartAsync();
        using var client = server.Client(version: Version.Parse(version));
        for (var i = 0; i < 300; i++)
        {
            using var response = i % 2 == 0 ? await client.ChatAsync() : await client.StreamAsync();
            await response.Content.ReadAsByteArrayAsync();
        }

        var counters = server.GetCounters();
        Assert.Equal((300L, 1, 1L), (counters.RequestsCompleted, counters.PeakStreams, counters.ConnectionsAccepted));
    }

    [Theory]
    [InlineData("1.1", 0)]
    [InlineData("2.0", 0)]
    [InlineData("1.1", 10)]
    [InlineData("2.0", 10)]
    public async Task A_stream_given_up_by_its_reader_is_aborted(string version, int roundTrip)
    {
        await using var server = await MockLlmServer.StartAsync(new() { RoundTripTime = TimeSpan.FromMilliseconds(roundTrip) });
        using var handler = server.Handler();
        handler.ResponseDrainTimeout = TimeSpan.Zero;
        using var client = new HttpClient(handler) { BaseAddress = server.BaseAddress, DefaultRequestVersion = Version.Parse(version), DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact };
        using (var response = await client.StreamAsync(("x-mock-tokens", "100000"), ("x-mock-token-gap-ms", "5")))
        {
            await (await response.Content.ReadAsStreamAsync()).ReadExactlyAsync(new byte[10]);
        }

        await server.WaitForAsync(c => c.AbortedRequests == 1 && c.StreamsOpen == 0);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(10)]
    public async Task Says_how_a_connection_ended(int roundTrip)
    {
        await using var server = await MockLlmServer.StartAsync(new()
        {
            RoundTripTime = TimeSpan.FromMilliseconds(roundTrip),
            OnConnection = c => c.Id == 3 ? new() { CloseAfterRequests = 1 } : null,
        });
        using (await ConnectTlsAsync(server, "localhost"))
        {
            await server.WaitForAsync(c => c.TlsHandshakes == 1);
        }

        await server.WaitForAsync(c => c.ConnectionsOpen == 0);
        using (var socket = await ConnectAsync(server))
        {
            await server.WaitForAsync(c => c.ConnectionsAccepted == 2);
            socket.LingerState = new LingerOption(true, 0);
        }

        await server.WaitForAsync(c => c.ConnectionsOpen == 0);
        using (var client = server.Client(version: Http11))
        {
            using var response = await client.ChatAsync();
            Assert.Null(response.Headers.ConnectionClose);
            await server.WaitForAsync(c => c.ConnectionsOpen == 0);
        }

        Assert.Equal([MockConnectionEnd.ClientFin, MockConnectionEnd.ClientReset, MockConnectionEnd.Server], server.GetCounters().Connections.Select(c => c.End));
    }

    [Fact]
    public async Task Http2_closes_after_n_requests_by_goaway()
    {
        await using var server = await MockLlmServer.StartAsync(new() { OnConnection = _ => new() { CloseAfterRequests = 2 } });
        using var client = server.Client(version: Http20);
        for (var i = 0; i < 4; i++)
        {
            using var response = await client.ChatAsync();
            if (i % 2 == 1)
            {
                await server.WaitForAsync(c => c.ConnectionsOpen == 0);
            }
        }

        Assert.Equal([2, 2], server.GetCounters().Connections.Select(c => c.Requests));
    }

    [Theory]
    [InlineData(MockConnectionAct.Close, 0)]
    [InlineData(MockConnectionAct.Reset, 0)]
    [InlineData(MockConnectionAct.GarbageForTls, 0)]
    [InlineData(MockConnectionAct.GarbageForHttp, 1)]
    [InlineData(MockConnectionAct.GarbageForTls, 0, 10)]
    [InlineData(MockConnectionAct.GarbageForHttp, 1, 10)]
    public async Task A_scripted_connection_fails_the_call_and_the_next_one_works(MockConnectionAct act, int handshakes, int roundTrip = 0)
    {
        await using var server = await MockLlmServer.StartAsync(new()
        {
            RoundTripTime = TimeSpan.FromMilliseconds(roundTrip),
            OnConnection = c => c.Id == 1 ? new() { Act = act } : null,
        });
        foreach (var version in new[] { Http20, Http11 })
        {
            using var client = server.Client(version: version);
            if (version == Http20)
            {
                await Assert.ThrowsAsync<HttpRequestException>(() => client.ChatAsync());
            }

            using var response = await client.ChatAsync();
            Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        }

        var counters = server.GetCounters();
        Assert.Equal(2 + handshakes, counters.TlsHandshakes);
        Assert.Equal(0, counters.TlsHandshakesFailed);
        Assert.Equal(MockConnectionEnd.Server, counters.Connections[0].End);
    }

    [Theory]
    [InlineData(MockConnectionAct.Silent, 0)]
    [InlineData(MockConnectionAct.SilentAfterTls, 1)]
    public async Task A_silent_connection_says_nothing_until_the_client_leaves(MockConnectionAct act, int handshakes)
    {
        await using var server = await MockLlmServer.StartAsync(new() { OnConnection = _ => new() { Act = act } });
        using var client = server.Client();
        using var stop = new CancellationTokenSource();
        var call = client.SendAsync(client.Chat(), stop.Token);
        await server.WaitForAsync(c => c.ConnectionsAccepted == 1 && c.TlsHandshakes == handshakes);
        Assert.False(call.IsCompleted);
        await stop.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => call);
        client.Dispose();
        Assert.Equal(0, server.GetCounters().Requests);
    }

    [Fact]
    public async Task Stops_while_connections_are_silent_and_answers_run()
    {
        var server = await MockLlmServer.StartAsync(new() { OnConnection = c => c.Id == 1 ? new() { Act = MockConnectionAct.Silent } : null });
        using var silent = await ConnectAsync(server);
        await server.WaitForAsync(c => c.ConnectionsOpen == 1);
        using var client = server.Client();
        using var response = await client.StreamAsync(("x-mock-tokens", "100000"), ("x-mock-token-gap-ms", "5"));
        using var idle = server.Client();
        using (await idle.ChatAsync())
        {
        }

        await server.DisposeAsync();

        await Assert.ThrowsAnyAsync<Exception>(() => response.Content.ReadAsByteArrayAsync());
        Assert.Equal((0, 0L), (server.GetCounters().ConnectionsOpen, server.GetCounters().AbortedRequests));
    }

    [Theory]
    [InlineData("1.1")]
    [InlineData("2.0")]
    public async Task A_script_decides_request_by_request(string version)
    {
        await using var server = await MockLlmServer.StartAsync(new()
        {
            RecordRequests = true,
            OnRequest = r => r.MockId switch
            {
                "busy" => new() { Status = 529, ErrorMessage = "full \"house\"", RetryAfter = TimeSpan.FromSeconds(2), Headers = new Dictionary<string, string> { ["x-extra"] = "yes" } },
                "gone" => new() { Abort = true },
                "half" => new() { AbortAfterTokens = 2 },
                "long" => new() { Tokens = 40 },
                _ => null,
            },
        });
        using var client = server.Client(version: Version.Parse(version));

        using var busy = await client.ChatAsync(("x-mock-id", "busy"));
        Assert.Equal(529, (int)busy.StatusCode);
        Assert.Equal(TimeSpan.FromSeconds(2), busy.Headers.RetryAfter?.Delta);
        Assert.Equal("yes", busy.Headers.GetValues("x-extra").Single());
        Assert.Contains("full", await busy.Content.ReadAsStringAsync());
        await Assert.ThrowsAsync<HttpRequestException>(() => client.ChatAsync(("x-mock-id", "gone")));
        using var half = await client.StreamAsync(("x-mock-id", "half"));
        await Assert.ThrowsAnyAsync<IOException>(async () => await (await half.Content.ReadAsStreamAsync()).CopyToAsync(Stream.Null));
        using var tall = await client.ChatAsync(("x-mock-id", "long"));
        Assert.Contains("\"completion_tokens\":40", await tall.Content.ReadAsStringAsync());
        Assert.Equal(0, server.GetCounters().AbortedRequests);
        Assert.Equal([529, 0, 200, 200], server.GetRequests().Select(r => r.Status));
    }

    [Fact]
    public async Task Answers_before_the_body_when_told_to()
    {
        await using var server = await MockLlmServer.StartAsync(new() { RecordRequests = true, OnRequest = _ => new() { Status = 401, BeforeBody = true } });
        using var tls = await ConnectTlsAsync(server, "localhost");
        await tls.WriteAsync("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{"u8.ToArray());

        var line = await new StreamReader(tls).ReadLineAsync();

        Assert.Equal("HTTP/1.1 401 Unauthorized", line);
        Assert.Equal(0, server.GetRequests()[0].BodyLength);
    }

    [Fact]
    public async Task Headers_can_be_withheld_for_ever()
    {
        await using var server = await MockLlmServer.StartAsync(new() { OnRequest = _ => new() { DelayBeforeHeaders = Timeout.InfiniteTimeSpan } });
        using var client = server.Client();
        using var stop = new CancellationTokenSource();
        var call = client.SendAsync(client.Chat(), stop.Token);
        await server.WaitForAsync(c => c.StreamsOpen == 1);
        await stop.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => call);
        await server.WaitForAsync(c => c.AbortedRequests == 1);
    }

    [Fact]
    public async Task Wrong_options_are_all_named()
    {
        var error = await Assert.ThrowsAsync<ArgumentException>(() => MockLlmServer.StartAsync(new() { Port = 70000, Tokens = -1, MaxStreamsPerConnection = 0 }));

        Assert.Contains("Port is 70000", error.Message);
        Assert.Contains("Tokens is -1", error.Message);
        Assert.Contains("MaxStreamsPerConnection is 0", error.Message);
    }

    [Fact]
    public async Task Waiting_can_be_cancelled()
    {
        await using var server = await MockLlmServer.StartAsync();
        using var stop = new CancellationTokenSource();
        var wait = server.WaitForAsync(c => c.Requests == 1, stop.Token);
        await stop.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => wait);
    }

    static async Task<Socket> ConnectAsync(MockLlmServer server)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await socket.ConnectAsync(IPAddress.Loopback, server.BaseAddress.Port);
        return socket;
    }

    static async Task<SslStream> ConnectTlsAsync(MockLlmServer server, string name)
    {
        var tls = new SslStream(new NetworkStream(await ConnectAsync(server), ownsSocket: true));
        var options = server.CreateClientSslOptions();
        options.TargetHost = name;
        await tls.AuthenticateAsClientAsync(options);
        return tls;
    }
}
