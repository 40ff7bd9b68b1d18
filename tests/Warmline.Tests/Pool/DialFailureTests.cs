using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using Warmline.MockLlm;
using Warmline.Options;
using Warmline.Tests.Http;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>A dial that stalls or fails strands nobody: who waited for it gets one clear error, in its time.</summary>
public sealed class DialFailureTests
{
    static readonly TimeSpan Short = TimeSpan.FromSeconds(1);   // a healthy dial beside the stalled one must make it on a busy machine too

    [Theory(Timeout = Rig.Patience)]
    [InlineData(MockConnectionAct.Silent, DialPhase.Tls, "the TLS handshake was not finished by then")]
    [InlineData(MockConnectionAct.SilentAfterTls, DialPhase.Http2Settings, "sent no SETTINGS within 1 s (Timeouts.Connect)")]
    [InlineData(MockConnectionAct.Close, DialPhase.Tls, "The TLS handshake with localhost:")]
    [InlineData(MockConnectionAct.GarbageForTls, DialPhase.Tls, "The TLS handshake with localhost:")]
    public async Task Every_caller_of_a_dial_that_comes_to_nothing_gets_its_error(MockConnectionAct act, DialPhase phase, string text)
    {
        await using var healthy = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        await using var rig = await Rig.StartAsync(
            options =>
            {
                options.Timeouts.Connect = Short;
                options.SslOptions!.CertificateChainPolicy!.CustomTrustStore.Add(healthy.CertificateAuthority);
            },
            new() { OnConnection = _ => new MockConnectionPlan { Act = act } });

        var calls = Enumerable.Range(0, 6).Select(_ => Assert.ThrowsAsync<PoolConnectException>(() => rig.CallAsync())).ToArray();
        var beside = Calls.Chat();
        beside.RequestUri = new Uri(healthy.BaseAddress, beside.RequestUri!);
        await rig.CallAsync(beside);   // another origin is served meanwhile
        var errors = await Task.WhenAll(calls);

        Assert.All(errors, error => Assert.Equal(phase, error.Phase));
        Assert.Contains(errors, error => error.Message.Contains(text, StringComparison.Ordinal));
        Assert.All(errors, error => Assert.True(error.Verdict is RequestVerdict.NotSent || phase is DialPhase.Http2Settings));
        Assert.Equal(0, rig.Counters.Requests);
        await rig.StatsAsync(stats => stats is { Active: 0, Queued: 0 } && stats.Origins.Single(origin => origin.Origin == Origin(rig)).Connections == 0);
        await rig.MockAsync(counters => counters.ConnectionsOpen == 0);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(MockConnectionAct.Silent)]
    [InlineData(MockConnectionAct.SilentAfterTls)]
    [InlineData(MockConnectionAct.Reset)]
    public async Task Calls_ride_the_connections_that_come_when_others_do_not(MockConnectionAct act)
    {
        // No clock helps here: only the other dials of the burst do.
        await using var rig = await Rig.StartAsync(
            options => (options.Timeouts.Connect, options.Timeouts.Pool) = (Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan),
            new() { OnConnection = connection => connection.Id % 2 == 1 ? new MockConnectionPlan { Act = act } : null });

        var calls = Enumerable.Range(0, 20).Select(_ => rig.CallAsync()).ToArray();
        if (act is not MockConnectionAct.SilentAfterTls)
        {
            await Task.WhenAll(calls);
            return;
        }

        // One call was given to each of the two silent connections to start it; those end with the pool.
        await Eventually.TrueAsync(() => calls.Count(call => call.IsCompletedSuccessfully) >= 18);
        await rig.Pool.DisposeAsync();
        foreach (var call in calls.Where(call => !call.IsCompletedSuccessfully))
        {
            await Assert.ThrowsAsync<PoolAbortedException>(() => call);
        }
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_wait_for_a_dial_that_is_longer_than_the_pool_timeout_ends_in_a_pool_timeout()
    {
        await using var rig = await Rig.StartAsync(options => options.Timeouts.Pool = Short, new() { OnConnection = _ => new MockConnectionPlan { Act = MockConnectionAct.Silent } });

        var error = await Assert.ThrowsAsync<PoolTimeoutException>(() => rig.CallAsync());

        Assert.Equal(PoolRejectionReason.Dialing, error.Reason);
        Assert.True(error.Waited >= Short);
        Assert.Contains($"No place for a request to {Origin(rig)} within 1 s (Timeouts.Pool)", error.Message);
        Assert.Contains("a connection was being opened and was not ready in time", error.Message);
        Assert.EndsWith("#dialing", error.HelpLink);
        Assert.Equal((1L, 0), (rig.Stats.Refused, rig.Stats.Queued));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_port_where_nobody_listens_is_named()
    {
        int port;
        using (var closed = new RawServer())
        {
            port = closed.Port;
        }

        await using var pool = new ConnectionPool();
        using var client = pool.CreateClient(new Uri($"https://127.0.0.1:{port}"));
        var error = await Assert.ThrowsAsync<PoolConnectException>(() => client.SendAsync(Calls.Chat(), Rig.Ct));

        Assert.Equal((DialPhase.Tcp, RequestVerdict.NotSent, HttpRequestError.ConnectionError), (error.Phase, error.Verdict, error.HttpRequestError));
        Assert.Contains($"The TCP connection to 127.0.0.1:{port}", error.Message);
        Assert.Contains("ConnectionRefused", error.Message);
        Assert.Equal((1L, 1L, 0), (pool.GetStats().FailedDials, pool.GetStats().Refused, pool.GetStats().Connections));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_host_that_does_not_exist_is_named()
    {
        var network = new FakeNetwork { Resolve = (_, _) => ValueTask.FromException<IPAddress[]>(new SocketException((int)SocketError.HostNotFound)) };
        await using var pool = new ConnectionPool(null, null, null, network);
        using var client = pool.CreateClient(new Uri("https://api.opnai.test"));
        var error = await Assert.ThrowsAsync<PoolConnectException>(() => client.SendAsync(Calls.Chat(), Rig.Ct));

        Assert.Equal((DialPhase.Dns, RequestVerdict.NotSent, HttpRequestError.NameResolutionError), (error.Phase, error.Verdict, error.HttpRequestError));
        Assert.Contains("The host name of api.opnai.test:443 could not be resolved", error.Message);
        Assert.Contains("HostNotFound", error.Message);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_resolver_that_does_not_answer_ends_in_the_pool_timeout_which_says_so()
    {
        var network = new FakeNetwork { Resolve = (_, ct) => FakeNetwork.StallAsync<IPAddress[]>(ct) };
        var options = new ConnectionPoolOptions { Timeouts = { Connect = Short / 2, Pool = Short } };
        await using var pool = new ConnectionPool(options, null, null, network);
        using var client = pool.CreateClient(new Uri("https://example.test"));
        var error = await Assert.ThrowsAsync<PoolTimeoutException>(() => client.SendAsync(Calls.Chat(), Rig.Ct));

        Assert.Equal(PoolRejectionReason.Dialing, error.Reason);
        Assert.EndsWith(" The DNS lookup had not finished.", error.Message);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_network_that_swallows_everything_ends_in_the_connect_timeout()
    {
        var network = new FakeNetwork { Connect = (_, ct) => FakeNetwork.StallAsync<Stream>(ct) };
        var options = new ConnectionPoolOptions { Timeouts = { Connect = Short } };
        await using var pool = new ConnectionPool(options, null, null, network);
        using var client = pool.CreateClient(new Uri("https://example.test"));
        var error = await Assert.ThrowsAsync<PoolConnectException>(() => client.SendAsync(Calls.Chat(), Rig.Ct));

        Assert.Equal((DialPhase.Tcp, RequestVerdict.NotSent), (error.Phase, error.Verdict));
        Assert.Contains("Connecting to example.test:443 timed out after 1 s", error.Message);
        Assert.Contains("; a firewall may be in the way, or calls have to take a proxy.", error.Message);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_server_that_closes_right_after_tls_ends_every_call(bool http2)
    {
        using var authority = new TestAuthority();
        using var certificate = authority.Issue();
        using var server = new RawServer();
        var accepting = AcceptAndCloseAsync();
        await using (var pool = new ConnectionPool(new ConnectionPoolOptions { SslOptions = authority.Trust(), Timeouts = { Connect = TimeSpan.FromSeconds(30) } }))
        {
            using var client = pool.CreateClient(new Uri($"https://localhost:{server.Port}"));
            var errors = await Task.WhenAll(Enumerable.Range(0, 3).Select(_ => Assert.ThrowsAnyAsync<HttpRequestException>(() => client.SendAsync(Calls.Chat(), Rig.Ct))));

            if (http2)
            {
                Assert.All(errors, error => Assert.Equal(DialPhase.Http2Settings, Assert.IsType<PoolConnectException>(error).Phase));
                Assert.All(errors, error => Assert.Contains("SETTINGS", error.Message));
            }
            else
            {
                Assert.All(errors, error => Assert.Contains($"https://localhost:{server.Port}", error.Message));
            }

            await Eventually.TrueAsync(() => pool.GetStats() is { Active: 0, Queued: 0, Connections: 0 }, () => Rig.Describe(pool.GetStats()));
        }

        server.Dispose();
        await Assert.ThrowsAnyAsync<Exception>(() => accepting);

        async Task AcceptAndCloseAsync()
        {
            while (true)
            {
                try
                {
                    var accepted = await server.AcceptTlsAsync(certificate, http2 ? SslApplicationProtocol.Http2 : SslApplicationProtocol.Http11);
                    accepted.Dispose();
                }
                catch (AuthenticationException)
                {
                    // HTTP/1.1 was tried, which it does not speak.
                }
            }
        }
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Garbage_instead_of_http_ends_in_an_error_that_says_so(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2, mock: new() { OnConnection = _ => new MockConnectionPlan { Act = MockConnectionAct.GarbageForHttp } });

        var error = await Assert.ThrowsAnyAsync<HttpRequestException>(() => rig.CallAsync());

        Assert.Contains(Origin(rig), error.Message);
        if (http2)
        {
            Assert.Equal(DialPhase.Http2Settings, Assert.IsType<PoolConnectException>(error).Phase);
            Assert.Contains("SETTINGS", error.Message);
        }
        else
        {
            Assert.Equal(RequestVerdict.Unknown, Assert.IsType<PoolRequestException>(error).Verdict);
            Assert.Contains("invalid status line", error.Message);
        }

        await rig.QuietAsync();
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(MockCertificate.Untrusted, "not trusted", "UntrustedRoot|PartialChain")]
    [InlineData(MockCertificate.Expired, "expired on 20", "NotTimeValid")]
    [InlineData(MockCertificate.WrongName, "the certificate is for another name: it names 'another-server.invalid', not 'localhost'", "localhost")]
    public async Task A_bad_certificate_is_explained(MockCertificate certificate, string text, string codes)
    {
        await using var rig = await Rig.StartAsync(mock: new() { Certificate = certificate });

        var error = await Assert.ThrowsAsync<PoolConnectException>(() => rig.CallAsync());

        Assert.Equal((DialPhase.Tls, RequestVerdict.NotSent, HttpRequestError.SecureConnectionError), (error.Phase, error.Verdict, error.HttpRequestError));
        Assert.Contains($"The TLS handshake with localhost:{rig.Mock.BaseAddress.Port} failed", error.Message);
        Assert.Contains(text, error.Message);
        Assert.Contains(codes.Split('|'), code => error.Message.Contains(code, StringComparison.Ordinal));
        Assert.Equal(0, rig.Counters.Requests);
        Assert.Contains(rig.Logs.Entries, entry => entry.Message.Contains(text, StringComparison.Ordinal));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task The_mock_server_is_trusted_by_what_its_refusal_names()
    {
        await using var mock = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        await using var trustless = new ConnectionPool();
        using var client = trustless.CreateClient(mock.BaseAddress);

        var error = await Assert.ThrowsAsync<PoolConnectException>(() => client.SendAsync(Calls.Chat(), Rig.Ct));

        Assert.EndsWith(" Trust it by ConnectionPoolOptions.SslOptions = server.CreateClientSslOptions().", error.Message, StringComparison.Ordinal);
        await using var trusting = new ConnectionPool(new ConnectionPoolOptions { SslOptions = mock.CreateClientSslOptions() });
        using var trusted = trusting.CreateClient(mock.BaseAddress);
        (await trusted.SendAsync(Calls.Chat(), Rig.Ct)).Dispose();
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Plain_http_to_a_server_that_wants_https_is_asked_about()
    {
        await using var mock = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        await using var pool = new ConnectionPool();
        using var client = pool.CreateClient(new Uri($"http://localhost:{mock.BaseAddress.Port}"));

        var error = await Assert.ThrowsAsync<PoolRequestException>(() => client.SendAsync(Calls.Chat(), Rig.Ct));

        Assert.Equal(RequestVerdict.Unknown, error.Verdict);
        Assert.EndsWith(" Does the server want https?", error.Message, StringComparison.Ordinal);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("", true)]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Le", false)]
    public async Task A_plain_http_server_that_has_said_something_wants_no_https(string said, bool asks)
    {
        await using var server = new RawHttp1Server(async connection =>
        {
            await connection.ReadHeadAsync();
            await connection.ReadAsync(2);
            await connection.SayAsync(said);
        });
        await using var pool = new ConnectionPool();
        using var client = pool.CreateClient();

        var error = await Assert.ThrowsAsync<PoolRequestException>(() => client.PostAsync(new Uri($"http://localhost:{server.Port}/"), new StringContent("Hi"), Rig.Ct));

        Assert.Equal(asks, error.Message.EndsWith(" Does the server want https?", StringComparison.Ordinal));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_server_without_http2_is_named_when_http2_is_required()
    {
        await using var rig = await Rig.StartHttp1Async(options => options.Http2.Mode = Http2Mode.Required);

        var error = await Assert.ThrowsAsync<PoolConnectException>(() => rig.CallAsync());

        Assert.Equal(DialPhase.Tls, error.Phase);
        Assert.Contains("HTTP/2", error.Message);
        Assert.Contains("required", error.Message);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_server_that_comes_back_is_dialled_again_after_a_pause()
    {
        var broken = true;
        await using var rig = await Rig.StartAsync(mock: new() { OnConnection = _ => Volatile.Read(ref broken) ? new MockConnectionPlan { Act = MockConnectionAct.Reset } : null });
        await Assert.ThrowsAsync<PoolConnectException>(() => rig.CallAsync());
        Volatile.Write(ref broken, false);

        await rig.CallAsync();   // waits out the back-off instead of failing at once

        Assert.Equal((2L, 1L, 1L), (rig.Counters.ConnectionsAccepted, rig.Stats.FailedDials, rig.Stats.NewConnections));
        Assert.Contains(rig.Logs.Entries, entry => entry.Message.StartsWith($"Dial to {Origin(rig)} failed in phase T", StringComparison.Ordinal));
    }

    [Fact]
    public void Wrong_options_are_all_listed_at_once_with_name_value_and_range()
    {
        var options = new ConnectionPoolOptions
        {
            MaxConnections = 0,
            MaxConnectionsPerHost = -1,
            MaxConcurrentRequests = 0,
            MaxIdleConnections = -2,
            MaxQueueLength = -1,
            IdleTimeout = TimeSpan.Zero,
            ConnectionLifetime = TimeSpan.FromSeconds(-5),
            StatsLogInterval = TimeSpan.FromMilliseconds(1),
            Http2 = { Mode = (Http2Mode)9, MaxStreamsPerConnection = 0, TargetStreams = 0, SpreadConnections = 0, PingDelay = TimeSpan.FromMilliseconds(1), PingTimeout = TimeSpan.Zero },
            Timeouts = { Pool = TimeSpan.Zero, Connect = TimeSpan.Zero, Write = TimeSpan.Zero, FirstByte = TimeSpan.Zero, Read = TimeSpan.Zero, Total = TimeSpan.Zero },
            Dns = { CacheTtl = TimeSpan.Zero },
            TcpKeepAlive = { Idle = TimeSpan.FromMilliseconds(1500), Interval = TimeSpan.Zero, Count = 128 },
            SslOptions = new SslClientAuthenticationOptions { TargetHost = "other", ApplicationProtocols = [SslApplicationProtocol.Http11] },
            Hosts = { ["api openai com"] = new(), ["https://api.openai.com"] = new() { WarmConnections = -1 } },
        };

        var error = Assert.Throws<ArgumentException>(() => new ConnectionPool(options));

        Assert.All(
            [
                "MaxConnections is 0: must be 1 to 65535", "MaxConnectionsPerHost is -1", "MaxConcurrentRequests is 0: must be 1 or more", "MaxIdleConnections is -2", "MaxQueueLength is -1",
                "IdleTimeout is 00:00:00: must be above 0", "ConnectionLifetime is -00:00:05", "StatsLogInterval is 00:00:00.0010000: must be 00:00:01", "Http2.Mode is 9: must be Preferred, Disabled or Required",
                "Http2.MaxStreamsPerConnection is 0: must be 1 to 1000", "Http2.TargetStreams is 0", "Http2.SpreadConnections is 0", "Http2.PingDelay is", "Http2.PingTimeout is",
                "Timeouts.Pool is", "Timeouts.Connect is", "Timeouts.Write is", "Timeouts.FirstByte is", "Timeouts.Read is", "Timeouts.Total is", "Dns.CacheTtl is",
                "TcpKeepAlive.Idle is 00:00:01.5000000: must be whole seconds", "TcpKeepAlive.Interval is", "TcpKeepAlive.Count is 128: must be 1 to 127",
                "SslOptions.TargetHost is other", "SslOptions.ApplicationProtocols", "Hosts[\"api openai com\"]", "must be like https://api.openai.com or api.openai.com", "Hosts[\"https://api.openai.com\"].WarmConnections is -1",
            ],
            text => Assert.Contains(text, error.Message));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task What_is_no_address_or_out_of_range_is_refused_where_it_is_given()
    {
        await using var rig = await Rig.StartAsync();
        var file = await Assert.ThrowsAsync<NotSupportedException>(() => new HttpMessageInvoker(rig.Pool.CreateHandler()).SendAsync(new HttpRequestMessage(HttpMethod.Get, "ftp://example.test/"), Rig.Ct));
        Assert.Contains("'ftp://example.test/'", file.Message);
        Assert.Contains("not an absolute http or https address", Assert.Throws<ArgumentException>(() => rig.Pool.CreateClient(new Uri("/v1", UriKind.Relative))).Message);
        Assert.Contains("MaxQueueTime is 00:00:00", Assert.Throws<ArgumentException>(() => rig.Pool.CreateHandler(new() { MaxQueueTime = TimeSpan.Zero })).Message);
        Assert.Contains("Timeouts.Connect", Assert.Throws<ArgumentException>(() => rig.Pool.CreateHandler(new() { Timeouts = new() { Connect = Short } })).Message);
        Assert.Contains("Must be 1 to 25", (await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 26, Rig.Ct))).Message);
        var http3 = await Assert.ThrowsAsync<PoolRequestException>(() => rig.SendAsync(new HttpRequestMessage(HttpMethod.Get, "v1/models") { Version = HttpVersion.Version30, VersionPolicy = HttpVersionPolicy.RequestVersionExact }));
        Assert.Equal(HttpRequestError.VersionNegotiationError, http3.HttpRequestError);
        Assert.Equal((0, 0L), (rig.Stats.Active, rig.Stats.TotalRequests));
    }

    static string Origin(Rig rig) => rig.Mock.BaseAddress.GetLeftPart(UriPartial.Authority);
}
