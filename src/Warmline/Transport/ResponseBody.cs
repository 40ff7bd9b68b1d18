using System.Buffers;
using System.Runtime.CompilerServices;

namespace Warmline.Transport;

/// <summary>
/// The response body as the caller reads it: the read clock runs while the caller waits, the end is reported once, and leaving before it
/// aborts the exchange.
/// </summary>
internal sealed class ResponseBody(Stream inner, IExchange exchange, long? framedLength) : LeavableBody(inner, exchange, framedLength)
{
    Exception? _failure;   // what ended it: every later read meets it again, as an end would pass for the whole of the body

    public override bool CanRead => !IsDisposed;

    public override bool CanSeek => false;

    /// <summary>Only after 101 Switching Protocols.</summary>
    public override bool CanWrite => CanRead && Inner.CanWrite;

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
            var read = ReadAsync(shared.AsMemory(0, Math.Min(buffer.Length, shared.Length)), CancellationToken.None).AsTask().GetAwaiter()
                .GetResult();
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

        ObjectDisposedException.ThrowIf(IsDisposed, this);
        if (_failure is { } failure)
        {
            return ValueTask.FromException<int>(failure);
        }

        var clocks = Attempt.Clocks;
        clocks.BeginRead();
        ValueTask<int> pending;
        try
        {
            pending = Inner.ReadAsync(buffer, !HasEnded ? clocks.Token : CancellationToken.None);
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

    /// <summary>
    /// Reads on and forgets, until the end or so many bytes. That it fails is no matter: the exchange has ended then, too.
    /// </summary>
    public async ValueTask DrainAsync(int most, CancellationToken cancellationToken)
    {
        var buffer = ArrayPool<byte>.Shared.Rent(4096);
        try
        {
            for (int read; most > 0 && !HasEnded
                && (read = await ReadAsync(buffer, cancellationToken).ConfigureAwait(false)) > 0; most -= read)
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

    public override void Flush() => Inner.Flush();

    public override Task FlushAsync(CancellationToken cancellationToken) => Inner.FlushAsync(cancellationToken);

    public override void Write(byte[] buffer, int offset, int count) => Inner.Write(buffer, offset, count);

    public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) =>
        Inner.WriteAsync(buffer, cancellationToken);

    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        Inner.WriteAsync(buffer, offset, count, cancellationToken);

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
        ObjectDisposedException.ThrowIf(IsDisposed, this);
        if (_failure is { } failure)
        {
            throw failure;
        }

        if (caller.IsCancellationRequested)
        {
            throw Failed(new OperationCanceledException(caller), caller);
        }

        var clocks = Attempt.Clocks;
        clocks.BeginRead();
        var pending = Inner.ReadAsync(buffer, !HasEnded ? clocks.Token : caller);
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
        Attempt.Clocks.EndWait();
        BytesRead += read;
        if (!IsDecoded)
        {
            Saw(buffer.Span[..read]);
        }

        if (read == 0 && buffer.Length > 0)
        {
            if (BytesRead < FramedLength)
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
        Attempt.Clocks.EndWait();
        Inner.Dispose();   // a cancelled read leaves an HTTP/2 stream open, and the provider generating
        End(whole: false);
        return _failure = Attempt.Translate(error, caller) ?? BehindTerminal(error) ?? error;
    }

    /// <summary>HTTP/2 alone: the platform compares the two on HTTP/1.1.</summary>
    Exception CutShort(CancellationToken caller)
    {
        End(whole: false);
        var error = new HttpIOException(HttpRequestError.ResponseEnded, $"The response ended after {BytesRead} of {FramedLength} bytes.");
        return _failure = Attempt.Translate(error, caller) ?? BehindTerminal(error) ?? error;
    }
}
