namespace Warmline.Scheduling;

/// <summary>What the end of an HTTP/2 connection, or of a call on it, says about the origin's HTTP/2.</summary>
internal enum Http2Doubt
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>A call got no answer: weak, as a server that restarts does the same.</summary>
    NoAnswer,

    /// <summary>It broke before the server's SETTINGS, or calls that the server did not process were sent again without success.</summary>
    Broken,

    /// <summary>The server asked for HTTP/1.1: HTTP_1_1_REQUIRED or INADEQUATE_SECURITY (RFC 9113, section 7).</summary>
    Refused,
}

/// <summary>
/// Decides whether calls that may use either protocol use HTTP/2 to an origin. The pool chose HTTP/2 for most of them, so it must not
/// lose a call that HTTP/1.1 would have completed. If HTTP/2 is refused, or breaks before it ever brings an answer, these calls use
/// HTTP/1.1 for a while. Changed under the pool's lock, except by <see cref="Answered"/>.
/// </summary>
internal sealed class Http2Trust
{
    /// <summary>
    /// How long a refusal is remembered. Asking again costs one call a round trip and a handshake, and a server that changes its mind was
    /// reconfigured.
    /// </summary>
    public static readonly TimeSpan RefusalMemory = TimeSpan.FromMinutes(30);

    /// <summary>How long HTTP/2 that broke is avoided. Shorter, as it is a guess: the server may have been restarting.</summary>
    public static readonly TimeSpan BreakMemory = TimeSpan.FromMinutes(10);

    /// <summary>How long HTTP/1.1 is not tried again after it has failed as well.</summary>
    static readonly TimeSpan FailureMemory = TimeSpan.FromMinutes(1);

    /// <summary>Calls without an answer, with none answered between them, that count as broken HTTP/2.</summary>
    const int ManyWithoutAnswer = 2;

    TimeSpan _notBefore = TimeSpan.MinValue;
    TimeSpan _withoutAnswerAt = TimeSpan.MinValue;
    int _withoutAnswer;
    bool _isGuess;
    volatile bool _worked;
    volatile bool _http1Worked;

    /// <summary>When HTTP/2 is offered again.</summary>
    public TimeSpan AvoidedUntil { get; private set; } = TimeSpan.MinValue;

    /// <summary>HTTP/2 failed before and has not worked since: the next connection proves itself before it carries a call.</summary>
    public bool IsDoubted { get; private set; }

    public bool IsAvoided(TimeSpan now) => now < AvoidedUntil;

    /// <summary>The headers of an answer arrived. Called for each call, without the lock.</summary>
    public void Answered(bool overHttp2)
    {
        if (overHttp2)
        {
            if (!_worked)
            {
                _worked = true;
            }
        }
        else if (!_http1Worked)
        {
            _http1Worked = true;
        }
    }

    /// <summary>
    /// Takes in a doubt about a connection that was dialled at <paramref name="dialledAt"/>. Returns true if calls that may use HTTP/1.1
    /// should use it.
    /// </summary>
    public bool TryAvoid(Http2Doubt doubt, TimeSpan dialledAt, TimeSpan now, out bool isNews)
    {
        isNews = false;
        if (IsAvoided(now))
        {
            _isGuess &= doubt is not Http2Doubt.Refused;
            return true;
        }

        var isGuess = doubt is not Http2Doubt.Refused;
        if (doubt is Http2Doubt.None || now < _notBefore || (isGuess && _worked)
            || (doubt is Http2Doubt.NoAnswer && !CountUnanswered(dialledAt, now)))
        {
            return false;
        }

        AvoidedUntil = now + (isGuess ? BreakMemory : RefusalMemory);
        _isGuess = isGuess;
        _withoutAnswer = 0;
        _http1Worked = false;
        _worked = false;
        IsDoubted = true;
        isNews = true;
        return true;
    }

    /// <summary>Counts a call without an answer. Calls that were under way together count once, as it is the same outage.</summary>
    bool CountUnanswered(TimeSpan dialledAt, TimeSpan now)
    {
        if (dialledAt >= _withoutAnswerAt)
        {
            _withoutAnswer = _withoutAnswer + 1;
            _withoutAnswerAt = now;
        }

        return _withoutAnswer >= ManyWithoutAnswer;
    }

    /// <summary>A connection opened over HTTP/2 and has its SETTINGS.</summary>
    public void Opened() => IsDoubted = false;

    /// <summary>
    /// A connection without HTTP/2 failed too. If the server does not speak HTTP/1.1, or HTTP/2 was only a guess, HTTP/1.1 was no remedy
    /// and HTTP/2 is offered again. Returns true in that case.
    /// </summary>
    public bool Http1Failed(bool cannotSpeakIt, TimeSpan now)
    {
        if (!IsAvoided(now) || !(cannotSpeakIt || (_isGuess && !_http1Worked)))
        {
            return false;
        }

        AvoidedUntil = TimeSpan.MinValue;
        _notBefore = now + FailureMemory;
        IsDoubted = false;
        return true;
    }
}
