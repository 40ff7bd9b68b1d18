namespace Warmline.Scheduling;

/// <summary>Handles timers that are due: waiters' deadlines, connections, budgets and keys.</summary>
internal sealed class DueEvents(
    Agenda agenda, KeyTable table, WaitLists waitLists, ProviderBudgets budgets, Settlement settlement, CallEvents calls, Ageing ageing)
{
    public void Tick()
    {
        agenda.Woken();
        while (agenda.TakeDue() is { } timed)
        {
            switch (timed)
            {
                case Waiter waiter:
                    calls.TimedOut(waiter);
                    break;
                case ConnectionState connection:
                    ageing.ConnectionDue(connection);
                    break;
                case BudgetState budget:
                    budgets.Reopened(budget);
                    settlement.ServeReopened();
                    break;
                case KeyState { IsForgettable: true } key:
                    waitLists.Forget(key);
                    budgets.LeaveBudgets(key);
                    table.Forget(key);
                    break;
                case KeyState key:
                    settlement.Settle(key);
                    break;
            }
        }
    }
}
