namespace Warmline.Transport;

/// <summary>
/// How far a request body is on the wire. A write may wait long after its bytes began to flow: the kernel wakes its writer only when a
/// third of its buffer,
/// up to 4 MB, is free. And when the last write has returned, all that is still in that buffer has yet to cross the network. Asked at each
/// tick of the clock,
/// and only while a body is under way.
/// </summary>
internal sealed class SendWatch(Slot slot)
{
    long _acknowledged = -1;
    long _goal = -1;

    /// <summary>Whether the peer's kernel has confirmed all of the body, or the system does not say.</summary>
    public bool IsOver { get; private set; }

    /// <summary>Whether the peer has confirmed bytes since the last look. <paramref name="isWriting"/>: the body is being written; else it
    /// was handed over as a whole.</summary>
    public bool CheckProgress(bool isWriting)
    {
        if (isWriting && slot is { IsHttp2: true, IsWriting: false })
        {
            return false;   // it is the server's credit that is missing, and what moves on the connection is not this body
        }

        if (slot.Progress() is not { } progress)
        {
            IsOver = true;
            return false;
        }

        if (isWriting)
        {
            _goal = -1;
        }
        else if (_goal < 0)
        {
            _goal = progress.Taken;   // with what others wrote behind it on HTTP/2, which is little against a body
        }

        IsOver = !isWriting && progress.Acknowledged >= _goal;
        var hasMoved = progress.Acknowledged > _acknowledged && !(IsOver && _acknowledged < 0);
        _acknowledged = Math.Max(_acknowledged, progress.Acknowledged);   // a system whose numbers go back proves nothing by it
        return hasMoved;
    }
}
