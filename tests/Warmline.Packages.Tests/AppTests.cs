using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using Warmline.MockLlm;

namespace Warmline.Packages.Tests;

/// <summary>The ASP.NET Core sample on the packages: it streams, is healthy only when warm, and a real Prometheus reads of it what its stats say.</summary>
public sealed class AppTests(Feed feed, SampleApp sample) : IClassFixture<SampleApp>
{
    const string Prometheus = "/usr/bin/prometheus";

    static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact(Timeout = Command.TestLimit)]
    public async Task It_streams_completions_and_prometheus_reads_what_the_stats_say()
    {
        await using var app = sample.Start();

        // It warms up before it listens, so the first answer of all is Healthy.
        var health = await app.AskUntilAsync("/health", _ => true);
        Assert.Equal("200 Healthy", health[^1]);
        Assert.All(health.SkipLast(1), Assert.Null);

        var answers = await Task.WhenAll(Enumerable.Range(0, 20).Select(_ => ChatAsync(app.Client)));
        Assert.All(answers, events => Assert.Equal((27, "[DONE]"), (events.Count, events[^1])));   // the role, 24 tokens, the reason, and the end
        await app.AskUntilAsync("/warmline/stats", stats => stats.Contains("\"active\":0,", StringComparison.Ordinal));

        await using var prometheus = StartPrometheus(app.Client.BaseAddress!.Authority);
        var differences = "";
        for (var round = 0; round < 1_200; round++)
        {
            differences = await CompareAsync(app.Client, prometheus.Client);
            if (differences.Length == 0)
            {
                break;
            }

            await Waiting.AMomentAsync();
        }

        Assert.True(differences.Length == 0, $"{differences}\n{prometheus.Output}");
        Assert.Matches(@"(?s)in flight, most +([1-9]|1\d|20)\b.*connections, most +\d+   of MaxConnections 30, over HTTP/2\b.*new ConnectionPoolOptions \{ MaxConnections = \d+, ",
            await SizeAsync(app.Client.BaseAddress.ToString()));
        Assert.Equal(0, await app.StopAsync());
        Assert.Equal(0, await prometheus.StopAsync());
    }

    [Fact(Timeout = Command.TestLimit)]
    public async Task It_is_unhealthy_until_the_provider_is_there_and_hands_events_on_as_they_come()
    {
        var isDown = true;
        await using var provider = await MockLlmServer.StartAsync(new()
        {
            OnConnection = _ => Volatile.Read(ref isDown) ? new() { Act = MockConnectionAct.Close } : null,
            OnRequest = _ => new() { Fault = MockFault.Silence, FaultAfterTokens = 3 },
        }, cancellationToken: Ct);
        var authority = Path.Combine(Path.GetDirectoryName(sample.Executable)!, "authority.pem");
        await File.WriteAllTextAsync(authority, provider.CertificateAuthority.ExportCertificatePem(), Ct);
        await using var app = sample.Start(("OPENAI_API_KEY", "any"), ("OPENAI_BASE_URL", provider.BaseAddress.ToString()), ("SSL_CERT_FILE", authority), ("Llm__Hosting__WarmUpTimeout", "1s"));

        var cold = await app.AskUntilAsync("/health", _ => true);
        Assert.Equal("503 Unhealthy", cold[^1]);

        Volatile.Write(ref isDown, false);
        var warm = await app.AskUntilAsync("/health", answer => answer == "200 Healthy");
        Assert.All(warm.SkipLast(1), answer => Assert.Contains(answer, new[] { "503 Unhealthy", "503 Degraded", "200 Degraded" }));   // one of two connections is Degraded

        // The provider falls silent in the middle: what came before is here, so nothing on the way waits for the end.
        using (var leaving = new CancellationTokenSource())
        {
            using var response = await PostAsync(app.Client);
            using var reader = new StreamReader(await response.Content.ReadAsStreamAsync(Ct));
            var events = new List<string>();
            while (events.Count < 4 && await reader.ReadLineAsync(leaving.Token) is { } line)
            {
                events.AddRange(line.StartsWith("data: ", StringComparison.Ordinal) ? [line] : []);
            }

            Assert.Equal(4, events.Count);
            Assert.Equal(0, provider.GetCounters().AbortedRequests);
        }

        // Its reader has left: the provider is told to stop.
        await provider.WaitForAsync(counters => counters.AbortedRequests == 1, Ct);
        Assert.Equal(0, await app.StopAsync());
    }

    /// <summary>What the installed command recommends for the running application.</summary>
    async Task<string> SizeAsync(string address)
    {
        var start = new ProcessStartInfo(await InstallTests.InstallAsync(feed, "sizing"), ["size", "--from", address]);
        feed.Settle(start);
        return (await Command.RunAsync(start)).Checked().Output;
    }

    static async Task<List<string>> ChatAsync(HttpClient client)
    {
        using var response = await PostAsync(client);
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync(Ct));
        var events = new List<string>();
        while (await reader.ReadLineAsync(Ct) is { } line)
        {
            events.AddRange(line.StartsWith("data: ", StringComparison.Ordinal) ? [line["data: ".Length..]] : []);
        }

        return events;
    }

    static async Task<HttpResponseMessage> PostAsync(HttpClient client)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, "/chat") { Content = JsonContent.Create(new { prompt = "Hello" }) };
        var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Ct);
        Assert.Equal((HttpStatusCode.OK, "text/event-stream"), (response.StatusCode, response.Content.Headers.ContentType?.MediaType));
        return response;
    }

    RunningApp StartPrometheus(string target)
    {
        Assert.True(File.Exists(Prometheus), $"{Prometheus} is missing: 'apt-get install prometheus', or the like. This test needs a real one.");
        var folder = Directory.CreateDirectory(Path.Combine(Path.GetDirectoryName(sample.Executable)!, "prometheus")).FullName;
        var configuration = Path.Combine(folder, "prometheus.yml");
        File.WriteAllText(configuration, $$"""
            global: { scrape_interval: 1s }
            scrape_configs:
              - { job_name: llm, static_configs: [ { targets: [ "{{target}}" ] } ] }
            """);
        var port = SampleApp.FreePort();
        return new RunningApp(new ProcessStartInfo(Prometheus,
            [$"--config.file={configuration}", $"--storage.tsdb.path={Path.Combine(folder, "data")}", string.Create(CultureInfo.InvariantCulture, $"--web.listen-address=127.0.0.1:{port}")]) { WorkingDirectory = folder }, port);
    }

    /// <summary>What Prometheus says of each figure of the stats endpoint, where that is something else; empty when they agree.</summary>
    static async Task<string> CompareAsync(HttpClient app, HttpClient prometheus)
    {
        using var document = JsonDocument.Parse(await app.GetStringAsync("/warmline/stats", Ct));
        var stats = document.RootElement.GetProperty("pools")[0].GetProperty("stats");
        (string Query, double Expected)[] figures =
        [
            ("warmline_requests_total", Stat("totalRequests")),
            ("sum(warmline_requests_placed_total)", Stat("granted")),
            ("warmline_requests_placed_total{warmline_reused=\"true\"}", Stat("reusedConnections")),
            ("sum(warmline_requests_refused_total) or vector(0)", Stat("refused")),
            ("sum(warmline_leases)", Stat("active")),
            ("warmline_leases_peak", Stat("peakActive")),
            ("sum(warmline_waiters)", Stat("queued")),
            ("warmline_queue_wait_max_seconds", Stat("maxQueueWaitSeconds")),
            ("warmline_reuse_ratio", Stat("reuseRate")),
            ("warmline_handshake_time_saved_seconds", Stat("timeSavedSeconds")),
            ("warmline_connections", Stat("connections")),
            ("warmline_connections_peak", Stat("peakConnections")),
            ("warmline_connections_limit", Stat("maxConnections")),
            ("warmline_connections_opened_total", Stat("newConnections")),
            ("sum(http_client_request_duration_seconds_count)", Stat("totalRequests")),
            ("sum(warmline_time_to_first_token_seconds_count)", Stat("totalRequests")),
            ("sum(http_client_active_requests)", Stat("active")),
            ("sum(http_client_open_connections{http_connection_state=\"idle\"})", Stat("idle")),
        ];
        var differences = new List<string>();
        foreach (var (query, expected) in figures)
        {
            var seen = await QueryAsync(prometheus, query);
            if (seen is not { } value || Math.Abs(value - expected) > 1e-9)
            {
                differences.Add($"{query}: Prometheus says {seen?.ToString(CultureInfo.InvariantCulture) ?? "nothing"}, the stats say {expected}");
            }
        }

        return string.Join('\n', differences);

        double Stat(string name) => stats.GetProperty(name).GetDouble();
    }

    /// <summary>The one value of a query; null when there is none, or while Prometheus is starting.</summary>
    static async Task<double?> QueryAsync(HttpClient prometheus, string query)
    {
        try
        {
            using var answer = JsonDocument.Parse(await prometheus.GetStringAsync("/api/v1/query?query=" + Uri.EscapeDataString(query), Ct));
            var result = answer.RootElement.GetProperty("data").GetProperty("result");
            return result.GetArrayLength() == 1 ? double.Parse(result[0].GetProperty("value")[1].GetString()!, CultureInfo.InvariantCulture) : null;
        }
        catch (HttpRequestException)
        {
            return null;
        }
    }
}
