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
