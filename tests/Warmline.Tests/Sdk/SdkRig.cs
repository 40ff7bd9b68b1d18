using System.ClientModel;
using System.ClientModel.Primitives;
using Anthropic;
using Anthropic.Models.Messages;
using OpenAI;
using OpenAI.Chat;
using OpenAI.Embeddings;
using Warmline.MockLlm;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Sdk;

/// <summary>The official SDKs as their users set them up; all that is of the pool is the HttpClient.</summary>
internal sealed class SdkRig(Rig rig) : IAsyncDisposable
{
    public const string Key = "right-key";
    public const string Expected = "Warm connections answer at once; cold ones shake hands first. Warm connections answer at";

    public Rig Rig => rig;

    public static async Task<SdkRig> StartAsync(Action<MockLlmOptions>? mock = null, Action<ConnectionPoolOptions>? pool = null)
    {
        var options = new MockLlmOptions { RequiredApiKey = Key, RecordRequests = true };
        mock?.Invoke(options);
        return new SdkRig(await Rig.StartAsync(pool, options));
    }

    public static MessageCreateParams Hello => new() { Model = "claude-sonnet-4-5", MaxTokens = 100, Messages = [new UserMessageParam { Content = "Hello" }] };

    public ChatClient Chat(HttpClient? http = null, string key = Key) => new("gpt-4o-mini", new ApiKeyCredential(key), OpenAi(http));

    public EmbeddingClient Embeddings() => new("text-embedding-3-small", new ApiKeyCredential(Key), OpenAi(null));

    public AnthropicClient Claude(HttpClient? http = null, string key = Key) =>
        new() { ApiKey = key, BaseUrl = rig.Mock.BaseAddress.ToString(), HttpClient = http ?? rig.Pool.CreateClient() };

    /// <summary>A client whose calls all carry these headers: how a test talks to the mock through an SDK.</summary>
    public HttpClient Http(params (string Name, string Value)[] headers)
    {
        var http = rig.Pool.CreateClient();
        foreach (var (name, value) in headers)
        {
            http.DefaultRequestHeaders.Add(name, value);
        }

        return http;
    }

    /// <summary>All calls have ended at the pool and at the mock, so many came, all over HTTP/2, and on no more sockets than that.</summary>
    public async Task CheckAsync(int requests, int connections = 1)
    {
        await rig.QuietAsync();
        await rig.MockAsync(counters => counters.StreamsOpen == 0);
        var records = rig.Mock.GetRequests();
        Assert.Equal(requests, records.Count);
        Assert.All(records, record => Assert.Equal("HTTP/2", record.Protocol));
        Assert.All(rig.Counters.Connections.Where(connection => connection.Requests > 0), connection => Assert.Equal("HTTP/2", connection.Protocol));
        Assert.InRange(rig.Counters.ConnectionsAccepted, 1, connections);
        Assert.InRange(rig.Stats.NewConnections, 1, connections);
        Assert.Equal((requests, 0), (rig.Stats.TotalRequests, rig.Stats.Active));
        Assert.InRange(rig.Stats.ReusedConnections, requests - connections, requests);
    }

    public ValueTask DisposeAsync() => rig.DisposeAsync();

    OpenAIClientOptions OpenAi(HttpClient? http) =>
        new() { Endpoint = new Uri(rig.Mock.BaseAddress, "v1"), Transport = new HttpClientPipelineTransport(http ?? rig.Pool.CreateClient()) };
}
