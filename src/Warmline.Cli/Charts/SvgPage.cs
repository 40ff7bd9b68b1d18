using System.Globalization;
using System.Security;
using System.Text;

namespace Warmline.Cli.Charts;

/// <summary>Which way an axis runs.</summary>
internal enum SvgScale
{
    Linear,
    Log,
}

/// <summary>A rectangle with axes: where a value is drawn.</summary>
internal sealed record SvgPanel(double Left, double Top, double Width, double Height, (double From, double To) X, (double From, double To) Y, SvgScale XScale = SvgScale.Linear)
{
    public double Right => Left + Width;

    public double Bottom => Top + Height;

    public double AtX(double value) => Left + (Width * (XScale is SvgScale.Log ? Math.Log(value / X.From) / Math.Log(X.To / X.From) : (value - X.From) / (X.To - X.From)));

    public double AtY(double value) => Bottom - (Height * (value - Y.From) / (Y.To - Y.From));
}

/// <summary>
/// A picture in one file: no script, no font and no picture of others, its colours chosen by the reader's light or dark scheme.
/// </summary>
internal sealed class SvgPage
{
    const string Style = """
        text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328; }
        .title { font-size: 17px; font-weight: 600; } .soft { fill: #59636e; } .strong { font-weight: 600; }
        .paper { fill: #ffffff; } .grid { stroke: #d1d9e0; } .axis { stroke: #59636e; } .mark { stroke: #1f2328; stroke-dasharray: 4 4; }
        .a { stroke: #0969da; } .b { stroke: #bc4c00; } .c { stroke: #1a7f37; } .line { fill: none; stroke-width: 2.5; stroke-linejoin: round; } .dashed { stroke-dasharray: 6 4; }
        .fill-a { fill: #0969da; } .fill-b { fill: #bc4c00; } .fill-c { fill: #1a7f37; }
        @media (prefers-color-scheme: dark) {
          text { fill: #f0f6fc; } .soft { fill: #9198a1; }
          .paper { fill: #0d1117; } .grid { stroke: #30363d; } .axis { stroke: #9198a1; } .mark { stroke: #f0f6fc; }
          .a { stroke: #58a6ff; } .b { stroke: #f0883e; } .c { stroke: #3fb950; } .fill-a { fill: #58a6ff; } .fill-b { fill: #f0883e; } .fill-c { fill: #3fb950; }
        }
        """;

    readonly StringBuilder _drawing = new();
    readonly int _width;
    readonly int _height;
    readonly string _title;

    public SvgPage(int width, int height, string title)
    {
        (_width, _height, _title) = (width, height, title);
        Add($"""<rect class="paper" width="{width}" height="{height}" rx="6"/>""");
        Text(24, 34, title, "title");
    }

    public override string ToString() => string.Create(CultureInfo.InvariantCulture,
        $"""
        <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_width} {_height}" width="{_width}" height="{_height}" role="img" aria-label="{Escape(_title)}">
        <style>
        {Style}
        </style>
        {_drawing}</svg>

        """);

    public void Text(double x, double y, string text, string classes = "", string anchor = "start") =>
        Add($"""<text x="{x:0.#}" y="{y:0.#}" class="{classes}" text-anchor="{anchor}">{Escape(text)}</text>""");

    public void Line(double x1, double y1, double x2, double y2, string classes) => Add($"""<line x1="{x1:0.#}" y1="{y1:0.#}" x2="{x2:0.#}" y2="{y2:0.#}" class="{classes}"/>""");

    public void Rectangle(double x, double y, double width, double height, string classes) =>
        Add($"""<rect x="{x:0.##}" y="{y:0.##}" width="{Math.Max(0, width):0.##}" height="{Math.Max(0, height):0.##}" class="{classes}"/>""");

    /// <summary>A line through the points, each marked where they are few.</summary>
    public void Curve(SvgPanel panel, IEnumerable<(double X, double Y)> points, string color, bool dashed = false)
    {
        var list = points.Select(point => (X: panel.AtX(point.X), Y: panel.AtY(Math.Clamp(point.Y, panel.Y.From, panel.Y.To)))).ToArray();
        Add($"""<polyline class="line {color}{(dashed ? " dashed" : "")}" points="{string.Join(' ', list.Select(point => string.Create(CultureInfo.InvariantCulture, $"{point.X:0.#},{point.Y:0.#}")))}"/>""");
        foreach (var (x, y) in dashed ? [] : list)
        {
            Add($"""<circle cx="{x:0.#}" cy="{y:0.#}" r="2.6" class="fill-{color}"/>""");
        }
    }

    /// <summary>Grid, figures and names of both axes.</summary>
    public void Axes(SvgPanel panel, string name, IEnumerable<(double At, string Label)> across, IEnumerable<(double At, string Label)> up, string? below)
    {
        Text(panel.Left - 44, panel.Top - 12, name, "strong");
        foreach (var (at, label) in up)
        {
            Line(panel.Left, panel.AtY(at), panel.Right, panel.AtY(at), "grid");
            Text(panel.Left - 8, panel.AtY(at) + 4, label, "soft", "end");
        }

        foreach (var (at, label) in across)
        {
            Line(panel.AtX(at), panel.Bottom, panel.AtX(at), panel.Bottom + 5, "axis");
            Text(panel.AtX(at), panel.Bottom + 20, label, "soft", "middle");
        }

        Line(panel.Left, panel.Bottom, panel.Right, panel.Bottom, "axis");
        if (below is not null)
        {
            Text(panel.Left + (panel.Width / 2), panel.Bottom + 40, below, "soft", "middle");
        }
    }

    /// <summary>A dashed line from top to bottom, with its name beside its upper end.</summary>
    public void Mark(SvgPanel panel, double at, string label, int row)
    {
        var x = panel.AtX(at);
        Line(x, panel.Top, x, panel.Bottom, "mark");
        var toTheLeft = x > panel.Left + (panel.Width * 0.7);
        Text(x + (toTheLeft ? -6 : 6), panel.Top + 14 + (row * 17), label, "strong", toTheLeft ? "end" : "start");
    }

    /// <summary>The colours' names, in one line.</summary>
    public void Legend(double x, double y, params (string Color, string Name, bool Dashed)[] entries)
    {
        foreach (var (color, name, dashed) in entries)
        {
            Line(x, y - 4, x + 22, y - 4, $"line {color}{(dashed ? " dashed" : "")}");
            Text(x + 28, y, name);
            x += 52 + (name.Length * 6.9);
        }
    }

    /// <summary>About so many round numbers from 0 to the most; the last is not below it.</summary>
    public static double[] Ticks(double most, int about)
    {
        if (most <= 0)
        {
            return [0, 1];
        }

        var raw = most / about;
        var power = Math.Pow(10, Math.Floor(Math.Log10(raw)));
        var step = power * ((raw / power) switch { <= 1 => 1, <= 2 => 2, <= 5 => 5, _ => 10 });
        return [.. Enumerable.Range(0, (int)Math.Ceiling(most / step) + 1).Select(i => i * step)];
    }

    /// <summary>A time as short as it can be written beside an axis.</summary>
    public static string Time(double seconds) => seconds switch
    {
        0 => "0",
        < 1 => string.Create(CultureInfo.InvariantCulture, $"{seconds * 1000:0.##} ms"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{seconds:0.##} s"),
    };

    void Add(FormattableString element) => _drawing.Append(element.ToString(CultureInfo.InvariantCulture)).Append('\n');

    static string Escape(string text) => SecurityElement.Escape(text) ?? "";
}
