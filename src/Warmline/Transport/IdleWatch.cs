namespace Warmline.Transport;

/// <summary>
/// Watches HTTP/1.1 connections for their end once they have been idle for a moment. Watching from the first idle instant would cost every call on the hot path
/// a read; HTTP/2 always has one pending.
/// </summary>
internal sealed class IdleWatch : IDisposable
{
    static readonly TimeSpan Delay = TimeSpan.FromSeconds(1);

    readonly FindQuiet _find;
    readonly ITimer _timer;
    int _armed;

    public IdleWatch(TimeProvider time, FindQuiet find)
    {
        _find = find;
        _timer = time.CreateTimer(static state => ((IdleWatch)state!).Look(), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
    }

    /// <summary>Lists the slots that have been idle for a moment, each with its count of sends; true when others are idle more briefly.</summary>
    public delegate bool FindQuiet(TimeSpan moment, List<(Slot Slot, long Sends)> quiet);

    /// <summary>A connection became idle. Cheap when armed already.</summary>
    public void Arm()
    {
        if (Volatile.Read(ref _armed) == 0 && Interlocked.Exchange(ref _armed, 1) == 0)
        {
            _timer.Change(Delay, Timeout.InfiniteTimeSpan);
        }
    }

    public void Dispose() => _timer.Dispose();

    void Look()
    {
        Volatile.Write(ref _armed, 0);
        var quiet = new List<(Slot Slot, long Sends)>();
        if (_find(Delay / 2, quiet))
        {
            Arm();
        }

        foreach (var (slot, sends) in quiet)
        {
            slot.WatchIdle(sends);
        }
    }
}
