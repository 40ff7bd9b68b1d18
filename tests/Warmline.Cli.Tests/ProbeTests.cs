using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Warmline.MockLlm;

namespace Warmline.Cli.Tests;

/// <summary><c>probe</c> against the mock. No figure has an upper bound in time: a slow machine is no failure.</summary>
public sealed class ProbeTests : IAsyncLifetime
{
    const string Key = "sk-correct-horse-4711";

    readonly string _authority = Path.GetTempFileName();
    readonly List<MockLlmServer> _servers = [];

    public ValueTask InitializeAsync() => ValueTask.CompletedTask;

    public async ValueTask DisposeAsync()
    {
        foreach (var server in _servers)
        {
            await server.DisposeAsync();
        }

        File.Delete(_authority);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task JsonHoldsEveryPhaseAndEveryFact()
    {
        var server = await StartAsync(new MockLlmOptions { RoundTripTime = TimeSpan.FromMilliseconds(20), ServiceTime = TimeSpan.FromMilliseconds(30), MaxStreamsPerConnection = 77 });
        var result = await ProbeAsync(server, "--json", "--count", "5");

        Assert.Equal((0, ""), (result.ExitCode, result.Errors));
        using var json = JsonDocument.Parse(result.Output);   // fails when anything stands before or after the document
        var root = json.RootElement;
        Assert.Equal(
            ["url", "method", "status", "protocol", "remote", "proxy", "tls", "http2", "cold", "warm", "warmMedian", "secondConnection", "savedMs", "keptOpen", "idle", "interrupted"], Names(root));
        Assert.Equal(["status", "dnsMs", "tcpMs", "proxyMs", "tlsMs", "firstByteMs", "bodyMs", "bodyBytes", "totalMs"], Names(root.GetProperty("cold")));
        Assert.Equal(Names(root.GetProperty("cold")), Names(root.GetProperty("secondConnection")));
        Assert.Equal(["status", "firstByteMs", "bodyMs", "bodyBytes", "totalMs"], Names(root.GetProperty("warm")[0]));
        Assert.Equal(["version", "cipher", "alpn", "resumed", "firstHandshakeBytes", "secondHandshakeBytes", "certificate"], Names(root.GetProperty("tls")));
        Assert.Equal(["subject", "issuer", "notBefore", "notAfter", "daysLeft", "checked"], Names(root.GetProperty("tls").GetProperty("certificate")));
        Assert.Equal(["maxConcurrentStreams", "initialWindowSize", "maxFrameSize", "connectionWindow"], Names(root.GetProperty("http2")));

        Assert.Equal((new Uri(server.BaseAddress, "v1/models").ToString(), "GET", 200, "h2"),
            (root.GetProperty("url").GetString(), root.GetProperty("method").GetString(), root.GetProperty("status").GetInt32(), root.GetProperty("protocol").GetString()));
        Assert.Equal($"127.0.0.1:{server.BaseAddress.Port}", root.GetProperty("remote").GetString());
        Assert.Equal(JsonValueKind.Null, root.GetProperty("proxy").ValueKind);
        Assert.Equal(("1.3", "h2", "CN=Warmline mock", true), (root.GetProperty("tls").GetProperty("version").GetString(), root.GetProperty("tls").GetProperty("alpn").GetString(),
            root.GetProperty("tls").GetProperty("certificate").GetProperty("subject").GetString(), root.GetProperty("tls").GetProperty("certificate").GetProperty("checked").GetBoolean()));
        Assert.Equal((77, 16_384), (root.GetProperty("http2").GetProperty("maxConcurrentStreams").GetInt32(), root.GetProperty("http2").GetProperty("maxFrameSize").GetInt32()));
        Assert.True(root.GetProperty("http2").GetProperty("connectionWindow").GetInt64() > 65_535, "Kestrel opens it further");
        Assert.Equal(5, root.GetProperty("warm").GetArrayLength());
        var cold = root.GetProperty("cold");
        Assert.True(cold.GetProperty("tlsMs").GetDouble() >= 20, "a round trip at least");
        Assert.All([cold, .. root.GetProperty("warm").EnumerateArray()], call => Assert.True(call.GetProperty("firstByteMs").GetDouble() >= 50, "round trip and service"));
        Assert.Equal(cold.GetProperty("totalMs").GetDouble(),
            new[] { "dnsMs", "tcpMs", "proxyMs", "tlsMs", "firstByteMs", "bodyMs" }.Sum(phase => cold.GetProperty(phase).GetDouble()), tolerance: 0.01);

        Assert.Equal((2L, 7L), (server.GetCounters().ConnectionsAccepted, server.GetCounters().Requests));
        Assert.True(root.GetProperty("tls").GetProperty("resumed").GetBoolean());
        Assert.Equal(1, server.GetCounters().TlsHandshakesResumed);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task ForPeopleItIsATableAndAPictureInEightyPlainColumns()
    {
        var server = await StartAsync(new MockLlmOptions { RoundTripTime = TimeSpan.FromMilliseconds(10) });
        var result = await ProbeAsync(server);

        Assert.Equal((0, ""), (result.ExitCode, result.Errors));
        Assert.StartsWith($"GET {server.BaseAddress}v1/models: 200 OK over HTTP/2", result.Output);
        Assert.All(["TLS            1.3, TLS_", "ALPN h2", "Warmline mock, by Warmline mock authority, until 20", "TLS resumed    yes", "100 streams", "cold call", "warm call (3, median)", "new connection",
            "DNS", "TCP", "first byte", "rest of answer", "total", "█", "A kept connection saves"], part => Assert.Contains(part, result.Output));
        Assert.DoesNotContain('\u001b', result.Output);
        Assert.DoesNotContain("proxy", result.Output);
        Assert.All(result.Output.Split('\n'), line => Assert.True(line.Length <= 80, $"wider than 80 columns: {line}"));
    }

    [Theory(Timeout = Cli.TestLimit)]
    [InlineData("h1", "http/1.1", 0)]
    [InlineData("h2", "h2", 1)]
    public async Task ProtocolsAreThoseAskedFor(string protocols, string spoken, int http2)
    {
        var server = await StartAsync(new MockLlmOptions());
        var root = await JsonAsync(server, "--protocols", protocols, "--count", "0");

        Assert.Equal(spoken, root.GetProperty("protocol").GetString());
        Assert.Equal(http2 == 1, root.GetProperty("http2").ValueKind is JsonValueKind.Object);
        Assert.Equal((JsonValueKind.Null, JsonValueKind.Null), (root.GetProperty("warmMedian").ValueKind, root.GetProperty("savedMs").ValueKind));
        Assert.True(root.GetProperty("tls").GetProperty("resumed").GetBoolean());
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task AnAddressInPlaceOfANameIsNotResumed()
    {
        var server = await StartAsync(new MockLlmOptions());
        var address = new UriBuilder(server.BaseAddress) { Host = "127.0.0.1", Path = "/v1/models" }.Uri.ToString();
        var result = await Cli.RunAsync("probe", address, "--ca-file", _authority);

        Assert.Equal(0, result.ExitCode);
        Assert.Contains("TLS resumed    no (", result.Output);
        Assert.Contains("only resumed for host", result.Output);
    }

    [Theory(Timeout = Cli.TestLimit)]
    [InlineData(HttpProtocols.Http1, "closed")]
    [InlineData(HttpProtocols.Http1AndHttp2, "goaway")]
    public async Task IdleTellsWhenAndHowTheServerCloses(HttpProtocols protocols, string how)
    {
        var server = await StartAsync(new MockLlmOptions { IdleTimeout = TimeSpan.FromSeconds(2), Protocols = protocols });
        var result = await ProbeAsync(server, "--json", "--idle", "60");

        Assert.Equal((0, "waiting up to 60 s for the server to close an idle connection"), (result.ExitCode, result.Errors.Trim()));
        using var json = JsonDocument.Parse(result.Output);
        var idle = json.RootElement.GetProperty("idle");
        Assert.Equal(["waitedSeconds", "ended", "answers"], Names(idle));
        Assert.Equal(how, idle.GetProperty("ended").GetString());
        Assert.InRange(idle.GetProperty("waitedSeconds").GetDouble(), 1, 25);   // the platform itself looks at idle connections after 30 s: the pool sees it when it happens
        Assert.Equal(JsonValueKind.Null, idle.GetProperty("answers").ValueKind);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task AnIdleConnectionThatStaysIsAskedOnceMore()
    {
        var server = await StartAsync(new MockLlmOptions());
        var result = await ProbeAsync(server, "--idle", "1");

        Assert.Equal(0, result.ExitCode);
        Assert.Contains("still open after 1 s, and it answers", result.Output);
        Assert.Equal(6, server.GetCounters().Requests);
    }

    [Theory(Timeout = Cli.TestLimit)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task AnInterruptTellsWhatIsKnown(bool json)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux() || OperatingSystem.IsMacOS(), "signals are sent by kill");
        var server = await StartAsync(new MockLlmOptions());
        using var process = Cli.Start([], ["probe", Models(server), "--ca-file", _authority, "--idle", "3600", .. json ? new[] { "--json" } : []]);
        try
        {
            Assert.StartsWith("waiting up to 3600 s", await process.StandardError.ReadLineAsync(TestContext.Current.CancellationToken));
            using (var kill = Process.Start("kill", ["-INT", process.Id.ToString(CultureInfo.InvariantCulture)]))
            {
                await kill.WaitForExitAsync(TestContext.Current.CancellationToken);
            }

            var output = await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
            Assert.Equal("", await process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken));
            await process.WaitForExitAsync(TestContext.Current.CancellationToken);
            Assert.Equal(130, process.ExitCode);
            if (json)
            {
                using var document = JsonDocument.Parse(output);
                Assert.True(document.RootElement.GetProperty("interrupted").GetBoolean());
                Assert.Equal(JsonValueKind.Null, document.RootElement.GetProperty("idle").GetProperty("ended").ValueKind);
            }
            else
            {
                Assert.Contains("still open after", output);
                Assert.Contains("Stopped before it was through", output);
            }
        }
        finally
        {
            if (!process.HasExited)
            {
                process.Kill();
            }
        }
    }

    [Theory(Timeout = Cli.TestLimit)]
    [InlineData(false, 0)]
    [InlineData(true, 1)]
    public async Task AnErrorStatusIsAnAnswerUnlessFailIsGiven(bool fail, int exitCode)
    {
        var server = await StartAsync(new MockLlmOptions { RequiredApiKey = Key });
        var result = await ProbeAsync(server, fail ? ["--fail"] : []);

        Assert.Equal((exitCode, ""), (result.ExitCode, result.Errors));
        Assert.Contains("401 Unauthorized over HTTP/2", result.Output);
        Assert.Contains("--key-env", result.Output);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task KeysAreSentAndNeverShown()
    {
        var server = await StartAsync(new MockLlmOptions { RequiredApiKey = Key, RecordRequests = true });
        var result = await Cli.RunAsync([("WARMLINE_TEST_KEY", Key)], "probe", Models(server) + "?token=hidden", "--ca-file", _authority, "--key-env", "WARMLINE_TEST_KEY", "--header", "X-Other: hidden too", "--fail");

        Assert.Equal(0, result.ExitCode);
        Assert.DoesNotContain(Key, result.All);
        Assert.DoesNotContain("hidden", result.All);
        Assert.Equal(5, server.GetCounters().Requests);
        Assert.All(server.GetRequests(), request => Assert.Equal("/v1/models", request.Path));
    }

    async Task<JsonElement> JsonAsync(MockLlmServer server, params string[] more)
    {
        var result = await ProbeAsync(server, ["--json", .. more]);
        Assert.Equal((0, ""), (result.ExitCode, result.Errors));
        using var json = JsonDocument.Parse(result.Output);
        return json.RootElement.Clone();
    }

    async Task<MockLlmServer> StartAsync(MockLlmOptions options)
    {
        var server = await MockLlmServer.StartAsync(options, cancellationToken: TestContext.Current.CancellationToken);
        _servers.Add(server);
        await File.WriteAllTextAsync(_authority, server.CertificateAuthority.ExportCertificatePem(), TestContext.Current.CancellationToken);
        return server;
    }

    Task<CliResult> ProbeAsync(MockLlmServer server, params string[] more) => Cli.RunAsync(["probe", Models(server), "--ca-file", _authority, .. more]);

    static string Models(MockLlmServer server) => new Uri(server.BaseAddress, "v1/models").ToString();

    static IEnumerable<string> Names(JsonElement element) => element.EnumerateObject().Select(property => property.Name);
}
