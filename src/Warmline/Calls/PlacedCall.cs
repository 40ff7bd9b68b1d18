using System.Threading.Tasks.Sources;
using Warmline.Options;
using Warmline.Pool;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline;

/// <summary>
/// The first part of a <see cref="PooledCall"/>: it waits for its place, and its caller's token and its clocks can end it.
/// Awaiting <see cref="PlacedAsync"/> allocates nothing. It completes asynchronously, so no caller runs on the thread that made room.
/// </summary>
internal abstract class PlacedCall : Waiter, IValueTaskSource
{
    readonly CancellationToken _caller;
    ManualResetValueTaskSourceCore<bool> _placed = new() { RunContinuationsAsynchronously = true };
    object? _refusal;   // boxed: nearly every call is granted its place, and each would carry the room for it
    CancellationTokenRegistration _callerRegistration;
    volatile byte _abortReason;   // a byte instead of a nullable, to save memory in each call

    protected PlacedCall(PoolEngine engine, CallTimeouts timeouts, CancellationToken caller)
    {
        _caller = caller;
        Engine = engine;
        Timeouts = timeouts;
        Clocks = new RequestClocks(engine.Clock, timeouts);
    }

    public PoolEngine Engine { get; }

    public CallTimeouts Timeouts { get; }

    public RequestClocks Clocks { get; }

    public TimeSpan Now => Engine.Now;

    /// <summary>The slot of the connection on which the call was placed.</summary>
    public Slot Slot => (Slot)Connection!.Slot!;

    public bool IsCancelledByCaller => _caller.IsCancellationRequested;

    /// <summary>Why the pool ended the call; null if it did not.</summary>
    public PoolRejectionReason? AbortReason
    {
        get => _abortReason is not 0 and var reason ? (PoolRejectionReason)reason : null;
        protected set => _abortReason = (byte)value.GetValueOrDefault();
    }

    /// <summary>Why the call got no place, if it was refused one.</summary>
    public SchedulerAction? Refusal => (SchedulerAction?)_refusal;

    /// <summary>The time in the queue is recorded: once, however often the call is placed.</summary>
    public bool IsPlaceRecorded { get; set; }

    /// <summary>What the call waits for, as of the moment in which it began to; only where it has a span.</summary>
    public PoolRejectionReason WaitsFor { get; set; }

    /// <summary>
    /// Completes when the call has its place, or its <see cref="Refusal"/>. Faults with <see cref="OperationCanceledException"/> when the
    /// caller gave up.
    /// </summary>
    public ValueTask PlacedAsync() => new(this, _placed.Version);

    public void Place(in SchedulerAction action)
    {
        _refusal = action.Kind is ActionKind.Refuse ? action : null;
        _placed.SetResult(true);
    }

    /// <summary>The caller left before the call was placed.</summary>
    public void GiveUp() => _placed.SetException(new OperationCanceledException(_caller));

    /// <summary>Before another attempt: the call waits again.</summary>
    public void ResetPlacement() => _placed.Reset();

    /// <summary>From now on the caller's token aborts the call, until <see cref="UnlinkCallerToken"/>.</summary>
    public void LinkCallerToken() =>
        _callerRegistration = _caller.UnsafeRegister(static state => ((RequestClocks)state!).Abort(), Clocks);

    public void UnlinkCallerToken() => _callerRegistration.Dispose();

    void IValueTaskSource.GetResult(short token) => _placed.GetResult(token);

    ValueTaskSourceStatus IValueTaskSource.GetStatus(short token) => _placed.GetStatus(token);

    void IValueTaskSource.OnCompleted(
        Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _placed.OnCompleted(continuation, state, token, flags);
}
