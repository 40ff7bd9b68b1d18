using Warmline.Scheduling;

namespace Warmline.Pool;

/// <summary>Whether a pool is well.</summary>
internal sealed record PoolHealth(bool TakesNothing, bool IsDisposed, TimeSpan LongestWait, IReadOnlyList<OriginHealth> Origins)
{
    public static PoolHealth Of(PoolEngine pool) => pool.Core.Read((scheduler, now) =>
    {
        var warm = pool.Settings.WarmConnections;
        var longest = TimeSpan.Zero;
        var origins = new List<OriginHealth>();
        foreach (var key in scheduler.Keys)
        {
            origins.Add(OriginHealth.Of(key, warm.GetValueOrDefault(key.Key), now));
            if (key.Queue.First is { } first && now - first.AskedAt is var waited && waited > longest)
            {
                longest = waited;
            }
        }

        return new PoolHealth(pool.Lifetime.TakesNothing, pool.Lifetime.IsDisposed, longest, origins);
    });
}

/// <summary>The same for one connection key.</summary>
/// <param name="Origin">Its origin.</param>
/// <param name="WarmWanted">Connections to be kept ready, by the options.</param>
/// <param name="Ready">Connections that are ready, busy ones included.</param>
/// <param name="FailedDials">Dials that failed since the last one that succeeded. Those under way together count once.</param>
/// <param name="SinceFailure">How long ago the last of them failed.</param>
/// <param name="Queued">Calls that wait.</param>
/// <param name="IsBusy">More than 80 % of the capacity is in use, and it has not fallen below 70 % since.</param>
internal sealed record OriginHealth(
    string Origin, int WarmWanted, int Ready, int FailedDials, TimeSpan SinceFailure, int Queued, bool IsBusy)
{
    public static OriginHealth Of(KeyState key, int warmWanted, TimeSpan now) => new(
        key.Key.Origin,
        warmWanted,
        key.Ready,
        key.Failures,
        key.Failures > 0 ? now - key.FailedAt : TimeSpan.Zero,
        key.Queue.Count,
        key.HasWarned);
}
