namespace Warmline;

/// <summary>What the application does to a request between its grant and its send (<see cref="PoolRequestOptions.BeforeSend"/>).</summary>
internal sealed partial class PooledHandler
{
    /// <summary>
    /// Runs it, for one attempt. The call holds its place meanwhile; if it does not come to a send the place is given back unused. True
    /// when the
    /// connection was found to be gone afterwards: then the call waits for its place again.
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
        if (call.EndedBeforeSend(null, cancellationToken) is { } over)   // it took no notice of its token
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
            // It may heed no token. It then goes on by itself, and its error is of no interest.
            var task = run.AsTask();
            _ = task.ContinueWith(static ended => ended.Exception, CancellationToken.None,
                TaskContinuationOptions.OnlyOnFaulted | TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
            await task.WaitAsync(token).ConfigureAwait(false);
        }

        if (before != FixedOf(request))
        {
            throw new InvalidOperationException("BeforeSend may change the request's headers only. "
                + "It changed the method, the address, the version, the content or the Host header; do that before the call.");
        }
    }

    static (HttpMethod, Uri?, Version, HttpVersionPolicy, HttpContent?, string? Host) FixedOf(HttpRequestMessage request) =>
        (request.Method, request.RequestUri, request.Version, request.VersionPolicy, request.Content, request.Headers.Host);

    /// <summary>The way past the pool, for calls that come while it is switched off.</summary>
    async Task<HttpResponseMessage> SendPastAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        if ((CallOptions.Of(request, defaults).BeforeSend ?? engine.Settings.BeforeSend) is { } beforeSend)
        {
            await ChangeAsync(beforeSend, request, cancellationToken).ConfigureAwait(false);
        }

        return await engine.SendPastAsync(request, cancellationToken).ConfigureAwait(false);
    }
}
