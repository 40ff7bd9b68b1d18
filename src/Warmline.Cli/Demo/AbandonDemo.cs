using System.Globalization;

namespace Warmline.Cli.Demo;

/// <summary>
/// Readers who leave in the middle of a stream: how long the server goes on for nobody, and what is left of the connections.
/// </summary>
internal sealed class AbandonDemo : ParallelDemo
{
    const int TokensRead = 8;
    const int TokensAsked = 500;
    const string IdHeader = "x-mock-id";

    static readonly TimeSpan TokenGap = TimeSpan.FromMilliseconds(20);

    readonly int _calls;
    readonly TimeSpan _roundTrip;
    readonly Tracker[] _trackers;

    public AbandonDemo(int calls, TimeSpan roundTrip, TimeProvider time)
        : base(time)
    {
        (_calls, _roundTrip) = (calls, roundTrip);
        _trackers = [.. Ways.Select(way => new Tracker(way.Title, 2 * calls, time))];
    }

    public override string Name => "abandon";

    public override string Head =>
        $"{_calls} streams at once of {TokensAsked} tokens, one every {DemoText.Time(TokenGap)}; each reader leaves after {TokensRead} tokens, as when somebody closes a chat window. Then {_calls} more calls. "
        + $"Round trip {DemoText.Time(_roundTrip)}. Real sockets, real TLS, no key needed.";

    public override IReadOnlyDictionary<string, object> Conditions => new Dictionary<string, object>
    {
        ["calls"] = _calls, ["tokensRead"] = TokensRead, ["tokensAsked"] = TokensAsked, ["tokenGapMs"] = TokenGap.TotalMilliseconds, ["roundTripMs"] = _roundTrip.TotalMilliseconds,
    };

    public override string Method =>
        "both ways run at the same time, each at a server of its own. When a stream ended, and how many tokens were generated for it, is the server's own record; when its reader left is noted by the reader, "
        + "before the response is disposed. Half a round trip is the least that the news can take.";

    public override IReadOnlyList<ParallelWay> Ways { get; } = [new("dotnet-default", ".NET default", false), new("warmline", "Warmline", true)];

    protected override IReadOnlyList<Tracker> WayTrackers => _trackers;

    protected override async Task<ParallelResult> MeasureAsync(CancellationToken stop)
    {
        var left = await Task.WhenAll(Enumerable.Range(0, Ways.Count).Select(way => RunAsync(way, stop)));
        var (mean, wasted) = (Figure("wentOnMean", "server went on, mean", l => l.Mean), Figure("tokensForNobody", "tokens for nobody", l => l.Tokens));
        return new ParallelResult
        {
            Figures =
            [
                mean,
                Figure("wentOnWorst", "server went on, longest", l => l.Worst),
                wasted,
                Figure("connectionsForStreams", "connections for the streams", l => l.Connections),
                Figure("connectionsAfter", "opened for the calls after", l => l.More),
                Figure("callAfterMean", "a call after, mean", l => l.CallAfter),
                Figure("failures", "calls failed", l => l.Failures),
            ],
            Charts = [("Time the server went on for nobody, mean (shorter is better)", mean), ("Tokens generated for nobody (fewer is better)", wasted)],
            Sentences = [.. Sentences(left[0], left[1])],
        };

        ParallelFigure Figure<T>(string key, string label, Func<Left, T> value) => new(key, label, [.. left.Select(l => (object?)value(l))]);
    }

    IEnumerable<string> Sentences(Left platform, Left pool)
    {
        var most = _calls * (TokensAsked - TokensRead);
        yield return string.Create(CultureInfo.InvariantCulture,
            $"After the readers had left, the server of .NET's handler went on for {DemoText.Time(platform.Mean)} on average and generated {platform.Tokens} tokens that nobody read; Warmline's {DemoText.Time(pool.Mean)} and {pool.Tokens} (to the end it would have been {most}).");
        if (platform.Mean > pool.Mean * 2)
        {
            yield return "On HTTP/1.1 .NET's handler goes on reading for up to 2 s (ResponseDrainTimeout) in the hope to keep the connection; Warmline closes at once, and on HTTP/2 it resets that one stream and keeps the connection.";
        }
    }

    async Task<Left> RunAsync(int way, CancellationToken stop)
    {
        await using var side = await StartAsync(
            Ways[way].IsPool, _roundTrip, stream: true,
            server =>
            {
                server.RecordRequests = true;
                server.OnRequest = request => request.MockId is null ? null : new() { Tokens = TokensAsked, TokenGap = TokenGap };
            },
            null, null, stop);
        var server = side.Endpoint.Server;
        var readers = await Task.WhenAll(Enumerable.Range(0, _calls).Select(i => LeaveAsync(way, side, i, stop)));
        await server.WaitForAsync(counters => counters.StreamsOpen == 0, stop);
        var connections = server.GetCounters().ConnectionsAccepted;
        var after = await Task.WhenAll(Enumerable.Range(0, _calls).Select(_ => CallAsync(way, side, stop)));

        var streams = server.GetRequests().Where(request => request.MockId is not null).ToDictionary(request => request.MockId!, StringComparer.Ordinal);
        var wentOn = readers.Select((reader, i) => reader is { } r ? Max(streams[$"{i}"].Ended!.Value - r.At, TimeSpan.Zero) : (TimeSpan?)null).OfType<TimeSpan>().ToArray();
        var answered = after.OfType<TimeSpan>().ToArray();
        return new Left(
            Mean(wentOn), wentOn.DefaultIfEmpty().Max(), readers.Select((reader, i) => reader is { } r ? streams[$"{i}"].Tokens - r.Tokens : 0).Sum(),
            connections, server.GetCounters().ConnectionsAccepted - connections, Mean(answered), readers.Count(reader => reader is null) + after.Count(call => call is null));
    }

    /// <summary>What its reader had read when it left, and when that was; null when the call failed before.</summary>
    async Task<(int Tokens, DateTimeOffset At)?> LeaveAsync(int way, Side side, int number, CancellationToken stop)
    {
        try
        {
            using var request = side.Endpoint.CreateRequest();
            request.Headers.Add(IdHeader, $"{number}");
            using var response = await side.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, stop);
            var tokens = await ReadAsync(response, TokensRead, stop);
            return (tokens, Time.GetUtcNow());
        }
        catch (Exception error) when (IsFailure(error) && !stop.IsCancellationRequested)
        {
            return null;
        }
        finally
        {
            _trackers[way].Advance();
        }
    }

    async Task<TimeSpan?> CallAsync(int way, Side side, CancellationToken stop)
    {
        var started = Time.GetTimestamp();
        try
        {
            using var request = side.Endpoint.CreateRequest();
            using var response = await side.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, stop);
            await ReadAsync(response, null, stop);
            return Time.GetElapsedTime(started);
        }
        catch (Exception error) when (IsFailure(error) && !stop.IsCancellationRequested)
        {
            return null;
        }
        finally
        {
            _trackers[way].Advance();
        }
    }

    static TimeSpan Mean(TimeSpan[] times) => times.Length == 0 ? TimeSpan.Zero : times.Aggregate(TimeSpan.Zero, (sum, time) => sum + time) / times.Length;

    static TimeSpan Max(TimeSpan a, TimeSpan b) => a > b ? a : b;

    /// <summary>What one way's readers left behind.</summary>
    sealed record Left(TimeSpan Mean, TimeSpan Worst, int Tokens, long Connections, long More, TimeSpan CallAfter, int Failures);
}
