namespace Warmline.Transport;

/// <summary>
/// Whether the server gives its final answer while the body of an HTTP/1.1 request is still being written, and will not have the rest: 401,
/// 413. The platform reads no answer before it has written the whole body. One for each upload that is watched; cancelled when the rest is
/// not wanted.
/// </summary>
/// <remarks>
/// From the cancellation on the connection swallows what is written: nothing more reaches the wire, so the server never takes the body for
/// complete. The upload pads what is missing, the platform goes on to the answer, and the connection closes after it. A 2xx does not stop
/// the upload: such a server may want the rest.
/// </remarks>
internal sealed class EarlyAnswer : CancellationTokenSource
{
    const int StatusAt = 9, StatusEnd = 12;   // in "HTTP/1.1 401"

    int _at;
    int _status;
    int _lineLength;
    bool _inInterimHead;
    volatile bool _decided;

    /// <summary>Whether a final status line was seen, or the end.</summary>
    public bool IsDecided => _decided;

    /// <summary>The rest of the body is not wanted, or cannot be sent.</summary>
    public bool IsRefusal { get; private set; }

    /// <summary>Bytes of the body were kept from the wire: the connection carries nothing after this answer.</summary>
    public bool WasCut { get; set; }

    /// <summary>Why the body could not be written further. The answer may have come before.</summary>
    public Exception? WriteError { get; set; }

    /// <summary>The bytes of the answer in their order, whoever reads them; one reader at a time. An empty span is the end.</summary>
    public void Feed(ReadOnlySpan<byte> bytes)
    {
        if (_decided)
        {
            return;
        }

        if (bytes.IsEmpty)
        {
            Decide(refuses: true);   // no answer will come, so nobody takes the rest
        }

        foreach (var next in bytes)
        {
            if (_decided)
            {
                return;
            }

            if (_inInterimHead)
            {
                SkipInterim(next);
                continue;
            }

            if (_at >= StatusAt)
            {
                _status = (_status * 10) + (next - '0');
            }

            if (++_at == StatusEnd)
            {
                // 100 Continue and 103 Early Hints announce an answer; 101 is one.
                if (_status is >= 100 and < 200 and not 101)
                {
                    (_inInterimHead, _lineLength) = (true, StatusEnd);
                }
                else
                {
                    Decide(refuses: _status >= 300);   // where the platform draws the line when it waits for 100 Continue
                }
            }
        }
    }

    /// <summary>Ends the upload. Not under a reader's gate: whoever waits for the token runs.</summary>
    public void Refuse() => _ = CancelAsync();

    void SkipInterim(byte next)
    {
        if (next != '\n')
        {
            _lineLength += next == '\r' ? 0 : 1;
            return;
        }

        if (_lineLength == 0)
        {
            (_inInterimHead, _at, _status) = (false, 0, 0);
        }

        _lineLength = 0;
    }

    void Decide(bool refuses)
    {
        IsRefusal = refuses;
        _decided = true;
    }
}
