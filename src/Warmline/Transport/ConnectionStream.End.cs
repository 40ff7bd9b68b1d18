namespace Warmline.Transport;

/// <summary>The end of a connection.</summary>
/// <remarks>
/// The end: the handler disposes on a thread of its own and goes on as if the wire were gone, so its reads and writes fail from there on, pending ones by being
/// cancelled. What is left to say and to hear is the background's (<see cref="Farewell"/>), once nobody is inside the inner stream any more.
/// </remarks>
internal sealed partial class ConnectionStream : IThreadPoolWorkItem
{
    // Who is inside the inner stream, and whether anybody may still enter.
    const int Reading = 1;
    const int Writing = 2;
    const int Ending = 4;

    readonly CancellationTokenSource _stop = new();
    readonly TaskCompletionSource _left = new(TaskCreationOptions.RunContinuationsAsynchronously);
    int _use;
    int _disposed;
    volatile bool _isBroken;
    volatile bool _isCut;
    volatile bool _isOurs;
    volatile bool _readsWithoutToken;

    /// <summary>Whether anything came since the last request was written, the end of a response included.</summary>
    bool ResponseCame => BytesRead > Volatile.Read(ref _readWhenWritten);

    /// <summary>The pool closes the connection: a pending read is only a watch for its end.</summary>
    public void EndIsOurs() => _isOurs = true;

    /// <summary>If a response is under way on HTTP/1.1, the close that follows is hard: the server may take a while to notice any other.</summary>
    public void CutResponse()
    {
        if (_frames is null && ResponseCame)
        {
            _isCut = true;
        }
    }

    protected override void Dispose(bool disposing)
    {
        // The handler and the pool may close at the same time: one of them does it, and says so when it is done.
        if (disposing && Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            int inside = Interlocked.Or(ref _use, Ending);
            if (inside == 0)
            {
                _left.TrySetResult();
            }

            if (MayTakeItsTime(isReading: (inside & Reading) != 0))
            {
                ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);   // whoever disposes may hold the platform's lock
            }
            else
            {
                CloseNow();
            }
        }

        base.Dispose(disposing);
    }

    void IThreadPoolWorkItem.Execute() => _ = EndAsync();

    async Task EndAsync()
    {
        try
        {
            await _stop.CancelAsync().ConfigureAwait(false);
            await Farewell.SayAsync(dialed, goAway: _frames is not null && BytesWritten > 0, QuietAsync(), time).ConfigureAwait(false);
        }
        finally
        {
            CloseNow();
        }
    }

    /// <summary>Not on a wire that failed, and not in the middle of an HTTP/1.1 response.</summary>
    bool MayTakeItsTime(bool isReading) =>
        !_isBroken && !_isCut && !_readsWithoutToken && Farewell.IsPossible(dialed) && !(_frames is null && isReading && !_isOurs && ResponseCame);

    /// <summary>Nobody is inside the inner stream any more; whether it can still be written: a write that was cancelled may have left half a TLS record.</summary>
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
            Volatile.Write(ref _state, Closed);
            owner.Closed(slot);
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

        throw Gone();
    }

    void Leave(int use)
    {
        if ((Interlocked.And(ref _use, ~use) & ~use) == Ending)
        {
            _left.TrySetResult();
        }
    }

    void Break(int use)
    {
        _isBroken = true;
        Leave(use);
        ReportClosing();
    }

    static IOException Gone() => new("The connection was closed by the pool.");
}
