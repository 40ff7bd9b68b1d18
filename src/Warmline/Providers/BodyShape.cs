namespace Warmline.Providers;

/// <summary>What the first bytes of a body say it is.</summary>
internal enum BodyKind : byte
{
    /// <summary>No stream whose end could be known, or not looked at.</summary>
    Other,

    /// <summary>Nothing has come but whitespace, if anything.</summary>
    Blank,

    /// <summary>It has begun, with bytes that may become the first field of an event.</summary>
    MaybeEvents,

    /// <summary>Server-sent events, as their first line says.</summary>
    Events,

    /// <summary>JSON, of one value or of many.</summary>
    Json,
}

/// <summary>
/// Tells by the first bytes of a body what it is, in pieces of any size, whatever its headers call it. Whitespace (RFC 8259, section 2) and
/// a byte order mark at the very
/// beginning say nothing. A field of an event begins its line: https://html.spec.whatwg.org/multipage/server-sent-events.html.
/// </summary>
internal struct BodyShape
{
    byte _mark;   // bytes of the byte order mark that have come
    bool _hasBegun;
    bool _isIndented;
    byte _field;
    byte _matched;

    public BodyKind Kind { get; private set; }

    static ReadOnlySpan<byte> Mark => "\uFEFF"u8;

    /// <summary>From here on the bytes decide.</summary>
    public void Begin() => Kind = BodyKind.Blank;

    /// <summary>The guess was wrong.</summary>
    public void GiveUp() => Kind = BodyKind.Other;

    /// <summary>
    /// Takes the next bytes, until the kind is decided. <paramref name="start"/> is where the first line with content begins in them, and
    /// <paramref name="before"/> what
    /// came of it in earlier pieces.
    /// </summary>
    public void Feed(ReadOnlySpan<byte> bytes, out ReadOnlySpan<byte> before, out int start)
    {
        before = Kind is BodyKind.MaybeEvents ? Field(_field)[.._matched] : default;
        start = 0;
        for (var at = 0; at < bytes.Length; at++)
        {
            var next = bytes[at];
            if (Kind is BodyKind.MaybeEvents)
            {
                Match(next);
            }
            else if (!SkipBlank(next))
            {
                start = at;
                Kind = next is (byte)'{' or (byte)'[' ? BodyKind.Json : _isIndented || !Begins(next) ? BodyKind.Other : BodyKind.MaybeEvents;
                if (Kind is BodyKind.MaybeEvents)
                {
                    _matched = 0;
                    Match(next);
                }
            }

            if (Kind is not (BodyKind.Blank or BodyKind.MaybeEvents))
            {
                return;
            }
        }
    }

    /// <summary>The names of the fields of an event; a comment has none.</summary>
    static ReadOnlySpan<byte> Field(int field) => field switch
    {
        0 => "data:"u8,
        1 => "event:"u8,
        2 => "id:"u8,
        3 => "retry:"u8,
        _ => ":"u8,
    };

    bool SkipBlank(byte next)
    {
        if ((!_hasBegun || _mark > 0) && _mark < Mark.Length && next == Mark[_mark])
        {
            _mark++;
            _hasBegun = true;
            return true;
        }

        _hasBegun = true;
        if (_mark is not 0 && _mark < Mark.Length)
        {
            _isIndented = true;   // half of a mark: no line of an event begins so
            return false;
        }

        switch (next)
        {
            case (byte)' ' or (byte)'\t':
                _isIndented = true;
                return true;
            case (byte)'\r' or (byte)'\n':
                _isIndented = false;
                return true;
            default:
                return false;
        }
    }

    bool Begins(byte first)
    {
        var field = first switch { (byte)'d' => 0, (byte)'e' => 1, (byte)'i' => 2, (byte)'r' => 3, (byte)':' => 4, _ => -1 };
        _field = (byte)Math.Max(0, field);
        return field >= 0;
    }

    void Match(byte next)
    {
        var field = Field(_field);
        Kind = next != field[_matched++] ? BodyKind.Other : _matched == field.Length ? BodyKind.Events : BodyKind.MaybeEvents;
    }
}
