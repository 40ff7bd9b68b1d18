namespace Warmline.Pool;

/// <summary>
/// Detects that the machine slept. On Linux and macOS the monotonic clock stands still during sleep; the wall clock does not. The two are
/// compared at most once a second, with whatever event comes. So the first call after a sleep is covered, and a pool that is never idle as
/// well.
/// </summary>
/// <param name="time">Both clocks.</param>
/// <param name="standstill">How long the pool's time has stood still because the process had no thread. That is no sleep.</param>
internal sealed class SleepWatch(TimeProvider time, Func<TimeSpan> standstill)
{
    /// <summary>
    /// A wall clock this far ahead of the monotonic one indicates sleep. Time servers correct less now and then, and no connection suffers
    /// from a sleep that short.
    /// </summary>
    static readonly TimeSpan ShortestSleep = TimeSpan.FromSeconds(5);

    static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    long _comparedAt = time.GetTimestamp();
    DateTimeOffset _wallAt = time.GetUtcNow();
    TimeSpan _standstillAt;
    TimeSpan _due = Interval;

    /// <summary>Compares the clocks if that is due. True if the machine slept since the last comparison.</summary>
    public bool TryDetect(TimeSpan now)
    {
        if (now < _due)
        {
            return false;
        }

        var timestamp = time.GetTimestamp();
        var wall = time.GetUtcNow();
        if (time.GetElapsedTime(timestamp) >= Interval)
        {
            return false;   // this thread was suspended between its two readings: they cannot be compared
        }

        var still = standstill();
        var ahead = wall - _wallAt - time.GetElapsedTime(_comparedAt, timestamp) - (still - _standstillAt);
        (_comparedAt, _wallAt, _standstillAt, _due) = (timestamp, wall, still, now + Interval);
        return ahead > ShortestSleep;
    }
}
