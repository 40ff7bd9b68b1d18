namespace Warmline.Scheduling;

/// <summary>
/// The bound after <c>slow_down</c>: the rate of requests may grow by half in 15 minutes (OpenAI:
/// platform.openai.com/docs/guides/error-codes). So the bound grows continuously from the rate of the minute before. It ends when it has
/// blocked no call for 15 minutes.
/// </summary>
internal sealed class GrowthBound
{
    public static readonly TimeSpan Period = TimeSpan.FromMinutes(15);
    public const double Growth = 1.5;

    static readonly TimeSpan Minute = TimeSpan.FromMinutes(1);
    static readonly TimeSpan Step = TimeSpan.FromSeconds(5);

    /// <summary>The burst that may start after a pause: timers are not exact enough to space hundreds of calls a second.</summary>
    static readonly TimeSpan AtOnce = TimeSpan.FromSeconds(1);

    readonly int[] _counts = new int[(int)(Minute / Step)];
    long _step;
    TimeSpan? _since;
    TimeSpan _heldAt;
    TimeSpan _next;
    double _base;

    public void Started(TimeSpan now)
    {
        Turn(now);
        _counts[_step % _counts.Length]++;
        if (IsBounded(now))
        {
            _next = (_next > now ? _next : now) + (Minute / RateAt(now));
        }
    }

    public void Begin(TimeSpan now)
    {
        Turn(now);
        (_since, _heldAt, _next) = (now, now, now + AtOnce);
        _base = Math.Max(1, _counts.Sum());
    }

    public TimeSpan OpensAt(TimeSpan now)
    {
        if (!IsBounded(now) || _next - AtOnce <= now)
        {
            return now;
        }

        _heldAt = now;
        return _next - AtOnce;
    }

    public bool IsBounded(TimeSpan now) => _since is not null && now - _heldAt < Period;

    /// <summary>Requests per minute.</summary>
    double RateAt(TimeSpan now) => Math.Min(1e9, _base * Math.Pow(Growth, Math.Min(1_000, (now - _since!.Value) / Period)));

    void Turn(TimeSpan now)
    {
        var step = (long)(now / Step);
        for (var cleared = 0; _step < step && cleared < _counts.Length; cleared++)
        {
            _counts[++_step % _counts.Length] = 0;
        }

        _step = Math.Max(_step, step);
    }
}
