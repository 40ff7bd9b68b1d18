using System.Globalization;
using Warmline.MockLlm;

namespace Warmline.Cli.Demo;

/// <summary>Streams that stop making progress in four ways: who notices, and when.</summary>
internal sealed class StallDemo : ParallelDemo
{
    /// <summary>Tokens that come before the stall.</summary>
    const int TokensBefore = 5;

    /// <summary>The pool's clocks for the demo, in place of minutes.</summary>
    static readonly TimeSpan FirstByte = TimeSpan.FromSeconds(1), Silence = TimeSpan.FromSeconds(1), Content = TimeSpan.FromSeconds(2);

    /// <summary>How long everybody is watched: more than twice the longest clock.</summary>
    static readonly TimeSpan Window = TimeSpan.FromSeconds(6);

    static readonly TimeSpan PingInterval = TimeSpan.FromMilliseconds(300);

    static readonly (string Key, string Label, MockReply Reply)[] Stalls =
    [
        ("noHeaders", "no headers ever", new() { DelayBeforeHeaders = Timeout.InfiniteTimeSpan }),
        ("silence", "silence after 5 tokens", new() { Fault = MockFault.Silence, FaultAfterTokens = TokensBefore }),
        ("pingsOnly", "only pings after 5 tokens", new() { Fault = MockFault.Silence, FaultAfterTokens = TokensBefore, PingInterval = PingInterval }),
        ("dribble", "one byte every 0.3 s", new() { DribbleBytes = 1, DribbleGap = PingInterval }),
    ];

    readonly TimeSpan _roundTrip;
    readonly Tracker[] _trackers;

    public StallDemo(TimeSpan roundTrip, TimeProvider time)
        : base(time)
    {
        _roundTrip = roundTrip;
        _trackers = [.. Ways.Select(way => new Tracker(way.Title, Stalls.Length, time))];
    }

    public override string Name => "stall";

    public override string Head =>
        $"{Stalls.Length} streams that stop making progress, each in its own way; everybody is watched for {Window.TotalSeconds} s. Warmline's clocks are short for the demo: {FirstByte.TotalSeconds} s to the first byte, "
        + $"{Silence.TotalSeconds} s of silence and {Content.TotalSeconds} s without an event but pings, where 600 s, 120 s and 600 s are the defaults. Round trip {DemoText.Time(_roundTrip)}. Real sockets, real TLS, no key needed.";

    public override IReadOnlyDictionary<string, object> Conditions => new Dictionary<string, object>
    {
        ["firstByteMs"] = FirstByte.TotalMilliseconds, ["readMs"] = Silence.TotalMilliseconds, ["contentMs"] = Content.TotalMilliseconds, ["windowMs"] = Window.TotalMilliseconds,
        ["tokensBefore"] = TokensBefore, ["pingMs"] = PingInterval.TotalMilliseconds, ["roundTripMs"] = _roundTrip.TotalMilliseconds,
    };

    public override string Method =>
        "all streams of both ways run at the same time. A stall is noticed when the reader gets an error; the time counts from the last token, or from the request where there was none. "
        + "HttpClient.Timeout (100 s as it comes) ends only with the headers: a stream that has begun has no clock at all.";

    public override IReadOnlyList<ParallelWay> Ways { get; } = [new("dotnet-default", ".NET default", false), new("warmline", "Warmline", true)];

    protected override IReadOnlyList<Tracker> WayTrackers => _trackers;

    protected override async Task<ParallelResult> MeasureAsync(CancellationToken stop)
    {
        var seen = await Task.WhenAll(from way in Enumerable.Range(0, Ways.Count) from stall in Stalls select WatchAsync(way, stall.Reply, stop));
        var figures = Stalls.Select((stall, i) => new ParallelFigure(stall.Key, stall.Label, [.. Ways.Select((_, way) => (object?)seen[(way * Stalls.Length) + i].After)], "not noticed")).ToArray();
        return new ParallelResult
        {
            Figures = figures,
            Charts = [.. Stalls.Select((stall, i) => (stall.Label[..1].ToUpperInvariant() + stall.Label[1..] + ": noticed after", figures[i]))],
            Window = Window,
            Sentences = [.. Sentences(seen)],
        };
    }

    static IEnumerable<string> Sentences(Seen[] seen)
    {
        var (platform, pool) = (seen[..Stalls.Length], seen[Stalls.Length..]);
        yield return $".NET's handler noticed {platform.Count(s => s.After is not null)} of {Stalls.Length} stalls, Warmline {pool.Count(s => s.After is not null)}.";
        if (Stalls.Zip(pool).Where(pair => pair.Second.After is null).Select(pair => pair.First.Label).ToArray() is { Length: > 0 } missed)
        {
            yield return $"Not noticed by Warmline: {string.Join(", ", missed)}; `Timeouts.Total` bounds such a call.";
        }

        yield return string.Create(CultureInfo.InvariantCulture,
            $"Where every {PingInterval.TotalSeconds} s some bytes come, a clock of silence starts anew each time. `Timeouts.Content` counts whole events, and pings are none.");
        if (pool.LastOrDefault(s => s.Error is not null).Error is { } error)
        {
            yield return "What the caller reads: " + error;
        }
    }

    async Task<Seen> WatchAsync(int way, MockReply reply, CancellationToken stop)
    {
        await using var side = await StartAsync(
            Ways[way].IsPool, _roundTrip, stream: true, server => server.OnRequest = _ => reply, pool => (pool.Timeouts.FirstByte, pool.Timeouts.Read, pool.Timeouts.Content) = (FirstByte, Silence, Content), null, stop);
        using var limit = new CancellationTokenSource(Window + _roundTrip, Time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(stop, limit.Token);
        var since = Time.GetTimestamp();
        try
        {
            using var request = side.Endpoint.CreateRequest();
            using var response = await side.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, either.Token);
            if (reply.FaultAfterTokens is { } tokens)
            {
                await ReadAsync(response, tokens, either.Token);
            }

            since = Time.GetTimestamp();
            await ReadAsync(response, null, either.Token);
            return new Seen(null, null);
        }
        catch (Exception error) when (IsFailure(error))
        {
            stop.ThrowIfCancellationRequested();
            return limit.IsCancellationRequested ? new Seen(null, null) : new Seen(Time.GetElapsedTime(since), error.Message);
        }
        finally
        {
            _trackers[way].Advance();
        }
    }

    /// <summary>When it was noticed, and by what; null when it was not.</summary>
    readonly record struct Seen(TimeSpan? After, string? Error);
}
