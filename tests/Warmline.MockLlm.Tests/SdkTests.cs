using System.ClientModel;
using System.ClientModel.Primitives;
using System.Text;
using Anthropic;
using Anthropic.Models.Messages;
using OpenAI;
using OpenAI.Chat;
using OpenAI.Embeddings;
using OpenAI.Models;

namespace Warmline.MockLlm.Tests;

/// <summary>The official SDKs, unchanged, over a plain HttpClient.</summary>
public sealed class SdkTests : IAsyncLifetime
{
    const string Expected = "Warm connections answer at once; cold ones shake hands first. Warm connections answer at";
    MockLlmServer _server = null!;
    HttpClient _http = null!;

    public async ValueTask InitializeAsync()
    {
        _server = await MockLlmServer.StartAsync(new() { RequiredApiKey = "right-key", RecordRequests = true });
        _http = _server.Client();
    }

    public async ValueTask DisposeAsync()
    {
        _http.Dispose();
        await _server.DisposeAsync();
    }

    OpenAIClientOptions OpenAiOptions => new() { Endpoint = new Uri(_server.BaseAddress, "v1"), Transport = new HttpClientPipelineTransport(_http) };

    AnthropicClient Anthropic(string key = "right-key") => new() { ApiKey = key, BaseUrl = _server.BaseAddress.ToString(), HttpClient = new HttpClient(_server.Handler()) };

    static MessageCreateParams Hello => new() { Model = "claude-sonnet-4-5", MaxTokens = 100, Messages = [new UserMessageParam { Content = "Hello" }] };

    [Fact]
    public async Task OpenAI_completes()
    {
        ChatCompletion completion = await new ChatClient("gpt-4o-mini", new ApiKeyCredential("right-key"), OpenAiOptions).CompleteChatAsync("Hello");

        Assert.Equal(Expected, completion.Content[0].Text);
        Assert.Equal(16, completion.Usage.OutputTokenCount);
        Assert.Equal("gpt-4o-mini", completion.Model);
        Assert.Equal(OpenAI.Chat.ChatFinishReason.Stop, completion.FinishReason);
        Assert.StartsWith("chatcmpl-", completion.Id);
    }

    [Fact]
    public async Task OpenAI_streams_to_the_end_with_usage()
    {
        var text = new StringBuilder();
        OpenAI.Chat.ChatTokenUsage? usage = null;
        await foreach (var update in new ChatClient("gpt-4o-mini", new ApiKeyCredential("right-key"), OpenAiOptions).CompleteChatStreamingAsync("Hello"))
        {
            text.Append(string.Concat(update.ContentUpdate.Select(c => c.Text)));
            usage = update.Usage ?? usage;
        }

        Assert.Equal(Expected, text.ToString());
        Assert.Equal(16, usage?.OutputTokenCount);
    }

    [Fact]
    public async Task OpenAI_embeds_and_lists_models()
    {
        OpenAIEmbeddingCollection embeddings = await new EmbeddingClient("text-embedding-3-small", new ApiKeyCredential("right-key"), OpenAiOptions)
            .GenerateEmbeddingsAsync(["one", "two", "three"], new() { Dimensions = 64 });
        OpenAIModelCollection models = await new OpenAIModelClient(new ApiKeyCredential("right-key"), OpenAiOptions).GetModelsAsync();

        Assert.Equal(3, embeddings.Count);
        var vector = embeddings[1].ToFloats().ToArray();
        Assert.Equal(64, vector.Length);
        Assert.Equal(1, vector.Sum(v => v * v), 0.001);
        Assert.Contains(models, m => m.Id == "gpt-4o-mini");
    }

    [Fact]
    public async Task OpenAI_responses_complete_and_stream()
    {
#pragma warning disable OPENAI001 // the SDK marks its Responses client as new
        var client = new OpenAI.Responses.ResponsesClient(
            new ApiKeyCredential("right-key"), new OpenAI.Responses.ResponsesClientOptions { Endpoint = new Uri(_server.BaseAddress, "v1"), Transport = new HttpClientPipelineTransport(_http) });
        OpenAI.Responses.ResponseResult whole = await client.CreateResponseAsync("gpt-4o-mini", "Hello");
        var text = new StringBuilder();
        OpenAI.Responses.ResponseResult? completed = null;
        await foreach (var update in client.CreateResponseStreamingAsync("gpt-4o-mini", "Hello"))
        {
            text.Append((update as OpenAI.Responses.StreamingResponseOutputTextDeltaUpdate)?.Delta);
            completed = (update as OpenAI.Responses.StreamingResponseCompletedUpdate)?.Response ?? completed;
        }

        Assert.Equal(Expected, whole.GetOutputText());
        Assert.Equal(Expected, text.ToString());
        Assert.Equal(16, completed?.Usage.OutputTokenCount);
        Assert.Equal(Expected, completed?.GetOutputText());
#pragma warning restore OPENAI001
    }

    [Fact]
    public async Task OpenAI_sees_a_wrong_key_as_401()
    {
        var client = new ChatClient("gpt-4o-mini", new ApiKeyCredential("wrong"), OpenAiOptions);

        var error = await Assert.ThrowsAsync<ClientResultException>(() => client.CompleteChatAsync("Hello"));

        Assert.Equal(401, error.Status);
        Assert.Contains("invalid_api_key", error.Message);
    }

    [Fact]
    public async Task OpenAI_waits_as_told_and_retries()
    {
        using var http = _server.Client();
        http.DefaultRequestHeaders.Add("x-mock-id", "retried");
        http.DefaultRequestHeaders.Add("x-mock-fail-first", "2");
        http.DefaultRequestHeaders.Add("x-mock-status", "429");
        http.DefaultRequestHeaders.Add("x-mock-retry-after", "0.05");
        var options = OpenAiOptions;
        options.Transport = new HttpClientPipelineTransport(http);

        ChatCompletion completion = await new ChatClient("gpt-4o-mini", new ApiKeyCredential("right-key"), options).CompleteChatAsync("Hello");

        Assert.Equal(Expected, completion.Content[0].Text);
        Assert.Equal([429, 429, 200], _server.GetRequests().Where(r => r.MockId == "retried").Select(r => r.Status));
    }

    [Fact]
    public async Task Anthropic_completes_and_counts()
    {
        using var client = Anthropic();
        var message = await client.Messages.Create(Hello);
        var count = await client.Messages.CountTokens(new() { Model = "claude-sonnet-4-5", Messages = [new UserMessageParam { Content = "Hello" }] });

        Assert.True(message.Content[0].TryPickText(out var text));
        Assert.Equal(Expected, text.Text);
        Assert.Equal(16, message.Usage.OutputTokens);
        Assert.StartsWith("msg_01", message.ID);
        Assert.True(count.InputTokens > 0);
    }

    [Fact]
    public async Task Anthropic_streams_to_the_end()
    {
        using var client = Anthropic();
        var text = new StringBuilder();
        var stopped = false;
        await foreach (var update in client.Messages.CreateStreaming(Hello))
        {
            if (update.TryPickContentBlockDelta(out var delta) && delta.Delta.TryPickText(out var piece))
            {
                text.Append(piece.Text);
            }

            stopped |= update.TryPickStop(out _);
        }

        Assert.Equal(Expected, text.ToString());
        Assert.True(stopped);
    }

    [Fact]
    public async Task Anthropic_lists_models()
    {
        using var client = Anthropic();
        var models = await client.Models.List();

        Assert.Contains(models.Items, m => m.ID == "claude-sonnet-4-5");
    }

    [Fact]
    public async Task Anthropic_sees_a_wrong_key_as_401()
    {
        using var client = Anthropic("wrong");

        await Assert.ThrowsAsync<global::Anthropic.Exceptions.AnthropicUnauthorizedException>(() => client.Messages.Create(Hello));
    }
}
