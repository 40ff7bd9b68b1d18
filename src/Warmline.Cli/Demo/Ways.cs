using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using Warmline.Transport;

namespace Warmline.Cli.Demo;

/// <summary>What a way did beside its calls.</summary>
/// <param name="Sockets">Connections opened, counted at the client.</param>
/// <param name="Handshake">DNS, TCP and TLS, summed over the connections.</param>
/// <param name="ReuseRate">Share of the calls that needed no connection of their own.</param>
/// <param name="Saved">Reuses times the mean handshake.</param>
/// <param name="QueueWaitMax">The longest wait for a place; null where there is no queue to ask.</param>
/// <param name="StatsLine">The pool's own line; null without a pool.</param>
internal sealed record WayFacts(int Sockets, TimeSpan Handshake, double ReuseRate, TimeSpan Saved, TimeSpan? QueueWaitMax, string? StatsLine);

/// <summary>One way to make calls. All of them use the same network, trust the same certificates and send the same requests.</summary>
internal abstract class Way : IAsyncDisposable
{
    public static Way Create(WayKind kind, Endpoint endpoint, int warmConnections, TimeProvider time) => kind switch
    {
        WayKind.ClientPerCall => new ClientPerCall(new PlainDialer(endpoint, time)),
        WayKind.DotNetDefault => new DotNetDefault(new PlainDialer(endpoint, time)),
        WayKind.WarmlineCold => new Pooled(endpoint, 0, time),
        _ => new Pooled(endpoint, warmConnections, time),
    };

    /// <summary>What is done before the clock starts. False when there is nothing.</summary>
    public virtual Task<bool> PrepareAsync(CancellationToken stop) => Task.FromResult(false);

    /// <summary>The client for one call.</summary>
    public abstract HttpClient Rent();

    /// <summary>The call has ended.</summary>
    public virtual void Return(HttpClient client)
    {
    }

    public abstract WayFacts Facts(int calls);

    public abstract ValueTask DisposeAsync();

    /// <summary>What people do by mistake: the connection dies with the client.</summary>
    sealed class ClientPerCall(PlainDialer dialer) : Way
    {
        public override HttpClient Rent() => new(dialer.CreateHandler());

        public override void Return(HttpClient client) => client.Dispose();

        public override WayFacts Facts(int calls) => dialer.Facts(calls);

        public override ValueTask DisposeAsync() => ValueTask.CompletedTask;
    }

    /// <summary>One client for all calls, as the SDKs have it, nothing tuned.</summary>
    sealed class DotNetDefault(PlainDialer dialer) : Way
    {
        readonly HttpClient _client = new(dialer.CreateHandler());

        public override HttpClient Rent() => _client;

        public override WayFacts Facts(int calls) => dialer.Facts(calls);

        public override ValueTask DisposeAsync()
        {
            _client.Dispose();
            return ValueTask.CompletedTask;
        }
    }

    /// <summary>A pool as it comes: nothing tuned either.</summary>
    sealed class Pooled : Way
    {
        readonly Endpoint _endpoint;
        readonly int _warmConnections;
        readonly CountingNetwork _network;
        readonly ConnectionPool _pool;
        readonly HttpClient _client;

        public Pooled(Endpoint endpoint, int warmConnections, TimeProvider time)
        {
            _endpoint = endpoint;
            _warmConnections = warmConnections;
            _network = new CountingNetwork(endpoint.Network);
            _pool = new ConnectionPool(new ConnectionPoolOptions { SslOptions = endpoint.CreateSslOptions(), UseProxy = false }, null, time, _network);
            _client = _pool.CreateClient();
        }

        public override async Task<bool> PrepareAsync(CancellationToken stop)
        {
            if (_warmConnections == 0)
            {
                return false;
            }

            await _pool.WarmUpAsync(_endpoint.Address, _warmConnections, stop);
            return true;
        }

        public override HttpClient Rent() => _client;

        public override WayFacts Facts(int calls)
        {
            // The pool keeps the mean over its dials; times their number it is the sum again.
            var stats = _pool.GetStats();
            var handshake = (stats.AverageHandshake ?? TimeSpan.Zero) * stats.NewConnections;
            return new WayFacts(_network.Sockets, handshake, stats.ReuseRate, stats.TimeSaved, stats.MaxQueueWait, stats.ToString());
        }

        public override async ValueTask DisposeAsync()
        {
            _client.Dispose();
            await _pool.DisposeAsync();
        }
    }
}

/// <summary>Counts the sockets that were connected.</summary>
internal sealed class CountingNetwork(INetwork inner) : INetwork
{
    int _sockets;

    public int Sockets => Volatile.Read(ref _sockets);

    public ValueTask<IPAddress[]> ResolveAsync(string host, CancellationToken cancellationToken) => inner.ResolveAsync(host, cancellationToken);

    public async ValueTask<Stream> ConnectAsync(IPEndPoint endPoint, CancellationToken cancellationToken)
    {
        var stream = await inner.ConnectAsync(endPoint, cancellationToken);
        Interlocked.Increment(ref _sockets);
        return stream;
    }
}

/// <summary>
/// Handlers of the platform on the demo's network, with their handshakes timed. The platform takes an <see cref="SslStream"/> that comes
/// out of its ConnectCallback as it is, so DNS, TCP and TLS are done there, one after the other and each on the clock: the same work that
/// it would do itself, with the options that it would use for HTTP/1.1 (no ALPN). Like the platform, it looks the name up for every
/// connection.
/// </summary>
internal sealed class PlainDialer(Endpoint endpoint, TimeProvider time)
{
    readonly CountingNetwork _network = new(endpoint.Network);
    long _handshakeTicks;
    int _handshakes;

    public SocketsHttpHandler CreateHandler() => new() { ConnectCallback = DialAsync, UseProxy = false };

    public WayFacts Facts(int calls)
    {
        var (done, handshake) = (Volatile.Read(ref _handshakes), TimeSpan.FromTicks(Interlocked.Read(ref _handshakeTicks)));
        var reuses = Math.Max(0, calls - _network.Sockets);
        return new WayFacts(_network.Sockets, handshake, calls == 0 ? 0 : (double)reuses / calls, done == 0 ? TimeSpan.Zero : handshake / done * reuses, null, null);
    }

    async ValueTask<Stream> DialAsync(SocketsHttpConnectionContext context, CancellationToken cancellationToken)
    {
        var started = time.GetTimestamp();
        var addresses = await _network.ResolveAsync(context.DnsEndPoint.Host, cancellationToken);
        var stream = await ConnectAsync(addresses, context.DnsEndPoint.Port, cancellationToken);
        if (context.InitialRequestMessage.RequestUri!.Scheme == Uri.UriSchemeHttps)
        {
            var secured = new SslStream(stream);
            try
            {
                var options = endpoint.CreateSslOptions() ?? new SslClientAuthenticationOptions();
                options.TargetHost = context.DnsEndPoint.Host;
                await secured.AuthenticateAsClientAsync(options, cancellationToken);
            }
            catch
            {
                await secured.DisposeAsync();
                throw;
            }

            stream = secured;
        }

        Interlocked.Add(ref _handshakeTicks, time.GetElapsedTime(started).Ticks);
        Interlocked.Increment(ref _handshakes);
        return stream;
    }

    async Task<Stream> ConnectAsync(IPAddress[] addresses, int port, CancellationToken cancellationToken)
    {
        for (var i = 0; ; i++)
        {
            try
            {
                return await _network.ConnectAsync(new IPEndPoint(addresses[i], port), cancellationToken);
            }
            catch (SocketException) when (i < addresses.Length - 1)
            {
                // The platform tries one address after the other as well.
            }
        }
    }
}
