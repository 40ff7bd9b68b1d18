using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using Spectre.Console;

namespace Warmline.Cli.Demo;

/// <summary>
/// What a demo with parallel ways shows: to a person the conditions, a table, pictures and sentences; to a program every figure.
/// </summary>
internal sealed class ParallelReport(IAnsiConsole console, ParallelDemo demo)
{
    static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    static readonly string[] Names = ["stale", "stall", "abandon", "lanes", "tenants", "field"];

    readonly ReportPage _page = new(console);

    public void WriteHead()
    {
        _page.Write(demo.Head);
        console.WriteLine();
    }

    public void Write(ParallelResult result)
    {
        if (result.Sections.Count == 0)
        {
            console.WriteLine();
            WriteTable(result.Figures);
        }

        foreach (var section in result.Sections)
        {
            console.WriteLine();
            console.Write(new Text(section.Title, new Style(decoration: Decoration.Bold)));
            console.WriteLine();
            foreach (var line in section.Lines)
            {
                _page.Write(line);
            }

            WriteTable(section.Figures);
            foreach (var note in section.Notes)
            {
                _page.Write(note);
            }
        }

        foreach (var (title, figure) in result.Charts)
        {
            console.WriteLine();
            var cells = Cells(figure);
            _page.Chart(title, [.. demo.Ways.Select((way, i) => new ReportBar(way.Title, Size(figure.Values[i], result), i < figure.Notes.Count ? cells[i] + figure.Notes[i] : cells[i], way.IsPool ? Color.Green : Color.Grey))]);
        }

        foreach (var (title, rows) in result.Sparks)
        {
            console.WriteLine();
            _page.Sparks(title, [.. rows.Select(row => new ReportSpark($"{demo.Ways[row.Way].Title}{row.Name}", row.Values, row.Label, demo.Ways[row.Way].IsPool ? Color.Green : Color.Grey))]);
        }

        console.WriteLine();
        foreach (var sentence in result.Sentences)
        {
            _page.Write(sentence);
        }

        console.WriteLine();
        _page.Write("How it was measured: " + demo.Method);
        console.WriteLine();
        _page.Write("Next: " + string.Join("; ", Names.Where(name => name != demo.Name).Select(name => $"`--scenario {name}`"))
            + ". " + demo.ReadOn);
    }

    void WriteTable(IReadOnlyList<ParallelFigure> figures)
    {
        var table = new Table().Border(TableBorder.Simple).AddColumn(new TableColumn("").NoWrap().PadLeft(1));
        foreach (var way in demo.Ways)
        {
            table.AddColumn(new TableColumn(new Text(way.Title)).RightAligned().NoWrap());
        }

        foreach (var figure in figures)
        {
            table.AddRow([new Text(figure.Label), .. Cells(figure).Concat(Enumerable.Repeat("", demo.Ways.Count)).Take(demo.Ways.Count).Select(cell => new Text(cell))]);
        }

        console.Write(table);
    }

    /// <summary>Times are in milliseconds; one that was not reached is null.</summary>
    public static string Json(ParallelDemo demo, ParallelResult result)
    {
        var conditions = new Dictionary<string, object> { ["scenario"] = demo.Name };
        foreach (var (name, value) in demo.Conditions)
        {
            conditions[name] = value;
        }

        (conditions["endpoint"], conditions["processors"]) = ("simulated", Environment.ProcessorCount);
        (conditions["runtime"], conditions["system"]) = (RuntimeInformation.FrameworkDescription, RuntimeInformation.OSDescription);
        var ways = demo.Ways.Select((way, i) =>
        {
            var figures = new Dictionary<string, object?> { ["way"] = way.Key, ["title"] = way.Title };
            foreach (var figure in result.Figures.Where(figure => figure.Values.Count > 0))
            {
                var isTime = figure.Values.Any(value => value is TimeSpan) || figure.Values.All(value => value is null);
                figures[figure.Key + (isTime ? "Ms" : "")] = figure.Values[i] is TimeSpan time ? Math.Round(time.TotalMilliseconds, 3) : figure.Values[i];
            }

            foreach (var row in result.Sparks.SelectMany(picture => picture.Rows).Where(row => row.Way == i))
            {
                figures[row.Key] = row.Values.Select(value => Math.Round(value, 2));
            }

            return figures;
        });
        var document = new Dictionary<string, object> { ["conditions"] = conditions, ["ways"] = ways };
        if (result.Sections.Count > 0)
        {
            document["cases"] = result.Sections.Select(section => new { title = section.Title, asItShould = section.IsAsItShould });
        }

        return JsonSerializer.Serialize(document, Indented);
    }

    static double Size(object? value, ParallelResult result) => value switch
    {
        TimeSpan time => time.TotalMilliseconds,
        null => result.Window.TotalMilliseconds,
        _ => Convert.ToDouble(value, CultureInfo.InvariantCulture),
    };

    static IReadOnlyList<string> Cells(ParallelFigure figure)
    {
        if (figure.Values.Any(value => value is TimeSpan) || figure.Values.All(value => value is null))
        {
            var times = DemoText.Times([.. figure.Values.Select(value => (TimeSpan?)value)]);
            return [.. times.Select((text, i) => figure.Values[i] is not TimeSpan time ? figure.Missing : figure.Apart ? DemoText.Time(time) : text)];
        }

        return [.. figure.Values.Select(value => Convert.ToString(value, CultureInfo.InvariantCulture) ?? figure.Missing)];
    }
}
