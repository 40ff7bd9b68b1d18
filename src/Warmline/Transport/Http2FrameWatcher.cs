using System.Buffers.Binary;
using System.Runtime.CompilerServices;

namespace Warmline.Transport;

/// <summary>What a piece of the server's frames said that matters to the pool.</summary>
[Flags]
internal enum Http2News
{
    None = 0,

    /// <summary>The first SETTINGS, or a later one that sets the number of concurrent streams.</summary>
    Settings = 1,

    /// <summary>The connection takes no new streams.</summary>
    GoAway = 2,
}

/// <summary>
/// Reads along the HTTP/2 frames that come from the server: what SETTINGS says, GOAWAY, and by how much the connection's window is opened at its start. Every
/// other frame is skipped by its length. Takes the bytes in pieces of any size and allocates nothing. It judges nothing: a server that breaks the protocol
/// is the platform's to refuse.
/// </summary>
internal sealed class Http2FrameWatcher
{
    const int HeaderLength = 9;
    const int SettingLength = 6;
    const int GoAwayLength = 8;     // what is read of it: last stream id and code; debug data may follow
    const int WindowUpdateLength = 4;
    const byte HeadersFrame = 1;
    const byte SettingsFrame = 4;
    const byte GoAwayFrame = 7;
    const byte WindowUpdateFrame = 8;
    const byte AckFlag = 1;
    const ushort MaxConcurrentStreamsId = 3;
    const ushort InitialWindowSizeId = 4;
    const ushort MaxFrameSizeId = 5;

    Unit _unit;          // the unit that is being collected: a header, a setting, or the start of a GOAWAY
    int _collected;
    int _unitLength;     // of the payload's units; 0: skip the payload
    int _payloadLeft;
    byte _type;
    bool _sawSettings;
    bool _changesStreams;
    bool _sawHeaders;

    /// <summary>Streams that the server allows at a time; <see cref="int.MaxValue"/> when it does not say.</summary>
    public int MaxConcurrentStreams { get; private set; } = int.MaxValue;

    /// <summary>Whether the server's SETTINGS have come.</summary>
    public bool SawSettings => Volatile.Read(ref _sawSettings);

    /// <summary>Bytes that may be sent to the server on one stream before it opens the window further.</summary>
    public int InitialWindowSize { get; private set; } = 65_535;

    /// <summary>The longest frame that the server takes.</summary>
    public int MaxFrameSize { get; private set; } = 16_384;

    /// <summary>Bytes that may be sent on all streams together, as the server opened it before its first answer.</summary>
    public long ConnectionWindow { get; private set; } = 65_535;

    /// <summary>The highest stream that the server may have processed, by its last GOAWAY.</summary>
    public int LastStreamId { get; private set; } = int.MaxValue;

    /// <summary>The error code of the server's last GOAWAY; 0 is a graceful end.</summary>
    public uint GoAwayCode { get; private set; }

    /// <summary>Reads the next piece.</summary>
    public Http2News Feed(ReadOnlySpan<byte> piece)
    {
        var news = Http2News.None;
        while (piece.Length > 0)
        {
            if (_payloadLeft == 0)
            {
                if (Collect(ref piece, HeaderLength))
                {
                    news |= BeginFrame(_unit);
                }
            }
            else if (_unitLength == 0)
            {
                int skipped = Math.Min(piece.Length, _payloadLeft);
                piece = piece[skipped..];
                _payloadLeft -= skipped;
            }
            else
            {
                int before = piece.Length;
                bool isWhole = Collect(ref piece, _unitLength);
                _payloadLeft -= before - piece.Length;
                if (isWhole)
                {
                    news |= _type switch
                    {
                        SettingsFrame => ReadSetting(_unit),
                        GoAwayFrame => ReadGoAway(_unit),
                        _ => ReadWindowUpdate(_unit),
                    };
                }
            }
        }

        return news;
    }

    bool Collect(ref ReadOnlySpan<byte> piece, int length)
    {
        int taken = Math.Min(piece.Length, length - _collected);
        piece[..taken].CopyTo(((Span<byte>)_unit)[_collected..]);
        piece = piece[taken..];
        _collected += taken;
        if (_collected < length)
        {
            return false;
        }

        _collected = 0;
        return true;
    }

    Http2News BeginFrame(ReadOnlySpan<byte> header)
    {
        _payloadLeft = (header[0] << 16) | (header[1] << 8) | header[2];
        _type = header[3];
        bool isAck = (header[4] & AckFlag) != 0;
        _unitLength = _type switch
        {
            SettingsFrame when !isAck && _payloadLeft % SettingLength == 0 => SettingLength,
            GoAwayFrame when _payloadLeft >= GoAwayLength => GoAwayLength,
            WindowUpdateFrame when !_sawHeaders && _payloadLeft == WindowUpdateLength && BinaryPrimitives.ReadInt32BigEndian(header[5..]) == 0 => WindowUpdateLength,
            _ => 0,
        };
        _changesStreams = false;
        _sawHeaders |= _type == HeadersFrame;
        return _type == SettingsFrame && !isAck && _payloadLeft == 0 ? EndSettings() : Http2News.None;
    }

    Http2News ReadSetting(ReadOnlySpan<byte> setting)
    {
        var value = (int)Math.Min(BinaryPrimitives.ReadUInt32BigEndian(setting[2..]), int.MaxValue);
        switch (BinaryPrimitives.ReadUInt16BigEndian(setting))
        {
            case MaxConcurrentStreamsId:
                MaxConcurrentStreams = value;
                _changesStreams = true;
                break;
            case InitialWindowSizeId:
                InitialWindowSize = value;
                break;
            case MaxFrameSizeId:
                MaxFrameSize = value;
                break;
        }

        return _payloadLeft == 0 ? EndSettings() : Http2News.None;
    }

    Http2News EndSettings()
    {
        bool isNews = _changesStreams || !_sawSettings;
        Volatile.Write(ref _sawSettings, true);
        return isNews ? Http2News.Settings : Http2News.None;
    }

    Http2News ReadGoAway(ReadOnlySpan<byte> goAway)
    {
        LastStreamId = BinaryPrimitives.ReadInt32BigEndian(goAway) & int.MaxValue;
        GoAwayCode = BinaryPrimitives.ReadUInt32BigEndian(goAway[4..]);
        _unitLength = 0;   // the rest is debug data
        return Http2News.GoAway;
    }

    Http2News ReadWindowUpdate(ReadOnlySpan<byte> update)
    {
        ConnectionWindow += BinaryPrimitives.ReadInt32BigEndian(update) & int.MaxValue;
        return Http2News.None;
    }

    [InlineArray(HeaderLength)]
    struct Unit
    {
        byte _first;
    }
}

/// <summary>Reads along what is written to an HTTP/2 connection, up to the first HEADERS: before them no request was sent, whatever else was.</summary>
internal struct Http2RequestWatcher()
{
    const int PrefaceLength = 24;
    const int HeaderLength = 9;
    const byte HeadersFrame = 1;

    int _skip = PrefaceLength;
    int _collected;
    int _length;

    public bool SawRequest { get; private set; }

    public void Feed(ReadOnlySpan<byte> piece)
    {
        while (!SawRequest && piece.Length > 0)
        {
            if (_skip > 0)
            {
                var skipped = Math.Min(_skip, piece.Length);
                _skip -= skipped;
                piece = piece[skipped..];
                continue;
            }

            var next = piece[0];
            piece = piece[1..];
            _length = _collected < 3 ? (_length << 8) | next : _length;
            SawRequest = _collected == 3 && next == HeadersFrame;
            if (++_collected == HeaderLength)
            {
                (_skip, _collected, _length) = (_length, 0, 0);
            }
        }
    }
}
