using System.Buffers;
using System.Globalization;
using System.Net.Http.Headers;

namespace Warmline.Providers;

/// <summary>
/// Reads the headers in which providers tell their rate limits. Whatever they hold, nothing is thrown, and what is no number or time counts
/// as absent: a header must never fail a call that was answered. Of a header that was sent twice the first value counts.
/// </summary>
/// <remarks>
/// OpenAI, Azure OpenAI and Groq: <c>x-ratelimit-{limit,remaining,reset}-{requests,tokens,project-tokens}</c>. Anthropic:
/// <c>anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}</c> and
/// <c>anthropic-priority-{input,output}-tokens-…</c>. OpenRouter: <c>X-RateLimit-{Limit,Remaining,Reset}</c> on errors
/// (openrouter.ai/docs/api-reference/limits), reset as Unix time in milliseconds (everruns, pull request 2280). Those names mean
/// something else elsewhere (GitHub: seconds), so they are read for its profile only. Not read: <c>anthropic-ratelimit-unified-*</c>, the
/// windows of subscriptions, as they are not documented; their refusals carry <c>retry-after</c> as well.
/// </remarks>
internal static class RateLimitHeaders
{
    /// <summary>Nobody's window is longer: a number above it is a date in seconds, or nonsense.</summary>
    static readonly TimeSpan Longest = TimeSpan.FromDays(366);

    static readonly TimeSpan Second = TimeSpan.FromSeconds(1);

    static readonly SearchValues<char> Digits = SearchValues.Create("0123456789.");

    // RFC 9110, section 5.6.7.
    static readonly string[] HttpDates = ["ddd, dd MMM yyyy HH:mm:ss 'GMT'", "dddd, dd-MMM-yy HH:mm:ss 'GMT'", "ddd MMM d HH:mm:ss yyyy"];

    /// <summary>What the headers of an answer say.</summary>
    /// <param name="headers">The headers, which are read as they came and left as they are.</param>
    /// <param name="format">The families to look for.</param>
    /// <param name="time">Asked for the date where an answer needs it and does not bring its own.</param>
    public static RateLimits Read(HttpResponseHeaders headers, RateLimitFormat format, TimeProvider time)
    {
        var found = default(RateLimits);
        TimeSpan? milliseconds = null;
        TimeSpan? azure = null;

        // One pass: an answer has a dozen headers or two, and their first letters settle nearly all of them.
        foreach (var (name, values) in headers.NonValidated)
        {
            if (name.Length < 11)
            {
                continue;
            }

            switch (name[0] | 0x20)
            {
                case 'x' when format is RateLimitFormat.Any or RateLimitFormat.OpenAI && name.StartsWith("x-ratelimit-", StringComparison.OrdinalIgnoreCase):
                    OpenAI(ref found, name.AsSpan("x-ratelimit-".Length), values, headers, time);
                    break;
                case 'x' when format is RateLimitFormat.OpenRouter && name.StartsWith("x-ratelimit-", StringComparison.OrdinalIgnoreCase):
                    OpenRouter(ref found, name.AsSpan("x-ratelimit-".Length), First(values), headers, time);
                    break;
                case 'x' when name.Equals("x-ms-retry-after-ms", StringComparison.OrdinalIgnoreCase):
                    azure = Milliseconds(values);
                    break;
                case 'a' when format is RateLimitFormat.Any or RateLimitFormat.Anthropic && name.StartsWith("anthropic-", StringComparison.OrdinalIgnoreCase):
                    Anthropic(ref found, name.AsSpan("anthropic-".Length), values, headers, time);
                    break;
                case 'r' when name.Equals("retry-after", StringComparison.OrdinalIgnoreCase):
                    found.RetryAfter = Wait(First(values), headers, time);
                    break;
                case 'r' when name.Equals("retry-after-ms", StringComparison.OrdinalIgnoreCase):
                    milliseconds = Milliseconds(values);
                    break;
            }
        }

        // In the order of Azure's SDK (core-rest-pipeline, throttlingRetryStrategy: AllRetryAfterHeaders). Its "retry-after-ms first" is
        // also OpenAI's (openai-python: _base_client.py). A value that cannot be parsed is skipped.
        found.RetryAfter = milliseconds ?? azure ?? found.RetryAfter;
        return found;
    }

    /// <summary><c>limit-requests</c>: what is told, then of what.</summary>
    static void OpenAI(ref RateLimits found, ReadOnlySpan<char> name, HeaderStringValues values, HttpResponseHeaders headers, TimeProvider time)
    {
        if (name.IndexOf('-') is var dash && dash > 0 && KindOf(name[(dash + 1)..]) is { } kind && kind is RateLimitKind.Requests or RateLimitKind.Tokens or RateLimitKind.ProjectTokens)
        {
            Take(ref found, kind, name[..dash], First(values), headers, time);
        }
    }

    /// <summary><c>ratelimit-requests-limit</c>, <c>priority-input-tokens-limit</c>: of what, then what is told.</summary>
    static void Anthropic(ref RateLimits found, ReadOnlySpan<char> name, HeaderStringValues values, HttpResponseHeaders headers, TimeProvider time)
    {
        var isPriority = name.StartsWith("priority-", StringComparison.OrdinalIgnoreCase);
        if (!isPriority && !name.StartsWith("ratelimit-", StringComparison.OrdinalIgnoreCase))
        {
            return;
        }

        var rest = name[(isPriority ? "priority-".Length : "ratelimit-".Length)..];
        if (rest.LastIndexOf('-') is var dash && dash > 0 && KindOf(rest[..dash]) is { } kind && (isPriority ? PriorityOf(kind) : kind is RateLimitKind.ProjectTokens ? null : kind) is { } counted)
        {
            Take(ref found, counted, rest[(dash + 1)..], First(values), headers, time);
        }
    }

    /// <summary><c>limit</c>, <c>remaining</c>, <c>reset</c>: of requests.</summary>
    static void OpenRouter(ref RateLimits found, ReadOnlySpan<char> what, string? text, HttpResponseHeaders headers, TimeProvider time)
    {
        if (!what.Equals("reset", StringComparison.OrdinalIgnoreCase))
        {
            Take(ref found, RateLimitKind.Requests, what, text, headers, time);
        }
        else if (Number(text) is { } unix && unix <= DateTimeOffset.MaxValue.ToUnixTimeMilliseconds()
            && In(DateTimeOffset.FromUnixTimeMilliseconds(unix), headers, time, TimeSpan.Zero) is { } left)
        {
            ref var limit = ref found.At(RateLimitKind.Requests);
            limit.ResetIn = left;
            limit.Slack = Second;   // the answer's own date is cut off to whole seconds
        }
    }

    static RateLimitKind? KindOf(ReadOnlySpan<char> name) =>
        name.Equals("requests", StringComparison.OrdinalIgnoreCase) ? RateLimitKind.Requests
        : name.Equals("tokens", StringComparison.OrdinalIgnoreCase) ? RateLimitKind.Tokens
        : name.Equals("input-tokens", StringComparison.OrdinalIgnoreCase) ? RateLimitKind.InputTokens
        : name.Equals("output-tokens", StringComparison.OrdinalIgnoreCase) ? RateLimitKind.OutputTokens
        : name.Equals("project-tokens", StringComparison.OrdinalIgnoreCase) ? RateLimitKind.ProjectTokens
        : null;

    static RateLimitKind? PriorityOf(RateLimitKind kind) => kind switch
    {
        RateLimitKind.InputTokens => RateLimitKind.PriorityInputTokens,
        RateLimitKind.OutputTokens => RateLimitKind.PriorityOutputTokens,
        _ => null,
    };

    static void Take(ref RateLimits found, RateLimitKind kind, ReadOnlySpan<char> what, string? text, HttpResponseHeaders headers, TimeProvider time)
    {
        if (what.Equals("limit", StringComparison.OrdinalIgnoreCase))
        {
            if (Number(text) is { } limit)
            {
                found.At(kind).Limit = limit;
            }
        }
        else if (what.Equals("remaining", StringComparison.OrdinalIgnoreCase))
        {
            if (Number(text) is { } remaining)
            {
                found.At(kind).Remaining = remaining;
            }
        }
        else if (what.Equals("reset", StringComparison.OrdinalIgnoreCase) && Reset(text, headers, time) is var (resetIn, slack))
        {
            ref var limit = ref found.At(kind);
            limit.ResetIn = resetIn;
            limit.Slack = slack;
        }
    }

    static string? First(HeaderStringValues values)
    {
        foreach (var value in values)
        {
            return value;
        }

        return null;
    }

    /// <summary>A whole number, 0 or more. Azure OpenAI sends -1 for one that it does not know (openai-dotnet, issue 838).</summary>
    static long? Number(string? text) =>
        long.TryParse(text, NumberStyles.AllowLeadingSign | NumberStyles.AllowLeadingWhite | NumberStyles.AllowTrailingWhite, CultureInfo.InvariantCulture, out var number) && number >= 0
            ? number : null;

    /// <summary>A duration as Go writes it (OpenAI, Groq), seconds (Azure OpenAI), or a moment in RFC 3339 (Anthropic).</summary>
    static (TimeSpan In, TimeSpan Slack)? Reset(string? text, HttpResponseHeaders headers, TimeProvider time)
    {
        var trimmed = text.AsSpan().Trim();
        if (trimmed.Length >= 20 && trimmed[4] == '-')
        {
            if (Moment(trimmed) is not var (moment, isWhole))
            {
                return null;
            }

            // The moment and the answer's date are cut off to whole seconds, each. The first makes the difference up to 1 s too short, so
            // that second is added: to come late costs a second, to come early a refusal. The second makes it up to 1 s too long.
            return In(moment, headers, time, isWhole ? Second : TimeSpan.Zero) is { } left ? (left, isWhole ? 2 * Second : Second) : null;
        }

        return GoDuration(trimmed) is { } duration ? (duration, duration.Ticks % TimeSpan.TicksPerSecond == 0 ? Second : TimeSpan.Zero) : null;
    }

    static TimeSpan? Milliseconds(HeaderStringValues values) => Scaled(First(values).AsSpan().Trim(), TimeSpan.TicksPerMillisecond);

    /// <summary><c>Retry-After</c>: seconds, or a date (RFC 9110, section 10.2.3).</summary>
    static TimeSpan? Wait(string? text, HttpResponseHeaders headers, TimeProvider time)
    {
        var trimmed = text.AsSpan().Trim();
        return Scaled(trimmed, TimeSpan.TicksPerSecond) ?? (HttpDate(trimmed) is { } moment ? In(moment, headers, time, Second) : null);
    }

    /// <summary>
    /// The time until a moment of the server's clock: by the answer's date where it has one, as clocks differ; zero when it is over.
    /// </summary>
    static TimeSpan? In(DateTimeOffset moment, HttpResponseHeaders headers, TimeProvider time, TimeSpan late)
    {
        var now = (headers.NonValidated.TryGetValues("Date", out var date) ? HttpDate(First(date).AsSpan().Trim()) : null) ?? time.GetUtcNow();
        var left = moment - now;
        return left > Longest ? null : left <= -late ? TimeSpan.Zero : left + late;
    }

    static DateTimeOffset? HttpDate(ReadOnlySpan<char> text) =>
        text.Length > 20 && char.IsAsciiLetter(text[0])
        && DateTimeOffset.TryParseExact(text, HttpDates, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal | DateTimeStyles.AllowInnerWhite, out var date) ? date : null;

    /// <summary>RFC 3339, section 5.6, with any number of digits behind the second.</summary>
    static (DateTimeOffset At, bool IsWhole)? Moment(ReadOnlySpan<char> text)
    {
        const int Seconds = 19;   // yyyy-MM-ddTHH:mm:ss
        var zone = Seconds;
        if (text[Seconds] == '.')
        {
            zone++;
            while (zone < text.Length && char.IsAsciiDigit(text[zone]))
            {
                zone++;
            }
        }

        // In a buffer without the fraction: there is a format for a fraction, but it takes seven digits at most.
        Span<char> whole = stackalloc char[Seconds + 6];
        var offset = text[zone..];
        if (offset.Length is not (1 or 6) || zone == Seconds + 1)
        {
            return null;
        }

        text[..Seconds].ToUpperInvariant(whole);
        offset.ToUpperInvariant(whole[Seconds..]);
        if (!DateTimeOffset.TryParseExact(whole[..(Seconds + offset.Length)], "yyyy-MM-dd'T'HH:mm:ssK", CultureInfo.InvariantCulture, DateTimeStyles.None, out var at))
        {
            return null;
        }

        var digits = text[Seconds..zone];
        return digits.Length == 0 ? (at, true)
            : decimal.TryParse(digits.Length > 8 ? digits[..8] : digits, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var fraction)
                && at < DateTimeOffset.MaxValue - Second ? (at + new TimeSpan((long)(fraction * TimeSpan.TicksPerSecond)), false)
            : null;
    }

    /// <summary>Go's time.Duration: numbers, each with its unit (<c>1h2m3.5s</c>); also a bare number, which is seconds.</summary>
    static TimeSpan? GoDuration(ReadOnlySpan<char> text)
    {
        if (Scaled(text, TimeSpan.TicksPerSecond) is { } seconds)
        {
            return seconds;
        }

        if (text.IsEmpty)
        {
            return null;
        }

        var sum = TimeSpan.Zero;
        while (!text.IsEmpty)
        {
            var length = text.IndexOfAnyExcept(Digits);
            if (length < 0)
            {
                return null;
            }

            var unit = text[length..];
            var next = unit.IndexOfAny(Digits);
            unit = next < 0 ? unit : unit[..next];
            if (Scaled(text[..length], TicksOf(unit)) is not { } part || (sum += part) > Longest)
            {
                return null;
            }

            text = text[(length + unit.Length)..];
        }

        return sum;
    }

    static decimal TicksOf(ReadOnlySpan<char> unit) => unit switch
    {
        "h" => TimeSpan.TicksPerHour,
        "m" => TimeSpan.TicksPerMinute,
        "s" => TimeSpan.TicksPerSecond,
        "ms" => TimeSpan.TicksPerMillisecond,
        "us" or "µs" or "μs" or "Âµs" or "Î¼s" => TimeSpan.TicksPerMicrosecond,   // both signs for micro, and what is left of their UTF-8 in a header, which is read as Latin-1
        "ns" => 0.01m,
        _ => 0,
    };

    /// <summary>A number of 0 or more, with or without decimals, in units of so many ticks.</summary>
    public static TimeSpan? Scaled(ReadOnlySpan<char> text, decimal ticks) =>
        ticks > 0 && decimal.TryParse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var number) && number <= Longest.Ticks / ticks
            ? new TimeSpan((long)Math.Ceiling(number * ticks)) : null;
}
