#!/usr/bin/env dotnet
#:project ../src/Warmline/Warmline.csproj
#:project ../src/Warmline.MockLlm/Warmline.MockLlm.csproj
#:property PublishAot=false

// 20 calls at once: together they take as long as the slowest one, and ride a few connections.
using System.Net.Http.Headers;
using System.Net.Http.Json;
using Warmline;
using Warmline.MockLlm;

// Without a key a provider of our own answers, with real TLS, half a second of thinking and a round trip of 30 ms.
var key = Environment.GetEnvironmentVariable("OPENAI_API_KEY");
await using var mock = key is null
    ? await MockLlmServer.StartAsync(new() { RoundTripTime = TimeSpan.FromMilliseconds(30), ServiceTime = TimeSpan.FromMilliseconds(500) }) : null;
var provider = mock?.BaseAddress ?? new Uri("https://api.openai.com");

await using var pool = new ConnectionPool(new ConnectionPoolOptions { SslOptions = mock?.CreateClientSslOptions() });
using var client = pool.CreateClient(new Uri(provider, "v1"));
client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", key ?? "any");

var clock = TimeProvider.System;
var start = clock.GetTimestamp();
var latencies = await Task.WhenAll(Enumerable.Range(1, 20).Select(AskAsync));
var wall = clock.GetElapsedTime(start);

var sum = latencies.Aggregate((a, b) => a + b);
Console.WriteLine($"20 calls: {sum.TotalSeconds:0.0} s of latency in {wall.TotalSeconds:0.0} s of wall time, {sum / wall:0.0} times as much");
Console.WriteLine($"{pool.GetStats().NewConnections} connections");
Console.WriteLine(pool.GetStats());

async Task<TimeSpan> AskAsync(int number)
{
    var asked = clock.GetTimestamp();
    using var response = await client.PostAsJsonAsync("chat/completions",
        new { model = "gpt-4o-mini", messages = new[] { new { role = "user", content = $"What is {number} squared?" } } });
    response.EnsureSuccessStatusCode();
    return clock.GetElapsedTime(asked);
}
