using Warmline.Options;
using Warmline.Scheduling;

namespace Warmline.Cli.Sizing;

/// <summary>When calls come.</summary>
internal enum ArrivalKind
{
    /// <summary>Each by itself, at any moment as likely as at any other.</summary>
    Poisson,

    /// <summary>At equal distances: the best case.</summary>
    Even,

    /// <summary>Users come at any moment, each with all of its calls at once.</summary>
    Bursts,

    /// <summary>
    /// A fixed number of users, each of whom waits for its answers and then thinks, as the formula means them: no more calls than users
    /// times calls.
    /// </summary>
    Closed,
}

/// <summary>How long calls take.</summary>
internal enum DurationKind
{
    Exponential,
    Fixed,
    LogNormal,
}

/// <summary>The traffic and the pool that are simulated; the pool's size varies.</summary>
internal sealed record SimulationSettings
{
    public required int Users { get; init; }

    public required int CallsPerUser { get; init; }

    /// <summary>The mean time from place to last byte.</summary>
    public required TimeSpan Response { get; init; }

    public required TimeSpan Interval { get; init; }

    public required ArrivalKind Arrivals { get; init; }

    public required DurationKind Durations { get; init; }

    public required bool IsHttp2 { get; init; }

    /// <summary>How long a dial takes.</summary>
    public required TimeSpan Handshake { get; init; }

    /// <summary>The longest wait, or infinite.</summary>
    public required TimeSpan PoolTimeout { get; init; }

    /// <summary>Calls measured at each size.</summary>
    public required int Calls { get; init; }

    /// <summary>
    /// Calls that come before, unmeasured, so that the pool that is empty at the beginning does not count: a tenth as many, and at least as
    /// many as come within ten response times.
    /// </summary>
    public int CallsBefore => (int)Math.Min(int.MaxValue / 4, Math.Max(Calls / 10.0, 10 * Rate * Response.TotalSeconds));

    public required int Seed { get; init; }

    /// <summary>Calls a second, as far as they do not depend on the answers.</summary>
    public double Rate => (double)Users * CallsPerUser / Interval.TotalSeconds;
}

/// <summary>What the calls met in a pool of one size.</summary>
internal sealed record SimulatedPool
{
    public required int Connections { get; init; }

    public required TimeSpan WaitMean { get; init; }

    public required TimeSpan WaitP50 { get; init; }

    public required TimeSpan WaitP90 { get; init; }

    public required TimeSpan WaitP99 { get; init; }

    public required TimeSpan WaitMax { get; init; }

    /// <summary>Share of the calls that did not get a place at once.</summary>
    public required double Waiting { get; init; }

    /// <summary>Share of the calls that got none: pool timeout, or queue full.</summary>
    public required double Refused { get; init; }

    public required double SocketsMean { get; init; }

    public required int SocketsPeak { get; init; }

    public required double InFlightMean { get; init; }

    public required int InFlightPeak { get; init; }

    /// <summary>Connections opened for each call.</summary>
    public required double DialsPerCall { get; init; }
}

/// <summary>
/// Plays calls against the pool's own scheduler, on a clock of its own: an event at a time, in the order of their times. What a real pool's
/// shell does between (sockets, TLS) takes the settings' handshake here; all decisions are the scheduler's. Every size meets the same
/// calls, drawn from the same seed: so that sizes differ, and not their luck.
/// </summary>
internal sealed class Simulation
{
    /// <summary>As public providers announce.</summary>
    const int StreamLimit = 100;

    /// <summary>The standard deviation of log-normal durations is their mean, as that of exponential ones.</summary>
    static readonly double LogSigma = Math.Sqrt(Math.Log(2));

    static readonly ConnectionKey Origin = new(isHttps: true, "provider.example", 443);

    readonly SimulationSettings _settings;
    readonly int _connections;
    readonly Scheduler _scheduler;
    readonly Random _arrivals;
    readonly Random _durations;
    readonly PriorityQueue<Occurrence, long> _agenda = new();
    readonly List<SchedulerAction> _actions = [];
    readonly int _cut;
    readonly double[] _waits;
    TimeSpan _now;
    TimeSpan _wakeAt = TimeSpan.MaxValue;
    long _asked;
    int _decided;
    int _waiting;
    int _refused;
    TimeSpan? _measuredFrom;
    double _socketSeconds;
    double _flightSeconds;
    int _socketsPeak;
    int _flightPeak;
    int _dials;

    Simulation(SimulationSettings settings, int connections)
    {
        _settings = settings;
        _connections = connections;
        _arrivals = new Random(settings.Seed);
        _durations = new Random(settings.Seed ^ 0x5bd1e995);
        _cut = settings.CallsBefore;
        _waits = new double[settings.Calls];

        // The limits of a pool as it comes, so that a change of its defaults changes the answer.
        var problems = new List<string>();
        var pool = PoolSettings.Freeze(new ConnectionPoolOptions { MaxConnections = connections }, problems) ?? throw new FormatException(string.Join(' ', problems));
        _scheduler = new Scheduler(SchedulerLimits.From(pool), settings.Seed);
    }

    enum What
    {
        Asks,
        Ends,
        Dialled,
    }

    /// <summary>Plays the settings' calls against a pool of so many connections.</summary>
    /// <exception cref="OperationCanceledException">It was stopped.</exception>
    public static SimulatedPool Run(SimulationSettings settings, int connections, CancellationToken stop) => new Simulation(settings, connections).Play(stop);

    SimulatedPool Play(CancellationToken stop)
    {
        Begin();
        for (var turn = 0; _decided < _waits.Length; turn++)
        {
            if ((turn & 0xfff) == 0)
            {
                stop.ThrowIfCancellationRequested();
            }

            _agenda.TryPeek(out var next, out _);
            var at = next.At < _wakeAt ? next.At : _wakeAt;
            Pass(at);
            if (at == _wakeAt)
            {
                _wakeAt = TimeSpan.MaxValue;
                _scheduler.Tick(_now, _actions);
            }
            else
            {
                Happen(_agenda.Dequeue());
            }

            Act();
        }

        var measured = (_now - _measuredFrom!.Value).TotalSeconds;
        Array.Sort(_waits);
        return new SimulatedPool
        {
            Connections = _connections,
            WaitMean = TimeSpan.FromSeconds(_waits.Average()),
            WaitP50 = Quantile(0.5),
            WaitP90 = Quantile(0.9),
            WaitP99 = Quantile(0.99),
            WaitMax = TimeSpan.FromSeconds(_waits[^1]),
            Waiting = (double)_waiting / _waits.Length,
            Refused = (double)_refused / _waits.Length,
            SocketsMean = measured > 0 ? _socketSeconds / measured : _scheduler.Permits.InUse,
            SocketsPeak = _socketsPeak,
            InFlightMean = measured > 0 ? _flightSeconds / measured : _scheduler.Leases,
            InFlightPeak = _flightPeak,
            DialsPerCall = (double)_dials / _waits.Length,
        };
    }

    TimeSpan Quantile(double share) => TimeSpan.FromSeconds(_waits[Math.Min(_waits.Length - 1, (int)Math.Ceiling(share * _waits.Length) - 1)]);

    void Begin()
    {
        if (_settings.Arrivals is not ArrivalKind.Closed)
        {
            Plan(What.Asks, TimeSpan.Zero, null);
            return;
        }

        for (var i = 0; i < _settings.Users; i++)
        {
            // Spread over one interval, or all would think in step for a while.
            Plan(What.Asks, _settings.Interval * _arrivals.NextDouble(), new User());
        }
    }

    /// <summary>Time passes, and with it what is open and in use.</summary>
    void Pass(TimeSpan at)
    {
        if (_measuredFrom is not null)
        {
            var seconds = (at - _now).TotalSeconds;
            _socketSeconds += seconds * _scheduler.Permits.InUse;
            _flightSeconds += seconds * _scheduler.Leases;
        }

        _now = at;
    }

    void Happen(Occurrence occurrence)
    {
        switch (occurrence.What)
        {
            case What.Asks:
                Ask((User?)occurrence.Subject);
                break;
            case What.Ends:
                var call = (Call)occurrence.Subject!;
                _scheduler.Release(call, LeaseOutcome.Reusable, _now, _actions);
                Over(call);
                break;
            case What.Dialled:
                Opened((ConnectionState)occurrence.Subject!);
                break;
        }
    }

    /// <summary>
    /// A user's calls come, or one call of nobody in particular; and, unless users wait for their answers, the next ones are due.
    /// </summary>
    void Ask(User? user)
    {
        var calls = user is not null || _settings.Arrivals is ArrivalKind.Bursts ? _settings.CallsPerUser : 1;
        user?.Running = calls;
        for (var i = 0; i < calls; i++)
        {
            if (_asked == _cut)
            {
                _measuredFrom ??= _now;
            }

            var call = new Call { Number = _asked++, User = user, Duration = NextDuration(), Deadline = _settings.PoolTimeout > TimeSpan.Zero ? _now + _settings.PoolTimeout : TimeSpan.MaxValue };
            _scheduler.Acquire(call, Origin, _now, _actions);
            Act();   // the pool's shell, too, acts on an event before the next call comes
        }

        if (user is null)
        {
            var mean = TimeSpan.FromSeconds(calls / _settings.Rate);
            Plan(What.Asks, _now + (_settings.Arrivals is ArrivalKind.Even ? mean : mean * Exponential(_arrivals)), null);
        }
    }

    void Act()
    {
        for (var i = 0; i < _actions.Count; i++)
        {
            var action = _actions[i];
            switch (action.Kind)
            {
                case ActionKind.Grant:
                    var call = (Call)action.Waiter;
                    Decide(call, refused: false);
                    Plan(What.Ends, _now + call.Duration, call);
                    break;
                case ActionKind.Refuse:
                    Decide((Call)action.Waiter, refused: true);
                    Over((Call)action.Waiter);
                    break;
                case ActionKind.Dial:
                    _dials += _measuredFrom is null ? 0 : 1;
                    if (_settings.Handshake > TimeSpan.Zero)
                    {
                        Plan(What.Dialled, _now + _settings.Handshake, action.Connection);
                    }
                    else
                    {
                        Opened(action.Connection);
                    }

                    break;
                case ActionKind.Close or ActionKind.Drop:
                    _scheduler.ConnectionClosed(action.Connection, _now, _actions);
                    break;
                case ActionKind.WakeAt:
                    _wakeAt = action.At;
                    break;
            }
        }

        _actions.Clear();
        if (_measuredFrom is not null)
        {
            _socketsPeak = Math.Max(_socketsPeak, _scheduler.Permits.InUse);
            _flightPeak = Math.Max(_flightPeak, _scheduler.Leases);
        }
    }

    void Opened(ConnectionState connection)
    {
        _scheduler.DialSucceeded(connection, _settings.IsHttp2, _settings.Handshake, _now, _actions);
        if (_settings.IsHttp2)
        {
            _scheduler.SettingsSeen(connection, StreamLimit, _now, _actions);
        }
    }

    /// <summary>The call knows whether it has a place. Who is refused has waited as well.</summary>
    void Decide(Call call, bool refused)
    {
        var place = call.Number - _cut;
        if (place < 0 || place >= _waits.Length)
        {
            return;
        }

        var wait = _now - call.AskedAt;
        _waits[place] = wait.TotalSeconds;
        _waiting += wait > TimeSpan.Zero || refused ? 1 : 0;
        _refused += refused ? 1 : 0;
        _decided++;
    }

    void Over(Call call)
    {
        if (call.User is { } user && --user.Running == 0)
        {
            var thinks = _settings.Interval - _settings.Response;
            Plan(What.Asks, thinks > TimeSpan.Zero ? _now + (thinks * Exponential(_arrivals)) : _now, user);
        }
    }

    TimeSpan NextDuration() => _settings.Durations switch
    {
        DurationKind.Fixed => _settings.Response,
        DurationKind.Exponential => _settings.Response * Exponential(_durations),
        _ => _settings.Response * Math.Exp((LogSigma * Normal(_durations)) - (LogSigma * LogSigma / 2)),
    };

    static double Exponential(Random random) => -Math.Log(1 - random.NextDouble());

    static double Normal(Random random) => Math.Sqrt(2 * Exponential(random)) * Math.Cos(2 * Math.PI * random.NextDouble());

    /// <summary>Of what happens at the same time, calls end before others begin: a place that is given back is free.</summary>
    void Plan(What what, TimeSpan at, object? subject) => _agenda.Enqueue(new Occurrence(at, what, subject), (at.Ticks * 2) + (what is What.Asks ? 1 : 0));

    readonly record struct Occurrence(TimeSpan At, What What, object? Subject);

    sealed class User
    {
        public int Running { get; set; }
    }

    sealed class Call : Waiter
    {
        public required long Number { get; init; }

        public required User? User { get; init; }

        public required TimeSpan Duration { get; init; }
    }
}
