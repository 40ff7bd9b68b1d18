using System.Globalization;

namespace Warmline.Options;

/// <summary>
/// Times as people write them: <c>500ms</c>, <c>8s</c>, <c>1.5s</c>, <c>2m</c>, <c>1h</c>, <c>00:02:00</c>, <c>infinite</c>.
/// </summary>
internal static class Duration
{
    static readonly (string Unit, double Seconds)[] Units = [("ms", 0.001), ("s", 1), ("m", 60), ("h", 3_600)];

    /// <summary>A number without a unit is no time: <see cref="TimeSpan.Parse(string)"/> takes 30 for thirty days.</summary>
    public static bool TryParse(string text, out TimeSpan time)
    {
        text = text.Trim();
        if (string.Equals(text, "infinite", StringComparison.OrdinalIgnoreCase))
        {
            time = Timeout.InfiniteTimeSpan;
            return true;
        }

        foreach (var (unit, seconds) in Units)
        {
            if (text.EndsWith(unit, StringComparison.Ordinal) && double.TryParse(text.AsSpan(0, text.Length - unit.Length).TrimEnd(), NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var number)
                && number * seconds <= TimeSpan.MaxValue.TotalSeconds / 2)
            {
                time = TimeSpan.FromTicks((long)Math.Round(number * seconds * TimeSpan.TicksPerSecond));
                return true;
            }
        }

        time = default;
        return text.Contains(':', StringComparison.Ordinal) && TimeSpan.TryParse(text, CultureInfo.InvariantCulture, out time);
    }

    /// <summary>The shortest way to write it: <c>90s</c> is <c>1.5m</c> to a machine, but not to a person.</summary>
    public static string Format(TimeSpan time) => time == Timeout.InfiniteTimeSpan ? "infinite"
        : time < TimeSpan.FromSeconds(1) ? string.Create(CultureInfo.InvariantCulture, $"{time.TotalMilliseconds:0.###}ms")
        : time.Ticks % TimeSpan.TicksPerHour == 0 ? string.Create(CultureInfo.InvariantCulture, $"{time.TotalHours:0}h")
        : time.Ticks % TimeSpan.TicksPerMinute == 0 ? string.Create(CultureInfo.InvariantCulture, $"{time.TotalMinutes:0}m")
        : string.Create(CultureInfo.InvariantCulture, $"{time.TotalSeconds:0.###}s");
}
