namespace Warmline.Scheduling;

/// <summary>The time of the current event, the actions that it leads to, and the timers for later.</summary>
internal sealed class Agenda
{
    readonly IndexedHeap<Timed, Timed.ByDue> _timers = new();

    List<SchedulerAction> _actions = null!;
    TimeSpan _wakeAt = TimeSpan.MaxValue;

    /// <summary>The time of the current event; between events, that of the last one.</summary>
    public TimeSpan Now { get; private set; }

    public void Begin(TimeSpan now, List<SchedulerAction> actions)
    {
        Now = now > Now ? now : Now;
        _actions = actions;
    }

    public void Add(SchedulerAction action) => _actions.Add(action);

    public void End()
    {
        if (_timers.First is { } next && next.Due < _wakeAt)
        {
            _wakeAt = next.Due;
            _actions.Add(new SchedulerAction(ActionKind.WakeAt, At: next.Due));
        }

        _actions = null!;
    }

    public void StartTimer(Timed timed, TimeSpan due)
    {
        timed.Due = due;
        if (due < TimeSpan.MaxValue)
        {
            _timers.Set(timed);
        }
        else
        {
            _timers.Remove(timed);
        }
    }

    public void StopTimer(Timed timed) => _timers.Remove(timed);

    /// <summary>The shell has sent the Tick that <see cref="ActionKind.WakeAt"/> asked for.</summary>
    public void Woken() => _wakeAt = TimeSpan.MaxValue;

    /// <summary>Takes the next timer that is due; null when none is.</summary>
    public Timed? TakeDue()
    {
        if (_timers.First is not { } timed || timed.Due > Now)
        {
            return null;
        }

        _timers.Remove(timed);
        timed.Due = TimeSpan.MaxValue;
        return timed;
    }
}
