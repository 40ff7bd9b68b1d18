using System.Net;
using System.Net.Http.Headers;
using Warmline.Options;
using Warmline.Providers;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline;

/// <summary>What providers tell of their limits: shown, and where pacing is on, kept to.</summary>
internal sealed partial class PoolEngine
{
    /// <summary>Where nothing depends on it, that much of what is told is enough to be shown.</summary>
    static readonly TimeSpan ShownEach = TimeSpan.FromMilliseconds(250);

    /// <summary>An error is shorter; a longer body is not read for the word.</summary>
    const int LongestError = 16 * 1024;

    static readonly Func<ReadOnlySpan<byte>, string?> ModelOf = RequestShape.ModelOf;

    /// <summary>Which requests the provider counts together with this one; null where it is not paced.</summary>
    public BudgetKey? BudgetOf(ConnectionKey key, HttpRequestMessage request, HttpContent? content) =>
        Settings.Providers.PacingOf(key) ?? Settings.Pacing ? new BudgetKey(key.Origin, CredentialOf(request.Headers), Model(request, content)) : null;

    /// <summary>The head of an answer came: what it says of limits.</summary>
    public void NoteLimits(PooledRequest call, HttpResponseMessage response)
    {
        var key = call.Key!;
        if (call.Budget is not null)
        {
            var limits = RateLimitHeaders.Read(response.Headers, Settings.Providers.ProfileOf(key.Key).RateLimits, _time);
            Play((call, limits, (int)response.StatusCode), static (scheduler, answer, now, actions) => scheduler.Answered(answer.call, answer.limits, answer.Item3, now, actions));
            return;
        }

        var now = Now;
        if (now >= key.LimitsDue)
        {
            key.LimitsDue = now + ShownEach;   // two at once both look: no harm
            var limits = RateLimitHeaders.Read(response.Headers, Settings.Providers.ProfileOf(key.Key).RateLimits, _time);
            if (!limits.IsEmpty)
            {
                key.Limits = new ToldLimits(limits, now);
            }
        }
    }

    /// <summary>Whether the provider asks not just for a pause but for slower growth: OpenAI's <c>slow_down</c>, which only the body of the refusal says.</summary>
    public async Task LookForSlowDownAsync(PooledRequest call, HttpResponseMessage response, CancellationToken cancellationToken)
    {
        var content = response.Content;
        if (response.StatusCode is not (HttpStatusCode.TooManyRequests or HttpStatusCode.ServiceUnavailable) || content.Headers.ContentLength is not <= LongestError || !RequestShape.IsJson(content))
        {
            return;
        }

        try
        {
            await content.LoadIntoBufferAsync(LongestError, cancellationToken).ConfigureAwait(false);
            if ((await content.ReadAsByteArrayAsync(cancellationToken).ConfigureAwait(false)).AsSpan().IndexOf("\"slow_down\""u8) >= 0)
            {
                Play(call, static (scheduler, call, now, actions) => scheduler.SlowDown(call, now, actions));
            }
        }
        catch (Exception error) when (error is HttpRequestException or IOException or TimeoutException)
        {
            // The reader will meet the same end of the body.
        }
    }

    /// <summary>A number that tells credentials apart in this process, and nobody anything else: string hashes are seeded anew in each.</summary>
    static int CredentialOf(HttpRequestHeaders headers)
    {
        var hash = default(HashCode);
        foreach (var name in (ReadOnlySpan<string>)["Authorization", "x-api-key", "api-key", "x-goog-api-key"])
        {
            hash.Add(headers.NonValidated.TryGetValues(name, out var values) ? values.ToString().GetHashCode(StringComparison.Ordinal) : 0);
        }

        return hash.ToHashCode();
    }

    /// <summary>The model: Azure's deployment in the path, else what the body says, where it can be looked at.</summary>
    static string Model(HttpRequestMessage request, HttpContent? content)
    {
        const string Deployments = "/deployments/";
        var path = request.RequestUri!.AbsolutePath;
        if (path.IndexOf(Deployments, StringComparison.Ordinal) is >= 0 and var at)
        {
            var rest = path.AsSpan(at + Deployments.Length);
            var end = rest.IndexOf('/');
            return new string((end < 0 ? rest : rest[..end])[..Math.Min(64, end < 0 ? rest.Length : end)]);
        }

        return content is not null && PooledHandler.CanPeek(request, content) ? Peek<string?>.Into(content, ModelOf) ?? "" : "";
    }
}
