namespace Warmline.Scheduling;

/// <summary>
/// One limit of a provider. Most providers count in fixed windows. Some refill a bucket continuously, and then the reset is the moment at
/// which it would be full (Anthropic: docs.anthropic.com/en/api/rate-limits, "token bucket"; OpenAI's example of 59 of 60 left and 1 s to
/// the reset is one, too). The headers show which it is: the end of a window stays where it is, the end of a bucket moves away with each
/// request.
/// </summary>
/// <remarks>
/// The server read its counters at some time between the start of the request and now, so the reported end lies in a range. Two ranges
/// that overlap may describe the same window. Otherwise the later one describes a later window, or a fuller use of the bucket.
/// </remarks>
internal sealed class BudgetWindow
{
    /// <summary>
    /// How long a request may be on its way before the server counts it. A request that has been in flight for longer is taken as counted
    /// in every later report. Otherwise answers that take minutes would keep reserving what they used minutes ago.
    /// </summary>
    public static readonly TimeSpan OnTheWay = TimeSpan.FromSeconds(2);

    /// <summary>How long a number without a reset is valid: providers that do not say count by the minute at most.</summary>
    public static readonly TimeSpan Ageing = TimeSpan.FromMinutes(1);

    long? _limit;
    long? _mostLeft;
    double? _left;              // at _leftAt: a bucket refills
    TimeSpan _leftAt;
    TimeSpan _readAt;
    TimeSpan _began = TimeSpan.MinValue / 2;
    TimeSpan? _earliestEnd;     // both null before the first report on this window
    TimeSpan? _latestEnd;
    int _mayBeNext;             // requests of this window, answered when it may have been over
    bool _refills;
    bool _neverRefills;

    /// <summary>Requests that started before this time are already counted in what is left.</summary>
    public TimeSpan CountedUntil { get; set; } = TimeSpan.MinValue / 2;

    /// <summary>What a full window holds: the reported limit, or else the most that was ever left.</summary>
    double? Whole => _limit ?? _mostLeft;

    /// <summary>Starts the next window if this one is over: then the whole limit is available again.</summary>
    public void Roll(TimeSpan now)
    {
        if (_latestEnd <= now)
        {
            // The server may have begun the next window at the earliest end already, so later requests may count in it.
            _began = _latestEnd.Value;
            CountedUntil = (_earliestEnd < _began ? _earliestEnd.Value : _began) - OnTheWay;
            _left = Whole - _mayBeNext;
            (_earliestEnd, _latestEnd, _mayBeNext) = (null, null, 0);
        }
        else if (_latestEnd is null && !IsAssumed && now - _readAt >= Ageing)
        {
            _left = null;
        }
    }

    /// <summary>Takes in what an answer reports.</summary>
    public void Read(RateLimit reading, TimeSpan started, TimeSpan now)
    {
        Roll(now);
        CountIfNext(started, now);
        _limit = reading.Limit ?? _limit;
        _mostLeft = reading.Remaining > (_mostLeft ?? -1) ? reading.Remaining : _mostLeft;
        if (reading.ResetIn is { } resetIn)
        {
            var (earliest, latest) = (started + resetIn - reading.Slack, now + resetIn);
            if (started < _began && earliest <= _began)
            {
                _left -= started >= CountedUntil ? 1 : 0;   // it may describe the previous window: only this one request is certain
                return;
            }

            if (_latestEnd is not { } end)
            {
                Take(reading.Remaining, now);
                (_earliestEnd, _latestEnd) = (earliest, latest);
            }
            else if (earliest > end + reading.Slack)
            {
                // Later than any end this window can have. If the window cannot be over yet, its end has moved.
                _refills |= now < _earliestEnd && !_neverRefills;
                Take(reading.Remaining, now);
                (_earliestEnd, _latestEnd, _mayBeNext) = (earliest, latest, 0);
            }
            else if (latest + reading.Slack < _earliestEnd)
            {
                if (started <= _readAt)
                {
                    return;   // overtaken: it describes an old window, or the bucket before others drew from it
                }

                Take(reading.Remaining, now);   // sent after the other report: the provider gave something back, or changed its mind
                (_earliestEnd, _latestEnd) = (earliest, latest);
            }
            else
            {
                // It is unknown which of the two is later, unless this request started after the other report. If unknown, the lower
                // counts.
                Take(started > _readAt || LeftAt(now) is not { } left ? reading.Remaining : Math.Min(left, reading.Remaining ?? left), now);
                (_earliestEnd, _latestEnd) = (Later(earliest, _earliestEnd ?? earliest), _refills == latest > end ? latest : end);
            }
        }
        else if (reading.Remaining is { } remaining)
        {
            Take(_latestEnd is null && (started > _readAt || IsAssumed) ? remaining : Math.Min(_left ?? remaining, remaining), now);
        }

        _readAt = now;
        CountedUntil = Later(CountedUntil, started - OnTheWay);
    }

    /// <summary>A request ended without a report of what is left.</summary>
    public void Spent(TimeSpan started, TimeSpan now)
    {
        Roll(now);
        CountIfNext(started, now);
        if (started >= CountedUntil)
        {
            _left -= 1;
        }
    }

    /// <summary>The provider refused although something should be left: do not assume a refilling bucket any more.</summary>
    public void Distrust() => (_refills, _neverRefills) = (false, true);

    /// <summary>When it admits one more request.</summary>
    /// <param name="now">The time.</param>
    /// <param name="uncounted">Requests in flight that may not be counted in what is left.</param>
    /// <param name="inFlight">All requests in flight.</param>
    public TimeSpan OpensForOne(TimeSpan now, int uncounted, int inFlight)
    {
        if (LeftAt(now) is not { } left || left - uncounted >= 1)
        {
            return now;
        }

        if (_refills && _left is { } start && _latestEnd is { } full && Whole is { } whole && uncounted + 1 <= whole && full > _leftAt)
        {
            // Rounded up to a tick; otherwise it would be checked again when it is not open yet.
            var refilled = _leftAt + ((full - _leftAt) * Math.Min(1, (uncounted + 1 - start) / (whole - start)));
            return OrAsks(refilled + TimeSpan.FromTicks(1), inFlight);
        }

        return Closed(now, inFlight);
    }

    /// <summary>How many more requests it admits now; null if unknown.</summary>
    public double? Left(TimeSpan now, int uncounted) => LeftAt(now) - uncounted;

    /// <summary>When it admits a request of unknown cost: only the answer shows how many tokens it used.</summary>
    public TimeSpan OpensWithAny(TimeSpan now, int inFlight) => _left is null or > 0 ? now : Closed(now, inFlight);

    /// <summary>The time until the reset if nothing is left; null otherwise.</summary>
    public TimeSpan? ExhaustedFor(TimeSpan now) => _left < 1 && _latestEnd is { } end ? end - now : null;

    /// <summary>Whether it blocks no request any more.</summary>
    public bool IsOver(TimeSpan now) => _latestEnd is { } end ? end <= now : IsAssumed || now - _readAt >= Ageing;

    public ProviderLimit Report(RateLimitKind kind, TimeSpan now)
    {
        Roll(now);
        return new ProviderLimit(kind, _limit, LeftAt(now) is { } left ? (long)Math.Max(0, left) : null, _latestEnd - now, now - _readAt);
    }

    /// <summary>Whether the window was started by the clock and not reported yet.</summary>
    bool IsAssumed => _latestEnd is null && _began >= _readAt;

    double? LeftAt(TimeSpan now) =>
        _refills && _left is { } left && _latestEnd is { } full && full > _leftAt && Whole is { } whole && whole > left
            ? left + ((whole - left) * Math.Min(1, (now - _leftAt) / (full - _leftAt))) : _left;

    TimeSpan Closed(TimeSpan now, int inFlight) =>
        _latestEnd is { } end ? OrAsks(end, inFlight)
        : inFlight == 0 ? now   // no answer is on its way and no reset is known: one request has to find out
        : IsAssumed ? TimeSpan.MaxValue
        : _readAt + Ageing;

    /// <summary>A day's quota may be raised before its reset, and a header may be wrong. So one request finds out now and then.</summary>
    TimeSpan OrAsks(TimeSpan opens, int inFlight) =>
        inFlight == 0 && _readAt + ProviderBudget.LongestCoolDown is var asks && asks < opens ? asks : opens;

    void CountIfNext(TimeSpan started, TimeSpan now)
    {
        if (_earliestEnd is { } end && now > end && started >= end - OnTheWay)
        {
            _mayBeNext++;
        }
    }

    void Take(double? left, TimeSpan now) => (_left, _leftAt) = (left ?? _left, now);

    static TimeSpan Later(TimeSpan left, TimeSpan right) => left > right ? left : right;
}
