using System.Collections.Concurrent;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using Warmline.MockLlm;
using Warmline.Transport;

namespace Warmline.Cli.Demo;

/// <summary>
/// This machine's sockets behind a name server of the demo's own: every name has the same addresses, which exist in this process only, and
/// each of them leads to a local server.
/// </summary>
/// <param name="routes">The addresses in the order of the name server's answer, and where each leads.</param>
/// <param name="firstLookup">How long the first lookup takes; the others take no time.</param>
/// <param name="time">Its clock.</param>
internal sealed class FieldNetwork(IReadOnlyList<(IPAddress Address, IPEndPoint Leads)> routes, TimeSpan firstLookup, TimeProvider time) : INetwork
{
    readonly SystemNetwork _sockets = new(new TcpKeepAliveOptions());
    int _lookups;
    int _connections;

    public int Connections => Volatile.Read(ref _connections);

    public async ValueTask<IPAddress[]> ResolveAsync(string host, CancellationToken cancellationToken)
    {
        if (Interlocked.Increment(ref _lookups) == 1 && firstLookup > TimeSpan.Zero)
        {
            await Task.Delay(firstLookup, time, cancellationToken);
        }

        return [.. routes.Select(route => route.Address)];
    }

    public async ValueTask<Stream> ConnectAsync(IPEndPoint endPoint, CancellationToken cancellationToken)
    {
        var stream = await _sockets.ConnectAsync(routes.First(route => route.Address.Equals(endPoint.Address)).Leads, cancellationToken);
        Interlocked.Increment(ref _connections);
        return stream;
    }

    public WireState Look(Stream wire, TimeSpan rested) => _sockets.Look(wire, rested);

    public SendProgress? Progress(Stream wire) => _sockets.Progress(wire);

    /// <summary>What the platform does: one address after the other, and the next only when TCP fails at the one before.</summary>
    public async ValueTask<Stream> ConnectInTurnAsync(SocketsHttpConnectionContext context, CancellationToken cancellationToken)
    {
        var addresses = await ResolveAsync(context.DnsEndPoint.Host, cancellationToken);
        for (var i = 0; ; i++)
        {
            try
            {
                return await ConnectAsync(new IPEndPoint(addresses[i], context.DnsEndPoint.Port), cancellationToken);
            }
            catch (SocketException) when (i < addresses.Length - 1)
            {
                // The next one.
            }
        }
    }
}

/// <summary>How a call ended.</summary>
/// <param name="Outcome">In a word or two.</param>
/// <param name="IsAnswered">With success, to its end.</param>
/// <param name="Took">Until then.</param>
/// <param name="Error">What its caller reads; null when it was answered, or when the demo gave up waiting.</param>
internal sealed record FieldCall(string Outcome, bool IsAnswered, TimeSpan Took, string? Error);

/// <summary>One way's client: the pool's, or that of .NET's own handler.</summary>
internal sealed class FieldSide : IAsyncDisposable
{
    readonly HttpClient _client;
    readonly ConnectionPool? _pool;
    readonly FieldNetwork _network;

    /// <summary>
    /// How long a connection may take to open for .NET's handler, which has no limit of its own: what people set, and the pool's default.
    /// </summary>
    public static readonly TimeSpan ConnectTimeout = TimeSpan.FromSeconds(5);

    public FieldSide(bool isPool, SslClientAuthenticationOptions trust, FieldNetwork network, Action<ConnectionPoolOptions>? configure, TimeProvider time)
    {
        _network = network;
        if (isPool)
        {
            var options = new ConnectionPoolOptions { SslOptions = trust, UseProxy = false };
            configure?.Invoke(options);
            _pool = new ConnectionPool(options, null, time, network);
            _client = _pool.CreateClient();
            return;
        }

        // Its 100 s would end nothing here: the demo is over before.
        _client = new HttpClient(new SocketsHttpHandler { SslOptions = trust, UseProxy = false, ConnectTimeout = ConnectTimeout, ConnectCallback = network.ConnectInTurnAsync });
    }

    public int Connections => _network.Connections;

    /// <summary>
    /// Makes one call and reads its answer as <paramref name="read"/> does; after <paramref name="patience"/> the demo gives up.
    /// </summary>
    public async Task<FieldCall> CallAsync(HttpRequestMessage request, Func<HttpResponseMessage, CancellationToken, Task> read, TimeSpan patience, TimeProvider time, CancellationToken stop)
    {
        using var limit = new CancellationTokenSource(patience, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(stop, limit.Token);
        var started = time.GetTimestamp();
        try
        {
            using (request)
            {
                using var response = await _client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, either.Token);
                await read(response, either.Token);
                return new FieldCall(response.IsSuccessStatusCode ? "answered" : $"status {(int)response.StatusCode}", response.IsSuccessStatusCode, time.GetElapsedTime(started), null);
            }
        }
        catch (Exception error) when (ParallelDemo.IsFailure(error))
        {
            stop.ThrowIfCancellationRequested();
            var took = time.GetElapsedTime(started);
            return limit.IsCancellationRequested ? new FieldCall("still waiting", false, took, null) : new FieldCall("failed", false, took, Describe(error));
        }
    }

    /// <summary>
    /// As a log shows it. What .NET's handler ends by its ConnectTimeout is called a cancellation, and the reason stands within.
    /// </summary>
    static string Describe(Exception error) =>
        $"{error.GetType().Name}: {error.Message}" + (error is OperationCanceledException && error.GetBaseException() is TimeoutException inner ? $" ({inner.Message})" : "");

    public async ValueTask DisposeAsync()
    {
        _client.Dispose();
        if (_pool is not null)
        {
            await _pool.DisposeAsync();
        }
    }
}

/// <summary>The servers of one scene, under one name, and a client of each way.</summary>
internal sealed class FieldStage : IAsyncDisposable
{
    readonly List<MockLlmServer> _servers = [];
    readonly string _host;
    readonly ConcurrentBag<IAsyncDisposable> _sides = [];

    FieldStage(string host) => _host = host;

    public IReadOnlyList<MockLlmServer> Servers => _servers;

    /// <summary>Starts servers. The name's addresses are theirs, in their order.</summary>
    public static async Task<FieldStage> StartAsync(string name, CancellationToken stop, params IReadOnlyList<MockLlmOptions> servers)
    {
        var stage = new FieldStage($"{name}.provider.example");
        try
        {
            foreach (var options in servers)
            {
                options.HostNames.Add(stage._host);
                options.RecordRequests = true;
                stage._servers.Add(await MockLlmServer.StartAsync(options, cancellationToken: stop));
            }

            return stage;
        }
        catch
        {
            await stage.DisposeAsync();
            throw;
        }
    }

    /// <summary>The last server is the one that works: it is its certificate that is trusted.</summary>
    public FieldSide Open(bool isPool, Action<ConnectionPoolOptions>? configure, TimeSpan firstLookup, TimeProvider time)
    {
        // 192.0.2.0/24 is for documents: nothing on the network has these addresses.
        var routes = _servers.Select((server, i) => (new IPAddress([192, 0, 2, (byte)(i + 1)]), new IPEndPoint(IPAddress.Loopback, server.BaseAddress.Port)));
        var side = new FieldSide(isPool, _servers[^1].CreateClientSslOptions(), new FieldNetwork([.. routes], firstLookup, time), configure, time);
        _sides.Add(side);
        return side;
    }

    /// <summary>A call as SDKs make it.</summary>
    public HttpRequestMessage CreateRequest(byte[] body, params ReadOnlySpan<(string Name, string Value)> headers)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, new UriBuilder(_servers[^1].BaseAddress) { Host = _host, Path = "/v1/chat/completions" }.Uri)
        {
            Content = new ByteArrayContent(body),
        };
        request.Content.Headers.ContentType = new("application/json");
        foreach (var (name, value) in headers)
        {
            request.Headers.Add(name, value);
        }

        return request;
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var part in _sides.Concat(_servers))
        {
            await part.DisposeAsync();
        }
    }
}
