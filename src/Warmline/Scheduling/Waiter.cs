using System.Diagnostics;

namespace Warmline.Scheduling;

/// <summary>Something that wants a <c>Tick</c> at a time: a waiter's deadline, a connection's expiry, a key's back-off.</summary>
internal abstract class Timed
{
    public int TimerPlace = -1;

    public TimeSpan Due { get; set; } = TimeSpan.MaxValue;

    internal struct ByDue : IHeapOrder<Timed>
    {
        public static bool Before(Timed left, Timed right) => left.Due < right.Due;

        public static ref int Place(Timed item) => ref item.TimerPlace;
    }
}

/// <summary>Where a request stands with the scheduler.</summary>
internal enum WaiterState
{
    /// <summary>Not seen yet. Next: Waiting, Leased, Ended.</summary>
    New,

    /// <summary>In its key's queue. Next: Leased, Ended.</summary>
    Waiting,

    /// <summary>Holds a lease. Next: Ended, or Waiting again when the server provably did not start on it.</summary>
    Leased,

    /// <summary>Cancelled, refused or settled; every later event is ignored.</summary>
    Ended,
}

/// <summary>A request on its way through the scheduler: a waiter first, then the lease itself. The shell derives from it.</summary>
internal class Waiter : Timed
{
    /// <summary>Upload bytes of known length; they weigh on the connection until UploadEnded.</summary>
    public long UploadBytes { get; set; }

    /// <summary>When the wait ends in a refusal.</summary>
    public TimeSpan Deadline { get; set; } = TimeSpan.MaxValue;

    /// <summary>The name of its lane; empty for none.</summary>
    public string LaneName { get; set; } = "";

    /// <summary>The name of its tenant; empty for none.</summary>
    public string TenantName { get; set; } = "";

    /// <summary>Among the waiters of its tenant in its lane: the higher goes first. -10 to 10.</summary>
    public int Priority { get; set; }

    public WaiterState State { get; internal set; }

    public KeyState? Key { get; internal set; }

    /// <summary>Where the lease is; null before.</summary>
    public ConnectionState? Connection { get; internal set; }

    /// <summary>The place in the order of arrival; kept when it is placed anew.</summary>
    public long Sequence { get; internal set; }

    public TimeSpan AskedAt { get; internal set; }

    public TimeSpan GrantedAt { get; internal set; }

    /// <summary>Whether the call needed no dial of its own.</summary>
    public bool Reused { get; internal set; }

    /// <summary>How long its connection had been idle before, if nothing has proved yet that it is still alive; zero otherwise.</summary>
    public TimeSpan Rested { get; internal set; }

    /// <summary>How often it went back to its place.</summary>
    public int Redispatches { get; internal set; }

    internal long WeighingBytes { get; set; }

    // Links in the key's queue while waiting, among the connection's leases afterwards: never both.
    internal Waiter? Previous { get; set; }

    internal Waiter? Next { get; set; }
}

/// <summary>The waiters of one key, in the order in which they are served: first come, first served. Lanes, tenants and priorities are an order too and belong
/// here: the scheduler asks only who is next.</summary>
internal sealed class WaiterQueue
{
    Waiter? _last;

    public int Count { get; private set; }

    /// <summary>Who is served next.</summary>
    public Waiter? First { get; private set; }

    public void Add(Waiter waiter) => InsertAfter(_last, waiter);

    /// <summary>Puts a waiter that was served in vain back to where it came from. It is nearly always the oldest, so the walk is short.</summary>
    public void Return(Waiter waiter)
    {
        Waiter? before = null;
        for (var at = First; at is not null && at.Sequence < waiter.Sequence; at = at.Next)
        {
            before = at;
        }

        InsertAfter(before, waiter);
    }

    public void Remove(Waiter waiter)
    {
        Debug.Assert(Count > 0);
        if (waiter.Previous is { } previous)
        {
            previous.Next = waiter.Next;
        }
        else
        {
            First = waiter.Next;
        }

        if (waiter.Next is { } next)
        {
            next.Previous = waiter.Previous;
        }
        else
        {
            _last = waiter.Previous;
        }

        waiter.Previous = waiter.Next = null;
        Count--;
    }

    public IEnumerable<Waiter> All()
    {
        for (var at = First; at is not null; at = at.Next)
        {
            yield return at;
        }
    }

    void InsertAfter(Waiter? before, Waiter waiter)
    {
        waiter.Previous = before;
        waiter.Next = before is null ? First : before.Next;
        if (before is null)
        {
            First = waiter;
        }
        else
        {
            before.Next = waiter;
        }

        if (waiter.Next is { } next)
        {
            next.Previous = waiter;
        }
        else
        {
            _last = waiter;
        }

        Count++;
    }
}
