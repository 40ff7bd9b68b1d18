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
