using System.Globalization;
using System.Net.Http.Headers;
using Warmline.Options;
using Warmline.Providers;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline.Pool;

/// <summary>
/// Reads what servers say about their limits and turns it into events: rate-limit headers, Keep-Alive, advice in the bodies of refusals,
/// requests for calm.
/// </summary>
internal sealed class ProviderReader(PoolEngine pool)
{
    /// <summary>With pacing off the headers are only displayed, so they are sampled.</summary>
    static readonly TimeSpan SampleInterval = TimeSpan.FromMilliseconds(250);

    static readonly Func<ReadOnlySpan<byte>, string?> ModelOf = RequestShape.ModelOf;

    /// <summary>Which requests the provider counts together with this one; null if it is not paced.</summary>
    public BudgetKey? BudgetOf(ConnectionKey key, HttpRequestMessage request, HttpContent? content)
    {
        var settings = pool.Settings;
        return settings.Providers.PacingOf(key) ?? settings.Pacing
            ? new BudgetKey(key.Origin, CredentialOf(request.Headers), Model(request, content))
            : null;
    }

    /// <summary>The head of a response came: reads its rate-limit headers.</summary>
    public void ReadLimits(PooledCall call, HttpResponseMessage response)
    {
        var key = call.Key!;
        var profile = pool.Settings.Providers.ProfileOf(key.Key);
        if (call.Budget is not null)
        {
            var limits = RateLimitHeaders.Read(response.Headers, profile.RateLimits, pool.Time);
            pool.Core.Play((call, limits, status: (int)response.StatusCode), static (scheduler, answer, now, actions) =>
                scheduler.Answered(answer.call, answer.limits, answer.status, now, actions));
            return;
        }

        if (pool.Now >= key.LimitsDue)
        {
            // Two calls at once may both do it: no harm.
            SampleLimits(key, RateLimitHeaders.Read(response.Headers, profile.RateLimits, pool.Time));
        }
    }

    /// <summary>
    /// Inspects the body of a paced call's refusal while the caller reads it: some providers say only there how long to wait, or that
    /// requests grow too fast.
    /// </summary>
    public void InspectRefusal(PooledCall call, HttpResponseMessage response)
    {
        if (call.Budget is null || (int)response.StatusCode is not (429 or 503 or 529))
        {
            return;
        }

        var answeredAt = pool.Now;   // the wait counts from the response, however late its body is read
        response.Content = RefusalContent.Of(response.Content, advice => Apply(call, advice, answeredAt));
        if (response.Content is RefusalContent inspected)
        {
            call.InspectedRefusal = inspected;
        }
    }

    /// <summary>
    /// Records how long the server keeps the connection (RFC 2068 section 19.7.1.1, sent by Node and Apache): <c>Keep-Alive: timeout=5,
    /// max=100</c>. The call holds the lease, so nothing else writes it.
    /// </summary>
    public static void ReadKeepAlive(PooledCall call, HttpResponseHeaders headers)
    {
        if (call.Connection is { IsHttp2: false } connection)
        {
            connection.HintSeconds = headers.NonValidated.TryGetValues("Keep-Alive", out var values) ? SecondsIn(values.ToString()) : -1;
        }
    }

    /// <summary>Whether a connection that opens now should send no PINGs, because the server took them for abuse.</summary>
    public bool PingsAreUnwelcome(KeyState key) => pool.Core.Read((_, now) => now < key.Origin.PingsFrom);

    /// <summary>The server closed a connection because of what was sent beside requests: its others send less from now on.</summary>
    public void CalmDown(ConnectionState connection, bool byPings, long resets)
    {
        var (isNews, pause) = pool.Core.Read((scheduler, now) =>
            (scheduler.AskedForCalm(connection, byPings, resets, now), connection.Key.Origin.PingPause));
        if (!isNews)
        {
            return;
        }

        foreach (var slot in pool.Core.Read((_, _) => connection.Key.Origin.Keys.SelectMany(key => key.Connections)
            .Select(other => other.Slot).OfType<Slot>().ToArray()))
        {
            slot.WithholdPings();
        }

        LogMessages.PingsPaused(pool.Logger, connection.Key.Key.Origin, pause.TotalHours, Duration.Format(pool.Settings.Http2.PingDelay));
    }

    internal static int SecondsIn(string hint)
    {
        foreach (var part in hint.Split(','))
        {
            var equals = part.IndexOf('=', StringComparison.Ordinal);
            if (equals > 0 && part.AsSpan(0, equals).Trim().Equals("timeout", StringComparison.OrdinalIgnoreCase)
                && int.TryParse(part.AsSpan(equals + 1).Trim().Trim('"'), NumberStyles.None, CultureInfo.InvariantCulture, out var seconds))
            {
                return seconds;
            }
        }

        return -1;
    }

    void SampleLimits(KeyState key, RateLimits limits) => pool.Core.Play((key, limits), static (_, sample, now, _) =>
    {
        sample.key.LimitsDue = now + SampleInterval;
        if (!sample.limits.IsEmpty)
        {
            sample.key.Limits = new ToldLimits(sample.limits, now);
        }
    });

    void Apply(PooledCall call, RefusalAdvice advice, TimeSpan answeredAt)
    {
        if (advice.Wait is { } wait)
        {
            pool.Core.Play((call, wait, answeredAt), static (scheduler, refusal, now, actions) =>
                scheduler.Advised(refusal.call, refusal.wait, refusal.answeredAt, now, actions));
        }

        if (advice.SlowDown)
        {
            pool.Core.Play(call, static (scheduler, call, now, actions) => scheduler.SlowDown(call, now, actions));
        }
    }

    /// <summary>
    /// A number that tells credentials apart in this process and means nothing outside it: string hashes are seeded differently in each.
    /// </summary>
    static int CredentialOf(HttpRequestHeaders headers)
    {
        var hash = default(HashCode);
        foreach (var name in (ReadOnlySpan<string>)["Authorization", "x-api-key", "api-key", "x-goog-api-key"])
        {
            hash.Add(headers.NonValidated.TryGetValues(name, out var values) ? values.ToString().GetHashCode(StringComparison.Ordinal) : 0);
        }

        return hash.ToHashCode();
    }

    /// <summary>The model: Azure's deployment in the path, else what the body says, if it can be inspected.</summary>
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
