using System.Globalization;

namespace Warmline.Cli.Demo;

/// <summary>
/// Chat beside batch: first a backlog of batch calls holds all it may, and chat comes after it; then streams flood, and batch has to go on.
/// </summary>
internal sealed class LanesDemo : ParallelDemo
{
    const int Places = 40, Reserve = 10;
    const int Stream = 0, Batch = 1;

    const int BatchCalls = 1_000, ChatCalls = 80;
    const int FloodCalls = 240, BesideCalls = 120;

    /// <summary>A batch call of 5 s, and a chat of as long.</summary>
    const int Scale = 25;

    static readonly TimeSpan Hold = TimeSpan.FromSeconds(5) / Scale;

    readonly TimeSpan _roundTrip;
    readonly Tracker[] _trackers;
    readonly SharingWay?[] _running;

    public LanesDemo(TimeSpan roundTrip, TimeProvider time)
        : base(time)
    {
        _roundTrip = roundTrip;
        _running = new SharingWay?[Ways.Count];
        _trackers = [.. Ways.Select((way, i) => new Tracker(way.Title, BatchCalls + ChatCalls + FloodCalls + BesideCalls, time, () => Now(i)))];
    }

    public override string Name => "lanes";

    public override string Head =>
        $"{Places} connections, {Reserve} of them for streams. First {BatchCalls} batch calls hold all they may, then {ChatCalls} chats come, one every {DemoText.Time(ChatGap)}, so that about {Load} run at a time: fewer than the reserve. "
        + $"After that {FloodCalls} streams at once, and {BesideCalls} batch calls behind them. A call takes {DemoText.Time(Hold)} for 5 s in life (scale 1:{Scale}) and a round trip of {DemoText.Time(_roundTrip)}. Real sockets, real TLS, no key needed.";

    public override IReadOnlyDictionary<string, object> Conditions => new Dictionary<string, object>
    {
        ["places"] = Places, ["reserve"] = Reserve, ["batchCalls"] = BatchCalls, ["chatCalls"] = ChatCalls, ["chatGapMs"] = ChatGap.TotalMilliseconds, ["chatLoad"] = Load,
        ["floodCalls"] = FloodCalls, ["besideCalls"] = BesideCalls, ["callMs"] = Hold.TotalMilliseconds, ["scale"] = Scale, ["roundTripMs"] = _roundTrip.TotalMilliseconds, ["protocol"] = "HTTP/1.1",
    };

    public override string Method =>
        $"all ways run at the same time over HTTP/1.1, each at a server of its own, its connections opened before. \".NET default\" is one HttpClient with MaxConnectionsPerServer = {Places}; \"two pools\" are two, with {Reserve} for streams "
        + $"and {Places - Reserve} for batch; Warmline has MaxConnections = {Places} and a lane with Reserve = {Reserve}. A wait counts from the call to its head at the server, less half a round trip, for every way alike. "
        + $"Unused places are averaged over the time in which somebody waited. Client and provider share this process and its {Environment.ProcessorCount} processors.";

    public override string ReadOn => "`ConnectionPoolOptions.Lanes` sets this up in your own pool.";

    public override IReadOnlyList<ParallelWay> Ways { get; } =
        [new("dotnet-default", ".NET default", false), new("two-pools", "two pools", false), new("warmline", "Warmline", true)];

    protected override IReadOnlyList<Tracker> WayTrackers => _trackers;

    /// <summary>Chats at one time when none waits.</summary>
    static int Load => Reserve / 2;

    TimeSpan ChatGap => TimeSpan.FromMilliseconds(Math.Ceiling((Hold + _roundTrip).TotalMilliseconds / Load));

    protected override async Task<ParallelResult> MeasureAsync(CancellationToken stop)
    {
        var chat = await Task.WhenAll(Ways.Select((_, way) => RunAsync(way, StarveAsync, stop)));
        var flood = await Task.WhenAll(Ways.Select((_, way) => RunAsync(way, FloodAsync, stop)));
        var (wait, rate) = (Figure("chatWaitP99", "  chat waited, p99", chat, run => ShareLedger.Percentile(run.Ledger.Waits(Stream), 0.99), true), Figure("batchPerSecond", "  batch calls a second", chat, run => run.Ledger.Throughput(Batch)));
        var (idle, first) = (Figure("floodUnused", "  places unused meanwhile", flood, run => run.Ledger.Unused(Places)), Figure("floodBatchFirst", "  batch: first place after", flood, run => run.Ledger.FirstAfter(Batch), true));
        return new ParallelResult
        {
            Figures =
            [
                new("", "batch first, then chat", []),
                Figure("chatWaitP50", "  chat waited, p50", chat, run => ShareLedger.Percentile(run.Ledger.Waits(Stream), 0.50), true),
                wait,
                Figure("chatPoolWaitP50", "  by the pool's clock, p50", chat, run => ShareLedger.Percentile(run.Ledger.PoolWaits(Stream), 0.50), true),
                Figure("chatPoolWaitP99", "  by the pool's clock, p99", chat, run => ShareLedger.Percentile(run.Ledger.PoolWaits(Stream), 0.99), true),
                rate,
                Figure("chatUnused", "  places unused meanwhile", chat, run => run.Ledger.Unused(Places)),
                Figure("chatFailures", "  calls failed", chat, run => run.Failures),
                new("", "streams flood, batch too", []),
                first,
                Figure("floodBatchDone", "  batch: done after", flood, run => run.Ledger.DoneAfter(Batch)),
                Figure("floodStreamsDone", "  streams: done after", flood, run => run.Ledger.DoneAfter(Stream)),
                idle,
                Figure("floodFailures", "  calls failed", flood, run => run.Failures),
            ],
            Charts = [("Chat's wait for a place, p99, behind batch (shorter is better)", wait), ("Time until all are answered in the flood (shorter is better)", Figure("floodDone", "", flood, run => run.Ledger.Duration))],
            Sparks = [(Title("Places in use over time: batch, then chat", chat), Rows("chat", chat)), (Title("Places in use over time: streams flood, batch too", flood), Rows("flood", flood))],
            Sentences = [.. Sentences(chat, flood)],
        };
    }

    static IEnumerable<string> Sentences(Run[] chat, Run[] flood)
    {
        var waits = chat.Select(run => ShareLedger.Percentile(run.Ledger.Waits(Stream), 0.99) ?? TimeSpan.Zero).ToArray();
        yield return Line($"Behind {BatchCalls} batch calls the p99 of chat's wait was {DemoText.Time(waits[0])} in .NET's handler, {DemoText.Time(waits[1])} with two pools and {DemoText.Time(waits[2])} in Warmline; in life {Scale} times as long.");
        yield return Line($"In the flood batch got its first place after {DemoText.Time(flood[0].Ledger.FirstAfter(Batch))}, {DemoText.Time(flood[1].Ledger.FirstAfter(Batch))} and {DemoText.Time(flood[2].Ledger.FirstAfter(Batch))}; all was answered after {DemoText.Time(flood[0].Ledger.Duration)}, {DemoText.Time(flood[1].Ledger.Duration)} and {DemoText.Time(flood[2].Ledger.Duration)}.");
        yield return Line($"A reserve is never lent, as a stream that borrowed it would keep it for minutes: while batch waits, what chat leaves of its {Reserve} places is idle in Warmline as with two pools. What nobody reserves everybody may have: two pools left {flood[1].Ledger.Unused(Places):0.#} places idle in the flood while somebody waited, Warmline {flood[2].Ledger.Unused(Places):0.#}.");
    }

    async Task<Run> RunAsync(int number, Func<SharingWay, int, CancellationToken, Task> load, CancellationToken stop)
    {
        var server = await StartServerAsync(_roundTrip, false, options => options.RecordRequests = true, stop);
        await using var way = number switch
        {
            0 => SharingWay.Platform(server, 2, Places, Time),
            1 => SharingWay.PoolPerGroup(server, [Reserve, Places - Reserve], null, Time),
            _ => SharingWay.Pool(
                server, Places,
                options => (options.Lanes["stream"], options.Lanes["batch"]) = (new LaneOptions { Reserve = Reserve }, new LaneOptions()),
                [new PoolRequestOptions { Lane = "stream" }, new PoolRequestOptions { Lane = "batch" }], Time),
        };
        await way.OpenAsync([Reserve, Places - Reserve], _roundTrip, stop);
        _running[number] = way;
        await load(way, number, stop);
        var ledger = await way.LedgerAsync(_roundTrip, stop);
        _running[number] = null;
        return new Run(ledger, way.Failures);
    }

    async Task StarveAsync(SharingWay way, int number, CancellationToken stop)
    {
        var calls = Enumerable.Range(0, BatchCalls).Select(_ => way.CallAsync(Batch, Hold, false, _trackers[number], stop)).ToList();
        await HoldsAllAsync(way, Batch, stop);
        var start = Time.GetTimestamp();
        for (var i = 0; i < ChatCalls; i++)
        {
            // Each at its time, whatever became of those before.
            var wait = (ChatGap * i) - Time.GetElapsedTime(start);
            await Task.Delay(wait > TimeSpan.Zero ? wait : TimeSpan.Zero, Time, stop);
            calls.Add(way.CallAsync(Stream, Hold, true, _trackers[number], stop));
        }

        await Task.WhenAll(calls);
    }

    async Task FloodAsync(SharingWay way, int number, CancellationToken stop)
    {
        var streams = Enumerable.Range(0, FloodCalls).Select(_ => way.CallAsync(Stream, Hold, true, _trackers[number], stop)).ToArray();
        await HoldsAllAsync(way, Stream, stop);
        await Task.WhenAll([.. streams, .. Enumerable.Range(0, BesideCalls).Select(_ => way.CallAsync(Batch, Hold, false, _trackers[number], stop))]);
    }

    /// <summary>Until a group that floods holds as much as it gets: nothing was added for a round trip.</summary>
    async Task HoldsAllAsync(SharingWay way, int group, CancellationToken stop)
    {
        for (var (before, now) = (-1, 0); now == 0 || now != before; (before, now) = (now, way.Held(group)))
        {
            await Task.Delay(_roundTrip / 2 + TimeSpan.FromMilliseconds(10), Time, stop);
        }
    }

    string? Now(int number) => _running[number] is { } way
        ? Line($"streams hold {way.Held(Stream)}, {way.Waiting(Stream)} wait; batch holds {way.Held(Batch)}, {way.Waiting(Batch)} wait")
        : null;

    IReadOnlyList<SparkRow> Rows(string key, Run[] runs) =>
    [
        .. from way in Enumerable.Range(0, runs.Length)
           from lane in new[] { (Group: Stream, Name: "streams"), (Group: Batch, Name: "batch") }
           select new SparkRow(way, $"{key}{(lane.Group == Stream ? "Streams" : "Batch")}Held", ", " + lane.Name, runs[way].Ledger.Over(Columns, lane.Group), Line($"most {runs[way].Ledger.Peak(lane.Group)}")),
    ];

    static string Title(string what, Run[] runs) => Line($"{what} ({Columns} columns for each way's own time: {string.Join(", ", runs.Select(run => DemoText.Time(run.Ledger.Duration)))})");

    static ParallelFigure Figure<T>(string key, string label, Run[] runs, Func<Run, T> value, bool apart = false) => new(key, label, [.. runs.Select(run => (object?)value(run))], "-", apart);

    static string Line(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    const int Columns = 40;

    sealed record Run(ShareLedger Ledger, int Failures);
}
