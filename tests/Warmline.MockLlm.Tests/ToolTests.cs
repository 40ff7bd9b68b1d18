using System.ClientModel;
using System.ClientModel.Primitives;
using System.Text;
using System.Text.Json;
using Anthropic;
using Anthropic.Models.Messages;
using OpenAI;
using OpenAI.Chat;

namespace Warmline.MockLlm.Tests;

/// <summary>A request that offers tools is answered with a call of the first one, until it brings the result; whole and as a stream, through the official SDKs.</summary>
public sealed class ToolTests : IAsyncLifetime
{
    const string Schema = """{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"},"hourly":{"type":"boolean"},"tags":{"type":"array"}}}""";
    const string Arguments = """{"city":"mock","days":1,"hourly":true}""";

    MockLlmServer _server = null!;
    HttpClient _http = null!;

    public async ValueTask InitializeAsync()
    {
        _server = await MockLlmServer.StartAsync();
        _http = _server.Client();
    }

    public async ValueTask DisposeAsync()
    {
        _http.Dispose();
        await _server.DisposeAsync();
    }

    ChatClient Chat => new("gpt-4o-mini", new ApiKeyCredential("any"), new OpenAIClientOptions { Endpoint = new Uri(_server.BaseAddress, "v1"), Transport = new HttpClientPipelineTransport(_http) });

    static ChatCompletionOptions Options => new() { Tools = { ChatTool.CreateFunctionTool("weather", "say \"how\"", BinaryData.FromString(Schema)), ChatTool.CreateFunctionTool("other") } };

    AnthropicClient Claude => new() { ApiKey = "any", BaseUrl = _server.BaseAddress.ToString(), HttpClient = new HttpClient(_server.Handler()) };

    static MessageCreateParams Question => new()
    {
        Model = "claude-sonnet-4-5", MaxTokens = 100, Messages = [new UserMessageParam { Content = "Weather?" }],
        Tools = [new Tool { Name = "weather", InputSchema = new InputSchema { Properties = JsonDocument.Parse(Schema).RootElement.GetProperty("properties").EnumerateObject().ToDictionary(p => p.Name, p => p.Value) } }],
    };

    [Fact]
    public async Task OpenAI_calls_the_first_tool_and_answers_its_result()
    {
        ChatCompletion asked = await Chat.CompleteChatAsync([new UserChatMessage("Weather?")], Options);
        var call = Assert.Single(asked.ToolCalls);
        ChatCompletion answer = await Chat.CompleteChatAsync([new UserChatMessage("Weather?"), new AssistantChatMessage(asked), new ToolChatMessage(call.Id, "sunny")], Options);

        Assert.Equal((ChatFinishReason.ToolCalls, "weather", Arguments), (asked.FinishReason, call.FunctionName, call.FunctionArguments.ToString()));
        Assert.Equal(ChatFinishReason.Stop, answer.FinishReason);
        Assert.StartsWith("Warm connections", answer.Content[0].Text);
    }

    [Fact]
    public async Task OpenAI_streams_the_call()
    {
        var (name, arguments, finish) = ("", new StringBuilder(), default(ChatFinishReason?));
        await foreach (var update in Chat.CompleteChatStreamingAsync([new UserChatMessage("Weather?")], Options))
        {
            foreach (var call in update.ToolCallUpdates)
            {
                name += call.FunctionName;
                arguments.Append(call.FunctionArgumentsUpdate);
            }

            finish = update.FinishReason ?? finish;
        }

        Assert.Equal(("weather", Arguments, ChatFinishReason.ToolCalls), (name, arguments.ToString(), finish));
    }

    [Fact]
    public async Task Anthropic_calls_the_first_tool_and_answers_its_result()
    {
        using var claude = Claude;
        var asked = await claude.Messages.Create(Question);

        Assert.True(Assert.Single(asked.Content).TryPickToolUse(out var use));
        Assert.Equal(("weather", Arguments), (use.Name, JsonSerializer.Serialize(use.Input)));

        using var result = new StringContent($$$"""
            {"model":"claude-sonnet-4-5","max_tokens":100,"tools":[{"name":"weather","input_schema":{{{Schema}}}}],"messages":[{"role":"user","content":"Weather?"},
            {"role":"assistant","content":[{"type":"tool_use","id":"{{{use.ID}}}","name":"weather","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"{{{use.ID}}}","content":"sunny"}]}]}
            """);
        using var response = await _http.PostAsync(new Uri("v1/messages", UriKind.Relative), result);
        using var answer = JsonDocument.Parse(await response.Content.ReadAsStringAsync());
        Assert.Equal("end_turn", answer.RootElement.GetProperty("stop_reason").GetString());
    }

    [Fact]
    public async Task Anthropic_streams_the_call()
    {
        using var claude = Claude;
        var (name, arguments) = ("", new StringBuilder());
        await foreach (var update in claude.Messages.CreateStreaming(Question))
        {
            name += update.TryPickContentBlockStart(out var start) && start.ContentBlock.TryPickToolUse(out var use) ? use.Name : "";
            arguments.Append(update.TryPickContentBlockDelta(out var delta) && delta.Delta.TryPickInputJson(out var piece) ? piece.PartialJson : "");
        }

        Assert.Equal(("weather", Arguments), (name, arguments.ToString()));
    }
}
