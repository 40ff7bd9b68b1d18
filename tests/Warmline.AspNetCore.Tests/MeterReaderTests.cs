using System.Buffers;
using System.Diagnostics.Metrics;
using System.Text;
using Microsoft.Extensions.DependencyInjection;

namespace Warmline.AspNetCore.Tests;

using Tag = KeyValuePair<string, object?>;

/// <summary>What instruments of every kind become.</summary>
public sealed class MeterReaderTests : IDisposable
{
    readonly Meter _meter = new($"test-{Guid.NewGuid()}");
    readonly MeterReader _reader;

    public MeterReaderTests() => _reader = new MeterReader(_meter.Name, factory: null, maxSeries: 4);

    public void Dispose()
    {
        _reader.Dispose();
        _meter.Dispose();
    }

    [Fact]
    public void Every_kind_of_instrument_is_told_by_its_name_type_and_unit()
    {
        _meter.CreateCounter<long>("app.calls", "{call}", "Calls.").Add(3, new Tag("app.way", "in"));
        _meter.CreateUpDownCounter<int>("app.open", "By", "Open.").Add(-2);
        _meter.CreateGauge<double>("app.load", "1", "Load.").Record(0.25);
        _meter.CreateHistogram<double>("app.took", "s", "Took.", advice: new InstrumentAdvice<double> { HistogramBucketBoundaries = [0.5, 1, 10] }).Record(1, new Tag("b", true), new Tag("a", 2));
        _meter.CreateObservableCounter("app.seen", () => 7L, "s", "Seen.");
        _meter.CreateObservableUpDownCounter("app.held", () => 5, null, "Held.");
        _meter.CreateObservableGauge("app.heat", () => 1e21, "Cel", "Heat.");

        Assert.Equal("""
            # HELP app_calls_total Calls.
            # TYPE app_calls_total counter
            app_calls_total{app_way="in"} 3
            # HELP app_heat_celsius Heat.
            # TYPE app_heat_celsius gauge
            app_heat_celsius 1E+21
            # HELP app_held Held.
            # TYPE app_held gauge
            app_held 5
            # HELP app_load_ratio Load.
            # TYPE app_load_ratio gauge
            app_load_ratio 0.25
            # HELP app_open_bytes Open.
            # TYPE app_open_bytes gauge
            app_open_bytes -2
            # HELP app_seen_seconds_total Seen.
            # TYPE app_seen_seconds_total counter
            app_seen_seconds_total 7
            # HELP app_took_seconds Took.
            # TYPE app_took_seconds histogram
            app_took_seconds_bucket{a="2",b="true",le="0.5"} 0
            app_took_seconds_bucket{a="2",b="true",le="1.0"} 1
            app_took_seconds_bucket{a="2",b="true",le="10.0"} 1
            app_took_seconds_bucket{a="2",b="true",le="+Inf"} 1
            app_took_seconds_sum{a="2",b="true"} 1
            app_took_seconds_count{a="2",b="true"} 1

            """, Text());
    }

    [Fact]
    public void OpenMetrics_has_counters_without_total_in_their_family_units_and_an_end()
    {
        _meter.CreateCounter<long>("app.calls", "{call}", "Say \"a\\b\"\nagain.").Add(1, new Tag("q", "a\"b\\c\nd"));
        _meter.CreateHistogram<long>("app.size", "By").Record(5);

        var text = Text(openMetrics: true);

        Assert.StartsWith("""
            # HELP app_calls Say \"a\\b\"\nagain.
            # TYPE app_calls counter
            app_calls_total{q="a\"b\\c\nd"} 1
            # TYPE app_size_bytes histogram
            # UNIT app_size_bytes bytes
            app_size_bytes_bucket{le="0.0"} 0
            app_size_bytes_bucket{le="5.0"} 1
            """, text, StringComparison.Ordinal);
        Assert.EndsWith("\n# EOF\n", text, StringComparison.Ordinal);
        Assert.Contains("# HELP app_calls_total Say \"a\\\\b\"\\nagain.\n", Text(), StringComparison.Ordinal);   // quotes are as they are here
    }

    [Theory]
    [InlineData("http.client.request.duration", "s", "Histogram", "http_client_request_duration_seconds")]
    [InlineData("warmline.utilization", "1", "Gauge", "warmline_utilization_ratio")]
    [InlineData("warmline.leases", "{request}", "UpDown", "warmline_leases")]
    [InlineData("warmline.parts", "1", "UpDown", "warmline_parts")]
    [InlineData("warmline.requests", "{request}", "Counter", "warmline_requests")]
    [InlineData("a.b_total", "", "Counter", "a_b")]
    [InlineData("wait.seconds", "s", "Gauge", "wait_seconds")]
    [InlineData("a..b--c/d", null, "Gauge", "a_b_c_d")]
    [InlineData("2fast", "ms", "Gauge", "_2fast_milliseconds")]
    [InlineData("speed", "By/s", "Gauge", "speed_bytes_per_second")]
    [InlineData("calls", "{call}/min", "Gauge", "calls_per_minute")]
    [InlineData("odd", "m/s2", "Gauge", "odd_m_per_s2")]
    public void A_name_is_made_by_OpenTelemetrys_rules(string instrument, string? unit, string kind, string expected) =>
        Assert.Equal(expected, PrometheusNames.Of(instrument, unit, Enum.Parse<MetricKind>(kind)).Name);

    [Fact]
    public void Labels_are_sorted_and_what_has_no_value_is_no_label()
    {
        Assert.Equal("""a_b="1;2",c="x",d_e="1.5",z="false" """.TrimEnd(), PrometheusNames.Labels([new("z", false), new("a.b", 1), new("none", null), new("empty", ""), new("a_b", 2L), new("d.e", 1.5), new("c", "x")]));
        Assert.Equal("", PrometheusNames.Labels([]));
    }

    [Fact]
    public void The_same_tags_in_another_order_are_the_same_series()
    {
        var calls = _meter.CreateCounter<long>("calls");
        calls.Add(1, new Tag("a", 1), new Tag("b", 2));
        calls.Add(2, new Tag("b", 2), new Tag("a", 1));
        calls.Add(4, new Tag("a", 1), new Tag("b", 3));

        Assert.Equal(["calls_total{a=\"1\",b=\"2\"} 3", "calls_total{a=\"1\",b=\"3\"} 4"], Samples());
    }

    [Fact]
    public void A_measurement_on_a_bound_belongs_to_the_bucket_below_it_and_none_is_lost()
    {
        var took = _meter.CreateHistogram("took", "s", "", tags: null, new InstrumentAdvice<double> { HistogramBucketBoundaries = [1, 2] });
        foreach (var value in new[] { -1, 0.5, 1, 1.5, 2, 2.5, double.PositiveInfinity, double.NaN })
        {
            took.Record(value);
        }

        Assert.Equal(["took_seconds_bucket{le=\"1.0\"} 3", "took_seconds_bucket{le=\"2.0\"} 5", "took_seconds_bucket{le=\"+Inf\"} 7", "took_seconds_sum +Inf", "took_seconds_count 7"], Samples());
    }

    [Theory]
    [InlineData("s", 0.005)]
    [InlineData("By", 0)]
    public void A_histogram_without_advice_has_the_usual_bounds(string unit, double first)
    {
        _meter.CreateHistogram<int>("took", unit).Record(1);

        Assert.Equal(first, Assert.Single(_reader.Read(_ => { })).Bounds[0]);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Beyond_the_most_series_what_is_new_goes_to_one_of_its_own(bool observable)
    {
        if (observable)
        {
            _meter.CreateObservableUpDownCounter("calls", () => Enumerable.Range(0, 10).Select(i => new Measurement<int>(1, new Tag("i", i))));
        }
        else
        {
            var calls = _meter.CreateUpDownCounter<int>("calls");
            for (var i = 0; i < 10; i++)
            {
                calls.Add(1, new Tag("i", i));
            }
        }

        for (var scrape = 0; scrape < 3; scrape++)
        {
            Assert.Equal(["calls{i=\"0\"} 1", "calls{i=\"1\"} 1", "calls{i=\"2\"} 1", "calls{i=\"3\"} 1", "calls{otel_metric_overflow=\"true\"} 6"], Samples());
        }
    }

    [Fact]
    public void What_an_observation_does_not_tell_again_is_gone_and_makes_room()
    {
        var shown = Enumerable.Range(0, 4);
        _meter.CreateObservableGauge("seen", () => shown.Select(i => new Measurement<int>(i, new Tag("i", i))));

        Assert.Equal(4, Samples().Count);
        shown = [2];
        Assert.Equal(["seen{i=\"2\"} 2"], Samples());
        shown = [7, 8, 9];
        Assert.Equal(["seen{i=\"7\"} 7", "seen{i=\"8\"} 8", "seen{i=\"9\"} 9"], Samples());
        shown = [];
        Assert.Empty(Text());
    }

    [Fact]
    public void Pools_of_one_name_add_up_and_a_meter_that_ends_takes_its_figures_with_it()
    {
        using var other = new Meter(_meter.Name);
        foreach (var meter in new[] { _meter, other })
        {
            meter.CreateCounter<long>("calls").Add(2, new Tag("pool", "a"));
            meter.CreateHistogram<double>("took", "s").Record(0.001);
            meter.CreateObservableUpDownCounter("open", () => (IEnumerable<Measurement<int>>)[new(3), new(4)]);
            meter.CreateObservableGauge("limit", () => 5);
        }

        Assert.Equal(["calls_total{pool=\"a\"} 4", "limit 5", "open 14", "took_seconds_count 2"], Samples().Where(line => !line.Contains("bucket", StringComparison.Ordinal) && !line.Contains("_sum", StringComparison.Ordinal)));
        other.Dispose();
        Assert.Equal(["calls_total{pool=\"a\"} 2", "limit 5", "open 7", "took_seconds_count 1"], Samples().Where(line => !line.Contains("bucket", StringComparison.Ordinal) && !line.Contains("_sum", StringComparison.Ordinal)));
    }

    [Fact]
    public void A_name_has_one_type()
    {
        using var other = new Meter(_meter.Name);
        _meter.CreateUpDownCounter<int>("open").Add(1);
        other.CreateHistogram<int>("open").Record(1);

        Assert.Equal(["open 1"], Samples());
    }

    [Fact]
    public void A_callback_that_fails_costs_its_own_figures_only()
    {
        _meter.CreateObservableGauge("broken", int () => throw new InvalidOperationException("no"));
        _meter.CreateObservableGauge("whole", () => 1);
        var failures = new List<Exception>();

        var families = _reader.Read(failures.Add);

        Assert.Equal("whole", Assert.Single(families).Name);
        Assert.Contains("no", Assert.Single(failures).ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void Meters_of_another_factory_and_of_another_name_are_none_of_ours()
    {
        using var ours = new ServiceCollection().AddMetrics().BuildServiceProvider();
        using var others = new ServiceCollection().AddMetrics().BuildServiceProvider();
        var name = $"test-{Guid.NewGuid()}";
        using var reader = new MeterReader(name, ours.GetRequiredService<IMeterFactory>());
        using var free = new Meter(name);
        free.CreateCounter<int>("free").Add(1);
        ours.GetRequiredService<IMeterFactory>().Create(name).CreateCounter<int>("ours").Add(1);
        ours.GetRequiredService<IMeterFactory>().Create(name + "x").CreateCounter<int>("unnamed").Add(1);
        others.GetRequiredService<IMeterFactory>().Create(name).CreateCounter<int>("others").Add(1);

        Assert.Equal(["free", "ours"], reader.Read(_ => { }).Select(family => family.Name));
    }

    [Fact(Timeout = Eventually.Patience)]
    public async Task Many_threads_and_many_readers_lose_nothing_and_no_answer_contradicts_itself()
    {
        var calls = _meter.CreateCounter<long>("calls");
        var took = _meter.CreateHistogram<double>("took", "s");
        _meter.CreateObservableUpDownCounter("open", () => 3);
        using var done = new CancellationTokenSource();
        var readers = Enumerable.Range(0, 2).Select(_ => Task.Run(() =>
        {
            var before = 0L;
            while (!done.IsCancellationRequested)
            {
                var families = _reader.Read(_ => { }).ToDictionary(family => family.Name);
                Assert.Equal(3, families["open"].Points.Single().Value);
                if (families.TryGetValue("took_seconds", out var histogram))
                {
                    Assert.All(histogram.Points, point => Assert.Equal(point.Buckets!.Sum() * 0.5, point.Value));
                    var now = histogram.Points.Sum(point => point.Buckets!.Sum());
                    Assert.True(now >= before);
                    before = now;
                }
            }
        }, Eventually.Ct)).ToList();

        await Task.WhenAll(Enumerable.Range(0, 4).Select(thread => Task.Run(() =>
        {
            for (var i = 0; i < 20_000; i++)
            {
                calls.Add(1, new Tag("i", i % 8));
                took.Record(0.5, new Tag("i", i % 3));
            }
        }, Eventually.Ct)));
        await done.CancelAsync();
        await Task.WhenAll(readers);

        var last = _reader.Read(_ => { }).ToDictionary(family => family.Name);
        Assert.Equal((80_000, 5), (last["calls"].Points.Sum(point => point.Value), last["calls"].Points.Count));
        Assert.Equal((80_000, 3), (last["took_seconds"].Points.Sum(point => point.Buckets!.Sum()), last["took_seconds"].Points.Count));
    }

    [Fact]
    public void A_measurement_of_a_known_series_allocates_nothing()
    {
        var took = _meter.CreateHistogram<double>("took", "s");
        var tags = new System.Diagnostics.TagList { { "server.address", "api.example" }, { "server.port", (object)443 }, { "http.request.method", "POST" } };
        for (var i = 0; i < 1_000; i++)
        {
            took.Record(0.1, tags);
        }

        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 1_000; i++)
        {
            took.Record(0.1, tags);
        }

        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 1_000);   // not one byte a measurement
    }

    List<string> Samples() => [.. Text().Split('\n', StringSplitOptions.RemoveEmptyEntries).Where(line => !line.StartsWith('#'))];

    string Text(bool openMetrics = false)
    {
        var output = new ArrayBufferWriter<byte>();
        var text = new PrometheusText(output, openMetrics);
        foreach (var family in _reader.Read(error => Assert.Fail(error.ToString())))
        {
            text.Write(family);
        }

        text.End();
        return Encoding.UTF8.GetString(output.WrittenSpan);
    }
}
