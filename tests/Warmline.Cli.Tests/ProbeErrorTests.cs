using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using Warmline.MockLlm;
using Warmline.Tests.Support;

namespace Warmline.Cli.Tests;

/// <summary><c>probe</c> where there is no answer, and through a proxy that the environment names.</summary>
public sealed class ProbeErrorTests
{
    static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Theory(Timeout = Cli.TestLimit)]
    [InlineData(2, "an address is missing")]
    [InlineData(2, "the address is 'api.openai.com', must be", "api.openai.com")]
    [InlineData(2, "the address is 'https://localhost' with a user name", "https://joe:s3cret@localhost/")]
    [InlineData(2, "--count is '-1', must be a whole number from 0 to 1000", "https://localhost", "--count", "-1")]
    [InlineData(2, "--idle is '0', must be a whole number from 1 to 86400", "https://localhost", "--idle", "0")]
    [InlineData(2, "--timeout is 'x', must be", "https://localhost", "--timeout", "x")]
    [InlineData(2, "--protocols is 'h3', must be h1, h2 or both", "https://localhost", "--protocols", "h3")]
    [InlineData(2, "--method is 'a b'", "https://localhost", "--method", "a b")]
    [InlineData(2, "a --header is not of the form 'Name: value'", "https://localhost", "--header", "s3cret")]
    [InlineData(2, "--header 'Content-Type' cannot be set here", "https://localhost", "--header", "Content-Type: s3cret")]
    [InlineData(2, "--ca-file is '", "https://localhost", "--ca-file", "no-such-file")]
    [InlineData(2, "WARMLINE_NOT_SET is not set", "https://localhost", "--key-env", "WARMLINE_NOT_SET")]
    [InlineData(2, "'--speed' is not known here. See: warmline probe --help", "https://localhost", "--speed")]
    [InlineData(3, "The host name of no-such-host.invalid:443 could not be resolved", "https://no-such-host.invalid/")]
    public async Task AMistakeOrAFailureIsOneLineAndItsOwnExitCode(int exitCode, string cause, params string[] arguments) =>
        AssertError(exitCode, cause, await Cli.RunAsync(["probe", .. arguments]));

    [Fact(Timeout = Cli.TestLimit)]
    public async Task APortThatNobodyListensOnIsTcp()
    {
        using var taken = Bound();
        AssertError(4, "The TCP connection to 127.0.0.1:" + PortOf(taken), await Cli.RunAsync("probe", $"https://127.0.0.1:{PortOf(taken)}/"));
    }

    [Theory(Timeout = Cli.TestLimit)]
    [InlineData(MockCertificate.Untrusted, "is not trusted")]
    [InlineData(MockCertificate.Expired, "expired on 20")]
    [InlineData(MockCertificate.WrongName, "is for another name")]
    public async Task ACertificateThatIsRefusedIsTls(MockCertificate certificate, string cause)
    {
        await using var server = await MockLlmServer.StartAsync(new MockLlmOptions { Certificate = certificate }, cancellationToken: Ct);
        AssertError(6, "is not trusted", await Cli.RunAsync("probe", server.BaseAddress.ToString()));
        var authority = Path.GetTempFileName();
        try
        {
            await File.WriteAllTextAsync(authority, server.CertificateAuthority.ExportCertificatePem(), Ct);
            AssertError(6, cause, await Cli.RunAsync("probe", server.BaseAddress.ToString(), "--ca-file", authority));
            var insecure = await Cli.RunAsync("probe", server.BaseAddress.ToString(), "--insecure");
            Assert.Equal(0, insecure.ExitCode);
            Assert.Contains("not checked", insecure.Output);
        }
        finally
        {
            File.Delete(authority);
        }
    }

    [Theory(Timeout = Cli.TestLimit)]
    [InlineData("nonsense\r\n\r\n", 7, "took the connection, but gave no whole answer")]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", 7, "took the connection, but gave no whole answer")]
    [InlineData(null, 8, "its answer was not there within 1 s")]
    public async Task AnAnswerThatIsNoneIsTold(string? answer, int exitCode, string cause)
    {
        using var server = new AnsweringServer(answer);
        AssertError(exitCode, cause, await Cli.RunAsync("probe", $"http://127.0.0.1:{server.Port}/", "--timeout", "1"));
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task ASilentTlsServerIsATimeout()
    {
        using var server = new AnsweringServer(null);
        AssertError(8, "timed out after 1 s", await Cli.RunAsync("probe", $"https://127.0.0.1:{server.Port}/", "--timeout", "1"));
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task AServerThatKeepsNoConnectionIsTold()
    {
        using var server = new AnsweringServer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        var result = await Cli.RunAsync("probe", $"http://127.0.0.1:{server.Port}/");

        Assert.Equal((0, ""), (result.ExitCode, result.Errors));
        Assert.Contains("a pool cannot keep it", result.Output);
        Assert.DoesNotContain("saves", result.Output);
    }

    [Theory(Timeout = Cli.TestLimit)]
    [InlineData("HTTPS_PROXY", true)]
    [InlineData("https_proxy", true)]
    [InlineData("ALL_PROXY", true)]
    [InlineData("HTTP_PROXY", false)]
    public async Task TheProxyOfTheEnvironmentIsUsed(string variable, bool tls)
    {
        await using var proxy = await Tinyproxy.StartAsync(login: true);
        await using var server = await MockLlmServer.StartAsync(new MockLlmOptions { UseTls = tls, Protocols = tls ? new MockLlmOptions().Protocols : Microsoft.AspNetCore.Server.Kestrel.Core.HttpProtocols.Http1 }, cancellationToken: Ct);
        var result = await Cli.RunAsync([(variable, proxy.AddressWithLogin.ToString())], "probe", server.BaseAddress.ToString(), "--insecure", "--json");

        Assert.Equal((0, ""), (result.ExitCode, result.Errors));
        using var json = JsonDocument.Parse(result.Output);
        Assert.Equal($"http://127.0.0.1:{proxy.Port}", json.RootElement.GetProperty("proxy").GetString());
        Assert.True(json.RootElement.GetProperty("cold").GetProperty("proxyMs").GetDouble() > 0);
        Assert.Equal(2, proxy.Requests.Count);   // none by the code's warm-up
        Assert.All(proxy.Requests, request => Assert.Contains(tls ? $"CONNECT localhost:{server.BaseAddress.Port} " : $" http://localhost:{server.BaseAddress.Port}/", request));
        if (tls)
        {
            Assert.True(json.RootElement.GetProperty("tls").GetProperty("resumed").GetBoolean());
        }
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task HostsInNoProxyAreCalledDirectly()
    {
        await using var proxy = await Tinyproxy.StartAsync();
        await using var server = await MockLlmServer.StartAsync(cancellationToken: Ct);
        var result = await Cli.RunAsync([("HTTPS_PROXY", proxy.Address.ToString()), ("NO_PROXY", "elsewhere.example,localhost")], "probe", server.BaseAddress.ToString(), "--insecure");

        Assert.Equal(0, result.ExitCode);
        Assert.DoesNotContain("proxy", result.Output);
        Assert.Empty(proxy.Requests);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task AProxyThatRefusesOrIsNotThereIsTold()
    {
        await using var proxy = await Tinyproxy.StartAsync(login: true);
        AssertError(5, "give a user name and password", await Cli.RunAsync([("HTTPS_PROXY", proxy.Address.ToString())], "probe", "https://localhost:9/"));
        AssertError(5, "does not accept the user name and password", await Cli.RunAsync([("HTTPS_PROXY", $"http://joe:wr0ng-s3cret@127.0.0.1:{proxy.Port}")], "probe", "https://localhost:9/"));
        using var taken = Bound();
        AssertError(5, $"The TCP connection to the proxy http://127.0.0.1:{PortOf(taken)} ", await Cli.RunAsync([("HTTPS_PROXY", $"http://joe:s3cret@127.0.0.1:{PortOf(taken)}")], "probe", "https://localhost:9/"));
        AssertError(5, "only proxies with an http:// or https:// address are supported", await Cli.RunAsync([("ALL_PROXY", "socks5://joe:s3cret@127.0.0.1:1080")], "probe", "https://localhost:9/"));
    }

    static void AssertError(int exitCode, string cause, CliResult result)
    {
        Assert.Contains(cause, result.Errors);
        Assert.Equal((exitCode, ""), (result.ExitCode, result.Output));
        Assert.StartsWith("error: ", result.Errors);
        Assert.Single(result.Errors.Split('\n', StringSplitOptions.RemoveEmptyEntries));
        Assert.DoesNotContain("s3cret", result.All);
    }

    /// <summary>Bound and not listening: refused, and nobody else gets the port.</summary>
    static Socket Bound()
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return socket;
    }

    static int PortOf(Socket socket) => ((IPEndPoint)socket.LocalEndPoint!).Port;

    /// <summary>Takes every connection, reads a head, gives the same bytes and closes; silent without an answer.</summary>
    sealed class AnsweringServer : IDisposable
    {
        readonly TcpListener _listener = new(IPAddress.Loopback, 0);
        readonly List<Socket> _silent = [];
        readonly string? _answer;

        public AnsweringServer(string? answer)
        {
            _answer = answer;
            _listener.Start();
            _ = AcceptAsync();
        }

        public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

        public void Dispose()
        {
            _listener.Dispose();
            _silent.ForEach(socket => socket.Dispose());
        }

        async Task AcceptAsync()
        {
            try
            {
                while (true)
                {
                    var socket = await _listener.AcceptSocketAsync(Ct);
                    if (_answer is null)
                    {
                        _silent.Add(socket);
                        continue;
                    }

                    var head = "";
                    var next = new byte[1000];
                    while (!head.Contains("\r\n\r\n", StringComparison.Ordinal) && await socket.ReceiveAsync(next, Ct) is > 0 and var read)
                    {
                        head += Encoding.ASCII.GetString(next, 0, read);
                    }

                    await socket.SendAsync(Encoding.ASCII.GetBytes(_answer), Ct);
                    socket.Shutdown(SocketShutdown.Send);
                    socket.Dispose();
                }
            }
            catch (Exception end) when (end is SocketException or ObjectDisposedException or OperationCanceledException)
            {
                // The test is over.
            }
        }
    }
}
