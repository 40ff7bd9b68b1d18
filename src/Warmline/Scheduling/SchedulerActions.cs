namespace Warmline.Scheduling;

/// <summary>The actions that the shell carries out after an event, outside the lock.</summary>
internal enum ActionKind
{
    /// <summary>The waiter has its lease, on <see cref="Waiter.Connection"/>.</summary>
    Grant,

    /// <summary>The waiter gets no lease, for <see cref="SchedulerAction.Refusal"/> and <see cref="SchedulerAction.Reason"/>.</summary>
    Refuse,

    /// <summary>
    /// Open a connection; answer with DialSucceeded or DialFailed. <see cref="SchedulerAction.Advice"/>: an option makes such dials
    /// necessary again and again.
    /// </summary>
    Dial,

    /// <summary>No call uses this new HTTP/2 connection yet: start it, so that its SETTINGS arrive.</summary>
    Prime,

    /// <summary>The server's SETTINGS did not come within the connect timeout: abort the connection and answer with DialFailed.</summary>
    SettingsOverdue,

    /// <summary>A dial stalls, or its connection ended at once: try its address last for a while.</summary>
    Distrust,

    /// <summary>End a stalled dial; answer with DialFailed, or with DialSucceeded if it has succeeded meanwhile.</summary>
    GiveUpDial,

    /// <summary>The server ends warm connections after <see cref="SchedulerAction.At"/>. Once for a key.</summary>
    WarmthIsCostly,

    /// <summary>Close the connection now; answer with ConnectionClosed.</summary>
    Close,

    /// <summary>Close the connection now without a goodbye, as the peer may be gone; answer with ConnectionClosed.</summary>
    Drop,

    /// <summary>Send a Tick at this time; replaces the previous request.</summary>
    WakeAt,

    /// <summary>The warm-up has reached its target, or cannot.</summary>
    WarmUpEnded,

    /// <summary>More than 80 % of the limit that applies is in use.</summary>
    UtilizationHigh,

    /// <summary>
    /// <see cref="SchedulerAction.Active"/> idle connections are closed together for <see cref="SchedulerAction.Cause"/>; of one key, or
    /// of all if there is no target.
    /// </summary>
    Flushed,

    /// <summary>The server's idle limit was learned or corrected.</summary>
    IdleLimitLearned,

    /// <summary>From now on calls that may use HTTP/1.1 use it, because of <see cref="SchedulerAction.Doubt"/>.</summary>
    Http2Avoided,
}

/// <summary>Why idle connections are closed together.</summary>
internal enum FlushCause
{
    /// <summary>One of them was reset, timed out, or did not answer its pings.</summary>
    Loss,

    /// <summary>The kernel showed that one of them was gone or silent, just before a request was sent on it or while it was idle.</summary>
    Silence,

    /// <summary>The wall clock ran ahead: the machine slept.</summary>
    Sleep,

    /// <summary>The machine lost their local address.</summary>
    Network,
}

/// <summary>Why a waiter gets no lease.</summary>
internal enum RefusalKind
{
    /// <summary>Refused at once: the queue is full, or the pool takes nothing new.</summary>
    Rejected,

    /// <summary>Its deadline has passed.</summary>
    TimedOut,

    /// <summary>The dial that it waited for failed, and there is no other connection to wait for.</summary>
    DialFailed,
}

/// <summary>How an exchange left its connection.</summary>
internal enum LeaseOutcome
{
    /// <summary>The connection can carry the next one.</summary>
    Reusable,

    /// <summary>The connection must take no more.</summary>
    ConnectionBroken,

    /// <summary>
    /// The server provably did not start on the request: the waiter returns to its place, and the connection takes no more.
    /// </summary>
    NotSent,

    /// <summary>
    /// The server may have worked on the request, but it may be sent again: as <see cref="NotSent"/>, except that a provider may have
    /// counted it.
    /// </summary>
    Unanswered,

    /// <summary>Nothing was sent: the connection can carry the next one, and nothing was learned about it.</summary>
    Unused,
}

/// <summary>One action. <see cref="Target"/> is the waiter, connection, key or warm-up concerned.</summary>
internal readonly record struct SchedulerAction(
    ActionKind Kind,
    object? Target = null,
    RefusalKind Refusal = default,
    PoolRejectionReason Reason = default,
    Exception? Error = null,
    TimeSpan At = default,
    int Active = 0,
    int Limit = 0,
    ExpiryAdvice? Advice = null,
    FlushCause Cause = default,
    Http2Doubt Doubt = default)
{
    public Waiter Waiter => (Waiter)Target!;

    public ConnectionState Connection => (ConnectionState)Target!;

    public WarmUp WarmUp => (WarmUp)Target!;

    public override string ToString() => $"{Kind} {Target}";   // the generated method would read all three properties
}
