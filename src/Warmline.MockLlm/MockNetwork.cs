using System.Net;
using System.Net.Sockets;

namespace Warmline.MockLlm;

/// <summary>
/// The client's side of a simulated network: real loopback sockets, but a DNS lookup and a TCP handshake take as long as they would over
/// the server's
/// <see cref="MockLlmOptions.RoundTripTime"/>. Every host name leads to the server. Thread-safe.
/// </summary>
public sealed class MockNetwork
{
    readonly DelayScheduler _scheduler;
    readonly IPAddress _address;
    readonly TimeSpan _roundTripTime;
    long _lookups, _sockets, _dnsTicks, _tcpTicks;

    internal MockNetwork(DelayScheduler scheduler, IPAddress address, TimeSpan roundTripTime)
    {
        _scheduler = scheduler;
        _address = address;
        _roundTripTime = roundTripTime;
        DnsTime = roundTripTime;
    }

    /// <summary>How long one lookup takes. Default: the server's round-trip time.</summary>
    public TimeSpan DnsTime { get; set; }

    /// <summary>Lookups started.</summary>
    public long Lookups => Interlocked.Read(ref _lookups);

    /// <summary>Sockets connected.</summary>
    public long SocketsOpened => Interlocked.Read(ref _sockets);

    /// <summary>Time charged for lookups, all together.</summary>
    public TimeSpan DnsTimeCharged => TimeSpan.FromTicks(Interlocked.Read(ref _dnsTicks));

    /// <summary>Time charged for TCP handshakes, all together.</summary>
    public TimeSpan TcpTimeCharged => TimeSpan.FromTicks(Interlocked.Read(ref _tcpTicks));

    /// <summary>A <see cref="SocketsHttpHandler.ConnectCallback"/> that resolves and connects.</summary>
    public Func<SocketsHttpConnectionContext, CancellationToken, ValueTask<Stream>> ConnectCallback => async (context, cancellationToken) =>
    {
        var addresses = await ResolveAsync(context.DnsEndPoint.Host, cancellationToken).ConfigureAwait(false);
        return await ConnectAsync(new IPEndPoint(addresses[0], context.DnsEndPoint.Port), cancellationToken).ConfigureAwait(false);
    };

    /// <summary>Takes <see cref="DnsTime"/> and answers the server's address, whatever the host.</summary>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public async ValueTask<IPAddress[]> ResolveAsync(string host, CancellationToken cancellationToken)
    {
        ArgumentException.ThrowIfNullOrEmpty(host);
        Interlocked.Increment(ref _lookups);
        await _scheduler.DelayAsync(DnsTime, cancellationToken).ConfigureAwait(false);
        Interlocked.Add(ref _dnsTicks, DnsTime.Ticks);
        return [_address];
    }

    /// <summary>Takes one round-trip time and gives a connected stream that owns its socket, with Nagle's algorithm off.</summary>
    /// <exception cref="SocketException">Nobody listens there.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public async ValueTask<Stream> ConnectAsync(IPEndPoint endPoint, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(endPoint);
        await _scheduler.DelayAsync(_roundTripTime, cancellationToken).ConfigureAwait(false);
        Interlocked.Add(ref _tcpTicks, _roundTripTime.Ticks);
        var socket = new Socket(endPoint.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        try
        {
            await socket.ConnectAsync(endPoint, cancellationToken).ConfigureAwait(false);
            Interlocked.Increment(ref _sockets);
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }
}
