namespace Warmline.Providers;

/// <summary>What is known of API hosts before the first call.</summary>
internal static class ProviderProfiles
{
    /// <summary>Cloudflare, towards clients: documented (cloudflare-docs, pull request 14536) and measured as 400.0 s (claude-code, issue 89608).</summary>
    static readonly TimeSpan Cloudflare = TimeSpan.FromSeconds(400);

    static readonly Dictionary<string, TimeSpan> IdleLimits = new(StringComparer.OrdinalIgnoreCase)
    {
        ["api.openai.com"] = Cloudflare,
        ["api.anthropic.com"] = Cloudflare,
    };

    /// <summary>How long the host keeps a connection that carries nothing; null when that is not known.</summary>
    public static TimeSpan? IdleLimitOf(string host) => IdleLimits.TryGetValue(host, out var limit) ? limit : null;
}
