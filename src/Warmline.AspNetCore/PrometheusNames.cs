using System.Collections.Frozen;
using System.Globalization;
using System.Text;

namespace Warmline.AspNetCore;

/// <summary>
/// How an instrument and its tags are called in Prometheus: the rules of OpenTelemetry's specification, "Prometheus and OpenMetrics
/// Compatibility", section "OTLP Metric points to Prometheus".
/// </summary>
internal static class PrometheusNames
{
    static readonly FrozenDictionary<string, string> Units = new Dictionary<string, string>
    {
        ["d"] = "days", ["h"] = "hours", ["min"] = "minutes", ["s"] = "seconds", ["ms"] = "milliseconds", ["us"] = "microseconds", ["ns"] = "nanoseconds",
        ["By"] = "bytes", ["KiBy"] = "kibibytes", ["MiBy"] = "mebibytes", ["GiBy"] = "gibibytes", ["%"] = "percent", ["Cel"] = "celsius", ["Hz"] = "hertz",
    }.ToFrozenDictionary();

    static readonly FrozenDictionary<string, string> Per = new Dictionary<string, string>
    {
        ["s"] = "second", ["min"] = "minute", ["h"] = "hour", ["d"] = "day",
    }.ToFrozenDictionary();

    /// <summary>The name of a family, the counters' <c>_total</c> left out, and the unit that ends it; empty where it has none.</summary>
    public static (string Name, string Unit) Of(string instrument, string? unit, MetricKind kind)
    {
        var name = Clean(instrument, collapse: true);
        if (kind == MetricKind.Counter && name.EndsWith("_total", StringComparison.Ordinal))
        {
            name = name[..^"_total".Length];
        }

        var suffix = unit == "1" ? kind == MetricKind.Gauge ? "ratio" : "" : Unit(unit);
        return suffix.Length == 0 || name.EndsWith("_" + suffix, StringComparison.Ordinal) ? (name, suffix) : ($"{name}_{suffix}", suffix);
    }

    /// <summary>
    /// Tags as they stand between the braces: sorted by name, so that the same ones in another order are the same series. A tag without a
    /// value is left out: an empty label is none.
    /// </summary>
    public static string Labels(ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        var labels = new SortedDictionary<string, string>(StringComparer.Ordinal);
        foreach (var (key, value) in tags)
        {
            var text = value switch { null => "", bool flag => flag ? "true" : "false", IFormattable number => number.ToString(null, CultureInfo.InvariantCulture), _ => value.ToString() ?? "" };
            if (text.Length > 0)
            {
                var name = Clean(key, collapse: false);
                // Two tags whose names differ only in what a label's name cannot have.
                labels[name] = labels.TryGetValue(name, out var other) ? $"{other};{text}" : text;
            }
        }

        var all = new StringBuilder();
        foreach (var (name, value) in labels)
        {
            all.Append(all.Length == 0 ? "" : ",").Append(name).Append("=\"").Append(Escape(value, quotes: true)).Append('"');
        }

        return all.ToString();
    }

    /// <summary>A text without line breaks: a label's value, or a help text, in which only OpenMetrics has the quotes escaped.</summary>
    public static string Escape(string text, bool quotes)
    {
        text = text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal);
        return quotes ? text.Replace("\"", "\\\"", StringComparison.Ordinal) : text;
    }

    /// <summary>
    /// A bucket's upper bound. Always with a point, as OpenMetrics wants it: it is a part of the series' identity, which must not change
    /// with the format.
    /// </summary>
    public static string Bound(double bound)
    {
        var text = bound.ToString(CultureInfo.InvariantCulture);
        return double.IsPositiveInfinity(bound) ? "+Inf" : text.AsSpan().ContainsAny('.', 'E') ? text : text + ".0";
    }

    static string Unit(string? unit)
    {
        var open = unit?.IndexOf('{') ?? -1;
        if (open >= 0)   // an annotation such as {request} is no unit
        {
            unit = unit![..open] + unit[(unit.IndexOf('}') + 1)..];
        }

        if (unit is not { Length: > 0 })
        {
            return "";
        }

        var parts = unit.Split('/', 2);
        var first = parts[0].Length == 0 ? "" : Units.GetValueOrDefault(parts[0], parts[0]);
        var rate = parts.Length == 1 || parts[1].Length == 0 ? "" : "per_" + Per.GetValueOrDefault(parts[1], parts[1]);
        return Clean($"{first}{(first.Length > 0 && rate.Length > 0 ? "_" : "")}{rate}", collapse: true).Trim('_');
    }

    static string Clean(string name, bool collapse)
    {
        var clean = new StringBuilder(name.Length + 1);
        foreach (var c in name)
        {
            var letter = char.IsAsciiLetterOrDigit(c) ? c : '_';
            if (clean.Length == 0 && char.IsAsciiDigit(letter))
            {
                clean.Append('_');
            }

            if (!(collapse && letter == '_' && clean.Length > 0 && clean[^1] == '_'))
            {
                clean.Append(letter);
            }
        }

        return clean.ToString();
    }
}
