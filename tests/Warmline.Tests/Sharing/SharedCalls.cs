using Warmline.MockLlm;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Sharing;

/// <summary>
/// Calls whose ends a test decides, one by one, so that what follows from each end can be told for sure. A call that has its place has sent half of its body; what the pool decided is read
/// from its figures, which change with the decision itself.
/// </summary>
internal sealed class SharedCalls(Rig rig)
{
    readonly List<HeldCall> _all = [];

    public Rig Rig => rig;

    public IEnumerable<HeldCall> Running => _all.Where(call => call is { IsSent: true, HasEnded: false });

    /// <summary>Calls that ended by themselves or by the test.</summary>
    public int Ended => _all.Count(call => call.Task.IsCompleted);

    /// <summary>A rig with so many places for all calls together: over HTTP/1.1 a connection each, all of them open, so that no call waits for a handshake.</summary>
    public static async Task<SharedCalls> StartAsync(bool http2, int places, Action<ConnectionPoolOptions> configure, TimeProvider? time = null)
    {
        var rig = await Rig.StartAsync(
            http2,
            options =>
            {
                (options.MaxConnections, options.MaxIdleConnections) = (http2 ? 8 : places, http2 ? 8 : places);
                options.MaxConcurrentRequests = places;
                (options.Timeouts.Pool, options.Timeouts.Write, options.Timeouts.FirstByte) = (Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
                configure(options);
            },
            new MockLlmOptions { RecordRequests = true }, time);
        if (rig.Pool.Engine.Settings.Sharing.Isolation is TenantIsolation.Leases)
        {
            await rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, http2 ? 8 : places, Rig.Ct);
        }

        return new SharedCalls(rig);
    }

    public HeldCall Start(string? lane = null, string? tenant = null, int priority = 0)
    {
        var call = new HeldCall(rig, lane, tenant, priority);
        _all.Add(call);
        return call;
    }

    public HeldCall[] Start(int count, string? lane = null, string? tenant = null) => [.. Enumerable.Range(0, count).Select(_ => Start(lane, tenant))];

    /// <summary>Completes when each call with a place has sent what shows it.</summary>
    public Task SentAsync() => Eventually.TrueAsync(() => Running.Count() == rig.Stats.Active, () => $"{Running.Count()} sent; {Rig.Describe(rig.Stats)}");

    /// <summary>Ends one call and returns when its place is given back. Whoever waited and may have it has it then.</summary>
    public async Task EndAsync(HeldCall call)
    {
        var ended = Returned;
        call.Release();
        await Eventually.TrueAsync(() => call.Task.IsCompleted && Returned == ended + 1, () => $"{call}; {Rig.Describe(rig.Stats)}");
        await call.Task;
        await SentAsync();
    }

    /// <summary>Lets everything end: what waits, too.</summary>
    public async Task EndAllAsync()
    {
        foreach (var call in _all)
        {
            call.Release();
        }

        await rig.DoneAsync([.. _all.Select(call => call.Task)]);
        await rig.QuietAsync();
    }

    public LaneStats Lane(string name) => rig.Stats.Lanes.Single(lane => lane.Lane == name);

    public int Held(string tenant) => rig.Stats.Tenants.SingleOrDefault(stats => stats.Tenant == tenant)?.Active ?? 0;

    /// <summary>Places that were given back.</summary>
    long Returned
    {
        get
        {
            var stats = rig.Stats;
            return stats.TotalRequests - stats.Queued - stats.Refused - stats.Active;
        }
    }

    /// <summary>1 when all hold the same, 1/n when one of n holds everything (Jain, Chiu, Hawe 1984).</summary>
    public static double Jain(IReadOnlyCollection<int> held) => Math.Pow(held.Sum(), 2) / (held.Count * held.Sum(places => (double)places * places));
}

internal sealed class HeldCall
{
    readonly Gate _gate = new();

    public HeldCall(Rig rig, string? lane, string? tenant, int priority)
    {
        (Lane, Tenant) = (lane ?? "", tenant ?? "");
        Task = rig.CallAsync(_gate.Hold(Calls.Chat(false, ("x-mock-id", $"{Tenant}/{Guid.NewGuid():N}"))).With(new PoolRequestOptions { Lane = lane, Tenant = tenant, Priority = priority }));
    }

    public string Lane { get; }

    public string Tenant { get; }

    public Task<string> Task { get; }

    /// <summary>It has its place and has begun to send.</summary>
    public bool IsSent => _gate.Held > 0;

    public bool HasEnded { get; private set; }

    public void Release()
    {
        HasEnded = true;
        _gate.Open();
    }

    public override string ToString() => $"call of '{Tenant}' in '{Lane}': {(IsSent ? "sent" : "waits")}, {Task.Status}";
}
