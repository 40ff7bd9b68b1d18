using System.Net;

namespace Warmline;

/// <summary>The headers in which a provider tells what is left of its rate limits.</summary>
public enum RateLimitFormat
{
    /// <summary>Whichever of the known families an answer carries.</summary>
    Any,

    /// <summary>
    /// <c>x-ratelimit-{limit,remaining,reset}-{requests,tokens}</c>, reset as a duration (<c>6m0s</c>) or as seconds: OpenAI, Azure OpenAI,
    /// Groq and what copies them.
    /// </summary>
    OpenAI,

    /// <summary>
    /// <c>anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}</c>, reset as a time in RFC 3339.
    /// </summary>
    Anthropic,

    /// <summary>None but the forms of <c>retry-after</c>, which any HTTP server may send (RFC 9110, section 10.2.3).</summary>
    None,

    /// <summary>
    /// <c>x-ratelimit-{limit,remaining,reset}</c> of requests, reset as Unix time in milliseconds: OpenRouter. Not part of
    /// <see cref="Any"/>, as other APIs send the same names with another meaning.
    /// </summary>
    OpenRouter,
}

/// <summary>
/// What is known of an API host before the first call, as data. The pool chooses one by host and port; an origin's options can name
/// another, or one of your own: <c>ProviderProfile.Vllm with { IdleLimit = TimeSpan.FromSeconds(60) }</c>. What a server itself says or
/// shows while the pool runs goes before it.
/// </summary>
public sealed record ProviderProfile
{
    // Cloudflare, towards clients: documented (cloudflare-docs, pull request 14536) and measured as 400.0 s (claude-code, issue 89608).
    static readonly TimeSpan Cloudflare = TimeSpan.FromSeconds(400);

    /// <summary>A host that is not known: nothing assumed, everything learned from its answers.</summary>
    public static ProviderProfile Default { get; } = new() { Name = "Default" };

    /// <summary>OpenAI.</summary>
    public static ProviderProfile OpenAI { get; } = new()
    {
        Name = "OpenAI",
        Hosts = ["api.openai.com"],
        IdleLimit = Cloudflare,   // api.openai.com is behind it (community.openai.com/t/935514)
        StreamLimit = 100,        // seen by bolna (issue 770) and TensorZero (in its source)
        RateLimits = RateLimitFormat.OpenAI,   // platform.openai.com/docs/guides/rate-limits
        // No ping is documented for its streams, none was seen.
    };

    /// <summary>Azure OpenAI, any resource.</summary>
    public static ProviderProfile AzureOpenAI { get; } = new()
    {
        Name = "AzureOpenAI",
        Hosts = [".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com"],   // the endpoints of a resource: learn.microsoft.com, Azure OpenAI reference
        // Its idle limit is not documented and was not measured.
        RateLimits = RateLimitFormat.OpenAI,   // OpenAI's names; resets in whole seconds, unknown numbers as -1 (openai-dotnet, issue 838)
    };

    /// <summary>Anthropic.</summary>
    public static ProviderProfile Anthropic { get; } = new()
    {
        Name = "Anthropic",
        Hosts = ["api.anthropic.com"],
        IdleLimit = Cloudflare,
        StreamLimit = 100,        // seen by headroom (issue 2797) and TensorZero (in its source)
        RateLimits = RateLimitFormat.Anthropic,   // docs.anthropic.com/en/api/rate-limits
        PingInterval = TimeSpan.FromSeconds(30),   // "about every 15-30 s": litellm issue 36024, frontman issue 731
    };

    /// <summary>EzAI, which speaks Anthropic's protocol, with the key in <c>x-api-key</c>.</summary>
    public static ProviderProfile EzAI { get; } = new()
    {
        Name = "EzAI",
        Hosts = ["api.ezaiapi.com"],
        // What its own edge does is not known: of Anthropic's profile only the protocol holds.
        RateLimits = RateLimitFormat.Anthropic,
    };

    /// <summary>Groq.</summary>
    public static ProviderProfile Groq { get; } = new()
    {
        Name = "Groq",
        Hosts = ["api.groq.com"],
        RateLimits = RateLimitFormat.OpenAI,   // console.groq.com/docs/rate-limits: requests are per day, tokens per minute; retry-after only with 429
    };

    /// <summary>
    /// Google Gemini (the Gemini API, not Vertex AI). It documents no rate-limit headers; its refusals say in their body how long to
    /// wait.
    /// </summary>
    public static ProviderProfile Gemini { get; } = new() { Name = "Gemini", Hosts = ["generativelanguage.googleapis.com"] };

    /// <summary>Mistral. It documents no rate-limit headers.</summary>
    public static ProviderProfile Mistral { get; } = new() { Name = "Mistral", Hosts = ["api.mistral.ai"] };

    /// <summary>OpenRouter: reads <c>X-RateLimit-*</c>, whose reset is Unix time in milliseconds.</summary>
    public static ProviderProfile OpenRouter { get; } = new()
    {
        Name = "OpenRouter",
        Hosts = ["openrouter.ai"],
        RateLimits = RateLimitFormat.OpenRouter,   // openrouter.ai/docs/api-reference/limits: X-RateLimit-* on the error response
    };

    /// <summary>vLLM, and other servers on uvicorn. Also chosen for port 8000 of this machine.</summary>
    public static ProviderProfile Vllm { get; } = new()
    {
        Name = "vLLM",
        IdleLimit = TimeSpan.FromSeconds(5),   // uvicorn's timeout_keep_alive; vLLM passes VLLM_HTTP_TIMEOUT_KEEP_ALIVE to it (vllm: entrypoints/launcher.py, envs.py), 5 too
        RateLimits = RateLimitFormat.None,
    };

    /// <summary>Ollama. Also chosen for port 11434 of this machine.</summary>
    public static ProviderProfile Ollama { get; } = new()
    {
        Name = "Ollama",

        // Ours, on the safe side: Ollama gives Go's server no idle limit (ollama: server/routes.go), but it is often reached through a
        // proxy on Node or uvicorn, where it is 5 s. A new connection within a machine costs a fraction of a millisecond, a call that dies
        // costs the whole answer.
        IdleLimit = TimeSpan.FromSeconds(5),
        RateLimits = RateLimitFormat.None,
    };

    /// <summary>Every profile that the library knows.</summary>
    public static IReadOnlyList<ProviderProfile> All { get; } = [Default, OpenAI, AzureOpenAI, Anthropic, EzAI, Groq, Gemini, Mistral, OpenRouter, Vllm, Ollama];

    /// <summary>What it is called in configuration and in statistics; case does not matter there.</summary>
    public required string Name { get; init; }

    /// <summary>
    /// The hosts it is chosen for: a whole name (<c>api.openai.com</c>), or the end of one with a dot before it (<c>.openai.azure.com</c>).
    /// Default: none, then it is chosen by name only. Of a profile of your own they are not looked at.
    /// </summary>
    public IReadOnlyList<string> Hosts { get; init; } = [];

    /// <summary>
    /// How long the server keeps a connection that carries nothing; more than 0. The pool ends idle connections a margin before it.
    /// Default: null, not known: then it is learned.
    /// </summary>
    public TimeSpan? IdleLimit { get; init; }

    /// <summary>
    /// How many HTTP/2 streams a connection is expected to carry, 1 or more; what the server announces in SETTINGS goes before it. Default:
    /// null, not known.
    /// </summary>
    public int? StreamLimit { get; init; }

    /// <summary>
    /// The headers its answers tell rate limits in. Default: <see cref="RateLimitFormat.Any"/>, since looking for all of them costs little.
    /// </summary>
    public RateLimitFormat RateLimits { get; init; }

    /// <summary>
    /// The longest time between two pings that a stream of it was seen to send while the model thinks: a <see cref="PoolTimeouts.Read"/>
    /// below that ends streams that are well. Default: null, it sends none or that is not known.
    /// </summary>
    public TimeSpan? PingInterval { get; init; }

    /// <summary>The profile of that name among <see cref="All"/>, in any case; null when there is none.</summary>
    public static ProviderProfile? Find(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return All.FirstOrDefault(profile => string.Equals(profile.Name, name, StringComparison.OrdinalIgnoreCase));
    }

    /// <summary>Its name.</summary>
    public override string ToString() => Name;

    /// <summary>The profile of a host; <see cref="Default"/> when it is not known.</summary>
    internal static ProviderProfile Of(string host, int port)
    {
        if (IsThisMachine(host))
        {
            // Only the two ports that a local server of models has by default, and only a lower idle limit comes of it. Port 8000 may be
            // something else: most likely uvicorn, whose default port and limit these are. Where the guess is wrong, a call after a pause
            // of seconds opens a new connection within the machine. Any other port stays unknown: an answer that says nothing of its limits
            // is no reason to assume one.
            return port switch
            {
                11434 => Ollama,
                8000 => Vllm,
                _ => Default,
            };
        }

        foreach (var profile in All)
        {
            foreach (var known in profile.Hosts)
            {
                if (known[0] == '.' ? host.EndsWith(known, StringComparison.OrdinalIgnoreCase) && host.Length > known.Length : string.Equals(host, known, StringComparison.OrdinalIgnoreCase))
                {
                    return profile;
                }
            }
        }

        return Default;
    }

    static bool IsThisMachine(string host) =>
        string.Equals(host, "localhost", StringComparison.OrdinalIgnoreCase) || (IPAddress.TryParse(host, out var address) && IPAddress.IsLoopback(address));
}
