using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection;

namespace Warmline.Tests.Support;

/// <summary>What the meter <c>Warmline</c> of one factory tells.</summary>
internal sealed class MetricsRecorder : IDisposable
{
    readonly ServiceProvider _services = new ServiceCollection().AddMetrics().BuildServiceProvider();
    readonly MeterListener _listener = new();
    readonly ConcurrentQueue<Recorded> _recorded = new();

    public MetricsRecorder(bool listens = true)
    {
        Factory = _services.GetRequiredService<IMeterFactory>();   // kept: another test's meter may be told of while this recorder ends
        _listener.InstrumentPublished = (instrument, listener) =>
        {
            if (instrument.Meter.Scope == Factory || (instrument.Meter.Scope is null && instrument.Meter.Name == "Warmline" && SeesProcess))
            {
                Instruments.Add(instrument);
                if (listens)
                {
                    listener.EnableMeasurementEvents(instrument);
                }
            }
        };
        _listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) => Note(instrument, value, tags));
        _listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) => Note(instrument, value, tags));
    }

    public IMeterFactory Factory { get; }

    public ConcurrentBag<Instrument> Instruments { get; } = [];

    /// <summary>Also the meter of pools that have no factory.</summary>
    public bool SeesProcess { get; init; }

    public IReadOnlyList<Recorded> All => [.. _recorded];

    public MetricsRecorder Start()
    {
        _listener.Start();
        return this;
    }

    /// <summary>What was recorded by calls, and what is read now.</summary>
    public IReadOnlyList<Recorded> Collect()
    {
        _listener.RecordObservableInstruments();
        return All;
    }

    /// <summary>The latest value of a series: of the instrument, with these tags among its own.</summary>
    public double? Value(string name, params (string Tag, object Value)[] tags) => Of(name, tags).LastOrDefault()?.Value;

    public IEnumerable<Recorded> Of(string name, params (string Tag, object Value)[] tags) =>
        All.Where(recorded => recorded.Name == name && tags.All(tag => Equals(recorded.Tags.GetValueOrDefault(tag.Tag), tag.Value)));

    public void Dispose()
    {
        _listener.Dispose();
        _services.Dispose();
    }

    void Note(Instrument instrument, double value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        var copy = new Dictionary<string, object?>();
        foreach (var (name, of) in tags)
        {
            copy.Add(name, of);   // a tag that comes twice is a fault
        }

        _recorded.Enqueue(new Recorded(instrument.Name, value, copy));
    }

    internal sealed record Recorded(string Name, double Value, IReadOnlyDictionary<string, object?> Tags);
}

/// <summary>The spans of one pool, known by its name, as they end. Others of the process are not wanted, so that no other test's calls carry a trace.</summary>
internal sealed class SpanRecorder : IDisposable
{
    readonly ConcurrentQueue<Activity> _ended = new();
    readonly ActivityListener _listener;

    public SpanRecorder(string pool, ActivitySamplingResult result = ActivitySamplingResult.AllDataAndRecorded)
    {
        _listener = new ActivityListener
        {
            ShouldListenTo = static source => source.Name == "Warmline",
            Sample = (ref ActivityCreationOptions<ActivityContext> options) => options.Tags?.Where(static tag => tag.Key == "warmline.pool.name").All(tag => Equals(tag.Value, pool)) != false
                ? result : ActivitySamplingResult.None,
            ActivityStopped = activity =>
            {
                if (activity.GetTagItem("warmline.pool.name") is null || Equals(activity.GetTagItem("warmline.pool.name"), pool))
                {
                    _ended.Enqueue(activity);
                }
            },
        };
        ActivitySource.AddActivityListener(_listener);
    }

    public IReadOnlyList<Activity> Ended => [.. _ended];

    /// <summary>Those of the traces that this pool's own spans began.</summary>
    public IReadOnlyList<Activity> Named(string name) => [.. Ended.Where(activity => activity.OperationName == name)];

    public void Dispose() => _listener.Dispose();
}
