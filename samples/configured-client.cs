#!/usr/bin/env dotnet
#:project ../src/Warmline/Warmline.csproj
#:project ../src/Warmline.MockLlm/Warmline.MockLlm.csproj
#:property PublishAot=false

// A configured pool under an ordinary HttpClient.
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Text.Json.Nodes;
using Warmline;
using Warmline.MockLlm;

// Without a key a provider of our own answers, with real TLS.
var key = Environment.GetEnvironmentVariable("OPENAI_API_KEY");
await using var mock = key is null ? await MockLlmServer.StartAsync(new() { RoundTripTime = TimeSpan.FromMilliseconds(20) }) : null;
var provider = mock?.BaseAddress ?? new Uri("https://api.openai.com");

// One pool for the application, whatever it calls. Invalid options are reported all at once, here.
await using var pool = new ConnectionPool(new ConnectionPoolOptions
{
    MaxConnections = 30,                                    // over all hosts together
    MaxIdleConnections = 15,                                // kept for the next burst
    IdleTimeout = TimeSpan.FromSeconds(90),
    Timeouts = new()
    {
        Pool = TimeSpan.FromSeconds(15),                    // waiting for a place
        FirstByte = TimeSpan.FromMinutes(2),                // the model thinks
        Read = TimeSpan.FromSeconds(60),                    // silence within an answer
    },
    SslOptions = mock?.CreateClientSslOptions(),            // trust the mock; leave it out for a real provider
});

// The first calls pay no handshake.
var warm = await pool.WarmUpAsync(provider, connections: 2);

using var client = pool.CreateClient(new Uri(provider, "v1"));
client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", key ?? "any");

using var response = await client.PostAsJsonAsync("chat/completions",
    new { model = "gpt-4o-mini", messages = new[] { new { role = "user", content = "Say hello." } } });
var answer = await response.EnsureSuccessStatusCode().Content.ReadFromJsonAsync<JsonNode>();

Console.WriteLine($"{warm} warm connections to {provider}");
Console.WriteLine($"HTTP/{response.Version}, {(int)response.StatusCode}: {answer!["choices"]![0]!["message"]!["content"]}");
Console.WriteLine(pool.GetStats());
