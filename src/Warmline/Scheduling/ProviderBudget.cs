namespace Warmline.Scheduling;

/// <summary>
/// What a provider admits according to its answers: whether the next request may start, or else when. One budget stands for the calls
/// that the provider counts together (origin, key, model); it does not know which calls these are.
/// </summary>
/// <remarks>
/// What is known is always late. An answer reports what was left at some time between the start of its request and now, and answers
/// overtake each other. So the lowest report counts, less what was started since. Until the first answer the budget is open, so a first
/// burst is not blocked. Limits that are not reported (other users of the same key, tokens that a prompt will cost) cannot be observed:
/// then a refusal closes the budget.
/// </remarks>
internal sealed class ProviderBudget
{
    /// <summary>
    /// The longest wait a refusal can ask for: a wrong header, or a quota of hours, must not block an origin for hours. After it one
    /// request finds out.
    /// </summary>
    public static readonly TimeSpan LongestCoolDown = TimeSpan.FromMinutes(10);

    /// <summary>
    /// The first wait after a refusal that gives none; doubled each time. The SDKs begin with half a second for one call; here all calls
    /// wait.
    /// </summary>
    public static readonly TimeSpan FirstGuessedCoolDown = TimeSpan.FromSeconds(1);

    /// <summary>The longest such wait: providers count by the minute.</summary>
    public static readonly TimeSpan LongestGuessedCoolDown = TimeSpan.FromMinutes(1);

    // Start times of the requests without an answer. In ascending order, so that binary search works and the oldest is first.
    readonly List<TimeSpan> _unanswered = [];
    readonly BudgetWindow?[] _windows = new BudgetWindow?[RateLimits.Kinds];
    readonly GrowthBound _growth = new();
    TimeSpan _askedUntil = TimeSpan.MinValue / 2;
    TimeSpan _guessedUntil = TimeSpan.MinValue / 2;
    TimeSpan _guessedAt = TimeSpan.MinValue;
    TimeSpan _coolSince = TimeSpan.MinValue;
    TimeSpan _probeAt = TimeSpan.Zero;
    bool _isDoubtful;
    bool _wasDoubtful;
    int _guesses;

    /// <summary>Number of requests that were started and have no answer.</summary>
    public int InFlight => _unanswered.Count;

    /// <summary>Whether the budget may be forgotten: nothing known could block a request, and none is in flight.</summary>
    public bool IsForgettable(TimeSpan now) =>
        InFlight == 0 && CoolUntil + LongestGuessedCoolDown <= now && !_growth.IsBounded(now)
        && Array.TrueForAll(_windows, window => window is null || window.IsOver(now));

    TimeSpan CoolUntil => Later(_askedUntil, _guessedUntil);

    /// <summary>Whether the next request may start.</summary>
    public bool IsOpen(TimeSpan now) => OpensAt(now) <= now;

    /// <summary>When the next request may start; <see cref="TimeSpan.MaxValue"/> if only an answer can show it.</summary>
    public TimeSpan OpensAt(TimeSpan now)
    {
        var opens = Later(CoolUntil, _growth.OpensAt(now));
        if (_isDoubtful)
        {
            // The wait that is over was a guess: if all waiters started now, all could be refused. So start one a second until one is
            // answered.
            opens = Later(opens, _probeAt);
        }

        for (var kind = 0; kind < RateLimits.Kinds; kind++)
        {
            if (_windows[kind] is { } window)
            {
                window.Roll(now);
                opens = Later(opens, kind == (int)RateLimitKind.Requests
                    ? window.OpensForOne(now, StartedSince(window.CountedUntil), InFlight)
                    : window.OpensWithAny(now, InFlight));
            }
        }

        return Later(opens, now);
    }

    /// <summary>Number of requests that may start now, as far as is known. No more connections than that need be opened.</summary>
    public int Left(TimeSpan now) => !IsOpen(now) ? 0
        : _isDoubtful ? 1
        : _windows[(int)RateLimitKind.Requests] is { } window
            && window.Left(now, StartedSince(window.CountedUntil)) is { } left ? (int)Math.Clamp(left, 1, int.MaxValue)
        : int.MaxValue;

    /// <summary>A request was granted its lease.</summary>
    public void Started(TimeSpan now)
    {
        _unanswered.Add(now);
        _probeAt = now + FirstGuessedCoolDown;
        _growth.Started(now);
    }

    /// <summary>The headers of an answer arrived.</summary>
    /// <param name="reading">The rate limits in its headers.</param>
    /// <param name="status">Its status.</param>
    /// <param name="now">The time.</param>
    /// <param name="startedAt">The time that was passed to <see cref="Started"/> for it. Without it the oldest request in flight is
    /// assumed, which makes the report less certain.</param>
    public void Answered(in RateLimits reading, int status, TimeSpan now, TimeSpan? startedAt = null)
    {
        var started = Remove(startedAt, now);
        for (var kind = 0; kind < RateLimits.Kinds; kind++)
        {
            if (reading[(RateLimitKind)kind] is { } limit)
            {
                (_windows[kind] ??= new BudgetWindow()).Read(limit, started, now);
            }
            else if (kind == (int)RateLimitKind.Requests)
            {
                // An edge server or proxy answered without the headers: the request may have been counted.
                _windows[kind]?.Spent(started, now);
            }
        }

        if (status is 429 or 529 || (status == 503 && reading.RetryAfter is not null))
        {
            if (status == 429 && reading[RateLimitKind.Requests] is { Remaining: 0 })
            {
                _windows[(int)RateLimitKind.Requests]!.Distrust();
            }

            Refused(reading.RetryAfter, status, started, now);
        }
        else if (status < 500 && started > _coolSince)
        {
            _guesses = 0;
            _isDoubtful = false;
        }
    }

    /// <summary>A request ended without an answer. It may have been counted.</summary>
    public void Failed(TimeSpan now, TimeSpan? startedAt = null)
    {
        var started = Remove(startedAt, now);
        _windows[(int)RateLimitKind.Requests]?.Spent(started, now);
    }

    /// <summary>A lease ended and nothing had been sent on it.</summary>
    public void Unused(TimeSpan now, TimeSpan? startedAt = null) => Remove(startedAt, now);

    /// <summary>
    /// The body of a refusal says how long to wait. This replaces a guessed wait. If the headers gave a wait as well the longer counts,
    /// as it satisfies both.
    /// </summary>
    /// <param name="wait">The time; above 0.</param>
    /// <param name="answeredAt">When the refusal arrived: its body may be read later.</param>
    public void Advised(TimeSpan wait, TimeSpan answeredAt)
    {
        if (_guessedAt <= answeredAt && _guessedUntil > answeredAt)
        {
            _guessedUntil = TimeSpan.MinValue / 2;
            _isDoubtful &= _wasDoubtful;
            _guesses = Math.Max(0, _guesses - 1);   // an answer may have reset it since
        }

        CoolDown(wait, answeredAt);
    }

    /// <summary>
    /// The provider said <c>slow_down</c>: from now on requests may grow by half in 15 minutes, from the rate of the last minute.
    /// </summary>
    public void SlowDown(TimeSpan now) => _growth.Begin(now);

    /// <summary>What is known about each kind of limit.</summary>
    public IReadOnlyList<ProviderLimit> Report(TimeSpan now)
    {
        var limits = new List<ProviderLimit>();
        for (var kind = 0; kind < RateLimits.Kinds; kind++)
        {
            if (_windows[kind] is { } window)
            {
                limits.Add(window.Report((RateLimitKind)kind, now));
            }
        }

        return limits;
    }

    void Refused(TimeSpan? retryAfter, int status, TimeSpan started, TimeSpan now)
    {
        var wait = retryAfter > TimeSpan.Zero ? retryAfter.Value : TimeSpan.Zero;
        if (wait == TimeSpan.Zero && status == 429)
        {
            foreach (var window in _windows)
            {
                wait = Later(wait, window?.ExhaustedFor(now) ?? TimeSpan.Zero);
            }
        }

        if (wait == TimeSpan.Zero)
        {
            if (started <= _coolSince)
            {
                return;   // it was on its way when another was refused: one burst counts as one refusal
            }

            wait = FirstGuessedCoolDown * Math.Pow(2, Math.Min(_guesses++, 10));
            _wasDoubtful = _isDoubtful;
            _isDoubtful = true;
            _coolSince = _guessedAt = now;
            _guessedUntil = Later(_guessedUntil, now + (wait < LongestGuessedCoolDown ? wait : LongestGuessedCoolDown));
            return;
        }

        CoolDown(wait, now);
    }

    void CoolDown(TimeSpan wait, TimeSpan since)
    {
        _isDoubtful |= wait > LongestCoolDown;
        _coolSince = Later(_coolSince, since);
        _askedUntil = Later(_askedUntil, since + (wait < LongestCoolDown ? wait : LongestCoolDown));
    }

    TimeSpan Remove(TimeSpan? startedAt, TimeSpan now)
    {
        if (_unanswered.Count == 0)
        {
            return startedAt ?? now;
        }

        var at = startedAt is { } known ? Math.Max(0, _unanswered.BinarySearch(known)) : 0;
        var started = _unanswered[at];
        _unanswered.RemoveAt(at);
        return started;
    }

    int StartedSince(TimeSpan time)
    {
        var (low, high) = (0, _unanswered.Count);
        while (low < high)
        {
            var middle = (low + high) / 2;
            (low, high) = _unanswered[middle] < time ? (middle + 1, high) : (low, middle);
        }

        return _unanswered.Count - low;
    }

    static TimeSpan Later(TimeSpan left, TimeSpan right) => left > right ? left : right;
}
