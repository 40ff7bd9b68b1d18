using System.Diagnostics;
using System.Diagnostics.Metrics;
using System.Net;
using System.Text.RegularExpressions;
using Warmline.MockLlm;
using Warmline.Tests.Guards;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Telemetry;

/// <summary>The instruments, against the pool's own figures and against their page.</summary>
public sealed partial class MetricsTests
{
    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task What_is_collected_is_what_the_pool_counted(bool http2)
    {
        using var metrics = new MetricsRecorder().Start();
        await using var rig = await RigAsync(metrics, http2, options =>
        {
            options.UseStreamAndBatchLanes();
            options.Tenants.Named["acme"] = new TenantOptions();
            options.MaxConcurrentRequests = 20;
        });
        var gate = new Gate();
        var running = await rig.HoldAsync(6, gate, () => Calls.Chat().With(new PoolRequestOptions { Tenant = "acme", Lane = "batch" }));
        metrics.Collect();
        var server = new (string, object)[] { ("server.address", "localhost"), ("server.port", rig.Mock.BaseAddress.Port), ("url.scheme", "https") };
        Assert.Equal(6, metrics.Value("http.client.active_requests", server));
        Assert.Equal(6, metrics.Value("warmline.leases", ("warmline.lane", "batch")));
        Assert.Equal(0, metrics.Value("warmline.leases", ("warmline.lane", "stream")));
        Assert.Equal(0, metrics.Of("warmline.leases").Last(static leases => !leases.Tags.ContainsKey("warmline.lane")).Value);   // those in no lane, not all
        Assert.Equal((6, 0), (metrics.Value("warmline.tenant.leases", ("warmline.tenant", "acme")), metrics.Value("warmline.tenant.leases", ("warmline.tenant", "other"))));
        Assert.Equal(6 / 20.0, metrics.Value("warmline.utilization", server));
        gate.Open();
        await rig.DoneAsync(running);
        for (var i = 0; i < 20; i++)
        {
            await rig.CallAsync(Calls.Chat(stream: i % 2 == 0));
        }

        using (var answer = await rig.SendAsync(Calls.Stream()))
        {
            using var body = await answer.Content.ReadAsStreamAsync(Rig.Ct);
            Assert.True(await body.ReadAsync(new byte[64], Rig.Ct) > 0);
            metrics.Collect();
            Assert.Equal((1, 1), (rig.Stats.Streaming, metrics.Value("warmline.streams")));
        }

        await rig.QuietAsync();
        await rig.StatsAsync(static stats => stats.Connections == stats.Idle);
        var stats = rig.Stats;
        metrics.Collect();
        Assert.Equal((27, 0), (stats.TotalRequests, stats.Streaming));
        Assert.Equal(stats.TotalRequests, metrics.Value("warmline.requests"));
        Assert.Equal(stats.ReusedConnections, metrics.Value("warmline.requests.placed", ("warmline.reused", true)));
        Assert.Equal(stats.Granted - stats.ReusedConnections, metrics.Value("warmline.requests.placed", ("warmline.reused", false)));
        Assert.Equal(stats.ReuseRate, metrics.Value("warmline.reuse"));
        Assert.Equal((stats.NewConnections, stats.Connections, stats.PeakConnections, 50), ((long)metrics.Value("warmline.connections.opened")!, metrics.Value("warmline.connections"), metrics.Value("warmline.connections.peak"), metrics.Value("warmline.connections.limit")));
        Assert.Equal((stats.PeakActive, 0, 0), (metrics.Value("warmline.leases.peak"), metrics.Value("warmline.leases"), metrics.Value("warmline.waiters")));
        Assert.Equal((stats.TimeSaved.TotalSeconds, stats.MaxQueueWait.TotalSeconds), (metrics.Value("warmline.handshake.time_saved"), metrics.Value("warmline.queue.wait.max")));
        Assert.Equal(1, metrics.Value("warmline.responses.abandoned"));
        Assert.Equal(stats.Connections, metrics.Value("http.client.open_connections", [.. server, ("http.connection.state", "idle"), ("network.protocol.version", http2 ? "2" : "1.1")]));

        // Durations: one for each call, with what it was.
        Assert.Equal(27, metrics.Of("http.client.request.duration", [.. server, ("http.request.method", "POST"), ("http.response.status_code", 200), ("network.protocol.version", http2 ? "2" : "1.1")]).Count());
        Assert.Equal((6, 11, 10), (metrics.Of("http.client.request.time_in_queue", ("warmline.lane", "batch")).Count(), metrics.Of("http.client.request.time_in_queue", ("warmline.lane", "stream")).Count(),
            metrics.Of("http.client.request.time_in_queue").Count(static recorded => !recorded.Tags.ContainsKey("warmline.lane"))));
        Assert.Equal(27, metrics.Of("warmline.lease.duration", server).Count());
        Assert.Equal(stats.AverageLease!.Value.TotalSeconds * 27, metrics.Of("warmline.lease.duration").Sum(static recorded => recorded.Value), 1);
        Assert.InRange(metrics.Of("warmline.time_to_first_token", ("warmline.lane", "stream")).Count(), 10, 11);   // the one that was left may not have come so far
        Assert.Equal(stats.NewConnections, metrics.Of("warmline.handshake.duration", ("warmline.phase", "tls")).Count());
        Assert.Equal(stats.AverageHandshake!.Value.TotalSeconds * stats.NewConnections, metrics.Of("warmline.handshake.duration").Where(static phase => !Equals(phase.Tags["warmline.phase"], "http2_settings")).Sum(static phase => phase.Value), 3);
        Assert.Equal(http2 ? stats.NewConnections : 0, metrics.Of("warmline.handshake.duration", ("warmline.phase", "http2_settings")).Count());
        Assert.All(metrics.All, recorded => Assert.Equal("rig", recorded.Tags["warmline.pool.name"]));
        await rig.Pool.DisposeAsync();
        Assert.Equal(stats.NewConnections, metrics.Of("http.client.connection.duration", [.. server, ("network.protocol.version", http2 ? "2" : "1.1")]).Count());
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task What_goes_wrong_is_told_by_kind()
    {
        using var metrics = new MetricsRecorder().Start();
        await using var rig = await RigAsync(metrics, http2: true, options =>
        {
            options.MaxConcurrentRequests = 1;
            options.MaxQueueLength = 1;
            options.Timeouts.FirstByte = TimeSpan.FromMilliseconds(50);
        });
        Assert.Equal((0, 0, 0), (Collected("warmline.requests.refused", ("warmline.reason", "tenant_limit")), Collected("warmline.requests.stalled", ("warmline.phase", "total")), Collected("warmline.dials.failed", ("warmline.phase", "dns"))));
        using (var answer = await rig.SendAsync(Calls.Chat(headers: ("x-mock-status", "429"))))
        {
            Assert.Equal(HttpStatusCode.TooManyRequests, answer.StatusCode);
        }

        await Assert.ThrowsAsync<RequestStalledException>(() => rig.SendAsync(Calls.Chat(headers: ("x-mock-service-ms", "never"))));
        await rig.QuietAsync();
        var gate = new Gate();
        var running = await rig.HoldAsync(1, gate);
        var waiting = rig.CallAsync(Calls.Chat());
        await rig.StatsAsync(static stats => stats.Queued == 1);
        Assert.Equal(1, Collected("warmline.waiters"));
        await Assert.ThrowsAsync<PoolRejectedException>(() => rig.CallAsync());
        await Assert.ThrowsAsync<PoolRejectedException>(() => rig.CallAsync());
        gate.Open();
        await rig.DoneAsync([.. running, waiting]);
        using var nowhere = rig.Pool.CreateClient(new Uri("https://127.0.0.1:1"));   // nobody listens there
        await Assert.ThrowsAsync<PoolConnectException>(() => nowhere.GetAsync(new Uri("/", UriKind.Relative), Rig.Ct));
        using var gone = new CancellationTokenSource();
        await gone.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => rig.SendAsync(Calls.Chat(), gone.Token));   // it never asked the pool

        Assert.Equal((2, 1), (Collected("warmline.requests.refused", ("warmline.reason", "queue_full")), Collected("warmline.requests.refused", ("warmline.reason", "dialing"))));
        Assert.Equal(3, rig.Stats.RefusedBy.Values.Sum());
        Assert.Equal(rig.Stats.Refused, rig.Stats.RefusedBy.Values.Sum());
        Assert.Equal((1, 1), (Collected("warmline.requests.stalled", ("warmline.phase", "first_byte")), Collected("warmline.dials.failed", ("warmline.phase", "tcp"))));
        var errors = metrics.Of("http.client.request.duration").Select(static recorded => recorded.Tags.GetValueOrDefault("error.type")).ToList();
        Assert.Equal(["429", "Warmline.RequestStalledException", "Warmline.PoolRejectedException", "Warmline.PoolRejectedException", null, null, "connection_error"], errors.Order(Comparer<object?>.Create((left, right) => Place(left).CompareTo(Place(right)))));
        Assert.All(metrics.Of("http.client.request.duration"), recorded => Assert.InRange(recorded.Value, 0, Rig.Patience));

        double? Collected(string name, params (string, object)[] tags)
        {
            metrics.Collect();
            return metrics.Value(name, tags);
        }

        int Place(object? type) => Array.IndexOf(["429", "Warmline.RequestStalledException", "Warmline.PoolRejectedException", null, "connection_error"], type);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Pools_of_one_name_are_one_and_what_an_ended_one_counted_stays()
    {
        using var metrics = new MetricsRecorder().Start();
        await using var rig = await RigAsync(metrics);
        await rig.CallAsync();
        var options = Rig.Options(rig.Mock, options => options.Name = "rig");
        await using (var second = new ConnectionPool(options, meterFactory: metrics.Factory))
        {
            using var client = second.CreateClient(rig.Mock.BaseAddress);
            for (var i = 0; i < 2; i++)
            {
                using var answer = await client.SendAsync(Calls.Chat(), Rig.Ct);
                await answer.Content.ReadAsStringAsync(Rig.Ct);
            }

            metrics.Collect();
            Assert.Equal((3, 2), (metrics.Value("warmline.requests"), metrics.Value("warmline.requests.placed", ("warmline.reused", false))));
            Assert.Equal(100, metrics.Value("warmline.connections.limit"));
        }

        metrics.Collect();
        Assert.Equal((3, 50), (metrics.Value("warmline.requests"), metrics.Value("warmline.connections.limit")));
        await rig.Pool.DisposeAsync();
        metrics.Collect();
        Assert.Equal((3, 1), (metrics.Value("warmline.requests"), metrics.Value("warmline.requests.placed", ("warmline.reused", true))));
    }

    /// <summary>Each instrument has its own view of the pool once in a collection: a second collection is not served from the first.</summary>
    [Fact(Timeout = Rig.Patience)]
    public async Task Two_collections_in_a_row_are_two_looks_at_the_pool()
    {
        using var metrics = new MetricsRecorder().Start();
        await using var rig = await Rig.StartAsync(options => options.Name = "rig", time: new ManualTime(), meters: metrics.Factory);
        metrics.Collect();
        Assert.Equal(0, metrics.Value("warmline.requests"));
        await rig.CallAsync();
        metrics.Collect();
        Assert.Equal(1, metrics.Value("warmline.requests"));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Origins_beyond_a_hundred_are_one_series()
    {
        using var metrics = new MetricsRecorder().Start();
        await using var rig = await RigAsync(metrics, options: options => options.Timeouts.Connect = TimeSpan.FromSeconds(1));
        for (var port = 1; port <= 120; port++)   // nobody listens there
        {
            using var client = rig.Pool.CreateClient(new Uri($"http://127.0.0.1:{port}"));
            await Assert.ThrowsAnyAsync<HttpRequestException>(() => client.GetAsync(new Uri("/", UriKind.Relative), Rig.Ct));
        }

        var origins = metrics.Of("http.client.request.duration").Select(static recorded => (recorded.Tags["server.address"], recorded.Tags["server.port"])).Distinct().ToList();
        Assert.Equal((101, 1), (origins.Count, origins.Count(static origin => Equals(origin.Item1, "other"))));
        metrics.Collect();
        Assert.InRange(metrics.Of("warmline.utilization").Select(static recorded => recorded.Tags["server.port"]).Distinct().Count(), 1, 101);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Nothing_is_recorded_and_nothing_collected_while_nobody_listens()
    {
        using var metrics = new MetricsRecorder(listens: false).Start();
        await using var rig = await RigAsync(metrics);
        await rig.CallAsync();
        Assert.Empty(metrics.Collect());
        Assert.NotEmpty(metrics.Instruments);
        Assert.All(metrics.Instruments, static instrument => Assert.False(instrument.Enabled, instrument.Name));
    }

    /// <summary>The handlers below the pool would tell everything a second time, as calls to nameless servers.</summary>
    [Fact(Timeout = Rig.Patience)]
    public async Task The_platforms_own_meter_stays_silent()
    {
        var told = new List<string>();
        using var listener = new MeterListener();
        await using var rig = await Rig.StartAsync();
        listener.InstrumentPublished = static (instrument, listener) =>
        {
            if (instrument.Meter.Name == "System.Net.Http")
            {
                listener.EnableMeasurementEvents(instrument);
            }
        };
        listener.SetMeasurementEventCallback<long>((instrument, _, tags, _) => Note(instrument, tags));
        listener.SetMeasurementEventCallback<double>((instrument, _, tags, _) => Note(instrument, tags));
        listener.Start();
        await rig.CallAsync();
        await rig.Pool.DisposeAsync();
        Assert.Empty(told);

        void Note(Instrument instrument, ReadOnlySpan<KeyValuePair<string, object?>> tags)
        {
            foreach (var (name, value) in tags)
            {
                if (name == "server.port" && Equals(value, rig.Mock.BaseAddress.Port))
                {
                    told.Add(instrument.Name);
                }
            }
        }
    }

    /// <summary>Callbacks of listeners run within the pool's own steps: between a grant and its send, before a release, before a permit comes back.</summary>
    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_listener_that_throws_costs_neither_a_call_nor_a_lease_nor_a_permit(bool http2)
    {
        using var metrics = new MetricsRecorder();
        var name = $"throwing-{http2}";
        var thrown = 0;
        using var meters = new MeterListener
        {
            InstrumentPublished = (instrument, listener) =>
            {
                if (instrument.Meter.Scope == metrics.Factory)
                {
                    listener.EnableMeasurementEvents(instrument);
                }
            },
        };
        meters.SetMeasurementEventCallback<double>((_, _, _, _) => Throw());
        meters.Start();
        using var spans = new ActivityListener
        {
            ShouldListenTo = static source => source.Name == "Warmline",
            Sample = (ref ActivityCreationOptions<ActivityContext> options) => options.Tags?.Where(static tag => tag.Key == "warmline.pool.name").All(tag => Equals(tag.Value, name)) != false
                ? ActivitySamplingResult.AllData : ActivitySamplingResult.None,
            ActivityStopped = _ => Throw(),
        };
        ActivitySource.AddActivityListener(spans);
        await using (var rig = await RigAsync(metrics, http2, options => (options.Name, options.MaxConcurrentRequests) = (name, 2)))
        {
            await Task.WhenAll(Enumerable.Range(0, 10).Select(i => rig.CallAsync(Calls.Chat(stream: i % 2 == 0))));
            using (await rig.SendAsync(Calls.Stream()))
            {
            }

            await rig.QuietAsync();
            Assert.Equal((11, 0), (rig.Stats.Granted, rig.Stats.Streaming));
        }

        Assert.True(thrown > 11, $"{thrown}");

        void Throw()
        {
            Interlocked.Increment(ref thrown);
            throw new InvalidOperationException("A listener's own fault.");
        }
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_pool_without_a_factory_is_on_the_processs_meter()
    {
        using var metrics = new MetricsRecorder { SeesProcess = true }.Start();
        await using var rig = await Rig.StartAsync(static options => options.Name = "without-a-factory");
        await rig.CallAsync();
        metrics.Collect();
        Assert.Equal(1, metrics.Value("warmline.requests", ("warmline.pool.name", "without-a-factory")));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task The_page_lists_every_instrument_with_its_kind_its_unit_and_its_tags()
    {
        using var metrics = new MetricsRecorder().Start();
        await using var rig = await RigAsync(metrics);
        var page = Repo.Read("docs/metrics.md");
        var rows = Rows().Matches(page).ToDictionary(static row => row.Groups["name"].Value, static row => row);
        Assert.Equal(metrics.Instruments.Select(static instrument => instrument.Name).Order(StringComparer.Ordinal), rows.Keys.Order(StringComparer.Ordinal));
        foreach (var instrument in metrics.Instruments)
        {
            var row = rows[instrument.Name];
            var kind = instrument.GetType().Name.Split('`')[0].Replace("Observable", "", StringComparison.Ordinal).ToLowerInvariant();
            Assert.Equal((instrument.Name, kind, instrument.Unit), (instrument.Name, row.Groups["kind"].Value, row.Groups["unit"].Value));
            Assert.True(row.Groups["rises"].Value.Trim().Length > 5 && instrument.Description!.EndsWith('.'), instrument.Name);
        }

        Assert.All(metrics.Instruments, static instrument => Assert.Equal("Warmline", instrument.Meter.Name));
        Documented = rows.ToDictionary(static row => row.Key, static row => row.Value.Groups["tags"].Value);
        await rig.CallAsync(Calls.Chat(stream: true));
        await rig.Pool.DisposeAsync();
        foreach (var recorded in metrics.Collect())
        {
            var tags = Documented[recorded.Name].Replace("origin", "`server.address`, `server.port`, `url.scheme`", StringComparison.Ordinal);
            Assert.All(recorded.Tags.Keys.Where(static tag => tag != "warmline.pool.name"), tag => Assert.True(tags.Contains($"`{tag}`", StringComparison.Ordinal), $"docs/metrics.md does not list {tag} of {recorded.Name}"));
        }
    }

    Dictionary<string, string> Documented { get; set; } = [];

    static Task<Rig> RigAsync(MetricsRecorder metrics, bool http2 = true, Action<ConnectionPoolOptions>? options = null)
    {
        var mock = new MockLlmOptions();
        if (!http2)
        {
            mock.Protocols = Microsoft.AspNetCore.Server.Kestrel.Core.HttpProtocols.Http1;
        }

        return Rig.StartAsync(
            made =>
            {
                made.Name = "rig";
                options?.Invoke(made);
            },
            mock,
            meters: metrics.Factory);
    }

    [GeneratedRegex(@"^\| `(?<name>(http\.client|warmline)\.[a-z_.]+)` \| (?<kind>histogram|counter|updowncounter|gauge) \| (?<unit>[^|]+) \|(?<tags>[^|]*)\| (?<rises>[^|]+) \|$", RegexOptions.Multiline | RegexOptions.ExplicitCapture)]
    private static partial Regex Rows();
}
