using System.Diagnostics;
using OpenTelemetry;
using OpenTelemetry.Exporter;
using OpenTelemetry.Metrics;
using OpenTelemetry.Resources;
using OpenTelemetry.Trace;

namespace Warmline.AspNetCore.Tests;

/// <summary>The way to any collector: OpenTelemetry's SDK and its OTLP exporter, over HTTP.</summary>
public sealed class OtlpTests
{
    const int Client = 3, Internal = 1, Failed = 2;

    [Fact(Timeout = Eventually.Patience)]
    public async Task A_collector_gets_the_pools_figures_and_its_spans_as_one_tree()
    {
        await using var collector = await Collector.StartAsync();
        var resource = ResourceBuilder.CreateEmpty().AddService("shop", serviceInstanceId: "shop-1");
        using var callers = new ActivitySource($"caller-{Guid.NewGuid()}");
        using var meters = Sdk.CreateMeterProviderBuilder().SetResourceBuilder(resource).AddMeter("Warmline").AddOtlpExporter((otlp, reader) =>
        {
            (otlp.Protocol, otlp.Endpoint) = (OtlpExportProtocol.HttpProtobuf, new Uri(collector.Address, "/v1/metrics"));
            reader.PeriodicExportingMetricReaderOptions.ExportIntervalMilliseconds = 3_600_000;   // when it is told to
        }).Build();
        using var tracers = Sdk.CreateTracerProviderBuilder().SetResourceBuilder(resource).AddSource("Warmline", callers.Name).AddOtlpExporter(otlp =>
            (otlp.Protocol, otlp.Endpoint) = (OtlpExportProtocol.HttpProtobuf, new Uri(collector.Address, "/v1/traces"))).Build();
        await using var traffic = await Traffic.CreateAsync();
        var options = new ConnectionPoolOptions { Name = $"otlp-{Guid.NewGuid():N}" };
        traffic.Configure(options);
        await using var pool = new ConnectionPool(options);

        using (var caller = callers.StartActivity("the caller's own"))
        {
            await traffic.RunAsync(pool);
        }

        // The calls that ended last may not have told their spans yet.
        await Eventually.TrueAsync(() => tracers.ForceFlush() && Of(collector.Spans(), pool).Count(span => span.Kind == Client && span.Name == "POST") == pool.GetStats().TotalRequests, () => $"{pool}\n{string.Join('\n', collector.Spans())}");
        Assert.True(meters.ForceFlush());

        Assert.Equal(["application/x-protobuf"], collector.ContentTypes);
        Assert.Equal(("shop", "shop-1"), (collector.Resource["service.name"], collector.Resource["service.instance.id"]));
        Metrics(collector.Metrics().FindAll(sent => sent.Attributes.GetValueOrDefault("warmline.pool.name") == pool.Name), pool.GetStats());
        Spans(collector.Spans(), pool);
    }

    static void Metrics(List<Sent> sent, PoolStats stats)
    {
        Assert.All(sent, each => Assert.Equal("Warmline", each.Scope));
        Assert.Equal(("counter", "{request}", (double)stats.TotalRequests), One("warmline.requests"));
        Assert.Equal(("counter", "{request}", (double)stats.ReusedConnections), One("warmline.requests.placed", ("warmline.reused", "true")));
        Assert.Equal(("counter", "{request}", (double)(stats.Granted - stats.ReusedConnections)), One("warmline.requests.placed", ("warmline.reused", "false")));
        Assert.Equal(("counter", "{request}", (double)stats.RefusedBy[PoolRejectionReason.LaneCeiling]), One("warmline.requests.refused", ("warmline.reason", "lane_ceiling")));
        Assert.Equal(("counter", "{request}", (double)stats.Faults.FailedUnknown), One("warmline.requests.failed", ("warmline.verdict", "unknown")));
        Assert.Equal(("counter", "{request}", (double)stats.Faults.Stalled), One("warmline.requests.stalled", ("warmline.phase", "first_byte")));
        Assert.Equal(("counter", "{connection}", (double)stats.NewConnections), One("warmline.connections.opened"));
        Assert.Equal(("counter", "{dial}", (double)stats.FailedDials), One("warmline.dials.failed", ("warmline.phase", "tcp")));
        Assert.Equal(("gauge", "{connection}", (double)stats.MaxConnections), One("warmline.connections.limit"));
        Assert.Equal(("gauge", "{request}", (double)stats.PeakActive), One("warmline.leases.peak"));
        Assert.Equal(("gauge", "1", stats.ReuseRate), One("warmline.reuse"));
        Assert.Equal(("gauge", "s", stats.TimeSaved.TotalSeconds), One("warmline.handshake.time_saved"));
        Assert.Equal(("updowncounter", "{connection}", (double)stats.Connections), One("warmline.connections"));
        Assert.Equal(("updowncounter", "{request}", 0), One("warmline.leases", ("warmline.lane", "chat")));
        foreach (var (name, count) in new[] { ("http.client.request.time_in_queue", stats.Granted), ("warmline.lease.duration", stats.Granted), ("http.client.request.duration", stats.TotalRequests) })
        {
            var histogram = sent.FindAll(each => each.Name == name);
            Assert.All(histogram, each => Assert.Equal(("histogram", "s", each.Value), (each.Kind, each.Unit, each.Buckets.Aggregate(0UL, (sum, next) => sum + next))));
            Assert.Equal((name, count), (name, histogram.Sum(each => each.Value)));
        }

        (string Kind, string Unit, double Value) One(string name, params (string Key, string Value)[] attributes)
        {
            var found = sent.FindAll(each => each.Name == name && attributes.All(wanted => each.Attributes.GetValueOrDefault(wanted.Key) == wanted.Value));
            Assert.True(found.Count == 1, $"{name} {string.Join(", ", attributes)}: {found.Count} of it\n{string.Join('\n', sent.Where(each => each.Name == name).Select(each => string.Join(", ", each.Attributes)))}");
            return (found[0].Kind, found[0].Unit, found[0].Value);
        }
    }

    static void Spans(List<SentSpan> all, ConnectionPool pool)
    {
        var spans = Of(all, pool);
        var caller = Assert.Single(all, span => span.Name == "the caller's own");
        var byId = all.ToDictionary(span => span.Id);
        var calls = spans.FindAll(span => span.Name == "POST");
        var connects = spans.FindAll(span => span.Name == "warmline.connect");
        var stats = pool.GetStats();

        Assert.All(calls, call => Assert.Equal((Client, caller.Id, caller.Trace), (call.Kind, call.Parent, call.Trace)));
        Assert.Equal((stats.TotalRequests, stats.NewConnections + stats.FailedDials), (calls.Count, connects.Count));
        Assert.All(connects, connect => Assert.Equal("", connect.Parent));   // a connection belongs to no call
        Assert.DoesNotContain(connects, connect => connect.Trace == caller.Trace);

        // Every call that got a place has a link to a connection that was opened; the others have none.
        var linked = calls.FindAll(call => call.Links.Count > 0);
        Assert.Equal(stats.Granted, linked.Count);
        Assert.All(linked, call => Assert.Contains(connects, connect => call.Links.Contains((connect.Trace, connect.Id)) && connect.Status != Failed));

        // The phases of every dial are below it and within it; each has its own, once.
        foreach (var connect in connects)
        {
            var phases = all.FindAll(span => span.Parent == connect.Id);
            Assert.Equal(connect.Status == Failed ? ["warmline.tcp"] : ["warmline.tcp", "warmline.tls"], phases.Select(span => span.Name).Where(name => name != "warmline.dns").Order());
            Assert.All(phases, phase => Assert.True(phase.Trace == connect.Trace && phase.Kind == Internal && phase.Start >= connect.Start && phase.End <= connect.End, $"{phase} below {connect}"));
            Assert.Equal(phases.Count, phases.Select(span => span.Name).Distinct().Count());
        }

        // Who waited has a wait below, and only one: what is left of all spans below calls are these.
        var waits = all.FindAll(span => span.Scope == "Warmline" && byId.TryGetValue(span.Parent, out var parent) && calls.Contains(parent));
        Assert.All(waits, wait => Assert.Equal(("warmline.queue", Internal), (wait.Name, wait.Kind)));
        Assert.NotEmpty(waits);
        Assert.Equal(waits.Count, waits.Select(wait => wait.Parent).Distinct().Count());
        Assert.Contains(waits, wait => wait.Attributes["warmline.reason"] == "lane_ceiling");
        Assert.All(waits, wait => Assert.NotEqual("none", wait.Attributes["warmline.reason"]));

        Assert.Contains(calls, call => call.Events.Contains("warmline.first_token"));
        Assert.Contains(calls, call => call.Status == Failed && call.Attributes.GetValueOrDefault("http.response.status_code") == "503");
        Assert.DoesNotContain(all, span => span.Scope is not "Warmline" && span != caller);   // the platform's handlers below are silent
    }

    static List<SentSpan> Of(List<SentSpan> spans, ConnectionPool pool) => spans.FindAll(span => span.Attributes.GetValueOrDefault("warmline.pool.name") == pool.Name);
}
