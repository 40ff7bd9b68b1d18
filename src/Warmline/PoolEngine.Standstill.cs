namespace Warmline;

/// <summary>What the pool does when the process's thread pool has no thread for it.</summary>
internal sealed partial class PoolEngine
{
    static readonly TimeSpan TellEach = TimeSpan.FromMinutes(1);

    TimeSpan _toldStandstill = TimeSpan.MinValue / 2;

    /// <summary>How long the pool's time has stood still in all.</summary>
    TimeSpan LostTime => _poolTime?.Lost ?? TimeSpan.Zero;

    /// <summary>Whether anybody waits for the pool's work.</summary>
    bool IsBusy() => Read(static (scheduler, _) => scheduler.Waiting + scheduler.Leases > 0 || scheduler.Keys.Any(static key => key.Dialing + key.AwaitingSettings > 0));

    void TellStandstill(TimeSpan lost)
    {
        var now = Now;
        if (lost >= TimeSpan.FromSeconds(1) && now - _toldStandstill >= TellEach)
        {
            _toldStandstill = now;
            LogMessages.Standstill(_logger, lost.TotalSeconds, PoolErrors.StarvationAdvice);
        }
    }
}
