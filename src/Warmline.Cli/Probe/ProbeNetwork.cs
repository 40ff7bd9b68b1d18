using System.Net;
using System.Runtime.CompilerServices;
using Warmline.Transport;

namespace Warmline.Cli.Probe;

/// <summary>
/// The machine's network, with the bytes counted that come in: the platform does not tell whether a TLS session was resumed, its size does.
/// </summary>
internal sealed class ProbeNetwork(INetwork inner) : INetwork
{
    StrongBox<long> _bytes = new();

    /// <summary>Bytes that came on the connections opened since <see cref="Reset"/>.</summary>
    public long BytesRead => Volatile.Read(ref _bytes.Value);

    /// <summary>Before a dial: what comes on older connections does not count.</summary>
    public void Reset() => _bytes = new StrongBox<long>();

    public ValueTask<IPAddress[]> ResolveAsync(string host, CancellationToken cancellationToken) => inner.ResolveAsync(host, cancellationToken);

    public async ValueTask<Stream> ConnectAsync(IPEndPoint endPoint, CancellationToken cancellationToken) =>
        new CountingStream(await inner.ConnectAsync(endPoint, cancellationToken), _bytes);

    sealed class CountingStream(Stream inner, StrongBox<long> bytes) : Stream
    {
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
            var count = await inner.ReadAsync(buffer, cancellationToken);
            Interlocked.Add(ref bytes.Value, count);
            return count;
        }

        public override int Read(byte[] buffer, int offset, int count)
        {
            var read = inner.Read(buffer, offset, count);
            Interlocked.Add(ref bytes.Value, read);
            return read;
        }

        public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) => inner.WriteAsync(buffer, cancellationToken);

        public override void Write(byte[] buffer, int offset, int count) => inner.Write(buffer, offset, count);

        public override Task FlushAsync(CancellationToken cancellationToken) => inner.FlushAsync(cancellationToken);

        public override void Flush() => inner.Flush();

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
}
