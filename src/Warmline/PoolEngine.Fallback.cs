using Warmline.Scheduling;

namespace Warmline;

/// <summary>Calls that go over HTTP/1.1 because their origin refuses HTTP/2, or its HTTP/2 is broken.</summary>
internal sealed partial class PoolEngine
{
    volatile bool _hasAvoided;

    /// <summary>Whether calls to the origin that may use HTTP/1.1 do. Costs nothing as long as no origin has fallen back.</summary>
    public bool AvoidsHttp2(string origin) => _hasAvoided
        && Read((scheduler, now) => scheduler.Keys.Any(key => string.Equals(key.Key.Origin, origin, StringComparison.OrdinalIgnoreCase) && Scheduler.AvoidsHttp2(key, now)));

    /// <summary>A call on HTTP/2 failed and is not sent again: what that says about the origin counts for the next.</summary>
    public void DoubtHttp2(PooledCall call, Http2Doubt doubt)
    {
        var actions = RentActions();
        lock (_gate)
        {
            _scheduler.DoubtHttp2(call.Connection!, doubt, Now, actions);
        }

        Run(actions);
    }

    /// <summary>
    /// Puts a call back to its place in the queue if its origin's HTTP/2 is avoided, now at the latest. That is no repetition of what failed: it costs no try, and
    /// nothing of the retry budget.
    /// </summary>
    bool TryFallBack_NeedsLock(PooledCall call, Http2Doubt doubt, List<SchedulerAction> actions)
    {
        var now = Now;
        if (!_scheduler.DoubtHttp2(call.Connection!, doubt, now, actions))
        {
            return false;
        }

        if (!call.Timeouts.TotalEndsWait && DeadlineOf(call.Timeouts, now) is var deadline && deadline > call.Deadline)
        {
            call.Deadline = deadline;   // it did not wait while it was on HTTP/2
        }

        if (now >= call.Deadline)
        {
            return false;
        }

        _scheduler.Bypass(call, ConnectionEnd.Alone, now, actions);
        return true;
    }

    void ReportHttp2Avoided(in SchedulerAction action)
    {
        _hasAvoided = true;
        var memory = action.Doubt is Http2Doubt.Refused ? Http2Trust.RefusalMemory : Http2Trust.BreakMemory;
        LogMessages.Http2Avoided(_logger, ((KeyState)action.Target!).Key.Origin,
            action.Doubt is Http2Doubt.Refused ? "the server asked for HTTP/1.1" : "the connections broke before the first response",
            memory.TotalMinutes);
    }
}
