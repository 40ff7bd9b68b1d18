namespace Warmline.Scheduling;

/// <summary>Advice on an option that closes connections which are dialled again soon after.</summary>
/// <param name="IsLifetime">ConnectionLifetime; else IdleTimeout.</param>
/// <param name="Times">How often this happened.</param>
/// <param name="Value">The value that would have kept the connections.</param>
internal sealed record ExpiryAdvice(bool IsLifetime, int Times, TimeSpan Value);

/// <summary>
/// Notices when the expiry of a key's connections costs handshakes again and again. It counts the pauses after which a dial was needed,
/// however many connections expired in each.
/// </summary>
internal sealed class ExpiryWatch
{
    const int Often = 3;

    static readonly TimeSpan Within = TimeSpan.FromHours(1);

    /// <summary>Load balancers close connections that are idle for longer, so no option could keep them.</summary>
    static readonly TimeSpan LongestKept = TimeSpan.FromSeconds(350);

    /// <summary>A lifetime above this is worth its handshake, as new connections follow changes of DNS and load balancers.</summary>
    static readonly TimeSpan ShortLife = TimeSpan.FromMinutes(5);
    static readonly TimeSpan UsualLife = TimeSpan.FromMinutes(15);

    readonly Recurrence _idle = new();
    readonly Recurrence _life = new();
    TimeSpan? _unusedSince;
    TimeSpan _longestPause;
    bool _lifeEnded;

    public void IdledOut(TimeSpan unusedSince) => _unusedSince = _unusedSince is { } other && other > unusedSince ? other : unusedSince;

    public void LifeEnded() => _lifeEnded = true;

    /// <summary>A connection is dialled. Returns advice once in a key's life.</summary>
    public ExpiryAdvice? Dialed(bool forWaiter, SchedulerLimits limits, TimeSpan now)
    {
        ExpiryAdvice? advice = null;
        if (forWaiter && _unusedSince is { } since)
        {
            _unusedSince = null;
            var pause = now - since;
            if (pause <= LongestKept)
            {
                _longestPause = pause > _longestPause ? pause : _longestPause;
                advice = _idle.Count(now, limits.IdleTimeout) ? new ExpiryAdvice(false, Often, Roomy(_longestPause)) : null;
            }
        }

        if (_lifeEnded)
        {
            _lifeEnded = false;
            if (limits.ConnectionLifetime < ShortLife && _life.Count(now, limits.ConnectionLifetime / 2))
            {
                advice ??= new ExpiryAdvice(true, Often, UsualLife);
            }
        }

        return advice;
    }

    /// <summary>A tenth more, rounded up to ten seconds.</summary>
    static TimeSpan Roomy(TimeSpan pause)
    {
        var roomy = TimeSpan.FromSeconds(Math.Ceiling(pause.TotalSeconds * 0.11) * 10);
        return roomy < LongestKept ? roomy : LongestKept;
    }

    sealed class Recurrence
    {
        TimeSpan _first;
        TimeSpan _last = TimeSpan.MinValue;
        int _times;

        /// <summary>
        /// Counts one occurrence. Returns true for the one that reaches <see cref="Often"/>. Occurrences closer than
        /// <paramref name="apart"/> count once.
        /// </summary>
        public bool Count(TimeSpan now, TimeSpan apart)
        {
            if (_times > 0 && now < _last + apart)
            {
                return false;
            }

            if (_times > 0 && _times < Often && now - _first > Within)
            {
                _times = 0;
            }

            _first = _times == 0 ? now : _first;
            _last = now;
            return ++_times == Often;
        }
    }
}
