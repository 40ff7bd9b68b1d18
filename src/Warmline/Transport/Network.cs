using System.Collections.Concurrent;
using System.Net;
using System.Net.NetworkInformation;
using System.Net.Sockets;

namespace Warmline.Transport;

/// <summary>
/// The network as the dialer sees it. Comes in by constructor, so that tests can script it and a simulation can charge for it.
/// </summary>
internal interface INetwork
{
    /// <summary>Resolves a host name; throws <see cref="SocketException"/> when it cannot.</summary>
    ValueTask<IPAddress[]> ResolveAsync(string host, CancellationToken cancellationToken);

    /// <summary>Opens a TCP connection; the stream owns its socket.</summary>
    ValueTask<Stream> ConnectAsync(IPEndPoint endPoint, CancellationToken cancellationToken);

    /// <summary>A look at a connection of its own that has been idle for <paramref name="rested"/>. Cheap, and never waits.</summary>
    WireState Look(Stream wire, TimeSpan rested) => WireState.Alive;

    /// <summary>Bytes that one of its connections has written and had acknowledged so far; null where that is not known. Cheap, and never
    /// waits.</summary>
    SendProgress? Progress(Stream wire) => null;

    /// <summary>The addresses that this machine has now; none when that cannot be told.</summary>
    IReadOnlyCollection<IPAddress> LocalAddresses() => [];
}

/// <summary>The machine's own resolver and sockets.</summary>
internal sealed class SystemNetwork(TcpKeepAliveOptions keepAlive, SocketCalls? calls = null) : INetwork
{
    const int LinuxTcpUserTimeout = 18;   // TCP_USER_TIMEOUT of <linux/tcp.h>: milliseconds that sent bytes may stay unacknowledged

    readonly int _idleSeconds = (int)keepAlive.Idle.TotalSeconds;
    readonly int _intervalSeconds = (int)keepAlive.Interval.TotalSeconds;
    readonly int _count = keepAlive.Count;
    readonly SocketCalls _calls = calls ?? SocketCalls.Default;
    readonly ConcurrentDictionary<string, bool> _refused = new(StringComparer.Ordinal);
    volatile bool _isUnprobed;

    /// <summary>Hears of each option that this system refuses, once: its name, and the error's.</summary>
    public Action<string, string>? Refused { get; set; }

    public ValueTask<IPAddress[]> ResolveAsync(string host, CancellationToken cancellationToken) =>
        new(Dns.GetHostAddressesAsync(host, cancellationToken));

    public async ValueTask<Stream> ConnectAsync(IPEndPoint endPoint, CancellationToken cancellationToken)
    {
        var socket = new Socket(endPoint.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            Configure(socket);
            await socket.ConnectAsync(endPoint, cancellationToken).ConfigureAwait(false);
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    public WireState Look(Stream wire, TimeSpan rested)
    {
        if (wire is not NetworkStream { Socket: var socket })
        {
            return WireState.Alive;
        }

        try
        {
            if (KernelView.Of(socket, _calls) is not { } view)
            {
                var blind = KernelView.JudgeBlindly(socket, rested, keepAlive.Idle, keepAlive.Interval, _calls);
                return blind is WireState.Doubtful ? WireState.Unknown : blind;
            }

            // Without probes silence proves nothing.
            var state = view.Judge(keepAlive.Idle, keepAlive.Interval, isProbed: !_isUnprobed);
            return _isUnprobed && state is WireState.Alive && rested > keepAlive.Idle + keepAlive.Interval ? WireState.Unknown : state;
        }
        catch (ObjectDisposedException)
        {
            return WireState.Ended;   // it is being closed on this side
        }
    }

    public SendProgress? Progress(Stream wire)
    {
        try
        {
            return wire is NetworkStream { Socket: var socket } ? KernelView.ProgressOf(socket, _calls) : null;
        }
        catch (Exception error) when (error is SocketException or ObjectDisposedException)
        {
            return null;   // the system does not say, or it is being closed on this side
        }
    }

    public IReadOnlyCollection<IPAddress> LocalAddresses()
    {
        try
        {
            return [.. NetworkInterface.GetAllNetworkInterfaces()
                .Where(card => card.OperationalStatus is not (OperationalStatus.Down or OperationalStatus.NotPresent))
                .SelectMany(card => card.GetIPProperties().UnicastAddresses).Select(unicast => unicast.Address)];
        }
        catch (Exception)   // of whatever kind: it may be netlink, or a file below /proc, that a sandbox does not allow
        {
            return [];
        }
    }

    /// <summary>Each option is a wish: a system that refuses one costs what it would have given, and no connection.</summary>
    void Configure(Socket socket)
    {
        TrySet(socket, SocketOptionLevel.Tcp, SocketOptionName.NoDelay, 1);
        if (!TrySet(socket, SocketOptionLevel.Socket, SocketOptionName.KeepAlive, 1)
            | !TrySet(socket, SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveTime, _idleSeconds))
        {
            _isUnprobed = true;   // or probed hours later
        }

        TrySet(socket, SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveInterval, _intervalSeconds);
        TrySet(socket, SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveRetryCount, _count);
        if (OperatingSystem.IsLinux())
        {
            Try("TCP_USER_TIMEOUT", socket, (Calls: _calls, Milliseconds: 1000L * (_idleSeconds + ((long)_intervalSeconds * _count))),
                static (socket, wish) =>
                {
                    // Keep-alive probes are not sent while sent bytes wait for their acknowledgement: without this, a request written to a
                    // peer that vanished is retransmitted for a quarter of an hour.
                    Span<byte> value = stackalloc byte[sizeof(int)];
                    BitConverter.TryWriteBytes(value, (int)Math.Min(wish.Milliseconds, int.MaxValue));
                    wish.Calls.SetRaw(socket, SocketOptionLevel.Tcp, LinuxTcpUserTimeout, value);
                });
        }
    }

    bool TrySet(Socket socket, SocketOptionLevel level, SocketOptionName name, int value) =>
        Try($"{name}", socket, (Calls: _calls, level, name, value),
            static (socket, wish) => wish.Calls.Set(socket, wish.level, wish.name, wish.value));

    bool Try<T>(string option, Socket socket, T wish, Action<Socket, T> set)
    {
        try
        {
            set(socket, wish);
            return true;
        }
        catch (Exception error) when (error is not ObjectDisposedException)
        {
            if (_refused.TryAdd(option, true))
            {
                Refused?.Invoke(option, error is SocketException refused ? $"{refused.SocketErrorCode}" : error.GetType().Name);
            }

            return false;
        }
    }
}
