using System.Net;

namespace Warmline;

/// <summary>The way past the pool, for calls that come while it is switched off.</summary>
internal sealed partial class PoolEngine
{
    HttpMessageInvoker? _bypass;
    long _bypassed;
    volatile bool _takesNothing;

    /// <summary>Whether new calls take the plain handler. A pool that drains or was disposed refuses them, switched off or not.</summary>
    public bool IsOff => !Settings.Enabled && !_takesNothing;

    public async Task<HttpResponseMessage> SendPastAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref _bypassed);
        var (version, policy) = (request.Version, request.VersionPolicy);
        try
        {
            if (Settings.Http2Mode is Http2Mode.Required && version.Major < 2)
            {
                (request.Version, request.VersionPolicy) = (HttpVersion.Version20, HttpVersionPolicy.RequestVersionExact);
            }

            return await Bypass().SendAsync(request, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            (request.Version, request.VersionPolicy) = (version, policy);
        }
    }

    HttpMessageInvoker Bypass()
    {
        if (_bypass is { } made)
        {
            return made;
        }

        var handler = new SocketsHttpHandler
        {
            UseProxy = Settings.Proxy is not null,
            Proxy = Settings.Proxy,
            UseCookies = false,
            AllowAutoRedirect = false,   // they are followed as the pool follows them, which keeps more credentials from other origins
            AutomaticDecompression = Settings.AutomaticDecompression,
            EnableMultipleHttp2Connections = true,
            ConnectTimeout = Settings.ConnectTimeout,
            PooledConnectionIdleTimeout = Settings.IdleTimeout,
            PooledConnectionLifetime = Settings.ConnectionLifetime,
        };
        if (Settings.SslOptions is { } ssl)
        {
            handler.SslOptions = Transport.TlsOptions.Copy(ssl);
        }

        var invoker = new HttpMessageInvoker(handler);
        if (Interlocked.CompareExchange(ref _bypass, invoker, null) is not { } first)
        {
            return invoker;
        }

        invoker.Dispose();
        return first;
    }

    void DisposeBypass() => Interlocked.Exchange(ref _bypass, null)?.Dispose();

    void LogSwitch(bool isOn)
    {
        if (isOn)
        {
            LogMessages.SwitchedOn(_logger);
        }
        else
        {
            LogMessages.SwitchedOff(_logger);
        }
    }
}
