using System.Globalization;
using Spectre.Console;
using Warmline.Cli.Charts;
using Warmline.Cli.Demo;
using Warmline.Options;

namespace Warmline.Cli.Sizing;

/// <summary>
/// A simulated curve for a person: a table, a picture, a recommendation; for a program: every figure; for a page: an SVG.
/// </summary>
internal sealed class SizingReport(SizingCurve curve)
{
    /// <summary>More rows than this fill more than a screen.</summary>
    const int MostRows = 28;

    static readonly string[] Titles = ["size", "p50 wait", "p99 wait", "waiting", "refused", "sockets", "peak"];

    SimulationSettings Settings => curve.Settings;

    string Knows => string.Create(CultureInfo.InvariantCulture,
        $"{Settings.Calls:N0} calls at each size on the pool's own scheduler: {Arrivals}{Rate}, {Name(Settings.Durations)} durations (mean {Duration.Format(Settings.Response)}), {Protocol}, a handshake of {Duration.Format(Settings.Handshake)}, a pool timeout of {Limit}, seed {Settings.Seed}.");

    string Protocol => Settings.IsHttp2 ? "HTTP/2" : "HTTP/1.1";

    string Limit => Settings.PoolTimeout > TimeSpan.Zero ? Duration.Format(Settings.PoolTimeout) : "no length";

    string Arrivals => Settings.Arrivals is ArrivalKind.Bursts ? $"arrivals in bursts of {Settings.CallsPerUser}" : $"{Name(Settings.Arrivals)} arrivals";

    string Rate => Settings.Arrivals is ArrivalKind.Closed
        ? string.Create(CultureInfo.InvariantCulture, $" ({Settings.Users} users who wait for their answers)")
        : string.Create(CultureInfo.InvariantCulture, $" ({Settings.Rate:0.##}/s)");

    string Rule => $"The knee is the smallest size whose p99 wait, like that of every larger one here, is at most {DemoText.Time(curve.MaxWait)} (--max-wait; by default a twentieth of the response time and one handshake).";

    public void Write(IAnsiConsole console)
    {
        var page = new ReportPage(console);
        page.Write("Simulated with " + Knows);
        console.WriteLine();
        WriteTable(console);
        console.WriteLine();
        page.Write(Rule + " A wait counts from asking for a place to having it, or to the refusal.");
        console.WriteLine();
        foreach (var sentence in Sentences())
        {
            page.Write(sentence);
        }
    }

    /// <summary>What follows from it.</summary>
    public IEnumerable<string> Sentences()
    {
        var formula = curve.AtFormula;
        if (curve.Knee is not { } knee)
        {
            yield return $"None of these sizes keeps p99 at {DemoText.Time(curve.MaxWait)} or below: "
                + (curve.Pools[^1].Waiting > 0.01 && curve.MaxWait < Settings.Handshake ? "a call that has its connection dialled waits for a handshake already. Allow more with --max-wait." : "allow more with --max-wait, or look further with --connections.");
            yield break;
        }

        if (formula is not null && formula.Connections < knee.Connections)
        {
            yield return string.Create(CultureInfo.InvariantCulture,
                $"The formula's {formula.Connections} carry the mean of {Settings.Users} users' calls; as they come here, {formula.Waiting * 100:0.#} % of them wait, one in a hundred {DemoText.Time(formula.WaitP99)} or more{(formula.Refused >= 0.00005 ? $", and {formula.Refused * 100:0.##} % get no place" : "")}.");
        }
        else if (formula is not null && formula.Connections > knee.Connections)
        {
            yield return $"The formula's {formula.Connections} are more than these calls need: from {knee.Connections} on, one more spares hardly anybody a wait.";
        }

        yield return string.Create(CultureInfo.InvariantCulture,
            $"Recommended: {knee.Connections} {(knee.Connections == 1 ? "connection" : "connections")}. There p50 is {DemoText.Time(knee.WaitP50)}, p99 {DemoText.Time(knee.WaitP99)}; {knee.SocketsMean:0.#} sockets are open on average, {knee.SocketsPeak} at most{(knee.Refused >= 0.00005 ? $"; {knee.Refused * 100:0.##} % of the calls get no place" : "")}.");
        yield return "";
        yield return SizingCurve.Code(knee.Connections);
    }

    void WriteTable(IAnsiConsole console)
    {
        var table = new Grid();
        foreach (var _ in Titles)
        {
            table.AddColumn(new GridColumn().RightAligned().NoWrap().Padding(0, 0, 2, 0));
        }

        table.AddColumn(new GridColumn().NoWrap().Padding(0, 0, 0, 0));
        table.AddRow([.. Titles.Append("p99 wait").Select(title => new Text(title, new Style(decoration: Decoration.Bold)))]);
        var rows = Shown();
        var longest = curve.Pools.Max(pool => pool.WaitP99.TotalSeconds);
        var width = Math.Clamp(console.Profile.Width - 70, 8, 60);
        foreach (var pool in rows)
        {
            var isKnee = pool == curve.Knee;
            var bar = (Paragraph)Bars.Draw(longest <= 0 ? 0 : pool.WaitP99.TotalSeconds / longest, width, pool.WaitP99 <= curve.MaxWait ? Color.Green : Color.Yellow, console.Profile.Capabilities.Unicode, rest: false);
            var mark = string.Join(", ", new[] { isKnee ? "knee" : "", pool.Connections == curve.FormulaConnections ? "formula" : "" }.Where(part => part.Length > 0));
            table.AddRow(
                new Text((isKnee ? "> " : "") + pool.Connections),
                new Text(DemoText.Time(pool.WaitP50)),
                new Text(DemoText.Time(pool.WaitP99)),
                new Text(Percent(pool.Waiting)),
                new Text(Percent(pool.Refused)),
                new Text(string.Create(CultureInfo.InvariantCulture, $"{pool.SocketsMean:0.0}")),
                new Text($"{pool.SocketsPeak}"),
                mark.Length == 0 ? bar : bar.Append((pool.WaitP99 > TimeSpan.Zero ? " " : "") + mark));
        }

        console.Write(table);
    }

    /// <summary>All of them, or every so many with those that the text speaks of.</summary>
    IEnumerable<SimulatedPool> Shown()
    {
        var every = (curve.Pools.Count + MostRows - 1) / MostRows;
        return curve.Pools.Where((pool, i) => i % every == 0 || pool == curve.Knee || pool.Connections == curve.FormulaConnections || i == curve.Pools.Count - 1);
    }

    static string Percent(double share) => string.Create(CultureInfo.InvariantCulture, $"{share * 100:0.0} %");

    public object Document() => new
    {
        Settings.Users,
        Settings.CallsPerUser,
        ResponseSeconds = Settings.Response.TotalSeconds,
        IntervalSeconds = Settings.Interval.TotalSeconds,
        Arrivals = Name(Settings.Arrivals),
        ArrivalsPerSecond = Settings.Arrivals is ArrivalKind.Closed ? (double?)null : Settings.Rate,
        Durations = Name(Settings.Durations),
        Http = Settings.IsHttp2 ? "2" : "1.1",
        HandshakeMs = Settings.Handshake.TotalMilliseconds,
        PoolTimeoutMs = Settings.PoolTimeout > TimeSpan.Zero ? Settings.PoolTimeout.TotalMilliseconds : (double?)null,
        Settings.Calls,
        Settings.Seed,
        MaxWaitMs = curve.MaxWait.TotalMilliseconds,
        KneeRule = Rule,
        FormulaConnections = curve.FormulaConnections,
        KneeConnections = curve.Knee?.Connections,
        Code = curve.Knee is { } knee ? SizingCurve.Code(knee.Connections) : null,
        Pools = curve.Pools.Select(pool => new
        {
            pool.Connections,
            WaitMeanMs = pool.WaitMean.TotalMilliseconds,
            WaitP50Ms = pool.WaitP50.TotalMilliseconds,
            WaitP90Ms = pool.WaitP90.TotalMilliseconds,
            WaitP99Ms = pool.WaitP99.TotalMilliseconds,
            WaitMaxMs = pool.WaitMax.TotalMilliseconds,
            pool.Waiting,
            pool.Refused,
            pool.SocketsMean,
            pool.SocketsPeak,
            pool.InFlightMean,
            pool.InFlightPeak,
            pool.DialsPerCall,
        }),
    };

    public string Svg()
    {
        var svg = new SvgPage(860, 620, $"{Settings.Users} users, {(Settings.CallsPerUser == 1 ? "" : $"{Settings.CallsPerUser} calls at once each, ")}an answer in {Duration.Format(Settings.Response)}, a question every {Duration.Format(Settings.Interval)}");
        svg.Text(24, 56, string.Create(CultureInfo.InvariantCulture, $"{Arrivals}, {Name(Settings.Durations)} durations, {Protocol}, handshake {Duration.Format(Settings.Handshake)}, pool timeout {Limit}; {Settings.Calls:N0} calls at each size, seed {Settings.Seed}"), "soft");
        var (first, last) = (curve.Pools[0].Connections, curve.Pools[^1].Connections);
        var across = (From: (double)first, To: (double)Math.Max(last, first + 1));
        var every = Math.Max(1, (int)Math.Ceiling((across.To - across.From) / 12));
        var sizes = Enumerable.Range(0, (int)((across.To - across.From) / every) + 1).Select(i => first + (i * every)).Select(size => ((double)size, $"{size}")).ToArray();

        var up = SvgPage.Ticks(curve.Pools.Max(pool => pool.WaitP99.TotalSeconds), 5);
        var waits = new SvgPanel(74, 116, 760, 240, across, (0, up[^1]));
        svg.Axes(waits, "wait for a place", sizes, up.Select(at => (at, SvgPage.Time(at))), null);
        svg.Legend(210, 104, ("b", "p99", false), ("a", "p50", false), ("c", $"bound of the knee, {DemoText.Time(curve.MaxWait)}", true));
        svg.Curve(waits, [(across.From, curve.MaxWait.TotalSeconds), (across.To, curve.MaxWait.TotalSeconds)], "c", dashed: true);
        svg.Curve(waits, curve.Pools.Select(pool => ((double)pool.Connections, pool.WaitP50.TotalSeconds)), "a");
        svg.Curve(waits, curve.Pools.Select(pool => ((double)pool.Connections, pool.WaitP99.TotalSeconds)), "b");

        var most = SvgPage.Ticks(curve.Pools.Max(pool => (double)Math.Max(pool.SocketsPeak, 1)), 4);
        var sockets = new SvgPanel(74, 424, 760, 130, across, (0, most[^1]));
        svg.Axes(sockets, "sockets open", sizes, most.Select(at => (at, at.ToString("0.#", CultureInfo.InvariantCulture))), "MaxConnections");
        svg.Legend(210, 412, ("b", "most", false), ("a", "on average", false));
        svg.Curve(sockets, curve.Pools.Select(pool => ((double)pool.Connections, pool.SocketsMean)), "a");
        svg.Curve(sockets, curve.Pools.Select(pool => ((double)pool.Connections, (double)pool.SocketsPeak)), "b");
        if (curve.AtFormula is { } formula && formula != curve.Knee)
        {
            svg.Mark(waits, formula.Connections, $"formula {formula.Connections}: p99 {DemoText.Time(formula.WaitP99)}", 1);
        }

        if (curve.Knee is { } knee)
        {
            svg.Mark(waits, knee.Connections, $"knee {knee.Connections}: p99 {DemoText.Time(knee.WaitP99)}", 0);
        }

        return svg.ToString();
    }

    public static string Name(ArrivalKind kind) => kind switch
    {
        ArrivalKind.Poisson => "poisson",
        ArrivalKind.Even => "even",
        ArrivalKind.Bursts => "bursts",
        _ => "closed",
    };

    public static string Name(DurationKind kind) => kind switch
    {
        DurationKind.Exponential => "exponential",
        DurationKind.Fixed => "fixed",
        _ => "log-normal",
    };
}
