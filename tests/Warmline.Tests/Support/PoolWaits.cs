namespace Warmline.Tests.Support;

/// <summary>Waits for a pool's numbers.</summary>
internal static class PoolWaits
{
    public static Task StatsAsync(this ConnectionPool pool, Func<PoolStats, bool> reached) => Eventually.TrueAsync(() => reached(pool.GetStats()), () => Rig.Describe(pool.GetStats()));

    /// <summary>All calls have ended and nothing of them is left.</summary>
    public static Task QuietAsync(this ConnectionPool pool) => pool.StatsAsync(stats => stats is { Active: 0, Queued: 0 });
}
