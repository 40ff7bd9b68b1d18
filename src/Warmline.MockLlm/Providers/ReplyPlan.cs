using System.Globalization;
using Microsoft.AspNetCore.Http;

namespace Warmline.MockLlm;

/// <summary>What one request is answered: the options, over them the request's <c>x-mock-*</c> headers, over them the script's reply.</summary>
internal sealed record ReplyPlan
{
    public int Status { get; init; } = 200;
    public string? ErrorMessage { get; init; }
    public TimeSpan? RetryAfter { get; init; }
    public IReadOnlyDictionary<string, string>? Headers { get; init; }
    public TimeSpan Delay { get; init; }
    public int Tokens { get; init; }

    /// <summary>The number of tokens was asked for by header or script, so max_tokens does not cut it.</summary>
    public bool TokensFixed { get; init; }
    public TimeSpan TokenGap { get; init; }
    public bool Abort { get; init; }
    public int AbortAfterTokens { get; init; } = int.MaxValue;
    public bool BeforeBody { get; init; }

    public static ReplyPlan Resolve(MockLlmOptions options, IHeaderDictionary headers, MockReply? reply, int attempt)
    {
        string? bad = null;
        var status = (int?)Number("x-mock-status", 200, 599);
        var failFirst = Number("x-mock-fail-first", 0, int.MaxValue);
        var tokens = (int?)Number("x-mock-tokens", 0, 10_000_000);
        var gap = Number("x-mock-token-gap-ms", 0, 3_600_000);
        var service = Number("x-mock-service-ms", 0, 86_400_000);
        var retryAfter = Number("x-mock-retry-after", 0, 86_400);
        if (failFirst is not null)
        {
            bad ??= headers.ContainsKey("x-mock-id") ? null : "x-mock-fail-first needs an x-mock-id, by which the attempts are told apart";
            status = attempt <= failFirst ? status ?? 503 : null;
        }

        var plan = new ReplyPlan
        {
            Status = reply?.Status ?? status ?? 200,
            ErrorMessage = reply?.ErrorMessage,
            RetryAfter = reply?.RetryAfter ?? Scaled(retryAfter, TimeSpan.TicksPerSecond),
            Headers = reply?.Headers,
            Delay = reply?.DelayBeforeHeaders ?? Scaled(service, TimeSpan.TicksPerMillisecond) ?? options.ServiceTime,
            Tokens = reply?.Tokens ?? tokens ?? options.Tokens,
            TokensFixed = (reply?.Tokens ?? tokens) is not null,
            TokenGap = reply?.TokenGap ?? Scaled(gap, TimeSpan.TicksPerMillisecond) ?? options.TokenGap,
            Abort = reply?.Abort ?? false,
            AbortAfterTokens = reply?.AbortAfterTokens ?? int.MaxValue,
            BeforeBody = reply?.BeforeBody ?? false,
        };
        return bad is null ? plan : plan with { Status = 400, ErrorMessage = bad, RetryAfter = null };

        double? Number(string name, double least, double most)
        {
            if (!headers.TryGetValue(name, out var text))
            {
                return null;
            }

            if (double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var number) && number >= least && number <= most)
            {
                return number;
            }

            bad ??= $"{name} is '{text}', must be a number from {least} to {most}";
            return null;
        }
    }

    static TimeSpan? Scaled(double? value, long ticks) => value is { } number ? new TimeSpan((long)(number * ticks)) : null;
}
