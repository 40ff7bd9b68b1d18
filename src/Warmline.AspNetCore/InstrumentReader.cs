using System.Collections.Concurrent;
using System.Diagnostics.Metrics;

namespace Warmline.AspNetCore;

/// <summary>What Prometheus takes an instrument for.</summary>
internal enum MetricKind
{
    /// <summary>It only rises.</summary>
    Counter,

    /// <summary>It is summed up and may fall: a gauge to Prometheus.</summary>
    UpDown,

    /// <summary>It is what it is; two of them cannot be added.</summary>
    Gauge,

    /// <summary>Counts by size.</summary>
    Histogram,
}

/// <summary>One series at one moment.</summary>
/// <param name="Labels">Its labels, as between the braces.</param>
/// <param name="Value">Its value; of a histogram the sum.</param>
/// <param name="Buckets">Of a histogram, how many measurements fell between each bound and the one before, and beyond the last; null
/// else.</param>
internal readonly record struct Point(string Labels, double Value, long[]? Buckets);

/// <summary>Takes the measurements of one instrument.</summary>
/// <remarks>
/// Measurements come from the threads of the pool's calls: the known series of a set of tags is found without lock and without allocation,
/// and is then locked for a few additions. A new set of tags costs a string. Beyond the most series, new sets of tags go to one of their
/// own, as OpenTelemetry's SDK does it: a mistake in a tag costs detail, not memory.
/// </remarks>
internal sealed class InstrumentReader
{
    const string OverflowLabels = "otel_metric_overflow=\"true\"";

    // For instruments without advice: those of ASP.NET Core and HttpClient for seconds, else those of OpenTelemetry's specification.
    static readonly double[] SecondBounds = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];
    static readonly double[] OtherBounds = [0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000];

    readonly Instrument _instrument;
    readonly int _maxSeries;
    readonly Lock _adding = new();
    readonly ConcurrentDictionary<KeyValuePair<string, object?>[], Series> _series = new(TagComparer.Instance);
    readonly ConcurrentDictionary<KeyValuePair<string, object?>[], Series>.AlternateLookup<ReadOnlySpan<KeyValuePair<string, object?>>> _lookup;
    readonly Series _overflow;
    int _count;
    int _round;

    InstrumentReader(Instrument instrument, MetricKind kind, int maxSeries)
    {
        (_instrument, Kind, _maxSeries) = (instrument, kind, maxSeries);
        (Name, Unit) = PrometheusNames.Of(instrument.Name, instrument.Unit, kind);
        Bounds = kind == MetricKind.Histogram ? BoundsOf(instrument) : [];
        _lookup = _series.GetAlternateLookup<ReadOnlySpan<KeyValuePair<string, object?>>>();
        _overflow = new Series(OverflowLabels, kind == MetricKind.Histogram ? Bounds.Length + 1 : 0);
    }

    public MetricKind Kind { get; }

    public string Name { get; }

    public string Unit { get; }

    public string Help => _instrument.Description ?? "";

    public double[] Bounds { get; }

    /// <summary>A reader for an instrument; <see langword="null"/> for one of a kind that is not known.</summary>
    public static InstrumentReader? Of(Instrument instrument, int maxSeries)
    {
        var type = instrument.GetType();
        type = type.IsGenericType ? type.GetGenericTypeDefinition() : type;
        MetricKind? kind =
            type == typeof(Counter<>) || type == typeof(ObservableCounter<>) ? MetricKind.Counter
            : type == typeof(UpDownCounter<>) || type == typeof(ObservableUpDownCounter<>) ? MetricKind.UpDown
            : type == typeof(Gauge<>) || type == typeof(ObservableGauge<>) ? MetricKind.Gauge
            : type == typeof(Histogram<>) ? MetricKind.Histogram
            : null;
        return kind is { } known ? new InstrumentReader(instrument, known, maxSeries) : null;
    }

    /// <summary>Before a look at an observable instrument: what it does not tell again is gone.</summary>
    public void Begin() => _round++;

    public void Take(double value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        if (double.IsNaN(value))
        {
            return;   // it would make a sum useless for ever
        }

        var series = _lookup.TryGetValue(tags, out var known) ? known : Add(tags);
        lock (series)
        {
            if (Kind == MetricKind.Histogram)
            {
                // The bound belongs to the bucket that it ends. Where it is not found, the complement is the index of the next larger one.
                var at = Array.BinarySearch(Bounds, value);
                series.Buckets[at < 0 ? ~at : at]++;
                series.Value += value;
            }
            else if (Kind == MetricKind.Gauge || (_instrument.IsObservable && series.Round != _round))
            {
                series.Value = value;
            }
            else
            {
                series.Value += value;   // also where an observation has the same tags twice, as of two pools with one name
            }

            series.Round = _round;
        }
    }

    /// <summary>
    /// All series as they are now. Of an observable instrument those that it told since <see cref="Begin"/>; others are forgotten, so that
    /// what comes and goes takes no place for ever.
    /// </summary>
    public List<Point> Read()
    {
        var points = new List<Point>(_count + 1);
        foreach (var (tags, series) in _series)
        {
            if (_instrument.IsObservable && series.Round != _round)
            {
                lock (_adding)
                {
                    _count -= _series.TryRemove(tags, out _) ? 1 : 0;
                }
            }
            else
            {
                points.Add(series.Read());
            }
        }

        if (_overflow.IsUsed && !(_instrument.IsObservable && _overflow.Round != _round))
        {
            points.Add(_overflow.Read());
        }

        return points;
    }

    Series Add(ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        if (Volatile.Read(ref _count) >= _maxSeries)
        {
            return Overflow();
        }

        lock (_adding)
        {
            if (_lookup.TryGetValue(tags, out var known))   // another thread came first
            {
                return known;
            }

            if (_count >= _maxSeries)
            {
                return Overflow();
            }

            var series = new Series(PrometheusNames.Labels(tags), _overflow.Buckets.Length);
            _series[tags.ToArray()] = series;
            _count++;
            return series;
        }
    }

    Series Overflow()
    {
        _overflow.IsUsed = true;
        return _overflow;
    }

    static double[] BoundsOf(Instrument instrument)
    {
        IEnumerable<double>? advised = instrument switch
        {
            Histogram<double> { Advice.HistogramBucketBoundaries: { } bounds } => bounds,
            Histogram<float> { Advice.HistogramBucketBoundaries: { } bounds } => bounds.Select(bound => (double)bound),
            Histogram<long> { Advice.HistogramBucketBoundaries: { } bounds } => bounds.Select(bound => (double)bound),
            Histogram<int> { Advice.HistogramBucketBoundaries: { } bounds } => bounds.Select(bound => (double)bound),
            _ => null,
        };
        // The infinite one is always there.
        return [.. (advised ?? (instrument.Unit == "s" ? SecondBounds : OtherBounds)).Where(double.IsFinite)];
    }

    sealed class Series(string labels, int buckets)
    {
        public double Value { get; set; }

        public long[] Buckets { get; } = new long[buckets];

        /// <summary>When it was told last.</summary>
        public int Round { get; set; }

        /// <summary>Of the overflow's series: whether anything went to it.</summary>
        public bool IsUsed { get; set; }

        public Point Read()
        {
            lock (this)
            {
                return new Point(labels, Value, Buckets.Length == 0 ? null : [.. Buckets]);
            }
        }
    }

    /// <summary>Tags by names and values in their order; a span of them is looked up without an array.</summary>
    sealed class TagComparer : IEqualityComparer<KeyValuePair<string, object?>[]>, IAlternateEqualityComparer<ReadOnlySpan<KeyValuePair<string, object?>>, KeyValuePair<string, object?>[]>
    {
        public static TagComparer Instance { get; } = new();

        public bool Equals(KeyValuePair<string, object?>[]? x, KeyValuePair<string, object?>[]? y) => ReferenceEquals(x, y) || (x is not null && y is not null && Equals(x.AsSpan(), y));

        public int GetHashCode(KeyValuePair<string, object?>[] obj) => GetHashCode(obj.AsSpan());

        public KeyValuePair<string, object?>[] Create(ReadOnlySpan<KeyValuePair<string, object?>> alternate) => alternate.ToArray();

        public bool Equals(ReadOnlySpan<KeyValuePair<string, object?>> alternate, KeyValuePair<string, object?>[] other)
        {
            if (alternate.Length != other.Length)
            {
                return false;
            }

            for (var i = 0; i < other.Length; i++)
            {
                if (alternate[i].Key != other[i].Key || !object.Equals(alternate[i].Value, other[i].Value))
                {
                    return false;
                }
            }

            return true;
        }

        public int GetHashCode(ReadOnlySpan<KeyValuePair<string, object?>> alternate)
        {
            var hash = new HashCode();
            foreach (var tag in alternate)
            {
                hash.Add(tag.Value);   // the names of one instrument's tags are the same nearly always: they tell nothing apart
            }

            return hash.ToHashCode();
        }
    }
}
