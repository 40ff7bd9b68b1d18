namespace Warmline.Scheduling;

/// <summary>What the shell has to do after an event, outside the lock.</summary>
internal enum ActionKind
{
    /// <summary>The waiter has its lease: <see cref="Waiter.Connection"/> says where.</summary>
    Grant,

    /// <summary>The waiter gets no lease: <see cref="SchedulerAction.Refusal"/> and <see cref="SchedulerAction.Reason"/> say why.</summary>
    Refuse,

    /// <summary>
    /// Open a connection; answer with DialSucceeded or DialFailed. <see cref="SchedulerAction.Advice"/>: an option makes such dials
    /// necessary again and again.
    /// </summary>
    Dial,

    /// <summary>Nobody rides this new HTTP/2 connection yet: start it, so that its SETTINGS come.</summary>
    Prime,

    /// <summary>The server's SETTINGS did not come within the connect timeout: abort the connection and answer with DialFailed.</summary>
    SettingsOverdue,

    /// <summary>A dial stands still, or what it opened ended at once: its address is to be tried last for a while.</summary>
    Distrust,

    /// <summary>End a dial that stands still; answer with DialFailed, or with DialSucceeded if it has come through meanwhile.</summary>
    GiveUpDial,

    /// <summary>The server ends connections that are to be held warm after <see cref="SchedulerAction.At"/>. Once for a key.</summary>
    WarmthIsCostly,

    /// <summary>Close the connection now; answer with ConnectionClosed.</summary>
    Close,

    /// <summary>Close the connection now, without a word to the peer, who may be gone; answer with ConnectionClosed.</summary>
    Drop,

    /// <summary>Send a Tick at this time; replaces the one asked for before.</summary>
    WakeAt,

    /// <summary>The warm-up has reached its number, or cannot.</summary>
    WarmUpEnded,

    /// <summary>More than 80 % of what applies is in use.</summary>
    UtilizationHigh,

    /// <summary>
    /// So many idle connections were given up together, for <see cref="SchedulerAction.Cause"/>; of one key, or of all when there is
    /// none.
    /// </summary>
    Flushed,

    /// <summary>The server's idle limit is known now, or known better.</summary>
    IdleLimitLearned,

    /// <summary>From now on calls that may use HTTP/1.1 do, for <see cref="SchedulerAction.Doubt"/>.</summary>
    Http2Avoided,
}

/// <summary>Why idle connections are no longer believed in.</summary>
internal enum FlushCause
{
    /// <summary>One of them was reset, timed out, or did not answer its pings.</summary>
    Loss,

    /// <summary>
    /// The kernel showed one of them to be gone or silent, just before a request would have been sent on it or while it was idle.
    /// </summary>
    Silence,

    /// <summary>The wall clock ran ahead: the machine slept.</summary>
    Sleep,

    /// <summary>The machine lost the address that they come from.</summary>
    Network,
}

/// <summary>Why a waiter gets no lease.</summary>
internal enum RefusalKind
{
    /// <summary>Refused at once: the queue is full, or the pool takes nothing new.</summary>
    Rejected,

    /// <summary>Its time to wait is over.</summary>
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
    /// The server provably did not start on the request: the waiter goes back to its place, the connection takes no more.
    /// </summary>
    NotSent,

    /// <summary>
    /// The server may have worked on the request, which may be sent again all the same: as <see cref="NotSent"/>, but a provider may have
    /// counted it.
    /// </summary>
    Unanswered,

    /// <summary>Nothing was sent: the connection can carry the next one, and nothing was learned of it.</summary>
    Unused,
}

/// <summary>One thing to do. <see cref="Target"/> is the waiter, connection or warm-up concerned.</summary>
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

    public override string ToString() => $"{Kind} {Target}";   // the generated one would read all three
}
