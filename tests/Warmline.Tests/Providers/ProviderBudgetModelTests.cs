using Warmline.Scheduling;
using Xunit;

namespace Warmline.Tests.Providers;

/// <summary>Clients with endless work before a server that enforces a limit, in simulated time: nothing is refused once the first headers were seen, and the budget is used.</summary>
public sealed class ProviderBudgetModelTests
{
    const int Windows = 20;

    /// <summary>How the server counts, and what its headers leave of the times.</summary>
    public enum Kind
    {
        Fixed,
        FixedByWholeSeconds,
        Bucket,
        BucketByWholeSeconds,
    }

    public static TheoryData<Kind, int, int, double, double, int> Cases
    {
        get
        {
            var cases = new TheoryData<Kind, int, int, double, double, int>();
            foreach (var kind in Enum.GetValues<Kind>())
            {
                cases.Add(kind, 60, 60, 0.005, 0.05, 20);     // answers at once
                cases.Add(kind, 60, 60, 0.2, 3, 40);          // and after seconds
                cases.Add(kind, 1_000, 60, 0.05, 8, 400);     // a larger account
                cases.Add(kind, 50, 60, 10, 75, 50);          // answers that take longer than a window
            }

            cases.Add(Kind.Fixed, 60, 2, 0.001, 0.04, 16);    // scaled
            cases.Add(Kind.Bucket, 60, 2, 0.001, 0.04, 16);
            return cases;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Nothing_is_refused_and_the_budget_is_used(Kind kind, int limit, int window, double fastest, double slowest, int clients)
    {
        for (var seed = 1; seed <= 20; seed++)
        {
            var play = new Play(kind, limit, window, fastest, slowest, clients, seed);
            play.Run(TimeSpan.FromSeconds(window * (Windows + 1)));
            var story = $"{kind}, {limit} in {window} s, {fastest}-{slowest} s, {clients} clients, seed {seed}: {play.Served} served, {play.Refused} refused";

            Assert.True(play.Refused == 0, story);

            // What the clients could do at most, where they are too few or too slow for all of it.
            var able = clients / ((fastest + slowest) / 2) * window;
            Assert.True(play.ServedAfterFirstWindow >= 0.95 * Math.Min(limit, able * 0.95) * Windows, $"{story}, {play.ServedAfterFirstWindow} of {limit * Windows}");
        }
    }

    [Theory]
    [InlineData(Kind.Fixed)]
    [InlineData(Kind.Bucket)]
    public void Without_it_the_same_clients_are_refused(Kind kind)
    {
        var play = new Play(kind, 60, 60, 0.005, 0.05, 20, seed: 1, isHeld: false);
        play.Run(TimeSpan.FromSeconds(120));

        Assert.True(play.Refused > 1_000);
    }

    /// <summary>Answers that say anything at all, in any order: it never stays closed when nothing is in flight, and no time is before now.</summary>
    [Fact]
    public void Whatever_is_told_it_opens_again()
    {
        for (var seed = 1; seed <= 300; seed++)
        {
            var random = new Random(seed);
            var (budget, now, started) = (new ProviderBudget(), TimeSpan.FromHours(1), new List<TimeSpan>());
            for (var step = 0; step < 400; step++)
            {
                now += TimeSpan.FromSeconds(random.Next(4) == 0 ? random.NextDouble() * 100 : 0);
                if (budget.IsOpen(now) && random.Next(2) == 0)
                {
                    budget.Started(now);
                    started.Add(now);
                }
                else if (started.Count > 0)
                {
                    var which = random.Next(started.Count);
                    TimeSpan? at = random.Next(4) == 0 ? null : started[which];
                    started.RemoveAt(which);
                    End(budget, random, now, at);
                }

                Assert.True(budget.OpensAt(now) >= now, $"seed {seed}, step {step}");
                Assert.All(budget.Report(now), limit => Assert.True(limit.Remaining is null or >= 0 && (limit.ResetsIn is null || limit.ResetsIn > TimeSpan.Zero) && limit.Age >= TimeSpan.Zero));
            }

            while (started.Count > 0)
            {
                started.RemoveAt(0);
                budget.Failed(now);
            }

            Assert.Equal(0, budget.InFlight);
            Assert.True(budget.OpensAt(now) <= now + ProviderBudget.LongestCoolDown, $"seed {seed}: {budget.OpensAt(now) - now}");
        }
    }

    static void End(ProviderBudget budget, Random random, TimeSpan now, TimeSpan? startedAt)
    {
        var reading = new RateLimits { RetryAfter = random.Next(5) == 0 ? Time() : null };
        for (var kinds = random.Next(3); kinds > 0; kinds--)
        {
            ref var limit = ref reading.At((RateLimitKind)random.Next(RateLimits.Kinds));
            limit.Limit = random.Next(3) == 0 ? null : random.Next(50);
            limit.Remaining = random.Next(3) == 0 ? null : random.Next(3) == 0 ? 0 : random.Next(60);
            limit.ResetIn = random.Next(3) == 0 ? null : Time();
            limit.Slack = TimeSpan.FromSeconds(random.Next(3));
        }

        switch (random.Next(12))
        {
            case 0:
                budget.Failed(now, startedAt);
                break;
            case 1:
                budget.Unused(now, startedAt);
                break;
            default:
                budget.Answered(reading, new[] { 200, 200, 200, 400, 429, 500, 503, 529 }[random.Next(8)], now, startedAt);
                break;
        }

        TimeSpan Time() => TimeSpan.FromSeconds(random.Next(4) switch { 0 => 0, 1 => random.NextDouble(), 2 => random.NextDouble() * 100, _ => random.NextDouble() * 366 * 86_400 });
    }

    /// <summary>The server, the network and the clients. Events in order of time.</summary>
    sealed class Play(Kind kind, int limit, int window, double fastest, double slowest, int clients, int seed, bool isHeld = true)
    {
        readonly Random _random = new(seed);
        readonly ProviderBudget _budget = new();
        readonly PriorityQueue<Action, (TimeSpan At, int Order)> _events = new();
        readonly TimeSpan _window = TimeSpan.FromSeconds(window);
        readonly TimeSpan _begin = TimeSpan.FromSeconds(1_000) + TimeSpan.FromSeconds(seed * 0.37);
        TimeSpan _now;
        TimeSpan _windowBegan;
        TimeSpan _wakesAt;
        TimeSpan _refilledAt;
        double _left = limit;
        int _idle;
        int _order;
        bool _isTold;

        public int Served { get; private set; }

        public int ServedAfterFirstWindow { get; private set; }

        /// <summary>Of requests that started when something was known.</summary>
        public int Refused { get; private set; }

        public void Run(TimeSpan time)
        {
            _now = _refilledAt = _begin;

            // One alone first: a burst into the unknown may be refused, which is not what is tested.
            _idle = 1;
            At(_now, StartAll);
            while (_events.TryPeek(out _, out var next) && next.At <= _begin + time)
            {
                _now = next.At;
                _events.Dequeue()();
            }
        }

        void StartAll()
        {
            while (_idle > 0 && (!isHeld || _budget.IsOpen(_now)))
            {
                _idle--;
                _budget.Started(_now);
                var (started, wasTold) = (_now, _isTold);
                var upload = Seconds(0.001 + (_random.NextDouble() * 0.02));
                At(_now + upload, () => Serve(started, wasTold));
            }

            if (_idle > 0 && _budget.OpensAt(_now) is var opens && opens < TimeSpan.MaxValue && opens != _wakesAt)
            {
                _wakesAt = opens;
                At(opens, StartAll);
            }
        }

        void Serve(TimeSpan started, bool wasTold)
        {
            var isServed = Take();
            var reading = Headers();
            var answer = Seconds(fastest + (_random.NextDouble() * (slowest - fastest)));
            if (isServed)
            {
                Served++;
                ServedAfterFirstWindow += _now - _begin >= _window ? 1 : 0;
            }
            else
            {
                Refused += wasTold ? 1 : 0;
                answer = Seconds(0.01);
                reading.RetryAfter = reading[RateLimitKind.Requests]!.Value.ResetIn;
            }

            At(_now + answer, () =>
            {
                _budget.Answered(reading, isServed ? 200 : 429, _now, started);
                _idle += _isTold ? 1 : clients;
                _isTold = true;
                StartAll();
            });
        }

        bool Take()
        {
            if (kind is Kind.Bucket or Kind.BucketByWholeSeconds)
            {
                _left = Math.Min(limit, _left + ((_now - _refilledAt) / _window * limit));
                _refilledAt = _now;
            }
            else if (_now - _windowBegan >= _window)
            {
                // By the clock, as minutes are: not by the first request.
                _windowBegan = TimeSpan.FromTicks(_now.Ticks / _window.Ticks * _window.Ticks);
                _left = limit;
            }

            if (_left < 1)
            {
                return false;
            }

            _left--;
            return true;
        }

        RateLimits Headers()
        {
            var reset = kind is Kind.Bucket or Kind.BucketByWholeSeconds ? (limit - _left) / limit * _window : _windowBegan + _window - _now;
            var reading = default(RateLimits);
            ref var requests = ref reading.At(RateLimitKind.Requests);
            (requests.Limit, requests.Remaining, requests.ResetIn) = (limit, (long)_left, reset);
            if (kind is Kind.FixedByWholeSeconds or Kind.BucketByWholeSeconds)
            {
                // As RFC 3339 beside a Date: both cut off, a second added.
                var (end, date) = (Math.Floor((_now + reset).TotalSeconds), Math.Floor(_now.TotalSeconds));
                (requests.ResetIn, requests.Slack) = (Seconds(Math.Max(0, end - date + 1)), Seconds(2));
            }

            return reading;
        }

        void At(TimeSpan at, Action action) => _events.Enqueue(action, (at, _order++));

        static TimeSpan Seconds(double seconds) => TimeSpan.FromSeconds(seconds);
    }
}
