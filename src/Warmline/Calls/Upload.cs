using Warmline.Transport;

namespace Warmline;

/// <summary>How far the request body of an attempt has come. Each value may follow only those above it.</summary>
internal enum UploadState : byte
{
    /// <summary>The platform has not pulled the body.</summary>
    NotBegun,

    /// <summary>The platform pulls it.</summary>
    UnderWay,

    /// <summary>It ended, was not needed, or is not watched.</summary>
    Over,
}

/// <summary>
/// The request body of one attempt. It is a struct inside its <see cref="Exchange"/>, so it costs no object of its own. Never copy it.
/// </summary>
internal struct Upload()
{
    volatile UploadState _state;
    long _claimed;
    TimeSpan _endedAt = Exchange.Never;

    public readonly UploadState State => _state;

    public readonly TimeSpan? EndedAt => Exchange.At(_endedAt);

    /// <summary>Ends an upload whose rest the server refuses; null where none is watched.</summary>
    public EarlyAnswer? Early { get; private set; }

    /// <summary>The platform has pulled the body in this attempt.</summary>
    public bool WasPulled { get; private set; }

    /// <summary>The platform stopped the upload. Unless the pool made it do so, its connection has ended.</summary>
    public bool WasCancelled { get; private set; }

    /// <summary>The upload ended before the body did, and the platform did not stop it: the content, or a write, failed.</summary>
    public bool HasFailed { get; private set; }

    /// <summary>For another attempt.</summary>
    public void Reset(bool isWatched)
    {
        _state = isWatched ? UploadState.NotBegun : UploadState.Over;
        WasCancelled = HasFailed = WasPulled = false;
        Early = null;
    }

    /// <summary>The server may answer before the body's end.</summary>
    public void WatchForEarlyAnswer(Slot slot) => slot.WatchUpload(Early = new EarlyAnswer());

    /// <summary>
    /// False if the upload has begun before. The platform may pull the body a second time, for a stream that the server refused; for the
    /// exchange the upload has ended then.
    /// </summary>
    public bool TryBegin()
    {
        if (Interlocked.CompareExchange(ref _state, UploadState.UnderWay, UploadState.NotBegun) != UploadState.NotBegun)
        {
            return false;
        }

        WasPulled = true;
        return true;
    }

    /// <summary>False if it has ended before.</summary>
    public bool TryEnd(bool whole, bool cancelled)
    {
        WasCancelled |= cancelled;
        HasFailed |= !whole && !cancelled;
        return Interlocked.Exchange(ref _state, UploadState.Over) != UploadState.Over;
    }

    /// <summary>Ends it if the platform has not pulled the body.</summary>
    public bool TrySkip() =>
        Interlocked.CompareExchange(ref _state, UploadState.Over, UploadState.NotBegun) == UploadState.NotBegun;

    public void SetEndedAt(TimeSpan time) => _endedAt = time;

    /// <summary>Whether the server's credit covers a body of this length.</summary>
    public bool Claim(Slot slot, long bytes) => slot.Claim(_claimed = bytes);

    /// <summary>The body no longer waits for credit.</summary>
    public void Unclaim(Slot slot)
    {
        if (_claimed != 0 && Interlocked.Exchange(ref _claimed, 0) is var bytes && bytes != 0 && slot.IsHttp2)
        {
            slot.Unclaim(bytes);
        }
    }
}

/// <summary>What the connection had carried when an attempt began. What it carried since then is evidence for the verdict.</summary>
internal readonly struct AttemptStart(Slot slot)
{
    readonly int _stream = slot.IsHttp2 ? slot.Sent.LastStreamId : 0;
    readonly long _written = slot.BytesWritten;
    readonly long _read = slot.BytesRead;

    public bool IsNothingWritten(Slot slot) => slot.BytesWritten == _written;

    public bool IsNothingRead(Slot slot) => slot.BytesRead == _read;

    /// <summary>
    /// The server's GOAWAY proves that it did not process the call: its stream is above the last one that it names. Every stream that was
    /// opened before it was sent is below it.
    /// </summary>
    public bool IsAboveGoAway(Slot slot) => slot.Frames is { } frames && frames.LastStreamId <= _stream;
}
