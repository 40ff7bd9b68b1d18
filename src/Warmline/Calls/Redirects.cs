using System.Net;
using Warmline.Transport;

namespace Warmline;

/// <summary>
/// Follows redirects (<see cref="ConnectionPoolOptions.AllowAutoRedirect"/>), by the platform's rules for statuses, methods and fragments.
/// Each hop is a call of its own with a lease of its own. The lease of one is returned before the next is asked for, so a pool of a single
/// place can follow. Each hop is a new request message: the caller's stays as it was, and
/// <see cref="HttpResponseMessage.RequestMessage"/> is the one that was answered.
/// </summary>
internal static class Redirects
{
    const int MostHops = 50;

    /// <summary>
    /// The body of a redirect is a line of text for people: once it is read, the connection is usable. A longer or slower one is not worth
    /// the wait.
    /// </summary>
    const int MostDrained = 16 * 1024;

    static readonly TimeSpan DrainTime = TimeSpan.FromSeconds(2);

    /// <summary>What identifies the caller to the first origin. Another origin must not see it.</summary>
    static readonly string[] Credentials =
    [
        "Authorization", "Proxy-Authorization", "Cookie", "x-api-key", "api-key", "x-goog-api-key", "Ocp-Apim-Subscription-Key",
        "X-Amz-Security-Token",
    ];

    public static async Task<HttpResponseMessage> FollowAsync(
        HttpRequestMessage request, Func<HttpRequestMessage, CancellationToken, Task<HttpResponseMessage>> send, TimeProvider time,
        CancellationToken cancellationToken)
    {
        var response = await send(request, cancellationToken).ConfigureAwait(false);
        for (var hops = 0; hops < MostHops && Next(request.RequestUri!, response) is { } next; hops++)
        {
            await LeaveAsync(response, time, cancellationToken).ConfigureAwait(false);
            request = Onward(request, next, response.StatusCode);
            response = await send(request, cancellationToken).ConfigureAwait(false);
        }

        return response;
    }

    static Uri? Next(Uri from, HttpResponseMessage response)
    {
        if (response.StatusCode is not (HttpStatusCode.MultipleChoices or HttpStatusCode.MovedPermanently or HttpStatusCode.Found
            or HttpStatusCode.SeeOther or HttpStatusCode.TemporaryRedirect or HttpStatusCode.PermanentRedirect)
            || response.Headers.Location is not { } location)
        {
            return null;
        }

        var next = location.IsAbsoluteUri ? location : new Uri(from, location);
        if (from.Fragment.Length > 0 && next.Fragment.Length == 0)
        {
            next = new UriBuilder(next) { Fragment = from.Fragment }.Uri;
        }

        return from.Scheme is "https" or "wss" && next.Scheme is not ("https" or "wss") ? null : next;
    }

    static async Task LeaveAsync(HttpResponseMessage response, TimeProvider time, CancellationToken cancellationToken)
    {
        if (response.Content is not PooledContent content)
        {
            response.Dispose();   // it did not go through the pool: there is no lease to give back
            return;
        }

        using (var limit = new CancellationTokenSource(DrainTime, time))
        using (cancellationToken.UnsafeRegister(static state => ((CancellationTokenSource)state!).Cancel(), limit))
        {
            await content.DrainAsync(MostDrained, limit.Token).ConfigureAwait(false);
        }

        response.Dispose();

        // On HTTP/2 the request body may still be under way: it must not be read by two calls.
        await ((PooledCall)content.Exchange).SettledAsync().ConfigureAwait(false);
        cancellationToken.ThrowIfCancellationRequested();
    }

    static HttpRequestMessage Onward(HttpRequestMessage request, Uri next, HttpStatusCode status)
    {
        var becomesGet = status switch
        {
            HttpStatusCode.MovedPermanently or HttpStatusCode.Found or HttpStatusCode.MultipleChoices => request.Method == HttpMethod.Post,
            HttpStatusCode.SeeOther => request.Method != HttpMethod.Get && request.Method != HttpMethod.Head,
            _ => false,
        };
        var sameOrigin = Uri.Compare(request.RequestUri, next, UriComponents.SchemeAndServer, UriFormat.SafeUnescaped,
            StringComparison.OrdinalIgnoreCase) == 0;
        var onward = new HttpRequestMessage(becomesGet ? HttpMethod.Get : request.Method, next)
        {
            Version = request.Version,
            VersionPolicy = request.VersionPolicy,
            Content = becomesGet ? null : request.Content,
        };
        foreach (var header in request.Headers.NonValidated)
        {
            var stays = sameOrigin || !(header.Key.Equals("Host", StringComparison.OrdinalIgnoreCase)
                || Credentials.Contains(header.Key, StringComparer.OrdinalIgnoreCase));
            if (stays && !(becomesGet && header.Key.Equals("Transfer-Encoding", StringComparison.OrdinalIgnoreCase)))
            {
                onward.Headers.TryAddWithoutValidation(header.Key, header.Value);
            }
        }

        foreach (var option in (IDictionary<string, object?>)request.Options)
        {
            ((IDictionary<string, object?>)onward.Options).Add(option);
        }

        return onward;
    }
}
