using Warmline.Options;

namespace Warmline;

/// <summary>What tells whether a pool is well.</summary>
internal sealed record PoolHealth(bool TakesNothing, bool IsDisposed, TimeSpan LongestWait, IReadOnlyList<OriginHealth> Origins);

/// <summary>The same for one connection key.</summary>
/// <param name="Origin">Its origin.</param>
/// <param name="WarmWanted">Connections that the options want held ready.</param>
/// <param name="Ready">Connections that are ready, busy ones included.</param>
/// <param name="FailedDials">Dials that failed since the last one that succeeded; those under way together count once.</param>
/// <param name="SinceFailure">How long ago the last of them failed.</param>
/// <param name="Queued">Requests that wait.</param>
/// <param name="IsBusy">More than 80 % of what it may carry is in use, and it has not fallen below 70 % since.</param>
internal sealed record OriginHealth(string Origin, int WarmWanted, int Ready, int FailedDials, TimeSpan SinceFailure, int Queued, bool IsBusy);

internal sealed partial class PoolEngine
{
    public PoolHealth GetHealth()
    {
        var warm = Settings.WarmConnections;
        lock (_gate)
        {
            var now = Now;
            var origins = new List<OriginHealth>();
            var longest = TimeSpan.Zero;
            foreach (var key in _scheduler.Keys)
            {
                origins.Add(new OriginHealth(key.Key.Origin, warm.GetValueOrDefault(key.Key), key.Ready, key.Failures, key.Failures > 0 ? now - key.FailedAt : TimeSpan.Zero, key.Queue.Count, key.HasWarned));
                if (key.Queue.First is { } first && now - first.AskedAt is var waited && waited > longest)
                {
                    longest = waited;
                }
            }

            return new PoolHealth(_takesNothing, _disposed, longest, origins);
        }
    }

    /// <summary>Waits until what the options want held ready to that key is ready, or cannot be: how many are, and what kept the others.</summary>
    public async Task<(int Ready, Exception? Cause)> WarmAsync(ConnectionKey key, int connections, CancellationToken cancellationToken)
    {
        try
        {
            return (await WarmUpAsync(key, connections, cancellationToken).ConfigureAwait(false), null);
        }
        catch (Exception error) when (error is PoolConnectException or PoolRejectedException or OperationCanceledException)
        {
            return (Read((scheduler, _) => scheduler.Keys.FirstOrDefault(state => state.Key.Equals(key))?.Ready ?? 0), error);
        }
    }
}
