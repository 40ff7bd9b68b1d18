using System.Globalization;
using Warmline.MockLlm;

namespace Warmline.Cli.Demo;

/// <summary>Pauses between calls, while the server closes idle connections at a fixed age, or the way to it forgets them.</summary>
internal sealed class StaleDemo : ParallelDemo
{
    /// <summary>When a connection has been idle for so long, it goes.</summary>
    static readonly TimeSpan Limit = TimeSpan.FromSeconds(4);

    /// <summary>
    /// What a client sets that knows the limit. .NET's handler looks for idle connections once a second at the most, so half of the limit
    /// is safe for it.
    /// </summary>
    static readonly TimeSpan Known = Limit / 2;

    /// <summary>A call without an answer for so long is given up.</summary>
    static readonly TimeSpan Patience = TimeSpan.FromSeconds(2);

    /// <summary>
    /// Shorter than the limit, longer, and into the round trip in which the server's FIN and the next request cross on their way.
    /// </summary>
    static readonly int[] PausesMs = [500, 1500, 2500, 3200, 3800, 3955, 3965, 3975, 3985, 4100, 4500, 5000];

    /// <summary>Calls of one client, with the same pause between each two.</summary>
    const int CallsEach = 3;

    readonly TimeSpan _roundTrip;
    readonly Tracker[] _trackers;

    public StaleDemo(TimeSpan roundTrip, TimeProvider time)
        : base(time)
    {
        _roundTrip = roundTrip;
        _trackers = [.. Ways.Select(way => new Tracker(way.Title, 2 * PausesMs.Length * CallsEach, time))];
    }

    public override string Name => "stale";

    public override string Head =>
        $"{PausesMs.Length} clients make {CallsEach} calls each, with pauses of {PausesMs.Min() / 1000.0} to {PausesMs.Max() / 1000.0} s. Some servers close connections that were idle for {Limit.TotalSeconds} s; "
        + $"at others the way to them forgets such connections, and nothing comes back. Round trip {DemoText.Time(_roundTrip)}; a call without an answer after {Patience.TotalSeconds} s is given up. "
        + "In life it is 5 s (uvicorn) to 400 s at servers, 60 to 350 s at load balancers and NAT. Real sockets, real TLS, no key needed.";

    public override IReadOnlyDictionary<string, object> Conditions => new Dictionary<string, object>
    {
        ["clients"] = PausesMs.Length, ["callsEach"] = CallsEach, ["pausesMs"] = PausesMs, ["limitMs"] = Limit.TotalMilliseconds, ["knownMs"] = Known.TotalMilliseconds,
        ["patienceMs"] = Patience.TotalMilliseconds, ["roundTripMs"] = _roundTrip.TotalMilliseconds,
    };

    public override string Method =>
        $"all clients run at the same time, each way at servers of its own. \".NET, tuned\" has PooledConnectionIdleTimeout = {Known.TotalSeconds} s; Warmline has IdleTimeout = {Known.TotalSeconds} s. "
        + "Lateness: the time of a call beyond one round trip, its first handshake too; for a call that failed or was given up, all its time.";

    public override IReadOnlyList<ParallelWay> Ways { get; } =
        [new("dotnet-default", ".NET default", false), new("dotnet-tuned", ".NET, tuned", false), new("warmline", "Warmline", true)];

    protected override IReadOnlyList<Tracker> WayTrackers => _trackers;

    protected override async Task<ParallelResult> MeasureAsync(CancellationToken stop)
    {
        var measured = await Task.WhenAll(from fault in new[] { MockFault.Fin, MockFault.Vanish } from way in Enumerable.Range(0, Ways.Count) select RunAsync(way, fault, stop));
        var (closing, forgetting) = (measured[..Ways.Count], measured[Ways.Count..]);
        var lateWhenClosed = Figure("closedLateness", "  lateness, summed", closing, m => m.Lateness);
        var lateWhenForgotten = Figure("forgottenLateness", "  lateness, summed", forgetting, m => m.Lateness);
        return new ParallelResult
        {
            Figures =
            [
                new("", "the server closes", []),
                Figure("closedFailures", "  calls failed", closing, m => m.Failures),
                Figure("closedHangs", "  calls given up", closing, m => m.Hangs),
                Figure("closedWorst", "  latest answer, by", closing, m => m.Worst),
                lateWhenClosed,
                Figure("closedConnections", "  connections", closing, m => m.Connections),
                new("", "the way forgets", []),
                Figure("forgottenFailures", "  calls failed", forgetting, m => m.Failures),
                Figure("forgottenHangs", "  calls given up", forgetting, m => m.Hangs),
                Figure("forgottenWorst", "  latest answer, by", forgetting, m => m.Worst),
                lateWhenForgotten,
                Figure("forgottenConnections", "  connections", forgetting, m => m.Connections),
            ],
            // Calls that were lost come first: a way that loses them soon has little lateness.
            Charts =
            [
                ("Calls lost (fewer is better)", new("lost", "", [.. closing.Zip(forgetting, (a, b) => (object?)(a.LostCalls + b.LostCalls))])),
                ("Lateness where the server closes (shorter is better)", lateWhenClosed with { Notes = Notes(closing) }),
                ("Lateness where the way forgets (shorter is better)", lateWhenForgotten with { Notes = Notes(forgetting) }),
            ],
            Sentences = [.. Sentences(closing, forgetting)],
        };
    }

    IEnumerable<string> Sentences(Lived[] closing, Lived[] forgetting)
    {
        const int Calls = 2 * CallsEach;
        for (var i = 0; i < Ways.Count; i++)
        {
            var lost = closing[i].LostCalls + forgetting[i].LostCalls;
            yield return string.Create(CultureInfo.InvariantCulture,
                $"{Ways[i].Title}: {lost} of {Calls * PausesMs.Length} calls lost, {DemoText.Time(closing[i].Lateness + forgetting[i].Lateness)} late in all, {closing[i].Connections + forgetting[i].Connections} connections.");
        }

        if (closing[0].LostCalls + forgetting[0].LostCalls > 0)
        {
            yield return ".NET's handler as it comes keeps an idle connection for 60 s: a request that meets the server's FIN on its way is lost with it, and a connection that was forgotten says nothing at all.";
        }
    }

    static string[] Notes(Lived[] ways) => [.. ways.Select(way => way.LostCalls switch { 0 => "", 1 => ", 1 call lost", _ => $", {way.LostCalls} calls lost" })];

    static ParallelFigure Figure<T>(string key, string label, Lived[] lanes, Func<Lived, T> value) => new(key, label, [.. lanes.Select(side => (object?)value(side))]);

    async Task<Lived> RunAsync(int way, MockFault fault, CancellationToken stop)
    {
        await using var endpoint = await StartServerAsync(_roundTrip, stream: false, server => server.OnConnection = _ => new() { IdleTimeout = Limit, IdleFault = fault }, stop);
        var lived = new Lived();
        await Task.WhenAll(PausesMs.Select(pause => PauseAsync(way, endpoint, TimeSpan.FromMilliseconds(pause), lived, stop)));
        return lived with { Connections = endpoint.Server.GetCounters().ConnectionsAccepted };
    }

    async Task PauseAsync(int way, SimulatedEndpoint endpoint, TimeSpan pause, Lived lived, CancellationToken stop)
    {
        await using var side = Open(
            Ways[way].IsPool, endpoint, false, pool => (pool.IdleTimeout, pool.Timeouts.FirstByte) = (Known, Patience),
            handler => handler.PooledConnectionIdleTimeout = way == 1 ? Known : handler.PooledConnectionIdleTimeout);
        for (var i = 0; i < CallsEach; i++)
        {
            if (i > 0)
            {
                await Task.Delay(pause, Time, stop);
            }

            await CallAsync(side, lived, stop);
            _trackers[way].Advance();
        }
    }

    async Task CallAsync(Side side, Lived lived, CancellationToken stop)
    {
        var started = Time.GetTimestamp();
        using var limit = new CancellationTokenSource(Patience, Time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(stop, limit.Token);
        try
        {
            using var request = side.Endpoint.CreateRequest();
            using var response = await side.Client.SendAsync(request, either.Token);
            lived.Answered(Time.GetElapsedTime(started) - _roundTrip);
        }
        catch (Exception error) when (IsFailure(error) && !stop.IsCancellationRequested)
        {
            lived.Lost(Time.GetElapsedTime(started), error is OperationCanceledException or TimeoutException);
        }
    }

    /// <summary>What the clients of one way lived through at one server.</summary>
    sealed record Lived
    {
        readonly Lock _lock = new();

        public int Failures { get; private set; }

        public int Hangs { get; private set; }

        /// <summary>Without an answer, for either reason.</summary>
        public int LostCalls => Failures + Hangs;

        public TimeSpan Worst { get; private set; }

        public TimeSpan Lateness { get; private set; }

        public long Connections { get; init; }

        public void Answered(TimeSpan late)
        {
            lock (_lock)
            {
                Worst = late > Worst ? late : Worst;
                Lateness += late;
            }
        }

        public void Lost(TimeSpan time, bool givenUp)
        {
            lock (_lock)
            {
                Lateness += time;
                (Failures, Hangs) = givenUp ? (Failures, Hangs + 1) : (Failures + 1, Hangs);
            }
        }
    }
}
