using System.Globalization;
using Microsoft.AspNetCore.Http;

namespace Warmline.MockLlm;

/// <summary>
/// What one request is answered: the options, over them the request's <c>x-mock-*</c> headers, over them the script's reply.
/// </summary>
internal sealed record ReplyPlan
{
    const double Day = 86_400_000;

    public int Status { get; init; } = 200;
    public string? ErrorMessage { get; init; }
    public string? ErrorCode { get; init; }

    /// <summary>Refused by the rate limit: what its error is about, where that is not requests.</summary>
    public string? ErrorType { get; init; }
    public bool IsRefused { get; init; }
    public TimeSpan? RetryAfter { get; init; }
    public MockRetryAfterForms RetryAfterForms { get; init; }
    public bool? ShouldRetry { get; init; }
    public IReadOnlyDictionary<string, string>? Headers { get; init; }
    public int HeaderPadding { get; init; }
    public TimeSpan Delay { get; init; }
    public TimeSpan? DelayBeforeBody { get; init; }
    public int Tokens { get; init; }

    /// <summary>The number of tokens was asked for by header or script, so max_tokens does not cut it.</summary>
    public bool TokensFixed { get; init; }
    public TimeSpan TokenGap { get; init; }
    public TimeSpan? PingInterval { get; init; }
    public int? DribbleBytes { get; init; }
    public TimeSpan? DribbleGap { get; init; }
    public int? TruncateAfterBytes { get; init; }
    public TimeSpan? TailDelay { get; init; }
    public int ExtraBytes { get; init; }
    public bool BeforeBody { get; init; }
    public int? ReadBytesPerSecond { get; init; }
    public MockFault Fault { get; init; }
    public int? FaultAfterTokens { get; init; }

    /// <summary>The fault comes before anything was done with the request.</summary>
    public bool LeavesUnprocessed =>
        FaultAfterTokens is null && (Fault is MockFault.Refuse or MockFault.Downgrade || (BeforeBody && Fault is MockFault.Fin or MockFault.Reset or MockFault.Vanish));

    public static ReplyPlan Resolve(MockLlmOptions options, IHeaderDictionary headers, MockReply? reply, int attempt, bool isHttp2)
    {
        string? bad = null;
        var failFirst = Number("x-mock-fail-first", 0, int.MaxValue);
        if (failFirst is not null)
        {
            bad ??= headers.ContainsKey("x-mock-id") ? null : "x-mock-fail-first needs an x-mock-id, by which the attempts are told apart";
        }

        // Without that header every attempt gets what the headers ask for.
        var fails = failFirst is null || attempt <= failFirst;
        var fault = Named<MockFault>("x-mock-fault");
        var status = (int?)Number("x-mock-status", 200, 599) ?? (failFirst is null || fault is not null ? null : 503);
        (status, fault) = fails ? (status, fault) : (null, null);
        var tokens = (int?)Number("x-mock-tokens", 0, 10_000_000);
        var place = (int?)Number("x-mock-fault-after-tokens", 0, 10_000_000);
        var scripted = reply?.Fault;
        var scriptedPlace = reply?.FaultAfterTokens;
        var beforeBody = reply?.BeforeBody ?? false;
        if (reply is { Abort: true } or { AbortAfterTokens: not null })
        {
            (scripted, scriptedPlace, beforeBody) = (MockFault.InternalError, reply.Abort ? null : reply.AbortAfterTokens, beforeBody || reply.Abort);
        }

        fault = scripted ?? fault ?? MockFault.None;
        fault = fault is MockFault.Downgrade && !isHttp2 ? MockFault.None : fault;
        place = scripted is null ? place : scriptedPlace;
        var plan = new ReplyPlan
        {
            Status = reply?.Status ?? status ?? 200,
            ErrorMessage = reply?.ErrorMessage,
            ErrorCode = reply?.ErrorCode ?? (headers.TryGetValue("x-mock-error-code", out var errorCode) ? errorCode.ToString() : null),
            RetryAfter = reply?.RetryAfter ?? Scaled(Number("x-mock-retry-after", 0, 86_400), TimeSpan.TicksPerSecond),
            RetryAfterForms = reply?.RetryAfterForms ?? Named<MockRetryAfterForms>("x-mock-retry-after-forms") ?? MockRetryAfterForms.Default,
            ShouldRetry = reply?.ShouldRetry ?? Truth("x-mock-should-retry"),
            Headers = reply?.Headers,
            HeaderPadding = reply?.HeaderPadding ?? (int?)Number("x-mock-header-padding", 0, 16_000_000) ?? 0,
            Delay = reply?.DelayBeforeHeaders ?? MillisecondsOrNever("x-mock-service-ms") ?? options.ServiceTime,
            DelayBeforeBody = reply?.DelayBeforeBody ?? MillisecondsOrNever("x-mock-body-delay-ms"),
            Tokens = reply?.Tokens ?? tokens ?? options.Tokens,
            TokensFixed = (reply?.Tokens ?? tokens) is not null,
            TokenGap = reply?.TokenGap ?? Milliseconds("x-mock-token-gap-ms") ?? options.TokenGap,
            PingInterval = reply?.PingInterval ?? Milliseconds("x-mock-ping-ms"),
            DribbleBytes = reply?.DribbleBytes ?? (int?)Number("x-mock-dribble-bytes", 1, 16_000_000),
            DribbleGap = reply?.DribbleGap ?? Milliseconds("x-mock-dribble-gap-ms"),
            TruncateAfterBytes = Least(reply?.TruncateAfterBytes) ?? (int?)Number("x-mock-truncate-after-bytes", 0, int.MaxValue),
            TailDelay = reply?.TailDelay ?? MillisecondsOrNever("x-mock-tail-delay-ms"),
            ExtraBytes = reply?.ExtraBytes ?? (int?)Number("x-mock-extra-bytes", 0, 16_000_000) ?? 0,
            BeforeBody = beforeBody || (Truth("x-mock-before-body") ?? false),
            ReadBytesPerSecond = Least(reply?.ReadBytesPerSecond) ?? (int?)Number("x-mock-read-bytes-per-second", 0, int.MaxValue),
            Fault = fault.Value,
            // These three have no form in place of the answer but that at its beginning.
            FaultAfterTokens = Least(place) ?? (fault is MockFault.End or MockFault.ErrorEvent or MockFault.Failed ? 0 : null),
        };
        return bad is null ? plan : new ReplyPlan { Status = 400, ErrorMessage = bad };

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

        TimeSpan? Milliseconds(string name) => Scaled(Number(name, 0, Day), TimeSpan.TicksPerMillisecond);

        TimeSpan? MillisecondsOrNever(string name) =>
            headers.TryGetValue(name, out var text) && text == "never" ? Timeout.InfiniteTimeSpan : Milliseconds(name);

        bool? Truth(string name)
        {
            if (!headers.TryGetValue(name, out var text))
            {
                return null;
            }

            bad ??= text == "true" || text == "false" ? null : $"{name} is '{text}', must be true or false";
            return text == "true";
        }

        // As members of the enumeration, in words with hyphens: go-away for GoAway; several with commas where they combine.
        T? Named<T>(string name)
            where T : struct, Enum
        {
            if (!headers.TryGetValue(name, out var text))
            {
                return null;
            }

            if (Enum.TryParse<T>(text.ToString().Replace("-", "", StringComparison.Ordinal), ignoreCase: true, out var value) && !text.ToString().Any(char.IsAsciiDigit))
            {
                return value;
            }

            bad ??= $"{name} is '{text}', must be one of {string.Join(", ", Enum.GetNames<T>())}, in any case, with hyphens if you like";
            return null;
        }
    }

    static int? Least(int? value) => value is { } number ? Math.Max(0, number) : null;

    static TimeSpan? Scaled(double? value, long ticks) => value is { } number ? new TimeSpan((long)(number * ticks)) : null;
}
