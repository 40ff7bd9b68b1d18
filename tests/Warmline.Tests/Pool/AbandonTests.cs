using Warmline.MockLlm;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>Readers leave in mid-stream, by disposing or by cancelling a read: the server sees each of them leave, and nothing of it stays behind.</summary>
public sealed class AbandonTests
{
    const int Times = 1_000;

    [Theory(Timeout = 2 * Rig.Patience)]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public async Task The_server_sees_every_reader_leave(bool http2, bool byDisposing)
    {
        await using var rig = await Rig.StartAsync(http2, options => options.MaxIdleConnections = 8, new() { TokenGap = TimeSpan.FromMilliseconds(1) });
        var left = Times;
        await Task.WhenAll(Enumerable.Range(0, 8).Select(async _ =>
        {
            while (Interlocked.Decrement(ref left) >= 0)
            {
                await LeaveAsync(rig, byDisposing, reads: 1 + (left % 4));
            }
        }));

        await rig.MockAsync(counters => counters is { AbortedRequests: Times, StreamsOpen: 0, RequestsCompleted: 0 });
        await rig.QuietAsync();
        var stats = rig.Stats;
        Assert.Equal((Times, 0, 0), ((int)stats.TotalRequests, stats.Active, stats.Queued));
        Assert.True(http2 ? stats.NewConnections <= 8 + (Times / 40) : stats.NewConnections == Times, Rig.Describe(stats));   // HTTP/1.1 can only be left with its connection; on HTTP/2 servers count resets
        Assert.All(rig.Counters.Connections, connection => Assert.True(!http2 || connection.End is not MockConnectionEnd.Server, $"{connection}"));
        await rig.CallAsync();
    }

    static async Task LeaveAsync(Rig rig, bool byDisposing, int reads)
    {
        using var cancel = new CancellationTokenSource();
        using var response = await rig.SendAsync(Calls.Stream());
        var body = await response.Content.ReadAsStreamAsync(Rig.Ct);
        var buffer = new byte[64];
        for (var i = 0; i < reads; i++)
        {
            Assert.True(await body.ReadAsync(buffer, Rig.Ct) > 0);
        }

        if (!byDisposing)
        {
            await cancel.CancelAsync();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => body.CopyToAsync(Stream.Null, cancel.Token));
        }
    }
}
