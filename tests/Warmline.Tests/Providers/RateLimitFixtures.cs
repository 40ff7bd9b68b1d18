namespace Warmline.Tests.Providers;

/// <summary>
/// Headers of answers and what is to be read from them: kind, remaining/limit, time to the reset; then the wait. What is unknown is a question mark. The clock
/// stands at 12:00:00 on 1 January 2030. Values are those of the providers' documentation and of answers quoted in public issues.
/// </summary>
internal static class RateLimitFixtures
{
    /// <summary>One line each: name | headers with ; between them | expected.</summary>
    public static IEnumerable<(string Name, string Headers, string Expected)> All => Lines.Split('\n', StringSplitOptions.RemoveEmptyEntries).Where(line => !line.StartsWith('#'))
        .Select(line => line.Split('|', StringSplitOptions.TrimEntries)).Select(parts => (parts[0], parts[1], parts[2]));

    const string Lines = """
        # OpenAI: platform.openai.com/docs/guides/rate-limits
        openai, documented example | x-ratelimit-limit-requests: 60; x-ratelimit-limit-tokens: 150000; x-ratelimit-remaining-requests: 59; x-ratelimit-remaining-tokens: 149984; x-ratelimit-reset-requests: 1s; x-ratelimit-reset-tokens: 6m0s | requests 59/60 1; tokens 149984/150000 360
        openai, milliseconds | x-ratelimit-limit-requests: 500; x-ratelimit-remaining-requests: 499; x-ratelimit-reset-requests: 120ms | requests 499/500 0.12
        openai, all sorts at once | x-ratelimit-limit-requests: 10000; x-ratelimit-remaining-requests: 9999; x-ratelimit-reset-requests: 6ms; x-ratelimit-limit-tokens: 30000000; x-ratelimit-remaining-tokens: 29999979; x-ratelimit-reset-tokens: 0s | requests 9999/10000 0.006; tokens 29999979/30000000 0
        openai, days of requests | x-ratelimit-limit-requests: 200; x-ratelimit-remaining-requests: 0; x-ratelimit-reset-requests: 23h59m8.64s | requests 0/200 86348.64
        openai, project | x-ratelimit-limit-project-tokens: 50000; x-ratelimit-remaining-project-tokens: 100; x-ratelimit-reset-project-tokens: 59.88s | projecttokens 100/50000 59.88
        openai, refused | x-ratelimit-limit-requests: 3; x-ratelimit-remaining-requests: 0; x-ratelimit-reset-requests: 20s; retry-after: 20; retry-after-ms: 19873 | requests 0/3 20; wait 19.873
        openai, tokens only | x-ratelimit-limit-tokens: 1000000; x-ratelimit-remaining-tokens: 999990; x-ratelimit-reset-tokens: 0s | tokens 999990/1000000 0
        openai, others of its headers | openai-processing-ms: 120; x-request-id: req_1; openai-version: 2020-10-01 |
        openai, upper case | X-RateLimit-Limit-Requests: 60; X-RATELIMIT-REMAINING-REQUESTS: 1; x-RateLimit-Reset-Requests: 1m | requests 1/60 60
        openai, no reset | x-ratelimit-limit-requests: 60; x-ratelimit-remaining-requests: 2 | requests 2/60 ?
        openai, reset alone | x-ratelimit-reset-requests: 2s | requests ?/? 2
        openai, overloaded | retry-after: 5; x-should-retry: true | wait 5
        # Azure OpenAI: openai-dotnet issue 838, learn.microsoft.com on quota
        azure, usual | x-ratelimit-remaining-requests: 9; x-ratelimit-remaining-tokens: 9983; x-ms-region: Sweden Central | requests 9/? ?; tokens 9983/? ?
        azure, unknown numbers | x-ratelimit-limit-tokens: -1; x-ratelimit-remaining-tokens: -1; x-ratelimit-reset-tokens: 0 | tokens ?/? 0
        azure, all unknown | x-ratelimit-limit-tokens: -1; x-ratelimit-remaining-tokens: -1 |
        azure, seconds | x-ratelimit-remaining-tokens: 0; x-ratelimit-reset-tokens: 37 | tokens 0/? 37
        azure, refused | retry-after: 24; retry-after-ms: 23642; x-ratelimit-reset-requests: 24 | requests ?/? 24; wait 23.642
        azure, milliseconds only | retry-after-ms: 1500 | wait 1.5
        azure, nothing left | x-ratelimit-remaining-requests: 0; x-ratelimit-limit-requests: 10; x-ratelimit-reset-requests: 0 | requests 0/10 0
        # Anthropic: docs.anthropic.com/en/api/rate-limits; the first as a test recording of tidyllm has it
        anthropic, as recorded | date: Thu, 21 Aug 2025 12:41:00 GMT; anthropic-ratelimit-input-tokens-limit: 80000; anthropic-ratelimit-input-tokens-remaining: 80000; anthropic-ratelimit-input-tokens-reset: 2025-08-21T12:40:59Z; anthropic-ratelimit-output-tokens-limit: 16000; anthropic-ratelimit-output-tokens-remaining: 16000; anthropic-ratelimit-output-tokens-reset: 2025-08-21T12:41:00Z; anthropic-ratelimit-requests-limit: 1000; anthropic-ratelimit-requests-remaining: 999; anthropic-ratelimit-requests-reset: 2025-08-21T12:40:59Z; anthropic-ratelimit-tokens-limit: 96000; anthropic-ratelimit-tokens-remaining: 96000; anthropic-ratelimit-tokens-reset: 2025-08-21T12:40:59Z; request-id: req_1 | requests 999/1000 0; tokens 96000/96000 0; inputtokens 80000/80000 0; outputtokens 16000/16000 1
        anthropic, refused | date: Tue, 26 Mar 2024 19:59:59 GMT; anthropic-ratelimit-requests-limit: 5; anthropic-ratelimit-requests-remaining: 0; anthropic-ratelimit-requests-reset: 2024-03-26T20:00:00Z; anthropic-ratelimit-tokens-limit: 25000; anthropic-ratelimit-tokens-remaining: 16000; anthropic-ratelimit-tokens-reset: 2024-03-26T20:00:00Z; x-should-retry: true | requests 0/5 2; tokens 16000/25000 2
        anthropic, told to wait | retry-after: 12; anthropic-ratelimit-requests-remaining: 0; anthropic-ratelimit-requests-limit: 50 | requests 0/50 ?; wait 12
        anthropic, priority | anthropic-priority-input-tokens-limit: 10000; anthropic-priority-input-tokens-remaining: 9618; anthropic-priority-input-tokens-reset: 2030-01-01T12:00:30Z; anthropic-priority-output-tokens-limit: 2000; anthropic-priority-output-tokens-remaining: 0; anthropic-priority-output-tokens-reset: 2030-01-01T12:01:00Z | priorityinputtokens 9618/10000 31; priorityoutputtokens 0/2000 61
        anthropic, no date: our clock | anthropic-ratelimit-requests-remaining: 3; anthropic-ratelimit-requests-reset: 2030-01-01T12:00:10Z | requests 3/? 11
        anthropic, a date of another century: the answer's clock counts | date: Mon, 01 Jan 2001 00:00:00 GMT; anthropic-ratelimit-requests-reset: 2001-01-01T00:00:05Z | requests ?/? 6
        anthropic, fraction of a second | anthropic-ratelimit-requests-reset: 2030-01-01T12:00:10.25Z | requests ?/? 10.25
        anthropic, nanoseconds | anthropic-ratelimit-requests-reset: 2030-01-01T12:00:10.123456789Z | requests ?/? 10.1234567
        anthropic, another zone | anthropic-ratelimit-requests-reset: 2030-01-01T14:00:10+02:00 | requests ?/? 11
        anthropic, zone behind | anthropic-ratelimit-requests-reset: 2030-01-01T07:00:10-05:00 | requests ?/? 11
        anthropic, lower case | anthropic-ratelimit-requests-reset: 2030-01-01t12:00:10z | requests ?/? 11
        anthropic, long over | anthropic-ratelimit-requests-reset: 2029-12-31T12:00:00Z | requests ?/? 0
        anthropic, over since less than the second added | anthropic-ratelimit-requests-reset: 2030-01-01T11:59:59.9Z | requests ?/? 0
        anthropic, subscription | anthropic-ratelimit-unified-status: rejected; anthropic-ratelimit-unified-reset: 1893500000; anthropic-ratelimit-unified-5h-utilization: 1.08; retry-after: 13262 | wait 13262
        anthropic, others of its headers | anthropic-organization-id: 36562039-1ae4-48e6-ae28-1e517e3d2d12; anthropic-version: 2023-06-01 |
        anthropic, date of no known form | date: yesterday; anthropic-ratelimit-requests-reset: 2030-01-01T12:00:10Z | requests ?/? 11
        # Groq: console.groq.com/docs/rate-limits
        groq, documented example | retry-after: 2; x-ratelimit-limit-requests: 14400; x-ratelimit-limit-tokens: 18000; x-ratelimit-remaining-requests: 14370; x-ratelimit-remaining-tokens: 17997; x-ratelimit-reset-requests: 2m59.56s; x-ratelimit-reset-tokens: 7.66s | requests 14370/14400 179.56; tokens 17997/18000 7.66; wait 2
        groq, more digits than a clock tick | x-ratelimit-reset-tokens: 12.999999ms | tokens ?/? 0.013
        # Durations as Go writes them
        hours, minutes, seconds | x-ratelimit-reset-requests: 1h2m3s | requests ?/? 3723
        microseconds, plain | x-ratelimit-reset-requests: 500us | requests ?/? 0.0005
        microseconds, as UTF-8 read for Latin-1 | x-ratelimit-reset-requests: 500Âµs | requests ?/? 0.0005
        nanoseconds, up to a tick | x-ratelimit-reset-requests: 1ns | requests ?/? 0.0000001
        a fraction before the point left out | x-ratelimit-reset-requests: .5s | requests ?/? 0.5
        zero | x-ratelimit-reset-requests: 0s | requests ?/? 0
        seconds with decimals, no unit | x-ratelimit-reset-requests: 1.5 | requests ?/? 1.5
        # Retry-After: RFC 9110, section 10.2.3
        wait, date | date: Tue, 01 Jan 2030 12:00:00 GMT; retry-after: Tue, 01 Jan 2030 12:00:30 GMT | wait 31
        wait, date without the answer's own | retry-after: Tue, 01 Jan 2030 12:00:30 GMT | wait 31
        wait, date that is over | retry-after: Tue, 01 Jan 2030 11:00:00 GMT | wait 0
        wait, date of RFC 850 | retry-after: Tuesday, 01-Jan-30 12:00:30 GMT | wait 31
        wait, date of asctime | retry-after: Tue Jan  1 12:00:30 2030 | wait 31
        wait, decimals | retry-after: 0.25 | wait 0.25
        wait, zero | retry-after: 0 | wait 0
        wait, milliseconds with decimals | retry-after-ms: 12.5; retry-after: 1 | wait 0.0125
        wait, milliseconds that are none | retry-after-ms: soon; retry-after: 3 | wait 3
        wait, negative milliseconds | retry-after-ms: -5; retry-after: 3 | wait 3
        # x-ms-retry-after-ms: Azure (core-rest-pipeline: AllRetryAfterHeaders), in its order
        wait, of Azure | x-ms-retry-after-ms: 4500 | wait 4.5
        wait, of Azure, decimals and case | X-MS-Retry-After-Ms: 4500.5 | wait 4.5005
        wait, of Azure and coarser | retry-after: 1; x-ms-retry-after-ms: 4500 | wait 4.5
        wait, of all three | x-ms-retry-after-ms: 9000; retry-after: 9; retry-after-ms: 2500 | wait 2.5
        wait, of Azure, none | x-ms-retry-after-ms: soon; retry-after: 3 | wait 3
        wait, of Azure, behind none | retry-after-ms: x; x-ms-retry-after-ms: 4500; retry-after: 3 | wait 4.5
        wait, of Azure, negative alone | x-ms-retry-after-ms: -4500 |
        wait, of Azure, beyond all use | x-ms-retry-after-ms: 1e99; retry-after: 2 | wait 2
        wait, a name that is close | x-ms-retry-after: 4; x-ms-retry-after-msec: 4500 |
        # Others' resets are read for their profile only
        plain names, under any other | X-RateLimit-Limit: 50; X-RateLimit-Remaining: 0; X-RateLimit-Reset: 1893499230000 |
        # What is none
        nothing | content-type: text/plain |
        empty | x-ratelimit-remaining-requests: ; x-ratelimit-reset-requests: ; retry-after: ; retry-after-ms: |
        words | x-ratelimit-remaining-requests: many; x-ratelimit-limit-requests: ∞; x-ratelimit-reset-requests: later; retry-after: soon |
        not a number, infinity | retry-after: NaN; retry-after-ms: Infinity; x-ratelimit-reset-requests: NaN; x-ratelimit-reset-tokens: Infinity; x-ratelimit-remaining-tokens: NaN |
        negative times | retry-after: -1; x-ratelimit-reset-requests: -5s; x-ratelimit-reset-tokens: -3 |
        more than a long | x-ratelimit-limit-requests: 9223372036854775808; x-ratelimit-remaining-requests: 99999999999999999999999999999999999999 |
        the most of a long | x-ratelimit-remaining-tokens: 9223372036854775807 | tokens 9223372036854775807/? ?
        times beyond all use | retry-after: 99999999999999999999; retry-after-ms: 1e99; x-ratelimit-reset-requests: 999999999h; x-ratelimit-reset-tokens: 79228162514264337593543950336s |
        times that are beyond it together | x-ratelimit-reset-requests: 8000h8000h |
        a date in seconds | x-ratelimit-reset-requests: 1893500000 |
        a year that is none | anthropic-ratelimit-requests-reset: 9999-12-31T23:59:59Z; anthropic-ratelimit-tokens-reset: 2030-13-41T25:61:61Z |
        decimals where whole numbers belong | x-ratelimit-remaining-requests: 5.5; x-ratelimit-limit-requests: 1e3 |
        thousands | x-ratelimit-remaining-requests: 1,000; x-ratelimit-limit-requests: 1_000 |
        a unit that is none | x-ratelimit-reset-requests: 5 minutes; x-ratelimit-reset-tokens: 5d |
        a unit without a number | x-ratelimit-reset-requests: s; x-ratelimit-reset-tokens: 1sm |
        a number without a unit behind one with | x-ratelimit-reset-requests: 1m30 |
        points | x-ratelimit-reset-requests: 1.2.3s; x-ratelimit-reset-tokens: . |
        a date without a zone | anthropic-ratelimit-requests-reset: 2030-01-01T12:00:10 |
        a date without digits behind the point | anthropic-ratelimit-requests-reset: 2030-01-01T12:00:10.Z |
        another weekday than the date's | retry-after: Sun, 01 Jan 2030 12:00:30 GMT |
        plus | x-ratelimit-remaining-requests: +5; retry-after: +5 | requests 5/? ?
        blanks | x-ratelimit-remaining-requests:   7  ; retry-after:  3 | requests 7/? ?; wait 3
        names that are close | x-ratelimit-remaining: 5; x-ratelimit-remaining-images: 5; x-ratelimit-requests: 5; x-ratelimit-: 5; anthropic-ratelimit-: 1; anthropic-ratelimit-requests: 5; anthropic-priority-requests-limit: 5; x-ratelimit-left-requests: 4; anthropic-ratelimit-project-tokens-limit: 1; x-ratelimit-limit-input-tokens: 3; retry-afterwards: 7 |
        one good, one bad | x-ratelimit-remaining-requests: x; x-ratelimit-limit-requests: 60; x-ratelimit-reset-requests: 1s | requests ?/60 1
        sent twice: the first counts | x-ratelimit-remaining-requests: 5; x-ratelimit-remaining-requests: 9; retry-after: 4; retry-after: 8 | requests 5/? ?; wait 4
        put together by a proxy: neither | x-ratelimit-remaining-requests: 5, 9 |
        both families | x-ratelimit-remaining-requests: 5; anthropic-ratelimit-tokens-remaining: 6 | requests 5/? ?; tokens 6/? ?
        a moment in OpenAI's headers | x-ratelimit-reset-requests: 2030-01-01T12:00:10Z | requests ?/? 11
        a duration in Anthropic's | anthropic-ratelimit-requests-reset: 7.66s | requests ?/? 7.66
        """;
}
