using Warmline.Scheduling;

namespace Warmline.Pool;

/// <summary>How far a drain has come.</summary>
internal sealed class DrainProgress
{
    readonly TaskCompletionSource _leasesEnded = new(TaskCreationOptions.RunContinuationsAsynchronously);
    readonly TaskCompletionSource _connectionsClosed = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>Completes when the last call has ended.</summary>
    public Task LeasesEnded => _leasesEnded.Task;

    /// <summary>Completes when the last connection is closed.</summary>
    public Task ConnectionsClosed => _connectionsClosed.Task;

    /// <summary>Needs the pool's lock.</summary>
    public void Update(Scheduler scheduler)
    {
        if (!scheduler.IsDraining)
        {
            return;
        }

        if (scheduler.Leases == 0)
        {
            _leasesEnded.TrySetResult();
        }

        if (scheduler.Permits.InUse == 0)
        {
            _connectionsClosed.TrySetResult();
        }
    }
}
