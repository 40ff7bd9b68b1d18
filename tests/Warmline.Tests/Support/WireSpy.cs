using System.Net;
using System.Net.Sockets;

namespace Warmline.Tests.Support;

/// <summary>A server's end of a TCP connection, below its TLS: notes when the client's FIN or reset was read. An end of TLS that comes before is its close_notify.</summary>
internal sealed class WireSpy(NetworkStream inner) : Stream
{
    public int ClientPort { get; } = ((IPEndPoint)inner.Socket.RemoteEndPoint!).Port;

    /// <summary>The client's FIN.</summary>
    public bool SawEnd { get; private set; }

    public bool SawReset { get; private set; }

    public override bool CanRead => true;

    public override bool CanWrite => true;

    public override bool CanSeek => false;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        try
        {
            int count = await inner.ReadAsync(buffer, cancellationToken);
            SawEnd |= count == 0 && buffer.Length > 0;
            return count;
        }
        catch (IOException)
        {
            SawReset = true;
            throw;
        }
    }

    public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) => inner.WriteAsync(buffer, cancellationToken);

    public override Task FlushAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public override void Flush()
    {
    }

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => inner.Write(buffer, offset, count);

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            inner.Dispose();
        }

        base.Dispose(disposing);
    }
}
