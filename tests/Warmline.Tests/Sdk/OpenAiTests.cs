using System.ClientModel;
using System.Text;
using OpenAI.Chat;
using OpenAI.Embeddings;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Sdk;

/// <summary>The OpenAI SDK, unchanged, on the pool.</summary>
public sealed class OpenAiTests
{
    [Fact(Timeout = Rig.Patience)]
    public async Task Calls_one_after_another_ride_one_connection()
    {
        await using var sdk = await SdkRig.StartAsync();
        var chat = sdk.Chat();

        for (var call = 0; call < 3; call++)
        {
            ChatCompletion completion = await chat.CompleteChatAsync(["Hello"], cancellationToken: Rig.Ct);
            Assert.Equal(SdkRig.Expected, completion.Content[0].Text);
        }

        await sdk.CheckAsync(requests: 3);
        Assert.Equal(2, sdk.Rig.Stats.ReusedConnections);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_stream_arrives_whole_and_leaves_its_connection_for_the_next()
    {
        await using var sdk = await SdkRig.StartAsync();

        for (var call = 0; call < 2; call++)
        {
            var text = new StringBuilder();
            await foreach (var update in sdk.Chat().CompleteChatStreamingAsync(["Hello"], cancellationToken: Rig.Ct))
            {
                text.Append(Text(update));
            }

            Assert.Equal(SdkRig.Expected, text.ToString());
        }

        await sdk.CheckAsync(requests: 2);
        Assert.Equal(0, sdk.Rig.Counters.AbortedRequests);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Synchronous_calls_complete_and_stream()
    {
        await using var sdk = await SdkRig.StartAsync();
        var chat = sdk.Chat();

        var (whole, streamed) = Synchronously();

        Assert.Equal(SdkRig.Expected, whole);
        Assert.Equal(SdkRig.Expected, streamed);
        await sdk.CheckAsync(requests: 2);

        (string Whole, string Streamed) Synchronously() =>
            (chat.CompleteChat("Hello").Value.Content[0].Text, string.Concat(chat.CompleteChatStreaming("Hello").Select(Text)));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Embeddings_come_whole()
    {
        await using var sdk = await SdkRig.StartAsync();

        OpenAIEmbeddingCollection embeddings = await sdk.Embeddings().GenerateEmbeddingsAsync(["one", "two", "three"], new() { Dimensions = 64 }, Rig.Ct);

        Assert.Equal(3, embeddings.Count);
        Assert.Equal(64, embeddings[2].ToFloats().Length);
        await sdk.CheckAsync(requests: 1);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Twenty_calls_at_once_need_three_connections_at_most()
    {
        await using var sdk = await SdkRig.StartAsync(mock => mock.ServiceTime = TimeSpan.FromMilliseconds(100));
        var chat = sdk.Chat();

        var texts = await Task.WhenAll(Enumerable.Range(0, 20).Select(async _ => (await chat.CompleteChatAsync(["Hello"], cancellationToken: Rig.Ct)).Value.Content[0].Text));

        Assert.All(texts, text => Assert.Equal(SdkRig.Expected, text));
        await sdk.CheckAsync(requests: 20, connections: 3);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task The_sdk_retries_429_itself_and_each_attempt_is_a_call_of_the_pool()
    {
        await using var sdk = await SdkRig.StartAsync();
        var http = sdk.Http(("x-mock-id", "retried"), ("x-mock-fail-first", "2"), ("x-mock-status", "429"), ("x-mock-retry-after", "0.02"));

        ChatCompletion completion = await sdk.Chat(http).CompleteChatAsync(["Hello"], cancellationToken: Rig.Ct);

        Assert.Equal(SdkRig.Expected, completion.Content[0].Text);
        Assert.Equal([429, 429, 200], sdk.Rig.Mock.GetRequests().Select(request => request.Status));
        await sdk.CheckAsync(requests: 3);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_wrong_key_is_the_sdks_own_error_and_keeps_the_connection()
    {
        await using var sdk = await SdkRig.StartAsync();

        var error = await Assert.ThrowsAsync<ClientResultException>(() => sdk.Chat(key: "wrong").CompleteChatAsync(["Hello"], cancellationToken: Rig.Ct));
        await sdk.Chat().CompleteChatAsync(["Hello"], cancellationToken: Rig.Ct);

        Assert.Equal(401, error.Status);
        Assert.Contains("invalid_api_key", error.Message, StringComparison.Ordinal);
        await sdk.CheckAsync(requests: 2);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task The_server_stops_generating_when_the_reader_of_a_stream_leaves(bool cancels)
    {
        await using var sdk = await SdkRig.StartAsync();
        var chat = sdk.Chat(sdk.Http(("x-mock-tokens", "1000000"), ("x-mock-token-gap-ms", "1")));
        using var leave = CancellationTokenSource.CreateLinkedTokenSource(Rig.Ct);

        var read = ReadAsync();

        if (cancels)
        {
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => read);
        }
        else
        {
            await read;
        }

        await sdk.Rig.MockAsync(counters => counters.AbortedRequests == 1);
        Assert.Equal(SdkRig.Expected, (await sdk.Chat().CompleteChatAsync(["Hello"], cancellationToken: Rig.Ct)).Value.Content[0].Text);
        await sdk.CheckAsync(requests: 2);   // the connection outlives the stream

        async Task ReadAsync()
        {
            var pieces = 0;
            await foreach (var update in chat.CompleteChatStreamingAsync(["Hello"], cancellationToken: leave.Token))
            {
                if (++pieces < 5)
                {
                    continue;
                }

                if (!cancels)
                {
                    break;
                }

                await leave.CancelAsync();
            }
        }
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_refusal_by_the_pool_is_not_retried()
    {
        await using var sdk = await SdkRig.StartAsync(pool: options => options.Timeouts.Pool = TimeSpan.FromMilliseconds(50));
        sdk.Rig.Pool.Pause();

        var error = await Assert.ThrowsAsync<PoolTimeoutException>(() => sdk.Chat().CompleteChatAsync(["Hello"], cancellationToken: Rig.Ct));

        Assert.Equal(PoolRejectionReason.Paused, error.Reason);
        Assert.Equal(1, sdk.Rig.Stats.TotalRequests);
        Assert.Equal(0, sdk.Rig.Counters.Requests);
        await sdk.Rig.QuietAsync();
    }

    static string Text(StreamingChatCompletionUpdate update) => string.Concat(update.ContentUpdate.Select(part => part.Text));
}
