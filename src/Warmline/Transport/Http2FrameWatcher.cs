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

    /// <summary>The whole of a GOAWAY has been read, its debug data too.</summary>
    GoAwayEnd = 4,

    /// <summary>The window of the whole connection was opened further.</summary>
    Credit = 8,
}

/// <summary>
/// Reads along the HTTP/2 frames that come from the server: SETTINGS, GOAWAY, answered PINGs and by how much the connection's window is
/// opened. Every
/// other frame is skipped by its length. Takes the bytes in pieces of any size, and allocates only for a GOAWAY with debug data. It judges
/// nothing:
/// a server that breaks the protocol is the platform's to refuse.
/// </summary>
internal sealed class Http2FrameWatcher
{
    const int HeaderLength = 9;
    const int SettingLength = 6;
    const int GoAwayLength = 8;     // what is read of it: last stream id and code; debug data may follow
    const int WindowUpdateLength = 4;
    const int PingLength = 8;
    const int MaxDebugLength = 128;   // enough for a sentence in a log line
    const byte HeadersFrame = 1;
    const byte SettingsFrame = 4;
    const byte PingFrame = 6;
    const byte GoAwayFrame = 7;
    const byte WindowUpdateFrame = 8;
    const byte ContinuationFrame = 9;
    const byte EndHeadersFlag = 4;
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
    bool _inDebugData;
    bool _inHeaders;
    byte[]? _debug;
    int _debugLength;
    long _connectionWindow = 65_535;
    long _windowAtFirstAnswer;
    long _answers;
    int _lastStreamId = int.MaxValue;
    bool _hasGoAway;

    /// <summary>Streams that the server allows at a time; <see cref="int.MaxValue"/> when it does not say.</summary>
    public int MaxConcurrentStreams { get; private set; } = int.MaxValue;

    /// <summary>Whether the server's SETTINGS have come.</summary>
    public bool SawSettings => Volatile.Read(ref _sawSettings);

    /// <summary>Bytes that may be sent to the server on one stream before it opens the window further.</summary>
    public int InitialWindowSize { get; private set; } = 65_535;

    /// <summary>The longest frame that the server takes.</summary>
    public int MaxFrameSize { get; private set; } = 16_384;

    /// <summary>Bytes of request bodies that the server has allowed on all streams together since the connection began, those that were
    /// sent included.</summary>
    public long ConnectionCredit => Volatile.Read(ref _connectionWindow);

    /// <summary>Bytes that may be sent on all streams together, as the server opened it before its first answer.</summary>
    public long ConnectionWindow => _windowAtFirstAnswer > 0 ? _windowAtFirstAnswer : _connectionWindow;

    /// <summary>The highest stream that the server may have processed, by its GOAWAY; <see cref="int.MaxValue"/> before one came.</summary>
    public int LastStreamId => Volatile.Read(ref _lastStreamId);

    /// <summary>Whether a GOAWAY has come. Its last stream id does not tell: a graceful one names the highest that there is.</summary>
    public bool HasGoAway => Volatile.Read(ref _hasGoAway);

    /// <summary>The error code of the server's last GOAWAY; 0 is a graceful end.</summary>
    public uint GoAwayCode { get; private set; }

    /// <summary>HEADERS and DATA frames so far: what a server counts as use of the connection.</summary>
    public long Answers => Volatile.Read(ref _answers);

    /// <summary>Keep-alive PINGs that the server has answered.</summary>
    public long KeepAlivesAnswered { get; private set; }

    /// <summary>What the server's last GOAWAY said beside its code: the printable part of its beginning; empty for nothing.</summary>
    public string GoAwayText => string.Create(_debugLength, _debug, static (text, debug) =>
    {
        for (var i = 0; i < text.Length; i++)
        {
            text[i] = debug![i] is >= 0x20 and < 0x7F ? (char)debug[i] : '?';
        }
    });

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
                if (_inDebugData)
                {
                    Keep(piece[..skipped]);
                }

                piece = piece[skipped..];
                _payloadLeft -= skipped;
                news |= _inDebugData && _payloadLeft == 0 ? EndGoAway() : Http2News.None;
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
                        PingFrame => ReadAnswer(_unit),
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
            GoAwayFrame when _payloadLeft >= GoAwayLength && !_inHeaders && BinaryPrimitives.ReadInt32BigEndian(header[5..]) == 0 =>
                GoAwayLength,
            PingFrame when isAck && _payloadLeft == PingLength => PingLength,
            WindowUpdateFrame when _payloadLeft == WindowUpdateLength && BinaryPrimitives.ReadInt32BigEndian(header[5..]) == 0 =>
                WindowUpdateLength,
            _ => 0,
        };
        _changesStreams = false;

        // Between HEADERS and the last CONTINUATION nothing else may come (RFC 9113, section 6.10): a GOAWAY there is a fault and proves
        // nothing.
        _inHeaders = (_type == HeadersFrame || (_type == ContinuationFrame && _inHeaders)) && (header[4] & EndHeadersFlag) == 0;
        if (_type <= HeadersFrame)
        {
            Volatile.Write(ref _answers, _answers + 1);
            _windowAtFirstAnswer = _answers == 1 ? _connectionWindow : _windowAtFirstAnswer;
        }

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
        // A later one may lower the id and never raise it (RFC 9113, section 6.8).
        Volatile.Write(ref _lastStreamId, Math.Min(_lastStreamId, BinaryPrimitives.ReadInt32BigEndian(goAway) & int.MaxValue));
        GoAwayCode = BinaryPrimitives.ReadUInt32BigEndian(goAway[4..]);
        Volatile.Write(ref _hasGoAway, true);
        (_unitLength, _debugLength, _inDebugData) = (0, 0, true);   // the rest is debug data
        return Http2News.GoAway | (_payloadLeft == 0 ? EndGoAway() : Http2News.None);
    }

    void Keep(ReadOnlySpan<byte> debug)
    {
        _debug ??= new byte[MaxDebugLength];
        var kept = debug[..Math.Min(debug.Length, MaxDebugLength - _debugLength)];
        kept.CopyTo(_debug.AsSpan(_debugLength));
        _debugLength += kept.Length;
    }

    Http2News EndGoAway()
    {
        _inDebugData = false;
        return Http2News.GoAwayEnd;
    }

    Http2News ReadAnswer(ReadOnlySpan<byte> ping)
    {
        KeepAlivesAnswered += Http2SentFrames.IsKeepAlive(ping) ? 1 : 0;
        return Http2News.None;
    }

    Http2News ReadWindowUpdate(ReadOnlySpan<byte> update)
    {
        Volatile.Write(ref _connectionWindow, _connectionWindow + (BinaryPrimitives.ReadInt32BigEndian(update) & int.MaxValue));
        return Http2News.Credit;
    }

    [InlineArray(HeaderLength)]
    struct Unit
    {
        byte _first;
    }
}
