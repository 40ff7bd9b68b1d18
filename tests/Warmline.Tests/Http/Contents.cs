using System.Net;
using System.Text;

namespace Warmline.Tests.Http;

/// <summary>A body source that gives its first part, waits, and gives the rest.</summary>
internal sealed class GatedStream(int first, int rest) : Stream
{
    readonly TaskCompletionSource _open = new(TaskCreationOptions.RunContinuationsAsynchronously);
    readonly TaskCompletionSource _waiting = new(TaskCreationOptions.RunContinuationsAsynchronously);
    int _given;

    /// <summary>The first part was taken and more is asked for.</summary>
    public Task Waiting => _waiting.Task;

    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => false;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public void Open() => _open.TrySetResult();

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (_given >= first)
        {
            _waiting.TrySetResult();
            await _open.Task.WaitAsync(cancellationToken);
        }

        var count = Math.Min(buffer.Length, (_given < first ? first : first + rest) - _given);
        buffer.Span[..count].Fill((byte)'x');
        _given += count;
        return count;
    }

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) => ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override void Flush()
    {
    }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
}

/// <summary>A content of one's own, as an application writes it: it says how it writes.</summary>
internal sealed class OwnContent(Func<Stream, CancellationToken, Task> write, long? length = null) : HttpContent
{
    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) => write(stream, CancellationToken.None);

    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken) => write(stream, cancellationToken);

    protected override bool TryComputeLength(out long value)
    {
        value = length ?? 0;
        return length is not null;
    }
}

/// <summary>A JSON content of its own type, as SDKs have, that notes how it was serialised.</summary>
internal sealed class RecordedContent : HttpContent
{
    readonly byte[] _bytes;
    readonly bool _tellsLength;

    public RecordedContent(string body, bool tellsLength = true)
    {
        _bytes = Encoding.ASCII.GetBytes(body);
        _tellsLength = tellsLength;
        Headers.TryAddWithoutValidation("Content-Type", "application/json; charset=utf-8");
    }

    public int Serialized { get; private set; }

    public string? WrittenTo { get; private set; }

    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) => SerializeToStreamAsync(stream, context, CancellationToken.None);

    protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken)
    {
        Serialized++;
        WrittenTo = stream.GetType().Name;
        await stream.WriteAsync(_bytes.AsMemory(0, _bytes.Length / 2), cancellationToken);
        stream.Write(_bytes, _bytes.Length / 2, _bytes.Length - (_bytes.Length / 2));
        await stream.FlushAsync(cancellationToken);
    }

    protected override bool TryComputeLength(out long length)
    {
        length = _bytes.Length;
        return _tellsLength;
    }
}
