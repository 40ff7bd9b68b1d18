using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using Spectre.Console;
using Spectre.Console.Rendering;
using Warmline.Cli.Charts;
using Warmline.Cli.Demo;

namespace Warmline.Cli.Bench;

/// <summary>What a run shows: while it runs, afterwards to a person, to a program, and as a picture.</summary>
internal sealed class BenchReport(BenchSettings settings)
{
    const int Rows = 12;

    static readonly JsonSerializerOptions Indented = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.CamelCase, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    public string Head => string.Create(CultureInfo.InvariantCulture,
        $"{settings.Calls:N0} calls at {Pace}/s, {Moments}, to {Where}{(settings.Stream ? ", streamed answers" : "")}, over at most {settings.MaxConnections} connections ({settings.WarmConnections} warmed).");

    string Pace => string.Create(CultureInfo.InvariantCulture, $"{settings.Rate:0.##}");

    string Moments => settings.IsEven ? "at equal distances (even)" : "at random moments (poisson)";

    string Where => settings.Target is { } target ? $"{target.Display}, model {target.Model}"
        : $"a simulated provider in this process (round trip {DemoText.Time(settings.RoundTrip)}, service {DemoText.Time(settings.Service)})";

    public void WriteHead(IAnsiConsole console)
    {
        var page = new ReportPage(console);
        page.Write(Head);
        if (settings.Target is { } target)
        {
            page.Write(string.Create(CultureInfo.InvariantCulture, $"{(target.Address.IsLoopback ? "One more call comes first" : "Real calls cost money: these, and one more that comes first")}, to check address and key. An answer has at most {settings.Tokens} tokens. Press Ctrl+C to stop."));
            if (settings.Calls < settings.Wanted)
            {
                page.Write(string.Create(CultureInfo.InvariantCulture, $"Rate and time would make {settings.Wanted:N0} calls: --calls {settings.Wanted} allows them."));
            }
        }

        console.WriteLine();
    }

    /// <summary>The picture of now, for a terminal.</summary>
    public IRenderable Draw(IAnsiConsole console, BenchRun run)
    {
        var (line, quantiles, bars) = run.Tally.Read(tally => (Now(run, tally), Quantiles(tally), Bars(tally)));
        return bars.Count == 0 ? new Text(line) : new Rows(new Text(line), new Text("         " + quantiles), new Text(""), ReportPage.Drawing(console, bars));
    }

    /// <summary>How far it is, in one line.</summary>
    public string Line(BenchRun run) => run.Tally.Read(tally => $"{Now(run, tally)}  {Quantiles(tally)}".TrimEnd());

    string Now(BenchRun run, BenchTally tally)
    {
        var stats = run.Stats;
        return string.Create(CultureInfo.InvariantCulture,
            $"  {run.Elapsed.TotalSeconds,5:0.0} s  {tally.Sent}/{settings.Calls} sent, {tally.Latency.Count} answered, {(tally.Failed > 0 ? $"{tally.Failed} failed, " : "")}{tally.InFlight} open ({stats?.Queued ?? 0} waiting)");
    }

    static string Quantiles(BenchTally tally) => tally.Latency.Count == 0 ? "" : $"p50 {DemoText.Time(tally.Latency.Quantile(0.5))} p99 {DemoText.Time(tally.Latency.Quantile(0.99))}";

    static IReadOnlyList<ReportBar> Bars(BenchTally tally)
    {
        var rows = tally.Latency.Rows(Rows);
        var marks = new[] { (Name: "p50", At: tally.Latency.Quantile(0.5)), (Name: "p99", At: tally.Latency.Quantile(0.99)) };
        return [.. rows.Select((row, i) => new ReportBar(
            $"to {DemoText.Time(row.To),8}", row.Count,
            string.Join(' ', new[] { $"{row.Count}" }.Concat(marks.Where(mark => mark.At <= row.To && (i == 0 || mark.At > rows[i - 1].To)).Select(mark => mark.Name))), Color.Green))];
    }

    public void Write(IAnsiConsole console, BenchResult result)
    {
        var (page, tally) = (new ReportPage(console), result.Tally);
        if (tally.Latency.Count > 0)
        {
            page.Chart("Latency, from when a call was meant to be sent (shorter is better)", Bars(tally));
            console.WriteLine();
            WriteTable(console, tally);
            console.WriteLine();
        }

        foreach (var sentence in Sentences(result))
        {
            page.Write(sentence);
        }

        console.WriteLine();
        page.Write($"{result.Stats}");
    }

    static void WriteTable(IAnsiConsole console, BenchTally tally)
    {
        var table = new Grid().AddColumn(new GridColumn().NoWrap().Padding(0, 0, 2, 0));
        string[] titles = ["fastest", "p50", "p90", "p99", "slowest"];
        foreach (var _ in titles)
        {
            table.AddColumn(new GridColumn().NoWrap().RightAligned().Padding(0, 0, 2, 0));
        }

        table.AddRow([new Text(""), .. titles.Select(title => new Text(title, new Style(decoration: Decoration.Bold)))]);
        foreach (var (name, times) in Figures(tally))
        {
            table.AddRow([new Text(name), .. new[] { times.Min, times.Quantile(0.5), times.Quantile(0.9), times.Quantile(0.99), times.Max }.Select(time => new Text(DemoText.Time(time)))]);
        }

        console.Write(table);
    }

    static IEnumerable<(string Name, LatencyHistogram Times)> Figures(BenchTally tally)
    {
        yield return ("latency", tally.Latency);
        yield return ("first byte", tally.FirstByte);
        if (tally.FirstToken.Count > 0)
        {
            yield return ("first token", tally.FirstToken);
        }

        yield return ("wait for a place", tally.Queue);
        yield return ("sent late", tally.Late);
    }

    IEnumerable<string> Sentences(BenchResult result)
    {
        var tally = result.Tally;
        if (result.IsInterrupted)
        {
            yield return $"Stopped after {tally.Sent} of {settings.Calls} calls; {tally.Cut} of them were cut off and count nowhere.";
        }

        yield return string.Create(CultureInfo.InvariantCulture,
            $"{tally.Sent:N0} calls were sent in {DemoText.Time(result.Sending)}{(tally.Sent > 1 ? $" ({(tally.Sent - 1) / result.Sending.TotalSeconds:0.##}/s, {Moments})" : "")}; {tally.Latency.Count:N0} were answered, {tally.Failed:N0} failed. {tally.Reused * 100.0 / Math.Max(1, tally.Latency.Count):0.#} % of the answered needed no connection of their own.");
        foreach (var (kind, count, first) in tally.Failures)
        {
            yield return $"  {count} x {kind}: {first}";
        }

        if (tally.Failed > 0)
        {
            yield return "The times are those of the answered calls alone.";
        }

        if (IsTooSlow(tally))
        {
            yield return $"Calls were sent late by this machine: one in a hundred by {DemoText.Time(tally.Late.Quantile(0.99))} or more{(tally.Served.Count > 0 ? $", where the fastest call took {DemoText.Time(tally.Served.Min)}" : "")}. Latencies count from the intended time and hold that delay: they tell of this machine as much as of the provider. If it grows with --rate, this machine cannot keep up: send less, or from more machines.";
        }

        if (Limit(result) is { } limit)
        {
            yield return $"The limit: {DemoText.Time(limit)} is the fastest call on an open connection{Parts(result)}. {Times(tally.Latency, 0.5, limit)}, {Times(tally.Latency, 0.99, limit)}.";
        }

        var capacity = result.Stats.Origins.Sum(origin => origin.Capacity);
        yield return string.Create(CultureInfo.InvariantCulture,
            $"The pool: {result.MeanLeases:0.#} calls in flight on average, {result.Stats.PeakActive} at most, where {capacity:N0} fit ({result.PeakUtilization * 100:0.#} %); {result.Stats.PeakConnections} of {settings.MaxConnections} connections at most. {Advice(result, capacity)}");
    }

    string Advice(BenchResult result, long capacity) => result.Tally.Queue.Quantile(0.99) is var wait && wait > TimeSpan.FromMilliseconds(10) && result.Stats.PeakActive >= capacity
        ? $"It was full: one call in a hundred waited {DemoText.Time(wait)} or more for a place. Raise --connections."
        : wait > TimeSpan.FromMilliseconds(10) ? $"One call in a hundred waited {DemoText.Time(wait)} or more for a place: for a connection that was being opened. More of them can be opened before, with --warm."
        : "It held nobody up.";

    /// <summary>What no pool can beat here.</summary>
    static TimeSpan? Limit(BenchResult result) => result.Tally.Served.Count > 0 && result.Tally.Served.Min > TimeSpan.Zero ? result.Tally.Served.Min : null;

    static string Parts(BenchResult result) => result.RoundTrip is { } trip && trip < result.Tally.ServedFirst.Min
        ? $": a round trip of {DemoText.Time(trip)} (TCP's, the fastest), {DemoText.Time(result.Tally.ServedFirst.Min - trip)} of service at least{(result.Tally.Served.Min - result.Tally.ServedFirst.Min is var rest && rest > TimeSpan.FromMilliseconds(1) ? $", {DemoText.Time(rest)} for the rest of the answer" : "")}" : "";

    static string Times(LatencyHistogram times, double share, TimeSpan limit) => string.Create(CultureInfo.InvariantCulture, $"p{share * 100:0} is {times.Quantile(share) / limit:0.00} times that");

    /// <summary>
    /// A tenth of what a call takes by itself, and more than timers are late on a quiet machine. The other latencies are no measure: they
    /// hold the lateness.
    /// </summary>
    static bool IsTooSlow(BenchTally tally) => tally.Late.Quantile(0.99) is var late && late > TimeSpan.FromMilliseconds(3) && (tally.Served.Count == 0 || late > tally.Served.Min / 10);

    public string Json(BenchResult result)
    {
        var tally = result.Tally;
        return JsonSerializer.Serialize(
            new
            {
                Conditions = new
                {
                    Endpoint = settings.Target?.Display ?? "simulated",
                    settings.Target?.Model,
                    RatePerSecond = settings.Rate,
                    settings.Calls,
                    settings.Stream,
                    settings.PromptLength,
                    settings.Tokens,
                    settings.MaxConnections,
                    settings.WarmConnections,
                    Arrivals = settings.IsEven ? "even" : "poisson",
                    settings.Seed,
                    RoundTripMs = settings.Target is null ? Ms(settings.RoundTrip) : null,
                    ServiceMs = settings.Target is null ? Ms(settings.Service) : null,
                },
                Interrupted = result.IsInterrupted,
                tally.Sent,
                Answered = tally.Latency.Count,
                tally.Failed,
                tally.Cut,
                SendingMs = Ms(result.Sending),
                WholeMs = Ms(result.Whole),
                ReuseRate = Math.Round((double)tally.Reused / Math.Max(1, tally.Latency.Count), 4),
                KeptUp = !IsTooSlow(tally),
                Latency = Distribution(tally.Latency),
                FirstByte = Distribution(tally.FirstByte),
                FirstToken = Distribution(tally.FirstToken),
                QueueWait = Distribution(tally.Queue),
                SentLate = Distribution(tally.Late),
                RoundTripMs = Ms(result.RoundTrip),
                LimitMs = Ms(Limit(result)),
                P50TimesLimit = Limit(result) is { } limit ? Math.Round(tally.Latency.Quantile(0.5) / limit, 3) : (double?)null,
                P99TimesLimit = Limit(result) is { } most ? Math.Round(tally.Latency.Quantile(0.99) / most, 3) : (double?)null,
                Pool = new
                {
                    MeanLeases = Math.Round(result.MeanLeases, 2),
                    PeakLeases = result.Stats.PeakActive,
                    Capacity = result.Stats.Origins.Sum(origin => origin.Capacity),
                    PeakUtilization = Math.Round(result.PeakUtilization, 4),
                    result.Stats.PeakConnections,
                    result.Stats.NewConnections,
                    Stats = $"{result.Stats}",
                },
                Failures = tally.Failures.Select(failure => new { failure.Kind, failure.Count, failure.First }),
                Histogram = tally.Latency.Buckets().Select(bucket => new { FromMs = Ms(bucket.From), ToMs = Ms(bucket.To), bucket.Count }),
            },
            Indented);
    }

    static object? Distribution(LatencyHistogram times) => times.Count == 0 ? null : new
    {
        MinMs = Ms(times.Min),
        MeanMs = Ms(times.Mean),
        P50Ms = Ms(times.Quantile(0.5)),
        P90Ms = Ms(times.Quantile(0.9)),
        P99Ms = Ms(times.Quantile(0.99)),
        MaxMs = Ms(times.Max),
    };

    public string Svg(BenchResult result)
    {
        var tally = result.Tally;
        var svg = new SvgPage(860, 400, $"Latency of {tally.Latency.Count} calls at {Pace}/s");
        svg.Text(24, 56, $"{(settings.Target is null ? Where : settings.Target.Display)}, from when a call was meant to be sent", "soft");
        var rows = tally.Latency.Rows(48);
        if (rows.Count == 0)
        {
            svg.Text(24, 100, "No call was answered.");
            return svg.ToString();
        }

        var (least, most) = (Math.Max(1e-6, rows[0].From.TotalSeconds), Math.Max(2e-6, rows[^1].To.TotalSeconds));
        var margin = Math.Pow(most / least, 0.06);
        (least, most) = (least / margin, most * margin);
        var up = SvgPage.Ticks(rows.Max(row => row.Count), 5);
        var panel = new SvgPanel(74, 96, 760, 240, (least, most), (0, up[^1]), SvgScale.Log);
        svg.Axes(panel, "calls", Across(least, most).Select(at => (at, SvgPage.Time(at))), up.Select(at => (at, at.ToString("0.#", CultureInfo.InvariantCulture))), "latency");
        foreach (var (from, to, count) in rows.Where(row => row.Count > 0))
        {
            var (left, right, top) = (panel.AtX(Math.Max(1e-6, from.TotalSeconds)), panel.AtX(to.TotalSeconds), panel.AtY(count));
            svg.Rectangle(Math.Max(left, panel.Left) + 0.5, top, right - Math.Max(left, panel.Left) - 1, panel.Bottom - top, "fill-a");
        }

        foreach (var (name, at, row) in new[] { ("limit", Limit(result) ?? tally.Latency.Min, 0), ("p50", tally.Latency.Quantile(0.5), 1), ("p99", tally.Latency.Quantile(0.99), 2) })
        {
            svg.Mark(panel, Math.Clamp(at.TotalSeconds, least, most), $"{name} {DemoText.Time(at)}", row);
        }

        return svg.ToString();
    }

    /// <summary>Round numbers: at equal distances where the range is narrow, else 1, 2, 5, 10 and so on.</summary>
    static IEnumerable<double> Across(double least, double most)
    {
        if (most / least < 4)
        {
            var step = SvgPage.Ticks(most - least, 6)[1];
            for (var at = Math.Ceiling(least / step) * step; at <= most; at += step)
            {
                yield return at;
            }

            yield break;
        }

        for (var power = Math.Pow(10, Math.Floor(Math.Log10(least))); power <= most; power *= 10)
        {
            foreach (var at in new[] { power, 2 * power, 5 * power }.Where(at => at >= least && at <= most))
            {
                yield return at;
            }
        }
    }

    static double? Ms(TimeSpan? time) => time is { } value ? Math.Round(value.TotalMilliseconds, 3) : null;
}
