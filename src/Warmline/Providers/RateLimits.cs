using System.Diagnostics.CodeAnalysis;

namespace Warmline;

/// <summary>What a provider counts.</summary>
public enum RateLimitKind
{
    /// <summary>Requests.</summary>
    Requests,

    /// <summary>Tokens, of the prompt and of the answer together.</summary>
    Tokens,

    /// <summary>Tokens of prompts. Anthropic does not count what came from its cache.</summary>
    InputTokens,

    /// <summary>Tokens of answers.</summary>
    OutputTokens,

    /// <summary>OpenAI: tokens of the project that the key belongs to.</summary>
    ProjectTokens,

    /// <summary>Anthropic's Priority Tier: tokens of prompts.</summary>
    PriorityInputTokens,

    /// <summary>Anthropic's Priority Tier: tokens of answers.</summary>
    PriorityOutputTokens,
}

/// <summary>What is known of one of a provider's limits, by what its answers said last.</summary>
/// <param name="Kind">What is counted.</param>
/// <param name="Limit">What it lets through in one period; null when it does not say.</param>
/// <param name="Remaining">What is left of it, before the requests in flight; null when it does not say.</param>
/// <param name="ResetsIn">The time until all of it is there again; null when it does not say, or when that is over and nothing was said
/// since.</param>
/// <param name="Age">The time since it was told.</param>
public readonly record struct ProviderLimit(RateLimitKind Kind, long? Limit, long? Remaining, TimeSpan? ResetsIn, TimeSpan Age);

/// <summary>
/// One limit as one answer told it. A number or a time that was absent, negative or no such thing is -1 here, and null outside.
/// </summary>
[SuppressMessage("Performance", "CA1815", Justification = "Compared by nobody.")]
internal struct RateLimit
{
    long _limit;
    long _remaining;
    long _resetIn;

    public static RateLimit Unknown => new() { _limit = -1, _remaining = -1, _resetIn = -1 };

    public long? Limit
    {
        readonly get => _limit < 0 ? null : _limit;
        set => _limit = value ?? -1;
    }

    public long? Remaining
    {
        readonly get => _remaining < 0 ? null : _remaining;
        set => _remaining = value ?? -1;
    }

    /// <summary>Time from the answer to the moment at which the whole limit is there again.</summary>
    public TimeSpan? ResetIn
    {
        readonly get => _resetIn < 0 ? null : new TimeSpan(_resetIn);
        set => _resetIn = value?.Ticks ?? -1;
    }

    /// <summary>By how much <see cref="ResetIn"/> can be off, as what was sent counts whole seconds.</summary>
    public TimeSpan Slack { get; set; }

    public readonly bool IsEmpty => _limit < 0 && _remaining < 0 && _resetIn < 0;
}

/// <summary>What the headers of one answer say of the provider's limits. <c>default</c> is one that says nothing.</summary>
[SuppressMessage("Performance", "CA1815", Justification = "Compared by nobody.")]
internal struct RateLimits
{
    public const int Kinds = (int)RateLimitKind.PriorityOutputTokens + 1;

    // Few answers name more than three kinds, most none: made when the first is found.
    RateLimit[]? _limits;

    /// <summary>How long to wait before the next request; null when it does not say.</summary>
    public TimeSpan? RetryAfter { get; set; }

    /// <summary>No limit is named; there may be a <see cref="RetryAfter"/>.</summary>
    public readonly bool IsEmpty => _limits is null;

    /// <summary>What is said of a kind; null when nothing is.</summary>
    public readonly RateLimit? this[RateLimitKind kind] => _limits is { } limits && !limits[(int)kind].IsEmpty ? limits[(int)kind] : null;

    /// <summary>The place where what is said of a kind is kept.</summary>
    public ref RateLimit At(RateLimitKind kind)
    {
        if (_limits is null)
        {
            _limits = new RateLimit[Kinds];
            Array.Fill(_limits, RateLimit.Unknown);
        }

        return ref _limits[(int)kind];
    }
}
