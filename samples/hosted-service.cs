#!/usr/bin/env dotnet
#:sdk Microsoft.NET.Sdk.Web
#:project ../src/Warmline/Warmline.csproj
#:project ../src/Warmline.MockLlm/Warmline.MockLlm.csproj
#:property PublishAot=false

// A worker that asks a model by complete(messages). The host makes the pool, warms it before the worker starts, and lets running calls end when it stops.
using System.Net.Http.Headers;
using System.Text.Json.Nodes;
using Warmline;
using Warmline.MockLlm;

// Without a key a provider of our own answers, with real TLS.
var key = Environment.GetEnvironmentVariable("OPENAI_API_KEY");
await using var mock = key is null ? await MockLlmServer.StartAsync() : null;
var provider = mock?.BaseAddress ?? new Uri("https://api.openai.com");

var builder = Host.CreateApplicationBuilder(args);
builder.Logging.SetMinimumLevel(LogLevel.Warning);

builder.Services.AddConnectionPool(options =>
{
    options.UsePreset(PoolPreset.BackendApi);
    options.Hosts[provider.GetLeftPart(UriPartial.Authority)] = new() { WarmConnections = 2 };
    options.SslOptions = mock?.CreateClientSslOptions();   // trust the mock; leave it out for a real provider
}).Bind(builder.Configuration.GetSection("Llm"));          // what operators change, without a build

builder.Services.AddHttpClient<CompletionClient>(client =>
{
    client.BaseAddress = new Uri(provider, "v1/");
    client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", key ?? "any");
}).UseConnectionPool();
builder.Services.AddHostedService<Worker>();

using var host = builder.Build();
await host.RunAsync();

/// <summary>One message of a conversation.</summary>
internal sealed record Message(string Role, string Content);

/// <summary>What the rest of the application sees of the provider.</summary>
internal sealed class CompletionClient(HttpClient client)
{
    public async Task<string> CompleteAsync(IReadOnlyList<Message> messages, CancellationToken cancellationToken = default)
    {
        using var response = await client.PostAsJsonAsync("chat/completions", new { model = "gpt-4o-mini", messages }, cancellationToken);
        var answer = await response.EnsureSuccessStatusCode().Content.ReadFromJsonAsync<JsonNode>(cancellationToken);
        return answer!["choices"]![0]!["message"]!["content"]!.GetValue<string>();
    }
}

internal sealed class Worker(CompletionClient completions, ConnectionPool pool, IHostApplicationLifetime lifetime) : BackgroundService
{
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        Console.WriteLine($"Started with {pool.GetStats().Idle} warm connections.");

        List<Message> messages = [new("system", "Answer in one sentence.")];
        foreach (var question in new[] { "What is a connection pool?", "And why is it warm?" })
        {
            messages.Add(new("user", question));
            messages.Add(new("assistant", await completions.CompleteAsync(messages, stoppingToken)));
            Console.WriteLine($"{question} {messages[^1].Content}");
        }

        Console.WriteLine(pool.GetStats());
        lifetime.StopApplication();
    }
}
