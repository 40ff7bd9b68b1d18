namespace Warmline.Scheduling;

/// <summary>The states of a call in the scheduler.</summary>
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

/// <summary>A call in the scheduler: first a waiter, then the lease itself. The shell derives from it.</summary>
internal class Waiter : Timed
{
    /// <summary>Upload bytes of known length. They count towards the connection's load until UploadEnded.</summary>
    public long UploadBytes { get; set; }

    /// <summary>When the wait ends in a refusal.</summary>
    public TimeSpan Deadline { get; set; } = TimeSpan.MaxValue;

    /// <summary>The name of its lane; empty for none.</summary>
    public string LaneName { get; set; } = "";

    /// <summary>The name of its tenant; empty for none.</summary>
    public string TenantName { get; set; } = "";

    /// <summary>Priority among the waiters of its tenant in its lane, -10 to 10: the higher goes first.</summary>
    public int Priority { get; set; }

    /// <summary>Identifies the calls that the provider counts together with it; null where pacing is off.</summary>
    public BudgetKey? BudgetKey { get; set; }

    public WaiterState State { get; internal set; }

    public KeyState? Key { get; internal set; }

    /// <summary>The connection of the lease; null before.</summary>
    public ConnectionState? Connection { get; internal set; }

    /// <summary>The place in the order of arrival; kept when it waits again.</summary>
    public long Sequence { get; internal set; }

    public TimeSpan AskedAt { get; internal set; }

    public TimeSpan GrantedAt { get; internal set; }

    /// <summary>Whether the call needed no dial of its own.</summary>
    public bool Reused { get; internal set; }

    /// <summary>
    /// How long its connection had been idle before, if no exchange has shown yet that it is still alive; zero otherwise.
    /// </summary>
    public TimeSpan Rested { get; internal set; }

    /// <summary>Whether its answer is a stream of events that has not ended.</summary>
    public virtual bool IsStreaming => false;

    /// <summary>Whether the headers of its answer have arrived.</summary>
    public virtual bool HasAnswer => false;

    /// <summary>How often it was queued again.</summary>
    public int Redispatches { get; internal set; }

    /// <summary>It has had a lease before: it is counted once, however often it is granted one.</summary>
    internal bool WasGranted { get; set; }

    internal long WeighingBytes { get; set; }

    /// <summary>Its tenant in its lane.</summary>
    internal TenantShare Share { get; set; } = null!;

    /// <summary>Its lane on its key.</summary>
    internal LaneQueue Lane { get; set; } = null!;

    internal BudgetState? Budget { get; set; }

    /// <summary>Whether the provider has answered since the lease was granted.</summary>
    internal bool IsAnswered { get; set; }

    /// <summary>Where it waits.</summary>
    internal TenantQueue? Queue { get; set; }

    // Links in the order of arrival while waiting, and among the connection's leases afterwards; never both.
    internal Waiter? Previous;
    internal Waiter? Next;

    // Links among the waiters of its tenant.
    internal Waiter? PreviousOfTenant;
    internal Waiter? NextOfTenant;
}
