
namespace Warmline.Pool;

/// <summary>What the pool does when the process's thread pool has no thread for it.</summary>
internal sealed class StandstillWatch
{
    static readonly TimeSpan LogInterval = TimeSpan.FromMinutes(1);

    readonly PoolEngine _pool;
    readonly PoolTime? _time;
    readonly Func<bool> _isBusy;
    TimeSpan _loggedAt = TimeSpan.MinValue / 2;

    public StandstillWatch(PoolEngine pool)
    {
        _pool = pool;
        _isBusy = IsBusy;
        _time = pool.Time as PoolTime;
        if (_time is not null)
        {
            _time.StoodStill = Log;
        }
    }

    /// <summary>How long the pool's time has stood still in all.</summary>
    public TimeSpan Lost => _time?.Lost ?? TimeSpan.Zero;

    /// <summary>Watches the thread pool for as long as the pool has work.</summary>
    public void Watch() => _time?.Watch(_isBusy);

    /// <summary>Whether calls wait or run, or connections are being opened.</summary>
    bool IsBusy() => _pool.Core.Read(static (scheduler, _) =>
        scheduler.Waiting + scheduler.Leases > 0 || scheduler.Keys.Any(static key => key.Dialing + key.AwaitingSettings > 0));

    void Log(TimeSpan lost)
    {
        var now = _pool.Now;
        if (lost >= TimeSpan.FromSeconds(1) && now - _loggedAt >= LogInterval)
        {
            _loggedAt = now;
            LogMessages.Standstill(_pool.Logger, lost.TotalSeconds, PoolErrors.StarvationAdvice);
        }
    }
}
