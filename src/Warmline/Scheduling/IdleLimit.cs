namespace Warmline.Scheduling;

/// <summary>
/// How long the server of one key keeps an idle connection: what is known about the provider, and what was learned from connections that
/// it ended while they were idle. Two observations that agree teach a limit. Connections that end at the same moment count as one
/// observation; if they had been idle for different times they count as none, as that was a restart. An end that came earlier than other
/// connections lasted has another reason, such as the age of the connection.
/// </summary>
internal sealed class IdleLimit
{
    /// <summary>
    /// An end within this time belongs to the previous answer: the server counts requests, or wanted to close. Also the shortest time
    /// that counts as idle.
    /// </summary>
    public static readonly TimeSpan Moment = TimeSpan.FromSeconds(1);

    /// <summary>
    /// How long before the server's limit an idle connection is closed. The server's clock starts half a round trip before ours and its
    /// end takes as long to arrive; timers are late; some servers count whole seconds. undici uses two seconds as well.
    /// </summary>
    static readonly TimeSpan UsualMargin = TimeSpan.FromSeconds(2);

    /// <summary>The margin as a share of short limits. Of 2 s this leaves 0.8 s, which is less than the platform's own n - 1.</summary>
    const double ShareOfShort = 0.6;

    /// <summary>
    /// The same for warm connections. Each one that ends is dialled again, so an equally wide margin would double or treble the dials.
    /// </summary>
    const double ShareOfWarm = 0.1;

    const double MostShare = 0.8;

    Observation? _earlier;
    Observation? _latest;
    (TimeSpan Limit, TimeSpan At)? _learned;
    (TimeSpan Limit, TimeSpan At)? _learnedBefore;
    (TimeSpan Age, TimeSpan At)? _lasted;

    /// <summary>The provider's known limit.</summary>
    public TimeSpan? Known { get; set; }

    /// <summary>
    /// The last <c>Keep-Alive: timeout</c> of any connection of the key, in seconds; -1 if there was none. It binds only that connection.
    /// </summary>
    public int LastHint { get; set; } = -1;

    /// <summary>The learned limit, unless it is too old.</summary>
    public TimeSpan? Learned(TimeSpan now, TimeSpan memory) => _learned is { } learned && now - learned.At < memory ? learned.Limit : null;

    /// <summary>How long a connection may stay idle, less a margin; MaxValue if no limit is known.</summary>
    /// <param name="hint">The server's hint for this connection, in seconds; -1 for none.</param>
    /// <param name="handshake">The key's mean handshake, which is two round trips or more. On a long route a smaller margin would be
    /// worthless.</param>
    /// <param name="isKeptWarm">Whether another is dialled for each that ends.</param>
    /// <param name="now">The time.</param>
    /// <param name="memory">How long a learned limit is kept.</param>
    public TimeSpan Allowed(int hint, TimeSpan handshake, bool isKeptWarm, TimeSpan now, TimeSpan memory)
    {
        var limit = Known ?? TimeSpan.MaxValue;
        if (Learned(now, memory) is { } learned && learned < limit)
        {
            limit = learned;
        }

        if (hint >= 0 && TimeSpan.FromSeconds(hint) is var hinted && hinted < limit)
        {
            limit = hinted;
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

    /// <summary>A connection carried an exchange after it had been idle for this time.</summary>
    public void Lasted(TimeSpan age, TimeSpan now, TimeSpan memory)
    {
        if (_lasted is not { } lasted || age > lasted.Age || now - lasted.At >= memory)
        {
            _lasted = (age, now);
        }
    }

    /// <summary>
    /// The server ended a connection properly after it had been idle for this time. Returns true if the learned limit has changed.
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

    /// <summary>How far apart observations may lie: servers check their clocks only now and then.</summary>
    static TimeSpan Tolerance(TimeSpan age) => age / 10 > Moment ? age / 10 : Moment;

    sealed class Observation(TimeSpan age, TimeSpan at)
    {
        public TimeSpan Age { get; set; } = age;

        public TimeSpan At { get; } = at;

        public bool IsRestart { get; set; }

        public bool Taught { get; set; }
    }
}
