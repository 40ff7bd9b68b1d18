using Spectre.Console;
using Spectre.Console.Rendering;

namespace Warmline.Cli.Demo;

/// <summary>One bar of a picture.</summary>
internal readonly record struct ReportBar(string Name, double Value, string Label, Color Color);

/// <summary>One line of a picture over time, or over whoever shares.</summary>
internal readonly record struct ReportSpark(string Name, IReadOnlyList<double> Values, string Label, Color Color);

/// <summary>What the reports share: text that breaks between words, and pictures made of bars. Made for 80 columns.</summary>
internal sealed class ReportPage(IAnsiConsole console)
{
    const int WidestText = 110;

    /// <summary>Breaks between words; a redirected stream gets the same lines as a narrow terminal.</summary>
    public void Write(string text)
    {
        var width = Math.Clamp(console.Profile.Width, 40, WidestText);
        var line = "";
        foreach (var word in text.Split(' '))
        {
            if (line.Length > 0 && line.Length + 1 + word.Length > width)
            {
                console.WriteLine(line);
                line = "";
            }

            line += line.Length == 0 ? word : " " + word;
        }

        console.WriteLine(line);
    }

    public void Chart(string title, IReadOnlyList<ReportBar> bars)
    {
        Write(title);
        console.Write(Drawing(console, bars));
    }

    public static IRenderable Drawing(IAnsiConsole console, IReadOnlyList<ReportBar> bars)
    {
        // The column's padding, and a space before the label.
        var beside = bars.Max(bar => bar.Name.Length) + bars.Max(bar => bar.Label.Length) + 5;
        var width = Math.Clamp(console.Profile.Width - Math.Max(36, beside), 10, 72);
        var longest = bars.Max(bar => bar.Value);
        var grid = new Grid().AddColumn(new GridColumn().NoWrap().Padding(2, 0, 2, 0)).AddColumn(new GridColumn().NoWrap().Padding(0, 0, 0, 0));
        foreach (var bar in bars)
        {
            var drawn = (Paragraph)Bars.Draw(longest <= 0 ? 0 : bar.Value / longest, width, bar.Color, console.Profile.Capabilities.Unicode, rest: false);
            grid.AddRow((IRenderable)new Text(bar.Name), drawn.Append(" " + bar.Label));
        }

        return grid;
    }

    /// <summary>Lines of small columns, all to one scale.</summary>
    public void Sparks(string title, IReadOnlyList<ReportSpark> sparks)
    {
        Write(title);
        var most = sparks.SelectMany(spark => spark.Values).DefaultIfEmpty().Max();
        var grid = new Grid().AddColumn(new GridColumn().NoWrap().Padding(2, 0, 1, 0)).AddColumn(new GridColumn().NoWrap().Padding(0, 0, 1, 0)).AddColumn(new GridColumn().NoWrap().Padding(0, 0, 0, 0));
        foreach (var spark in sparks)
        {
            grid.AddRow(new Text(spark.Name), new Text(Bars.Spark(spark.Values, most, console.Profile.Capabilities.Unicode), new Style(spark.Color)), new Text(spark.Label));
        }

        console.Write(grid);
    }
}
