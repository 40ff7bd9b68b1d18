namespace Warmline.Scheduling;

/// <summary>Provider budgets: calls wait here while their provider would refuse them.</summary>
internal sealed class ProviderBudgets(Agenda agenda)
{
    /// <summary>
    /// Upper bound on remembered budgets, as there is one for each model and credential. Budgets that block nothing are dropped first.
    /// </summary>
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

    /// <summary>The budget may be open again. Its waiters are checked at the end of the event.</summary>
    public void Reopened(BudgetState budget)
    {
        if (budget.Keys.Count > 0 && !_reopened.Contains(budget))
        {
            _reopened.Add(budget);
        }
    }

    /// <summary>Takes the next budget that may be open again; null when none is left.</summary>
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

    /// <summary>
    /// Reopens the overdue budgets that waiters of the key wait for, if the Tick is late. Otherwise the waiters on other keys would lose
    /// their part.
    /// </summary>
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

    /// <summary>Starts a timer for each closed budget that waiters of the key wait for.</summary>
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

    /// <summary>Removes the key from all budgets, even if the lane in which it waited has been removed.</summary>
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
