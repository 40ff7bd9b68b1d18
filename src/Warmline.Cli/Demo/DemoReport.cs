using System.Globalization;
using Spectre.Console;

namespace Warmline.Cli.Demo;

/// <summary>What a person reads: the conditions, the table, the picture, the sentence. Made for 80 columns.</summary>
internal sealed class DemoReport(IAnsiConsole console, DemoSettings settings)
{
    readonly ReportPage _page = new(console);

    bool IsAgent => settings.Scenario is Scenario.Agent;

    public void WriteHead()
    {
        var how = (settings.Calls == 1 ? "call" : "calls") + (IsAgent ? ", one after another," : " at once");
        var answers = settings.Stream ? ", streamed answers" : "";
        if (settings.Target is { } target)
        {
            var total = (settings.Calls * settings.Rounds * settings.Ways.Count) + 1;
            Write(Line($"{settings.Calls} {how} to {target.Display}, model {target.Model}{answers}."));
            Write($"Real calls cost money: {total} of them, at most {DemoSettings.Tokens} tokens each. Press Ctrl+C to stop.");
        }
        else
        {
            Write(Line($"{settings.Calls} {how} to a simulated provider: round trip {DemoText.Time(settings.RoundTrip)}, service {DemoText.Time(settings.Service)}{answers}. Real sockets, real TLS, no key needed."));
        }

        console.WriteLine();
    }

    public void Write(IReadOnlyList<WayResult> results)
    {
        console.WriteLine();
        WriteTable(results);
        if (DemoText.Limit(settings) is { } limit)
        {
            Write(limit);
        }

        console.WriteLine();
        WriteChart(IsAgent ? "Time for all calls (shorter is better)" : "Time until the last answer (shorter is better)", results, result => result.Wall.TotalMilliseconds,
            DemoText.Times([.. results.Select(result => result.Wall), .. settings.Limit is { } most ? [most] : Array.Empty<TimeSpan>()]), settings.Limit?.TotalMilliseconds);
        console.WriteLine();
        WriteChart("Sockets opened (fewer is better)", results, result => result.Sockets, [.. results.Select(result => Line($"{result.Sockets}"))], null);
        console.WriteLine();
        foreach (var sentence in DemoText.Summary(settings, results))
        {
            Write(sentence);
        }

        console.WriteLine();
        Write(results[^1].StatsLine!);
        console.WriteLine();
        Write("How it was measured: " + string.Join(' ', DemoText.Method(settings)));
        console.WriteLine();
        Write("Next: " + string.Join(' ', DemoText.Next(settings)));
    }

    void WriteTable(IReadOnlyList<WayResult> results)
    {
        var table = new Table().Border(TableBorder.Simple);
        table.AddColumn(new TableColumn("").NoWrap().PadLeft(1));
        foreach (var result in results)
        {
            // One word of the way's name on each line: four columns must fit beside the figures' names.
            var title = DemoSettings.Title(result.Kind);
            var cut = title.LastIndexOf(' ');
            table.AddColumn(new TableColumn(new Text(result.Kind is WayKind.ClientPerCall ? "client\nper call" : title[..cut] + "\n" + title[(cut + 1)..])).RightAligned().NoWrap());
        }

        void Row(string name, IEnumerable<string> cells) => table.AddRow([new Text(name), .. cells.Select(cell => new Text(cell))]);
        void Times(string name, Func<WayResult, TimeSpan?> figure) => Row(name, DemoText.Times([.. results.Select(figure)]));

        Times(IsAgent ? "wall time, all calls" : "wall time", result => result.Wall);
        if (settings.Limit is { } limit)
        {
            Row(Line($"  times the limit ({DemoText.Time(limit)})"), results.Select(result => Line($"{result.Wall / limit:0.00} x")));
        }

        if (IsAgent)
        {
            Times("latency, mean", result => result.LatencyMean);
        }
        else
        {
            Times("latency, summed", result => result.LatencySum);
        }

        Times("latency, p50", result => result.LatencyP50);
        Times("latency, p99", result => result.LatencyP99);
        if (settings.Stream)
        {
            Times("first byte, p50", result => result.FirstByteP50);
            Times("first byte, p99", result => result.FirstByteP99);
        }

        Row("sockets opened", results.Select(result => Line($"{result.Sockets}")));
        Times("handshakes, summed", result => result.Handshake);
        Times("warm-up before the clock", result => result.WarmUp);
        Row("reused a connection", results.Select(result => Line($"{result.ReuseRate * 100:0.#} %")));
        if (IsAgent)
        {
            Times("time saved by reuse", result => result.Saved);
        }

        Times("longest wait in queue", result => result.QueueWaitMax);
        Times(settings.Target is null ? "CPU, both sides" : "CPU", result => result.Cpu);
        Row("failures", results.Select(result => Line($"{result.Failures}")));
        console.Write(table);
        foreach (var result in results.Where(result => result.FirstFailure is not null))
        {
            Write($"{DemoSettings.Title(result.Kind)}, first failure: {result.FirstFailure}");
        }
    }

    void WriteChart(string title, IReadOnlyList<WayResult> results, Func<WayResult, double> figure, IReadOnlyList<string> labels, double? limit)
    {
        var bars = results.Select((result, i) => new ReportBar(
            DemoSettings.Title(result.Kind), figure(result), labels[i], result.Kind is WayKind.WarmlineCold or WayKind.WarmlineWarmed ? Color.Green : Color.Grey));
        _page.Chart(title, [.. bars, .. limit is { } least ? [new ReportBar("(the limit)", least, labels[^1], Color.Yellow)] : Array.Empty<ReportBar>()]);
    }

    void Write(string text) => _page.Write(text);

    static string Line(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
