using System.Net.Sockets;
using System.Runtime.CompilerServices;

namespace Warmline.Transport;

/// <summary>
/// A dialled connection as a stream that can be ended in good order while it is read and written. Whoever ends it goes on as if it were
/// gone: reads and writes fail from there on, pending ones by being cancelled. What is left to say and to hear is the background's
/// (<see cref="Farewell"/>), once nobody is inside any more.
/// </summary>
internal sealed class ClosingStream(DialedConnection connection, TimeProvider time) : Stream, IThreadPoolWorkItem
{
    // Who is inside, and whether anybody may still enter.
    const int Reading = 1;
    const int Writing = 2;
    const int Ending = 4;
    const int ToStuck = 3;   // shifts the first two: with something pending that only its own caller can cancel
    const int Stuck = (Reading | Writing) << ToStuck;

    readonly Stream _inner = connection.Transport;
    readonly CancellationTokenSource _stop = new();
    readonly TaskCompletionSource _left = new(TaskCreationOptions.RunContinuationsAsynchronously);
    Action? _closed;
    int _use;
    volatile bool _isBroken;
    volatile bool _isCut;
    volatile bool _isOurs;
    volatile bool _responseCame;   // anything since the last write, the end of a response included
    volatile bool _wroteAny;
    volatile bool _peerSaidGoAway;
    volatile Exception? _cause;
    volatile Exception? _peerError;

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
    /// The pool closes the connection: a pending read is only a watch for its end. Nothing changes if the platform has closed it already:
    /// it may have had an error.
    /// </summary>
    public void EndIsOurs()
    {
        if ((Volatile.Read(ref _use) & Ending) == 0)
        {
            _isOurs = true;
        }
    }

    public TimeProvider Time => time;

    /// <summary>Reading ended in this error of the peer's: what follows fails with it.</summary>
    public void PeerEnded(Exception error) => _peerError ??= error;

    /// <summary>Whether a write has not been taken by the network yet.</summary>
    public bool IsWriting => (Volatile.Read(ref _use) & Writing) != 0;

    /// <summary>The server ends the connection: our own GOAWAY is in order, even where the platform closes.</summary>
    public void PeerSaidGoAway() => _peerSaidGoAway = true;

    /// <summary>Fails what is pending with <paramref name="cause"/>: the peer is believed gone.</summary>
    public void Break(Exception cause)
    {
        _cause = cause;
        _isCut = true;
        _isBroken = true;
        _inner.Dispose();
    }

    /// <summary>Bytes written and acknowledged so far; null where the system does not say.</summary>
    public SendProgress? Progress() => connection.Progress();

    /// <summary>What the network knows of the connection after it has been idle for <paramref name="rested"/>.</summary>
    public WireState Look(TimeSpan rested) => connection.Look(rested);

    /// <summary>The end that follows waits for nobody: the peer may be gone.</summary>
    public void EndAtOnce() => _isCut = true;

    /// <summary>
    /// If a response is under way on HTTP/1.1, the end that follows is hard: the server may take a while to notice any other.
    /// </summary>
    public void CutResponse()
    {
        if (!connection.IsHttp2 && _responseCame)
        {
            _isCut = true;
        }
    }

    /// <summary>
    /// Ends the connection; <paramref name="closed"/> is called when its socket is closed, on this thread or later. For one call.
    /// </summary>
    public void End(Action closed)
    {
        _closed = closed;
        int inside = Interlocked.Or(ref _use, Ending);
        if ((inside & (Reading | Writing)) == 0)
        {
            _left.TrySetResult();
        }

        if (MayTakeItsTime(inside))
        {
            ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);   // whoever disposes may hold the platform's lock
        }
        else
        {
            CloseNow();
        }
    }

    /// <summary>
    /// A read whose end its caller reports, by <see cref="EndRead"/> or <see cref="FailRead"/>: nearly all reads wait, and each would need
    /// an asynchronous frame here.
    /// </summary>
    public ValueTask<int> BeginRead(Memory<byte> buffer, CancellationToken cancellationToken)
    {
        Enter(Reading);
        try
        {
            var read = _inner.ReadAsync(buffer, cancellationToken.CanBeCanceled ? cancellationToken : _stop.Token);
            if (cancellationToken.CanBeCanceled && !read.IsCompleted)
            {
                Pend(Reading);
            }

            return read;
        }
        catch
        {
            _isBroken = true;
            Leave(Reading | (Reading << ToStuck));
            ThrowCause();
            throw;
        }
    }

    public void EndRead(int count)
    {
        SeeResponse(count);
        Leave(Reading | (Reading << ToStuck));
    }

    /// <summary>What to throw.</summary>
    public Exception FailRead(Exception error, CancellationToken cancellationToken)
    {
        var wasCancelled = error is OperationCanceledException;
        if (!wasCancelled)
        {
            _isBroken = true;
        }

        Leave(Reading | (Reading << ToStuck));
        return _cause ?? (wasCancelled && !cancellationToken.CanBeCanceled && _stop.IsCancellationRequested ? Gone() : error);
    }

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        var read = BeginRead(buffer, cancellationToken);
        try
        {
            int count = await read.ConfigureAwait(false);
            EndRead(count);
            return count;
        }
        catch (Exception error)
        {
            throw FailRead(error, cancellationToken);
        }
    }

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override int Read(Span<byte> buffer)
    {
        Enter(Reading);
        try
        {
            Pend(Reading);
            int count = _inner.Read(buffer);
            SeeResponse(count);
            return count;
        }
        catch
        {
            _isBroken = true;
            throw;
        }
        finally
        {
            Leave(Reading | (Reading << ToStuck));
        }
    }

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        EnterToWrite();
        ValueTask write;
        try
        {
            write = _inner.WriteAsync(buffer, cancellationToken.CanBeCanceled ? cancellationToken : _stop.Token);
        }
        catch (Exception error)
        {
            _isBroken = true;
            Leave(Writing);
            if (IsForTheReader(error))
            {
                return default;
            }

            ThrowCause();
            throw;
        }

        if (!write.IsCompletedSuccessfully)
        {
            return AwaitWriteAsync(write, cancellationToken.CanBeCanceled);
        }

        write.GetAwaiter().GetResult();
        Leave(Writing);
        return default;
    }

    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        EnterToWrite();
        try
        {
            _inner.Write(buffer);
        }
        catch
        {
            _isBroken = true;
            throw;
        }
        finally
        {
            Leave(Writing);
        }
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override Task FlushAsync(CancellationToken cancellationToken) => _inner.FlushAsync(cancellationToken);

    public override void Flush() => _inner.Flush();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    void IThreadPoolWorkItem.Execute() => _ = EndAsync();

    async Task EndAsync()
    {
        try
        {
            await _stop.CancelAsync().ConfigureAwait(false);
            await Farewell.SayAsync(connection, goAway: SaysGoAway, QuietAsync(), time).ConfigureAwait(false);
        }
        finally
        {
            CloseNow();
        }
    }

    /// <summary>Not where the platform closed by itself: it does so after a protocol error of the server, and NO_ERROR would hide that (RFC
    /// 9113, section 5.4.1).</summary>
    bool SaysGoAway => connection.IsHttp2 && _wroteAny && (_isOurs || _peerSaidGoAway);

    /// <summary>
    /// Not on a wire that failed, and not with something unsaid or unheard on HTTP/1.1: there the platform closes in the middle of an
    /// exchange, too, and a good end would wait behind a body that the server does not take.
    /// </summary>
    bool MayTakeItsTime(int inside) =>
        !_isBroken && !_isCut && (inside & Stuck) == 0 && Farewell.IsPossible(connection)
        && (connection.IsHttp2 || _isOurs || ((inside & Reading) == 0 && (_responseCame || !_wroteAny)));

    /// <summary>
    /// Nobody is inside any more; whether it can still be written: a write that was cancelled may have left half a TLS record.
    /// </summary>
    async Task<bool> QuietAsync()
    {
        await _left.Task.ConfigureAwait(false);
        return !_isBroken;
    }

    void CloseNow()
    {
        try
        {
            _inner.Dispose();
        }
        finally
        {
            _closed!();
        }
    }

    void SeeResponse(int count)
    {
        if (count > 0 && !_responseCame)
        {
            _responseCame = true;
        }
    }

    void EnterToWrite()
    {
        Enter(Writing);
        _wroteAny = true;
        if (_responseCame)   // looked at before it is written: the reader's core has it, too
        {
            _responseCame = false;
        }
    }

    void Enter(int use)
    {
        for (int seen = Volatile.Read(ref _use); (seen & Ending) == 0;)
        {
            int found = Interlocked.CompareExchange(ref _use, seen | use, seen);
            if (found == seen)
            {
                return;
            }

            seen = found;
        }

        throw _cause ?? Gone();
    }

    void Leave(int use)
    {
        if ((Interlocked.And(ref _use, ~use) & ~use & (Ending | Reading | Writing)) == Ending)
        {
            _left.TrySetResult();
        }
    }

    /// <summary>
    /// What is pending does not end by our token. When the end began before this was known, it is ended the hard way here.
    /// </summary>
    void Pend(int use)
    {
        if ((Interlocked.Or(ref _use, use << ToStuck) & Ending) != 0)
        {
            _isBroken = true;
            _inner.Dispose();
        }
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    async ValueTask AwaitWriteAsync(ValueTask write, bool isStuck)
    {
        int left = Writing;
        try
        {
            if (isStuck)
            {
                left |= Writing << ToStuck;
                Pend(Writing);
            }

            await write.ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!isStuck && _stop.IsCancellationRequested)
        {
            _isBroken = true;
            throw Gone();
        }
        catch (Exception error)
        {
            _isBroken = true;
            if (IsForTheReader(error))
            {
                return;
            }

            ThrowCause();
            throw;
        }
        finally
        {
            Leave(left);
        }
    }

    /// <summary>
    /// The connection is reset, and on HTTP/2 a read is always pending: it meets the same end, behind what the server said last, which may
    /// be a GOAWAY or an answer.
    /// An error of the write would end the connection before that is read.
    /// </summary>
    bool IsForTheReader(Exception error) => connection.IsHttp2 && _cause is null
        && error is IOException { InnerException: SocketException { SocketErrorCode: SocketError.ConnectionReset or SocketError.Shutdown or SocketError.ConnectionAborted } };

    void ThrowCause()
    {
        if (_cause is { } cause)
        {
            throw cause;
        }
    }

    IOException Gone() => _peerError is { } error ? new(error.Message, error) : new("The connection was closed by the pool.");
}
