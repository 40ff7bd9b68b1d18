using System.Runtime.CompilerServices;
using Microsoft.Extensions.Logging;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>Responses that nobody reads: those that were let go are found and closed, those that are held are told, and a stream that makes progress is neither.</summary>
public sealed class LeakTests
{
    static readonly TimeSpan Threshold = TimeSpan.FromSeconds(60);

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, 0, true)]
    [InlineData(true, 1, false)]
    [InlineData(false, 0, false)]
    [InlineData(false, 1, true)]
    public async Task A_response_that_was_let_go_is_reported_and_its_stream_ends(bool http2, int reads, bool withStack)
    {
        await using var rig = await Rig.StartAsync(http2, options => options.LeakThreshold = withStack ? Threshold : null);
        await LetGoAsync(rig, reads);

        await CollectedAsync(() => rig.Stats.Faults.Leaked == 1);
        await rig.MockAsync(counters => counters is { StreamsOpen: 0, AbortedRequests: 1 });
        await rig.QuietAsync();
        var told = Assert.Single(rig.Logs.Entries, entry => entry.Message.Contains("garbage-collected before it was read", StringComparison.Ordinal));
        Assert.Equal(LogLevel.Warning, told.Level);
        Assert.Contains(withStack ? nameof(LetGoAsync) : "unknown; set LeakThreshold", told.Message, StringComparison.Ordinal);
        await rig.CallAsync();
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Whoever_reads_disposes_or_still_holds_leaks_nothing(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2);
        for (var i = 0; i < 20; i++)
        {
            await rig.CallAsync();
            (await rig.SendAsync(Calls.Stream(gapMilliseconds: 20))).Dispose();
        }

        await ReadToItsEndAsync(rig);
        await StopAtTheLastEventAsync(rig);
        await CollectedAsync(() => rig.Stats.Active == 0);
        using var held = await rig.SendAsync(Calls.Stream(gapMilliseconds: 20));
        var reading = ReadOnAsync(rig);
        await rig.StatsAsync(stats => stats.Active == 2);
        for (var i = 0; i < 5; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        Assert.Equal((0L, 2), (rig.Stats.Faults.Leaked, rig.Stats.Active));
        Assert.InRange(rig.Stats.Faults.Abandoned, 20, 21);
        Assert.False(reading.IsCompleted);
        await rig.Pool.DisposeAsync();
        await Assert.ThrowsAsync<PoolAbortedException>(() => reading);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_response_that_is_held_unread_is_reported_once_with_the_stack_of_its_call()
    {
        var time = new ManualTime();
        await using var rig = await Rig.StartAsync(true, options => options.LeakThreshold = Threshold, time: time);
        await rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 1, Rig.Ct);
        using var response = await rig.SendAsync(Calls.Stream(gapMilliseconds: 20));
        time.Advance(Threshold - TimeSpan.FromSeconds(1));
        Assert.DoesNotContain(rig.Logs.Entries, IsHeldReport);

        time.Advance(TimeSpan.FromSeconds(16));
        time.Advance(Threshold * 3);

        var told = Assert.Single(rig.Logs.Entries, IsHeldReport);
        Assert.Contains(nameof(Rig.SendAsync), told.Message, StringComparison.Ordinal);
        Assert.Equal((1, 0L), (rig.Stats.Active, rig.Stats.Faults.Leaked));   // it is told, not taken away
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_stream_of_ten_minutes_that_is_read_and_one_whose_reader_waits_are_not_reported()
    {
        var time = new ManualTime();
        await using var rig = await Rig.StartAsync(true, options => (options.LeakThreshold, options.Timeouts.Read, options.Http2.PingDelay) = (Threshold, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan), time: time);
        await rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 1, Rig.Ct);
        using var response = await rig.SendAsync(Calls.Stream());
        var body = await response.Content.ReadAsStreamAsync(Rig.Ct);
        using var silent = await rig.SendAsync(Calls.Stream(tokens: 2, gapMilliseconds: 3_600_000));
        var waiting = (await silent.Content.ReadAsStreamAsync(Rig.Ct)).CopyToAsync(Stream.Null, Rig.Ct);
        for (var i = 0; i < 20; i++)
        {
            Assert.True(await body.ReadAsync(new byte[100], Rig.Ct) > 0);
            time.Advance(TimeSpan.FromSeconds(30));
        }

        Assert.False(waiting.IsCompleted);
        Assert.DoesNotContain(rig.Logs.Entries, IsHeldReport);
        await rig.Pool.DisposeAsync();
        await Assert.ThrowsAnyAsync<IOException>(() => waiting);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task The_list_of_streams_tells_where_each_stands_and_for_how_long()
    {
        var time = new ManualTime();
        await using var rig = await Rig.StartAsync(true, time: time);
        await rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 1, Rig.Ct);
        var gate = new Gate();
        var sending = await rig.HoldAsync(1, gate);
        var waiting = rig.CallAsync(Calls.Chat(false, ("x-mock-service-ms", "3600000")));
        using var held = await rig.SendAsync(Calls.Stream(gapMilliseconds: 20));
        using var read = await rig.SendAsync(Calls.Stream(tokens: 2, gapMilliseconds: 3_600_000));
        var reading = (await read.Content.ReadAsStreamAsync(Rig.Ct)).CopyToAsync(Stream.Null, Rig.Ct);
        await Eventually.TrueAsync(() => PhasesOf(rig).SequenceEqual([StreamPhase.Sending, StreamPhase.Waiting, StreamPhase.Reading, StreamPhase.Held]), () => string.Join(" ", PhasesOf(rig)));
        time.Advance(TimeSpan.FromSeconds(20));

        foreach (var stream in rig.Pool.GetStreams())
        {
            var isSilent = stream.Phase is StreamPhase.Waiting or StreamPhase.Reading;   // no byte of that upload is held up
            Assert.True(stream.Events > 0 == stream.Phase is StreamPhase.Reading, $"{stream}");
            Assert.True(isSilent ? stream.Silence > TimeSpan.FromSeconds(15) && stream.Silence <= stream.Age : stream.Silence == TimeSpan.Zero, $"{stream}");
        }

        gate.Open();
        await rig.DoneAsync(sending);
        var cut = await rig.Pool.DrainAsync(TimeSpan.Zero, Rig.Ct);
        Assert.Equal([StreamPhase.Waiting, StreamPhase.Reading, StreamPhase.Held], cut.Select(stream => stream.Phase).Order());
        await Assert.ThrowsAnyAsync<IOException>(() => waiting);
        await Assert.ThrowsAnyAsync<IOException>(() => reading);
    }

    static IEnumerable<StreamPhase> PhasesOf(Rig rig) => rig.Pool.GetStreams().Select(stream => stream.Phase).Order();

    static bool IsHeldReport((LogLevel Level, string Message) entry) => entry.Message.Contains("has been held unread", StringComparison.Ordinal);

    [MethodImpl(MethodImplOptions.NoInlining)]
    static async Task LetGoAsync(Rig rig, int reads)
    {
        var response = await rig.SendAsync(Calls.Stream(gapMilliseconds: 20));
        var body = await response.Content.ReadAsStreamAsync(Rig.Ct);
        for (var i = 0; i < reads; i++)
        {
            Assert.True(await body.ReadAsync(new byte[10], Rig.Ct) > 0);
        }
    }

    /// <summary>Never disposed, as little of it as was left to dispose.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    static async Task ReadToItsEndAsync(Rig rig)
    {
        var body = await (await rig.SendAsync(Calls.Chat())).Content.ReadAsStreamAsync(Rig.Ct);
        while (await body.ReadAsync(new byte[1000], Rig.Ct) > 0)
        {
        }
    }

    /// <summary>As SDKs do; some do not even dispose.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    static async Task StopAtTheLastEventAsync(Rig rig)
    {
        var body = await (await rig.SendAsync(Calls.Stream(tokens: 3))).Content.ReadAsStreamAsync(Rig.Ct);
        var lines = new StreamReader(body);
        while (await lines.ReadLineAsync(Rig.Ct) is not "data: [DONE]")
        {
        }
    }

    /// <summary>Nothing but the pending read itself holds the response.</summary>
    static async Task ReadOnAsync(Rig rig) => await (await (await rig.SendAsync(Calls.Stream(tokens: 2, gapMilliseconds: 3_600_000))).Content.ReadAsStreamAsync(Rig.Ct)).CopyToAsync(Stream.Null, Rig.Ct);

    static Task CollectedAsync(Func<bool> isReported) => Eventually.TrueAsync(() =>
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        return isReported();
    });
}
