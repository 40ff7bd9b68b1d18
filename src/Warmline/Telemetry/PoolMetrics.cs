using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.Metrics;
using System.Runtime.CompilerServices;

namespace Warmline;

using Tag = KeyValuePair<string, object?>;

/// <summary>A pool as the metrics see it.</summary>
internal interface IMeasuredPool
{
    string Name { get; }

    /// <summary>Whether there are tenants that the options name: only these have series of their own.</summary>
    bool NamesTenants { get; }

    TimeSpan Now { get; }

    PoolStats GetStats(bool detailed = true);
}

/// <summary>
/// Every instrument, on one meter: <c>Warmline</c>. Counts and states are read from the pools' figures when somebody collects, so they
/// equal <see cref="PoolStats"/>, cost a call nothing, and no +1 can lose its -1; only durations are recorded by calls, and only while
/// somebody listens. The slots are muted: what a call does is told once, by OpenTelemetry's names where these exist
/// (https://opentelemetry.io/docs/specs/semconv/http/http-metrics/). docs/metrics.md describes each; a test compares.
/// </summary>
internal sealed class PoolMetrics
{
    public const string MeterName = "Warmline";

    /// <summary>Beyond so many, names of origins and of pools are shown together as <see cref="Other"/>: each is a series.</summary>
    const int MostNames = 100;
    const string Other = "other";

    /// <summary>The convention's boundaries, and beyond them those of answers that take minutes.</summary>
    static readonly double[] Answers = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 25, 50, 100, 300, 600];
    static readonly double[] Short = [0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
    static readonly double[] Lives = [1, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600];

    static readonly string Version = typeof(PoolMetrics).Assembly.GetName().Version!.ToString(3);
    static readonly Lazy<PoolMetrics> Shared = new(static () => new PoolMetrics(new Meter(MeterName, Version)));
    static readonly ConditionalWeakTable<IMeterFactory, PoolMetrics> ByFactory = [];

    readonly Lock _gate = new();
    readonly Meter _meter;
    readonly List<Membership> _pools = [];
    readonly List<(int Instrument, string Pool, Sample Total)> _ended = [];
    readonly List<Reading> _counters = [];
    readonly HashSet<string> _names = [];
    readonly ConcurrentDictionary<(string Scheme, string Host, int Port), Tag[]> _origins = new();
    int _instruments;

    PoolMetrics(Meter meter)
    {
        _meter = meter;
        RequestDuration = Duration("http.client.request.duration", Answers, "From asking the pool to the answer's headers, waiting included.");
        TimeInQueue = Duration("http.client.request.time_in_queue", Short, "From asking for a place on a connection to having it; a wait for a dial is part of it.");
        ConnectionDuration = Duration("http.client.connection.duration", Lives, "How long connections were open.");
        HandshakeDuration = Duration("warmline.handshake.duration", Short, "Phases of the dials that succeeded: DNS, TCP, the proxy's tunnel, TLS, the wait for HTTP/2 SETTINGS.");
        LeaseDuration = Duration("warmline.lease.duration", Answers, "From having a place to the end of request and response body.");
        TimeToFirstToken = Duration("warmline.time_to_first_token", Answers, "From asking for a place to the first piece of a streamed answer.");
        DefineCounts();
        DefineStates();
    }

    delegate IEnumerable<Sample> Reading(PoolStats stats);


    /// <summary>How what several pools of one name show becomes one value.</summary>
    enum Merge
    {
        Sum,
        Max,
        Min,
    }

    public Histogram<double> RequestDuration { get; }

    public Histogram<double> TimeInQueue { get; }

    public Histogram<double> ConnectionDuration { get; }

    public Histogram<double> HandshakeDuration { get; }

    public Histogram<double> LeaseDuration { get; }

    public Histogram<double> TimeToFirstToken { get; }

    /// <summary>Those of the factory's <c>Warmline</c> meter, which it owns; of the process's without one.</summary>
    public static PoolMetrics For(IMeterFactory? factory) => factory is null
        ? Shared.Value
        : ByFactory.GetValue(factory, static factory => new PoolMetrics(MeterOf(factory)));

    /// <summary>
    /// Records a duration. A listener's callback runs within, in the midst of the pool's own steps: what it throws must not cost a lease or
    /// a permit.
    /// </summary>
    public static void Record(Histogram<double> histogram, TimeSpan time, in TagList tags)
    {
        try
        {
            histogram.Record(time.TotalSeconds, tags);
        }
        catch (Exception)
        {
            // A failing listener only loses its measurement.
        }
    }

    /// <summary>Shows the pool until the membership ends. It is held weakly: no pool lives longer for being measured.</summary>
    public Membership Add(IMeasuredPool pool)
    {
        lock (_gate)
        {
            var name = _names.Contains(pool.Name) || _names.Count < MostNames ? pool.Name : Other;
            _names.Add(name);
            var membership = new Membership(this, pool, name);
            _pools.RemoveAll(static known => known.IsGone);
            _pools.Add(membership);
            return membership;
        }
    }

    /// <summary><c>server.address</c>, <c>server.port</c>, <c>url.scheme</c>.</summary>
    Tag[] OriginTags(string scheme, string host, int port) =>
        _origins.TryGetValue((scheme, host, port), out var tags) ? tags
        : _origins.Count < MostNames ? _origins.GetOrAdd((scheme, host, port), static origin => [new("server.address", origin.Host), new("server.port", origin.Port), new("url.scheme", origin.Scheme)])
        : [new("server.address", Other), new("server.port", 0), new("url.scheme", scheme)];

    void DefineCounts()
    {
        Count("warmline.requests", "{request}", "Requests that asked for a place.", static stats => [new(stats.TotalRequests)]);
        Count("warmline.requests.placed", "{request}", "Requests that got a place, by whether they needed no dial of their own.",
            static stats => [new(stats.ReusedConnections, new Tag("warmline.reused", true)), new(stats.Granted - stats.ReusedConnections, new Tag("warmline.reused", false))]);
        Count("warmline.requests.refused", "{request}", "Requests that were refused a place, by what they lacked.", static stats => By("warmline.reason", stats.RefusedBy));
        Count("warmline.requests.failed", "{request}", "Requests that failed after they had a place, by whether the server can have worked on them.", static stats =>
        [
            new(stats.Faults.FailedNotSent, new Tag("warmline.verdict", "not_sent")), new(stats.Faults.FailedUnprocessed, new Tag("warmline.verdict", "unprocessed")),
            new(stats.Faults.FailedUnknown, new Tag("warmline.verdict", "unknown")),
        ]);
        Count("warmline.requests.retried", "{request}", "Attempts that were made again, by the proof that they may be.", static stats =>
        [
            new(stats.Faults.RetriedNotSent, new Tag("warmline.verdict", "not_sent")), new(stats.Faults.RetriedUnprocessed, new Tag("warmline.verdict", "unprocessed")),
            new(stats.Faults.RetriedIdempotent, new Tag("warmline.verdict", "idempotent")),
        ]);
        Count("warmline.requests.retries_refused", "{request}", "Requests that might have been sent again, but had used up their tries or the pool its retry budget.", static stats => [new(stats.Faults.RetriesRefused)]);
        Count("warmline.requests.stalled", "{request}", "Requests that a clock ended, by the clock.", static stats => By("warmline.phase", stats.Faults.StalledIn));
        Count("warmline.requests.bypassed", "{request}", "Requests that were sent past the pool while it was switched off.", static stats => [new(stats.Bypassed)]);
        Count("warmline.responses.abandoned", "{response}", "Responses that their readers left before the end.", static stats => [new(stats.Faults.Abandoned)]);
        Count("warmline.responses.leaked", "{response}", "Responses that were let go, neither read to their end nor disposed.", static stats => [new(stats.Faults.Leaked)]);
        Count("warmline.streams.failed", "{stream}", "Streams of events that began well and brought an error event.", static stats => [new(stats.Faults.StreamErrors)]);
        Count("warmline.connections.opened", "{connection}", "Connections opened.", static stats => [new(stats.NewConnections)]);
        Count("warmline.connections.lost", "{connection}", "Idle connections that were lost, or given up together with one that was.", static stats => [new(stats.LostConnections)]);
        Count("warmline.dials.failed", "{dial}", "Dials that failed, by the phase.", static stats => By("warmline.phase", stats.FailedDialsIn));
    }

    void DefineStates()
    {
        State("http.client.active_requests", "{request}", "Requests that have a place.", stats => stats.Origins.Select(origin => Of(origin, origin.Active)));
        State("http.client.open_connections", "{connection}", "Connections that take requests, by whether they carry one.", stats => stats.Origins.SelectMany(origin => (Sample[])
        [
            Of(origin, origin.Connections - origin.Idle, new Tag("http.connection.state", "active"), new Tag("network.protocol.version", ProtocolOf(origin))),
            Of(origin, origin.Idle, new Tag("http.connection.state", "idle"), new Tag("network.protocol.version", ProtocolOf(origin))),
        ]));
        State("warmline.leases", "{request}", "Requests that have a place, by lane.", static stats => ByLane(stats, stats.Active, static lane => lane.Active));
        State("warmline.streams", "{stream}", "Requests that have a place and whose answers are streams of events.", static stats => [new(stats.Streaming)]);
        State("warmline.waiters", "{request}", "Requests that wait for a place, by lane.", static stats => ByLane(stats, stats.Queued, static lane => lane.Queued));
        State("warmline.tenant.leases", "{request}", "Requests that have a place, by tenant.", static stats => ByTenant(stats, stats.Active, static tenant => tenant.Active));
        State("warmline.tenant.waiters", "{request}", "Requests that wait for a place, by tenant.", static stats => ByTenant(stats, stats.Queued, static tenant => tenant.Queued));
        State("warmline.connections", "{connection}", "Connections open or being opened or closed.", static stats => [new(stats.Connections)]);
        Gauge("warmline.connections.peak", "{connection}", "The most connections that were open at the same time.", static stats => [new(stats.PeakConnections)]);
        Gauge("warmline.connections.limit", "{connection}", "MaxConnections.", static stats => [new(stats.MaxConnections)], Merge.Sum);
        Gauge("warmline.leases.peak", "{request}", "The most requests that had a place at the same time.", static stats => [new(stats.PeakActive)]);
        Gauge("warmline.queue.wait.max", "s", "The longest time for which a request waited for a place.", static stats => [new(stats.MaxQueueWait.TotalSeconds)]);
        Gauge("warmline.utilization", "1", "Requests that have a place, over the smallest limit that applies.", stats => stats.Origins.Select(origin => Of(origin, origin.Utilization)));
        Gauge("warmline.reuse", "1", "Share of the requests with a place that needed no dial of their own.", static stats => stats.Granted == 0 ? [] : [new(stats.ReuseRate)], Merge.Min);
        Gauge("warmline.handshake.time_saved", "s", "Handshakes avoided, in seconds.", static stats => [new(stats.TimeSaved.TotalSeconds)], Merge.Sum);
    }

    /// <summary>Every kind, also at zero: a rate cannot be told of a series that begins with its first count.</summary>
    static IEnumerable<Sample> By<TKind>(string tag, IReadOnlyDictionary<TKind, long> counts)
        where TKind : struct, Enum =>
        Enum.GetValues<TKind>().Where(static kind => kind is not PoolRejectionReason.None).Select(kind => new Sample(counts.GetValueOrDefault(kind), new Tag(tag, Snake(kind.ToString()))));

    static IEnumerable<Sample> ByLane(PoolStats stats, int all, Func<LaneStats, int> read) =>
        [new(all - stats.Lanes.Sum(read)), .. stats.Lanes.Select(lane => new Sample(read(lane), new Tag("warmline.lane", lane.Lane)))];

    static IEnumerable<Sample> ByTenant(PoolStats stats, int all, Func<TenantStats, int> read)
    {
        if (stats.NamedTenants.Count == 0)
        {
            return [];
        }

        var busy = stats.Tenants.ToDictionary(static tenant => tenant.Tenant, read, StringComparer.Ordinal);
        var named = stats.NamedTenants.Take(MostNames).Select(name => (Name: name, Count: busy.GetValueOrDefault(name))).ToList();
        return [new(all - named.Sum(static tenant => tenant.Count), new Tag("warmline.tenant", Other)), .. named.Select(static tenant => new Sample(tenant.Count, new Tag("warmline.tenant", tenant.Name)))];
    }

    static string ProtocolOf(OriginStats origin) => origin.HttpVersion is { Major: 2 } ? "2" : "1.1";

    /// <summary>As the conventions write enumerations: NotSent is not_sent.</summary>
    public static string Snake(string name) => string.Concat(name.Select(static (letter, at) => char.IsUpper(letter) ? (at > 0 ? "_" : "") + char.ToLowerInvariant(letter) : letter.ToString()));

    /// <summary>A part of the pool that is for this origin; several parts to one origin add up.</summary>
    Sample Of(OriginStats origin, double value, params ReadOnlySpan<Tag> further)
    {
        var uri = new Uri(origin.Origin);
        return new(value, [.. OriginTags(uri.Scheme, uri.IdnHost, uri.Port), .. further]);
    }

    Histogram<double> Duration(string name, double[] boundaries, string description) => Publish(_meter, meter =>
        meter.CreateHistogram(name, "s", description, tags: null, new InstrumentAdvice<double> { HistogramBucketBoundaries = boundaries }));

    /// <summary>Makes an instrument. Listeners are told within: one that throws costs the process this instrument, and no pool.</summary>
    static T Publish<T>(Meter meter, Func<Meter, T> make)
    {
        try
        {
            return make(meter);
        }
        catch (Exception)
        {
            return make(NoMeter());
        }
    }

    static Meter MeterOf(IMeterFactory factory)
    {
        try
        {
            return factory.Create(new MeterOptions(MeterName) { Version = Version });
        }
        catch (Exception)
        {
            return NoMeter();
        }
    }

    /// <summary>The instruments of a meter that has ended reach no listener.</summary>
    static Meter NoMeter()
    {
        var meter = new Meter(MeterName);
        meter.Dispose();
        return meter;
    }

    void Count(string name, string unit, string description, Reading reading)
    {
        var instrument = _instruments++;
        _counters.Add(reading);
        Publish(_meter, meter => meter.CreateObservableCounter(name,
            () => Collect(instrument, Merge.Sum, reading, ended: _counters.IndexOf(reading))
                .Select(static read => new Measurement<long>((long)read.Value, read.Tags)),
            unit, description));
    }

    void State(string name, string unit, string description, Reading reading)
    {
        var instrument = _instruments++;
        Publish(_meter, meter => meter.CreateObservableUpDownCounter(name,
            () => Collect(instrument, Merge.Sum, reading).Select(static read => new Measurement<long>((long)read.Value, read.Tags)),
            unit, description));
    }

    void Gauge(string name, string unit, string description, Reading reading, Merge merge = Merge.Max)
    {
        var instrument = _instruments++;
        Publish(_meter, meter => meter.CreateObservableGauge(name, () =>
            Collect(instrument, merge, reading).Select(static read => new Measurement<double>(read.Value, read.Tags)), unit, description));
    }

    /// <summary>
    /// One value for each series: pools of one name together, and with them what those that ended had counted, as a counter never goes
    /// back.
    /// </summary>
    List<(double Value, Tag[] Tags)> Collect(int instrument, Merge merge, Reading reading, int ended = -1)
    {
        Membership[] pools;
        List<(string Pool, Sample Sample)> samples = [];
        lock (_gate)
        {
            pools = [.. _pools];
            samples.AddRange(_ended.Where(total => total.Instrument == ended).Select(static total => (total.Pool, total.Total)));
        }

        foreach (var pool in pools)
        {
            if (pool.Read(instrument) is { } stats)
            {
                samples.AddRange(reading(stats).Select(sample => (pool.Name, sample)));
            }
        }

        return [.. samples.GroupBy(static sample => (sample.Pool, sample.Sample.Series)).Select(series => (
            series.Select(static sample => sample.Sample.Value).Aggregate((left, right) => merge switch { Merge.Sum => left + right, Merge.Max => Math.Max(left, right), _ => Math.Min(left, right) }),
            (Tag[])[new("warmline.pool.name", series.Key.Pool), .. series.First().Sample.Tags]))];
    }

    void Remove(Membership membership, PoolStats? last)
    {
        lock (_gate)
        {
            if (!_pools.Remove(membership) || last is null)
            {
                return;
            }

            for (var counter = 0; counter < _counters.Count; counter++)
            {
                foreach (var sample in _counters[counter](last).Where(static sample => sample.Value > 0))
                {
                    var known = _ended.FindIndex(total => total.Instrument == counter && total.Pool == membership.Name && total.Total.Series == sample.Series);
                    if (known < 0)
                    {
                        _ended.Add((counter, membership.Name, sample));
                    }
                    else
                    {
                        _ended[known] = (counter, membership.Name, sample with { Value = sample.Value + _ended[known].Total.Value });
                    }
                }
            }
        }
    }

    /// <summary>A value and the tags beside the pool's name.</summary>
    readonly record struct Sample(double Value, params Tag[] Tags)
    {
        public string Series => string.Join('\n', Tags.Select(static tag => tag.Value));
    }

    /// <summary>One pool among those that a meter shows.</summary>
    internal sealed class Membership(PoolMetrics metrics, IMeasuredPool pool, string name) : IDisposable
    {
        /// <summary>A collection reads all instruments in one go: one look at the pool serves it, unless it takes that long.</summary>
        static readonly TimeSpan Fresh = TimeSpan.FromMilliseconds(100);

        readonly WeakReference<IMeasuredPool> _pool = new(pool);
        readonly Lock _gate = new();
        PoolStats? _stats;
        TimeSpan _readAt;
        long _readBy;

        public PoolMetrics Metrics => metrics;

        public string Name => name;

        public bool IsGone => !_pool.TryGetTarget(out _);

        /// <summary>The pool's figures: a look that this instrument has not had yet and that is fresh, or another.</summary>
        public PoolStats? Read(int instrument)
        {
            if (!_pool.TryGetTarget(out var source))
            {
                return null;
            }

            lock (_gate)
            {
                var now = source.Now;
                if (_stats is null || (_readBy & (1L << instrument)) != 0 || now - _readAt > Fresh)
                {
                    (_stats, _readAt, _readBy) = (source.GetStats(detailed: source.NamesTenants), now, 0);
                }

                _readBy |= 1L << instrument;
                return _stats;
            }
        }

        /// <summary>The pool's name and the origin's tags, as a call's durations carry them.</summary>
        public TagList Tags(string scheme, string host, int port)
        {
            var tags = new TagList { new("warmline.pool.name", name) };
            foreach (var tag in metrics.OriginTags(scheme, host, port))
            {
                tags.Add(tag);
            }

            return tags;
        }

        public void Dispose() => metrics.Remove(this, _pool.TryGetTarget(out var source) ? source.GetStats(detailed: false) : null);
    }
}
