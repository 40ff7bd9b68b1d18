using System.Runtime.CompilerServices;

namespace Warmline.Transport;

/// <summary>
/// What an HTTP/1.1 connection does while a request body is written that is worth watching: it reads along for an early answer, and
/// swallows what is written after one.
/// </summary>
/// <remarks>
/// The platform may have a read pending (on a connection it used before) or none (on a fresh one, and after an interim answer). Then the
/// watch goes on to a read of its own, into a buffer that the platform's next read gets first. A reader that waits for the watch is let go
/// after every read: it may wait for
/// 100 Continue.
/// </remarks>
internal sealed partial class ConnectionStream
{
    const int AheadSize = 4096;

    readonly Lock _aheadGate = new();
    EarlyAnswer? _early;
    byte[]? _ahead;
    int _aheadStart;
    int _aheadEnd;

    /// <summary>From now on, before the request is written, its answer is listened to.</summary>
    public void WatchUpload(EarlyAnswer early)
    {
        if (_frames is null)
        {
            lock (_aheadGate)
            {
                if (_aheadStart == _aheadEnd)
                {
                    (_aheadStart, _aheadEnd) = (0, 0);
                }
            }

            Volatile.Write(ref _early, early);
        }
    }

    /// <summary>The body is about to be written: if nobody reads, the watch does.</summary>
    public void UploadBegan()
    {
        if (Volatile.Read(ref _early) is { IsDecided: false } && !IsClosing)
        {
            StartWatch();
        }
    }

    /// <summary>The exchange's headers came, or it failed.</summary>
    public void UploadEnded()
    {
        if (_early is { WasCut: false })
        {
            _early = null;   // otherwise it stays: nothing must follow on this connection
        }
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    async ValueTask WriteWatchedAsync(ReadOnlyMemory<byte> buffer, EarlyAnswer early)
    {
        if (early.IsCancellationRequested && !IsClosed)   // a body without end must learn that there is nobody left to swallow it for
        {
            early.WasCut |= buffer.Length > 0;
            return;
        }

        Count(buffer.Span);
        try
        {
            await inner.WriteAsync(buffer, early.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (early.IsCancellationRequested)
        {
            early.WasCut = true;
        }
        catch (IOException error) when (!IsClosed)
        {
            // A server that answers and closes has its answer in our receive buffer before the reset that fails this write: let the
            // platform look for it.
            early.WriteError = error;
            early.WasCut = true;
            early.Refuse();
        }
    }

    /// <summary>The answer was looked for after a failed write; there being none, the write's error is the one to tell.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    async ValueTask<int> ReadAfterFailedWriteAsync(Memory<byte> buffer, EarlyAnswer early, CancellationToken cancellationToken)
    {
        int count;
        try
        {
            count = await ReadPlainAsync(buffer, cancellationToken).ConfigureAwait(false);
        }
        catch (IOException)
        {
            throw early.WriteError!;
        }

        return count == 0 && buffer.Length > 0 ? throw early.WriteError! : count;
    }

    /// <summary>One read of the watch's own, after its look told that something came. False for the end.</summary>
    async Task<bool> ReadAlongAsync(EarlyAnswer early)
    {
        _ahead ??= new byte[AheadSize];
        var free = _ahead.AsMemory(_aheadEnd);
        if (free.IsEmpty)
        {
            return true;   // a very long interim answer that nobody takes: the answer behind it is met when the body is written
        }

        int count;
        try
        {
            count = await inner.ReadAsync(free).ConfigureAwait(false);
        }
        catch (Exception)
        {
            count = 0;   // the handler's own read meets it too
        }

        // Both in one: once it is decided, the buffer is let go when it is empty.
        lock (_aheadGate)
        {
            early.Feed(free.Span[..count]);
            Volatile.Write(ref _aheadEnd, _aheadEnd + count);
        }

        Volatile.Write(ref _read, _read + count);
        return count > 0;
    }

    /// <summary>After a read, the gate being free again.</summary>
    void AfterRead(EarlyAnswer early)
    {
        if (!early.IsDecided)
        {
            if (_aheadEnd < AheadSize && !IsClosing)
            {
                StartWatch();
            }
        }
        else if (early.IsRefusal && !early.IsCancellationRequested)
        {
            early.Refuse();
        }
    }

    /// <summary>Gives the handler what the watch read before it came.</summary>
    bool TryTakeAhead(Span<byte> buffer, out int count)
    {
        lock (_aheadGate)
        {
            count = Math.Min(buffer.Length, _aheadEnd - _aheadStart);
            if (_aheadEnd == _aheadStart)
            {
                return false;
            }

            _ahead.AsSpan(_aheadStart, count).CopyTo(buffer);
            _aheadStart += count;
            if (_aheadStart == _aheadEnd && _early is null or { IsDecided: true })
            {
                (_ahead, _aheadStart) = (null, 0);
                Volatile.Write(ref _aheadEnd, 0);
            }

            return true;
        }
    }
}
