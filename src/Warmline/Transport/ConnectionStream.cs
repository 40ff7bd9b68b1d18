using System.Runtime.CompilerServices;

namespace Warmline.Transport;

/// <summary>
/// The wire as the slot's handler sees it: counts the bytes, reads along the HTTP/2 frames, and tells when the connection is closing and
/// closed.
/// </summary>
/// <remarks>
/// The reader gate (HTTP/1.1 only): the inner stream takes one read at a time, and two want one: the handler (for a response, and every 30
/// s for a look at an idle connection) and the idle watch. Whoever moves the gate away from Free reads. The watch reads zero bytes, so it
/// takes nothing away: a handler that finds it pending waits for it and then reads what woke it.
/// </remarks>
internal sealed partial class ConnectionStream(ClosingStream inner, bool isHttp2, Slot slot, ISlotOwner owner) : Stream
{
    const int Free = 0;
    const int Handler = 1;
    const int Watch = 2;

    const int Open = 0;
    const int Closing = 1;
    const int Closed = 2;

    readonly Http2FrameWatcher? _frames = isHttp2 ? new() : null;
    TaskCompletionSource? _watch;   // set before the gate becomes Watch, cleared by the same watch after the gate is free again
    long _written;
    long _read;
    long _writtenWhenIdle = -1;     // bytes read at this count of written ones were asked for by nobody
    int _gate;
    int _state;
    int _disposed;

    /// <summary>What the server's HTTP/2 frames said; null on HTTP/1.1. Written by the reader.</summary>
    public Http2FrameWatcher? Frames => _frames;

    /// <summary>
    /// Bytes handed to the connection. Counted before they are written, so that an unchanged count proves that nothing was sent.
    /// </summary>
    public long BytesWritten => Volatile.Read(ref _written);

    public long BytesRead => Volatile.Read(ref _read);

    /// <summary>Whether a request was handed to the connection: on HTTP/2 its HEADERS, beyond what starts the connection.</summary>
    public bool SentRequest => _frames is null ? BytesWritten > 0 : _sent.Requests > 0;

    /// <summary>Whether the connection was ended: by the peer, by an error or by us.</summary>
    public bool IsClosing => Volatile.Read(ref _state) != Open;

    /// <summary>Whether we closed it; the socket may still wait for the peer's end.</summary>
    public bool IsClosed => Volatile.Read(ref _disposed) != 0;

    public override bool CanRead => true;

    public override bool CanWrite => true;

    public override bool CanSeek => false;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    /// <summary>
    /// Watches an HTTP/1.1 connection that was idle when its count of written bytes was <paramref name="written"/>: a read that ends at
    /// that count is the peer's end, or bytes that nobody asked for, and is reported as closing. A request that begins at any time ends the
    /// alarm by being counted before it is written.
    /// </summary>
    public void WatchIdle(long written)
    {
        if (_frames is not null || IsClosing)
        {
            return;   // HTTP/2 has a read pending at all times
        }

        if (HasFirstWords)
        {
            if (!IsYoung)
            {
                ReportClosing(ConnectionEnd.InOrder);   // a farewell by now, and no answer (RFC 9112, section 9.2)
            }

            return;
        }

        Volatile.Write(ref _writtenWhenIdle, written);
        StartWatch();
    }

    public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) =>
        _early is { WriteError: not null } early
            ? ReadAfterFailedWriteAsync(buffer, early, cancellationToken) : ReadPlainAsync(buffer, cancellationToken);

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override int Read(Span<byte> buffer)
    {
        if (Volatile.Read(ref _aheadEnd) != 0 && TryTakeAhead(buffer, out int ahead))
        {
            return ahead;
        }

        while (_frames is null && Interlocked.CompareExchange(ref _gate, Handler, Free) == Watch)
        {
            Volatile.Read(ref _watch)?.Task.GetAwaiter().GetResult();
        }

        if (Volatile.Read(ref _aheadEnd) != 0 && TryTakeAhead(buffer, out ahead))
        {
            Volatile.Write(ref _gate, Free);
            return ahead;
        }

        int count;
        try
        {
            count = inner.Read(buffer);
        }
        catch (Exception error)
        {
            RecordEnd(error);
            ReportClosing(ConnectionEnd.Lost);
            throw;
        }

        SeeRead(buffer, count);
        return count;
    }

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    // HTTP/1.1 writes a request in order, HTTP/2 in one loop: there is one writer at a time, so the count needs no interlocked addition.
    public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (_early is { } early)
        {
            return WriteWatchedAsync(buffer, early);
        }

        if (_withholdsPings && _sent.WithoutPings(buffer.Span) is { } others)
        {
            buffer = others;
            if (buffer.IsEmpty)
            {
                return default;
            }
        }

        Count(buffer.Span);
        return _read == 0 && _frames is null
            ? WriteUnansweredAsync(buffer, cancellationToken) : inner.WriteAsync(buffer, cancellationToken);
    }

    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        Count(buffer);
        inner.Write(buffer);
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override Task FlushAsync(CancellationToken cancellationToken) => inner.FlushAsync(cancellationToken);

    public override void Flush() => inner.Flush();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        // The handler and the pool may close at the same time: one of them does it, and says so when it is done.
        if (disposing && Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            _pings?.Dispose();
            Interlocked.CompareExchange(ref _state, Closing, Open);
            inner.End(() =>
            {
                Volatile.Write(ref _state, Closed);
                owner.Closed(slot);
            });
        }

        base.Dispose(disposing);
    }

    ValueTask<int> ReadPlainAsync(Memory<byte> buffer, CancellationToken cancellationToken)
    {
        if (_frames is null)
        {
            if (Volatile.Read(ref _aheadEnd) != 0 && TryTakeAhead(buffer.Span, out int ahead))
            {
                return new(ahead);
            }

            if (Interlocked.CompareExchange(ref _gate, Handler, Free) == Watch)
            {
                return JoinWatchAsync(buffer, cancellationToken);
            }

            if (Volatile.Read(ref _aheadEnd) != 0 && TryTakeAhead(buffer.Span, out ahead))   // the watch left between the two looks
            {
                Volatile.Write(ref _gate, Free);
                return new(ahead);
            }
        }

        ValueTask<int> read;
        try
        {
            read = inner.BeginRead(buffer, cancellationToken);
        }
        catch (Exception error)
        {
            RecordEnd(error);
            ReportClosing(ConnectionEnd.Lost);   // the gate stays shut: nothing is watched any more
            throw;
        }

        if (!read.IsCompletedSuccessfully)
        {
            return AwaitReadAsync(read, buffer, cancellationToken);
        }

        int count = read.Result;
        inner.EndRead(count);
        SeeRead(buffer.Span, count);
        return new(count);
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    async ValueTask<int> AwaitReadAsync(ValueTask<int> read, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        int count;
        try
        {
            count = await read.ConfigureAwait(false);
        }
        catch (Exception error)
        {
            RecordEnd(error);
            var told = inner.FailRead(error, cancellationToken);
            ReportClosing(ConnectionEnd.Lost);
            if (told == error)
            {
                throw;
            }

            throw told;
        }

        inner.EndRead(count);
        SeeRead(buffer.Span, count);
        return count;
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    async ValueTask<int> JoinWatchAsync(Memory<byte> buffer, CancellationToken cancellationToken)
    {
        // The watch that was seen may be gone by now: then the gate is free, or another watch has it.
        if (Volatile.Read(ref _watch) is { } watch)
        {
            await watch.Task.ConfigureAwait(false);
            ThrowAlert();
        }

        return await ReadAsync(buffer, cancellationToken).ConfigureAwait(false);
    }

    void StartWatch()
    {
        var done = new TaskCompletionSource();
        if (Interlocked.CompareExchange(ref _watch, done, null) is not null)
        {
            return;
        }

        if (Interlocked.CompareExchange(ref _gate, Watch, Free) == Free)
        {
            // The watch outlives the call that starts it, so it must not carry that call's context.
            using AsyncFlowControl flow = ExecutionContext.SuppressFlow();
            _ = WatchAsync(done);
        }
        else
        {
            // The handler reads already, and its read sees what ours would. It may have come between the two exchanges and left again, and
            // another of its reads may wait for us by now: let it go.
            Volatile.Write(ref _watch, null);
            done.SetResult();
        }
    }

    async Task WatchAsync(TaskCompletionSource done)
    {
        var end = ConnectionEnd.InOrder;
        try
        {
            await inner.ReadAsync(Memory<byte>.Empty).ConfigureAwait(false);
        }
        catch (Exception error)
        {
            end = ConnectionEnd.Lost;   // the handler's next read meets it too
            RecordEnd(error);
        }

        // When a request was written meanwhile, this is its answer, or its reader sees the end.
        var early = Volatile.Read(ref _early);
        var readsAlong = early is { IsDecided: false };
        var isKept = false;
        if (end is ConnectionEnd.InOrder && IsFresh && !IsClosed)
        {
            isKept = readsAlong ? await ReadAlongAsync(early!).ConfigureAwait(false) : early is null
                && await KeepFirstWordsAsync().ConfigureAwait(false);
            readsAlong = false;
        }

        if (!isKept && BytesWritten == Volatile.Read(ref _writtenWhenIdle) && !IsClosed)
        {
            // A read of zero bytes is told that something came, be it a reset.
            ReportClosing(inner.Look(TimeSpan.Zero) is WireState.Lost ? ConnectionEnd.Lost : end);
        }

        if (readsAlong)
        {
            await ReadAlongAsync(early!).ConfigureAwait(false);
        }

        Volatile.Write(ref _gate, Free);
        Volatile.Write(ref _watch, null);
        done.SetResult();
        if (early is not null)
        {
            AfterRead(early);
        }
    }

    void Count(ReadOnlySpan<byte> buffer)
    {
        Volatile.Write(ref _written, _written + buffer.Length);
        if (_frames is { } frames)
        {
            SeeSent(frames, buffer);
        }
    }

    void SeeRead(ReadOnlySpan<byte> buffer, int count)
    {
        var early = _early;
        if (early is not null && buffer.Length > 0)
        {
            early.Feed(buffer[..count]);
        }

        Volatile.Write(ref _gate, Free);
        if (early is not null)
        {
            AfterRead(early);
        }

        if (count == 0)
        {
            if (buffer.Length > 0)   // a read of zero bytes only says that something came
            {
                ReportClosing(ConnectionEnd.InOrder);
            }

            return;
        }

        Volatile.Write(ref _read, _read + count);
        if (_frames is null)
        {
            if (BytesWritten == Volatile.Read(ref _writtenWhenIdle))
            {
                ReportClosing(ConnectionEnd.InOrder);   // the handler watched in our place
            }
        }
        else
        {
            var news = _frames.Feed(buffer[..count]);
            if (news is not Http2News.None)
            {
                SeeNews(_frames, news);
            }

            if (_pings is { IsWaiting: true } pings)
            {
                pings.Read(_frames.KeepAlivesAnswered);
            }
        }
    }

    public void ReportClosing(ConnectionEnd end)
    {
        // Closing here needs no report: whoever closes knows, and Closed follows.
        if (!IsClosed && Interlocked.CompareExchange(ref _state, Closing, Open) == Open)
        {
            owner.Closing(slot, end);
        }
    }
}
