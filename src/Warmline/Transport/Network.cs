using System.Net;
using System.Net.Sockets;

namespace Warmline.Transport;

/// <summary>The network as the dialer sees it. Comes in by constructor, so that tests can script it and a simulation can charge for it.</summary>
internal interface INetwork
{
    /// <summary>Resolves a host name; throws <see cref="SocketException"/> when it cannot.</summary>
    ValueTask<IPAddress[]> ResolveAsync(string host, CancellationToken cancellationToken);

    /// <summary>Opens a TCP connection; the stream owns its socket.</summary>
    ValueTask<Stream> ConnectAsync(IPEndPoint endPoint, CancellationToken cancellationToken);
}

/// <summary>The machine's own resolver and sockets.</summary>
internal sealed class SystemNetwork(TcpKeepAliveOptions keepAlive) : INetwork
{
    const int LinuxTcpUserTimeout = 18;   // TCP_USER_TIMEOUT of <linux/tcp.h>: milliseconds that sent bytes may stay unacknowledged

    readonly int _idleSeconds = (int)keepAlive.Idle.TotalSeconds;
    readonly int _intervalSeconds = (int)keepAlive.Interval.TotalSeconds;
    readonly int _count = keepAlive.Count;

    public ValueTask<IPAddress[]> ResolveAsync(string host, CancellationToken cancellationToken) => new(Dns.GetHostAddressesAsync(host, cancellationToken));

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

    void Configure(Socket socket)
    {
        socket.NoDelay = true;
        socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive, true);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveTime, _idleSeconds);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveInterval, _intervalSeconds);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveRetryCount, _count);
        if (OperatingSystem.IsLinux())
        {
            // Keep-alive probes are not sent while sent bytes wait for their acknowledgement: without this, a request written to a peer
            // that vanished is retransmitted for a quarter of an hour.
            Span<byte> value = stackalloc byte[sizeof(int)];
            long milliseconds = 1000L * (_idleSeconds + ((long)_intervalSeconds * _count));
            BitConverter.TryWriteBytes(value, (int)Math.Min(milliseconds, int.MaxValue));
            socket.SetRawSocketOption((int)SocketOptionLevel.Tcp, LinuxTcpUserTimeout, value);
        }
    }
}
