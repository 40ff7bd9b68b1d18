using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using Warmline.MockLlm;

namespace Warmline.Cli.Tests;

/// <summary><c>demo --url</c>: against a provider in this process that wants a key and has a certificate of its own authority.</summary>
public sealed class DemoUrlTests : IAsyncLifetime
{
    const string Key = "sk-correct-horse-4711";
    const string WrongKey = "sk-battery-staple-0815";

    readonly string _authority = Path.GetTempFileName();
    MockLlmServer _server = null!;

    public async ValueTask InitializeAsync()
    {
        _server = await MockLlmServer.StartAsync(new MockLlmOptions { RequiredApiKey = Key }, cancellationToken: TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(_authority, _server.CertificateAuthority.ExportCertificatePem(), TestContext.Current.CancellationToken);
    }

    public async ValueTask DisposeAsync()
    {
        await _server.DisposeAsync();
        File.Delete(_authority);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task MeasuresARealEndpoint()
    {
        var result = await RunAsync(Key, "--json", "--calls", "6");

        Assert.Equal("", result.Errors.Replace("\r", "", StringComparison.Ordinal).Split('\n').FirstOrDefault(line => line.StartsWith("error", StringComparison.Ordinal)) ?? "");
        Assert.Equal(0, result.ExitCode);
        using var json = JsonDocument.Parse(result.Output);
        Assert.Equal(new Uri(_server.BaseAddress, "v1/chat/completions").ToString(), json.RootElement.GetProperty("conditions").GetProperty("endpoint").GetString());
        var ways = json.RootElement.GetProperty("ways");
        Assert.Equal(["dotnet-default", "warmline-cold", "warmline-warmed"], ways.EnumerateArray().Select(way => way.GetProperty("way").GetString()));
        Assert.All(ways.EnumerateArray(), way => Assert.Equal(0, way.GetProperty("failures").GetInt32()));
        Assert.Equal(1, ways[2].GetProperty("reuseRate").GetDouble());
        Assert.Equal(1 + (3 * 6), _server.GetCounters().Requests);
        Assert.DoesNotContain(Key, result.All);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task TriesAClientPerCallOnlyWhenAsked()
    {
        var result = await RunAsync(Key, "--calls", "3", "--all-ways", "--stream");

        Assert.Equal(0, result.ExitCode);
        Assert.Contains("client per call: 3/3 calls", result.Output);
        Assert.Contains("cost money: 13 of them", result.Output);
        Assert.Contains("first byte, p50", result.Output);
        Assert.DoesNotContain(Key, result.All);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task SpeaksAnthropicsShape()
    {
        var result = await RunAsync(Key, "--calls", "2", "--api", "anthropic", "--json");

        Assert.Equal(0, result.ExitCode);
        Assert.Equal(7, _server.GetCounters().RequestsByPath["/v1/messages"]);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task AWrongKeyIsOneLineWithoutTheKey()
    {
        var result = await RunAsync(WrongKey, "--calls", "2");

        AssertOneError(result);
        Assert.Contains("401", result.Errors);
        Assert.Contains("--key-env", result.Errors);
        Assert.DoesNotContain(WrongKey, result.All);
        Assert.Equal(1, _server.GetCounters().Requests);   // nothing was measured, nothing more was spent
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task NoKeyIsOneLineToo()
    {
        var result = await Cli.RunAsync("demo", "--url", _server.BaseAddress.ToString(), "--ca-file", _authority);

        AssertOneError(result);
        Assert.Contains("--key-env", result.Errors);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task AMissingVariableIsNamed()
    {
        var result = await Cli.RunAsync("demo", "--url", _server.BaseAddress.ToString(), "--key-env", "WARMLINE_NO_SUCH_KEY");

        AssertOneError(result);
        Assert.Contains("WARMLINE_NO_SUCH_KEY is not set", result.Errors);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task AKeyGivenAsANameIsNotRepeated()
    {
        var result = await Cli.RunAsync("demo", "--url", _server.BaseAddress.ToString(), "--key-env", Key);

        AssertOneError(result);
        Assert.DoesNotContain(Key, result.All);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task AnUntrustedCertificateSaysHowToTrustIt()
    {
        var result = await Cli.RunAsync([("WARMLINE_TEST_KEY", Key)], "demo", "--url", _server.BaseAddress.ToString(), "--key-env", "WARMLINE_TEST_KEY");

        AssertOneError(result);
        Assert.Contains("--ca-file", result.Errors);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task AnUnreachableHostIsOneLine()
    {
        using var taken = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        taken.Bind(new IPEndPoint(IPAddress.Loopback, 0));   // bound and not listening: refused, and nobody else gets the port
        var result = await Cli.RunAsync("demo", "--url", $"https://127.0.0.1:{((IPEndPoint)taken.LocalEndPoint!).Port}");

        AssertOneError(result);
        Assert.Contains("cannot reach https://127.0.0.1:", result.Errors);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task WhatOnlyTheSimulationObeysIsRefused()
    {
        var result = await RunAsync(Key, "--rtt", "50");

        Assert.Equal(2, result.ExitCode);
        Assert.StartsWith("error: --rtt is '50'", result.Errors);
        Assert.Equal(0, _server.GetCounters().Requests);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task AFileThatIsNoCertificateIsRefused()
    {
        await File.WriteAllTextAsync(_authority, "no certificate", TestContext.Current.CancellationToken);
        var result = await RunAsync(Key);

        Assert.Equal(2, result.ExitCode);
        Assert.StartsWith("error: --ca-file is '", result.Errors);
    }

    Task<CliResult> RunAsync(string key, params string[] more) => Cli.RunAsync(
        [("WARMLINE_TEST_KEY", key)], ["demo", "--url", _server.BaseAddress.ToString(), "--key-env", "WARMLINE_TEST_KEY", "--ca-file", _authority, .. more]);

    static void AssertOneError(CliResult result)
    {
        Assert.Equal(1, result.ExitCode);
        Assert.Equal("", result.Output);
        Assert.StartsWith("error: ", result.Errors);
        Assert.Single(result.Errors.Split('\n', StringSplitOptions.RemoveEmptyEntries));
    }
}
