using System.Diagnostics;
using Warmline.Options;
using Warmline.Pool;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline;

/// <summary>
/// One call: the waiter that the scheduler places (<see cref="PlacedCall"/>), the lease it becomes, and the exchange whose two bodies keep
/// the lease (<see cref="Exchange"/>). It is one object for all of it, as there is one for every call. This class is what the pool sees and
/// does with a call. <see cref="Resend"/>, <see cref="CallErrors"/> and <see cref="CallTelemetry"/> work on it.
/// </summary>
internal sealed class PooledCall : Exchange, IExchange
{
    /// <summary>
    /// How long a connection may allow no byte of any body before new bodies avoid it: at most, and where the write clock is off.
    /// </summary>
    static readonly TimeSpan MaxDryTime = TimeSpan.FromSeconds(2);

    public PooledCall(PoolEngine engine, CallTimeouts timeouts, CancellationToken caller)
        : base(engine, timeouts, caller)
    {
    }

    /// <summary>Where the call comes from; only recorded where leaks are looked for.</summary>
    public StackTrace? TakenBy
    {
        get => RareIfAny?.TakenBy;
        init
        {
            if (value is not null)
            {
                Rare.TakenBy = value;
            }
        }
    }

    /// <summary>The body, where it was serialised ahead.</summary>
    public BufferedContent? Buffered { get; set; }

    /// <summary>The call's span, and the context that its request carries on; null where there are none.</summary>
    public CallTrace? Trace { get; set; }

    public HttpMethod? Method { get; set; }

    public bool HasSpan => Trace?.Span is not null;

    /// <summary>Whether the server can have worked on the call, as of the last attempt that failed.</summary>
    public RequestVerdict Verdict => Failure?.Verdict ?? RequestVerdict.Unknown;

    /// <summary>Whether the call may use HTTP/1.1 instead of the HTTP/2 on which its last attempt failed.</summary>
    public bool MayFallBack => Failure?.MayFallBack == true;

    /// <summary>The pool's retry budget did not allow another attempt.</summary>
    public bool IsOverBudget
    {
        get => Failure?.IsOverBudget == true;
        set => Failure!.IsOverBudget = value;
    }

    public RefusalContent InspectedRefusal
    {
        set => Rare.InspectedRefusal = value;
    }

    public bool EndsWithItsAnswer => !Connection!.IsHttp2;

    /// <summary>The caller has the response and does not read on at this moment.</summary>
    public bool IsHeld => Phase is StreamPhase.Held;

    /// <summary>The same, all the time between the last two checks.</summary>
    public bool IsUnread => RareIfAny?.IsUnread == true;

    StreamPhase Phase => HeadersAt is not null ? Clocks.IsWaiting ? StreamPhase.Reading : StreamPhase.Held
        : Upload.State is UploadState.Over ? StreamPhase.Waiting : StreamPhase.Sending;

    public void CancelWait() => Engine.Placement.Cancel(this);

    /// <summary>
    /// True when a connection that had been idle is found to be gone, before anything is sent on it. Then the call is placed again.
    /// </summary>
    public bool TryReplaceStale() => Rested >= IdleLimit.Moment && Engine.Placement.TryReplaceStale(this);

    /// <summary>The same, for a connection that has been idle for <paramref name="longer"/> more since it was granted.</summary>
    public bool TryReplaceStale(TimeSpan longer)
    {
        Rested += longer;
        return TryReplaceStale();
    }

    /// <summary>
    /// True when the connection that was granted has taken no byte of any body for a while, and another can be had. Then the call is placed
    /// again. Not at once, as every large upload uses up the credit until the server's next frame.
    /// </summary>
    public bool TryMoveIfDry()
    {
        if (!Connection!.IsHttp2 || Slot.DryFor is not { Ticks: > 0 } dry)
        {
            return false;
        }

        var most = Timeouts.Write > TimeSpan.Zero ? Timeouts.Write / 8 : MaxDryTime;
        return dry >= (most < MaxDryTime ? most : MaxDryTime) && Engine.Placement.TryMove(this);
    }

    /// <summary>Gives the lease back without having used it.</summary>
    public void ReturnUnused() => Engine.Placement.Release(this, LeaseOutcome.Unused);

    /// <summary>The pool ends the call.</summary>
    public void Abort(PoolRejectionReason reason)
    {
        AbortReason = reason;
        if (HeadersAt is null && Upload.State is UploadState.Over)
        {
            Slot.CutWaits();
        }

        Clocks.Abort();
    }

    /// <summary>As <see cref="ConnectionPool.GetStreams"/> shows it.</summary>
    public StreamInfo Describe(TimeSpan now) => new(
        Key!.Key.Origin, Connection!.Id, now - GrantedAt, Phase, Clocks.Silence, Events?.Events ?? 0, LaneName, TenantName);

    /// <summary>
    /// How long the caller has held the response and not read on, if that is at least <paramref name="threshold"/> and was not reported
    /// yet. Progress is seen from one check to the next, so it costs the reader a count and no time stamp.
    /// </summary>
    public TimeSpan? CheckHeld(TimeSpan threshold, TimeSpan now)
    {
        var rare = Rare;
        if (HeadersAt is not { } headersAt || rare.HeldSince == TimeSpan.MaxValue)
        {
            return null;
        }

        var reads = Clocks.Reads;
        if (Clocks.IsWaiting || reads != rare.ReadsSeen)
        {
            (rare.HeldSince, rare.ReadsSeen) = (now, reads);
        }

        var held = now - (At(rare.HeldSince) ?? headersAt);
        if (held < threshold)
        {
            return null;
        }

        rare.HeldSince = TimeSpan.MaxValue;
        return held;
    }

    /// <summary>Checks whether the response was read on since the last check.</summary>
    public void RecordReads()
    {
        var rare = Rare;
        var reads = Clocks.Reads;
        rare.IsUnread = IsHeld && reads == rare.ReadsAtCheck;
        rare.ReadsAtCheck = reads;
    }

    /// <summary>True once for a call, however often its reader asks for an error.</summary>
    public bool TryCountFailure() => !Interlocked.Exchange(ref Rare.IsFailureCounted, true);

    public void ResponseAbandoned(bool isCounted)
    {
        if (isCounted)
        {
            Engine.Figures.Count(Fault.Abandoned);
        }

        Slot.Abandon();
    }

    public void StreamErrorSeen() => Engine.Figures.Count(Fault.StreamErrors);

    public void ResponseLeaked() => Engine.Leaks.ReportLeak(this);

    public Exception? Translate(Exception error, CancellationToken caller) => CallErrors.OfExchange(this, error, caller);

    protected override void EndWeight()
    {
        if (UploadBytes > 0)
        {
            Engine.Placement.UploadEnded(this);
        }
    }

    protected override void EndLease(LeaseOutcome outcome)
    {
        Buffered?.Leave();
        EndStream();
        CallTelemetry.RecordEnd(this);
        Engine.Placement.Release(this, outcome);
    }
}
