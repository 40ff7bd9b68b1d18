using Warmline.Options;
using Warmline.Scheduling;
using Xunit;
using static Warmline.Tests.Scheduling.SchedulerPlay;

namespace Warmline.Tests.Scheduling;

/// <summary>Some thousand events at random, with budgets: nobody goes while his is closed, nobody waits when all is open, and in the end all is over.</summary>
public sealed class SchedulerPacingRandomTests
{
    const int Steps = 1_500;

    static readonly ConnectionKey[] Keys = [A, AlsoA, B];
    static readonly string[] LaneNames = ["", "batch", "stream"];
    static readonly string[] TenantNames = ["", "t1", "t2"];

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(5)]
    [InlineData(6)]
    public void No_call_goes_too_early_and_none_waits_for_nothing(int seed)
    {
        var run = new Run(seed);
        for (var step = 0; step < Steps; step++)
        {
            run.Step();
        }

        run.End();
    }

    sealed class Run
    {
        readonly int _seed;
        readonly Random _random;
        readonly SchedulerPlay _play;
        readonly BudgetKey?[] _budgets;
        readonly List<Waiter> _all = [];
        readonly Queue<ConnectionState> _dialing = [];
        readonly Dictionary<BudgetState, int> _lets = [];
        int _step;
        int _granted;
        string _event = "";

        public Run(int seed)
        {
            _seed = seed;
            _random = new Random(seed);
            _budgets = [null, .. Enumerable.Range(0, 2 + (seed % 3)).Select(number => new BudgetKey("https://a.test", number, "m"))];
            _play = new SchedulerPlay(Limits());
        }

        SchedulerLimits Limits() => new()
        {
            MaxConnections = _random.Next(2, 8),
            MaxConcurrentRequests = _random.Next(3) == 0 ? int.MaxValue : _random.Next(2, 12),
            MaxStreamsPerConnection = _random.Next(1, 5),
            KeyMemory = TimeSpan.FromMinutes(5),
            Sharing = new SharingSettings
            {
                Lanes = new Dictionary<string, LaneSettings> { ["batch"] = Lane("batch", ceiling: _random.Next(1, 8)), ["stream"] = Lane("stream") },
                Named = new Dictionary<string, TenantLimits> { ["t1"] = TenantLimits.None with { MaxConcurrentRequests = _random.Next(1, 6) }, ["t2"] = TenantLimits.None with { Weight = 3 } },
            },
        };

        Waiter[] Of(WaiterState state) => [.. _all.Where(waiter => waiter.State == state)];

        Waiter? Any(WaiterState state) => Of(state) is { Length: > 0 } some ? some[_random.Next(some.Length)] : null;

        public void Step()
        {
            _step++;
            switch (_random.Next(100))
            {
                case < 30:
                    Ask();
                    break;
                case < 50 when Any(WaiterState.Leased) is { } waiter:
                    Play($"answer {waiter.Sequence}", () => Answer(waiter), waiter.Budget);
                    break;
                case < 72 when Any(WaiterState.Leased) is { } waiter:
                    var outcome = _random.Next(6) switch { 0 => LeaseOutcome.NotSent, 1 => LeaseOutcome.ConnectionBroken, _ => LeaseOutcome.Reusable };
                    Play($"release {waiter.Sequence} {outcome}", () => _play.Release(waiter, outcome), waiter.Budget);
                    break;
                case < 74 when Any(WaiterState.Leased) is { } waiter:
                    Play($"bypass {waiter.Sequence}", () => _play.Bypass(waiter, ConnectionEnd.InOrder), waiter.Budget);
                    break;
                case < 76 when Any(WaiterState.Leased) is { } waiter && _random.Next(4) == 0:
                    Play($"slow down {waiter.Sequence}", () => _play.SlowDown(waiter), waiter.Budget);
                    break;
                case < 79 when Any(WaiterState.Waiting) is { } waiter:
                    Play($"cancel {waiter.Sequence}", () => _play.Cancel(waiter));
                    break;
                case < 89 when _dialing.TryDequeue(out var connection):
                    DialEnds(connection, fails: _random.Next(8) == 0);
                    break;
                case 89 when _random.Next(5) == 0:
                    var limits = Limits();
                    Play("limits change", () => _play.Change(limits));
                    break;
                default:
                    Pass(_random.NextDouble() * (_random.Next(10) == 0 ? 40 : 2));
                    break;
            }
        }

        void Ask()
        {
            var key = Keys[_random.Next(Keys.Length)];
            var (lane, tenant, budget) = (LaneNames[_random.Next(3)], TenantNames[_random.Next(3)], _budgets[_random.Next(_budgets.Length)]);
            var (seconds, priority) = (_random.Next(3) == 0 ? _random.Next(1, 60) : double.PositiveInfinity, _random.Next(-1, 2));
            Play($"ask {key} {lane} {tenant} {budget}", () => _all.Add(_play.Ask(key, seconds, lane: lane, tenant: tenant, priority: priority, budget: budget)));
        }

        void Answer(Waiter waiter)
        {
            var limit = _random.Next(2, 30);
            switch (_random.Next(10))
            {
                case 0:
                    _play.Answer(waiter, _random.Next(2) == 0 ? 429 : 529, retryAfter: _random.Next(3) == 0 ? null : _random.Next(1, 20));
                    break;
                case 1:
                    _play.Answer(waiter, 429, limit: limit, remaining: 0, reset: _random.Next(1, 20));
                    break;
                case 2:
                    _play.Answer(waiter, 500);
                    break;
                case < 8:
                    _play.Answer(waiter, limit: limit, remaining: _random.Next(limit), reset: _random.Next(1, 20));
                    break;
                default:
                    _play.Answer(waiter);
                    break;
            }
        }

        void DialEnds(ConnectionState connection, bool fails)
        {
            if (fails)
            {
                Play($"{connection} fails", () => _play.Fails(connection));
                return;
            }

            var isHttp2 = connection.Key.Key.Equals(B);
            Play($"{connection} succeeds", () => _play.Succeeds(connection, isHttp2));
            if (isHttp2)
            {
                Play($"settings of {connection}", () => _play.Settings(connection, 3));
            }
        }

        /// <summary>Tick by tick, so that it is known what was open before each.</summary>
        void Pass(double seconds)
        {
            var until = _play.Now + TimeSpan.FromSeconds(seconds);
            while (_play.WakeAt < until)
            {
                var wait = _play.WakeAt > _play.Now ? _play.WakeAt - _play.Now : TimeSpan.Zero;
                Play("tick", () => _play.Pass(wait), passes: wait);
            }

            Play("time", () => _play.Pass(until - _play.Now), passes: until - _play.Now);
        }

        void Play(string what, Action play, BudgetState? concerned = null, TimeSpan passes = default)
        {
            _event = what;
            _lets.Clear();
            foreach (var budget in _play.Scheduler.Budgets.Where(budget => budget != concerned))
            {
                _lets.Add(budget, budget.Rules.Left(_play.Now + passes));
            }

            play();
            SchedulerAction[] actions = [.. _play.Actions];
            foreach (var grant in _play.Granted)
            {
                _granted++;
                if (grant.Budget is { } budget && _lets.TryGetValue(budget, out var lets))
                {
                    Require(lets > 0, $"{grant.Sequence} goes while {budget.Key} is closed, or lets no more through");
                    _lets[budget] = lets - 1;
                }
            }

            foreach (var refusal in _play.Refused)
            {
                Require(refusal.Refusal is not RefusalKind.Rejected || (refusal.Reason is PoolRejectionReason.ProviderLimit && refusal.Waiter.Budget!.Rules.OpensAt(_play.Now) > refusal.Waiter.Deadline), $"{refusal} is refused at once");
            }

            foreach (var dialed in _play.Dialed)
            {
                _dialing.Enqueue(dialed);
            }

            CheckWaiting();
            foreach (var action in actions.Where(action => action.Kind is ActionKind.Close or ActionKind.Drop))
            {
                Play($"{action.Connection} is closed", () => _play.IsClosed(action.Connection));
            }
        }

        void CheckWaiting()
        {
            var scheduler = _play.Scheduler;
            foreach (var waiter in Of(WaiterState.Waiting))
            {
                var isOpen = waiter.Budget is not { } budget || budget.Rules.IsOpen(_play.Now);
                Require(waiter.Share.Tenant.Room == 0 || isOpen == (scheduler.ReasonFor(waiter) is not PoolRejectionReason.ProviderLimit), $"{waiter.Sequence} is said to wait for {scheduler.ReasonFor(waiter)}");
                var mayGo = isOpen && scheduler.Leases < scheduler.Limits.MaxConcurrentRequests && waiter.Share.Lane.Leases < waiter.Share.Lane.Settings.Ceiling && waiter.Share.Tenant.Room > 0;
                var key = waiter.Key!;
                Require(!mayGo || key.SpreadUntil > _play.Now || !key.Connections.Any(connection => connection.CanTakeStream), $"{waiter.Sequence} waits for nothing");
                Require(!mayGo || key.Usable + key.Dialing > 0 || key.BackOffUntil > _play.Now || scheduler.Permits.InUse >= scheduler.Limits.MaxConnections, $"{waiter.Sequence} waits, and nobody dials for it");
            }

            Require(_all.Count(waiter => waiter.State is WaiterState.Leased && waiter.Budget is not null && !waiter.IsAnswered) == scheduler.Budgets.Sum(budget => budget.Rules.InFlight), "budgets count others than those in flight");
        }

        public void End()
        {
            for (var rounds = 0; rounds < 400 && (_play.Scheduler.Waiting > 0 || _play.Scheduler.Leases > 0); rounds++)
            {
                while (Any(WaiterState.Leased) is { } waiter)
                {
                    Play("last answer", () => _play.Answer(waiter), waiter.Budget);
                    Play("last release", () => _play.Release(waiter), waiter.Budget);
                }

                while (_dialing.TryDequeue(out var connection))
                {
                    DialEnds(connection, fails: false);
                }

                Pass(20);
            }

            Require(_all.TrueForAll(static waiter => waiter.State is WaiterState.Ended), $"{_play.Scheduler.Waiting} still wait");
            Require(_granted > Steps / 10, $"{_granted} were granted: too few for a test");
            while (_dialing.TryDequeue(out var connection))
            {
                DialEnds(connection, fails: false);
            }

            Pass(3_600);
            var scheduler = _play.Scheduler;
            Require((scheduler.Leases, scheduler.Waiting, scheduler.Permits.InUse, scheduler.Keys.Count) == (0, 0, 0, 0), "something is left");
            Require(scheduler.Sharing.Lanes.TrueForAll(static lane => (lane.Leases, lane.Waiting, lane.Parked.Count) == (0, 0, 0)), "a lane has something left");
            Require(scheduler.Sharing.Tenants.All(static tenant => (tenant.Leases, tenant.Waiting) == (0, 0)), "a tenant has something left");
            Require(scheduler.Budgets.All(static budget => budget.Rules.InFlight == 0 && budget.Keys.Count == 0), "a budget has something left");
        }

        void Require(bool isTrue, string what) => Assert.True(isTrue, $"seed {_seed}, step {_step}, {_event}: {what}");
    }
}
