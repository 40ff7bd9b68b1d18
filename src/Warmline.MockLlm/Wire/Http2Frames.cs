using System.Buffers.Binary;

namespace Warmline.MockLlm;

/// <summary>
/// SETTINGS_MAX_CONCURRENT_STREAMS as the server wants it now, for connections to come and, through their taps, for those that live.
/// </summary>
internal sealed class StreamLimit(int value)
{
    int _value = value;

    public int Value { get => Volatile.Read(ref _value); set => Volatile.Write(ref _value, value); }
}

internal readonly record struct FrameHeader(int Length, byte Type, byte Flags, int StreamId)
{
    public const int Size = 9;
    public const byte Data = 0, Headers = 1, Reset = 3, Settings = 4, GoAway = 7, Continuation = 9;

    public bool EndStream => (Flags & 1) != 0 && Type is Data or Headers;

    public bool Ack => (Flags & 1) != 0;

    public bool EndHeaders => (Flags & 4) != 0;

    public void Write(Span<byte> to)
    {
        BinaryPrimitives.WriteInt32BigEndian(to, Length << 8);
        (to[3], to[4]) = (Type, Flags);
        BinaryPrimitives.WriteInt32BigEndian(to[5..], StreamId);
    }

    /// <summary>GOAWAY with NO_ERROR.</summary>
    public static byte[] GoAwayFrame(int lastStream)
    {
        var frame = new byte[Size + 8];
        new FrameHeader(8, GoAway, 0, 0).Write(frame);
        BinaryPrimitives.WriteInt32BigEndian(frame.AsSpan(Size), lastStream);
        return frame;
    }
}

/// <summary>Walks over the frames of one direction of an HTTP/2 connection, however the bytes are cut up.</summary>
internal struct FrameWalker(int preface)
{
    readonly byte[] _header = new byte[FrameHeader.Size];
    int _headerLength;
    int _skip = preface;

    public readonly bool AtBoundary => _headerLength == 0 && _skip == 0;

    /// <summary>Takes what is there of the current frame's payload.</summary>
    public ReadOnlySpan<byte> Payload(ref ReadOnlySpan<byte> bytes)
    {
        var payload = bytes[..Math.Min(_skip, bytes.Length)];
        _skip -= payload.Length;
        bytes = bytes[payload.Length..];
        return payload;
    }

    /// <summary>Consumes bytes up to the end of the next frame header; false when the bytes end before.</summary>
    public bool Next(ref ReadOnlySpan<byte> bytes, out FrameHeader frame)
    {
        Payload(ref bytes);
        var taken = Math.Min(FrameHeader.Size - _headerLength, bytes.Length);
        bytes[..taken].CopyTo(_header.AsSpan(_headerLength));
        _headerLength += taken;
        bytes = bytes[taken..];
        frame = default;
        if (_headerLength < FrameHeader.Size)
        {
            return false;
        }

        _headerLength = 0;
        _skip = (_header[0] << 16) | (_header[1] << 8) | _header[2];
        frame = new FrameHeader(_skip, _header[3], _header[4], BinaryPrimitives.ReadInt32BigEndian(_header.AsSpan(5)) & int.MaxValue);
        return true;
    }
}

/// <summary>The body of one stream whose frames are counted, and perhaps cut; belongs to the tap's lock.</summary>
internal sealed class WatchedBody
{
    public readonly TaskCompletionSource Reached = new(TaskCreationOptions.RunContinuationsAsynchronously);
    public long Left, Passed, Awaited;
}
