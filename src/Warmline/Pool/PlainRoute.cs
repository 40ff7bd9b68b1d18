using System.Net;
using Warmline.Transport;

namespace Warmline.Pool;

/// <summary>
/// Calls while the pool is switched off (<see cref="ConnectionPoolOptions.Enabled"/>): they go through a handler of the platform.
/// </summary>
internal sealed class PlainRoute(PoolEngine pool) : IDisposable
{
    HttpMessageInvoker? _invoker;
    long _calls;

    /// <summary>Whether new calls take this route. A pool that drains or was disposed refuses them, switched off or not.</summary>
    public bool IsOn => !pool.Settings.Enabled && !pool.Lifetime.TakesNothing;

    /// <summary>Calls that took it.</summary>
    public long Calls => Interlocked.Read(ref _calls);

    public async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref _calls);
        var (version, policy) = (request.Version, request.VersionPolicy);
        try
        {
            if (pool.Settings.Http2Mode is Http2Mode.Required && version.Major < 2)
            {
                (request.Version, request.VersionPolicy) = (HttpVersion.Version20, HttpVersionPolicy.RequestVersionExact);
            }

            return await Invoker().SendAsync(request, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            (request.Version, request.VersionPolicy) = (version, policy);
        }
    }

    public void Dispose() => Interlocked.Exchange(ref _invoker, null)?.Dispose();

    HttpMessageInvoker Invoker()
    {
        if (_invoker is { } made)
        {
            return made;
        }

        var settings = pool.Settings;
        var handler = new SocketsHttpHandler
        {
            UseProxy = settings.Proxy is not null,
            Proxy = settings.Proxy,
            UseCookies = false,
            AllowAutoRedirect = false,   // redirects are followed as the pool follows them, which keeps more credentials from other origins
            AutomaticDecompression = settings.AutomaticDecompression,
            EnableMultipleHttp2Connections = true,
            ConnectTimeout = settings.ConnectTimeout,
            PooledConnectionIdleTimeout = settings.IdleTimeout,
            PooledConnectionLifetime = settings.ConnectionLifetime,
        };
        if (settings.SslOptions is { } ssl)
        {
            handler.SslOptions = TlsOptions.Copy(ssl);
        }

        var invoker = new HttpMessageInvoker(handler);
        if (Interlocked.CompareExchange(ref _invoker, invoker, null) is not { } first)
        {
            return invoker;
        }

        invoker.Dispose();
        return first;
    }
}
