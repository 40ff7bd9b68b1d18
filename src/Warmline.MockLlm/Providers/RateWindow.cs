namespace Warmline.MockLlm;

/// <summary>
/// A limit on requests and tokens, enforced: what is above it gets 429, and every answer says in its headers what is left.
/// </summary>
public sealed record MockRateLimit
{
    /// <summary>Requests in one <see cref="Window"/>, 1 or more. Only POST counts. Default: null, not limited.</summary>
    public int? Requests { get; init; }

    /// <summary>
    /// Tokens in one <see cref="Window"/>, 1 or more: those of the prompt and those that the answer will have. Default: null, not limited.
    /// </summary>
    public long? Tokens { get; init; }

    /// <summary>The time in which so many are let through, 10 ms to 1 day. Default: 1 min, as providers count.</summary>
    public TimeSpan Window { get; init; } = TimeSpan.FromMinutes(1);

    /// <summary>
    /// A bucket that refills all the time, as Anthropic's: the reset in the headers is when it would be full. Default: false: windows that
    /// begin at multiples of
    /// <see cref="Window"/> by the server's clock.
    /// </summary>
    public bool Refills { get; init; }
}

/// <summary>Requests and tokens that are left, for the rate-limit headers; enforced where the options say so.</summary>
internal sealed class RateWindow(MockRateLimit? limit)
{
    readonly Lock _lock = new();
    readonly TimeSpan _window = limit?.Window ?? TimeSpan.FromMinutes(1);
    double _requests = limit?.Requests ?? 10_000;
    double _tokens = limit?.Tokens ?? 2_000_000;
    DateTimeOffset _at;

    public long RequestLimit { get; } = limit?.Requests ?? 10_000;

    public long TokenLimit { get; } = limit?.Tokens ?? 2_000_000;

    public readonly record struct Reading(long Requests, long Tokens, TimeSpan RequestsReset, TimeSpan TokensReset);

    /// <summary>Counts a request.</summary>
    /// <returns>Null when it may be served; else the wait after which it could be, and whether it lacked tokens.</returns>
    public (TimeSpan Wait, bool IsTokens)? Take(DateTimeOffset now, long tokens)
    {
        lock (_lock)
        {
            Turn_NeedsLock(now);
            if (limit?.Requests is not null && _requests < 1)
            {
                return (Wait_NeedsLock(now, 1 - _requests, RequestLimit), false);
            }

            if (limit?.Tokens is not null && _tokens < tokens)
            {
                return (Wait_NeedsLock(now, tokens - _tokens, TokenLimit), true);
            }

            _requests = Math.Max(0, _requests - 1);
            _tokens = Math.Max(0, _tokens - tokens);
            return null;
        }
    }

    public Reading Read(DateTimeOffset now)
    {
        lock (_lock)
        {
            Turn_NeedsLock(now);
            return new Reading((long)_requests, (long)_tokens, Wait_NeedsLock(now, RequestLimit - _requests, RequestLimit), Wait_NeedsLock(now, TokenLimit - _tokens, TokenLimit));
        }
    }

    void Turn_NeedsLock(DateTimeOffset now)
    {
        if (limit is { Refills: true })
        {
            var share = _at == default ? 1 : Math.Max(0, (now - _at) / _window);   // a clock may be set back
            (_requests, _tokens, _at) = (Math.Min(RequestLimit, _requests + (share * RequestLimit)), Math.Min(TokenLimit, _tokens + (share * TokenLimit)), now);
            return;
        }

        var began = new DateTimeOffset(now.UtcTicks / _window.Ticks * _window.Ticks, TimeSpan.Zero);
        if (began > _at)
        {
            (_requests, _tokens, _at) = (RequestLimit, TokenLimit, began);
        }
    }

    /// <summary>Until so much more is there: in a window its end.</summary>
    TimeSpan Wait_NeedsLock(DateTimeOffset now, double missing, long whole) =>
        limit is { Refills: true } ? _window * (missing / whole) : _at + _window - now;
}
