using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.Logging;
using Xunit;

namespace Warmline.Tests.Support;

/// <summary>A raw TCP listener on loopback: the test plays the server, byte by byte.</summary>
internal sealed class RawServer : IDisposable
{
    readonly TcpListener _listener = new(IPAddress.Loopback, 0);

    public RawServer() => _listener.Start();

    public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

    public async Task<NetworkStream> AcceptAsync() => new(await _listener.AcceptSocketAsync(TestContext.Current.CancellationToken), ownsSocket: true);

    public async Task<SslStream> AcceptTlsAsync(X509Certificate2 certificate, params SslApplicationProtocol[] protocols)
    {
        var stream = new SslStream(await AcceptAsync());
        await stream.AuthenticateAsServerAsync(
            new SslServerAuthenticationOptions { ServerCertificate = certificate, ApplicationProtocols = [.. protocols] },
            TestContext.Current.CancellationToken);
        return stream;
    }

    public void Dispose() => _listener.Dispose();
}

/// <summary>Kestrel on loopback, with what the test wants it to answer.</summary>
internal sealed class KestrelServer : IAsyncDisposable
{
    readonly WebApplication _app;

    KestrelServer(WebApplication app) => _app = app;

    public int Port => new Uri(_app.Urls.First()).Port;

    public static async Task<KestrelServer> StartAsync(
        X509Certificate2? certificate, RequestDelegate answer, HttpProtocols protocols = HttpProtocols.Http1AndHttp2, Action<KestrelServerOptions>? configure = null)
    {
        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(new());
        builder.Logging.ClearProviders();
        builder.WebHost.UseKestrelCore().UseKestrelHttpsConfiguration().ConfigureKestrel(kestrel =>
        {
            configure?.Invoke(kestrel);
            kestrel.Listen(IPAddress.Loopback, 0, listen =>
            {
                listen.Protocols = protocols;
                if (certificate is not null)
                {
                    listen.UseHttps(certificate);
                }
            });
        });
        WebApplication app = builder.Build();
        app.Run(answer);
        await app.StartAsync(TestContext.Current.CancellationToken);
        return new(app);
    }

    public async ValueTask DisposeAsync() => await _app.DisposeAsync();
}
