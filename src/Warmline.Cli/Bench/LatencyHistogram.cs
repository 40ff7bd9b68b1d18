namespace Warmline.Cli.Bench;

/// <summary>
/// Times, counted in buckets whose width grows with the time: 64 to each doubling, so that every figure read from it is within 1.6 % of the
/// truth, from a microsecond to hours, in 16 KB. Not thread-safe.
/// </summary>
internal sealed class LatencyHistogram
{
    const int BucketsPerDoubling = 64;
    const int Doublings = 30;

    readonly long[] _counts = new long[BucketsPerDoubling * (Doublings + 2)];
    TimeSpan _sum;

    public long Count { get; private set; }

    public TimeSpan Min { get; private set; } = TimeSpan.MaxValue;

    public TimeSpan Max { get; private set; }

    public TimeSpan Mean => Count == 0 ? TimeSpan.Zero : _sum / Count;

    public void Record(TimeSpan time)
    {
        time = time < TimeSpan.Zero ? TimeSpan.Zero : time;
        _counts[BucketOf((long)time.TotalMicroseconds)]++;
        Count++;
        _sum += time;
        Min = time < Min ? time : Min;
        Max = time > Max ? time : Max;
    }

    /// <summary>The time that so large a share did not exceed; zero where there is none.</summary>
    public TimeSpan Quantile(double share)
    {
        var rank = (long)Math.Ceiling(share * Count);
        long seen = 0;
        for (var i = 0; i < _counts.Length && Count > 0; i++)
        {
            seen += _counts[i];
            if (seen >= rank && _counts[i] > 0)
            {
                // The bucket's middle, but never beyond what was seen.
                var middle = TimeSpan.FromMicroseconds((LowerEdge(i) + LowerEdge(i + 1)) / 2.0);
                return middle > Max ? Max : middle < Min ? Min : middle;
            }
        }

        return TimeSpan.Zero;
    }

    /// <summary>The buckets that hold something.</summary>
    public IEnumerable<(TimeSpan From, TimeSpan To, long Count)> Buckets()
    {
        for (var i = 0; i < _counts.Length; i++)
        {
            if (_counts[i] > 0)
            {
                yield return (TimeSpan.FromMicroseconds(LowerEdge(i)), TimeSpan.FromMicroseconds(LowerEdge(i + 1)), _counts[i]);
            }
        }
    }

    /// <summary>
    /// The same in at most so many rows, each of as many whole buckets, from the least to the most; rows without a call included.
    /// </summary>
    public IReadOnlyList<(TimeSpan From, TimeSpan To, long Count)> Rows(int most)
    {
        if (Count == 0)
        {
            return [];
        }

        var (first, last) = (Array.FindIndex(_counts, count => count > 0), Array.FindLastIndex(_counts, count => count > 0));
        var each = (last - first + most) / most;
        return [.. Enumerable.Range(0, (last - first + each) / each).Select(i => first + (i * each)).Select(start => (
            TimeSpan.FromMicroseconds(LowerEdge(start)), TimeSpan.FromMicroseconds(LowerEdge(start + each)), _counts.AsSpan(start, Math.Min(each, _counts.Length - start)).ToArray().Sum()))];
    }

    /// <summary>Below two doublings' worth of buckets one for each microsecond, then ever wider ones.</summary>
    static int BucketOf(long microseconds)
    {
        if (microseconds < 2 * BucketsPerDoubling)
        {
            return (int)microseconds;
        }

        var shift = 63 - System.Numerics.BitOperations.LeadingZeroCount((ulong)microseconds) - 6;
        return shift > Doublings ? (BucketsPerDoubling * (Doublings + 2)) - 1 : (BucketsPerDoubling * shift) + (int)(microseconds >> shift);
    }

    static long LowerEdge(int bucket)
    {
        var shift = (bucket / BucketsPerDoubling) - 1;
        return shift <= 0 ? bucket : (long)(bucket - (BucketsPerDoubling * shift)) << shift;
    }
}
