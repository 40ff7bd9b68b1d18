namespace Warmline.Scheduling;

/// <summary>Pacing: requests wait while their provider would refuse them.</summary>
internal sealed class Pacing(Agenda agenda)
{
    /// <summary>Budgets that are remembered. More are made by models and credentials alone; those that hold nothing back go first.</summary>
    const int MostBudgets = 1_000;

    readonly Dictionary<BudgetKey, BudgetState> _budgets = [];
    readonly List<BudgetState> _reopened = [];

    public IReadOnlyCollection<BudgetState> Budgets => _budgets.Values;

    public void StartPaced(Waiter waiter)
    {
        if (waiter.Budget is { } budget)
        {
            waiter.IsAnswered = false;
            budget.Rules.Started(agenda.Now);
        }
    }

    public void EndPaced(Waiter waiter, LeaseOutcome outcome)
    {
        if (waiter is not { Budget: { } budget, IsAnswered: false })
        {
            return;
        }

        if (outcome is LeaseOutcome.NotSent or LeaseOutcome.Unused)
        {
            budget.Rules.Unused(agenda.Now, waiter.GrantedAt);
        }
        else
        {
            budget.Rules.Failed(agenda.Now, waiter.GrantedAt);
        }

        Reopened(budget);
    }

    /// <summary>It may be open again: what waited for it is looked at in the end of the event.</summary>
    public void Reopened(BudgetState budget)
    {
        if (budget.Keys.Count > 0 && !_reopened.Contains(budget))
        {
            _reopened.Add(budget);
        }
    }

    /// <summary>The next of those that may be open again; null when none is left.</summary>
    public BudgetState? TakeReopened()
    {
        if (_reopened.Count == 0)
        {
            return null;
        }

        var budget = _reopened[^1];
        _reopened.RemoveAt(_reopened.Count - 1);
        if (budget.Due <= agenda.Now)
        {
            agenda.StopTimer(budget);
            budget.Due = TimeSpan.MaxValue;
        }

        return budget;
    }

    /// <summary>The time of budgets has come that waiters of the key wait for, and the Tick is late: those who wait on other keys must not lose their part by that.</summary>
    public void ReopenDue(KeyState key)
    {
        if (!key.Queue.HasBudgets)
        {
            return;
        }

        foreach (var lane in key.Queue.Lanes)
        {
            if (lane.Budget is { } budget && budget.Due <= agenda.Now)
            {
                Reopened(budget);
            }
        }
    }

    /// <summary>Whoever waits for a closed budget is looked at again when it opens.</summary>
    public void AwaitOpening(KeyState key)
    {
        if (!key.Queue.HasBudgets)
        {
            return;
        }

        foreach (var lane in key.Queue.Lanes)
        {
            if (lane is { Eligible: > 0, Budget: { } budget } && budget.Rules.OpensAt(agenda.Now) is var opens && opens > agenda.Now)
            {
                agenda.StartTimer(budget, opens);
            }
        }
    }

    /// <summary>Also where the lane has gone that it waited in.</summary>
    public void LeaveBudgets(KeyState key)
    {
        if (key.Queue.HasBudgets)
        {
            foreach (var budget in _budgets.Values)
            {
                budget.Keys.Remove(key);
            }
        }
    }

    public BudgetState BudgetFor(BudgetKey key)
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
            if (!budget.Rules.IsForgettable(agenda.Now))
            {
                continue;
            }

            budget.Keys.RemoveWhere(key => key.Queue.Forget(budget));
            if (budget.Keys.Count == 0)
            {
                agenda.StopTimer(budget);
                _budgets.Remove(budget.Key);
            }
        }
    }
}
