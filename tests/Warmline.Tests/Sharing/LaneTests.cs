using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Sharing;

/// <summary>Chat beside batch: neither starves, and what is free is used by who may. Each step waits for the pool's figures; nothing here depends on how long something takes.</summary>
public sealed class LaneTests
{
    const int Places = 40, Reserve = 10;

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Chat_below_its_reserve_never_waits_behind_batch(bool http2)
    {
        var calls = await StartAsync(http2);
        await using var rig = calls.Rig;
        calls.Start(1_000, "batch");
        Assert.Equal((Places - Reserve, 970), (calls.Lane("batch").Active, calls.Lane("batch").Queued));

        for (var round = 0; round < 10; round++)
        {
            // Granted in the moment in which it asks: no batch call has ended, and none of these is ever seen to wait.
            var chats = new List<HeldCall>();
            for (var i = 0; i < Reserve; i++)
            {
                chats.Add(calls.Start("stream"));
                Assert.Equal((i + 1, 0), (calls.Lane("stream").Active, calls.Lane("stream").Queued));
            }

            await calls.SentAsync();
            foreach (var chat in chats)
            {
                await calls.EndAsync(chat);
                Assert.Equal(Places - Reserve, calls.Lane("batch").Active);   // the reserve is not lent meanwhile
            }
        }

        Assert.Equal(10 * Reserve, calls.Ended);   // all of them chats
        Assert.Equal(970, calls.Lane("batch").Queued);
        await calls.EndAllAsync();
        Assert.Equal((Places, 1_100L), (rig.Stats.PeakActive, rig.Counters.RequestsCompleted));
        Assert.InRange(rig.Counters.PeakStreams, 1, Places);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Streams_that_flood_cannot_stop_batch(bool http2)
    {
        var calls = await StartAsync(http2);
        await using var rig = calls.Rig;
        var streams = new Queue<HeldCall>(calls.Start(200, "stream"));
        Assert.Equal((Places, 160), (calls.Lane("stream").Active, calls.Lane("stream").Queued));   // alone it may have all
        await calls.SentAsync();
        calls.Start(50, "batch");
        Assert.Equal(50, calls.Lane("batch").Queued);

        // The lane with less beyond its reserve is next: 25 are 15 beyond the streams' reserve, as the 15 of batch are.
        for (var batch = 1; batch <= 15; batch++)
        {
            await calls.EndAsync(streams.Dequeue());
            Assert.Equal((Places - batch, batch), (calls.Lane("stream").Active, calls.Lane("batch").Active));
        }

        for (var i = 0; i < 20; i++)
        {
            await calls.EndAsync(calls.Running.First());
            Assert.Equal(Places, rig.Stats.Active);
            Assert.InRange(calls.Lane("batch").Active, 14, 16);
        }

        await calls.EndAllAsync();
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task What_nobody_reserves_is_never_idle_while_somebody_may_have_it(bool http2)
    {
        var calls = await StartAsync(http2);
        await using var rig = calls.Rig;
        var random = new Random(7);
        calls.Start(60, "batch");
        calls.Start(60, "stream");
        calls.Start(30);
        await calls.SentAsync();
        while (rig.Stats.Queued > 0)
        {
            // With anything but streams waiting only what the streams' reserve lacks is free; with streams waiting nothing is.
            var (free, kept) = (Places - rig.Stats.Active, Math.Max(0, Reserve - calls.Lane("stream").Active));
            Assert.Equal(calls.Lane("stream").Queued > 0 ? 0 : kept, free);
            var running = calls.Running.ToArray();
            await calls.EndAsync(running[random.Next(running.Length)]);
        }

        await calls.EndAllAsync();
        Assert.Equal((150L, 0L), (rig.Counters.RequestsCompleted, rig.Stats.Refused));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_ceiling_holds_its_own_lane_and_nobody_behind_it(bool http2)
    {
        var calls = await SharedCalls.StartAsync(http2, Places, options => options.Lanes["batch"] = new LaneOptions { Ceiling = 5 });
        await using var rig = calls.Rig;
        var batch = calls.Start(20, "batch");
        Assert.Equal((5, 15), (calls.Lane("batch").Active, calls.Lane("batch").Queued));

        calls.Start(Places - 5);

        Assert.Equal((Places, 15), (rig.Stats.Active, rig.Stats.Queued));
        Assert.All(rig.Pool.GetWaiters(), waiter => Assert.Equal(("batch", PoolRejectionReason.LaneCeiling), (waiter.Lane, waiter.Reason)));
        await calls.SentAsync();
        await calls.EndAsync(calls.Running.First(call => call.Lane.Length == 0));
        Assert.Equal((Places - 1, 15), (rig.Stats.Active, rig.Stats.Queued));   // a place is free, and not for batch
        Assert.All(rig.Pool.GetWaiters(), waiter => Assert.Equal(PoolRejectionReason.LaneCeiling, waiter.Reason));
        await calls.EndAsync(batch[0]);
        Assert.Equal((5, 14), (calls.Lane("batch").Active, calls.Lane("batch").Queued));
        await calls.EndAllAsync();
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Waiters_say_their_lane_their_tenant_and_what_they_lack()
    {
        var calls = await SharedCalls.StartAsync(true, 4, options =>
        {
            options.Lanes["stream"] = new LaneOptions { Reserve = 2 };
            options.Lanes["batch"] = new LaneOptions { Ceiling = 1 };
            options.Tenants.Named["small"] = new TenantOptions { MaxConcurrentRequests = 1 };
        });
        await using var rig = calls.Rig;
        calls.Start("batch", "a");
        calls.Start(null, "small");
        calls.Start("batch", "b", priority: 3);
        calls.Start(null, "small", priority: -2);
        calls.Start(null, "c");

        Assert.Equal(
            [("batch", "b", 3, PoolRejectionReason.LaneCeiling), ("", "small", -2, PoolRejectionReason.TenantLimit), ("", "c", 0, PoolRejectionReason.LaneReserve)],
            rig.Pool.GetWaiters().Select(waiter => (waiter.Lane, waiter.Tenant, waiter.Priority, waiter.Reason)).OrderByDescending(waiter => waiter.Priority == 0 ? -5 : waiter.Priority));
        calls.Start(2, "stream");
        Assert.Equal(PoolRejectionReason.MaxConcurrentRequests, rig.Pool.GetWaiters().Single(waiter => waiter.Tenant == "c").Reason);
        await calls.EndAllAsync();
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_full_queue_of_a_lane_refuses_its_own_and_says_so()
    {
        var calls = await SharedCalls.StartAsync(true, 2, options =>
        {
            options.Lanes["stream"] = new LaneOptions { Reserve = 1 };
            options.Lanes["batch"] = new LaneOptions { MaxQueueLength = 3 };
        });
        await using var rig = calls.Rig;
        calls.Start(4, "batch");
        Assert.Equal((1, 3), (calls.Lane("batch").Active, calls.Lane("batch").Queued));

        var error = await Assert.ThrowsAsync<PoolRejectedException>(() => rig.CallAsync(Calls.Chat().With(new PoolRequestOptions { Lane = "batch" })));

        Assert.Equal(PoolRejectionReason.LaneQueueFull, error.Reason);
        Assert.Contains("batch", error.Message);
        Assert.Equal((1L, 0L), (calls.Lane("batch").Refused, calls.Lane("stream").Refused));
        calls.Start(2, "stream");   // one at once, one waits: their queue is their own
        Assert.Equal((1, 1), (calls.Lane("stream").Active, calls.Lane("stream").Queued));
        await calls.EndAllAsync();
        Assert.Equal(6, rig.Counters.RequestsCompleted);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_lane_of_ceiling_0_is_refused_at_once()
    {
        var calls = await SharedCalls.StartAsync(true, 2, options => options.Lanes["batch"] = new LaneOptions { Ceiling = 0 });
        await using var rig = calls.Rig;

        var error = await Assert.ThrowsAsync<PoolRejectedException>(() => rig.CallAsync(Calls.Chat().With(new PoolRequestOptions { Lane = "batch" })));

        Assert.Equal((PoolRejectionReason.LaneCeiling, 0L), (error.Reason, rig.Counters.Requests));
        await rig.CallAsync();
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Priority_rules_inside_a_tenant_and_not_beyond_it()
    {
        var calls = await SharedCalls.StartAsync(true, 1, static _ => { });
        await using var rig = calls.Rig;
        var running = calls.Start(null, "a");
        await calls.SentAsync();
        var waiting = new[] { 0, 5, -3, 5, 10 }.Select(priority => calls.Start(null, "a", priority)).ToArray();
        var other = calls.Start(null, "b", priority: -10);

        var order = new List<HeldCall>();
        for (var i = 0; i <= waiting.Length; i++)
        {
            await calls.EndAsync(running);
            order.Add(running = calls.Running.Single());
        }

        Assert.Equal([waiting[4], waiting[1], waiting[3], waiting[0], waiting[2]], order.Where(call => call.Tenant == "a"));
        Assert.Same(other, order[0]);   // it was served less: nobody's priority is above another tenant's turn
        await calls.EndAllAsync();
    }

    static Task<SharedCalls> StartAsync(bool http2) => SharedCalls.StartAsync(http2, Places, options =>
        (options.Lanes["stream"], options.Lanes["batch"]) = (new LaneOptions { Reserve = Reserve }, new LaneOptions()));
}
