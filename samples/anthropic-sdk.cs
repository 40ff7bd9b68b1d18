#!/usr/bin/env dotnet
#:project ../src/Warmline/Warmline.csproj
#:project ../src/Warmline.MockLlm/Warmline.MockLlm.csproj
#:package Anthropic@13.10.0
#:property PublishAot=false

// The Anthropic SDK on a pool: one line, its HttpClient. Everything else is the SDK's as ever.
using Anthropic;
using Anthropic.Models.Messages;
using Warmline;
using Warmline.MockLlm;

// Without a key a provider of our own answers, with real TLS.
var key = Environment.GetEnvironmentVariable("ANTHROPIC_API_KEY");
await using var mock = key is null ? await MockLlmServer.StartAsync() : null;
var provider = mock?.BaseAddress ?? new Uri("https://api.anthropic.com");

await using var pool = new ConnectionPool(new ConnectionPoolOptions { SslOptions = mock?.CreateClientSslOptions() });
using var client = pool.CreateClient();
using var claude = new AnthropicClient { BaseUrl = provider.ToString(), ApiKey = key ?? "any", HttpClient = client };

var message = await claude.Messages.Create(Ask("What is a connection pool?"));
Console.WriteLine($"answer: {(message.Content[0].TryPickText(out var text) ? text.Text : "")}");

Console.Write("stream: ");
await foreach (var update in claude.Messages.CreateStreaming(Ask("And why is it warm?")))
{
    if (update.TryPickContentBlockDelta(out var delta) && delta.Delta.TryPickText(out var piece))
    {
        Console.Write(piece.Text);
    }
}

Console.WriteLine();
Console.WriteLine(pool.GetStats());

static MessageCreateParams Ask(string question) =>
    new() { Model = "claude-sonnet-4-5", MaxTokens = 200, Messages = [new UserMessageParam { Content = question }] };
