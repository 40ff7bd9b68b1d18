namespace Warmline.Transport;

/// <summary>
/// Watches HTTP/1.1 connections for their end once they have been idle for a moment. Watching from the first idle instant would cost every
/// call on the hot path a read; HTTP/2 always has one pending. As long as they stay idle it also looks, at the pace of the keep-alive
/// probes, whether these are still answered: the kernel would tell only after the last of them.
/// </summary>
internal sealed class IdleWatch : IDisposable
{
    static readonly TimeSpan Delay = TimeSpan.FromSeconds(1);

    const int Off = 0;
    const int Slow = 1;    // armed for the next look at what is idle for long
    const int Soon = 2;    // armed for what became idle just now

    readonly FindQuiet _find;
    readonly TimeSpan _pace;
    readonly ITimer _timer;
    int _armed;

    public IdleWatch(TimeProvider time, TimeSpan pace, FindQuiet find)
    {
        _find = find;
        _pace = pace > Delay ? pace : Delay;
        _timer = time.CreateTimer(static state => ((IdleWatch)state!).Look(), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
    }

    /// <summary>
    /// Lists the slots that have been idle for a moment, each with its count of sends and for how long; true when others are idle more
    /// briefly.
    /// </summary>
    public delegate bool FindQuiet(TimeSpan moment, List<(Slot Slot, long Sends, TimeSpan Rested)> quiet);

    /// <summary>A connection became idle. Cheap when armed for it already.</summary>
    public void Arm()
    {
        if (Volatile.Read(ref _armed) != Soon && Interlocked.Exchange(ref _armed, Soon) != Soon)
        {
            _timer.TrySet(Delay, Timeout.InfiniteTimeSpan);
        }
    }

    public void Dispose() => _timer.Dispose();

    void Look()
    {
        Volatile.Write(ref _armed, Off);
        var quiet = new List<(Slot Slot, long Sends, TimeSpan Rested)>();
        if (_find(Delay / 2, quiet))
        {
            Arm();
        }
        else if (quiet.Count > 0 && Interlocked.CompareExchange(ref _armed, Slow, Off) == Off)
        {
            _timer.TrySet(_pace, Timeout.InfiniteTimeSpan);
            if (Volatile.Read(ref _armed) == Soon)
            {
                _timer.TrySet(Delay, Timeout.InfiniteTimeSpan);   // it was armed between the two, and its time overwritten
            }
        }

        foreach (var (slot, sends, rested) in quiet)
        {
            try
            {
                slot.WatchIdle(sends);
                slot.LookWhileIdle(sends, rested);
            }
            catch (Exception)
            {
                // It tells nothing of this connection. The others are looked at all the same, and the timer's thread has nobody above.
            }
        }
    }
}
