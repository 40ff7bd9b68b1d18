using System.Diagnostics;
using Warmline.Options;
using Warmline.Pool;
using System.Net;
using System.Net.Sockets;
using Warmline.Transport;

namespace Warmline;

/// <summary>
/// The way of a request through the pool, in numbered steps. The only place that knows the whole of it.
/// <code>
///   1 describe   connection key, lane, tenant and clocks; a small JSON body is serialised, to be looked at and to be sent again (PooledHandler.Describe)
///   2 lease      a place now, or wait for one, or a refusal with its reason
///   3 send       on the slot of the connection that was granted; sent again only with proof that the server did not start on it
///   4 read       the response's content is watched from now on
///   5 settle     when both bodies have ended, failed or been left: the lease ends (PooledRequest.PartEnded)
/// </code>
/// A redirect that is followed takes the whole way again, once for each hop.
/// </summary>
internal sealed partial class PooledHandler(PoolEngine engine, PoolRequestOptions? defaults) : HttpMessageHandler
{
    /// <summary>
    /// A body in memory up to this size goes into the socket's buffer as a whole. Where the server's HTTP/2 credit covers it too, its one
    /// write has nothing to wait
    /// for: it is not watched, the first-byte clock counts from its start, and it is through before placement could take it into account.
    /// </summary>
    const int SmallUpload = 16 * 1024;

    /// <summary>What a body of unknown length counts for among those that need the server's credit.</summary>
    const int UnknownUpload = 1024 * 1024;

    protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken) =>
        engine.Settings.AllowAutoRedirect
            ? Redirects.FollowAsync(request, engine.Plain.IsOn ? SendWithoutPoolAsync : SendOnceAsync, engine.Time, cancellationToken)
        : engine.Plain.IsOn ? SendWithoutPoolAsync(request, cancellationToken)
        : SendOnceAsync(request, cancellationToken);

    async Task<HttpResponseMessage> SendOnceAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        // :: Step 1: describe
        var stack = engine.Leaks.StackOfCall(skipFrames: 1);   // here, where it still is the caller's
        if (Refusal(request) is { } refusal)
        {
            cancellationToken.ThrowIfCancellationRequested();
            throw refusal;
        }

        var options = CallOptions.Of(request, defaults);
        var beforeSend = options.BeforeSend ?? engine.Settings.BeforeSend;
        var lane = NamedLane(options.Lane);
        var key = Describe(request, options.Tenant ?? "");
        var buffered = Buffers(request) ? await BufferAsync(request, key, options.Over(engine.Settings.Timeouts), cancellationToken).ConfigureAwait(false) : null;
        var content = buffered ?? request.Content;
        var call = CreateCall(options, lane ?? LaneOf(request, content), stack, cancellationToken);
        call.Buffered = buffered;
        call.BudgetKey = engine.Providers.BudgetOf(key, request, content);
        var uploadBytes = buffered?.Length ?? content?.Headers.ContentLength;
        var isSmall = uploadBytes <= SmallUpload && content is ByteArrayContent or ReadOnlyMemoryContent;
        var isLong = !isSmall && content is not null && uploadBytes is not <= SmallUpload;
        call.UploadBytes = isSmall ? 0 : uploadBytes ?? 0;
        call.BeginTelling(request);

        // The caller's request is changed for the send and gets its own back, whatever happens.
        var (own, version, policy) = (request.Content, request.Version, request.VersionPolicy);
        var decompress = engine.Settings.AutomaticDecompression;
        var askedFor = decompress is DecompressionMethods.None ? null : Decompression.Ask(request, decompress);
        var login = key.IsForwarded ? new ProxyLogin(key, engine.Proxy?.Credentials) : null;
        var isAnswered = false;
        try
        {
            // :: Step 2: lease
            await engine.Placement.AcquireAsync(call, key, AgentOf(request, key), cancellationToken).ConfigureAwait(false);
            while (true)
            {
                if (cancellationToken.IsCancellationRequested)
                {
                    call.ReturnUnused();   // on HTTP/1.1 a cancelled send would cost the connection
                    cancellationToken.ThrowIfCancellationRequested();
                }

                if (!call.Connection!.IsHttp2 && (InsistsOnHttp2(version, policy) || IsExtendedConnect(request)))
                {
                    call.ReturnUnused();
                    throw OnlyHttp1(key.Origin, version, policy);
                }

                if (call.IsBypassed() || (content is not null && call.TryMoveIfDry()))
                {
                    await engine.Placement.ReacquireAsync(call, cancellationToken).ConfigureAwait(false);
                    continue;
                }

                if (beforeSend is not null)
                {
                    // As the caller gave it, also before another attempt.
                    (request.Content, request.Version, request.VersionPolicy) = (own, version, policy);
                    login?.TakeBack(request);
                    if (await PrepareAsync(beforeSend, call, request, cancellationToken).ConfigureAwait(false))
                    {
                        await engine.Placement.ReacquireAsync(call, cancellationToken).ConfigureAwait(false);
                        continue;
                    }

                    buffered?.TakeHeaders(own!);
                }

                try
                {
                    // :: Step 3: send
                    var isUnwatched = content is null || (call.Claim(uploadBytes ?? UnknownUpload) && isSmall);
                    call.Begin(hasContent: !isUnwatched, isLong, beforeSend is null ? call.GrantedAt : call.Now);
                    request.Version = call.Connection!.IsHttp2 ? HttpVersion.Version20 : version == HttpVersion.Version10 ? version : HttpVersion.Version11;
                    request.VersionPolicy = HttpVersionPolicy.RequestVersionExact;
                    request.Content = isUnwatched ? content : new UploadContent(content!, call, isLong, call.Early);
                    login?.Add(request, call.Slot);
                    call.ObeyCaller();
                    var response = await call.Slot.SendAsync(request, call.Clocks.Token).ConfigureAwait(false);
                    CheckLogin(login, key, response, content);

                    // :: Step 4: read
                    call.HeadersCame(response.StatusCode);
                    call.TellHeaders((int)response.StatusCode);
                    ProviderReader.ReadKeepAlive(call, response.Headers);
                    engine.Providers.ReadLimits(call, response);
                    engine.Providers.InspectRefusal(call, response);
                    call.CheckPersistence(response);
                    response.Content = new PooledContent(response, request.Method, call, decompress);
                    isAnswered = true;
                    return response;
                }
                catch (Exception error)
                {
                    if (await call.FailedAsync(error, request.Method, content, mayUseHttp1: !InsistsOnHttp2(version, policy) && !IsExtendedConnect(request)).ConfigureAwait(false))
                    {
                        await engine.Placement.ReacquireAsync(call, cancellationToken).ConfigureAwait(false);
                        continue;
                    }

                    if (Telling(call, error, cancellationToken) is { } telling)
                    {
                        throw telling;
                    }

                    throw;
                }
                finally
                {
                    call.DisobeyCaller();
                }
            }
        }
        catch (Exception error) when (!isAnswered)
        {
            MarkForDowngrade(request, error);
            call.TellFailure(key, error);
            throw;
        }
        finally
        {
            request.Content = own;
            request.Version = version;
            request.VersionPolicy = policy;
            login?.TakeBack(request);
            call.EndTelling(request);
            if (askedFor is not null)
            {
                Decompression.TakeBack(request, askedFor);
            }

            if (!isAnswered)
            {
                buffered?.Leave();   // an answer keeps it until both bodies are over
            }
        }
    }

    PooledRequest CreateCall(in CallOptions options, LaneSettings? lane, StackTrace? stack, CancellationToken caller) =>
        new(engine, options.Over(lane?.Timeouts ?? engine.Settings.Timeouts), caller)
        {
            LaneName = lane?.Name ?? "",
            TenantName = options.Tenant ?? "",
            Priority = options.Priority,
            TakenBy = stack,
        };

    // The pool's own work is asynchronous throughout and never comes back to the caller's context, so waiting for it cannot deadlock. It also lets a
    // synchronous call ride HTTP/2, which the platform's own handler refuses.
    protected override HttpResponseMessage Send(HttpRequestMessage request, CancellationToken cancellationToken) =>
        SendAsync(request, cancellationToken).GetAwaiter().GetResult();

    static Exception? Telling(PooledRequest call, Exception error, CancellationToken caller) => call.Translate(error, caller) ?? error switch
    {
        PoolRejectedException or PoolConnectException => null,
        _ when call.TlsRefusal is { } refusal => new PoolConnectException(refusal.Phase, call.Verdict, refusal.Message, refusal.InnerException),
        HttpRequestException failed when call.IsHttp1Required => new PoolRequestException(call.Verdict, HttpRequestError.HttpProtocolError,
            $"The call to {call.Key!.Key.Origin} failed: {LastWords.Http1Required(call)}", failed.InnerException, failed.StatusCode),
        _ when call.Slot.Frames is { SawSettings: false } && !call.IsRefusedHere && (call.Slot.HasEnded || IsOfTheWire(call, error)) =>
            LastWords.NoSettings(call.Connection!, call.Verdict, error),

        // The platform gave its own error up for a second connection. It is what an end without an answer is.
        HttpRequestException { InnerException: SlotDeadException } failed when call.Verdict is RequestVerdict.Unknown =>
            new PoolRequestException(call.Verdict, HttpRequestError.ResponseEnded, Failed(call, failed),
                new HttpIOException(HttpRequestError.ResponseEnded, Cause(failed, call))),

        // Not the platform's: a content threw an error of its own type.
        HttpRequestException when error.GetType() != typeof(HttpRequestException) => null,

        // In place of the platform's error, with its cause: code that checks InnerException sees what it would see without the pool. If
        // nothing came from the wire, it is not the target's error.
        HttpRequestException failed => new PoolRequestException(call.Verdict, failed.HttpRequestError,
            call.IsRefusedHere || (call.UploadFailed && !IsOfTheWire(call, failed)) ? failed.Message : Failed(call, failed),
            failed.InnerException, failed.StatusCode),

        // The platform cancels a body's source when the connection breaks, and gives the caller that cancellation: it would look like the caller's own, or like a timeout.
        OperationCanceledException when call.UploadWasCancelled => new PoolRequestException(call.Verdict, HttpRequestError.Unknown, $"The call to {call.Key!.Key.Origin} failed: the connection broke while the request body was being sent.", error),
        IOException failed => new PoolRequestException(call.Verdict, HttpRequestError.Unknown, $"The call to {call.Key!.Key.Origin} failed: {failed.Message}", failed),
        _ => null,
    };

    /// <summary>A content that throws, or is not as long as it said, is no fault of the wire. Needed beside the connection's end, as the platform may tell the call first.</summary>
    static bool IsOfTheWire(PooledRequest call, Exception error) => error switch
    {
        HttpRequestException failed => failed.InnerException is IOException || failed.HttpRequestError is not HttpRequestError.Unknown,
        OperationCanceledException => call.UploadWasCancelled,
        _ => error is IOException,
    };

    /// <summary>A server that expects a TLS handshake closes on plain http without a word.</summary>
    static string HttpsHint(PooledRequest call, HttpRequestException error) => call is { Key.Key.IsHttps: false, Verdict: RequestVerdict.Unknown, Slot.BytesRead: 0 }
        && (error.HttpRequestError is HttpRequestError.ResponseEnded || error.InnerException is SlotDeadException or { InnerException: SocketException }) ? " Does the server want https?" : "";

    static string Said(PooledRequest call) => LastWords.GoAway(call.Slot) is { } goAway ? $" ({goAway})" : "";

    static string Failed(PooledRequest call, HttpRequestException error) =>
        $"The call to {call.Key!.Key.Origin} failed: {Cause(error, call)}{HttpsHint(call, error)}";

    static string Cause(HttpRequestException error, PooledRequest call) => error.InnerException switch
    {
        null => error.Message,
        SlotDeadException => call.Verdict switch
        {
            RequestVerdict.NotSent => "each connection ended before the request was sent.",
            RequestVerdict.Unprocessed => $"the server closed the connection{Said(call)} and declared that it had not processed the request." + (call.IsOverBudget ? " It is not sent again, as the pool's RetryBudget is used up." : ""),
            _ => $"the server closed the connection{Said(call)} without an answer.",
        },

        // On HTTP/2 both say the same.
        var inner => (error.Message.Contains(inner.Message, StringComparison.Ordinal) ? error.Message : $"{error.Message} {inner.Message}")
            + (call.Slot.Frames?.GoAwayText is { Length: > 0 } text ? $" The server said: \"{text}\"." : ""),
    };
}
