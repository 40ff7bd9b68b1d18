using System.Diagnostics;
using Warmline.Options;
using Warmline.Pool;
using System.Net;
using Warmline.Transport;

namespace Warmline;

/// <summary>
/// The way of a call through the pool, in numbered steps. The only place that knows the whole of it.
/// <code>
///   1 describe   connection key, lane, tenant and clocks (CallDescriber); a small JSON body is serialised, to be inspected and to be
///                sent again (RequestBody)
///   2 lease      a place now, or wait for one, or a refusal with its reason
///   3 send       on the slot of the connection that was granted; sent again only with proof that the server did not start on it (Resend)
///   4 read       the response's content is watched from now on
///   5 settle     when both bodies have ended, failed or been left: the lease ends (Exchange)
/// </code>
/// A redirect that is followed takes the whole way again, once for each hop.
/// </summary>
internal sealed class PooledHandler(PoolEngine engine, PoolRequestOptions? defaults) : HttpMessageHandler
{
    readonly CallDescriber _describer = new(engine);

    protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken) =>
        engine.Settings.AllowAutoRedirect
            ? Redirects.FollowAsync(request, engine.Plain.IsOn ? SendPlainAsync : SendOnceAsync, engine.Time, cancellationToken)
        : engine.Plain.IsOn ? SendPlainAsync(request, cancellationToken)
        : SendOnceAsync(request, cancellationToken);

    PooledCall CreateCall(in CallOptions options, LaneSettings? lane, StackTrace? stack, CancellationToken caller) =>
        new(engine, options.Over(lane?.Timeouts ?? engine.Settings.Timeouts), caller)
        {
            LaneName = lane?.Name ?? "",
            TenantName = options.Tenant ?? "",
            Priority = options.Priority,
            TakenBy = stack,
        };

    // The pool's own work is asynchronous throughout and never returns to the caller's context, so waiting for it cannot deadlock. It also
    // lets a synchronous call use HTTP/2, which the platform's own handler refuses.
    protected override HttpResponseMessage Send(HttpRequestMessage request, CancellationToken cancellationToken) =>
        SendAsync(request, cancellationToken).GetAwaiter().GetResult();

    async Task<HttpResponseMessage> SendOnceAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        // :: Step 1: describe
        var stack = engine.Leaks.StackOfCall(skipFrames: 1);   // here, where it still is the caller's
        if (RequestRules.Refusal(request) is { } refusal)
        {
            cancellationToken.ThrowIfCancellationRequested();
            throw refusal;
        }

        var options = CallOptions.Of(request, defaults);
        var beforeSend = options.BeforeSend ?? engine.Settings.BeforeSend;
        var lane = _describer.NamedLane(options.Lane);
        var key = _describer.KeyOf(request, options.Tenant ?? "");
        var buffered = RequestBody.IsBuffered(request)
            ? await RequestBody.BufferAsync(request.Content!, engine, key, options.Over(engine.Settings.Timeouts).Total, cancellationToken)
                .ConfigureAwait(false)
            : null;
        var body = new RequestBody(request.Content, buffered);
        var call = CreateCall(options, lane ?? _describer.LaneOf(request, body.Content), stack, cancellationToken);
        call.Buffered = buffered;
        call.BudgetKey = engine.Providers.BudgetOf(key, request, body.Content);
        call.UploadBytes = body.Weight;
        CallTelemetry.Begin(call, request);
        var loan = new RequestLoan(request, key, engine.Settings.AutomaticDecompression, engine.Proxy);
        var isAnswered = false;
        try
        {
            // :: Step 2: lease
            await engine.Placement.AcquireAsync(call, key, _describer.AgentOf(request, key), cancellationToken).ConfigureAwait(false);
            while (true)
            {
                CheckGrant(call, request, loan, cancellationToken);
                if (call.TryReplaceStale() || (body.Content is not null && call.TryMoveIfDry()))
                {
                    await engine.Placement.ReacquireAsync(call, cancellationToken).ConfigureAwait(false);
                    continue;
                }

                if (beforeSend is not null)
                {
                    loan.Show(request);   // also before another attempt
                    if (await BeforeSendStep.RunAsync(beforeSend, call, request, cancellationToken).ConfigureAwait(false))
                    {
                        await engine.Placement.ReacquireAsync(call, cancellationToken).ConfigureAwait(false);
                        continue;
                    }

                    call.Buffered?.TakeHeaders(loan.Content!);
                }

                try
                {
                    // :: Step 3: send
                    BeginAttempt(call, request, body, loan, beforeSend is null ? call.GrantedAt : call.Now);
                    var response = await call.Slot.SendAsync(request, call.Clocks.Token).ConfigureAwait(false);
                    Resend.CheckLogin(loan.Login, key, response, body.Content);

                    // :: Step 4: read
                    TakeAnswer(call, request.Method, response, loan.Decompress);
                    isAnswered = true;
                    return response;
                }
                catch (Exception error)
                {
                    var mayUseHttp1 = !RequestRules.InsistsOnHttp2(loan.Version, loan.Policy) && !RequestRules.IsExtendedConnect(request);
                    if (await Resend.TryAsync(call, error, request.Method, body.Content, mayUseHttp1).ConfigureAwait(false))
                    {
                        await engine.Placement.ReacquireAsync(call, cancellationToken).ConfigureAwait(false);
                        continue;
                    }

                    if (CallErrors.OfSend(call, error, cancellationToken) is { } seen)
                    {
                        throw seen;
                    }

                    throw;
                }
                finally
                {
                    call.UnlinkCallerToken();
                }
            }
        }
        catch (Exception error) when (!isAnswered)
        {
            CallErrors.MarkForDowngrade(request, error);
            CallTelemetry.RecordFailure(call, key, error);
            throw;
        }
        finally
        {
            loan.Return(request);
            call.Trace?.TakeBack(request);
            if (!isAnswered)
            {
                call.Buffered?.Leave();   // an answer keeps it until both bodies are over
            }
        }
    }

    /// <summary>Gives back a place that the call cannot use.</summary>
    static void CheckGrant(PooledCall call, HttpRequestMessage request, in RequestLoan loan, CancellationToken cancellationToken)
    {
        if (cancellationToken.IsCancellationRequested)
        {
            call.ReturnUnused();   // on HTTP/1.1 a cancelled send would cost the connection
            cancellationToken.ThrowIfCancellationRequested();
        }

        if (!call.Connection!.IsHttp2
            && (RequestRules.InsistsOnHttp2(loan.Version, loan.Policy) || RequestRules.IsExtendedConnect(request)))
        {
            call.ReturnUnused();
            throw CallErrors.OnlyHttp1(call.Key!.Key.Origin, loan.Version, loan.Policy);
        }
    }

    static void BeginAttempt(PooledCall call, HttpRequestMessage request, in RequestBody body, in RequestLoan loan, TimeSpan now)
    {
        var isUnwatched = body.Content is null || (call.Claim(body.Credit) && body.IsSmall);
        call.Begin(hasContent: !isUnwatched, body.IsLong, now);
        request.Version = call.Connection!.IsHttp2 ? HttpVersion.Version20
            : loan.Version == HttpVersion.Version10 ? loan.Version : HttpVersion.Version11;
        request.VersionPolicy = HttpVersionPolicy.RequestVersionExact;
        request.Content = isUnwatched ? body.Content : new UploadContent(body.Content!, call, body.IsLong, call.Upload.Early);
        loan.Login?.Add(request, call.Slot);
        call.LinkCallerToken();
    }

    void TakeAnswer(PooledCall call, HttpMethod method, HttpResponseMessage response, DecompressionMethods decompress)
    {
        call.HeadersCame(response.StatusCode);
        CallTelemetry.RecordHeaders(call, (int)response.StatusCode);
        ProviderReader.ReadKeepAlive(call, response.Headers);
        engine.Providers.ReadLimits(call, response);
        engine.Providers.InspectRefusal(call, response);
        if (Persistence.EndsConnection(response))
        {
            call.BreakConnection();   // before the body is watched, because a body that is over ends the lease at once
        }

        response.Content = new PooledContent(response, method, call, decompress);
    }

    /// <summary>Sends without the pool while it is switched off.</summary>
    async Task<HttpResponseMessage> SendPlainAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        if ((CallOptions.Of(request, defaults).BeforeSend ?? engine.Settings.BeforeSend) is { } beforeSend)
        {
            await BeforeSendStep.ChangeAsync(beforeSend, request, cancellationToken).ConfigureAwait(false);
        }

        return await engine.Plain.SendAsync(request, cancellationToken).ConfigureAwait(false);
    }
}
