using System.Diagnostics.Metrics;

namespace Warmline.AspNetCore;

/// <summary>Metrics of one name: those of all pools together.</summary>
internal sealed record Family(string Name, string Unit, string Help, MetricKind Kind, double[] Bounds, IReadOnlyCollection<Point> Points);

/// <summary>
/// Listens to the meters of one name and tells, when asked, what they measured. Small, because it knows one purpose; all members are
/// thread-safe.
/// </summary>
internal sealed class MeterReader : IDisposable
{
    /// <summary>As in OpenTelemetry's SDK.</summary>
    public const int DefaultMaxSeries = 2_000;

    readonly MeterListener _listener = new();
    readonly Lock _reading = new();
    readonly Lock _gate = new();
    readonly List<InstrumentReader> _instruments = [];

    /// <summary>Listens from now on.</summary>
    /// <param name="meter">The meters' name.</param>
    /// <param name="factory">The application's own: its meters count, and those that no factory made; those of another application in the
    /// process do not.</param>
    /// <param name="maxSeries">The most series of one instrument.</param>
    public MeterReader(string meter, IMeterFactory? factory, int maxSeries = DefaultMaxSeries)
    {
        _listener.InstrumentPublished = (instrument, listener) =>
        {
            if (instrument.Meter.Name == meter && (instrument.Meter.Scope is null || ReferenceEquals(instrument.Meter.Scope, factory)) && InstrumentReader.Of(instrument, maxSeries) is { } reader)
            {
                lock (_gate)
                {
                    _instruments.Add(reader);
                }

                listener.EnableMeasurementEvents(instrument, reader);
            }
        };
        _listener.MeasurementsCompleted = (_, state) =>   // its pool was disposed
        {
            lock (_gate)
            {
                _instruments.Remove((InstrumentReader)state!);
            }
        };
        _listener.SetMeasurementEventCallback<double>(static (_, value, tags, state) => ((InstrumentReader)state!).Take(value, tags));
        _listener.SetMeasurementEventCallback<float>(static (_, value, tags, state) => ((InstrumentReader)state!).Take(value, tags));
        _listener.SetMeasurementEventCallback<decimal>(static (_, value, tags, state) => ((InstrumentReader)state!).Take((double)value, tags));
        _listener.SetMeasurementEventCallback<long>(static (_, value, tags, state) => ((InstrumentReader)state!).Take(value, tags));
        _listener.SetMeasurementEventCallback<int>(static (_, value, tags, state) => ((InstrumentReader)state!).Take(value, tags));
        _listener.SetMeasurementEventCallback<short>(static (_, value, tags, state) => ((InstrumentReader)state!).Take(value, tags));
        _listener.SetMeasurementEventCallback<byte>(static (_, value, tags, state) => ((InstrumentReader)state!).Take(value, tags));
        _listener.Start();
    }

    /// <summary>
    /// Asks the observable instruments, and tells all families in the order of their names. One reader at a time: what an observation
    /// brings belongs to one reading.
    /// </summary>
    /// <param name="failed">Takes what an instrument's callback threw; the others are told all the same.</param>
    public IReadOnlyList<Family> Read(Action<Exception> failed)
    {
        lock (_reading)
        {
            InstrumentReader[] instruments;
            lock (_gate)
            {
                instruments = [.. _instruments];
            }

            Array.ForEach(instruments, instrument => instrument.Begin());
            try
            {
                _listener.RecordObservableInstruments();
            }
            catch (Exception error)
            {
                failed(error);
            }

            return [.. instruments.GroupBy(instrument => instrument.Name, StringComparer.Ordinal).OrderBy(family => family.Key, StringComparer.Ordinal).Select(family => Merge([.. family])).Where(family => family.Points.Count > 0)];
        }
    }

    public void Dispose() => _listener.Dispose();

    /// <summary>
    /// Pools that share a name share their series: these are added up, as a series may stand in an answer only once. Of gauges the last
    /// counts.
    /// </summary>
    static Family Merge(InstrumentReader[] instruments)
    {
        var first = instruments[0];
        var points = new SortedDictionary<string, Point>(StringComparer.Ordinal);
        foreach (var instrument in instruments)
        {
            if (instrument.Kind != first.Kind || !instrument.Bounds.AsSpan().SequenceEqual(first.Bounds))
            {
                continue;   // a name has one type: that of the instrument that came first
            }

            foreach (var point in instrument.Read())
            {
                points[point.Labels] = first.Kind != MetricKind.Gauge && points.TryGetValue(point.Labels, out var other)
                    ? new Point(point.Labels, other.Value + point.Value, point.Buckets is null ? null : [.. point.Buckets.Zip(other.Buckets!, (a, b) => a + b)])
                    : point;
            }
        }

        return new Family(first.Name, first.Unit, first.Help, first.Kind, first.Bounds, points.Values);
    }
}
