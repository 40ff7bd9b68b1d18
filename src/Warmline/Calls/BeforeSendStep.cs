namespace Warmline;

/// <summary>
/// What the application does to a request between its grant and its send (<see cref="PoolRequestOptions.BeforeSend"/>).
/// </summary>
internal static class BeforeSendStep
{
    /// <summary>
    /// Runs the callback for one attempt, while the call holds its place. If nothing is sent in the end, the place is given back unused.
    /// True when the connection was found to be gone afterwards: then the call waits for its place again.
    /// </summary>
    public static async ValueTask<bool> RunAsync(
        Func<HttpRequestMessage, CancellationToken, ValueTask> beforeSend, PooledCall call, HttpRequestMessage request,
        CancellationToken cancellationToken)
    {
        var began = call.Now;
        StartConnection(call);
        try
        {
            await ChangeAsync(beforeSend, request, Begin(call)).ConfigureAwait(false);
        }
        catch (Exception error)
        {
            End(call);
            call.ReturnUnused();
            if (CallErrors.OfBeforeSend(call, error, cancellationToken) is { } ended)
            {
                throw ended;
            }

            throw;
        }

        End(call);
        if (CallErrors.OfBeforeSend(call, null, cancellationToken) is { } over)   // the callback ignored its token
        {
            call.ReturnUnused();
            throw over;
        }

        return call.TryReplaceStale(call.Now - began);
    }

    /// <summary>Headers may change, and nothing that the place was chosen by.</summary>
    public static async ValueTask ChangeAsync(
        Func<HttpRequestMessage, CancellationToken, ValueTask> beforeSend, HttpRequestMessage request, CancellationToken token)
    {
        var before = FixedOf(request);
        var run = beforeSend(request, token);
        if (run.IsCompleted)
        {
            await run.ConfigureAwait(false);
        }
        else
        {
            // The callback may ignore its token; let it finish, and ignore its error.
            var task = run.AsTask();
            _ = task.ContinueWith(static ended => ended.Exception, CancellationToken.None,
                TaskContinuationOptions.OnlyOnFaulted | TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
            await task.WaitAsync(token).ConfigureAwait(false);
        }

        if (before != FixedOf(request))
        {
            throw new InvalidOperationException("BeforeSend may change the request's headers only. "
                + "It changed the method, the address, the version, the content or the Host header; "
                + "make such changes before you send the request.");
        }
    }

    /// <summary>
    /// A fresh HTTP/2 connection is started by its first request, and counts as dead when SETTINGS do not come in time. It must not wait
    /// for what runs before that request.
    /// </summary>
    static void StartConnection(PooledCall call)
    {
        if (call.Slot is { IsHttp2: true, SentRequest: false, Frames.SawSettings: false })
        {
            call.Engine.Connector.BeginPrime(call.Connection!);
        }
    }

    /// <summary>From now on the caller, the total clock and the pool's end can end the callback, as they can end an exchange.</summary>
    static CancellationToken Begin(PooledCall call)
    {
        call.Clocks.EndWait();   // of an attempt before this one
        call.Clocks.EndWrite();
        call.Clocks.Start(call.Now - call.AskedAt);
        call.LinkCallerToken();
        return call.Clocks.Token;
    }

    static void End(PooledCall call)
    {
        call.UnlinkCallerToken();
        call.Clocks.Stop();
    }

    static (HttpMethod, Uri?, Version, HttpVersionPolicy, HttpContent?, string? Host) FixedOf(HttpRequestMessage request) =>
        (request.Method, request.RequestUri, request.Version, request.VersionPolicy, request.Content, request.Headers.Host);
}
