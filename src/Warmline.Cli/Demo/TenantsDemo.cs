using System.Globalization;

namespace Warmline.Cli.Demo;

/// <summary>
/// Customers who share a pool: one who asks for ten times as much as each of nine others; three of different weight; fifty with a limit
/// each under a limit for all.
/// </summary>
internal sealed class TenantsDemo : ParallelDemo
{
    const int Places = 40, EachByHand = 10;
    const int Crowd = 10, LittleCalls = 40, BigCalls = 10 * LittleCalls;

    /// <summary>Divisible by the sum of the weights.</summary>
    const int WeightedPlaces = 35, WeightedCalls = 200;

    const int Many = 50, Busy = 10, BusyCalls = 60, QuietCalls = 10, ManyPlaces = 200, ManyEach = 10;
    const int Columns = 40;

    static readonly int[] Weights = [1, 2, 4];
    static readonly int[] ManyCalls = [.. Enumerable.Repeat(BusyCalls, Busy), .. Enumerable.Repeat(QuietCalls, Many - Busy)];

    static readonly TimeSpan Hold = TimeSpan.FromMilliseconds(100), ManyHold = TimeSpan.FromMilliseconds(400);

    readonly TimeSpan _roundTrip;
    readonly Tracker[] _trackers;
    readonly SharingWay?[] _running;
    int _phase;

    public TenantsDemo(TimeSpan roundTrip, TimeProvider time)
        : base(time)
    {
        _roundTrip = roundTrip;
        _running = new SharingWay?[Ways.Count];
        _trackers = [.. Ways.Select((way, i) => new Tracker(way.Title, BigCalls + ((Crowd - 1) * LittleCalls) + (Weights.Length * WeightedCalls) + ManyCalls.Sum(), time, () => Now(i)))];
    }

    public override string Name => "tenants";

    public override string Head =>
        $"Tenants share connections. First {Crowd} share {Places}: one makes {BigCalls} calls at once, the others {LittleCalls} each. Then three of weight {string.Join(", ", Weights)} share {WeightedPlaces}, each with {WeightedCalls} calls. "
        + $"Then {Many}, {Busy} of them with {BusyCalls} calls and the others with {QuietCalls}, share {ManyPlaces}, and none may have more than {ManyEach}. A call takes {DemoText.Time(Hold)} ({DemoText.Time(ManyHold)} for the {Many}) and a round trip of {DemoText.Time(_roundTrip)}. Real sockets, real TLS, no key needed.";

    public override IReadOnlyDictionary<string, object> Conditions => new Dictionary<string, object>
    {
        ["places"] = Places, ["tenants"] = Crowd, ["bigCalls"] = BigCalls, ["littleCalls"] = LittleCalls, ["weights"] = Weights, ["weightedPlaces"] = WeightedPlaces, ["weightedCalls"] = WeightedCalls,
        ["many"] = Many, ["manyBusy"] = Busy, ["manyBusyCalls"] = BusyCalls, ["manyQuietCalls"] = QuietCalls, ["manyPlaces"] = ManyPlaces, ["manyEach"] = ManyEach, ["callMs"] = Hold.TotalMilliseconds, ["manyCallMs"] = ManyHold.TotalMilliseconds,
        ["roundTripMs"] = _roundTrip.TotalMilliseconds, ["protocol"] = "HTTP/1.1",
    };

    public override string Method =>
        "all ways run at the same time over HTTP/1.1, each at a server of its own, its connections opened before; the calls of all tenants come in one mixed order, the same for every way. \".NET default\" is one HttpClient with as many connections as places. "
        + $"\"Pool each\" is an HttpClient and a SemaphoreSlim for each tenant ({EachByHand}, then {string.Join(", ", ByWeight())} by weight, then {ManyEach}) under one SemaphoreSlim for all. Warmline names the tenant at each client, with `Weight` and `MaxConcurrentRequests` where the others have limits. "
        + "Places are counted from the server's record, half a round trip before a call's head came to half a round trip after its last byte went; means and Jain's index are of the time in which every tenant had a call waiting and all places had been given back once: the first go to who comes first. "
        + $"Client and provider share this process and its {Environment.ProcessorCount} processors.";

    public override string ReadOn => "`ConnectionPoolOptions.Tenants` sets this up in your own pool.";

    public override IReadOnlyList<ParallelWay> Ways { get; } =
        [new("dotnet-default", ".NET default", false), new("pool-each", "pool each", false), new("warmline", "Warmline", true)];

    protected override IReadOnlyList<Tracker> WayTrackers => _trackers;

    protected override async Task<ParallelResult> MeasureAsync(CancellationToken stop)
    {
        var crowd = await PhaseAsync(
            new Load(Places, [BigCalls, .. Enumerable.Repeat(LittleCalls, Crowd - 1)], Hold, [.. Enumerable.Repeat(EachByHand, Crowd)], static _ => { }), stop);
        var weighted = await PhaseAsync(
            new Load(WeightedPlaces, [.. Weights.Select(_ => WeightedCalls)], Hold, ByWeight(), options =>
            {
                for (var i = 0; i < Weights.Length; i++)
                {
                    options.Tenants.Named[Tenant(i)] = new TenantOptions { Weight = Weights[i] };
                }
            }),
            stop);
        var many = await PhaseAsync(
            new Load(ManyPlaces, ManyCalls, ManyHold, [.. Enumerable.Repeat(ManyEach, Many)], static options => options.Tenants.MaxConcurrentRequests = ManyEach), stop);

        var (jain, done) = (Figure("crowdJain", "  Jain's index", crowd, run => Math.Round(ShareLedger.Jain(run.Held), 3)), Figure("crowdDone", "  all answered after", crowd, run => run.Ledger.Duration));
        return new ParallelResult
        {
            Figures =
            [
                new("", $"one of {Crowd} asks for 10x", []),
                Figure("crowdBig", "  places of the big one", crowd, run => Math.Round(run.Held[0], 1)),
                Figure("crowdLittle", "  of each other, mean", crowd, run => Math.Round(run.Held.Skip(1).Average(), 1)),
                jain,
                Figure("crowdLittleWait", "  others waited, p50", crowd, run => ShareLedger.Percentile([.. Enumerable.Range(1, Crowd - 1).SelectMany(run.Ledger.Waits).Order()], 0.5)),
                Figure("crowdUnused", "  places unused meanwhile", crowd, run => run.Ledger.Unused(Places)),
                done,
                Figure("crowdSockets", "  sockets", crowd, run => run.Sockets),
                new("", $"weights {string.Join(":", Weights)}", []),
                Figure("weightedShares", "  places", weighted, run => string.Join(":", run.Held.Select(held => Line($"{held:0.0}")))),
                Figure("weightedOff", "  off its share by, %", weighted, run => Math.Round(Off(run.Held), 1)),
                Figure("weightedUnused", "  places unused meanwhile", weighted, run => run.Ledger.Unused(WeightedPlaces)),
                new("", $"{Many} of {ManyEach} under {ManyPlaces}", []),
                Figure("manyPeakEach", "  most of one tenant", many, run => run.Most),
                Figure("manyPeak", "  most of all together", many, run => run.Ledger.Peak(null)),
                new("manyUnused", "  unused, though allowed", [.. many.Select((run, i) => (object?)run.Ledger.Unused(ManyPlaces, i == 0 ? int.MaxValue : ManyEach))]),
                Figure("manySockets", "  sockets", many, run => run.Sockets),
                Figure("failures", "calls failed, all phases", [.. crowd.Select((run, i) => run with { Failures = run.Failures + weighted[i].Failures + many[i].Failures })], run => run.Failures),
            ],
            Charts = [("Jain's index of the places held (1 is even, 0.1 is one who has all)", jain), ("Time until all calls of the first phase are answered (shorter is better)", done)],
            Sparks =
            [
                ($"Places held, one column a tenant, the big one first", [.. crowd.Select((run, i) => new SparkRow(i, "crowdHeld", "", run.Held, Line($"{run.Held[0]:0.0} and {run.Held.Skip(1).Min():0.0} to {run.Held.Skip(1).Max():0.0}")))]),
                (Line($"Places held over time, {Columns} columns for each way's own time"), [.. crowd.SelectMany((run, i) => new[]
                {
                    new SparkRow(i, "crowdBigOverTime", ", big", run.Ledger.Over(Columns, 0), DemoText.Time(run.Ledger.Duration)),
                    new SparkRow(i, "crowdOthersOverTime", ", the nine", run.Ledger.Over(Columns, [.. Enumerable.Range(1, Crowd - 1)]), ""),
                })]),
                ($"Places held by weight {string.Join(", ", Weights)}", [.. weighted.Select((run, i) => new SparkRow(i, "weightedHeld", "", run.Held, string.Join(" : ", run.Held.Select(held => Line($"{held:0.0}")))))]),
                ($"The most places of each of {Many}", [.. many.Select((run, i) => new SparkRow(i, "manyPeaks", "", [.. Enumerable.Range(0, Many).Select(tenant => (double)run.Ledger.Peak(tenant))], Line($"in all {run.Ledger.Peak(null)}")))]),
            ],
            Sentences = [.. Sentences(crowd, weighted, many)],
        };
    }

    static IEnumerable<string> Sentences(Run[] crowd, Run[] weighted, Run[] many)
    {
        yield return Line($"Of {Places} places the tenant with ten times the load held {crowd[0].Held[0]:0.0} in .NET's handler, {crowd[1].Held[0]:0.0} with a pool each and {crowd[2].Held[0]:0.0} in Warmline; Jain's index {ShareLedger.Jain(crowd[0].Held):0.000}, {ShareLedger.Jain(crowd[1].Held):0.000} and {ShareLedger.Jain(crowd[2].Held):0.000}.");
        yield return Line($"A pool each is fair by its limits, which bind also when nobody else asks: {crowd[1].Ledger.Unused(Places):0.#} places lay idle on average while calls waited (Warmline {crowd[2].Ledger.Unused(Places):0.#}), {weighted[1].Ledger.Unused(WeightedPlaces):0.#} with weights (Warmline {weighted[2].Ledger.Unused(WeightedPlaces):0.#}).");
        yield return Line($"Of the {Many} none held more than {many[1].Most} places with a pool each and {many[2].Most} in Warmline ({many[0].Most} in .NET's handler, which has no such limit), on {many[1].Sockets} and {many[2].Sockets} sockets.");
        if (Off(weighted[2].Held) > 2 || ShareLedger.Jain(crowd[2].Held) < 0.99)
        {
            yield return "Warmline did not share as it should in this run: was the machine busy?";
        }
    }

    static int[] ByWeight() => [.. Weights.Select(weight => WeightedPlaces * weight / Weights.Sum())];

    /// <summary>How far the one that is worst off or best off is from its share, in per cent of the share.</summary>
    static double Off(double[] held) => held.Sum() is 0 ? 100 : held.Select((places, i) => Math.Abs((places / held.Sum() * Weights.Sum() / Weights[i]) - 1) * 100).Max();

    static string Tenant(int number) => string.Create(CultureInfo.InvariantCulture, $"tenant-{number + 1}");

    async Task<Run[]> PhaseAsync(Load load, CancellationToken stop)
    {
        Interlocked.Increment(ref _phase);
        return await Task.WhenAll(Ways.Select((_, way) => RunAsync(way, load, stop)));
    }

    async Task<Run> RunAsync(int number, Load load, CancellationToken stop)
    {
        var tenants = load.Calls.Count;
        var server = await StartServerAsync(_roundTrip, false, options => options.RecordRequests = true, stop);
        await using var way = number switch
        {
            0 => SharingWay.Platform(server, tenants, load.Places, Time),
            1 => SharingWay.PoolPerGroup(server, load.Limits, load.Places, Time),
            _ => SharingWay.Pool(server, load.Places, load.Configure, [.. Enumerable.Range(0, tenants).Select(tenant => new PoolRequestOptions { Tenant = Tenant(tenant) })], Time),
        };

        // By hand each tenant has its connections; elsewhere they are everybody's, and each tenant opens its part. Not all at once under a
        // limit for all.
        var each = Enumerable.Range(0, tenants).Select(tenant => (load.Places / tenants) + (tenant < load.Places % tenants ? 1 : 0)).ToArray();
        await way.OpenAsync(number == 1 ? load.Limits : each, _roundTrip, stop);
        _running[number] = way;
        var order = load.Calls.SelectMany((calls, tenant) => Enumerable.Repeat(tenant, calls)).ToArray();
        new Random(1).Shuffle(order);
        await Task.WhenAll(order.Select(tenant => way.CallAsync(tenant, load.Hold, false, _trackers[number], stop)));
        var ledger = await way.LedgerAsync(_roundTrip, stop);
        _running[number] = null;
        return new Run(ledger, ledger.HeldWhileAllWaited(load.Places), way.Sockets, way.Failures);
    }

    string? Now(int number)
    {
        if (_running[number] is not { } way)
        {
            return null;
        }

        var tenants = Volatile.Read(ref _phase) switch { 1 => Crowd, 2 => Weights.Length, _ => Many };
        var held = Enumerable.Range(0, tenants).Select(way.Held).ToArray();
        return tenants == Many ? Line($"{held.Sum()} places in use, at most {held.Max()} of one tenant") : $"places by tenant: {string.Join(" ", held.Select(places => Line($"{places}")))}";
    }

    static ParallelFigure Figure<T>(string key, string label, Run[] runs, Func<Run, T> value) => new(key, label, [.. runs.Select(run => (object?)value(run))]);

    static string Line(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    /// <summary>What one phase asks for.</summary>
    sealed record Load(int Places, IReadOnlyList<int> Calls, TimeSpan Hold, IReadOnlyList<int> Limits, Action<ConnectionPoolOptions> Configure);

    sealed record Run(ShareLedger Ledger, double[] Held, long Sockets, int Failures)
    {
        /// <summary>The most places of one tenant.</summary>
        public int Most { get; } = Enumerable.Range(0, Held.Length).Max(tenant => Ledger.Peak(tenant));
    }
}
