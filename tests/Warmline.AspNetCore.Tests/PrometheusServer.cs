using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Text.Json;

namespace Warmline.AspNetCore.Tests;

/// <summary>A real Prometheus as a process of its own: on a free loopback port, with a temporary folder, ended by its id. And promtool, which comes with it.</summary>
internal sealed class PrometheusServer : IAsyncDisposable
{
    readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("warmline-prometheus-");
    readonly HttpClient _client = new();
    readonly Queue<string> _log = [];
    Process? _process;
    Uri? _address;

    PrometheusServer()
    {
    }

    /// <summary>Starts one that scrapes a target on this machine twice a second, and waits until it answers.</summary>
    public static async Task<PrometheusServer> StartAsync(Uri target, string path = "/metrics")
    {
        var server = new PrometheusServer();
        try
        {
            for (var left = 5; !await server.TryStartAsync(target, path); left--)
            {
                Assert.True(left > 0, "prometheus ended at once, five times:\n" + server.Log);   // once: somebody else took the port meanwhile
            }
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }

        return server;
    }

    public string Log
    {
        get
        {
            lock (_log)
            {
                return string.Join('\n', _log);
            }
        }
    }

    /// <summary>Runs an expression now: the series' labels and values.</summary>
    public async Task<IReadOnlyList<(IReadOnlyDictionary<string, string> Labels, double Value)>> QueryAsync(string expression)
    {
        using var content = new FormUrlEncodedContent([new("query", expression)]);
        using var response = await _client.PostAsync(new Uri(_address!, "/api/v1/query"), content, Eventually.Ct);
        var answer = JsonDocument.Parse(await response.Content.ReadAsStringAsync(Eventually.Ct)).RootElement;
        Assert.True(response.StatusCode == HttpStatusCode.OK, $"{expression}\n{answer}");
        var data = answer.GetProperty("data");
        var results = data.GetProperty("resultType").GetString() == "scalar" ? [] : data.GetProperty("result").EnumerateArray().ToArray();
        return [.. results.Select(result => (
            (IReadOnlyDictionary<string, string>)result.GetProperty("metric").EnumerateObject().ToDictionary(label => label.Name, label => label.Value.GetString()!),
            double.Parse(result.GetProperty("value")[1].GetString()!.Replace("+Inf", "Infinity", StringComparison.Ordinal), CultureInfo.InvariantCulture)))];
    }

    /// <summary>The value of an expression that has one; null when it has none.</summary>
    public async Task<double?> ValueAsync(string expression) => await QueryAsync(expression) is [var only] ? only.Value : null;

    /// <summary>Runs promtool on a text or on files of a folder: its exit code and what it said.</summary>
    public static async Task<(int Code, string Output)> PromtoolAsync(string[] arguments, string? input = null, string? folder = null)
    {
        using var process = Process.Start(new ProcessStartInfo(Program("promtool"), arguments)
        {
            UseShellExecute = false, RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true, WorkingDirectory = folder ?? "",
        })!;
        var (output, errors) = (process.StandardOutput.ReadToEndAsync(Eventually.Ct), process.StandardError.ReadToEndAsync(Eventually.Ct));
        await process.StandardInput.WriteAsync(input);
        process.StandardInput.Close();
        await process.WaitForExitAsync(Eventually.Ct);
        return (process.ExitCode, await output + await errors);
    }

    public async ValueTask DisposeAsync()
    {
        if (_process is { HasExited: false })
        {
            _process.Kill();
            await _process.WaitForExitAsync(CancellationToken.None);
        }

        _process?.Dispose();
        _client.Dispose();
        _folder.Delete(recursive: true);
    }

    static string Program(string name)
    {
        var path = new[] { "/usr/bin/", "/usr/local/bin/", "/opt/homebrew/bin/" }.Select(folder => folder + name).FirstOrDefault(File.Exists);
        Assert.True(path is not null, $"{name} is not installed, and this test needs a real Prometheus: `apt-get install prometheus` (test.sh does that where it may).");
        return path;
    }

    async Task<bool> TryStartAsync(Uri target, string path)
    {
        _process?.Dispose();
        var address = $"127.0.0.1:{Traffic.ClosedPort()}";
        var configuration = Path.Combine(_folder.FullName, "prometheus.yml");
        await File.WriteAllTextAsync(configuration, $"""
            global:
              scrape_interval: 500ms
              scrape_timeout: 500ms
            scrape_configs:
              - job_name: app
                metrics_path: {path}
                static_configs:
                  - targets: ["{target.Authority}"]

            """, Eventually.Ct);
        _process = Process.Start(new ProcessStartInfo(Program("prometheus"),
            [$"--config.file={configuration}", $"--storage.tsdb.path={Path.Combine(_folder.FullName, "data")}", $"--web.listen-address={address}", "--log.level=warn"])
        {
            UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true, WorkingDirectory = _folder.FullName,
        })!;
        _process.OutputDataReceived += (_, line) => Keep(line.Data);
        _process.ErrorDataReceived += (_, line) => Keep(line.Data);
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
        _address = new Uri($"http://{address}");
        await Eventually.TrueAsync(async () => _process.HasExited || await IsReadyAsync(), () => Log);
        return !_process.HasExited;
    }

    async Task<bool> IsReadyAsync()
    {
        try
        {
            using var response = await _client.GetAsync(new Uri(_address!, "/-/ready"), Eventually.Ct);
            return response.IsSuccessStatusCode;
        }
        catch (HttpRequestException)
        {
            return false;
        }
    }

    void Keep(string? line)
    {
        lock (_log)
        {
            _log.Enqueue(line ?? "");
            while (_log.Count > 100)
            {
                _log.Dequeue();
            }
        }
    }
}
