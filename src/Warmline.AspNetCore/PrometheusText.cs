using System.Buffers;
using System.Globalization;
using System.Text;

namespace Warmline.AspNetCore;

/// <summary>
/// Writes families in Prometheus's text format 0.0.4 or as OpenMetrics 1.0.0; these differ in the counters' family names, in units, in
/// escapes and in the end.
/// </summary>
internal sealed class PrometheusText(IBufferWriter<byte> output, bool openMetrics)
{
    public const string TextType = "text/plain; version=0.0.4; charset=utf-8";
    public const string OpenMetricsType = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    public void Write(Family family)
    {
        var samples = family.Kind == MetricKind.Counter ? family.Name + "_total" : family.Name;
        var name = openMetrics ? family.Name : samples;
        if (family.Help.Length > 0)
        {
            Line($"# HELP {name} {PrometheusNames.Escape(family.Help, quotes: openMetrics)}");
        }

        Line($"# TYPE {name} {family.Kind switch { MetricKind.Counter => "counter", MetricKind.Histogram => "histogram", _ => "gauge" }}");
        if (openMetrics && family.Unit.Length > 0)
        {
            Line($"# UNIT {name} {family.Unit}");
        }

        var bounds = family.Bounds.Append(double.PositiveInfinity).Select(PrometheusNames.Bound).ToArray();
        foreach (var point in family.Points)
        {
            if (point.Buckets is not { } buckets)
            {
                Sample(samples, point.Labels, point.Value);
                continue;
            }

            var count = 0L;
            var before = point.Labels.Length == 0 ? "" : point.Labels + ",";
            for (var i = 0; i < buckets.Length; i++)
            {
                Sample(family.Name + "_bucket", $"{before}le=\"{bounds[i]}\"", count += buckets[i]);
            }

            Sample(family.Name + "_sum", point.Labels, point.Value);
            Sample(family.Name + "_count", point.Labels, count);
        }
    }

    /// <summary>OpenMetrics ends with a mark, so that half an answer is seen as such.</summary>
    public void End()
    {
        if (openMetrics)
        {
            Line("# EOF");
        }
    }

    void Sample(string name, string labels, double value)
    {
        var number = double.IsPositiveInfinity(value) ? "+Inf" : double.IsNegativeInfinity(value) ? "-Inf" : value.ToString(CultureInfo.InvariantCulture);
        Line(labels.Length == 0 ? $"{name} {number}" : $"{name}{{{labels}}} {number}");
    }

    void Line(string text)
    {
        Encoding.UTF8.GetBytes(text, output);
        output.Write("\n"u8);
    }
}
