using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>A server that wants HTTP/1.1, or whose HTTP/2 is broken: calls that may use HTTP/1.1 succeed, as they would without the pool.</summary>
public sealed class Http1FallbackTests
{
    const byte Http11Required = 13;

    static readonly TimeSpan RefusalMemory = TimeSpan.FromMinutes(30), BreakMemory = TimeSpan.FromMinutes(10);

    static CancellationToken Ct => TestContext.Current.CancellationToken;

    public static TheoryData<string> Refusals =>
        ["RST 13", "RST 12", "RST 13 after the body", "GOAWAY 0 13", "GOAWAY 0 12", "GOAWAY 0 13 RST", "GOAWAY own 13", "GOAWAY own 12", "GOAWAY 0 13 open"];

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Refusals))]
    public async Task A_server_that_refuses_HTTP2_is_asked_over_HTTP1(string how)
    {
        await using var server = new TwoProtocolServer { OnFrame = Refuse(how) };
        var logs = new LogRecorder();
        await using var pool = server.NewPool(logs: logs);
        using var client = pool.CreateClient();
        using var bare = server.NewBare();

        Assert.Equal("200 ok 1.1", await TellAsync(bare, server.Post()));
        for (var call = 0; call < 11; call++)
        {
            Assert.Equal("200 ok 1.1", await TellAsync(client, server.Post()));
        }

        Assert.InRange(server.Http2Connections, 1, 2);
        Assert.Single(logs.Entries, entry => entry.Message.StartsWith("HTTP/2 to ", StringComparison.Ordinal));
        var origin = Assert.Single(pool.GetStats().Origins);
        Assert.InRange(origin.Http2AvoidedFor!.Value, RefusalMemory - TimeSpan.FromMinutes(2), RefusalMemory);
        Assert.Equal(HttpVersion.Version11, origin.HttpVersion);
        Assert.Equal((0, 0L), (pool.GetStats().Active, pool.GetStats().Faults.FailedUnknown + pool.GetStats().Faults.FailedUnprocessed));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("RST 13", 20)]
    [InlineData("GOAWAY 0 13", 20)]
    [InlineData("GOAWAY 0 13 open", 20)]
    [InlineData("RST 13", 200)]
    [InlineData("GOAWAY 0 13 RST", 200)]
    public async Task Many_calls_at_once_all_fall_back(string how, int calls)
    {
        await using var server = new TwoProtocolServer { OnFrame = Refuse(how) };
        await using var pool = server.NewPool(options => options.RetryBudget = 0);
        using var client = pool.CreateClient();

        var answers = await Task.WhenAll(Enumerable.Range(0, calls).Select(_ => TellAsync(client, server.Post())));

        Assert.All(answers, static answer => Assert.Equal("200 ok 1.1", answer));
        Assert.Equal(calls, server.Http1Bodies.Count);
        await Eventually.TrueAsync(() => pool.GetStats() is { Active: 0, Queued: 0 }, () => Rig.Describe(pool.GetStats()));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("1.1", HttpVersionPolicy.RequestVersionOrHigher)]
    [InlineData("2.0", HttpVersionPolicy.RequestVersionOrLower)]
    [InlineData("3.0", HttpVersionPolicy.RequestVersionOrLower)]
    public async Task Whoever_may_use_HTTP1_does(string version, HttpVersionPolicy policy)
    {
        await using var server = new TwoProtocolServer { OnFrame = Refuse("RST 13") };
        await using var pool = server.NewPool();
        using var client = pool.CreateClient();

        Assert.Equal("200 ok 1.1", await TellAsync(client, server.Post(Version.Parse(version), policy)));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("RST 13", HttpVersionPolicy.RequestVersionExact)]
    [InlineData("RST 13", HttpVersionPolicy.RequestVersionOrHigher)]
    [InlineData("GOAWAY 0 13", HttpVersionPolicy.RequestVersionExact)]
    [InlineData("GOAWAY 0 13", HttpVersionPolicy.RequestVersionOrHigher)]
    [InlineData("GOAWAY 0 12", HttpVersionPolicy.RequestVersionExact)]
    public async Task Whoever_insists_on_HTTP2_fails_with_the_code_and_the_remedy(string how, HttpVersionPolicy policy)
    {
        await using var server = new TwoProtocolServer { OnFrame = Refuse(how) };
        await using var pool = server.NewPool();
        using var client = pool.CreateClient();

        for (var call = 1; call <= 3; call++)
        {
            var error = await Assert.ThrowsAsync<PoolRequestException>(() => client.SendAsync(server.Post(HttpVersion.Version20, policy), Ct));

            Assert.Equal(RequestVerdict.Unprocessed, error.Verdict);
            Assert.Contains(how.EndsWith("12", StringComparison.Ordinal) ? "INADEQUATE_SECURITY, 0xc" : "HTTP_1_1_REQUIRED, 0xd", error.Message, StringComparison.Ordinal);
            Assert.Contains("VersionPolicy to RequestVersionOrLower", error.Message, StringComparison.Ordinal);
            Assert.InRange(server.Http2Requests, 0, call);
        }

        Assert.Equal(0, server.Http1Connections);
        Assert.Equal("200 ok 1.1", await TellAsync(client, server.Post()));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Whoever_insists_on_HTTP2_keeps_it_while_others_avoid_it()
    {
        // As a server that wants HTTP/1.1 for one path only.
        await using var server = new TwoProtocolServer { OnFrame = Refuse("RST 13") };
        await using var pool = server.NewPool();
        using var client = pool.CreateClient();
        Assert.Equal("200 ok 1.1", await TellAsync(client, server.Post()));

        server.OnFrame = Answer;

        Assert.Equal("200  2.0", await TellAsync(client, server.Post(HttpVersion.Version20, HttpVersionPolicy.RequestVersionOrHigher)));
        Assert.Equal("200  2.0", await TellAsync(client, server.Post(HttpVersion.Version20, HttpVersionPolicy.RequestVersionExact)));
        Assert.Equal("200 ok 1.1", await TellAsync(client, server.Post()));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_pool_that_requires_HTTP2_does_not_fall_back_and_says_what_to_change()
    {
        await using var server = new TwoProtocolServer { OnFrame = Refuse("RST 13") };
        await using var pool = server.NewPool(static options => options.Http2.Mode = Http2Mode.Required);
        using var client = pool.CreateClient();

        var error = await Assert.ThrowsAsync<PoolRequestException>(() => client.SendAsync(server.Post(), Ct));

        Assert.Contains("Set Http2.Mode to Preferred", error.Message, StringComparison.Ordinal);
        Assert.Equal(0, server.Http1Connections);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task The_refusal_is_forgotten_in_time_and_HTTP2_used_again()
    {
        var time = new ManualTime();
        await using var server = new TwoProtocolServer { OnFrame = Refuse("RST 13") };
        await using var pool = server.NewPool(static options => options.ConnectionLifetime = TimeSpan.FromMinutes(1), time: time);
        using var client = pool.CreateClient();
        Assert.Equal("200 ok 1.1", await TellAsync(client, server.Post()));
        server.OnFrame = Answer;

        time.Advance(RefusalMemory - TimeSpan.FromMinutes(1));
        Assert.Equal("200 ok 1.1", await TellAsync(client, server.Post()));
        time.Advance(TimeSpan.FromMinutes(3));

        Assert.Equal("200  2.0", await TellAsync(client, server.Post()));
        Assert.Null(Assert.Single(pool.GetStats().Origins).Http2AvoidedFor);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_body_that_cannot_be_given_again_fails_once_and_the_next_call_uses_HTTP1()
    {
        await using var server = new TwoProtocolServer { OnFrame = Refuse("RST 13 after the body") };
        await using var pool = server.NewPool();
        using var client = pool.CreateClient();
        using var once = new HttpRequestMessage(HttpMethod.Post, server.Address) { Content = new StreamContent(new MemoryStream(new byte[30_000])) };

        var error = await Assert.ThrowsAsync<PoolRequestException>(() => client.SendAsync(once, Ct));

        Assert.Equal(RequestVerdict.Unprocessed, error.Verdict);
        Assert.Contains("HTTP_1_1_REQUIRED", error.Message, StringComparison.Ordinal);
        Assert.Equal("200 ok 1.1", await TellAsync(client, server.Post()));
        Assert.Equal(1, server.Http2Connections);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_refusal_of_the_connection_proves_nothing_for_an_earlier_stream()
    {
        // GOAWAY names both streams: the first may have been processed, and the refusal may be about the second alone.
        await using var server = new TwoProtocolServer();
        server.OnFrame = async (connection, frame) =>
        {
            if (frame.Type is RawHttp2Server.Headers && server.Http2Requests == 3)
            {
                await connection.GoAwayAsync(frame.Stream, Http11Required, "");
                await connection.HangUpAsync();
                connection.Dispose();
            }
            else if (frame.EndsStream && server.Http2Requests == 1)
            {
                await connection.AnswerAsync(frame.Stream, ended: true);
            }
        };
        await using var pool = server.NewPool(static options => options.Http2.MaxStreamsPerConnection = 100);
        using var client = pool.CreateClient();
        Assert.Equal("200  2.0", await TellAsync(client, server.Post()));

        var first = TellAsync(client, server.Post(body: "{\"first\":1}"));
        await Eventually.TrueAsync(() => server.Http2Requests == 2, () => $"{server.Http2Requests}");
        var second = TellAsync(client, server.Post(body: "{\"second\":1}"));

        Assert.StartsWith("PoolRequestException Unknown", await first, StringComparison.Ordinal);
        await second;
        Assert.DoesNotContain("{\"first\":1}", server.Http1Bodies);
        Assert.Equal("200 ok 1.1", await TellAsync(client, server.Post()));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("GOAWAY 0 0")]
    [InlineData("GOAWAY 0 1")]
    [InlineData("GOAWAY 0 2 RST")]
    [InlineData("GOAWAY 0 11")]
    public async Task HTTP2_that_never_takes_a_call_is_given_up_after_the_usual_resends(string how)
    {
        await using var server = new TwoProtocolServer { OnFrame = Refuse(how) };
        await using var pool = server.NewPool();
        using var client = pool.CreateClient();

        for (var call = 0; call < 5; call++)
        {
            Assert.Equal("200 ok 1.1", await TellAsync(client, server.Post()));
        }

        Assert.InRange(server.Http2Connections, 1, 4);
        Assert.InRange(Assert.Single(pool.GetStats().Origins).Http2AvoidedFor!.Value, TimeSpan.FromMinutes(8), BreakMemory);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("GOAWAY 0 0")]
    [InlineData("GOAWAY 0 1")]
    public async Task HTTP2_that_has_worked_is_not_given_up_for_a_restart(string how)
    {
        await using var server = new TwoProtocolServer();
        await using var pool = server.NewPool();
        using var client = pool.CreateClient();
        Assert.Equal("200  2.0", await TellAsync(client, server.Post()));

        server.OnFrame = Refuse(how);
        Assert.StartsWith("PoolRequestException Unprocessed", await TellAsync(client, server.Post()), StringComparison.Ordinal);
        server.OnFrame = Answer;

        Assert.Equal("200  2.0", await TellAsync(client, server.Post()));
        Assert.Equal(0, server.Http1Connections);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("FIN")]
    [InlineData("RST")]
    [InlineData("garbage")]
    [InlineData("HTTP/1.1 400 Bad Request\r\n\r\n")]
    [InlineData("GOAWAY")]
    [InlineData("headers")]
    public async Task HTTP2_that_breaks_before_SETTINGS_costs_one_call_at_most(string how)
    {
        await using var server = new TwoProtocolServer { InsteadOfSettings = (stream, socket) => BreakAsync(stream, socket, how) };
        await using var pool = server.NewPool();
        using var client = pool.CreateClient();

        var first = await TellAsync(client, server.Post());
        var others = await Task.WhenAll(Enumerable.Range(0, 10).Select(_ => TellAsync(client, server.Post())));

        Assert.True(first is "200 ok 1.1" || first.StartsWith("PoolConnectException Unknown", StringComparison.Ordinal), first);
        Assert.True(others.All(static answer => answer is "200 ok 1.1"), $"{first}; {string.Join("; ", others)}");
        Assert.Equal(server.Http1Bodies.Count, others.Length + (first is "200 ok 1.1" ? 1 : 0));
        Assert.Equal(1, server.Http2Connections);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("FIN")]
    [InlineData("garbage")]
    public async Task A_burst_loses_only_the_calls_that_started_connections(string how)
    {
        await using var server = new TwoProtocolServer { InsteadOfSettings = (stream, socket) => BreakAsync(stream, socket, how) };
        await using var pool = server.NewPool();
        using var client = pool.CreateClient();

        var answers = await Task.WhenAll(Enumerable.Range(0, 20).Select(_ => TellAsync(client, server.Post())));

        Assert.All(answers, static answer => Assert.True(answer is "200 ok 1.1" || answer.StartsWith("PoolConnectException Unknown", StringComparison.Ordinal), answer));
        Assert.InRange(answers.Count(static answer => answer is not "200 ok 1.1"), 0, server.Http2Connections);
        Assert.Equal(answers.Count(static answer => answer is "200 ok 1.1"), server.Http1Bodies.Count);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task HTTP2_that_broke_is_tried_again_without_risking_a_call()
    {
        var time = new ManualTime();
        await using var server = new TwoProtocolServer { InsteadOfSettings = static (stream, socket) => BreakAsync(stream, socket, "FIN") };
        await using var pool = server.NewPool(static options => options.ConnectionLifetime = TimeSpan.FromMinutes(1), time: time);
        using var client = pool.CreateClient();
        await TellAsync(client, server.Post());
        Assert.Equal("200 ok 1.1", await TellAsync(client, server.Post()));

        time.Advance(BreakMemory + TimeSpan.FromMinutes(1));
        Assert.Equal("200 ok 1.1", await TellAsync(client, server.Post()));   // by way of an HTTP/2 connection that broke again, without a call on it

        Assert.Equal(2, server.Http2Connections);
        server.InsteadOfSettings = null;
        time.Advance(BreakMemory + TimeSpan.FromMinutes(1));
        Assert.Equal("200  2.0", await TellAsync(client, server.Post()));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_server_that_is_broken_either_way_is_offered_HTTP2_again()
    {
        await using var server = new TwoProtocolServer
        {
            InsteadOfSettings = static (stream, socket) => BreakAsync(stream, socket, "FIN"),
            InsteadOfHttp1 = static (stream, socket) => BreakAsync(stream, socket, "FIN"),
        };
        await using var pool = server.NewPool();
        using var client = pool.CreateClient();
        await TellAsync(client, server.Post());
        await TellAsync(client, server.Post());
        Assert.InRange(server.Http1Connections, 1, 8);

        (server.InsteadOfSettings, server.InsteadOfHttp1) = (null, null);

        Assert.Equal("200  2.0", await TellAsync(client, server.Post()));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_server_without_HTTP1_keeps_HTTP2_for_what_it_takes_there()
    {
        await using var server = new TwoProtocolServer(SslApplicationProtocol.Http2) { OnFrame = Refuse("RST 13") };
        await using var pool = server.NewPool();
        using var client = pool.CreateClient();

        Assert.StartsWith("PoolRequestException Unprocessed", await TellAsync(client, server.Post()), StringComparison.Ordinal);
        server.OnFrame = Answer;

        Assert.Equal("200  2.0", await TellAsync(client, server.Post()));
        Assert.Equal(0, server.Http1Connections);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("FIN")]
    [InlineData("GOAWAY 13")]
    public async Task A_warm_up_falls_back_too(string how)
    {
        await using var server = new TwoProtocolServer { InsteadOfSettings = (stream, socket) => BreakAsync(stream, socket, how) };
        await using var pool = server.NewPool();
        using var client = pool.CreateClient();

        Assert.Equal(3, await pool.WarmUpAsync(server.Address, 3, Ct));

        Assert.Equal("200 ok 1.1", await TellAsync(client, server.Post()));
        Assert.InRange(server.Http2Connections, 1, 3);
        Assert.InRange(server.Http1Connections, 3, 4);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Warm_connections_are_held_over_HTTP1()
    {
        await using var server = new TwoProtocolServer { OnFrame = Refuse("GOAWAY 0 13") };
        await using var pool = server.NewPool(options => options.Hosts[$"localhost:{server.Address.Port}"] = new() { WarmConnections = 2 });
        using var client = pool.CreateClient();

        Assert.Equal("200 ok 1.1", await TellAsync(client, server.Post()));

        await Eventually.TrueAsync(() => pool.GetStats() is { Idle: 2, Connections: 2 }, () => Rig.Describe(pool.GetStats()));
        Assert.Equal(HttpVersion.Version11, Assert.Single(pool.GetStats().Origins).HttpVersion);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Answers_421_and_505_are_the_callers()
    {
        await using var server = new TwoProtocolServer
        {
            OnFrame = static (connection, frame) => frame.EndsStream ? connection.WriteAsync(RawHttp2Server.Headers, 5, frame.Stream, [0x08, 3, (byte)'4', (byte)'2', (byte)'1']) : Task.CompletedTask,
        };
        await using var pool = server.NewPool();
        using var client = pool.CreateClient();

        Assert.Equal("421  2.0", await TellAsync(client, server.Post()));
    }

    static Task Answer(RawHttp2Server.Connection connection, RawHttp2Server.Frame frame) =>
        frame.EndsStream ? connection.AnswerAsync(frame.Stream, ended: true) : Task.CompletedTask;

    /// <summary>What a server does at each HEADERS.</summary>
    static Func<RawHttp2Server.Connection, RawHttp2Server.Frame, Task> Refuse(string how)
    {
        var words = how.Split(' ');
        var code = byte.Parse(words.Last(static word => word.All(char.IsAsciiDigit)), System.Globalization.CultureInfo.InvariantCulture);
        return async (connection, frame) =>
        {
            if (how.EndsWith("after the body", StringComparison.Ordinal) ? !frame.EndsStream : frame.Type is not RawHttp2Server.Headers)
            {
                return;
            }

            if (words[0] is not "GOAWAY")
            {
                await connection.ResetAsync(frame.Stream, code);
                return;
            }

            await connection.GoAwayAsync(words[1] == "own" ? frame.Stream : 0, code, "no");
            if (words[^1] is "RST")
            {
                connection.Dispose();   // with requests unread
            }
            else if (words[^1] is not "open")
            {
                await connection.HangUpAsync();
                connection.Dispose();
            }
        };
    }

    static async Task BreakAsync(SslStream stream, Socket socket, string how)
    {
        switch (how)
        {
            case "FIN":
                await stream.ShutdownAsync();
                break;
            case "RST":
                socket.LingerState = new LingerOption(true, 0);
                socket.Close();
                break;
            case "GOAWAY":
                await stream.WriteAsync(new byte[] { 0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2 }, Ct);
                break;
            case "GOAWAY 13":
                await stream.WriteAsync(new byte[] { 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 13 }, Ct);
                break;
            case "headers":
                await stream.WriteAsync(new byte[] { 0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88 }, Ct);
                break;
            default:
                await stream.WriteAsync(Encoding.ASCII.GetBytes(how + new string('!', 100)), Ct);
                break;
        }
    }

    static async Task<string> TellAsync(HttpClient client, HttpRequestMessage request)
    {
        try
        {
            using var response = await client.SendAsync(request, Ct);
            return $"{(int)response.StatusCode} {await response.Content.ReadAsStringAsync(Ct)} {response.Version}";
        }
        catch (PoolRequestException error)
        {
            return $"PoolRequestException {error.Verdict}: {error.Message}";
        }
        catch (PoolConnectException error)
        {
            return $"PoolConnectException {error.Verdict} {error.Phase}: {error.Message}";
        }
    }
}
