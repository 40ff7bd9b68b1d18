using System.Collections.Concurrent;
using System.Diagnostics.Tracing;
using Microsoft.Diagnostics.NETCore.Client;
using Microsoft.Diagnostics.Tracing;

namespace Warmline.AspNetCore.Tests;

/// <summary>What dotnet-counters sees: it opens an event pipe to the process and asks the runtime's own provider for the meter. The program needs no set-up.</summary>
public sealed class CountersTests
{
    const long TimeSeriesValues = 0x2;   // the keyword that dotnet-counters asks with

    [Fact(Timeout = Eventually.Patience)]
    public async Task Dotnet_counters_sees_the_instruments_without_any_set_up_in_the_program()
    {
        await using var traffic = await Traffic.CreateAsync();
        var options = new ConnectionPoolOptions { Name = $"counters-{Guid.NewGuid():N}" };
        traffic.Configure(options);
        await using var pool = new ConnectionPool(options);
        var values = new ConcurrentDictionary<string, string>();
        using var session = await new DiagnosticsClient(Environment.ProcessId).StartEventPipeSessionAsync(new EventPipeProvider("System.Diagnostics.Metrics", EventLevel.Informational, TimeSeriesValues, new Dictionary<string, string>
        {
            ["SessionId"] = "SHARED", ["Metrics"] = "Warmline", ["RefreshInterval"] = "1", ["MaxTimeSeries"] = "1000", ["MaxHistograms"] = "100", ["ClientId"] = Guid.NewGuid().ToString(),
        }), requestRundown: false, token: Eventually.Ct);
        using var source = new EventPipeEventSource(session.EventStream);
        source.Dynamic.All += told =>
        {
            if (told.EventName.EndsWith("Published", StringComparison.Ordinal) && told.PayloadByName("tags") is string tags && tags.Contains(pool.Name, StringComparison.Ordinal))
            {
                var last = told.PayloadNames.Contains("lastValue") ? "lastValue" : told.PayloadNames.Contains("value") ? "value" : told.PayloadNames.Contains("count") ? "count" : "rate";
                values[$"{told.PayloadByName("instrumentName")}|{tags}"] = $"{told.PayloadByName(last)}";
            }
        };
        var reading = Task.Run(source.Process, Eventually.Ct);

        await traffic.RunAsync(pool);

        var stats = pool.GetStats();
        await Eventually.TrueAsync(() => Value("warmline.requests") == stats.TotalRequests && Value("warmline.connections.opened") == stats.NewConnections && Value("warmline.connections.limit") == stats.MaxConnections
            && values.Keys.Any(key => key.StartsWith("http.client.request.duration|", StringComparison.Ordinal)) && values.Keys.Any(key => key.StartsWith("warmline.handshake.duration|", StringComparison.Ordinal)),
            () => string.Join('\n', values.Select(each => $"{each.Key}: {each.Value}").Order()));

        await session.StopAsync(Eventually.Ct);
        await reading;

        double? Value(string instrument) => values.TryGetValue($"{instrument}|warmline.pool.name={pool.Name}", out var value) ? double.Parse(value) : null;
    }
}
