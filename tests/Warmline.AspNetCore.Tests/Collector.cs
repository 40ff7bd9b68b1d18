using System.Collections.Concurrent;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;

namespace Warmline.AspNetCore.Tests;

/// <summary>One value of a metric as a collector gets it; of a histogram <see cref="Value"/> is the count.</summary>
internal sealed record Sent(string Scope, string Name, string Unit, string Kind, Dictionary<string, string> Attributes, double Value, double Sum, IReadOnlyList<ulong> Buckets);

/// <summary>A span as a collector gets it.</summary>
internal sealed record SentSpan(string Scope, string Name, string Trace, string Id, string Parent, int Kind, ulong Start, ulong End, Dictionary<string, string> Attributes, IReadOnlyList<(string Trace, string Id)> Links, IReadOnlyList<string> Events, int Status);

/// <summary>Stands in for an OpenTelemetry collector: takes OTLP over HTTP as protobuf, and keeps it.</summary>
internal sealed class Collector : IAsyncDisposable
{
    readonly ConcurrentQueue<byte[]> _metrics = new();
    readonly ConcurrentQueue<byte[]> _traces = new();
    readonly ConcurrentDictionary<string, int> _contentTypes = new();
    App? _app;

    public Uri Address => _app!.Address;

    public IEnumerable<string> ContentTypes => _contentTypes.Keys;

    public static async Task<Collector> StartAsync()
    {
        var collector = new Collector();
        collector._app = await App.StartAsync(_ => { }, web =>
        {
            web.MapPost("/v1/metrics", context => collector.TakeAsync(context, collector._metrics));
            web.MapPost("/v1/traces", context => collector.TakeAsync(context, collector._traces));
        });
        return collector;
    }

    /// <summary>The resource of the last export.</summary>
    public Dictionary<string, string> Resource => new Protobuf(_metrics.Last()).All(1).First().All(1).Single().Attributes(1);

    /// <summary>The values of the last export.</summary>
    public List<Sent> Metrics() => _metrics.IsEmpty ? [] : [.. new Protobuf(_metrics.Last()).All(1).SelectMany(resource => resource.All(2)).SelectMany(scope => scope.All(2).SelectMany(metric => Read(scope.All(1).Single().Text(1), metric)))];

    /// <summary>All spans that have come.</summary>
    public List<SentSpan> Spans() =>
    [
        .. _traces.SelectMany(export => new Protobuf(export).All(1)).SelectMany(resource => resource.All(2)).SelectMany(scope => scope.All(2).Select(span => new SentSpan(
            scope.All(1).Single().Text(1), span.Text(5), span.Hex(1), span.Hex(2), span.Hex(4), (int)span.Number(6), span.Number(7), span.Number(8), span.Attributes(9),
            [.. span.All(13).Select(link => (link.Hex(1), link.Hex(2)))], [.. span.All(11).Select(happened => happened.Text(2))], (int)(span.All(15).FirstOrDefault()?.Number(3) ?? 0)))),
    ];

    public ValueTask DisposeAsync() => _app!.DisposeAsync();

    static IEnumerable<Sent> Read(string scope, Protobuf metric)
    {
        foreach (var (field, kind) in new[] { (5, "gauge"), (7, "sum"), (9, "histogram") })
        {
            foreach (var data in metric.All(field))
            {
                var told = kind == "sum" ? data.Number(3) == 1 ? "counter" : "updowncounter" : kind;
                Assert.True(kind == "gauge" || data.Number(2) == 2, "cumulative, as nobody said otherwise");
                foreach (var point in data.All(1))
                {
                    yield return kind == "histogram"
                        ? new Sent(scope, metric.Text(1), metric.Text(3), told, point.Attributes(9), point.Number(4), point.Double(5), point.Packed(6))
                        : new Sent(scope, metric.Text(1), metric.Text(3), told, point.Attributes(7), point.Has(6) ? (long)point.Number(6) : point.Double(4), 0, []);
                }
            }
        }
    }

    async Task TakeAsync(HttpContext context, ConcurrentQueue<byte[]> to)
    {
        using var body = new MemoryStream();
        await context.Request.Body.CopyToAsync(body, context.RequestAborted);
        _contentTypes.TryAdd(context.Request.ContentType ?? "", 0);
        to.Enqueue(body.ToArray());
        context.Response.ContentType = "application/x-protobuf";   // an empty message: all was taken
    }
}
