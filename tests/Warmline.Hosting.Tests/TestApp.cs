using System.ClientModel;
using System.ClientModel.Primitives;
using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json;
using Anthropic;
using Anthropic.Models.Messages;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using OpenAI;
using OpenAI.Chat;
using OpenAI.Embeddings;

namespace Warmline.Hosting.Tests;

/// <summary>A typed client, as an application has them.</summary>
internal sealed class ChatApi(HttpClient client)
{
    public async Task<string> AskAsync(string question, CancellationToken cancellationToken)
    {
        using var body = new StringContent($$"""{"model":"gpt-4o-mini","messages":[{"role":"user","content":"{{question}}"}]}""", Encoding.UTF8, "application/json");
        using var response = await client.PostAsync(new Uri("v1/chat/completions", UriKind.Relative), body, cancellationToken);
        response.EnsureSuccessStatusCode();
        using var json = JsonDocument.Parse(await response.Content.ReadAsStringAsync(cancellationToken));
        return json.RootElement.GetProperty("choices")[0].GetProperty("message").GetProperty("content").GetString()!;
    }

    /// <summary>A stream of so many tokens with that pause between them, as the provider sends it.</summary>
    public async Task<HttpResponseMessage> StreamAsync(int tokens, int gapMilliseconds, CancellationToken cancellationToken)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, "v1/chat/completions")
        {
            Content = new StringContent("""{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"Hi"}]}""", Encoding.UTF8, "application/json"),
            Headers = { { "x-mock-tokens", $"{tokens}" }, { "x-mock-token-gap-ms", $"{gapMilliseconds}" } },
        };
        return await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellationToken);
    }
}

/// <summary>An ASP.NET Core application that answers its users by calls to a provider.</summary>
internal static class TestApp
{
    public const string Key = "right-key";
    public const string Authority = "Provider:Authority", Address = "Provider:Address";

    /// <summary>Made from its configuration: <c>Provider</c> says where the provider is and whom to trust, <c>Llm</c> configures the pool.</summary>
    public static WebApplication Build(string[] args, Action<WebApplicationBuilder>? configure = null)
    {
        var builder = WebApplication.CreateSlimBuilder(args);
        builder.Logging.ClearProviders().AddSimpleConsole(console => console.SingleLine = true);
        configure?.Invoke(builder);
        var provider = new Uri(builder.Configuration[Address]!);

        // The three lines that adopt the pool; the trust in the mock's authority is the test's.
        builder.Services.AddConnectionPool(o => o.UsePreset(PoolPreset.BackendApi).SslOptions = Trusting(builder.Configuration[Authority]!)).Bind(builder.Configuration.GetSection("Llm"));
        builder.Services.AddHttpClient<ChatApi>(client => client.BaseAddress = provider).UseConnectionPool();
        builder.Services.AddHealthChecks().AddConnectionPoolHealthCheck();

        builder.Services.AddSingleton(services => new ChatClient("gpt-4o-mini", new ApiKeyCredential(Key), OpenAi(services, provider)));
        builder.Services.AddSingleton(services => new EmbeddingClient("text-embedding-3-small", new ApiKeyCredential(Key), OpenAi(services, provider)));
        builder.Services.AddSingleton(services => new AnthropicClient { ApiKey = Key, BaseUrl = provider.ToString(), HttpClient = services.GetRequiredService<ConnectionPool>().CreateClient() });

        var app = builder.Build();
        app.MapHealthChecks("/health");
        app.MapGet("/stats", (ConnectionPool pool) => pool.ToString());
        app.MapGet("/typed", async (ChatApi api, CancellationToken aborted) => await api.AskAsync("Hello", aborted));
        app.MapGet("/openai/chat", async (ChatClient chat, CancellationToken aborted) => (await chat.CompleteChatAsync(["Hello"], cancellationToken: aborted)).Value.Content[0].Text);
        app.MapGet("/openai/sync", (ChatClient chat) => chat.CompleteChat("Hello").Value.Content[0].Text);
        app.MapGet("/openai/stream", OpenAiStreamAsync);
        app.MapGet("/openai/tool", OpenAiToolAsync);
        app.MapGet("/openai/embeddings", async (EmbeddingClient embeddings, CancellationToken aborted) =>
            $"{(await embeddings.GenerateEmbeddingsAsync(["one", "two"], new() { Dimensions = 64 }, aborted)).Value.Sum(embedding => embedding.ToFloats().Length)} numbers");
        app.MapGet("/claude/create", async (AnthropicClient claude, CancellationToken aborted) => Text(await claude.Messages.Create(Hello(), aborted)));
        app.MapGet("/claude/stream", ClaudeStreamAsync);
        app.MapGet("/claude/tool", ClaudeToolAsync);
        app.MapGet("/relay", RelayAsync);
        return app;
    }

    public static async Task<int> RunAsync(string[] args)
    {
        var app = Build(args);
        await app.StartAsync();
        Console.WriteLine($"listening on {app.Urls.First()}");
        await app.WaitForShutdownAsync();
        await app.DisposeAsync();
        return 0;
    }

    /// <summary>A program that ends without having ended its pool.</summary>
    public static async Task<int> LeaveOpenAsync(Uri origin, string authority)
    {
        var pool = new ConnectionPool(new ConnectionPoolOptions { SslOptions = Trusting(authority) }, LoggerFactory.Create(logging => logging.AddProvider(new ErrorStream())));
        await pool.WarmUpAsync(origin);
        AppDomain.CurrentDomain.SetData("kept", pool);
        return 0;
    }

    static SslClientAuthenticationOptions Trusting(string file)
    {
        var policy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck };
        policy.CustomTrustStore.Add(X509Certificate2.CreateFromPem(File.ReadAllText(file)));
        return new SslClientAuthenticationOptions { CertificateChainPolicy = policy };
    }

    static OpenAIClientOptions OpenAi(IServiceProvider services, Uri provider) =>
        new() { Endpoint = new Uri(provider, "v1"), Transport = new HttpClientPipelineTransport(services.GetRequiredService<ConnectionPool>().CreateClient()) };

    static async Task<string> OpenAiStreamAsync(ChatClient chat, CancellationToken aborted)
    {
        var text = new StringBuilder();
        await foreach (var update in chat.CompleteChatStreamingAsync(["Hello"], cancellationToken: aborted))
        {
            text.Append(string.Concat(update.ContentUpdate.Select(part => part.Text)));
        }

        return text.ToString();
    }

    static async Task<string> OpenAiToolAsync(ChatClient chat, CancellationToken aborted)
    {
        var options = new ChatCompletionOptions { Tools = { ChatTool.CreateFunctionTool("weather", "The weather in a city", BinaryData.FromString("""{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}""")) } };
        var conversation = new List<ChatMessage> { new UserChatMessage("What is the weather?") };
        ChatCompletion asked = await chat.CompleteChatAsync(conversation, options, aborted);
        var call = asked.ToolCalls.Single();
        conversation.Add(new AssistantChatMessage(asked));
        conversation.Add(new ToolChatMessage(call.Id, "sunny"));
        ChatCompletion answer = await chat.CompleteChatAsync(conversation, options, aborted);
        return $"{asked.FinishReason} {call.FunctionName}({call.FunctionArguments}): {answer.Content[0].Text}";
    }

    static MessageCreateParams Hello() => new() { Model = "claude-sonnet-4-5", MaxTokens = 100, Messages = [new UserMessageParam { Content = "Hello" }] };

    static string Text(Message message) => string.Concat(message.Content.Select(block => block.TryPickText(out var text) ? text.Text : ""));

    static async Task<string> ClaudeStreamAsync(AnthropicClient claude, CancellationToken aborted)
    {
        var text = new StringBuilder();
        await foreach (var update in claude.Messages.CreateStreaming(Hello(), aborted))
        {
            text.Append(update.TryPickContentBlockDelta(out var delta) && delta.Delta.TryPickText(out var piece) ? piece.Text : "");
        }

        return text.ToString();
    }

    static async Task<string> ClaudeToolAsync(AnthropicClient claude, CancellationToken aborted)
    {
        var schema = new InputSchema { Properties = new Dictionary<string, JsonElement> { ["city"] = JsonSerializer.SerializeToElement(new { type = "string" }) } };
        var asked = await claude.Messages.Create(Hello() with { Tools = [new Tool { Name = "weather", Description = "The weather in a city", InputSchema = schema }] }, aborted);
        return string.Join(' ', asked.Content.Select(block => block.TryPickToolUse(out var use) ? $"{asked.StopReason?.Raw()} {use.Name}({JsonSerializer.Serialize(use.Input)})" : "text"));
    }

    /// <summary>Hands a provider's stream on, byte by byte; when the pool cuts it, its own client is told why.</summary>
    static async Task RelayAsync(int tokens, int gap, ChatApi api, HttpResponse answer, CancellationToken aborted)
    {
        using var response = await api.StreamAsync(tokens, gap, aborted);
        answer.ContentType = "text/event-stream";
        try
        {
            await using var stream = await response.Content.ReadAsStreamAsync(aborted);
            var buffer = new byte[4096];
            for (int read; (read = await stream.ReadAsync(buffer, aborted)) > 0;)
            {
                await answer.Body.WriteAsync(buffer.AsMemory(0, read), aborted);
                await answer.Body.FlushAsync(aborted);
            }
        }
        catch (PoolAbortedException cut)
        {
            await answer.WriteAsync($"event: cut\ndata: {cut.Reason}\n\n", CancellationToken.None);
        }
    }

    sealed class ErrorStream : ILoggerProvider, ILogger
    {
        public ILogger CreateLogger(string categoryName) => this;

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Warning;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) => Console.Error.WriteLine($"{logLevel}: {formatter(state, exception)}");

        public void Dispose()
        {
        }
    }
}
