namespace Warmline.Scheduling;

/// <summary>Requests that a provider counts together: those of one credential to one origin, and where it is known of one model.</summary>
/// <param name="Origin">The origin.</param>
/// <param name="Credential">A number that stands for the credential in this process alone.</param>
/// <param name="Model">The model; empty when it is not known.</param>
internal sealed record BudgetKey(string Origin, int Credential, string Model);

/// <summary>What a provider lets through, and the keys where requests may wait for it.</summary>
internal sealed class BudgetState(BudgetKey key) : Timed
{
    public BudgetKey Key { get; } = key;

    public ProviderBudget Rules { get; } = new();

    public HashSet<KeyState> Keys { get; } = [];

    /// <summary>What of it a key's waiters were counted to take, while they are counted.</summary>
    public int Counted { get; set; }
}

/// <summary>What the last answer of a key said that was looked at, where nothing is paced by it.</summary>
internal sealed record ToldLimits(RateLimits Limits, TimeSpan At)
{
    public IReadOnlyList<ProviderLimit> Report(TimeSpan now)
    {
        var age = now > At ? now - At : TimeSpan.Zero;
        var report = new List<ProviderLimit>();
        foreach (var kind in Enum.GetValues<RateLimitKind>())
        {
            if (Limits[kind] is { } limit)
            {
                report.Add(new ProviderLimit(kind, limit.Limit, limit.Remaining, limit.ResetIn is { } resetIn && resetIn > age ? resetIn - age : null, age));
            }
        }

        return report;
    }
}

/// <summary>Pacing: requests wait while their provider would refuse them.</summary>
internal sealed partial class Scheduler
{
    /// <summary>Budgets that are remembered. More are made by models and credentials alone; those that hold nothing back go first.</summary>
    const int MostBudgets = 1_000;

    readonly Dictionary<BudgetKey, BudgetState> _budgets = [];
    readonly List<BudgetState> _reopened = [];

    public IReadOnlyCollection<BudgetState> Budgets => _budgets.Values;

    /// <summary>The head of an answer came.</summary>
    public void Answered(Waiter waiter, RateLimits limits, int status, TimeSpan now, List<SchedulerAction> actions)
    {
        if (waiter is not { State: WaiterState.Leased, Budget: { } budget, IsAnswered: false })
        {
            return;
        }

        Begin(now, actions);
        waiter.IsAnswered = true;
        budget.Rules.Answered(limits, status, _now, waiter.GrantedAt);
        Reopened(budget);
        ServeReopened();
        End();
    }

    /// <summary>The body of a refusal that came at <paramref name="answeredAt"/> says how long to wait.</summary>
    public void Advised(Waiter waiter, TimeSpan wait, TimeSpan answeredAt, TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        if (waiter.Budget is { } budget)
        {
            budget.Rules.Advised(wait, answeredAt);
            Reopened(budget);   // it may be open sooner than was guessed
            ServeReopened();
        }

        End();
    }

    /// <summary>The provider asks for slower growth.</summary>
    public void SlowDown(Waiter waiter, TimeSpan now, List<SchedulerAction> actions)
    {
        Begin(now, actions);
        if (waiter.Budget is { } budget)
        {
            budget.Rules.SlowDown(_now);
            Reopened(budget);   // said again, it may have changed the bound to the better
            ServeReopened();
        }

        End();
    }

    bool IsOpen(BudgetState? budget) => budget is null || budget.Rules.IsOpen(_now);

    void StartPaced(Waiter waiter)
    {
        if (waiter.Budget is { } budget)
        {
            waiter.IsAnswered = false;
            budget.Rules.Started(_now);
        }
    }

    void EndPaced(Waiter waiter, LeaseOutcome outcome)
    {
        if (waiter is not { Budget: { } budget, IsAnswered: false })
        {
            return;
        }

        if (outcome is LeaseOutcome.NotSent or LeaseOutcome.Unused)
        {
            budget.Rules.Unused(_now, waiter.GrantedAt);
        }
        else
        {
            budget.Rules.Failed(_now, waiter.GrantedAt);
        }

        Reopened(budget);
    }

    /// <summary>It may be open again: what waited for it is looked at in the end of the event.</summary>
    void Reopened(BudgetState budget)
    {
        if (budget.Keys.Count > 0 && !_reopened.Contains(budget))
        {
            _reopened.Add(budget);
        }
    }

    void ServeReopened()
    {
        while (_reopened.Count > 0)
        {
            var budget = _reopened[^1];
            _reopened.RemoveAt(_reopened.Count - 1);
            if (budget.Due <= _now)
            {
                _timers.Remove(budget);
                budget.Due = TimeSpan.MaxValue;
            }

            // What it lets through may be less than waits: its keys compete, or the first would take all of it each time.
            var keys = budget.Keys.ToArray();
            if (keys.Length > 1)
            {
                foreach (var key in keys)
                {
                    HoldAll(key);
                }
            }

            ServeHeld();
            foreach (var key in keys)
            {
                Settle(key);
            }
        }
    }

    /// <summary>The time of budgets has come that waiters of the key wait for, and the Tick is late: those who wait on other keys must not lose their part by that.</summary>
    void ReopenDue(KeyState key)
    {
        if (!key.Queue.HasBudgets)
        {
            return;
        }

        foreach (var lane in key.Queue.Lanes)
        {
            if (lane.Budget is { } budget && budget.Due <= _now)
            {
                Reopened(budget);
            }
        }
    }

    /// <summary>Whoever waits for a closed budget is looked at again when it opens.</summary>
    void NoteClosedBudgets(KeyState key)
    {
        if (!key.Queue.HasBudgets)
        {
            return;
        }

        foreach (var lane in key.Queue.Lanes)
        {
            if (lane is { Eligible: > 0, Budget: { } budget } && budget.Rules.OpensAt(_now) is var opens && opens > _now)
            {
                StartTimer(budget, opens);
            }
        }
    }

    /// <summary>Also where the lane has gone that it waited in.</summary>
    void LeaveBudgets(KeyState key)
    {
        if (key.Queue.HasBudgets)
        {
            foreach (var budget in _budgets.Values)
            {
                budget.Keys.Remove(key);
            }
        }
    }

    BudgetState BudgetFor(BudgetKey key)
    {
        if (!_budgets.TryGetValue(key, out var budget))
        {
            if (_budgets.Count >= MostBudgets)
            {
                ForgetBudgets();
            }

            _budgets.Add(key, budget = new BudgetState(key));
        }

        return budget;
    }

    void ForgetBudgets()
    {
        foreach (var budget in _budgets.Values.ToArray())
        {
            if (!budget.Rules.IsForgettable(_now))
            {
                continue;
            }

            budget.Keys.RemoveWhere(key => key.Queue.Forget(budget));
            if (budget.Keys.Count == 0)
            {
                _timers.Remove(budget);
                _budgets.Remove(budget.Key);
            }
        }
    }
}
