using System.Net;
using System.Runtime.CompilerServices;

namespace Warmline.Transport;

/// <summary>Stands in for the request's content while it is sent: each write is watched by the write clock, and its end is reported.</summary>
internal sealed class UploadContent : HttpContent
{
    static readonly byte[] Zeros = new byte[64 * 1024];

    readonly HttpContent _inner;
    readonly IExchange _exchange;
    readonly EarlyAnswer? _early;

    public UploadContent(HttpContent inner, IExchange exchange, EarlyAnswer? early)
    {
        _inner = inner;
        _exchange = exchange;
        _early = early;
        Bodies.CopyHeaders(inner, this);
    }

    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) => SerializeToStreamAsync(stream, context, CancellationToken.None);

    protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken)
    {
        _exchange.UploadBegan();
        var whole = false;
        try
        {
            // Contents that keep their bytes write them at once and do nothing else: the time from begin to end is the write, and nobody needs to watch its parts.
            var isOneWrite = _inner is ByteArrayContent or ReadOnlyMemoryContent;
            if (isOneWrite)
            {
                _exchange.Clocks.BeginWrite();
            }

            if (isOneWrite || _early is null)
            {
                await _inner.CopyToAsync(isOneWrite ? stream : new UploadStream(stream, _exchange.Clocks), context, cancellationToken).ConfigureAwait(false);
            }
            else
            {
                await CopyUntilRefusedAsync(stream, context, _early, cancellationToken).ConfigureAwait(false);
            }

            whole = true;
        }
        finally
        {
            _exchange.Clocks.EndWrite();   // here, as the upload may have ended for the exchange before: a refused stream's body is pulled again
            _exchange.UploadEnded(whole);
        }
    }

    /// <summary>When the server will not have the rest, the caller's content is left alone, and zeros stand in for it: they reach no wire.</summary>
    async Task CopyUntilRefusedAsync(Stream stream, TransportContext? context, EarlyAnswer early, CancellationToken cancellationToken)
    {
        var upload = new UploadStream(stream, _exchange.Clocks);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(early.Token, cancellationToken);
        var copy = _inner.CopyToAsync(upload, context, stop.Token);
        if (!copy.IsCompleted)
        {
            var refused = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            using (early.Token.UnsafeRegister(static state => ((TaskCompletionSource)state!).TrySetResult(), refused))
            {
                await Task.WhenAny(copy, refused.Task).ConfigureAwait(false);
            }
        }

        if (!early.IsCancellationRequested || copy.IsCompletedSuccessfully)
        {
            await copy.ConfigureAwait(false);
            return;
        }

        // A content that does not heed its token goes on by itself, and writes nothing any more.
        _ = copy.ContinueWith(static ended => ended.Exception, CancellationToken.None, TaskContinuationOptions.OnlyOnFaulted | TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        await upload.StopAsync().ConfigureAwait(false);
        for (var missing = (_inner.Headers.ContentLength ?? 0) - upload.Written; missing > 0; missing -= Zeros.Length)
        {
            await stream.WriteAsync(Zeros.AsMemory(0, (int)Math.Min(missing, Zeros.Length)), cancellationToken).ConfigureAwait(false);
        }
    }

    protected override bool TryComputeLength(out long length)
    {
        // The inner content's length header computes it; it was copied if it was known.
        length = _inner.Headers.ContentLength ?? 0;
        return _inner.Headers.ContentLength is not null;
    }

    // Disposing does nothing to the inner content: it is the caller's, and goes back into the caller's request.
}

/// <summary>The platform's write side of a request body, with the write clock around every write. Can be stopped while the content goes on.</summary>
internal sealed class UploadStream(Stream inner, RequestClocks clocks) : Stream
{
    readonly Lock _gate = new();
    TaskCompletionSource? _stopped;
    bool _writing;

    /// <summary>Bytes that the platform was given.</summary>
    public long Written { get; private set; }

    public override bool CanRead => false;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    /// <summary>No write reaches the platform after this; completes when the last has ended.</summary>
    public Task StopAsync()
    {
        lock (_gate)
        {
            _stopped ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            if (!_writing)
            {
                _stopped.TrySetResult();
            }

            return _stopped.Task;
        }
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        Begin(buffer.Length);
        try
        {
            inner.Write(buffer);
        }
        finally
        {
            End();
        }
    }

    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) => WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        Begin(buffer.Length);
        ValueTask write;
        try
        {
            write = inner.WriteAsync(buffer, cancellationToken);
        }
        catch
        {
            End();
            throw;
        }

        return Watch(write);
    }

    public override void Flush() => inner.Flush();

    public override async Task FlushAsync(CancellationToken cancellationToken)
    {
        Begin(0);
        await Watch(new ValueTask(inner.FlushAsync(cancellationToken))).ConfigureAwait(false);
    }

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    void Begin(int bytes)
    {
        lock (_gate)
        {
            if (_stopped is not null)
            {
                throw new OperationCanceledException("The server has answered and does not take the rest of the request body.");
            }

            _writing = true;
            Written += bytes;
        }

        clocks.BeginWrite();
    }

    void End()
    {
        clocks.EndWrite();
        lock (_gate)
        {
            _writing = false;
            _stopped?.TrySetResult();
        }
    }

    ValueTask Watch(ValueTask write)
    {
        if (!write.IsCompletedSuccessfully)
        {
            return WatchAsync(write);
        }

        End();
        return write;
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    async ValueTask WatchAsync(ValueTask write)
    {
        try
        {
            await write.ConfigureAwait(false);
        }
        finally
        {
            End();
        }
    }
}
