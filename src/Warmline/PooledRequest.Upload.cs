using Warmline.Transport;

namespace Warmline;

/// <summary>The request body of a call: whether it may have to wait, that it is under way, and its end.</summary>
internal sealed partial class PooledRequest
{
    const byte NoUpload = 0;
    const byte Uploading = 1;
    const byte UploadOver = 2;

    /// <summary>How long a connection may allow no byte of any body before new bodies avoid it: at most, and where the write clock is
    /// off.</summary>
    static readonly TimeSpan MaxDryTime = TimeSpan.FromSeconds(2);

    /// <summary>
    /// Whether a body of this length has nothing to wait for on the connection that was granted: on HTTP/2 the server's credit covers it.
    /// Then it goes out in one write
    /// that nothing holds up.
    /// </summary>
    public bool Claim(long bytes) => Slot.Claim(_claimed = bytes);

    /// <summary>
    /// Whether the connection that was granted has taken no byte of any body for a while, and another can be had: then the call is placed
    /// again. Not at once, as every
    /// large upload uses up the credit until the server's next frame.
    /// </summary>
    public bool TryMoveIfDry()
    {
        if (!Connection!.IsHttp2 || Slot.DryFor is not { Ticks: > 0 } dry)
        {
            return false;
        }

        var most = Timeouts.Write > TimeSpan.Zero ? Timeouts.Write / 8 : MaxDryTime;
        return dry >= (most < MaxDryTime ? most : MaxDryTime) && _engine.Placement.TryMove(this);
    }

    public bool IsCovered(long written, int bytes) => Slot.Frames is not { } frames
        || (written + bytes <= frames.InitialWindowSize && bytes <= Slot.Credit);

    public void UploadBegan()
    {
        // The platform may pull the body a second time, for a stream that the server refused; the upload has ended for us then.
        if (Interlocked.CompareExchange(ref _upload, Uploading, NoUpload) == NoUpload)
        {
            _wasPulled = true;
            Clocks.EndWait();   // from here to its end the write clock counts, while a write is under way: a body may take its time to be made
            Clocks.Sending = new SendWatch(Slot);
            if (Early is not null)
            {
                Slot.UploadBegan();
            }
        }
    }

    public void UploadEnded(bool whole, bool cancelled)
    {
        UploadWasCancelled |= cancelled;
        UploadFailed |= !whole && !cancelled;
        if (Interlocked.Exchange(ref _upload, UploadOver) == UploadOver)
        {
            return;
        }

        Clocks.EndWrite();
        Unclaim();
        _uploadedAt = _engine.Now;
        if (_headersAt == Never)
        {
            Clocks.BeginFirstByte();
        }

        Unweigh();
        PartEnded(whole);
        Volatile.Read(ref _seldom)?.UploadOver?.TrySetResult();
    }

    void UploadNeverBegan()
    {
        if (Volatile.Read(ref _openParts) == 2 && Interlocked.CompareExchange(ref _upload, UploadOver, NoUpload) == NoUpload)
        {
            Unweigh();
            PartEnded(whole: true);
        }
    }

    void EndEarly()
    {
        if (Early is { } early)
        {
            Slot.UploadEnded();
            if (early.WasCut)
            {
                _broken = true;
            }
        }
    }

    /// <summary>The body waits for no credit any more.</summary>
    void Unclaim()
    {
        if (_claimed != 0 && Interlocked.Exchange(ref _claimed, 0) is var bytes && bytes != 0 && Connection!.IsHttp2)
        {
            Slot.Unclaim(bytes);
        }
    }

    void Unweigh()
    {
        if (UploadBytes > 0)
        {
            _engine.Placement.UploadEnded(this);
        }
    }
}
