namespace Warmline;

/// <summary>What the application does to a request between its grant and its send (<see cref="PoolRequestOptions.BeforeSend"/>).</summary>
internal sealed partial class PooledHandler
{
    /// <summary>
    /// Runs the callback for one attempt, while the call holds its place. If nothing is sent in the end, the place is given back unused.
    /// True when the connection was found to be gone afterwards: then the call waits for its place again.
    /// </summary>
    static async ValueTask<bool> PrepareAsync(
        Func<HttpRequestMessage, CancellationToken, ValueTask> beforeSend, PooledRequest call, HttpRequestMessage request,
        CancellationToken cancellationToken)
    {
        var began = call.Now;
        call.StartConnection();
        try
        {
            await ChangeAsync(beforeSend, request, call.BeginBeforeSend()).ConfigureAwait(false);
        }
        catch (Exception error)
        {
            call.EndBeforeSend();
            call.ReturnUnused();
            if (call.EndedBeforeSend(error, cancellationToken) is { } ended)
            {
                throw ended;
            }

            throw;
        }

        call.EndBeforeSend();
        if (call.EndedBeforeSend(null, cancellationToken) is { } over)   // it ignored its token
        {
            call.ReturnUnused();
            throw over;
        }

        return call.IsBypassed(call.Now - began);
    }

    /// <summary>Headers may change, and nothing that the place was chosen by.</summary>
    static async ValueTask ChangeAsync(
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
                + "It changed the method, the address, the version, the content or the Host header; make such changes before you send the request.");
        }
    }

    static (HttpMethod, Uri?, Version, HttpVersionPolicy, HttpContent?, string? Host) FixedOf(HttpRequestMessage request) =>
        (request.Method, request.RequestUri, request.Version, request.VersionPolicy, request.Content, request.Headers.Host);

    /// <summary>Sends without the pool while it is switched off.</summary>
    async Task<HttpResponseMessage> SendWithoutPoolAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        if ((CallOptions.Of(request, defaults).BeforeSend ?? engine.Settings.BeforeSend) is { } beforeSend)
        {
            await ChangeAsync(beforeSend, request, cancellationToken).ConfigureAwait(false);
        }

        return await engine.Plain.SendAsync(request, cancellationToken).ConfigureAwait(false);
    }
}
