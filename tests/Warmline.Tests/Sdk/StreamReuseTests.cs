using System.Text;
using Anthropic.Models.Messages;
using OpenAI.Chat;
using Warmline.Tests.Support;
using Xunit;
using HttpProtocols = Microsoft.AspNetCore.Server.Kestrel.Core.HttpProtocols;

namespace Warmline.Tests.Sdk;

/// <summary>The SDKs stop reading at the terminal event and dispose; the next call comes at once, and finds the connection.</summary>
public sealed class StreamReuseTests
{
    const int Many = 1_000;

    [Theory(Timeout = 2 * Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_thousand_streams_of_the_openai_sdk_ride_one_connection(bool http2)
    {
        await using var sdk = await StartAsync(http2);
        var chat = sdk.Chat();
        for (var call = 0; call < Many; call++)
        {
            var text = new StringBuilder();
            await foreach (var update in chat.CompleteChatStreamingAsync(["Hello"], cancellationToken: Rig.Ct))
            {
                text.Append(string.Concat(update.ContentUpdate.Select(part => part.Text)));
            }

            Assert.Equal(SdkRig.Expected, text.ToString());
        }

        await CheckAsync(sdk);
    }

    [Theory(Timeout = 2 * Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_thousand_streams_of_the_anthropic_sdk_ride_one_connection(bool http2)
    {
        await using var sdk = await StartAsync(http2);
        using var claude = sdk.Claude();
        for (var call = 0; call < Many; call++)
        {
            var stopped = false;
            await foreach (var part in claude.Messages.CreateStreaming(SdkRig.Hello, Rig.Ct))
            {
                stopped |= part.TryPickStop(out _);
            }

            Assert.True(stopped);
        }

        await CheckAsync(sdk);
    }

    static Task<SdkRig> StartAsync(bool http2) => SdkRig.StartAsync(mock => mock.Protocols = http2 ? HttpProtocols.Http1AndHttp2 : HttpProtocols.Http1);

    static async Task CheckAsync(SdkRig sdk)
    {
        await sdk.Rig.QuietAsync();
        Assert.Equal((1L, 1L, 0L, Many), (sdk.Rig.Counters.ConnectionsAccepted, sdk.Rig.Stats.NewConnections, sdk.Rig.Counters.AbortedRequests, sdk.Rig.Stats.TotalRequests));
    }
}
