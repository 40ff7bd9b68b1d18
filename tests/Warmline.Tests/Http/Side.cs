using System.Collections.Concurrent;
using System.Net;
using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Http;

/// <summary>One way to send a request: through a pool or through the bare handler, over HTTP/1.1 or HTTP/2; with the servers that a behaviour wants.</summary>
internal sealed class Side(bool isPool, bool http2) : IAsyncDisposable
{
    const string AfterPath = "/after";

    static readonly TestAuthority Authority = new();
    static readonly X509Certificate2 Certificate = Authority.Issue();

#pragma warning disable RS0030 // That something does not happen can only be seen by giving it time.
    static readonly TimeProvider Clock = TimeProvider.System;
#pragma warning restore RS0030

    readonly List<IAsyncDisposable> _servers = [];
    readonly ConcurrentQueue<string> _connections = new();
    ConnectionPool? _pool;
    HttpMessageInvoker? _invoker;
    HttpClient? _client;

    public bool IsPool => isPool;

    public bool Http2 => http2;

    public Version Version => http2 ? HttpVersion.Version20 : HttpVersion.Version11;

    public static CancellationToken Ct => TestContext.Current.CancellationToken;

    public bool AllowAutoRedirect { get; set; }

    public DecompressionMethods AutomaticDecompression { get; set; }

    public int? MaxConcurrentRequests { get; set; }

    /// <summary>What else the pool gets.</summary>
    public Action<ConnectionPoolOptions>? Configure { get; set; }

    /// <summary>The proxy for both; none if unset.</summary>
    public IWebProxy? Proxy { get; set; }

    /// <summary>The pool's clock.</summary>
    public TimeProvider? Time { get; set; }

    public ConnectionPool Pool => _pool!;

    public HttpClient Client => _client ??= new HttpClient(NewHandler()) { DefaultRequestVersion = Version, DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact };

    public HttpMessageInvoker Invoker => _invoker ??= new HttpMessageInvoker(NewHandler());

    /// <summary>Kestrel over TLS, with this side's protocol if none is named.</summary>
    public async Task<Uri> ServeAsync(RequestDelegate answer, Action<KestrelServerOptions>? configure = null, HttpProtocols? protocols = null)
    {
        var server = await Support.KestrelServer.StartAsync(Certificate, async context =>
        {
            _connections.Enqueue(context.Connection.Id);
            if (context.Request.Path != AfterPath)
            {
                await answer(context);
            }
        }, protocols ?? (http2 ? HttpProtocols.Http2 : HttpProtocols.Http1), configure);
        _servers.Add(server);
        return new Uri($"https://localhost:{server.Port}/");
    }

    /// <summary>A server of bytes for HTTP/1.1, without TLS; it plays each of its connections.</summary>
    public Uri ServeRaw(Func<RawHttp1, Task> play)
    {
        var server = new RawHttp1Server(play);
        _servers.Add(server);
        return new Uri($"http://localhost:{server.Port}/");
    }

    /// <summary>A proxy for all calls: what it says to a request's head, and to which port its tunnels lead.</summary>
    public ScriptedProxy ServeProxy(Func<string, string> answer, int target = 0)
    {
        var proxy = new ScriptedProxy(answer, target);
        _servers.Add(proxy);
        Proxy = new WebProxy(proxy.Address);
        return proxy;
    }

    /// <summary>A server of both protocols, or of those named, whose frames the behaviour decides.</summary>
    public TwoProtocolServer ServeTwo(params SslApplicationProtocol[] protocols)
    {
        var server = new TwoProtocolServer(Authority, protocols);
        _servers.Add(server);
        return server;
    }

    /// <summary>A server of frames for HTTP/2; it plays its one connection.</summary>
    public Uri ServeFrames(Func<RawHttp2Server.Connection, Task> play)
    {
        var server = new RawServer();
        _servers.Add(new Frames(server, PlayAsync()));
        return new Uri($"https://localhost:{server.Port}/");

        async Task PlayAsync()
        {
            await using var stream = await server.AcceptTlsAsync(Certificate, SslApplicationProtocol.Http2);
            await stream.ReadExactlyAsync(new byte[24], Ct);
            var connection = new RawHttp2Server.Connection(stream);
            await connection.WriteAsync(RawHttp2Server.Settings, 0, 0, []);
            await play(connection);
            await stream.ReadExactlyAsync(new byte[1_000_000], Ct);   // until the client hangs up
        }
    }

    public HttpRequestMessage Request(HttpMethod method, Uri address, HttpContent? content = null) =>
        new(method, address) { Version = Version, VersionPolicy = HttpVersionPolicy.RequestVersionExact, Content = content };

    public async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken? ct = null) => await Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, ct ?? Ct);

    public Task<HttpResponseMessage> PostAsync(Uri address, HttpContent? content) => SendAsync(Request(HttpMethod.Post, address, content));

    public Task<HttpResponseMessage> GetAsync(Uri address) => SendAsync(Request(HttpMethod.Get, address));

    /// <summary>Status and body, or the error.</summary>
    public static async Task<string> TellAsync(Task<HttpResponseMessage> call)
    {
        try
        {
            using var response = await call;
            var status = (int)response.StatusCode;
            try
            {
                var body = await response.Content.ReadAsStringAsync(Ct);
                return body.Length == 0 ? $"{status}" : $"{status} \"{body}\"";
            }
            catch (Exception error)
            {
                return $"{status}, then {Tell(error)}";
            }
        }
        catch (Exception error)
        {
            return Tell(error);
        }
    }

    public static string Tell(Exception error) => error switch
    {
        HttpIOException failed => $"HttpIOException ({failed.HttpRequestError})",
        HttpRequestException { InnerException: HttpIOException { HttpRequestError: var reason } } => $"HttpRequestException ({reason})",
        HttpRequestException failed => $"HttpRequestException ({failed.HttpRequestError})",
        TaskCanceledException { InnerException: TimeoutException } => "TaskCanceledException of a TimeoutException",
        OperationCanceledException => "OperationCanceledException",
        _ => error.GetType().Name,
    };

    /// <summary>Whether it happens by itself: the pool is given all the time that a slow machine needs, what never happens a moment.</summary>
    public async Task<bool> ComesAsync(Task what, bool never = false)
    {
        var rounds = never || !isPool ? 60 : 2_000;
        for (var round = 0; round < rounds && !what.IsCompleted; round++)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(5), Clock, Ct);
        }

        return what.IsCompleted;
    }

    /// <summary>Whether the next call rides the connection of the last.</summary>
    public async Task<string> AfterAsync(Uri address)
    {
        await SettledAsync();
        var last = _connections.Last();
        using var response = await GetAsync(new Uri(address, AfterPath));
        return _connections.Last() == last ? "connection kept" : "connection closed";
    }

    /// <summary>Every lease is back.</summary>
    public Task SettledAsync() => _pool is null ? Task.CompletedTask : Eventually.TrueAsync(() => _pool.GetStats() is { Active: 0, Queued: 0 }, () => Rig.Describe(_pool.GetStats()));

    public Task NoConnectionAsync() => _pool is null ? Task.CompletedTask : Eventually.TrueAsync(() => _pool.GetStats().Connections == 0, () => Rig.Describe(_pool.GetStats()));

    public PoolStats? Stats => _pool?.GetStats();

    public async ValueTask DisposeAsync()
    {
        await SettledAsync();
        _client?.Dispose();
        _invoker?.Dispose();
        if (_pool is not null)
        {
            await _pool.DisposeAsync();
        }

        foreach (var server in _servers)
        {
            await server.DisposeAsync();
        }
    }

    HttpMessageHandler NewHandler()
    {
        if (!isPool)
        {
            return new SocketsHttpHandler
            {
                SslOptions = Authority.Trust(), UseProxy = Proxy is not null, Proxy = Proxy,
                UseCookies = false, AllowAutoRedirect = AllowAutoRedirect, AutomaticDecompression = AutomaticDecompression,
            };
        }

        var options = new ConnectionPoolOptions
        {
            SslOptions = Authority.Trust(), AllowAutoRedirect = AllowAutoRedirect, AutomaticDecompression = AutomaticDecompression, MaxConcurrentRequests = MaxConcurrentRequests,
            UseProxy = Proxy is not null, Proxy = Proxy,
            Timeouts = { Write = TimeSpan.FromMinutes(5) },   // no clock may end what the pool should end by itself
        };
        Configure?.Invoke(options);
        _pool ??= new ConnectionPool(options, timeProvider: Time);
        return _pool.CreateHandler();
    }

    sealed class Frames(RawServer server, Task play) : IAsyncDisposable
    {
        public async ValueTask DisposeAsync()
        {
            server.Dispose();
            await play.ContinueWith(static ended => ended.Exception, TaskScheduler.Default);
        }
    }
}
