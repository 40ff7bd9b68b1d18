#!/usr/bin/env dotnet
#:sdk Microsoft.NET.Sdk.Web
#:project ../src/Warmline/Warmline.csproj
#:project ../src/Warmline.MockLlm/Warmline.MockLlm.csproj
#:property PublishAot=false

// What a pool tells: where the time of each call went, warnings in the log, instruments of the meter "Warmline", and a snapshot.
using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using System.Net.Http.Headers;
using Warmline;
using Warmline.MockLlm;

// Without a key a provider of our own answers, with real TLS.
var key = Environment.GetEnvironmentVariable("OPENAI_API_KEY");
await using var mock = key is null
    ? await MockLlmServer.StartAsync(new() { RoundTripTime = TimeSpan.FromMilliseconds(30), ServiceTime = TimeSpan.FromMilliseconds(200) }) : null;
var provider = mock?.BaseAddress ?? new Uri("https://api.openai.com");

// Any exporter of System.Diagnostics.Metrics does this for you: builder.AddMeter("Warmline") in OpenTelemetry, or dotnet-counters without a line of code.
var durations = new ConcurrentBag<double>();
var counts = new SortedDictionary<string, long>(StringComparer.Ordinal);
using var listener = new MeterListener
{
    InstrumentPublished = static (instrument, listener) =>
    {
        if (instrument.Meter.Name == "Warmline")
        {
            listener.EnableMeasurementEvents(instrument);
        }
    },
};
listener.SetMeasurementEventCallback<double>((instrument, seconds, _, _) =>
{
    if (instrument.Name == "http.client.request.duration")
    {
        durations.Add(seconds);
    }
});
listener.SetMeasurementEventCallback<long>((instrument, value, _, _) => counts[instrument.Name] = counts.GetValueOrDefault(instrument.Name) + value);
listener.Start();

using var logging = LoggerFactory.Create(log => log.AddSimpleConsole(console => console.SingleLine = true));
await using var pool = new ConnectionPool(new ConnectionPoolOptions { MaxConcurrentRequests = 10, SslOptions = mock?.CreateClientSslOptions() }, logging);
using var client = pool.CreateClient(new Uri(provider, "v1"));
client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", key ?? "any");

// One cold call, one on its connection, then nine at once: above 80 % of what is allowed, so the pool warns.
Print("cold", await CallAsync());
Print("warm", await CallAsync());
var burst = await Task.WhenAll(Enumerable.Range(0, 9).Select(_ => CallAsync()));
Print("slowest of nine", burst.MaxBy(timings => timings.LastByte));

listener.RecordObservableInstruments();
Console.WriteLine($"meter: {durations.Count} durations, mean {durations.Average() * 1000:0} ms");
Console.WriteLine($"meter: warmline.requests = {counts["warmline.requests"]}, warmline.connections.opened = {counts["warmline.connections.opened"]}");
Console.WriteLine(pool.GetStats());

async Task<RequestTimings> CallAsync()
{
    using var response = await client.PostAsJsonAsync("chat/completions",
        new { model = "gpt-4o-mini", messages = new[] { new { role = "user", content = "Hello" } } });
    await response.EnsureSuccessStatusCode().Content.LoadIntoBufferAsync();
    return response.TryGetPoolTimings(out var timings) ? timings : throw new InvalidOperationException("The call did not go through the pool.");
}

static void Print(string what, RequestTimings t) => Console.WriteLine(
    $"{what}: queue {t.Queue.TotalMilliseconds:0} ms (tcp {t.Tcp.TotalMilliseconds:0}, tls {t.Tls.TotalMilliseconds:0}), "
    + $"headers after {t.FirstByte.TotalMilliseconds:0} ms, connection {t.ConnectionId}{(t.Reused ? ", reused" : "")}");
