using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Xunit;

namespace Warmline.Tests.Support;

/// <summary>A real HTTP proxy, Debian's tinyproxy, as a process of its own: started on a free loopback port with a folder and a configuration of its own, ended by its id.</summary>
internal sealed class Tinyproxy : IAsyncDisposable
{
    public const string User = "joe";
    public const string Password = "s3cret-0815";

    readonly string _folder = Directory.CreateTempSubdirectory("warmline-tinyproxy-").FullName;
    readonly bool _login;
    readonly int? _onlyPort;
    Process? _process;

    Tinyproxy(bool login, int? onlyPort)
    {
        _login = login;
        _onlyPort = onlyPort;
    }

    public int Port { get; private set; }

    public Uri Address => new($"http://127.0.0.1:{Port}");

    public Uri AddressWithLogin => new($"http://{User}:{Password}@127.0.0.1:{Port}");

    /// <summary>Starts one.</summary>
    /// <param name="login">Whether it wants <see cref="User"/> and <see cref="Password"/>.</param>
    /// <param name="onlyPort">The only target port that it allows; all when null.</param>
    public static async Task<Tinyproxy> StartAsync(bool login = false, int? onlyPort = null)
    {
        var proxy = new Tinyproxy(login, onlyPort);
        for (var left = 5; ; left--)
        {
            using (var free = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp))
            {
                free.Bind(new IPEndPoint(IPAddress.Loopback, 0));
                proxy.Port = ((IPEndPoint)free.LocalEndPoint!).Port;
            }

            if (await proxy.TryRestartAsync())
            {
                return proxy;
            }

            Assert.True(left > 0, "tinyproxy ended at once, five times: " + proxy.Log);   // once: somebody else took the port meanwhile
        }
    }

    /// <summary>The targets that it was asked for, one line each.</summary>
    public IReadOnlyList<string> Requests => [.. Log.Split('\n').Where(line => line.Contains("Request (", StringComparison.Ordinal))];

    string Log => File.Exists(LogFile) ? File.ReadAllText(LogFile) : "";

    string LogFile => Path.Combine(_folder, "log");

    /// <summary>Ends it at once, its connections with it.</summary>
    public async Task KillAsync()
    {
        _process!.Kill();
        await _process.WaitForExitAsync(TestContext.Current.CancellationToken);
    }

    /// <summary>Starts it again on the same port.</summary>
    public async Task RestartAsync() => Assert.True(await TryRestartAsync(), "tinyproxy did not start again: " + Log);

    public async ValueTask DisposeAsync()
    {
        if (_process is { HasExited: false })
        {
            _process.Kill();
            await _process.WaitForExitAsync(CancellationToken.None);
        }

        _process?.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    async Task<bool> TryRestartAsync()
    {
        var program = new[] { "/usr/bin/tinyproxy", "/usr/sbin/tinyproxy", "/usr/local/bin/tinyproxy", "/opt/homebrew/bin/tinyproxy" }.FirstOrDefault(File.Exists);
        Assert.True(program is not null, "tinyproxy is not installed, and this test needs a real proxy: `apt-get install tinyproxy-bin` (test.sh does that where it may).");
        var configuration = Path.Combine(_folder, "conf");
        await File.WriteAllTextAsync(configuration, string.Create(CultureInfo.InvariantCulture, $"""
            Port {Port}
            Listen 127.0.0.1
            Timeout 600
            MaxClients 400
            LogFile "{LogFile}"
            LogLevel Connect
            {(_login ? $"BasicAuth {User} {Password}" : "")}
            {(_onlyPort is { } only ? $"ConnectPort {only}" : "")}

            """), TestContext.Current.CancellationToken);
        _process?.Dispose();
        _process = Process.Start(new ProcessStartInfo(program, ["-d", "-c", configuration]) { UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true })!;
        _process.OutputDataReceived += (_, _) => { };
        _process.BeginOutputReadLine();
        _process.ErrorDataReceived += (_, _) => { };
        _process.BeginErrorReadLine();
        await Eventually.TrueAsync(() => _process.HasExited || Listens(), () => Log);
        return !_process.HasExited;
    }

    bool Listens()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            socket.Connect(IPAddress.Loopback, Port);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }
}
