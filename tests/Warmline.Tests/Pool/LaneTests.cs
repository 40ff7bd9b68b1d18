using System.Net;
using System.Net.Http.Json;
using System.Text;
using Warmline.MockLlm;
using Warmline.Options;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>Which lane and tenant a call gets, and what follows for its clocks and its connection.</summary>
public sealed class LaneTests
{
    const string Chat = "v1/chat/completions";
    const string Streaming = """{"model":"m","stream":true,"messages":[{"role":"user","content":"Hi"}]}""";
    const string Plain = """{"model":"m","messages":[{"role":"user","content":"\"stream\": true"}]}""";

    static readonly TimeSpan Short = TimeSpan.FromMilliseconds(200);

    public enum As
    {
        Text,
        Bytes,
        Memory,
        Derived,
        Json,
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(As.Text, Chat, Streaming, null, "stream")]
    [InlineData(As.Bytes, Chat, Streaming, null, "stream")]
    [InlineData(As.Memory, Chat, Streaming, null, "stream")]
    [InlineData(As.Derived, Chat, Streaming, null, "stream")]
    [InlineData(As.Json, Chat, Streaming, null, "stream")]
    [InlineData(As.Text, Chat, Streaming, "application/json", "stream")]
    [InlineData(As.Text, Chat, Plain, "text/event-stream", "stream")]
    [InlineData(As.Text, Chat, Plain, null, "")]
    [InlineData(As.Derived, Chat, Plain, null, "")]
    [InlineData(As.Json, Chat, Plain, null, "")]
    [InlineData(As.Text, "v1/embeddings", """{"model":"m","input":"x"}""", null, "batch")]
    [InlineData(As.Json, "v1/embeddings", """{"model":"m","input":"x","stream":true}""", "text/event-stream", "batch")]
    [InlineData(As.Text, Chat, Streaming, null, "", "text/plain")]
    [InlineData(As.Text, Chat, Streaming, null, "", "application/json", "br")]
    public async Task A_call_that_names_no_lane_is_known_by_what_it_asks_for(As kind, string path, string body, string? accept, string lane, string type = "application/json", string? encoding = null)
    {
        await using var rig = await Rig.StartAsync(options => options.UseStreamAndBatchLanes());

        Assert.Equal((lane, ""), await PlaceAsync(rig, Request(kind, path, body, accept, type, encoding)));

        // And in a pool that has neither lane it is in none.
        await using var other = await Rig.StartAsync(options => options.Lanes["chat"] = new LaneOptions());
        Assert.Equal(("", ""), await PlaceAsync(other, Request(kind, path, body, accept, type, encoding)));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_body_beyond_256_KB_is_not_looked_into()
    {
        await using var rig = await Rig.StartAsync(options => options.UseStreamAndBatchLanes());
        foreach (var (size, lane) in new[] { (256 * 1024, "stream"), ((256 * 1024) + 1, "") })
        {
            foreach (var kind in new[] { As.Text, As.Derived })
            {
                var body = """{"model":"m","stream":true,"messages":[{"role":"user","content":"Hi"}]""";
                Assert.Equal((lane, ""), await PlaceAsync(rig, Request(kind, Chat, body + new string(' ', size - body.Length - 1) + "}")));
            }
        }
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_named_lane_wins_over_what_the_call_asks_for_and_has_to_be_known()
    {
        await using var rig = await Rig.StartAsync(options => options.UseStreamAndBatchLanes().Lanes["chat"] = new LaneOptions());
        Assert.Equal(("chat", "acme"), await PlaceAsync(rig, Calls.Stream().With(new PoolRequestOptions { Lane = "chat", Tenant = "acme" })));

        var error = await Assert.ThrowsAsync<ArgumentException>(() => rig.CallAsync(Calls.Chat().With(new PoolRequestOptions { Lane = "Chat" })));

        Assert.StartsWith("The pool has no lane 'Chat'. Its lanes are batch, chat, stream.", error.Message, StringComparison.Ordinal);
        Assert.Equal(1, rig.Stats.TotalRequests);
        await using var without = await Rig.StartAsync();
        Assert.Equal(("", "acme"), await PlaceAsync(without, Calls.Stream().With(new PoolRequestOptions { Lane = "Chat", Tenant = "acme" })));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(null, "Lanes", 0)]
    [InlineData("client", "client", 1)]
    [InlineData("scope", "scope", 2)]
    [InlineData("request", "request", 3)]
    public async Task The_clocks_of_a_lane_rule_where_nothing_nearer_sets_them(string? nearest, string rules, int nearer)
    {
        TimeSpan[] limits = [Short, Short + TimeSpan.FromMilliseconds(1), Short + TimeSpan.FromMilliseconds(2), Short + TimeSpan.FromMilliseconds(3)];
        await using var rig = await Rig.StartAsync(options =>
        {
            options.Timeouts.FirstByte = TimeSpan.FromHours(1);
            options.Lanes["batch"] = new LaneOptions { Timeouts = { FirstByte = limits[0] } };
        });
        using var client = rig.Pool.CreateClient(rig.Mock.BaseAddress, new PoolRequestOptions { Lane = "batch", Timeouts = nearer >= 1 ? new() { FirstByte = limits[1] } : null });
        using var scope = PoolRequestOptions.Use(new PoolRequestOptions { Tenant = "acme", Timeouts = nearer >= 2 ? new() { FirstByte = limits[2] } : new() { Read = Short } });
        var request = Calls.Chat(false, ("x-mock-service-ms", "3600000")).With(new PoolRequestOptions { Priority = 1, Timeouts = nearer >= 3 ? new() { FirstByte = limits[3] } : null });

        var error = await Assert.ThrowsAsync<RequestStalledException>(() => client.SendAsync(request, Rig.Ct));

        Assert.True((StallPhase.FirstByte, limits[nearer]) == (error.Phase, error.Limit), $"{nearest}: {rules} should rule; {error.Message}");
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task The_pool_clock_of_a_lane_is_named_as_such()
    {
        await using var rig = await Rig.StartAsync(options => options.Lanes["batch"] = new LaneOptions { Timeouts = { Pool = Short } });
        rig.Pool.Pause();

        var error = await Assert.ThrowsAsync<PoolTimeoutException>(() => rig.CallAsync(Calls.Chat().With(new PoolRequestOptions { Lane = "batch" })));

        Assert.Contains("within 0.2 s (Lanes[\"batch\"].Timeouts.Pool)", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Each_option_comes_from_the_nearest_that_sets_it()
    {
        using var request = new HttpRequestMessage();
        var defaults = new PoolRequestOptions { Lane = "defaults", Tenant = "defaults", Priority = 1, MaxQueueTime = TimeSpan.FromSeconds(1), Timeouts = new() { Write = TimeSpan.FromSeconds(1), Read = TimeSpan.FromSeconds(1), Total = TimeSpan.FromSeconds(1) } };
        Assert.Equal("defaults defaults 1 1 1 600 1 1", Seen());
        using (PoolRequestOptions.Use(new() { Tenant = "outer", Priority = 2, Timeouts = new() { Read = TimeSpan.FromSeconds(2), FirstByte = TimeSpan.FromSeconds(2) } }))
        {
            Assert.Equal("defaults outer 2 1 1 2 2 1", Seen());
            using (PoolRequestOptions.Use(new() { Tenant = "inner", Timeouts = new() { Read = TimeSpan.FromSeconds(3) } }))
            {
                Assert.Equal("defaults inner 2 1 1 2 3 1", Seen());
                Assert.Equal(("inner", 2), (PoolRequestOptions.Current!.Tenant, PoolRequestOptions.Current.Priority));
                request.Options.SetPool(new PoolRequestOptions { Lane = "own", Priority = 0, MaxQueueTime = TimeSpan.FromSeconds(4), Timeouts = new() { Pool = TimeSpan.FromSeconds(3), Read = Timeout.InfiniteTimeSpan } });
                Assert.Equal("own inner 0 3 1 2 -0.001 1", Seen());
            }

            Assert.Equal("own outer 0 3 1 2 -0.001 1", Seen());
        }

        Assert.Equal("own defaults 0 3 1 600 -0.001 1", Seen());
        Assert.Null(PoolRequestOptions.Current);
        Assert.Throws<ArgumentException>(() => PoolRequestOptions.Use(new() { Priority = 11 }));
        request.Options.SetPool(new PoolRequestOptions { Tenant = "" });
        Assert.Throws<ArgumentException>(Seen);

        string Seen()
        {
            var options = CallOptions.Of(request, defaults);
            var clocks = options.Over(CallTimeouts.Default);
            return FormattableString.Invariant($"{options.Lane} {options.Tenant} {options.Priority} {clocks.Pool.TotalSeconds} {clocks.Write.TotalSeconds} {clocks.FirstByte.TotalSeconds} {clocks.Read.TotalSeconds} {clocks.Total.TotalSeconds}");
        }
    }

    [Fact]
    public void Options_alone_are_taken_without_an_allocation()
    {
        using var request = new HttpRequestMessage();
        request.Options.SetPool(new PoolRequestOptions { Lane = "batch", Tenant = "acme", Priority = 3 });
        Assert.Equal(0, Allocated(() => CallOptions.Of(request, null).Over(CallTimeouts.Default)));
        request.Options.SetPool(new PoolRequestOptions { Timeouts = new() { Read = Short } });
        Assert.NotEqual(0, Allocated(() => CallOptions.Of(request, null).Over(CallTimeouts.Default)));   // what is merged has to be somewhere

        static long Allocated(Func<CallTimeouts> call)
        {
            call();
            var before = GC.GetAllocatedBytesForCurrentThread();
            call();
            return GC.GetAllocatedBytesForCurrentThread() - before;
        }
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, TenantIsolation.Connections, 3)]
    [InlineData(false, TenantIsolation.Connections, 3)]
    [InlineData(true, TenantIsolation.Leases, 1)]
    [InlineData(false, TenantIsolation.Leases, 1)]
    public async Task Tenants_share_connections_unless_they_are_isolated(bool http2, TenantIsolation isolation, int connections)
    {
        await using var rig = await Rig.StartAsync(http2, options => options.Tenants.Isolation = isolation, new MockLlmOptions { RecordRequests = true });
        foreach (var tenant in new[] { "acme", "umbrella", null, "umbrella", "acme", null, "acme" })
        {
            await rig.CallAsync(Calls.Chat(false, ("x-mock-id", tenant ?? "nobody")).With(new PoolRequestOptions { Tenant = tenant }));
            await rig.QuietAsync();   // one call at a time needs one connection
        }

        Assert.Equal(connections, rig.Counters.ConnectionsAccepted);
        Assert.All(rig.Mock.GetRequests().GroupBy(request => request.MockId), calls => Assert.Single(calls.Select(call => call.ConnectionId).Distinct()));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task What_is_held_warm_is_for_calls_without_a_tenant()
    {
        await using var rig = await Rig.StartAsync(options => options.Tenants.Isolation = TenantIsolation.Connections);
        await rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 1, Rig.Ct);

        await rig.CallAsync();
        Assert.Equal(1, rig.Counters.ConnectionsAccepted);
        await rig.CallAsync(Calls.Chat().With(new PoolRequestOptions { Tenant = "acme" }));
        Assert.Equal(2, rig.Counters.ConnectionsAccepted);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_redirect_keeps_the_options_and_a_pool_that_is_off_takes_no_notice_of_them()
    {
        await using var rig = await Rig.StartAsync(options => options.UseStreamAndBatchLanes().AllowAutoRedirect = true);
        await using var server = await KestrelServer.StartAsync(null, context =>
        {
            context.Response.StatusCode = (int)HttpStatusCode.TemporaryRedirect;
            context.Response.Headers.Location = new Uri(rig.Mock.BaseAddress, Chat).ToString();
            return Task.CompletedTask;
        });
        var request = Calls.Stream().With(new PoolRequestOptions { Lane = "batch", Tenant = "acme" });
        request.RequestUri = new Uri($"http://localhost:{server.Port}/");

        Assert.Equal(("batch", "acme"), await PlaceAsync(rig, request));

        Assert.True(rig.Pool.TryUpdate(Rig.Options(rig.Mock, options =>
        {
            options.UseStreamAndBatchLanes();
            (options.Enabled, options.AllowAutoRedirect, options.SslOptions) = (false, true, rig.Pool.Engine.Settings.SslOptions);
        })));
        await rig.CallAsync(Calls.Chat().With(new PoolRequestOptions { Lane = "nowhere" }));
        Assert.Equal(1, rig.Stats.Bypassed);
    }

    /// <summary>Lane and tenant as the pool lists them while the answer is held.</summary>
    static async Task<(string Lane, string Tenant)> PlaceAsync(Rig rig, HttpRequestMessage request)
    {
        using (await rig.SendAsync(request))
        {
            var stream = Assert.Single(rig.Pool.GetStreams());
            return (stream.Lane, stream.Tenant);
        }
    }

    static HttpRequestMessage Request(As kind, string path, string body, string? accept = null, string type = "application/json", string? encoding = null)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, path)
        {
            Content = kind switch
            {
                As.Text => new StringContent(body),
                As.Bytes => new ByteArrayContent(Encoding.UTF8.GetBytes($"..{body}."), 2, Encoding.UTF8.GetByteCount(body)),
                As.Memory => new ReadOnlyMemoryContent(Encoding.UTF8.GetBytes(body)),
                As.Derived => new DerivedContent(body),
                _ => JsonContent.Create(System.Text.Json.JsonDocument.Parse(body).RootElement),
            },
        };
        request.Content.Headers.Remove("Content-Type");
        request.Content.Headers.TryAddWithoutValidation("Content-Type", type);
        if (encoding is not null)
        {
            request.Content.Headers.ContentEncoding.Add(encoding);
        }

        if (accept is not null)
        {
            request.Headers.TryAddWithoutValidation("Accept", accept);
        }

        return request;
    }

    /// <summary>It is what its base type is, as far as the pool can know it may be anything.</summary>
    sealed class DerivedContent(string body) : StringContent(body);
}
