using System.Net;
using System.Net.NetworkInformation;
using System.Net.Sockets;

namespace Warmline.Transport;

/// <summary>The network as the dialer sees it. Comes in by constructor, so that tests can script it and a simulation can charge for it.</summary>
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

    public WireState Look(Stream wire, TimeSpan rested)
    {
        if (wire is not NetworkStream { Socket: var socket })
        {
            return WireState.Alive;
        }

        try
        {
            return KernelView.Of(socket) is { } view ? view.Judge(keepAlive.Idle, keepAlive.Interval) : KernelView.JudgeBlindly(socket, rested, keepAlive.Idle, keepAlive.Interval);
        }
        catch (Exception error) when (error is SocketException or ObjectDisposedException)
        {
            return WireState.Ended;   // it is being closed on this side
        }
    }

    public SendProgress? Progress(Stream wire)
    {
        try
        {
            return wire is NetworkStream { Socket: var socket } ? KernelView.ProgressOf(socket) : null;
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
            return [.. NetworkInterface.GetAllNetworkInterfaces().Where(card => card.OperationalStatus is not (OperationalStatus.Down or OperationalStatus.NotPresent))
                .SelectMany(card => card.GetIPProperties().UnicastAddresses).Select(unicast => unicast.Address)];
        }
        catch (NetworkInformationException)
        {
            return [];   // a sandbox may not be allowed to ask
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
