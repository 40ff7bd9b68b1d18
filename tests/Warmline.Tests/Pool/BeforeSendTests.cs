using System.Collections.Concurrent;
using System.Net;
using Warmline.Tests.Http;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>What runs between a call's grant and its send: for signatures and tokens that age while a call waits.</summary>
public sealed class BeforeSendTests
{
    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task It_runs_when_the_call_has_its_place_and_not_before(bool http2)
    {
        var (order, time) = (new ConcurrentQueue<string>(), new ManualTime());
        await using var rig = await Rig.StartAsync(http2, options => (options.MaxConcurrentRequests, options.Timeouts.Pool) = (1, Timeout.InfiniteTimeSpan), time: time);
        var gate = new Gate();
        var first = await rig.HoldAsync(1, gate);
        await rig.StatsAsync(stats => !http2 || stats.Origins[0].StreamLimit is not null);   // or the minutes would end the wait for SETTINGS
        var request = Calls.Chat();
        request.Options.SetPool(new PoolRequestOptions
        {
            BeforeSend = (request, _) =>
            {
                order.Enqueue($"signed at {time.GetUtcNow():mm} min");
                request.Headers.Add("x-signature", "fresh");
                return default;
            },
        });
        var second = rig.CallAsync(request);
        await rig.StatsAsync(stats => stats.Queued == 1);
        var began = time.GetUtcNow();
        time.Advance(TimeSpan.FromMinutes(10));
        Assert.Empty(order);
        gate.Open();
        await Task.WhenAll([.. first, second]);

        Assert.Equal([$"signed at {began.AddMinutes(10):mm} min"], order);
        Assert.Equal("fresh", Assert.Single(request.Headers.GetValues("x-signature")));   // as after a DelegatingHandler
    }

    /// <summary>The nearest that is set runs, and no other.</summary>
    [Fact(Timeout = Rig.Patience)]
    public async Task The_nearest_runs()
    {
        var ran = new ConcurrentQueue<string>();
        await using var rig = await Rig.StartAsync(options => options.BeforeSend = Say("pool"));
        await rig.CallAsync();
        await rig.CallAsync(Calls.Chat().With(new() { BeforeSend = Say("request") }));
        using (PoolRequestOptions.Use(new() { BeforeSend = Say("scope") }))
        {
            await rig.CallAsync();
            await rig.CallAsync(Calls.Chat().With(new() { BeforeSend = Say("request") }));
            using (PoolRequestOptions.Use(new() { Priority = 1 }))
            {
                await rig.CallAsync();
            }
        }

        using var client = rig.Pool.CreateClient(rig.Mock.BaseAddress, new() { BeforeSend = Say("client") });
        (await client.SendAsync(Calls.Chat(), Rig.Ct)).Dispose();
        Assert.True(rig.Pool.TryUpdate(Rig.Options(rig.Mock, options => (options.SslOptions, options.BeforeSend) = (rig.Pool.Engine.Settings.SslOptions, null))));
        await rig.CallAsync();

        Assert.Equal(["pool", "request", "scope", "request", "scope", "client"], ran);

        Func<HttpRequestMessage, CancellationToken, ValueTask> Say(string who) => (_, _) =>
        {
            ran.Enqueue(who);
            return default;
        };
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task It_runs_again_before_another_attempt_and_finds_the_request_as_it_was()
    {
        using var server = new RawHttp2Server();
        await using var pool = server.NewPool();
        using var client = pool.CreateClient();
        var (runs, content) = (new ConcurrentQueue<string>(), new StringContent("hello"));
        var request = new HttpRequestMessage(HttpMethod.Post, server.Address) { Content = content };
        request.Options.SetPool(new PoolRequestOptions
        {
            BeforeSend = (request, _) =>
            {
                runs.Enqueue($"{request.Version} {request.VersionPolicy} {ReferenceEquals(request.Content, content)}");
                request.Headers.Remove("x-run");
                request.Headers.Add("x-run", $"{runs.Count}");
                return default;
            },
        });
        Task<HttpResponseMessage>? call = null;
        using (var first = await server.AcceptAfterAsync(() => call = client.SendAsync(request, Rig.Ct)))
        {
            await first.ReadRequestAsync();
            using var second = await server.AcceptAfterAsync(() => _ = first.GoAwayAsync(0));
            await second.AnswerAsync(await second.ReadRequestAsync(), ended: true);
            using var response = await call!;
        }

        Assert.Equal(["1.1 RequestVersionOrLower True", "1.1 RequestVersionOrLower True"], runs);
        Assert.Equal("2", Assert.Single(request.Headers.GetValues("x-run")));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task It_runs_for_each_hop_of_a_redirect()
    {
        var runs = new ConcurrentQueue<string>();
        await using var server = new RawHttp1Server(async peer =>
        {
            for (var head = await peer.ReadHeadAsync(); head.Length > 0; head = await peer.ReadHeadAsync())
            {
                var isSigned = head.Contains($"x-signed: {head.Split(' ')[1]}", StringComparison.Ordinal);
                await peer.SayAsync(!isSigned ? "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n" : head.Contains(" /end ", StringComparison.Ordinal) ? RawHttp1.Ok("ok")
                    : "HTTP/1.1 302 Found\r\nLocation: /end\r\nContent-Length: 0\r\n\r\n");
            }
        });
        await using var pool = new ConnectionPool(new ConnectionPoolOptions { AllowAutoRedirect = true, BeforeSend = Sign(runs) });
        using var client = pool.CreateClient();

        Assert.Equal("ok", await client.GetStringAsync(new Uri($"http://localhost:{server.Port}/begin"), Rig.Ct));
        Assert.Equal(["/begin", "/end"], runs);
    }

    /// <summary>A service that is switched off must not send unsigned requests.</summary>
    [Fact(Timeout = Rig.Patience)]
    public async Task It_runs_for_calls_past_the_pool_too()
    {
        var runs = new ConcurrentQueue<string>();
        await using var server = new RawHttp1Server(async peer => await peer.SayAsync(RawHttp1.Ok((await peer.ReadHeadAsync()).Contains("x-signed: /a", StringComparison.Ordinal) ? "signed" : "not signed")));
        await using var pool = new ConnectionPool(new ConnectionPoolOptions { Enabled = false, BeforeSend = Sign(runs) });
        using var client = pool.CreateClient();

        Assert.Equal("signed", await client.GetStringAsync(new Uri($"http://localhost:{server.Port}/a"), Rig.Ct));
        Assert.Equal(1L, pool.GetStats().Bypassed);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Headers_of_a_content_that_is_serialised_ahead_reach_the_server(bool http2)
    {
        await using var side = new Side(isPool: true, http2);
        var address = await side.ServeAsync(async context =>
        {
            using var body = new StreamReader(context.Request.Body);
            await Microsoft.AspNetCore.Http.HttpResponseWritingExtensions.WriteAsync(context.Response, $"{context.Request.Headers["Content-MD5"]} {context.Request.ContentLength} {context.Request.ContentType} {await body.ReadToEndAsync()}");
        });
        var request = side.Request(HttpMethod.Post, address, new RecordedContent("{}"));
        request.Options.SetPool(new PoolRequestOptions
        {
            BeforeSend = async (request, ct) =>
            {
                var body = await request.Content!.ReadAsByteArrayAsync(ct);
                request.Content.Headers.ContentMD5 = [1, 2, (byte)body.Length];
            },
        });

        Assert.Equal("200 \"AQIC 2 application/json; charset=utf-8 {}\"", await Side.TellAsync(side.SendAsync(request)));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_connection_that_is_lost_meanwhile_is_noticed_before_the_send(bool http2)
    {
        var time = new ManualTime();
        var network = new LookingNetwork();
        var server = new Warmline.MockLlm.MockLlmOptions();
        if (!http2)
        {
            server.Protocols = Microsoft.AspNetCore.Server.Kestrel.Core.HttpProtocols.Http1;
        }

        await using var rig = await Rig.StartAsync(mock: server, time: time, network: network);
        await rig.CallAsync();
        var runs = 0;
        await rig.CallAsync(Calls.Chat().With(new()
        {
            BeforeSend = async (_, _) =>
            {
                if (++runs == 1)
                {
                    time.Advance(TimeSpan.FromSeconds(3));
                    network.IsLost = true;
                }
                else
                {
                    network.IsLost = false;
                }

                await Task.Yield();
            },
        }));

        Assert.Equal((2, 2, 2), (runs, rig.Counters.Requests, rig.Counters.ConnectionsAccepted));
        Assert.Equal(0L, rig.Stats.Faults.RetriedNotSent);
    }

    /// <summary>Else it would wait for its first request, and be closed when its SETTINGS do not come in time.</summary>
    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_fresh_connection_is_started_meanwhile(bool blocks)
    {
        var runs = 0;
        await using var rig = await Rig.StartAsync();
        await Task.Run(() => rig.CallAsync(Calls.Chat().With(new()
        {
            BeforeSend = async (_, _) =>
            {
                runs++;
                var started = rig.StatsAsync(stats => stats.Origins.Single().StreamLimit is not null);
                if (blocks)
                {
                    started.Wait(Rig.Ct);
                }

                await started;
            },
        })), Rig.Ct);

        Assert.Equal((1, 1, 1), (runs, rig.Counters.ConnectionsAccepted, rig.Counters.Requests));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task One_that_blocks_its_thread_holds_up_no_other_call()
    {
        await using var rig = await Rig.StartAsync();
        var (entered, gate) = (new TaskCompletionSource(), new ManualResetEventSlim());
        var blocked = Task.Run(() => rig.CallAsync(Calls.Chat().With(new()
        {
            BeforeSend = (_, _) =>
            {
                entered.SetResult();
                gate.Wait(Rig.Ct);
                return default;
            },
        })), Rig.Ct);
        await entered.Task;
        await rig.CallAsync();
        Assert.Equal(1, rig.Stats.Active);
        gate.Set();
        await blocked;
    }

    static Func<HttpRequestMessage, CancellationToken, ValueTask> Sign(ConcurrentQueue<string> runs) => (request, _) =>
    {
        runs.Enqueue(request.RequestUri!.AbsolutePath);
        request.Headers.Remove("x-signed");
        request.Headers.Add("x-signed", request.RequestUri.AbsolutePath);
        return default;
    };

    /// <summary>The real network, whose looks at resting connections say what the test wants.</summary>
    sealed class LookingNetwork : INetwork
    {
        readonly SystemNetwork _inner = new(new TcpKeepAliveOptions());

        public bool IsLost { get; set; }

        public ValueTask<IPAddress[]> ResolveAsync(string host, CancellationToken cancellationToken) => _inner.ResolveAsync(host, cancellationToken);

        public ValueTask<Stream> ConnectAsync(IPEndPoint endPoint, CancellationToken cancellationToken) => _inner.ConnectAsync(endPoint, cancellationToken);

        public WireState Look(Stream wire, TimeSpan rested) => IsLost ? WireState.Lost : WireState.Alive;

        public IReadOnlyCollection<IPAddress> LocalAddresses() => [];
    }
}
