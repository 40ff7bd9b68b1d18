namespace Warmline;

/// <summary>Disposing a pool. Runs once regardless of callers; retried if an attempt failed.</summary>
internal sealed partial class PoolEngine
{
    Task? _ending;

    public ValueTask DisposeAsync()
    {
        var end = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (_gate)
        {
            _disposed = true;
            if (_ending is { IsFaulted: false } running)
            {
                return new ValueTask(running);   // later callers wait for the first
            }

            _ending = end.Task;
        }

        _ = EndAsync(end);
        return new ValueTask(end.Task);
    }

    /// <summary>Every step may be taken again.</summary>
    async Task EndAsync(TaskCompletionSource end)
    {
        try
        {
            await DrainAsync(TimeSpan.Zero, PoolRejectionReason.Disposed, CancellationToken.None).ConfigureAwait(false);
            await _timer.DisposeAsync().ConfigureAwait(false);
            await _namesTimer.DisposeAsync().ConfigureAwait(false);
            await _leakTimer.DisposeAsync().ConfigureAwait(false);
            await StopHeldChecksAsync().ConfigureAwait(false);
            _idleWatch.Dispose();
            if (_statsLog is not null)
            {
                await _statsLog.DisposeAsync().ConfigureAwait(false);
            }

            Clock.Dispose();
            _connector.Dispose();
            DisposeBypass();
            Metrics.Dispose();
            _poolTime?.Dispose();
            PoolCensus.Remove(this);
            end.SetResult();
        }
        catch (Exception error)
        {
            end.SetException(error);
            _ = end.Task.Exception;   // observed: the caller may not wait
        }
    }
}
