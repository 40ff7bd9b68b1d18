#!/usr/bin/env dotnet
#:sdk Microsoft.NET.Sdk.Web
#:project ../src/Warmline/Warmline.csproj
#:project ../src/Warmline.MockLlm/Warmline.MockLlm.csproj
#:property PublishAot=false

// The line that says how a pool does: logged at an interval, and asked for.
using System.Net.Http.Headers;
using Warmline;
using Warmline.MockLlm;

// Without a key a provider of our own answers, with real TLS and a round trip of 40 ms.
var key = Environment.GetEnvironmentVariable("OPENAI_API_KEY");
await using var mock = key is null ? await MockLlmServer.StartAsync(new() { RoundTripTime = TimeSpan.FromMilliseconds(40) }) : null;
var provider = mock?.BaseAddress ?? new Uri("https://api.openai.com");

using var logging = LoggerFactory.Create(log => log.AddSimpleConsole(console => console.SingleLine = true));
await using var pool = new ConnectionPool(new ConnectionPoolOptions
{
    StatsLogInterval = TimeSpan.FromSeconds(1),            // a minute is more usual
    SslOptions = mock?.CreateClientSslOptions(),
}, logging);
using var client = pool.CreateClient(new Uri(provider, "v1"));
client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", key ?? "any");

// Calls one after another, for two intervals and a bit.
var clock = TimeProvider.System;
for (var start = clock.GetTimestamp(); clock.GetElapsedTime(start) < TimeSpan.FromSeconds(2.2);)
{
    using var response = await client.GetAsync("models");
    response.EnsureSuccessStatusCode();
}

// reuse: below 85 % something dials too often. peak: near a limit it is time to size anew. queued, max wait: calls wait for a place.
Console.WriteLine(pool.GetStats());
