using System.Net;
using System.Net.Sockets;

namespace Warmline.Tests.Support;

/// <summary>A server's end of a TCP connection, below its TLS: notes when the client's FIN or reset was read. An end of TLS that comes before is its close_notify.</summary>
internal sealed class WireSpy(NetworkStream inner) : PassingStream(inner)
{
    public int ClientPort { get; } = ((IPEndPoint)inner.Socket.RemoteEndPoint!).Port;

    /// <summary>The client's FIN.</summary>
    public bool SawEnd { get; private set; }

    public bool SawReset { get; private set; }

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        try
        {
            int count = await base.ReadAsync(buffer, cancellationToken);
            SawEnd |= count == 0 && buffer.Length > 0;
            return count;
        }
        catch (IOException)
        {
            SawReset = true;
            throw;
        }
    }
}
