#!/usr/bin/env dotnet
#:project ../src/Warmline/Warmline.csproj
#:project ../src/Warmline.MockLlm/Warmline.MockLlm.csproj
#:package Anthropic@13.10.0
#:package Microsoft.Extensions.AI.Abstractions@10.11.0
#:package OpenAI@2.14.0
#:property PublishAot=false

// IChatClient of Microsoft.Extensions.AI on a pool: code that does not know its provider, over connections that it shares with everything else.
using System.ClientModel;
using System.ClientModel.Primitives;
using System.Runtime.CompilerServices;
using Anthropic;
using Microsoft.Extensions.AI;
using OpenAI;
using Warmline;
using Warmline.MockLlm;
using OpenAIChat = OpenAI.Chat;

// Without both keys a provider of our own answers for both, with real TLS.
var (openAiKey, anthropicKey) = (Environment.GetEnvironmentVariable("OPENAI_API_KEY"), Environment.GetEnvironmentVariable("ANTHROPIC_API_KEY"));
await using var mock = openAiKey is null || anthropicKey is null ? await MockLlmServer.StartAsync() : null;
var openAi = mock?.BaseAddress ?? new Uri("https://api.openai.com");
var anthropic = mock?.BaseAddress ?? new Uri("https://api.anthropic.com");

await using var pool = new ConnectionPool(new ConnectionPoolOptions { SslOptions = mock?.CreateClientSslOptions() });
using var http = pool.CreateClient();

// Anthropic's SDK brings its IChatClient along. For OpenAI's, the package Microsoft.Extensions.AI.OpenAI has a complete one (chat.AsIChatClient());
// the small adapter below does text only and shows that nothing of it concerns the pool.
using var claude = new AnthropicClient { BaseUrl = anthropic.ToString(), ApiKey = anthropicKey ?? "any", HttpClient = http };
var gpt = new OpenAIChat.ChatClient("gpt-4o-mini", new ApiKeyCredential(openAiKey ?? "any"),
    new OpenAIClientOptions { Endpoint = new Uri(openAi, "v1"), Transport = new HttpClientPipelineTransport(http) });

foreach (var (name, client) in new (string, IChatClient)[] { ("claude", claude.AsIChatClient("claude-sonnet-4-5")), ("gpt", new OpenAITextClient(gpt)) })
{
    var answer = await client.GetResponseAsync("What is a connection pool?");
    Console.WriteLine($"{name} answers: {answer.Text}");

    Console.Write($"{name} streams: ");
    await foreach (var update in client.GetStreamingResponseAsync("And why is it warm?"))
    {
        Console.Write(update.Text);
    }

    Console.WriteLine();
}

Console.WriteLine(pool.GetStats());

/// <summary>Text in, text out, over OpenAI's ChatClient: no tools, no images, no options.</summary>
internal sealed class OpenAITextClient(OpenAIChat.ChatClient chat) : IChatClient
{
    public async Task<ChatResponse> GetResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
    {
        OpenAIChat.ChatCompletion completion = await chat.CompleteChatAsync(messages.Select(ToOpenAI), cancellationToken: cancellationToken);
        var text = string.Concat(completion.Content.Select(part => part.Text));
        return new ChatResponse(new ChatMessage(ChatRole.Assistant, text)) { ResponseId = completion.Id, ModelId = completion.Model };
    }

    public async IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        await foreach (var update in chat.CompleteChatStreamingAsync(messages.Select(ToOpenAI), cancellationToken: cancellationToken))
        {
            var text = string.Concat(update.ContentUpdate.Select(part => part.Text));
            yield return new ChatResponseUpdate(ChatRole.Assistant, text) { ResponseId = update.CompletionId, ModelId = update.Model };
        }
    }

    public object? GetService(Type serviceType, object? serviceKey = null) => serviceKey is null && serviceType.IsInstanceOfType(chat) ? chat : null;

    public void Dispose()
    {
        // The SDK's client owns nothing, and the pool is not ours.
    }

    static OpenAIChat.ChatMessage ToOpenAI(ChatMessage message) => message.Role == ChatRole.System ? OpenAIChat.ChatMessage.CreateSystemMessage(message.Text)
        : message.Role == ChatRole.Assistant ? OpenAIChat.ChatMessage.CreateAssistantMessage(message.Text)
        : OpenAIChat.ChatMessage.CreateUserMessage(message.Text);
}
