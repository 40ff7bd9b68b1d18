using System.Diagnostics;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline.Pool;

/// <summary>
/// Reports responses that are not read on for <see cref="ConnectionPoolOptions.LeakThreshold"/>, and those that were never disposed.
/// </summary>
internal sealed class LeakWatch : IAsyncDisposable
{
    readonly PoolEngine _pool;
    readonly ITimer _timer;

    public LeakWatch(PoolEngine pool)
    {
        _pool = pool;
        _timer = pool.Background.CreateTimer(this, static watch => watch.Check(), Timeout.InfiniteTimeSpan);
        ThresholdChanged();
    }

    /// <summary>Checks every response four times within the threshold.</summary>
    public void ThresholdChanged()
    {
        var period = _pool.Settings.LeakThreshold is { } threshold ? threshold / 4 : Timeout.InfiniteTimeSpan;
        _timer.TrySet(period, period);
    }

    /// <summary>Where a call comes from, if leaks are looked for.</summary>
    /// <param name="skipFrames">Frames of the pool above this method.</param>
    public StackTrace? StackOfCall(int skipFrames) => _pool.Settings.LeakThreshold is null ? null : new StackTrace(skipFrames + 1);

    /// <summary>A response was garbage-collected before it was read to its end or disposed.</summary>
    public void ReportLeak(PooledCall call)
    {
        _pool.Figures.Count(Fault.Leaked);
        LogMessages.ResponseLeaked(_pool.Logger, call.Key!.Key.Origin, (_pool.Now - call.GrantedAt).TotalSeconds,
            call.TakenBy?.ToString() ?? "unknown; set LeakThreshold to have the stack recorded");
    }

    public ValueTask DisposeAsync() => _timer.DisposeAsync();

    /// <summary>Reports each response once.</summary>
    void Check()
    {
        if (_pool.Settings.LeakThreshold is not { } threshold)
        {
            return;
        }

        var now = _pool.Now;
        foreach (var call in _pool.Core.Read(static (scheduler, _) => scheduler.Leased().Cast<PooledCall>().ToArray()))
        {
            if (call.CheckHeld(threshold, now) is { } held)
            {
                LogMessages.ResponseHeld(_pool.Logger, call.Key!.Key.Origin, held.TotalSeconds, call.TakenBy?.ToString() ?? "unknown");
            }
        }
    }
}
