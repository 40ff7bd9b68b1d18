using System.Buffers;
using System.Net;
using System.Runtime.CompilerServices;

namespace Warmline.Transport;

/// <summary>
/// Stands in for the request's content while it is sent: each write is watched by the write clock, and its end is reported.
/// </summary>
internal sealed class UploadContent : HttpContent
{
    static readonly byte[] Zeros = new byte[64 * 1024];

    readonly HttpContent _inner;
    readonly IExchange _exchange;
    readonly EarlyAnswer? _early;
    readonly bool _isLong;

    /// <param name="inner">The caller's content.</param>
    /// <param name="exchange">Who is told.</param>
    /// <param name="isLong">It may end before its end: the server may answer, or the exchange be over.</param>
    /// <param name="early">Tells that the server does not want the rest; on HTTP/1.1.</param>
    public UploadContent(HttpContent inner, IExchange exchange, bool isLong, EarlyAnswer? early)
    {
        _inner = inner;
        _exchange = exchange;
        _isLong = isLong;
        _early = early;
        Bodies.CopyHeaders(inner, this);
    }

    /// <summary>
    /// What is written in one call. On HTTP/2 a frame of the default size (RFC 9113, section 4.2): the platform waits for the server's
    /// credit frame by frame,
    /// and a call that writes megabytes would return only when all of it was granted. On HTTP/1.1 the kernel says how far it is; the pieces
    /// are for systems that do not.
    /// </summary>
    int Piece => _exchange.EndsWithItsAnswer ? 64 * 1024 : 16 * 1024;

    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) =>
        SerializeToStreamAsync(stream, context, CancellationToken.None);

    protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken)
    {
        _exchange.UploadBegan();
        var whole = false;
        try
        {
            if (_inner is ByteArrayContent or ReadOnlyMemoryContent)
            {
                // Contents that keep their bytes write them at once and do nothing else: for one piece, the time from begin to end is the
                // write.
                var isOnePiece = _inner.Headers.ContentLength is { } length && length <= Piece && _exchange.IsCovered(0, (int)length);
                if (isOnePiece)
                {
                    _exchange.Clocks.BeginWrite();
                }

                // Once the headers are there the platform heeds no token of ours for what is left of the body: the content's own writes
                // have to.
                var to = isOnePiece ? stream : new UploadStream(stream, _exchange, Piece, CancellationToken.None);
                await _inner.CopyToAsync(to, context, _isLong ? _exchange.Clocks.Token : cancellationToken).ConfigureAwait(false);
            }
            else if (_isLong)
            {
                await CopyLongAsync(stream, context, cancellationToken).ConfigureAwait(false);
            }
            else
            {
                await _inner.CopyToAsync(new UploadStream(stream, _exchange, Piece, CancellationToken.None), context, cancellationToken)
                    .ConfigureAwait(false);
            }

            whole = true;
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested && !_exchange.EndsWithItsAnswer
            && !_exchange.Clocks.IsCancellationRequested)
        {
            await TellCauseAsync(stream).ConfigureAwait(false);
            throw;
        }
        finally
        {
            // Here, as the upload may have ended for the exchange before: a refused stream's body is pulled again.
            _exchange.Clocks.EndWrite();
            _exchange.UploadEnded(whole, cancellationToken.IsCancellationRequested);
        }
    }

    /// <summary>The platform stopped the body of a stream that ended, and knows why: the server's GOAWAY may prove that it did not process
    /// it. A content that waited just then knows only of its token, and its exception would be the call's. A write fails with the cause. It
    /// takes nothing to the wire: the stream is over.</summary>
    static async Task TellCauseAsync(Stream stream)
    {
        try
        {
            await stream.WriteAsync(Zeros.AsMemory(0, 1), CancellationToken.None).ConfigureAwait(false);
        }
        catch (Exception error) when (error is not (HttpRequestException { InnerException: not null } or HttpIOException))
        {
            // No cause: the content's exception stands. One without an inner exception means that the content had written all it said.
        }
    }

    /// <summary>
    /// A body that may be ended in its middle, also when its content waits and heeds no token. When a server on HTTP/1.1 will not have the
    /// rest, zeros stand in for it: they reach no wire, and the platform goes on to the answer.
    /// </summary>
    async Task CopyLongAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(_early?.Token ?? _exchange.Clocks.Token, cancellationToken);
        var upload = new UploadStream(stream, _exchange, Piece, stop.Token);
        var copy = _inner.CopyToAsync(upload, context, stop.Token);
        if (!copy.IsCompleted)
        {
            var stopped = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            using (stop.Token.UnsafeRegister(static state => ((TaskCompletionSource)state!).TrySetResult(), stopped))
            {
                await Task.WhenAny(copy, stopped.Task).ConfigureAwait(false);
            }
        }

        if (!stop.IsCancellationRequested || copy.IsCompletedSuccessfully)
        {
            await copy.ConfigureAwait(false);
            return;
        }

        // A content that does not heed its token goes on by itself, and writes nothing any more.
        _ = copy.ContinueWith(static ended =>
            ended.Exception, CancellationToken.None, TaskContinuationOptions.OnlyOnFaulted | TaskContinuationOptions.ExecuteSynchronously,
            TaskScheduler.Default);
        await upload.StopAsync().ConfigureAwait(false);
        if (_early is not { IsCancellationRequested: true })
        {
            throw new OperationCanceledException(stop.Token);
        }

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

/// <summary>The platform's write side of a request body, with the write clock around every piece of <paramref name="most"/> bytes. Can be
/// stopped while the content goes on.</summary>
/// <remarks>
/// The platform returns from a write when the last of its bytes was let out. Where the server's HTTP/2 credit may not cover a piece, pieces
/// begin with one byte and double, and begin
/// again after one that had to wait: so a write returns whenever the server lets out anything at all, and a healthy upload pays a few small
/// frames once.
/// </remarks>
internal sealed class UploadStream(Stream inner, IExchange exchange, int most, CancellationToken stop) : WriteOnlyStream
{
    readonly RequestClocks _clocks = exchange.Clocks;
    readonly Lock _gate = new();
    TaskCompletionSource? _stopped;
    int _next = 1;   // the size of the next piece that may have to wait for credit
    bool _writing;

    /// <summary>Bytes that the platform was given.</summary>
    public long Written { get; private set; }

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

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        do
        {
            var piece = buffer[..Math.Min(buffer.Length, most)];
            if (!exchange.EndsWithItsAnswer)
            {
                WriteCancellable(piece);
            }
            else
            {
                Begin(piece.Length);
                try
                {
                    inner.Write(piece);
                }
                finally
                {
                    End();
                }
            }

            buffer = buffer[piece.Length..];
        }
        while (!buffer.IsEmpty);
    }

    public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) =>
        buffer.Length <= most && exchange.IsCovered(Written, buffer.Length)
            ? WritePieceAsync(buffer, cancellationToken) : WritePiecesAsync(buffer, cancellationToken);

    /// <summary>A synchronous write that waits for the server's credit could be ended by no clock: the platform's takes no token.</summary>
    void WriteCancellable(ReadOnlySpan<byte> piece)
    {
        var copy = ArrayPool<byte>.Shared.Rent(Math.Max(1, piece.Length));
        piece.CopyTo(copy);
        WriteAsync(copy.AsMemory(0, piece.Length), _clocks.Token).AsTask().GetAwaiter().GetResult();
        ArrayPool<byte>.Shared.Return(copy);   // not after a failed write: the platform may still hold it
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    async ValueTask WritePiecesAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken)
    {
        while (!buffer.IsEmpty)
        {
            var size = Math.Min(buffer.Length, most);
            var isCovered = exchange.IsCovered(Written, size);
            var piece = buffer[..(isCovered ? size : Math.Min(size, _next))];
            buffer = buffer[piece.Length..];
            var before = _clocks.Now;
            await WritePieceAsync(piece, cancellationToken).ConfigureAwait(false);
            if (!isCovered)
            {
                _next = _clocks.Now - before > _clocks.Resolution ? 1 : Math.Min(most, _next * 2);
            }
        }
    }

    ValueTask WritePieceAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken)
    {
        Begin(buffer.Length);
        ValueTask write;
        try
        {
            write = inner.WriteAsync(buffer, stop.CanBeCanceled ? stop : cancellationToken);
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

    void Begin(int bytes)
    {
        lock (_gate)
        {
            // Swallowed writes complete at once: a content that heeds no token would go on without end, and never give its thread back.
            if (_stopped is not null || stop.IsCancellationRequested)
            {
                throw new OperationCanceledException("The server has answered and does not take the rest of the request body.");
            }

            _writing = true;
            Written += bytes;
        }

        _clocks.BeginWrite();
    }

    void End()
    {
        _clocks.EndWrite();
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
