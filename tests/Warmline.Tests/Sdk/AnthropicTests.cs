using System.Text;
using Anthropic.Exceptions;
using Anthropic.Models.Messages;
using Warmline.MockLlm;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Sdk;

/// <summary>The Anthropic SDK, unchanged, on the pool. It has no synchronous calls.</summary>
public sealed class AnthropicTests
{
    [Fact(Timeout = Rig.Patience)]
    public async Task Calls_one_after_another_ride_one_connection()
    {
        await using var sdk = await SdkRig.StartAsync();
        using var claude = sdk.Claude();

        for (var call = 0; call < 3; call++)
        {
            Assert.Equal(SdkRig.Expected, Text(await claude.Messages.Create(SdkRig.Hello, Rig.Ct)));
        }

        await sdk.CheckAsync(requests: 3);
        Assert.Equal(2, sdk.Rig.Stats.ReusedConnections);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_stream_arrives_whole_and_leaves_its_connection_for_the_next()
    {
        await using var sdk = await SdkRig.StartAsync();
        using var claude = sdk.Claude();

        for (var call = 0; call < 2; call++)
        {
            var text = new StringBuilder();
            var stopped = false;
            await foreach (var update in claude.Messages.CreateStreaming(SdkRig.Hello, Rig.Ct))
            {
                text.Append(update.TryPickContentBlockDelta(out var delta) && delta.Delta.TryPickText(out var piece) ? piece.Text : "");
                stopped |= update.TryPickStop(out _);
            }

            Assert.Equal((SdkRig.Expected, true), (text.ToString(), stopped));
        }

        await sdk.CheckAsync(requests: 2);
        Assert.Equal(0, sdk.Rig.Counters.AbortedRequests);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Twenty_calls_at_once_need_three_connections_at_most()
    {
        await using var sdk = await SdkRig.StartAsync(mock => mock.ServiceTime = TimeSpan.FromMilliseconds(100));
        using var claude = sdk.Claude();

        var texts = await Task.WhenAll(Enumerable.Range(0, 20).Select(async _ => Text(await claude.Messages.Create(SdkRig.Hello, Rig.Ct))));

        Assert.All(texts, text => Assert.Equal(SdkRig.Expected, text));
        await sdk.CheckAsync(requests: 20, connections: 3);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task The_sdk_retries_429_itself_and_each_attempt_is_a_call_of_the_pool()
    {
        await using var sdk = await SdkRig.StartAsync(mock => mock.OnRequest = request =>
            request.Attempt > 2 ? null : new MockReply { Status = 429, Headers = new Dictionary<string, string> { ["retry-after-ms"] = "20" } });
        using var claude = sdk.Claude(sdk.Http(("x-mock-id", "retried")));

        var message = await claude.Messages.Create(SdkRig.Hello, Rig.Ct);

        Assert.Equal(SdkRig.Expected, Text(message));
        Assert.Equal([429, 429, 200], sdk.Rig.Mock.GetRequests().Select(request => request.Status));
        await sdk.CheckAsync(requests: 3);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_wrong_key_is_the_sdks_own_error_and_keeps_the_connection()
    {
        await using var sdk = await SdkRig.StartAsync();
        using var stranger = sdk.Claude(key: "wrong");
        using var claude = sdk.Claude();

        await Assert.ThrowsAsync<AnthropicUnauthorizedException>(() => stranger.Messages.Create(SdkRig.Hello, Rig.Ct));
        await claude.Messages.Create(SdkRig.Hello, Rig.Ct);

        await sdk.CheckAsync(requests: 2);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task The_server_stops_generating_when_the_reader_of_a_stream_leaves(bool cancels)
    {
        await using var sdk = await SdkRig.StartAsync();
        using var endless = sdk.Claude(sdk.Http(("x-mock-tokens", "1000000"), ("x-mock-token-gap-ms", "1")));
        using var claude = sdk.Claude();
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
        Assert.Equal(SdkRig.Expected, Text(await claude.Messages.Create(SdkRig.Hello, Rig.Ct)));
        await sdk.CheckAsync(requests: 2);   // the connection outlives the stream

        async Task ReadAsync()
        {
            var pieces = 0;
            await foreach (var update in endless.Messages.CreateStreaming(SdkRig.Hello with { MaxTokens = 1_000_000 }, leave.Token))
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
        using var claude = sdk.Claude();
        sdk.Rig.Pool.Pause();

        var error = await Assert.ThrowsAsync<PoolTimeoutException>(() => claude.Messages.Create(SdkRig.Hello, Rig.Ct));

        Assert.Equal(PoolRejectionReason.Paused, error.Reason);
        Assert.Equal(1, sdk.Rig.Stats.TotalRequests);
        Assert.Equal(0, sdk.Rig.Counters.Requests);
        await sdk.Rig.QuietAsync();
    }

    static string Text(Message message)
    {
        Assert.True(message.Content[0].TryPickText(out var text));
        return text.Text;
    }
}
