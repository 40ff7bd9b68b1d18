namespace Warmline.Transport;

/// <summary>
/// Decides when a PING that is not answered means that an HTTP/2 connection is dead: when nothing at all has moved for
/// <paramref name="timeout"/> since it was
/// sent. On a slow way the PING waits behind an upload, or its answer behind a download: bytes that were read, and bytes that the peer's
/// kernel
/// acknowledged, are signs of life too.
/// </summary>
internal sealed class PingWatch(TimeProvider time, TimeSpan timeout, Func<SendProgress?> progress, Action<Exception> dead) : IDisposable
{
    readonly Lock _gate = new();
    ITimer? _timer;
    long _sent;
    long _movedAt;
    long _checkedAt;
    long _acknowledged;
    bool _isDisposed;
    volatile bool _isWaiting;

    /// <summary>Whether a PING is not answered yet.</summary>
    public bool IsWaiting => _isWaiting;

    /// <summary>PINGs that ask for a sign of life were written. By the connection's writer.</summary>
    public void Sent(long count)
    {
        lock (_gate)
        {
            _sent += count;
            if (_isWaiting || _isDisposed)
            {
                return;   // what is unanswered is watched for since the first
            }

            _movedAt = _checkedAt = time.GetTimestamp();
            _acknowledged = progress()?.Acknowledged ?? 0;
            _isWaiting = true;
            if (_timer is null)
            {
                // It outlives the call that pings.
                using var flow = ExecutionContext.IsFlowSuppressed() ? default(AsyncFlowControl?) : ExecutionContext.SuppressFlow();
                _timer = time.CreateTimer(static state => ((PingWatch)state!).CheckQuietly(), this, timeout / 4, timeout / 4);
            }
            else
            {
                _timer.TrySet(timeout / 4, timeout / 4);
            }
        }
    }

    /// <summary>Bytes came, and PINGs are answered up to this count. By the connection's reader, while it
    /// <see cref="IsWaiting"/>.</summary>
    public void Read(long answered)
    {
        Volatile.Write(ref _movedAt, time.GetTimestamp());
        if (answered >= Volatile.Read(ref _sent))
        {
            lock (_gate)
            {
                if (answered >= _sent)   // the writer may have sent another in between
                {
                    Stop();
                }
            }
        }
    }

    public void Dispose()
    {
        lock (_gate)
        {
            _isDisposed = true;
            Stop();
            _timer?.Dispose();
        }
    }

    /// <summary>By the timer, which has nobody above.</summary>
    void CheckQuietly()
    {
        try
        {
            Check();
        }
        catch (Exception)
        {
            // What the connection's end threw. It has ended.
        }
    }

    void Check()
    {
        lock (_gate)
        {
            if (!_isWaiting)
            {
                return;
            }

            var now = time.GetTimestamp();
            // This process had no thread, or slept: what has come since may lie unread.
            var isLate = time.GetElapsedTime(_checkedAt, now) > timeout / 2;
            _checkedAt = now;
            var acknowledged = progress()?.Acknowledged ?? _acknowledged;
            if (isLate || acknowledged > _acknowledged)   // ignore counters that decrease
            {
                _acknowledged = acknowledged;
                Volatile.Write(ref _movedAt, now);
            }

            if (time.GetElapsedTime(Volatile.Read(ref _movedAt), now) < timeout)
            {
                return;
            }

            Stop();
        }

        // Outside the lock: it runs the platform's code. The type and code are the platform's own for this (PROTOCOL_ERROR).
        dead(new HttpProtocolException(1, FormattableString.Invariant(
            $"The server answered no HTTP/2 PING within {timeout.TotalSeconds:0.###} s (Http2.PingTimeout), and nothing else moved on the connection."), null));
    }

    void Stop()
    {
        _isWaiting = false;
        _timer?.TrySet(Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
    }
}
