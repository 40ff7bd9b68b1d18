namespace Warmline;

/// <summary>The time between its grant and its send, in which the application may change the request.</summary>
internal sealed partial class PooledRequest
{
    /// <summary>A fresh HTTP/2 connection is started by its first request, and counts as dead when SETTINGS do not come in time. It must
    /// not wait
    /// for what runs before that request.</summary>
    public void StartConnection()
    {
        if (Slot is { IsHttp2: true, SentRequest: false, Frames.SawSettings: false })
        {
            _engine.Connector.BeginPrime(Connection!);
        }
    }

    /// <summary>The caller, the total clock and the pool's end can end it from now on, as they can end an exchange.</summary>
    public CancellationToken BeginBeforeSend()
    {
        Clocks.EndWait();   // of an attempt before this one
        Clocks.EndWrite();
        Clocks.Start(Now - AskedAt);
        ObeyCaller();
        return Clocks.Token;
    }

    public void EndBeforeSend()
    {
        DisobeyCaller();
        Clocks.Stop();
    }

    /// <summary>The error of a call that ended while the callback ran; null if it did not, or if
    /// <paramref name="error"/> is the application's own.</summary>
    public Exception? EndedBeforeSend(Exception? error, CancellationToken caller)
    {
        if (error is not (null or OperationCanceledException))
        {
            return null;
        }

        if (Volatile.Read(ref _aborted) is not 0 and var reason)
        {
            return new PoolAbortedException((PoolRejectionReason)reason);
        }

        if (Clocks.Stalled is { } phase)
        {
            CountFailure(caller);
            var (limit, silence) = (Clocks.LimitOf(phase), Clocks.StalledFor);
            return new RequestStalledException(phase, limit, silence, RequestVerdict.NotSent, Key!.Key.Origin, null);
        }

        return caller.IsCancellationRequested ? new OperationCanceledException("The call was cancelled.", error, caller) : null;
    }

    /// <summary>Whether the connection, which rested for <paramref name="longer"/> more, is found to be gone. Then the call is placed
    /// again.</summary>
    public bool IsBypassed(TimeSpan longer)
    {
        Rested += longer;
        return IsBypassed();
    }
}
