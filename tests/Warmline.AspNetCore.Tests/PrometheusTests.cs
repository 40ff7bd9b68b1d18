using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;

namespace Warmline.AspNetCore.Tests;

/// <summary>The way to a real Prometheus: what it knows once traffic has stopped is what the pool says of itself.</summary>
public sealed class PrometheusTests
{
    [Fact(Timeout = Eventually.Patience)]
    public async Task A_real_Prometheus_knows_what_the_pool_knows()
    {
        await using var traffic = await Traffic.CreateAsync();
        await using var app = await StartAsync(traffic);
        await using var prometheus = await PrometheusServer.StartAsync(app.Address);
        var pool = app.Web.Services.GetRequiredService<ConnectionPool>();

        await traffic.RunAsync(pool);

        var stats = pool.GetStats();
        Assert.True(stats is { TotalRequests: > 25, ReusedConnections: > 0, NewConnections: > 0, Refused: > 0, FailedDials: > 0, Faults: { FailedUnknown: > 0, Stalled: > 0, Abandoned: > 0 } }, $"{stats} {stats.Faults}");
        Assert.True(stats.MaxQueueWait > TimeSpan.Zero);
        var expected = Expected(stats);
        var actual = new Dictionary<string, double?>();
        await Eventually.TrueAsync(async () =>
        {
            foreach (var expression in expected.Keys)
            {
                actual[expression] = await prometheus.ValueAsync(expression);
            }

            return expected.All(pair => actual[pair.Key] == pair.Value);
        }, () => string.Join('\n', expected.Where(pair => actual[pair.Key] != pair.Value).Select(pair => $"{pair.Key}: {actual[pair.Key]}, not {pair.Value}")) + "\n" + prometheus.Log);
    }

    [Fact(Timeout = Eventually.Patience)]
    public async Task Promtool_finds_nothing_to_say_about_the_metrics_in_either_format()
    {
        await using var traffic = await Traffic.CreateAsync();
        await using var app = await StartAsync(traffic);
        await traffic.RunAsync(app.Web.Services.GetRequiredService<ConnectionPool>());

        var (status, text, type) = await app.CallAsync("/metrics");
        var (_, openMetrics, openType) = await app.CallAsync("/metrics", ("Accept", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"));

        Assert.Equal((System.Net.HttpStatusCode.OK, PrometheusText.TextType, PrometheusText.OpenMetricsType), (status, type, openType));
        Assert.Equal((0, ""), await PrometheusServer.PromtoolAsync(["check", "metrics"], text));
        Assert.Contains("warmline_time_to_first_token_seconds_bucket{", text, StringComparison.Ordinal);
        Assert.EndsWith("# EOF\n", openMetrics, StringComparison.Ordinal);
        Assert.Equal(Series(text), Series(openMetrics));   // whoever changes the format goes on with the same series
    }

    [Theory]
    [InlineData("", false)]
    [InlineData("*/*", false)]
    [InlineData("text/plain", false)]
    [InlineData("application/openmetrics-text", true)]
    [InlineData("application/openmetrics-text; version=1.0.0; charset=utf-8", true)]
    [InlineData("application/openmetrics-text;version=0.0.1", false)]
    [InlineData("application/openmetrics-text;version=2.0.0,text/plain;q=0.1", false)]
    [InlineData("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", true)]
    [InlineData("application/openmetrics-text;q=0.4,text/plain;q=0.5", false)]
    [InlineData("application/openmetrics-text;q=0", false)]
    [InlineData("application/openmetrics-text;q=0.2,*/*;q=0.9", false)]
    [InlineData("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.3", true)]
    [InlineData("not a header;;", false)]
    public void OpenMetrics_is_for_those_who_prefer_it(string accept, bool expected) => Assert.Equal(expected, MetricsEndpoint.WantsOpenMetrics(accept));

    static Task<App> StartAsync(Traffic traffic) => App.StartAsync(services => services.AddConnectionPool("llm", traffic.Configure), web => web.MapPoolMetrics());

    /// <summary>Of the application's own pool: other tests have pools on the process's meter, which come and go.</summary>
    static List<string> Series(string text) => [.. text.Split('\n').Where(line => line.Contains("warmline_pool_name=\"llm\"", StringComparison.Ordinal)).Select(line => line[..line.LastIndexOf(' ')])];

    /// <summary>Each figure of the pool beside the expression that asks Prometheus for it.</summary>
    static Dictionary<string, double> Expected(PoolStats stats)
    {
        const string Pool = "warmline_pool_name=\"llm\"";
        var (faults, ended) = (stats.Faults, stats.Granted);
        var expected = new Dictionary<string, double>
        {
            [$"warmline_requests_total{{{Pool}}}"] = stats.TotalRequests,
            [$"warmline_requests_placed_total{{{Pool},warmline_reused=\"true\"}}"] = stats.ReusedConnections,
            [$"warmline_requests_placed_total{{{Pool},warmline_reused=\"false\"}}"] = stats.Granted - stats.ReusedConnections,
            [$"sum(warmline_requests_refused_total{{{Pool}}})"] = stats.Refused,
            [$"warmline_requests_failed_total{{{Pool},warmline_verdict=\"not_sent\"}}"] = faults.FailedNotSent,
            [$"warmline_requests_failed_total{{{Pool},warmline_verdict=\"unprocessed\"}}"] = faults.FailedUnprocessed,
            [$"warmline_requests_failed_total{{{Pool},warmline_verdict=\"unknown\"}}"] = faults.FailedUnknown,
            [$"sum(warmline_requests_retried_total{{{Pool}}})"] = faults.RetriedNotSent + faults.RetriedUnprocessed + faults.RetriedIdempotent,
            [$"warmline_requests_retries_refused_total{{{Pool}}}"] = faults.RetriesRefused,
            [$"warmline_requests_stalled_total{{{Pool},warmline_phase=\"first_byte\"}}"] = faults.Stalled,
            [$"warmline_requests_bypassed_total{{{Pool}}}"] = stats.Bypassed,
            [$"warmline_responses_abandoned_total{{{Pool}}}"] = faults.Abandoned,
            [$"warmline_responses_leaked_total{{{Pool}}}"] = faults.Leaked,
            [$"warmline_streams_failed_total{{{Pool}}}"] = faults.StreamErrors,
            [$"sum(warmline_leases{{{Pool}}})"] = 0,
            [$"sum(warmline_waiters{{{Pool}}})"] = 0,
            [$"sum(http_client_active_requests{{{Pool}}})"] = 0,
            [$"sum(warmline_tenant_leases{{{Pool}}})"] = 0,
            [$"warmline_leases_peak{{{Pool}}}"] = stats.PeakActive,
            [$"warmline_queue_wait_max_seconds{{{Pool}}}"] = stats.MaxQueueWait.TotalSeconds,
            [$"warmline_reuse_ratio{{{Pool}}}"] = stats.ReuseRate,
            [$"warmline_handshake_time_saved_seconds{{{Pool}}}"] = stats.TimeSaved.TotalSeconds,
            [$"max(warmline_utilization_ratio{{{Pool}}})"] = stats.Utilization,
            [$"warmline_connections{{{Pool}}}"] = stats.Connections,
            [$"warmline_connections_peak{{{Pool}}}"] = stats.PeakConnections,
            [$"warmline_connections_limit{{{Pool}}}"] = stats.MaxConnections,
            [$"warmline_connections_opened_total{{{Pool}}}"] = stats.NewConnections,
            [$"warmline_connections_lost_total{{{Pool}}}"] = stats.LostConnections,
            [$"warmline_dials_failed_total{{{Pool},warmline_phase=\"tcp\"}}"] = stats.FailedDials,
            [$"sum(http_client_open_connections{{{Pool},http_connection_state=\"idle\"}})"] = stats.Idle,

            // Histograms: everything that got a place waited for it and ended its lease; everything that asked has a duration; every connection shook hands.
            [$"sum(http_client_request_time_in_queue_seconds_count{{{Pool}}})"] = ended,
            [$"sum(warmline_lease_duration_seconds_count{{{Pool}}})"] = ended,
            [$"sum(http_client_request_duration_seconds_count{{{Pool}}})"] = stats.TotalRequests,
            [$"sum(warmline_handshake_duration_seconds_count{{{Pool},warmline_phase=\"tls\"}})"] = stats.NewConnections,
            [$"sum(warmline_lease_duration_seconds_bucket{{{Pool},le=\"+Inf\"}})"] = ended,
            [$"sum(warmline_lease_duration_seconds_count{{{Pool},warmline_lane=\"single\"}})"] = 1,
            [$"sum(http_client_request_duration_seconds_count{{{Pool},http_response_status_code=\"503\"}})"] = 1,
        };
        foreach (var (reason, count) in stats.RefusedBy)
        {
            expected[$"warmline_requests_refused_total{{{Pool},warmline_reason=\"{(reason == PoolRejectionReason.LaneCeiling ? "lane_ceiling" : reason.ToString().ToLowerInvariant())}\"}}"] = count;
        }

        return expected;
    }
}
