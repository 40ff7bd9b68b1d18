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

    static readonly Func<ReadOnlySpan<byte>, string?> ModelOf = RequestShape.ModelOf;

    /// <summary>Which requests the provider counts together with this one; null where it is not paced.</summary>
    public BudgetKey? BudgetOf(ConnectionKey key, HttpRequestMessage request, HttpContent? content) =>
        Settings.Providers.PacingOf(key) ?? Settings.Pacing ? new BudgetKey(key.Origin, CredentialOf(request.Headers), Model(request, content)) : null;

    /// <summary>The head of an answer came: what it says of limits.</summary>
    public void NoteLimits(PooledCall call, HttpResponseMessage response)
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
            lock (_gate)
            {
                key.LimitsDue = now + ShownEach;   // two at once both look: no harm
            }

            var limits = RateLimitHeaders.Read(response.Headers, Settings.Providers.ProfileOf(key.Key).RateLimits, _time);
            if (!limits.IsEmpty)
            {
                lock (_gate)   // with the time of its own lock, or a look at the statistics could be older than what it finds
                {
                    key.Limits = new ToldLimits(limits, Now);
                }
            }
        }
    }

    /// <summary>
    /// Inspects the body of a paced call's refusal while the caller reads it: some providers say only there how long to wait, or
    /// that requests grow too fast.
    /// </summary>
    public void InspectRefusal(PooledCall call, HttpResponseMessage response)
    {
        if (call.Budget is null || (int)response.StatusCode is not (429 or 503 or 529))
        {
            return;
        }

        var answeredAt = Now;   // the wait counts from the answer, however late its body is read
        response.Content = RefusalContent.Of(response.Content, advice => Advised(call, advice, answeredAt));
        if (response.Content is RefusalContent inspected)
        {
            call.InspectedRefusal = inspected;
        }
    }

    void Advised(PooledCall call, RefusalAdvice advice, TimeSpan answeredAt)
    {
        if (advice.Wait is { } wait)
        {
            Play((call, wait, answeredAt), static (scheduler, refusal, now, actions) =>
                scheduler.Advised(refusal.call, refusal.wait, refusal.answeredAt, now, actions));
        }

        if (advice.SlowDown)
        {
            Play(call, static (scheduler, call, now, actions) => scheduler.SlowDown(call, now, actions));
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

        return content is not null && Bodies.CanInspect(request, content) ? Inspect<string?>.Into(content, ModelOf) ?? "" : "";
    }
}
