using System.Text.Json;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Warmline.Tests.Guards;

namespace Warmline.AspNetCore.Tests;

/// <summary>The files in the folder monitoring: they fit what the endpoint exports, and a real Prometheus understands them.</summary>
public sealed partial class MonitoringTests
{
    static readonly JsonElement Dashboard = JsonDocument.Parse(Repo.Read("monitoring/grafana-dashboard.json")).RootElement;

    static string Folder => Path.Combine(Repo.Root, "monitoring");

    [Fact(Timeout = Eventually.Patience)]
    public async Task Every_expression_of_dashboard_and_alerts_finds_its_series_in_a_real_Prometheus()
    {
        await using var traffic = await Traffic.CreateAsync();
        await using var app = await App.StartAsync(services => services.AddConnectionPool("llm", traffic.Configure), web => web.MapPoolMetrics());
        await using var prometheus = await PrometheusServer.StartAsync(app.Address);
        var pool = app.Web.Services.GetRequiredService<ConnectionPool>();
        await Eventually.TrueAsync(async () => await prometheus.ValueAsync("warmline_requests_total{warmline_pool_name=\"llm\"}") == 0, () => prometheus.Log);   // so that rates have where to begin
        await traffic.RunAsync(pool);
        await Eventually.TrueAsync(async () => await prometheus.ValueAsync("min(count_over_time(warmline_requests_stalled_total{warmline_pool_name=\"llm\"}[1m]))") >= 3, () => prometheus.Log);
        var exported = Exported(await app.GetAsync("/metrics"));

        var expressions = Panels().SelectMany(panel => panel.GetProperty("targets").EnumerateArray()).Select(target => target.GetProperty("expr").GetString()!).ToList();
        var alerts = Alerts().Select(alert => alert.Expression).ToList();

        Assert.True(expressions.Count > 30 && alerts.Count >= 5);
        foreach (var expression in expressions.Concat(alerts))
        {
            var names = Names().Matches(expression).Select(match => match.Value).ToList();
            Assert.NotEmpty(names);
            Assert.All(names, name => Assert.True(exported.Contains(name), $"{name} is exported by nobody: {expression}"));
        }

        // Every instrument is looked at by the one or the other.
        var seen = expressions.Concat(alerts).SelectMany(expression => Names().Matches(expression).Select(match => Family(match.Value))).ToHashSet();
        Assert.Empty(exported.Select(Family).Except(seen));

        foreach (var expression in expressions)
        {
            var query = Filled(expression);
            Assert.DoesNotContain("$", query, StringComparison.Ordinal);
            Assert.True((await prometheus.QueryAsync(query)).Count > 0, $"Shows nothing: {query}");
        }

        // An alert's expression without its thresholds has a value; with them it need not.
        foreach (var expression in alerts)
        {
            await prometheus.QueryAsync(expression);
            foreach (var part in Thresholds().Replace(expression, " ").Split([" and ", " or "], StringSplitOptions.TrimEntries))
            {
                Assert.True((await prometheus.QueryAsync(part)).Count > 0, $"Sees nothing: {part}");
            }
        }
    }

    [Fact(Timeout = Eventually.Patience)]
    public async Task Promtool_accepts_the_rules_and_the_configuration_and_the_rules_do_what_their_tests_say()
    {
        foreach (var arguments in new[] { "check rules alerts.yml", "check config prometheus.yml", "test rules alerts.test.yml" })
        {
            var (code, output) = await PrometheusServer.PromtoolAsync(arguments.Split(' '), folder: Folder);
            Assert.True(code == 0 && output.Contains("SUCCESS", StringComparison.Ordinal), output);
        }

        // Each alert is tested for being silent and for being raised.
        var tested = Regex.Split(Repo.Read("monitoring/alerts.test.yml"), @"\n\s+- (?=\{? ?eval_time)").Skip(1)
            .Select(test => (Name: Regex.Match(test, "alertname: (?<name>\\w+)").Groups["name"].Value, Raised: test.Contains("exp_labels", StringComparison.Ordinal))).ToList();
        Assert.All(Alerts(), alert => Assert.True(tested.Contains((alert.Name, true)) && tested.Contains((alert.Name, false)), $"{alert.Name} is not tested both ways"));
    }

    [Fact]
    public void The_dashboard_can_be_imported_and_its_panels_do_not_overlap()
    {
        Assert.Equal(JsonValueKind.Null, Dashboard.GetProperty("id").ValueKind);   // else the import would replace whatever has that number
        var variables = Dashboard.GetProperty("templating").GetProperty("list").EnumerateArray().ToDictionary(variable => variable.GetProperty("name").GetString()!);
        Assert.Equal(("datasource", "prometheus"), (variables["datasource"].GetProperty("type").GetString(), variables["datasource"].GetProperty("query").GetString()));
        var panels = Dashboard.GetProperty("panels").EnumerateArray().ToList();
        Assert.Equal(panels.Count, panels.Select(panel => panel.GetProperty("id").GetInt32()).Distinct().Count());

        var taken = new HashSet<(int, int)>();
        foreach (var panel in panels)
        {
            var at = panel.GetProperty("gridPos");
            var (x, y, w, h) = (at.GetProperty("x").GetInt32(), at.GetProperty("y").GetInt32(), at.GetProperty("w").GetInt32(), at.GetProperty("h").GetInt32());
            Assert.True(x >= 0 && w > 0 && h > 0 && x + w <= 24, $"{panel.GetProperty("title")} is outside the grid");
            Assert.All(Enumerable.Range(x, w).SelectMany(column => Enumerable.Range(y, h).Select(line => (column, line))), cell => Assert.True(taken.Add(cell), $"{panel.GetProperty("title")} overlaps at {cell}"));
        }

        // Grafana leaves no lines empty: neither do we.
        Assert.Equal(Enumerable.Range(0, taken.Max(cell => cell.Item2) + 1), taken.Select(cell => cell.Item2).Distinct().Order());
        Assert.Equal(["row"], panels.Select(panel => panel.GetProperty("type").GetString()!).Take(1));
        Assert.Equal(["Reuse", "Utilization", "Calls that waited longer than 250 ms"], panels.Skip(1).Take(3).Select(panel => panel.GetProperty("title").GetString()));

        foreach (var panel in Panels())
        {
            Assert.Contains(panel.GetProperty("type").GetString(), new[] { "stat", "timeseries" });
            Assert.NotEmpty(panel.GetProperty("fieldConfig").GetProperty("defaults").GetProperty("unit").GetString()!);
            Assert.NotEmpty(panel.GetProperty("title").GetString()!);
            Assert.NotEmpty(panel.GetProperty("targets").EnumerateArray());
            var targets = panel.GetProperty("targets").EnumerateArray().ToList();
            Assert.Equal(targets.Count, targets.Select(target => target.GetProperty("refId").GetString()).Distinct().Count());
            Assert.All(targets.Append(panel), part => Assert.Equal(("prometheus", "${datasource}"), (part.GetProperty("datasource").GetProperty("type").GetString(), part.GetProperty("datasource").GetProperty("uid").GetString())));
            foreach (var used in targets.SelectMany(target => Variables().Matches(target.GetProperty("expr").GetString()!)).Select(match => match.Groups["name"].Value))
            {
                Assert.True(used == "__rate_interval" || variables.ContainsKey(used), $"${used} is no variable");
            }
        }
    }

    /// <summary>As Grafana fills its variables in when all is chosen.</summary>
    static string Filled(string expression) => Variables().Replace(expression, match => match.Groups["name"].Value == "__rate_interval" ? "1m" : ".*");

    static IEnumerable<JsonElement> Panels() => Dashboard.GetProperty("panels").EnumerateArray().Where(panel => panel.GetProperty("type").GetString() != "row");

    /// <summary>The names that samples have, the histograms' three included.</summary>
    static HashSet<string> Exported(string text) => [.. text.Split('\n').Where(line => line.Length > 0 && line[0] != '#').Select(line => line[..line.AsSpan().IndexOfAny('{', ' ')])];

    static string Family(string name) => Regex.Replace(name, "_(bucket|sum|count)$", "");

    static List<(string Name, string Expression)> Alerts() =>
        [.. Regex.Matches(Repo.Read("monitoring/alerts.yml"), @"- alert: (?<name>\w+)\n\s+expr: (\|\n)?(?<expr>[\s\S]*?)\n\s+(for|labels):").Select(match => (match.Groups["name"].Value, match.Groups["expr"].Value.Trim()))];

    [GeneratedRegex(@"\b(warmline|http_client)_[a-z0-9_]+(?=[{\[])|\bwarmline_(connections|connections_limit|utilization_ratio|waiters)\b(?=[ )\[])")]
    private static partial Regex Names();

    [GeneratedRegex(@"\$(?<name>\w+)")]
    private static partial Regex Variables();

    [GeneratedRegex(@"[<>] [\d.]+(\s|$)")]
    private static partial Regex Thresholds();
}
