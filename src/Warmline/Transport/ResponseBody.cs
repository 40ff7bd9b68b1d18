using System.Buffers;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using Warmline.Providers;

namespace Warmline.Transport;

/// <summary>The response body as the caller reads it: the read clock runs while the caller waits, the end is reported once, and leaving before it aborts the exchange.</summary>
internal sealed class ResponseBody(Stream inner, IExchange exchange, long? length) : Stream
{
    /// <summary>Of an answer that is left so much is read on behind the caller's back, where it is known to be no generation that would go on: that is cheaper than a
    /// handshake. After a stream's terminal event a few bytes come; after an error event one more event may, with the whole of what was generated in it.</summary>
    const long MostReadOn = 64 * 1024;

    /// <summary>Enough for a lost last packet to be sent again, which takes 200 ms and a round trip or more; little enough for a provider that goes on after all.</summary>
    static readonly TimeSpan ReadOnTime = TimeSpan.FromSeconds(1);

    SseWatcher? _events;
    bool _isDecoded;
    bool _errorSeen;
    long _read;
    int _ended;
    int _disposed;

    /// <summary>Nobody can read or dispose it any more. The pool itself refers to the exchange and never to its body, or this could not be seen.</summary>
    [SuppressMessage("Usage", "MA0055", Justification = "That nobody holds a response any more is known to nobody else.")]
    ~ResponseBody()
    {
        ThreadPool.UnsafeQueueUserWorkItem(static body => body.Reclaim(), this, preferLocal: false);   // the garbage collector's thread has others to serve
    }

    public override bool CanRead => true;

    public override bool CanSeek => false;

    /// <summary>Only after 101 Switching Protocols.</summary>
    public override bool CanWrite => inner.CanWrite;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

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

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) => ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (cancellationToken.CanBeCanceled)
        {
            return ReadCancellableAsync(buffer, cancellationToken);
        }

        ObjectDisposedException.ThrowIf(_disposed != 0, this);
        var clocks = exchange.Clocks;
        clocks.BeginRead();
        ValueTask<int> pending;
        try
        {
            pending = inner.ReadAsync(buffer, _ended == 0 ? clocks.Token : CancellationToken.None);
        }
        catch (Exception error)
        {
            return ValueTask.FromException<int>(Failed(error, CancellationToken.None) ?? error);
        }

        return pending.IsCompletedSuccessfully ? new ValueTask<int>(Got(pending.Result, buffer)) : ReadSlowlyAsync(pending, buffer, CancellationToken.None);
    }

    /// <summary>It is a stream of events. <paramref name="isDecoded"/>: not in these bytes, which are compressed; whoever decodes them reports what it <see cref="Saw"/>.</summary>
    public void Watch(bool isDecoded)
    {
        exchange.Events = _events = new SseWatcher();
        exchange.Clocks.WatchContent();
        _isDecoded = isDecoded;
    }

    /// <summary>So much of the stream of events is given to the caller.</summary>
    public void Saw(ReadOnlySpan<byte> bytes)
    {
        if (_events is not { } events || events.Feed(bytes) is not (not SseKind.None and var found))
        {
            return;
        }

        exchange.Clocks.GotEvent();
        if ((found & SseKind.Content) is not SseKind.None)
        {
            events.TimeContent(exchange.Now);
        }

        if ((found & SseKind.Error) is not SseKind.None && !_errorSeen)
        {
            _errorSeen = true;
            exchange.StreamErrorSeen();
        }
    }

    /// <summary>Reads on and forgets, until the end or so many bytes. That it fails is no matter: the exchange has ended then, too.</summary>
    public async ValueTask DrainAsync(int most, CancellationToken cancellationToken)
    {
        var buffer = ArrayPool<byte>.Shared.Rent(4096);
        try
        {
            for (int read; most > 0 && _ended == 0 && (read = await ReadAsync(buffer, cancellationToken).ConfigureAwait(false)) > 0; most -= read)
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

    protected override void Dispose(bool disposing)
    {
        if (disposing && Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            if (Volatile.Read(ref _ended) == 0 && IsNearEnd && !exchange.Clocks.IsCancellationRequested)
            {
                ReadOn();
            }
            else
            {
                Leave();
            }
        }

        base.Dispose(disposing);
    }

    /// <summary>Whether the rest is worth reading, and nobody is reading it: a stream that has had its last event, or, where leaving costs the connection, the short rest of a known length.</summary>
    bool IsNearEnd => !exchange.Clocks.IsWaiting
        && (_events is { IsNearEnd: true } || (exchange.EndsWithItsAnswer && _read < length && length - _read <= MostReadOn));

    /// <summary>Who read a stream to its last event is not accused. Its connection is not worth a try either: the platform's own finalizers run beside this one, and end it.</summary>
    void Reclaim()
    {
        if (!IsNearEnd)
        {
            exchange.ResponseLeaked();
        }

        Leave();
    }

    void Leave()
    {
        if (Volatile.Read(ref _ended) == 0 && _read != length)
        {
            exchange.ResponseAbandoned();
        }

        // The inner stream first: disposed before its end it resets the HTTP/2 stream or closes the HTTP/1.1 connection, which must be known before the lease ends.
        inner.Dispose();
        exchange.Clocks.EndRest();
        End(whole: _read == length);
    }

    /// <summary>
    /// Disposing does not wait for it; the lease does. What is there already, as the end of a stream mostly is, in one packet with its last event, is read at once: then the
    /// lease has ended when the caller goes on, and his next call finds the connection free.
    /// </summary>
    void ReadOn()
    {
        exchange.Clocks.BeginRest(ReadOnTime);
        var buffer = ArrayPool<byte>.Shared.Rent(4096);
        try
        {
            for (var most = MostReadOn; most > 0;)
            {
                var pending = inner.ReadAsync(buffer, exchange.Clocks.Token);
                if (!pending.IsCompletedSuccessfully)
                {
                    _ = ReadOnAsync(pending, buffer, most);
                    return;
                }

                most = GoesOn(pending.Result, most);
            }
        }
        catch (Exception)
        {
            // As below.
        }

        ArrayPool<byte>.Shared.Return(buffer);
        Leave();
    }

    async Task ReadOnAsync(ValueTask<int> pending, byte[] buffer, long most)
    {
        try
        {
            while ((most = GoesOn(await pending.ConfigureAwait(false), most)) > 0)
            {
                pending = inner.ReadAsync(buffer, exchange.Clocks.Token);
            }
        }
        catch (Exception)
        {
            // It did not come in time, or not at all: then the connection is not worth waiting for.
        }

        ArrayPool<byte>.Shared.Return(buffer);
        Leave();
    }

    /// <summary>How much more to read.</summary>
    long GoesOn(int read, long most)
    {
        _read += read;
        if (read == 0 && length is null)
        {
            End(whole: true);
        }

        return read == 0 || _read >= length ? 0 : most - read;
    }

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
            if (Failed(error, caller) is { } telling)
            {
                throw telling;
            }

            throw;
        }

        return Got(read, buffer);
    }

    /// <summary>The caller's token aborts the whole exchange: a reader that leaves wants the provider to stop.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    async ValueTask<int> ReadCancellableAsync(Memory<byte> buffer, CancellationToken caller)
    {
        ObjectDisposedException.ThrowIf(_disposed != 0, this);
        if (caller.IsCancellationRequested)
        {
            throw Failed(new OperationCanceledException(caller), caller)!;
        }

        var clocks = exchange.Clocks;
        clocks.BeginRead();
        var pending = _ended == 0 ? inner.ReadAsync(buffer, clocks.Token) : inner.ReadAsync(buffer, CancellationToken.None);
        if (pending.IsCompletedSuccessfully)
        {
            return Got(pending.Result, buffer);
        }

        using (caller.UnsafeRegister(static state => ((CancellationTokenSource)state!).Cancel(), clocks))
        {
            return await ReadSlowlyAsync(pending, buffer, caller).ConfigureAwait(false);
        }
    }

    int Got(int read, Memory<byte> buffer)
    {
        exchange.Clocks.EndWait();
        _read += read;
        if (_events is not null && !_isDecoded)
        {
            Saw(buffer.Span[..read]);
        }

        if (read == 0 && buffer.Length > 0)
        {
            if (_read < length)
            {
                End(whole: false);
                throw new HttpIOException(HttpRequestError.ResponseEnded, $"The response ended after {_read} of {length} bytes.");
            }

            End(whole: true);
        }

        return read;
    }

    Exception? Failed(Exception error, CancellationToken caller)
    {
        exchange.Clocks.EndWait();
        inner.Dispose();   // as below: a cancelled read leaves an HTTP/2 stream open, and the provider generating
        End(whole: false);
        return exchange.Translate(error, caller);
    }

    [SuppressMessage("Usage", "CA1816", Justification = "Its end is what the finalizer looks for; Dispose is one way to it.")]
    public void End(bool whole)
    {
        if (Interlocked.Exchange(ref _ended, 1) == 0)
        {
            GC.SuppressFinalize(this);
            exchange.ResponseEnded(whole);
        }
    }
}
