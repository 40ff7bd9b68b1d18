using System.Buffers;
using System.Diagnostics.CodeAnalysis;

namespace Warmline.Transport;

/// <summary>
/// The end of a response body, reported once: it was read to its end, it failed, or its reader left. When the reader leaves, what has
/// already come is read. Then either its end is awaited or the exchange is aborted at once.
/// </summary>
internal abstract class LeavableBody(Stream inner, IExchange exchange, long? framedLength) : RecognizedBody(exchange, framedLength)
{
    /// <summary>
    /// How much of an abandoned response is drained in the background when it is about to end anyway: that is cheaper than a handshake.
    /// After a stream's terminal event a few bytes come; after an error event one more event may, with the whole of what was generated in
    /// it.
    /// </summary>
    const long MostReadOn = 64 * 1024;

    /// <summary>
    /// Enough for a lost last packet to be sent again, which takes 200 ms and a round trip or more; little enough for a provider that goes
    /// on after all.
    /// </summary>
    static readonly TimeSpan ReadOnTime = TimeSpan.FromSeconds(1);

    long _read;
    bool _ended;
    bool _disposed;

    /// <summary>
    /// The application can neither read nor dispose it any more. The pool itself refers to the exchange and never to its body, or this
    /// could not be detected.
    /// </summary>
    [SuppressMessage("Usage", "MA0055", Justification = "Nothing else knows that a response is no longer referenced.")]
    ~LeavableBody()
    {
        // The garbage collector's thread has others to serve.
        ThreadPool.UnsafeQueueUserWorkItem(static body => body.Reclaim(), this, preferLocal: false);
    }

    protected Stream Inner => inner;

    /// <summary>Bytes read so far.</summary>
    protected long BytesRead
    {
        get => _read;
        set => _read = value;
    }

    protected bool IsDisposed => Volatile.Read(ref _disposed);

    protected override bool HasEnded => Volatile.Read(ref _ended);

    /// <summary>Some tens of microseconds.</summary>
    const int MostSpins = 20;

    /// <summary>All bytes of a known length have been read.</summary>
    bool IsWhole => _read == FramedLength;

    /// <summary>Whether the rest is worth waiting for: of a body that has said its end, that has all its bytes, or, where leaving costs the
    /// connection, the short rest of a known length.</summary>
    bool IsNearEnd => HasSaidItsEnd || IsWhole
        || (Attempt.EndsWithItsAnswer && _read < FramedLength && FramedLength - _read <= MostReadOn);

    /// <summary>Do not drain while a read is pending or after the call was cancelled, nor a tunnel, nor a rest of known length that is
    /// too long.</summary>
    bool MayReadOn => !HasEnded && !Attempt.Clocks.IsWaiting && !Attempt.Clocks.IsCancellationRequested && !inner.CanWrite
        && FramedLength - _read <= MostReadOn;

    [SuppressMessage("Usage", "CA1816", Justification = "The finalizer looks for its end; Dispose is one way to it.")]
    public void End(bool whole)
    {
        if (!Interlocked.Exchange(ref _ended, true))
        {
            GC.SuppressFinalize(this);
            Attempt.ResponseEnded(whole);
        }
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing && !Interlocked.Exchange(ref _disposed, true))
        {
            if (MayReadOn)
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

    /// <summary>No leak is reported if the terminal event was read. Its connection is not worth a try either: the platform's own
    /// finalizers run beside this one, and end it.</summary>
    void Reclaim()
    {
        try
        {
            if (Attempt.Clocks.IsWaiting || !HasSaidItsEnd)
            {
                Attempt.ResponseLeaked();
            }
        }
        catch (Exception)
        {
            // Not reported, then: the lease comes first.
        }

        try
        {
            Leave();
        }
        catch (Exception)
        {
            // Nobody is above, and it would end the process. The lease is back: Leave ends it whatever happens.
        }
    }

    void Leave()
    {
        try
        {
            Abandon();

            // The inner stream first: disposed before its end it resets the HTTP/2 stream or closes the HTTP/1.1 connection, which must be
            // known before the lease ends.
            inner.Dispose();
        }
        finally
        {
            Attempt.Clocks.EndRest();
            End(IsWhole);
        }
    }

    void Abandon()
    {
        if (!HasEnded && !IsWhole)
        {
            Attempt.ResponseAbandoned(isCounted: !HasSaidItsEnd);   // if the end does not come then, that is the server's doing
        }
    }

    /// <summary>
    /// Disposing does not wait for the end; the lease does. What is there already, as the end of a stream mostly is, in one packet with its
    /// last event, is read at once: then
    /// the lease has ended when the caller goes on, and its next call finds the connection free.
    /// </summary>
    void ReadOn()
    {
        Attempt.Clocks.BeginRest(ReadOnTime);

        // On HTTP/2 another thread hands out what came, frame by frame: the end may be a moment behind the data that it came with.
        var mayLag = !Attempt.EndsWithItsAnswer;
        var buffer = ArrayPool<byte>.Shared.Rent(4096);
        try
        {
            for (var most = MostReadOn; most > 0;)
            {
                var pending = inner.ReadAsync(buffer, Attempt.Clocks.Token);
                for (var spin = default(SpinWait); !pending.IsCompleted && mayLag && spin.Count < MostSpins;)
                {
                    spin.SpinOnce(sleep1Threshold: -1);
                }

                if (!pending.IsCompletedSuccessfully)
                {
                    if (pending.IsCompleted || IsNearEnd)
                    {
                        _ = ReadOnAsync(pending, buffer, most);
                    }
                    else
                    {
                        LeaveReading(pending, buffer);
                    }

                    return;
                }

                most = GoesOn(pending.Result, buffer, most);
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
            while ((most = GoesOn(await pending.ConfigureAwait(false), buffer, most)) > 0)
            {
                pending = inner.ReadAsync(buffer, Attempt.Clocks.Token);
            }
        }
        catch (Exception)
        {
            // It did not come in time, or not at all: then the connection is not worth waiting for.
        }

        ArrayPool<byte>.Shared.Return(buffer);
        Leave();
    }

    /// <summary>
    /// The answer goes on: the exchange ends now, under the read that found nothing. On HTTP/1.1 cancelling that read closes the
    /// connection, and the stream must not be
    /// touched beside it; on HTTP/2 disposing resets the stream and ends the read.
    /// </summary>
    void LeaveReading(ValueTask<int> pending, byte[] buffer)
    {
        try
        {
            Abandon();
            if (Attempt.EndsWithItsAnswer)
            {
                Attempt.Clocks.Abort();
            }
            else
            {
                inner.Dispose();
            }
        }
        finally
        {
            Attempt.Clocks.EndRest();
            End(whole: false);
        }

        _ = EndReadAsync(pending, buffer);
    }

    async Task EndReadAsync(ValueTask<int> pending, byte[] buffer)
    {
        try
        {
            await pending.ConfigureAwait(false);
        }
        catch (Exception)
        {
            // As intended.
        }

        inner.Dispose();
        ArrayPool<byte>.Shared.Return(buffer);
    }

    /// <summary>How much more to read.</summary>
    long GoesOn(int read, byte[] buffer, long most)
    {
        _read += read;
        if (read == 0)
        {
            if (_read >= FramedLength)
            {
                End(whole: true);
            }

            return 0;
        }

        if (!IsDecoded && !HasSaidItsEnd)   // the reader may have left before what is here
        {
            Recognize(buffer.AsSpan(0, read));
        }

        return most - read;
    }
}
