using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>The end of a pool: drained or disposed, with calls running, waiting and coming.</summary>
public sealed class DrainTests
{
    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_drain_waits_for_running_calls_and_refuses_waiting_and_new_ones(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2, options => options.MaxConcurrentRequests = 3);
        var gate = new Gate();
        var running = await rig.HoldAsync(3, gate);
        var waiting = rig.CallAsync();

        var drain = rig.Pool.DrainAsync(Timeout.InfiniteTimeSpan, Rig.Ct);

        Assert.Equal(PoolRejectionReason.Draining, (await Assert.ThrowsAsync<PoolRejectedException>(() => waiting)).Reason);
        var error = await Assert.ThrowsAsync<PoolRejectedException>(() => rig.CallAsync());
        Assert.Equal(PoolRejectionReason.Draining, error.Reason);
        Assert.Contains("the pool drains and takes no new requests", error.Message);
        Assert.Equal(PoolRejectionReason.Draining, (await Assert.ThrowsAsync<PoolRejectedException>(() => rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 1, Rig.Ct))).Reason);
        Assert.False(drain.IsCompleted);
        gate.Open();
        await rig.DoneAsync(running);

        Assert.Empty(await drain);
        Assert.Equal((0, 0), (rig.Stats.Active, rig.Stats.Connections));
        await rig.MockAsync(counters => counters is { ConnectionsOpen: 0, RequestsCompleted: 3, AbortedRequests: 0 });
        Assert.Contains(rig.Logs.Entries, entry => entry.Message.StartsWith("Draining: 3 requests in flight", StringComparison.Ordinal));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_drain_cuts_what_runs_at_its_deadline_and_says_what_it_was(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2);
        using var unread = await rig.SendAsync(Calls.Stream(gapMilliseconds: 20));
        using var read = await rig.SendAsync(Calls.Stream(gapMilliseconds: 20));
        var reading = ReadAsync(read);
        var waitingForHeaders = rig.CallAsync(Calls.Chat(false, ("x-mock-service-ms", "3600000")));
        await rig.MockAsync(counters => counters.StreamsOpen == 3);

        var cut = await rig.Pool.DrainAsync(TimeSpan.FromMilliseconds(50), Rig.Ct);

        Assert.Equal(3, cut.Count);
        Assert.All(cut, stream => Assert.Equal(rig.Mock.BaseAddress.GetLeftPart(UriPartial.Authority), stream.Origin));
        Assert.All(cut, stream => Assert.True(stream.Age >= TimeSpan.FromMilliseconds(50) && stream.ConnectionId > 0));
        foreach (var call in new Task[] { reading, waitingForHeaders, ReadAsync(unread) })
        {
            var error = await Assert.ThrowsAsync<PoolAbortedException>(() => call);
            Assert.Equal((PoolRejectionReason.Draining, "The drain's deadline was over while the call was running."), (error.Reason, error.Message));
        }

        await rig.MockAsync(counters => counters is { ConnectionsOpen: 0, AbortedRequests: 3 });
        await rig.QuietAsync();
        Assert.Contains(rig.Logs.Entries, entry => entry.Message == "Drain deadline reached: aborted 3 requests");
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_drain_of_minutes_tells_what_it_waits_for_and_ends_with_the_last_stream()
    {
        var time = new ManualTime();
        await using var rig = await Rig.StartAsync(true, options => (options.Timeouts.Write, options.Http2.PingDelay) = (Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan), time: time);
        await rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 1, Rig.Ct);
        var gate = new Gate();
        var running = await rig.HoldAsync(2, gate);
        var drain = rig.Pool.DrainAsync(TimeSpan.FromMinutes(5), Rig.Ct);
        for (var i = 1; i <= 3; i++)
        {
            await Eventually.TrueAsync(() => time.HasTimerIn(TimeSpan.FromSeconds(15)));
            time.Advance(TimeSpan.FromSeconds(15));
            await Eventually.TrueAsync(() => rig.Logs.Entries.Any(entry => entry.Message == $"Still draining: 2 requests in flight, the oldest running for {i * 15} s"), () => string.Join("\n", rig.Logs.Entries));
        }

        gate.Open();
        await rig.DoneAsync(running);
        Assert.Empty(await drain);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_drain_can_be_left_without_cutting_anything()
    {
        await using var rig = await Rig.StartAsync();
        var gate = new Gate();
        var running = await rig.HoldAsync(1, gate);
        using var leave = new CancellationTokenSource();
        var drain = rig.Pool.DrainAsync(Timeout.InfiniteTimeSpan, leave.Token);
        await leave.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => drain);
        gate.Open();
        await rig.DoneAsync(running);
        Assert.Empty(await rig.Pool.DrainAsync(Timeout.InfiniteTimeSpan, Rig.Ct));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Disposing_aborts_what_runs_dials_and_waits(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2, options => options.MaxConcurrentRequests = 2);
        using var response = await rig.SendAsync(Calls.Stream(gapMilliseconds: 20));
        var reading = ReadAsync(response);
        var headers = rig.CallAsync(Calls.Chat(false, ("x-mock-service-ms", "3600000")));
        await rig.MockAsync(counters => counters.StreamsOpen == 2);
        var waiting = rig.CallAsync();

        await rig.Pool.DisposeAsync();

        Assert.Equal(0, rig.Stats.Connections);
        Assert.Equal(PoolRejectionReason.Disposed, (await Assert.ThrowsAsync<PoolRejectedException>(() => waiting)).Reason);
        foreach (var call in new Task[] { reading, headers })
        {
            var error = await Assert.ThrowsAsync<PoolAbortedException>(() => call);
            Assert.Equal((PoolRejectionReason.Disposed, "The pool was disposed while the call was running."), (error.Reason, error.Message));
        }

        var late = await Assert.ThrowsAsync<PoolRejectedException>(() => rig.CallAsync());
        Assert.Equal(PoolRejectionReason.Disposed, late.Reason);
        Assert.Contains("the pool was disposed", late.Message);
        await rig.QuietAsync();
        await rig.MockAsync(counters => counters.ConnectionsOpen == 0);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_dial_under_way_does_not_hold_up_the_end()
    {
        await using var rig = await Rig.StartAsync(options => options.Timeouts.Connect = Timeout.InfiniteTimeSpan, new() { OnConnection = _ => new() { Act = MockLlm.MockConnectionAct.Silent } });
        var call = rig.CallAsync();
        await rig.MockAsync(counters => counters.ConnectionsOpen == 1);

        await rig.Pool.DisposeAsync();

        Assert.Equal(PoolRejectionReason.Disposed, (await Assert.ThrowsAsync<PoolRejectedException>(() => call)).Reason);
        await rig.MockAsync(counters => counters.ConnectionsOpen == 0);
        Assert.DoesNotContain(rig.Logs.Entries, entry => entry.Level >= Microsoft.Extensions.Logging.LogLevel.Warning);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_pool_can_be_ended_more_than_once()
    {
        await using var rig = await Rig.StartAsync();
        await rig.CallAsync();
        rig.Pool.Dispose();
        await rig.Pool.DisposeAsync();
        Assert.Empty(await rig.Pool.DrainAsync(TimeSpan.Zero, Rig.Ct));
        Assert.Equal(PoolRejectionReason.Disposed, (await Assert.ThrowsAsync<PoolRejectedException>(() => rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 1, Rig.Ct))).Reason);
    }

    // As a stream: what buffers a body wraps every IOException into an HttpRequestException.
    static async Task ReadAsync(HttpResponseMessage response) => await (await response.Content.ReadAsStreamAsync(Rig.Ct)).CopyToAsync(Stream.Null, Rig.Ct);
}
