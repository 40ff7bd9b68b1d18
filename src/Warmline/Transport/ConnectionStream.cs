using System.Runtime.CompilerServices;

namespace Warmline.Transport;

/// <summary>
/// The wire as the slot's handler sees it: counts the bytes, reads along the HTTP/2 frames, tells when the connection is closing and closed, and ends it in good
/// order (the other half).
/// </summary>
/// <remarks>
/// The reader gate (HTTP/1.1 only): the inner stream takes one read at a time, and two want one: the handler (for a response, and every 30 s for a
/// look at an idle connection) and the idle watch. Whoever moves the gate away from Free reads. The watch reads zero bytes, so it takes
/// nothing away: a handler that finds it pending waits for it and then reads what woke it.
/// </remarks>
internal sealed partial class ConnectionStream(DialedConnection dialed, Slot slot, ISlotOwner owner, TimeProvider time) : Stream
{
    const int Free = 0;
    const int Handler = 1;
    const int Watch = 2;

    const int Open = 0;
    const int Closing = 1;
    const int Closed = 2;

    readonly Stream _inner = dialed.Transport;
    readonly Http2FrameWatcher? _frames = dialed.IsHttp2 ? new() : null;
    Http2RequestWatcher _requests = new();
    TaskCompletionSource? _watch;   // set before the gate becomes Watch, cleared by the same watch after the gate is free again
    long _written;
    long _read;
    long _writtenWhenIdle = -1;     // bytes read at this count of written ones were asked for by nobody
    long _readWhenWritten;
    int _gate;
    int _state;

    /// <summary>Bytes handed to the connection. Counted before they are written, so that an unchanged count proves that nothing was sent.</summary>
    public long BytesWritten => Volatile.Read(ref _written);

    public long BytesRead => Volatile.Read(ref _read);

    /// <summary>Whether a request was handed to the connection: on HTTP/2 its HEADERS, beyond what starts the connection.</summary>
    public bool SentRequest => _frames is null ? BytesWritten > 0 : _requests.SawRequest;

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
    /// Watches an HTTP/1.1 connection that was idle when its count of written bytes was <paramref name="written"/>: a read that ends at that count is the
    /// peer's end, or bytes that nobody asked for, and is reported as closing. A request that begins at any time ends the alarm by being counted
    /// before it is written.
    /// </summary>
    public void WatchIdle(long written)
    {
        if (_frames is not null || IsClosing)
        {
            return;   // HTTP/2 has a read pending at all times
        }

        Volatile.Write(ref _writtenWhenIdle, written);
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
            // The handler reads already, and its read sees what ours would. It may have come between the two exchanges and left again, and another
            // of its reads may wait for us by now: let it go.
            Volatile.Write(ref _watch, null);
            done.SetResult();
        }
    }

    public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (_frames is null && Interlocked.CompareExchange(ref _gate, Handler, Free) == Watch)
        {
            return JoinWatchAsync(buffer, cancellationToken);
        }

        ValueTask<int> read;
        Enter(Reading);
        try
        {
            read = _inner.ReadAsync(buffer, cancellationToken.CanBeCanceled ? cancellationToken : _stop.Token);
        }
        catch
        {
            Break(Reading);   // the gate stays shut: nothing is watched any more
            throw;
        }

        if (!read.IsCompletedSuccessfully)
        {
            return AwaitReadAsync(read, buffer);
        }

        int count = read.Result;
        Leave(Reading);
        SeeRead(buffer.Span, count);
        return new(count);
    }

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override int Read(Span<byte> buffer)
    {
        while (_frames is null && Interlocked.CompareExchange(ref _gate, Handler, Free) == Watch)
        {
            Volatile.Read(ref _watch)?.Task.GetAwaiter().GetResult();
        }

        int count;
        Enter(Reading);
        _readsWithoutToken = true;
        try
        {
            count = _inner.Read(buffer);
        }
        catch
        {
            Break(Reading);
            throw;
        }

        _readsWithoutToken = false;
        Leave(Reading);
        SeeRead(buffer, count);
        return count;
    }

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    // HTTP/1.1 writes a request in order, HTTP/2 in one loop: there is one writer at a time, so the count needs no interlocked addition.
    public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        Count(buffer.Span);
        Enter(Writing);
        ValueTask write;
        try
        {
            write = _inner.WriteAsync(buffer, cancellationToken.CanBeCanceled ? cancellationToken : _stop.Token);
        }
        catch
        {
            Break(Writing);
            throw;
        }

        if (!write.IsCompletedSuccessfully)
        {
            return AwaitWriteAsync(write);
        }

        write.GetAwaiter().GetResult();
        Leave(Writing);
        return default;
    }

    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        Count(buffer);
        Enter(Writing);
        try
        {
            _inner.Write(buffer);
        }
        catch
        {
            Break(Writing);
            throw;
        }

        Leave(Writing);
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override Task FlushAsync(CancellationToken cancellationToken) => _inner.FlushAsync(cancellationToken);

    public override void Flush() => _inner.Flush();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    async ValueTask<int> AwaitReadAsync(ValueTask<int> read, Memory<byte> buffer)
    {
        int count;
        try
        {
            count = await read.ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (_stop.IsCancellationRequested)
        {
            Leave(Reading);
            throw Gone();
        }
        catch
        {
            Break(Reading);
            throw;
        }

        Leave(Reading);
        SeeRead(buffer.Span, count);
        return count;
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    async ValueTask AwaitWriteAsync(ValueTask write)
    {
        try
        {
            await write.ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (_stop.IsCancellationRequested)
        {
            Break(Writing);
            throw Gone();
        }
        catch
        {
            Break(Writing);
            throw;
        }

        Leave(Writing);
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    async ValueTask<int> JoinWatchAsync(Memory<byte> buffer, CancellationToken cancellationToken)
    {
        // The watch that was seen may be gone by now: then the gate is free, or another watch has it.
        if (Volatile.Read(ref _watch) is { } watch)
        {
            await watch.Task.ConfigureAwait(false);
        }

        return await ReadAsync(buffer, cancellationToken).ConfigureAwait(false);
    }

    async Task WatchAsync(TaskCompletionSource done)
    {
        try
        {
            Enter(Reading);
            await _inner.ReadAsync(Memory<byte>.Empty, _stop.Token).ConfigureAwait(false);
        }
        catch (Exception error)
        {
            // An end like any other; the handler's next read meets it too.
            if (error is not OperationCanceledException && !IsClosed)
            {
                _isBroken = true;
            }
        }

        Leave(Reading);

        // When a request was written meanwhile, this is its answer, or its reader sees the end.
        if (BytesWritten == Volatile.Read(ref _writtenWhenIdle))
        {
            ReportClosing();
        }

        Volatile.Write(ref _gate, Free);
        Volatile.Write(ref _watch, null);
        done.SetResult();
    }

    void Count(ReadOnlySpan<byte> buffer)
    {
        if (_frames is not null && !_requests.SawRequest)
        {
            _requests.Feed(buffer);
        }

        Volatile.Write(ref _readWhenWritten, _read);
        Volatile.Write(ref _written, _written + buffer.Length);
    }

    void SeeRead(ReadOnlySpan<byte> buffer, int count)
    {
        Volatile.Write(ref _gate, Free);
        if (count == 0)
        {
            if (buffer.Length > 0)   // a read of zero bytes only says that something came
            {
                ReportClosing();
            }

            return;
        }

        Volatile.Write(ref _read, _read + count);
        if (_frames is null)
        {
            if (BytesWritten == Volatile.Read(ref _writtenWhenIdle))
            {
                ReportClosing();   // the handler watched in our place
            }
        }
        else if (_frames.Feed(buffer[..count]) is not Http2News.None and var news)
        {
            if (news.HasFlag(Http2News.Settings))
            {
                owner.SettingsSeen(slot, _frames.MaxConcurrentStreams);
            }

            if (news.HasFlag(Http2News.GoAway))
            {
                ReportClosing();
            }
        }
    }

    void ReportClosing()
    {
        // Closing here needs no report: whoever closes knows, and Closed follows.
        if (!IsClosed && Interlocked.CompareExchange(ref _state, Closing, Open) == Open)
        {
            owner.Closing(slot);
        }
    }
}
