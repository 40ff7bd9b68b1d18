using System.Globalization;
using System.Text;

namespace Warmline.Cli.Demo;

/// <summary>
/// Five things that go wrong between a client and an API, each with the pool and with .NET's own handler at the same servers.
/// </summary>
internal sealed partial class FieldDemo : ParallelDemo
{
    static readonly string[] Names = ["dead address", "slow name", "HTTP/1.1 required", "slow upload", "odd content type"];

    /// <summary>
    /// When each begins. Their servers' certificates and their uploads take processor time, which is not to be in the times of the others.
    /// </summary>
    static readonly TimeSpan[] Begins = [TimeSpan.Zero, TimeSpan.FromSeconds(0.7), TimeSpan.FromSeconds(1.2), TimeSpan.FromSeconds(1.7), TimeSpan.FromSeconds(2.7)];

    readonly Tracker[] _trackers;

    public FieldDemo(TimeProvider time)
        : base(time)
    {
        int[] callsOfAWay = [2, 2, ManyCalls, 2, ManyCalls + 1];
        _trackers = [.. Names.Zip(callsOfAWay, (name, calls) => new Tracker(name, 2 * calls, time))];
    }

    public override string Name => "field";

    public override string Head =>
        "Five things that go wrong between a program and an API. Warmline and .NET's own handler (SocketsHttpHandler) meet each of them at the same servers. "
        + "They run side by side, for about 10 s. Real sockets, real TLS, no key and no network needed.";

    public override IReadOnlyDictionary<string, object> Conditions => new Dictionary<string, object>
    {
        ["connectTimeoutMs"] = FieldSide.ConnectTimeout.TotalMilliseconds, ["lookupMs"] = SlowLookup.TotalMilliseconds, ["calls"] = ManyCalls, ["uploadBytes"] = UploadBytes,
        ["readBytesPerSecond"] = ReadBytesPerSecond, ["writeMs"] = WriteSilence.TotalMilliseconds, ["contentMs"] = ContentSilence.TotalMilliseconds, ["patienceMs"] = Patience.TotalMilliseconds,
    };

    public override string Method => string.Create(CultureInfo.InvariantCulture,
        $"in each case both have one client and call the same servers. Connections are counted at the client. .NET's handler has a ConnectTimeout of {FieldSide.ConnectTimeout.TotalSeconds} s, which is Warmline's default too; by default it has none and would wait longer. Where nothing ends a call, the demo gives up after {Patience.TotalSeconds} s and shows \"still waiting\".");

    public override string ReadOn => "docs/errors.md says what a caller reads when something fails.";

    public override IReadOnlyList<ParallelWay> Ways { get; } = [new("warmline", "Warmline", true), new("dotnet", ".NET", false)];

    protected override IReadOnlyList<Tracker> WayTrackers => _trackers;

    protected override async Task<ParallelResult> MeasureAsync(CancellationToken stop)
    {
        Func<Tracker, CancellationToken, Task<ParallelSection>>[] scenes = [DeadAddressAsync, SlowNameAsync, Http11Async, SlowUploadAsync, OddTypeAsync];
        var sections = await Task.WhenAll(scenes.Select(async (scene, i) =>
        {
            await Task.Delay(Begins[i], Time, stop);
            _trackers[i].Start();
            var section = await scene(_trackers[i], stop);
            Finish(_trackers[i]);
            return section;
        }));
        return new ParallelResult
        {
            Figures = [.. sections.SelectMany(section => section.Figures)],
            Sections = sections,
            Charts = [],
            Sentences = [Verdict(sections)],
        };
    }

    static string Verdict(ParallelSection[] sections) => sections.Where(section => !section.IsAsItShould).Select(section => section.Title).ToArray() is { Length: > 0 } bad
        ? $"Warmline did not do what it should in {bad.Length} of {sections.Length} cases: {string.Join("; ", bad)}."
        : $"Warmline did what it should in all {sections.Length} cases.";

    /// <summary>Both ways at the same time, in the order of <see cref="Ways"/>.</summary>
    async Task<T[]> InBothAsync<T>(FieldStage stage, Func<bool, FieldSide, Task<T>> run, Action<ConnectionPoolOptions>? configure = null, TimeSpan firstLookup = default) =>
        await Task.WhenAll(Ways.Select(way => run(way.IsPool, stage.Open(way.IsPool, configure, firstLookup, Time))));

    async Task<FieldCall> CallAsync(FieldSide side, HttpRequestMessage request, Func<HttpResponseMessage, CancellationToken, Task>? read, TimeSpan patience, Tracker tracker, CancellationToken stop)
    {
        try
        {
            return await side.CallAsync(request, read ?? ToTheEndAsync, patience, Time, stop);
        }
        finally
        {
            tracker.Advance();
        }
    }

    static Task ToTheEndAsync(HttpResponseMessage response, CancellationToken stop) => response.Content.CopyToAsync(Stream.Null, stop);

    /// <summary>
    /// As SDKs read a stream: they leave at the last event, and the end of the body comes behind it. Fails when it does not come.
    /// </summary>
    static async Task ToTheLastEventAsync(HttpResponseMessage response, CancellationToken stop)
    {
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync(stop), Encoding.UTF8);
        while (await reader.ReadLineAsync(stop) is var line && line != "data: [DONE]")
        {
            if (line is null)
            {
                throw new IOException("The stream ended without its last event.");
            }
        }
    }

    static ParallelFigure Figure<T>(string key, string label, IEnumerable<T> values, string missing = "-") => new(key, label, [.. values.Select(value => (object?)value)], missing, Apart: true);

    /// <summary>What a caller reads, if anything.</summary>
    static IReadOnlyList<string> Said(string who, string? error) => error is null ? [] : [$"The caller of {who} reads: {error}"];
}
