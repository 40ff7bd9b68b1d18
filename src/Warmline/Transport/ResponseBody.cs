using System.Buffers;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using Warmline.Providers;

namespace Warmline.Transport;

/// <summary>The response body as the caller reads it: the read clock runs while the caller waits, the end is reported once, and leaving before it aborts the exchange.</summary>
internal sealed partial class ResponseBody(Stream inner, IExchange exchange, long? framedLength) : Stream
{
    const long Unknown = -1;

    /// <summary>Of an answer that is left so much is read on behind the caller's back, where it is known to be no generation that would go on: that is cheaper than a
    /// handshake. After a stream's terminal event a few bytes come; after an error event one more event may, with the whole of what was generated in it.</summary>
    const long MostReadOn = 64 * 1024;

    /// <summary>Enough for a lost last packet to be sent again, which takes 200 ms and a round trip or more; little enough for a provider that goes on after all.</summary>
    static readonly TimeSpan ReadOnTime = TimeSpan.FromSeconds(1);

    /// <summary>What framed the body; unknown where something else did.</summary>
    readonly long _length = framedLength ?? Unknown;

    SseWatcher? _events;
    Exception? _failure;   // what ended it: every later read meets it again, as an end would pass for the whole of the body
    BodyShape _shape;
    JsonLines _lines;
    bool _isDecoded;
    bool _errorSeen;
    long _read;
    bool _isGuessed;
    bool _ended;
    bool _disposed;

    /// <summary>Nobody can read or dispose it any more. The pool itself refers to the exchange and never to its body, or this could not be seen.</summary>
    [SuppressMessage("Usage", "MA0055", Justification = "That nobody holds a response any more is known to nobody else.")]
    ~ResponseBody()
    {
        ThreadPool.UnsafeQueueUserWorkItem(static body => body.Reclaim(), this, preferLocal: false);   // the garbage collector's thread has others to serve
    }

    public override bool CanRead => !Volatile.Read(ref _disposed);

    public override bool CanSeek => false;

    /// <summary>Only after 101 Switching Protocols.</summary>
    public override bool CanWrite => CanRead && inner.CanWrite;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public override int Read(byte[] buffer, int offset, int count)
    {
        ValidateBufferArguments(buffer, offset, count);
        return Read(buffer.AsSpan(offset, count));
    }

    public override int Read(Span<byte> buffer)
    {
        // The platform's sync read cannot be cancelled, so the clocks could not end it.
        var shared = ArrayPool<byte>.Shared.Rent(Math.Max(1, Math.Min(buffer.Length, 64 * 1024)));
        try
        {
            var read = ReadAsync(shared.AsMemory(0, Math.Min(buffer.Length, shared.Length)), CancellationToken.None).AsTask().GetAwaiter().GetResult();
            shared.AsSpan(0, read).CopyTo(buffer);
            return read;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(shared);
        }
    }

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken)
    {
        ValidateBufferArguments(buffer, offset, count);
        return ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();
    }

    public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (cancellationToken.CanBeCanceled)
        {
            return ReadCancellableAsync(buffer, cancellationToken);
        }

        ObjectDisposedException.ThrowIf(_disposed, this);
        if (_failure is { } failure)
        {
            return ValueTask.FromException<int>(failure);
        }

        var clocks = exchange.Clocks;
        clocks.BeginRead();
        ValueTask<int> pending;
        try
        {
            pending = inner.ReadAsync(buffer, !_ended ? clocks.Token : CancellationToken.None);
        }
        catch (Exception error)
        {
            return ValueTask.FromException<int>(Failed(error, CancellationToken.None));
        }

        if (!pending.IsCompletedSuccessfully)
        {
            return ReadSlowlyAsync(pending, buffer, CancellationToken.None);
        }

        var read = pending.Result;
        return Got(read, buffer) ? new ValueTask<int>(read) : ValueTask.FromException<int>(CutShort(CancellationToken.None));
    }

    /// <summary>Reads on and forgets, until the end or so many bytes. That it fails is no matter: the exchange has ended then, too.</summary>
    public async ValueTask DrainAsync(int most, CancellationToken cancellationToken)
    {
        var buffer = ArrayPool<byte>.Shared.Rent(4096);
        try
        {
            for (int read; most > 0 && !_ended && (read = await ReadAsync(buffer, cancellationToken).ConfigureAwait(false)) > 0; most -= read)
            {
            }
        }
        catch (Exception error) when (error is IOException or OperationCanceledException or TimeoutException or HttpRequestException)
        {
            // Reported by the read itself.
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <inheritdoc cref="DrainAsync"/>
    public void Drain(int most) => DrainAsync(most, CancellationToken.None).AsTask().GetAwaiter().GetResult();

    public override void Flush() => inner.Flush();

    public override Task FlushAsync(CancellationToken cancellationToken) => inner.FlushAsync(cancellationToken);

    public override void Write(byte[] buffer, int offset, int count) => inner.Write(buffer, offset, count);

    public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) => inner.WriteAsync(buffer, cancellationToken);

    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) => inner.WriteAsync(buffer, offset, count, cancellationToken);

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    async ValueTask<int> ReadSlowlyAsync(ValueTask<int> pending, Memory<byte> buffer, CancellationToken caller)
    {
        int read;
        try
        {
            read = await pending.ConfigureAwait(false);
        }
        catch (Exception error)
        {
            var seen = Failed(error, caller);
            if (seen == error)
            {
                throw;
            }

            throw seen;
        }

        return Got(read, buffer) ? read : throw CutShort(caller);
    }

    /// <summary>The caller's token aborts the whole exchange: a reader that leaves wants the provider to stop.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    async ValueTask<int> ReadCancellableAsync(Memory<byte> buffer, CancellationToken caller)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (_failure is { } failure)
        {
            throw failure;
        }

        if (caller.IsCancellationRequested)
        {
            throw Failed(new OperationCanceledException(caller), caller);
        }

        var clocks = exchange.Clocks;
        clocks.BeginRead();
        var pending = inner.ReadAsync(buffer, !_ended ? clocks.Token : caller);
        if (pending.IsCompletedSuccessfully)
        {
            var read = pending.Result;
            return Got(read, buffer) ? read : throw CutShort(caller);
        }

        using (caller.UnsafeRegister(static state => ((RequestClocks)state!).Abort(), clocks))
        {
            return await ReadSlowlyAsync(pending, buffer, caller).ConfigureAwait(false);
        }
    }

    /// <summary>False where the body has ended before its length.</summary>
    bool Got(int read, Memory<byte> buffer)
    {
        exchange.Clocks.EndWait();
        _read += read;
        if (!_isDecoded)
        {
            Saw(buffer.Span[..read]);
        }

        if (read == 0 && buffer.Length > 0)
        {
            if (_read < _length)
            {
                return false;
            }

            End(whole: true);
        }

        return true;
    }

    /// <summary>What the caller sees.</summary>
    Exception Failed(Exception error, CancellationToken caller)
    {
        exchange.Clocks.EndWait();
        inner.Dispose();   // a cancelled read leaves an HTTP/2 stream open, and the provider generating
        End(whole: false);
        return _failure = exchange.Translate(error, caller) ?? BehindTerminal(error) ?? error;
    }

    /// <summary>HTTP/2 alone: the platform compares the two on HTTP/1.1.</summary>
    Exception CutShort(CancellationToken caller)
    {
        End(whole: false);
        var error = new HttpIOException(HttpRequestError.ResponseEnded, $"The response ended after {_read} of {_length} bytes.");
        return _failure = exchange.Translate(error, caller) ?? BehindTerminal(error) ?? error;
    }

    [SuppressMessage("Usage", "CA1816", Justification = "Its end is what the finalizer looks for; Dispose is one way to it.")]
    public void End(bool whole)
    {
        if (!Interlocked.Exchange(ref _ended, true))
        {
            GC.SuppressFinalize(this);
            exchange.ResponseEnded(whole);
        }
    }
}
