using System.Net;
using System.Net.Sockets;
using Warmline.Transport;

namespace Warmline.Tests.Support;

/// <summary>The machine's network. It counts what was dialled, and what of it is not closed.</summary>
internal sealed class CountedNetwork(SocketCalls? calls = null) : INetwork
{
    readonly SystemNetwork _network = new(new TcpKeepAliveOptions(), calls);
    readonly Lock _lock = new();
    readonly List<Socket> _sockets = [];

    public int Dialed
    {
        get
        {
            lock (_lock)
            {
                return _sockets.Count;
            }
        }
    }

    public int Open
    {
        get
        {
            lock (_lock)
            {
                return _sockets.Count(static socket => !socket.SafeHandle.IsClosed);
            }
        }
    }

    public ValueTask<IPAddress[]> ResolveAsync(string host, CancellationToken cancellationToken) => new([IPAddress.Loopback]);

    public async ValueTask<Stream> ConnectAsync(IPEndPoint endPoint, CancellationToken cancellationToken)
    {
        var stream = (NetworkStream)await _network.ConnectAsync(endPoint, cancellationToken);
        lock (_lock)
        {
            _sockets.Add(stream.Socket);
        }

        return stream;
    }

    public WireState Look(Stream wire, TimeSpan rested) => _network.Look(wire, rested);

    public SendProgress? Progress(Stream wire) => _network.Progress(wire);
}
