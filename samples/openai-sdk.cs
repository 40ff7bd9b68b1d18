#!/usr/bin/env dotnet
#:project ../src/Warmline/Warmline.csproj
#:project ../src/Warmline.MockLlm/Warmline.MockLlm.csproj
#:package OpenAI@2.14.0
#:property PublishAot=false

// The OpenAI SDK on a pool: one line, the transport. Everything else is the SDK's as ever.
using System.ClientModel;
using System.ClientModel.Primitives;
using OpenAI;
using OpenAI.Chat;
using Warmline;
using Warmline.MockLlm;

// Without a key a provider of our own answers, with real TLS.
var key = Environment.GetEnvironmentVariable("OPENAI_API_KEY");
await using var mock = key is null ? await MockLlmServer.StartAsync() : null;
var provider = mock?.BaseAddress ?? new Uri("https://api.openai.com");

await using var pool = new ConnectionPool(new ConnectionPoolOptions { SslOptions = mock?.CreateClientSslOptions() });
using var client = pool.CreateClient();
var chat = new ChatClient("gpt-4o-mini", new ApiKeyCredential(key ?? "any"), new OpenAIClientOptions
{
    Endpoint = new Uri(provider, "v1"),
    Transport = new HttpClientPipelineTransport(client),
});

ChatCompletion answer = await chat.CompleteChatAsync("What is a connection pool?");
Console.WriteLine($"answer: {answer.Content[0].Text}");

Console.Write("stream: ");
await foreach (var update in chat.CompleteChatStreamingAsync("And why is it warm?"))
{
    Console.Write(update.ContentUpdate.FirstOrDefault()?.Text);
}

Console.WriteLine();

// The SDK does not show its requests; a scope reaches every call within.
using (PoolRequestOptions.Use(new() { Tenant = "acme", MaxQueueTime = TimeSpan.FromSeconds(20) }))
{
    await chat.CompleteChatAsync("On whose behalf?");
}

Console.WriteLine(pool.GetStats());
