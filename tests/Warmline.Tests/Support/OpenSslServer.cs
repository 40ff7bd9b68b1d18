using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Support;

/// <summary>OpenSSL's own server as a process: it sends real alerts, which .NET's does not. It demands a client certificate. Ended by its id.</summary>
internal sealed class OpenSslServer : IAsyncDisposable
{
    readonly string _folder = Directory.CreateTempSubdirectory("warmline-openssl-").FullName;
    readonly TestAuthority _authority = new();
    readonly TaskCompletionSource _listens = new(TaskCreationOptions.RunContinuationsAsynchronously);
    Process? _process;

    public int Port { get; private set; }

    public Uri Address => new($"https://localhost:{Port}/");

    public static async Task<OpenSslServer> StartAsync(string arguments)
    {
        for (var left = 5; ; left--)
        {
            var server = new OpenSslServer();
            if (await server.TryStartAsync(arguments))
            {
                return server;
            }

            await server.DisposeAsync();
            Assert.True(left > 0, "openssl s_server ended at once, five times");   // once: somebody else took the port meanwhile
        }
    }

    public ConnectionPool NewPool(Action<ConnectionPoolOptions>? configure = null, LogRecorder? logs = null, INetwork? network = null)
    {
        var options = new ConnectionPoolOptions { SslOptions = Trust() };
        configure?.Invoke(options);
        return new ConnectionPool(options, logs, null, network);
    }

    public HttpClient NewBare() => new(new SocketsHttpHandler { SslOptions = Trust() });

    /// <summary>Trusts the server; sends <paramref name="certificate"/>.</summary>
    public SslClientAuthenticationOptions Trust(X509Certificate2? certificate = null)
    {
        var options = _authority.Trust();
        options.ClientCertificates = certificate is null ? null : [certificate];
        return options;
    }

    public async ValueTask DisposeAsync()
    {
        if (_process is { } process)
        {
            try
            {
                process.Kill();
            }
            catch (InvalidOperationException)
            {
                // It has ended.
            }

            await process.WaitForExitAsync(CancellationToken.None);
            process.Dispose();
        }

        _authority.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    async Task<bool> TryStartAsync(string arguments)
    {
        using (var free = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp))
        {
            free.Bind(new IPEndPoint(IPAddress.Loopback, 0));
            Port = ((IPEndPoint)free.LocalEndPoint!).Port;
        }

        using var certificate = _authority.Issue();
        var (cert, key) = (Path.Combine(_folder, "cert.pem"), Path.Combine(_folder, "key.pem"));
        using (var exportable = X509CertificateLoader.LoadPkcs12(certificate.Export(X509ContentType.Pfx), null, X509KeyStorageFlags.Exportable))
        {
            await File.WriteAllTextAsync(cert, exportable.ExportCertificatePem(), Rig.Ct);
            await File.WriteAllTextAsync(key, exportable.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem(), Rig.Ct);
        }

        var start = new ProcessStartInfo("openssl", string.Create(CultureInfo.InvariantCulture, $"s_server -accept 127.0.0.1:{Port} -cert {cert} -key {key} {arguments}"))
        {
            UseShellExecute = false,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        _process = Process.Start(start)!;
        _process.OutputDataReceived += (_, line) =>
        {
            if (line.Data?.StartsWith("ACCEPT", StringComparison.Ordinal) == true)
            {
                _listens.TrySetResult();
            }
        };
        _process.ErrorDataReceived += static (_, _) => { };
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
        var ended = _process.WaitForExitAsync(Rig.Ct);
        return await Task.WhenAny(_listens.Task, ended) == _listens.Task;
    }
}
