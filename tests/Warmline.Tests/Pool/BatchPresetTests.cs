using System.Net;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>A job under the Batch preset, with streams beside it.</summary>
public sealed class BatchPresetTests
{
    [Theory(Timeout = Rig.Patience)]
    [InlineData(null)]
    [InlineData(40)]
    public async Task A_stream_finds_a_place_however_much_the_job_has_to_do(int? all)
    {
        // Over HTTP/1.1 a call is a connection: 80 in all.
        await using var rig = await Rig.StartHttp1Async(options =>
        {
            options.UsePreset(PoolPreset.Batch);
            options.MaxConcurrentRequests = all;
            options.Timeouts.Pool = Timeout.InfiniteTimeSpan;   // a stream without a place of its own would wait for ever
        });
        var gate = new Gate();
        var most = all ?? PoolPreset.Batch.MaxConnections;
        var calls = Enumerable.Range(0, most + 20).Select(_ => rig.CallAsync(gate.Hold(Calls.Chat()))).ToArray();
        await Eventually.TrueAsync(() => gate.Held == most - 8 && rig.Stats.Queued == 28, () => $"{gate.Held} held; {Rig.Describe(rig.Stats)}");

        var streams = new List<HttpResponseMessage>();   // held, or the garbage collector would end them
        for (var stream = 0; stream < 8; stream++)
        {
            streams.Add(await rig.SendAsync(Calls.Stream()));   // at once, each beside the others
            Assert.Equal(HttpStatusCode.OK, streams[^1].StatusCode);
        }

        Assert.Equal(8, rig.Pool.GetStreams().Count(open => open.Lane == "stream"));
        Assert.Equal(28, rig.Stats.Queued);
        gate.Open();
        streams.ForEach(static response => response.Dispose());
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_stream_has_the_clocks_of_its_lane_and_other_calls_the_pools()
    {
        var time = new ManualTime();
        await using var rig = await Rig.StartHttp1Async(options => options.UsePreset(PoolPreset.Batch), time: time);
        var stream = rig.SendAsync(Calls.Chat(stream: true, ("x-mock-service-ms", "36000000")));
        var chat = rig.SendAsync(Calls.Chat(stream: false, ("x-mock-service-ms", "36000000")));
        await Eventually.TrueAsync(() => rig.Counters.Requests == 2, () => Rig.Describe(rig.Stats));
        time.Advance(TimeSpan.FromSeconds(181));

        var error = await Assert.ThrowsAsync<RequestStalledException>(() => stream);
        Assert.Equal((StallPhase.FirstByte, TimeSpan.FromSeconds(180)), (error.Phase, error.Limit));
        Assert.False(chat.IsCompleted);
        time.Advance(TimeSpan.FromSeconds(420));
        error = await Assert.ThrowsAsync<RequestStalledException>(() => chat);
        Assert.Equal(TimeSpan.FromSeconds(600), error.Limit);
    }
}
