using System.Buffers.Binary;
using System.Runtime.CompilerServices;

namespace Warmline.Transport;

/// <summary>
/// Reads along the HTTP/2 frames that are written to the server, and counts what servers limit (resets, pings) and what proves how far a
/// request came
/// (HEADERS, the bytes of bodies). Takes the bytes in pieces of any size and allocates nothing. There is one writer at a time; the counts
/// may be read
/// from any thread.
/// </summary>
internal struct Http2SentFrames()
{
    const int PrefaceLength = 24;
    const int HeaderLength = 9;
    const int PingLength = 8;
    const byte DataFrame = 0;
    const byte HeadersFrame = 1;
    const byte ResetFrame = 3;
    const byte PingFrame = 6;
    const byte AckFlag = 1;

    Header _header;
    int _skip = PrefaceLength;
    int _collected;
    int _lastStreamId;
    long _requests;
    long _bodyBytes;
    long _resets;
    long _pings;
    long _keepAlives;

    /// <summary>Requests whose HEADERS were written.</summary>
    public readonly long Requests => Volatile.Read(in _requests);

    /// <summary>The highest stream that was opened; 0 before the first.</summary>
    public readonly int LastStreamId => Volatile.Read(in _lastStreamId);

    /// <summary>Bytes of DATA frames: what uses up the windows (RFC 9113, section 6.9).</summary>
    public readonly long BodyBytes => Volatile.Read(in _bodyBytes);

    /// <summary>RST_STREAM frames.</summary>
    public readonly long Resets => Volatile.Read(in _resets);

    /// <summary>PING frames, answers to the server's not counted.</summary>
    public readonly long Pings => Volatile.Read(in _pings);

    /// <summary>Keep-alive PINGs; the rest measure the round trip for the platform's windows.</summary>
    public readonly long KeepAlives => Volatile.Read(in _keepAlives);

    /// <summary>These bytes, written next, without the PINGs of ours among their frames; null where there is none. For a writer that writes
    /// whole frames, as the
    /// platform does.</summary>
    public readonly byte[]? WithoutPings(ReadOnlySpan<byte> next)
    {
        if (_skip > 0 || _collected > 0)
        {
            return null;
        }

        List<byte>? others = null;
        for (var at = 0; at < next.Length;)
        {
            var frame = next[at..];
            var length = frame.Length < HeaderLength
                ? frame.Length : Math.Min(frame.Length, HeaderLength + ((frame[0] << 16) | (frame[1] << 8) | frame[2]));
            if (length == HeaderLength + PingLength && frame[3] == PingFrame && (frame[4] & AckFlag) == 0)
            {
                others ??= [.. next[..at]];
            }
            else
            {
                others?.AddRange(frame[..length]);
            }

            at += length;
        }

        return others?.ToArray();
    }

    public void Feed(ReadOnlySpan<byte> piece)
    {
        while (piece.Length > 0)
        {
            if (_skip > 0)
            {
                var skipped = Math.Min(_skip, piece.Length);
                _skip -= skipped;
                piece = piece[skipped..];
                continue;
            }

            var taken = Math.Min(piece.Length, HeaderLength - _collected);
            piece[..taken].CopyTo(((Span<byte>)_header)[_collected..]);
            piece = piece[taken..];
            _collected += taken;
            if (_collected == HeaderLength)
            {
                _collected = 0;
                Begin(_header, piece);
            }
        }
    }

    /// <param name="header">Of the frame.</param>
    /// <param name="payload">As much of it as is there: of a PING all, as the platform writes it in one piece.</param>
    void Begin(ReadOnlySpan<byte> header, ReadOnlySpan<byte> payload)
    {
        _skip = (header[0] << 16) | (header[1] << 8) | header[2];
        switch (header[3])
        {
            case DataFrame:
                Volatile.Write(ref _bodyBytes, _bodyBytes + _skip);
                break;
            case HeadersFrame when BinaryPrimitives.ReadInt32BigEndian(header[5..]) is var stream && stream > _lastStreamId:
                Volatile.Write(ref _lastStreamId, stream);
                Volatile.Write(ref _requests, _requests + 1);
                break;
            case ResetFrame:
                Volatile.Write(ref _resets, _resets + 1);
                break;
            case PingFrame when (header[4] & AckFlag) == 0:
                Volatile.Write(ref _pings, _pings + 1);
                Volatile.Write(ref _keepAlives, _keepAlives + (payload.IsEmpty || IsKeepAlive(payload) ? 1 : 0));
                break;
        }
    }

    /// <summary>The platform counts up in the payload of keep-alive PINGs, and down from -1 in those that measure the round trip.</summary>
    public static bool IsKeepAlive(ReadOnlySpan<byte> payload) => payload[0] < 0x80;

    [InlineArray(HeaderLength)]
    struct Header
    {
        byte _first;
    }
}
