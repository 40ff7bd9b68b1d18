using System.ClientModel;
using System.ClientModel.Primitives;
using System.Text;
using Anthropic;
using Anthropic.Models.Messages;
using OpenAI;
using OpenAI.Chat;
using OpenAI.Embeddings;
using Warmline.MockLlm;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Sdk;

/// <summary>The official SDKs, unchanged but for the HttpClient: all of it rides HTTP/2 on few connections.</summary>
public sealed class SdkTests
{
    const string Expected = "Warm connections answer at once; cold ones shake hands first. Warm connections answer at";

    static MessageCreateParams Hello => new() { Model = "claude-sonnet-4-5", MaxTokens = 100, Messages = [new UserMessageParam { Content = "Hello" }] };

    [Fact(Timeout = Rig.Patience)]
    public async Task The_lines_of_the_readme_work()
    {
        await using var server = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        var trust = server.CreateClientSslOptions();
        var (address, key) = (server.BaseAddress, "sk-any");

        await using var pool = new ConnectionPool(new ConnectionPoolOptions { MaxConnections = 50, MaxIdleConnections = 20, SslOptions = trust });
        using var client = pool.CreateClient(new Uri(address, "/v1"));
        var chat = new ChatClient("gpt-4o", new ApiKeyCredential(key), new OpenAIClientOptions { Endpoint = client.BaseAddress, Transport = new HttpClientPipelineTransport(client) });
        await pool.WarmUpAsync(address, connections: 4);
        ChatCompletion completion = await chat.CompleteChatAsync("Hello");
        Console.WriteLine(completion.Content[0].Text);
        Console.WriteLine(pool.GetStats());
        var cut = await pool.DrainAsync(TimeSpan.FromMinutes(5));

        Assert.Equal((Expected, 0), (completion.Content[0].Text, cut.Count));
        Assert.StartsWith("Pool: 1 requests | reuse=100.0% | peak=1 | queued=0", pool.GetStats().ToString());
        Assert.Equal(4, server.GetCounters().ConnectionsAccepted);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task OpenAI_completes_streams_embeds_and_calls_synchronously_on_one_connection()
    {
        await using var rig = await Rig.StartAsync(mock: new() { RequiredApiKey = "right-key", RecordRequests = true });
        var chat = new ChatClient("gpt-4o-mini", new ApiKeyCredential("right-key"), OpenAi(rig));

        ChatCompletion completion = await chat.CompleteChatAsync("Hello");
        ChatCompletion synchronous = await Task.Run(() => chat.CompleteChat("Hello").Value);
        var text = await StreamAsync(chat);
        var syncText = await Task.Run(() => string.Concat(chat.CompleteChatStreaming("Hello").SelectMany(update => update.ContentUpdate).Select(part => part.Text)));
        OpenAIEmbeddingCollection embeddings = await new EmbeddingClient("text-embedding-3-small", new ApiKeyCredential("right-key"), OpenAi(rig)).GenerateEmbeddingsAsync(["one", "two"]);

        Assert.Equal([Expected, Expected, Expected, Expected], new[] { completion.Content[0].Text, synchronous.Content[0].Text, text, syncText });
        Assert.Equal(2, embeddings.Count);
        await AssertRodeHttp2Async(rig, 5);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task OpenAI_retries_a_429_on_the_same_connection_and_shows_a_401()
    {
        await using var rig = await Rig.StartAsync(mock: new()
        {
            RecordRequests = true,
            RequiredApiKey = "right-key",
            OnRequest = request => request.Sequence <= 2 ? new MockReply { Status = 429, RetryAfter = TimeSpan.FromMilliseconds(20) } : null,
        });

        ChatCompletion completion = await new ChatClient("gpt-4o-mini", new ApiKeyCredential("right-key"), OpenAi(rig)).CompleteChatAsync("Hello");
        var error = await Assert.ThrowsAsync<ClientResultException>(() => new ChatClient("gpt-4o-mini", new ApiKeyCredential("wrong"), OpenAi(rig)).CompleteChatAsync("Hello"));

        Assert.Equal((Expected, 401), (completion.Content[0].Text, error.Status));
        Assert.Equal([429, 429, 200, 401], rig.Mock.GetRequests().Select(request => request.Status));
        await AssertRodeHttp2Async(rig, 4);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task OpenAI_does_not_storm_a_full_pool()
    {
        await using var rig = await Rig.StartAsync(options => (options.MaxConcurrentRequests, options.Timeouts.Pool) = (1, TimeSpan.FromMilliseconds(100)));
        var gate = new Gate();
        var running = await rig.HoldAsync(1, gate);

        await Assert.ThrowsAsync<PoolTimeoutException>(() => new ChatClient("gpt-4o-mini", new ApiKeyCredential("any"), OpenAi(rig)).CompleteChatAsync("Hello"));

        Assert.Equal(2, rig.Stats.TotalRequests);   // the held one and one attempt
        gate.Open();
        await rig.DoneAsync(running);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task OpenAI_left_in_mid_stream_stops_the_server_and_keeps_the_connection(bool cancelled)
    {
        await using var rig = await Rig.StartAsync(mock: new() { Tokens = 1_000_000, TokenGap = TimeSpan.FromMilliseconds(2) });
        using var stop = new CancellationTokenSource();
        var chat = new ChatClient("gpt-4o-mini", new ApiKeyCredential("any"), OpenAi(rig));
        var stream = LeaveAsync();

        if (cancelled)
        {
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => stream);
        }

        await stream.ContinueWith(_ => { }, TaskScheduler.Default);
        await rig.MockAsync(counters => counters is { AbortedRequests: 1, StreamsOpen: 0, ConnectionsOpen: 1 });
        await rig.StatsAsync(stats => stats is { Active: 0, Idle: 1 });

        async Task LeaveAsync()
        {
            await foreach (var _ in chat.CompleteChatStreamingAsync([new UserChatMessage("Hello")], cancellationToken: stop.Token))
            {
                if (!cancelled)
                {
                    break;
                }

                await stop.CancelAsync();
            }
        }
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_hundred_OpenAI_streams_at_once_ride_at_most_eight_connections()
    {
        await using var rig = await Rig.StartAsync(mock: new() { TokenGap = TimeSpan.FromMilliseconds(5) });
        var chat = new ChatClient("gpt-4o-mini", new ApiKeyCredential("any"), OpenAi(rig));

        var texts = await Task.WhenAll(Enumerable.Range(0, 100).Select(_ => StreamAsync(chat)));

        Assert.All(texts, text => Assert.Equal(Expected, text));
        Assert.InRange(rig.Counters.ConnectionsAccepted, 1, 8);
        Assert.Equal((100L, 0L), (rig.Counters.RequestsCompleted, rig.Counters.AbortedRequests));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Anthropic_completes_streams_retries_and_can_be_cancelled_on_one_connection()
    {
        await using var rig = await Rig.StartAsync(mock: new()
        {
            RecordRequests = true,
            RequiredApiKey = "right-key",
            OnRequest = request => request.Sequence switch
            {
                1 => new MockReply { Status = 429, RetryAfter = TimeSpan.FromMilliseconds(20) },
                4 => new MockReply { Tokens = 1_000_000, TokenGap = TimeSpan.FromMilliseconds(2) },
                _ => null,
            },
        });
        using (var client = new AnthropicClient { ApiKey = "right-key", BaseUrl = rig.Mock.BaseAddress.ToString(), HttpClient = rig.Pool.CreateClient() })
        {
            var message = await client.Messages.Create(Hello, Rig.Ct);
            Assert.True(message.Content[0].TryPickText(out var whole));
            var text = new StringBuilder();
            await foreach (var update in client.Messages.CreateStreaming(Hello, Rig.Ct))
            {
                if (update.TryPickContentBlockDelta(out var delta) && delta.Delta.TryPickText(out var piece))
                {
                    text.Append(piece.Text);
                }
            }

            using var stop = new CancellationTokenSource();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
            {
                await foreach (var _ in client.Messages.CreateStreaming(Hello, stop.Token))
                {
                    await stop.CancelAsync();
                }
            });

            Assert.Equal((Expected, Expected), (whole.Text, text.ToString()));
        }

        await rig.MockAsync(counters => counters is { AbortedRequests: 1, StreamsOpen: 0 });
        Assert.Equal([429, 200, 200], rig.Mock.GetRequests().Take(3).Select(request => request.Status));
        await rig.CallAsync(Calls.Chat(false, ("x-api-key", "right-key")));   // the SDK's client was disposed, the pool was not
        await AssertRodeHttp2Async(rig, 5);
    }

    static OpenAIClientOptions OpenAi(Rig rig) => new() { Endpoint = new Uri(rig.Mock.BaseAddress, "v1"), Transport = new HttpClientPipelineTransport(rig.Client) };

    static async Task<string> StreamAsync(ChatClient chat)
    {
        var text = new StringBuilder();
        await foreach (var update in chat.CompleteChatStreamingAsync("Hello"))
        {
            text.Append(string.Concat(update.ContentUpdate.Select(part => part.Text)));
        }

        return text.ToString();
    }

    static async Task AssertRodeHttp2Async(Rig rig, int requests)
    {
        await rig.QuietAsync();
        Assert.Equal(requests, rig.Counters.Requests);
        Assert.All(rig.Mock.GetRequests(), request => Assert.Equal("HTTP/2", request.Protocol));
        Assert.Equal((1L, requests - 1L), (rig.Counters.ConnectionsAccepted, rig.Stats.ReusedConnections));
    }
}
