namespace Warmline.Scheduling;

/// <summary>
/// How long the server of one key keeps a connection that carries nothing: what is known of the provider, and what was learned from
/// connections that it ended while they were idle. Two ends that agree teach a limit. Connections that end at one moment are one
/// observation, and if they had been idle for different times none at all: that was a restart. An end that came earlier than others
/// lasted has another reason, such as the age of the connection.
/// </summary>
internal sealed class IdleLimit
{
    /// <summary>
    /// Below this an end belongs to the answer before it: a server that counts requests, or had said all it wanted. Also what counts as
    /// idle for more than a moment.
    /// </summary>
    public static readonly TimeSpan Moment = TimeSpan.FromSeconds(1);

    /// <summary>
    /// What an idle connection ends ahead of the server's limit: the server's clock starts half a round trip before ours and its end
    /// takes as long to arrive, timers are late, and some servers count whole seconds. Two seconds is what undici keeps, too.
    /// </summary>
    static readonly TimeSpan UsualMargin = TimeSpan.FromSeconds(2);

    /// <summary>
    /// Of short limits that much is kept as margin: of 2 s there is then a use for 0.8 s, which is less than the platform's own n - 1.
    /// </summary>
    const double ShareOfShort = 0.6;

    /// <summary>
    /// The same for what is held warm: there each connection that ends is dialled anew, so a margin as wide would double or treble the
    /// dials.
    /// </summary>
    const double ShareOfWarm = 0.1;

    const double MostShare = 0.8;

    Observation? _earlier;
    Observation? _latest;
    (TimeSpan Limit, TimeSpan At)? _learned;
    (TimeSpan Limit, TimeSpan At)? _learnedBefore;
    (TimeSpan Age, TimeSpan At)? _lasted;

    /// <summary>What is known of the provider.</summary>
    public TimeSpan? Known { get; set; }

    /// <summary>
    /// The last <c>Keep-Alive: timeout</c> that any connection of the key was told, in seconds; -1 when none was. It binds only the
    /// connection that was told.
    /// </summary>
    public int LastHint { get; set; } = -1;

    /// <summary>What was learned and is not forgotten.</summary>
    public TimeSpan? Learned(TimeSpan now, TimeSpan memory) => _learned is { } learned && now - learned.At < memory ? learned.Limit : null;

    /// <summary>How long a connection may be idle, margin taken off; MaxValue when nothing is known.</summary>
    /// <param name="hint">What the server told it, in seconds; -1 for nothing.</param>
    /// <param name="handshake">The key's mean handshake, which is two round trips or more: a margin below it would be none on a long
    /// way.</param>
    /// <param name="isKeptWarm">Whether another is dialled for each that ends.</param>
    /// <param name="now">The time.</param>
    /// <param name="memory">How long what was learned is kept.</param>
    public TimeSpan Allowed(int hint, TimeSpan handshake, bool isKeptWarm, TimeSpan now, TimeSpan memory)
    {
        var limit = Known ?? TimeSpan.MaxValue;
        if (Learned(now, memory) is { } learned && learned < limit)
        {
            limit = learned;
        }

        if (hint >= 0 && TimeSpan.FromSeconds(hint) is var told && told < limit)
        {
            limit = told;
        }

        if (limit == TimeSpan.MaxValue)
        {
            return limit;
        }

        var share = limit * (isKeptWarm ? ShareOfWarm : ShareOfShort);
        var margin = share < UsualMargin ? share : UsualMargin;
        if (handshake > margin)
        {
            margin = handshake < limit * MostShare ? handshake : limit * MostShare;
        }

        return limit - margin;
    }

    /// <summary>A connection carried an exchange after it had been idle for that long.</summary>
    public void Lasted(TimeSpan age, TimeSpan now, TimeSpan memory)
    {
        if (_lasted is not { } lasted || age > lasted.Age || now - lasted.At >= memory)
        {
            _lasted = (age, now);
        }
    }

    /// <summary>
    /// The server ended a connection in good order that had been idle for that long. True when something new is known by it.
    /// </summary>
    public bool Ended(TimeSpan age, TimeSpan now, TimeSpan memory)
    {
        if (age < Moment || (_lasted is { } lasted && now - lasted.At < memory && age + Tolerance(age) < lasted.Age))
        {
            return false;
        }

        if (_latest is { } latest && now - latest.At <= Tolerance(age))
        {
            return EndedTogether(latest, age);
        }

        _earlier = _latest is { IsRestart: false } ? _latest : _earlier;
        _latest = new Observation(age, now);
        if (_earlier is not { } earlier || now - earlier.At >= memory || !Agree(earlier.Age, age))
        {
            return false;
        }

        _latest.Taught = true;
        _learnedBefore = _learned;
        _learned = (age < earlier.Age ? age : earlier.Age, now);
        return true;
    }

    bool EndedTogether(Observation latest, TimeSpan age)
    {
        if (latest.IsRestart)
        {
            return false;
        }

        if (!Agree(latest.Age, age))
        {
            latest.IsRestart = true;
            _learned = latest.Taught ? _learnedBefore : _learned;
            return latest.Taught;
        }

        latest.Age = age < latest.Age ? age : latest.Age;
        if (latest.Taught && _learned is { } learned && age < learned.Limit)
        {
            _learned = (age, learned.At);
            return true;
        }

        return false;
    }

    static bool Agree(TimeSpan one, TimeSpan other) => (one - other).Duration() <= Tolerance(one < other ? one : other);

    /// <summary>How far ends may lie apart: servers look at their clocks now and then only.</summary>
    static TimeSpan Tolerance(TimeSpan age) => age / 10 > Moment ? age / 10 : Moment;

    sealed class Observation(TimeSpan age, TimeSpan at)
    {
        public TimeSpan Age { get; set; } = age;

        public TimeSpan At { get; } = at;

        public bool IsRestart { get; set; }

        public bool Taught { get; set; }
    }
}
