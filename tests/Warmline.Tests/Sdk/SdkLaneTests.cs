using OpenAI.Chat;
using Warmline.MockLlm;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Sdk;

/// <summary>The SDKs' calls find their lanes, and are given again where the server did not process them, without a line at the call.</summary>
public sealed class SdkLaneTests
{
    const int EndlessTokens = 1_000_000;

    [Fact(Timeout = Rig.Patience)]
    public async Task An_openai_stream_is_in_the_stream_lane()
    {
        await using var sdk = await SdkRig.StartAsync(pool: options => options.UseStreamAndBatchLanes());
        var chat = sdk.Chat(sdk.Http(("x-mock-tokens", $"{EndlessTokens}"), ("x-mock-token-gap-ms", "1")));
        await foreach (var _ in chat.CompleteChatStreamingAsync(["Hello"], cancellationToken: Rig.Ct))
        {
            Assert.Equal(("stream", ""), LaneAndTenant(sdk));
            Assert.Equal(1, sdk.Rig.Stats.Lanes.Single(lane => lane.Lane == "stream").Streaming);
            break;
        }
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task An_anthropic_stream_is_in_the_stream_lane_and_the_scope_names_its_tenant()
    {
        await using var sdk = await SdkRig.StartAsync(pool: options => options.UseStreamAndBatchLanes());
        using var claude = sdk.Claude(sdk.Http(("x-mock-tokens", $"{EndlessTokens}"), ("x-mock-token-gap-ms", "1")));
        using (PoolRequestOptions.Use(new() { Tenant = "acme" }))
        {
            await foreach (var _ in claude.Messages.CreateStreaming(SdkRig.Hello, Rig.Ct))
            {
                Assert.Equal(("stream", "acme"), LaneAndTenant(sdk));
                break;
            }
        }
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Calls_that_do_not_stream_are_in_no_lane_and_embeddings_are_batch()
    {
        (string, string) seen = default;
        SdkRig? rig = null;
        await using var sdk = rig = await SdkRig.StartAsync(mock => mock.OnRequest = _ =>
        {
            seen = LaneAndTenant(rig!);
            return null;
        }, options => options.UseStreamAndBatchLanes());
        using var claude = sdk.Claude();

        await sdk.Chat().CompleteChatAsync(["Hello"], cancellationToken: Rig.Ct);
        Assert.Equal(("", ""), seen);
        await sdk.Rig.QuietAsync();
        await sdk.Embeddings().GenerateEmbeddingsAsync(["one"], cancellationToken: Rig.Ct);
        Assert.Equal(("batch", ""), seen);
        await sdk.Rig.QuietAsync();
        await claude.Messages.Create(SdkRig.Hello, Rig.Ct);
        Assert.Equal(("", ""), seen);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public async Task A_call_that_the_server_did_not_process_is_sent_again_by_the_pool(bool openAi, bool refused)
    {
        SdkRig? rig = null;
        await using var sdk = rig = await SdkRig.StartAsync(mock =>
        {
            mock.OnRequest = request => refused && request.Sequence <= 2 ? new MockReply { Fault = MockFault.Refuse } : null;
            mock.OnConnection = _ => !refused && rig!.Rig.Mock.GetRequests().Count == 0 ? new MockConnectionPlan { GoAwayAfterRequests = 0, GoAwayAtRequest = 1 } : null;
        });
        var buffers = new CountingPool();
        sdk.Rig.Pool.Engine.Buffers = buffers;
        if (openAi)
        {
            ChatCompletion completion = await sdk.Chat().CompleteChatAsync(["Hello"], cancellationToken: Rig.Ct);
            Assert.Equal(SdkRig.Expected, completion.Content[0].Text);
        }
        else
        {
            using var claude = sdk.Claude();
            Assert.NotNull(await claude.Messages.Create(SdkRig.Hello, Rig.Ct));
        }

        await sdk.Rig.QuietAsync();
        Assert.Equal(1, sdk.Rig.Stats.TotalRequests);   // the SDK saw nothing of it
        Assert.Single(sdk.Rig.Mock.GetRequests(), request => request.Processed);
        Assert.InRange(sdk.Rig.Mock.GetRequests().Count, 2, 4);   // a slow dial has a second beside it, which may be told the same
        await buffers.AllBackAsync();
    }

    static (string Lane, string Tenant) LaneAndTenant(SdkRig sdk)
    {
        var stream = Assert.Single(sdk.Rig.Pool.GetStreams());
        return (stream.Lane, stream.Tenant);
    }
}
