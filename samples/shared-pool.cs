#!/usr/bin/env dotnet
#:project ../src/Warmline/Warmline.csproj
#:project ../src/Warmline.MockLlm/Warmline.MockLlm.csproj
#:package Anthropic@13.10.0
#:package OpenAI@2.14.0
#:property PublishAot=false

// 30 calls by three clients over one shared pool: an OpenAI SDK, an Anthropic SDK and a plain HttpClient, under one limit.
using System.ClientModel;
using System.ClientModel.Primitives;
using System.Net.Http.Headers;
using System.Net.Http.Json;
using Anthropic;
using Anthropic.Models.Messages;
using OpenAI;
using OpenAI.Chat;
using Warmline;
using Warmline.MockLlm;

// Without both keys a provider of our own answers for both, with real TLS.
var (openAiKey, anthropicKey) = (Environment.GetEnvironmentVariable("OPENAI_API_KEY"), Environment.GetEnvironmentVariable("ANTHROPIC_API_KEY"));
await using var mock = openAiKey is null || anthropicKey is null ? await MockLlmServer.StartAsync(new() { ServiceTime = TimeSpan.FromMilliseconds(200) }) : null;
var openAi = mock?.BaseAddress ?? new Uri("https://api.openai.com");
var anthropic = mock?.BaseAddress ?? new Uri("https://api.anthropic.com");

await using var pool = new ConnectionPool(new ConnectionPoolOptions { MaxConcurrentRequests = 12, SslOptions = mock?.CreateClientSslOptions() });

using var http = pool.CreateClient(new Uri(openAi, "v1"));
http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", openAiKey ?? "any");
var chat = new ChatClient("gpt-4o-mini", new ApiKeyCredential(openAiKey ?? "any"),
    new OpenAIClientOptions { Endpoint = new Uri(openAi, "v1"), Transport = new HttpClientPipelineTransport(pool.CreateClient()) });
using var claude = new AnthropicClient { BaseUrl = anthropic.ToString(), ApiKey = anthropicKey ?? "any", HttpClient = pool.CreateClient() };

// All 30 at once: 12 run at any time, the others wait in the pool, in order, and none is refused.
await Task.WhenAll(Enumerable.Range(0, 10).SelectMany(_ => new[] { AskOpenAiAsync(), AskAnthropicAsync(), AskByHandAsync() }));

var stats = pool.GetStats();
Console.WriteLine($"{stats.TotalRequests} calls by 3 clients: at most {stats.PeakActive} at once, on {stats.NewConnections} connections");
Console.WriteLine($"the longest wait for a place was {stats.MaxQueueWait.TotalMilliseconds:0} ms");
Console.WriteLine(stats);

async Task AskOpenAiAsync() => await chat.CompleteChatAsync("Hello");

async Task AskAnthropicAsync() => await claude.Messages.Create(
    new() { Model = "claude-sonnet-4-5", MaxTokens = 100, Messages = [new UserMessageParam { Content = "Hello" }] });

async Task AskByHandAsync()
{
    using var response = await http.PostAsJsonAsync("embeddings", new { model = "text-embedding-3-small", input = "Hello" });
    response.EnsureSuccessStatusCode();
}
