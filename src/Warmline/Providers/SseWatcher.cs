using System.Runtime.CompilerServices;

namespace Warmline.Providers;

/// <summary>
/// Reads along a stream of server-sent events, in pieces of any size, by the rules of
/// https://html.spec.whatwg.org/multipage/server-sent-events.html, and keeps what a pool has to know of it: that it got on, that it is
/// about to end, that it failed, and the name of the last event. Only the beginning of each line is looked at, the rest is leapt over by a
/// vectorised search for its end; nothing is kept of the data. For one reader.
/// </summary>
internal sealed class SseWatcher
{
    /// <summary>
    /// Of a line no more than this is looked at, wherever it is cut: the longest name that is known, and what may stand before it. Names
    /// longer than this are unknown.
    /// </summary>
    const int HeadSize = 96;

    /// <summary>Of an unknown event's name no more than this is kept.</summary>
    const int MostOfName = 48;

    Head _head;
    long _lineLength;   // of a line whose end has not come; as much of it as goes in is in the head
    bool _begun;
    bool _afterCr;

    // The event whose end, a blank line, has not come.
    SseEvent? _named;
    SseEvent? _byData;
    int _unknownLength;
    int _dataLines;
    bool _isDone;

    // Unknown names, of the event under way and of the last one; made with the first of them.
    byte[]? _unknown;
    byte _lastUnknownLength;
    SseEvent? _last;
    TimeSpan _firstContentAt = TimeSpan.MinValue;
    TimeSpan _lastContentAt = TimeSpan.MinValue;
    TimeSpan _longestGap = TimeSpan.MinValue;

    /// <summary>Events so far that were no pings.</summary>
    public long Events { get; private set; }

    /// <summary>Pings so far, comments included.</summary>
    public long Pings { get; private set; }

    /// <summary>Events so far that brought a piece of the answer.</summary>
    public long Contents { get; private set; }

    /// <summary>Error events so far.</summary>
    public long Errors { get; private set; }

    /// <summary>Saw a line that is not an SSE field: a reader of events ignores it, and no provider sends any.</summary>
    public bool HasForeignLines { get; private set; }

    /// <summary>The last event that was no ping said that nothing follows.</summary>
    public bool IsOver { get; private set; }

    /// <summary>
    /// Whoever leaves here leaves at the end: the last event was the terminal one, or an error. An event counts as soon as its lines say
    /// so, a blank line after them or not, as a reader by lines may have seen enough then.
    /// </summary>
    public bool IsNearEnd => ((_dataLines > 0 ? Pending : _last)?.Kind & (SseKind.Error | SseKind.Terminal)) is not (null or SseKind.None);

    /// <summary>The name of the last event, if that is a terminal one, whole or not.</summary>
    public string? TerminalEvent => (_dataLines > 0 ? Pending : _last) is { } last && (last.Kind & SseKind.Terminal) is not SseKind.None ? last.Name : null;

    /// <summary>
    /// The name of the last event that was no ping, at most 48 characters of it; null before the first. Made here, so not on the way of a
    /// stream that is well.
    /// </summary>
    public string? LastEvent => _last?.Name ?? (_lastUnknownLength == 0 ? null : Harmless(_unknown.AsSpan(MostOfName, _lastUnknownLength)));

    /// <summary>When the first piece of the answer came; null before it.</summary>
    public TimeSpan? FirstContentAt => _firstContentAt > TimeSpan.MinValue ? _firstContentAt : null;

    /// <summary>The longest time between two reads that brought some; null before the second.</summary>
    public TimeSpan? LongestGap => _longestGap > TimeSpan.MinValue ? _longestGap : null;

    /// <summary>The mean time from one piece to the next; null before the second.</summary>
    public TimeSpan? MeanGap => LongestGap is null ? null : (_lastContentAt - _firstContentAt) / Math.Max(1, Contents - 1);

    SseEvent? Pending => _isDone ? SseEvents.Done : _named ?? (_unknownLength == 0 ? _byData : null);

    /// <summary>What the events that end in these bytes say, all of it together.</summary>
    public SseKind Feed(ReadOnlySpan<byte> bytes)
    {
        var found = SseKind.None;
        if (_afterCr && !bytes.IsEmpty)
        {
            _afterCr = false;
            bytes = bytes[0] == '\n' ? bytes[1..] : bytes;
        }

        while (!bytes.IsEmpty)
        {
            var end = bytes.IndexOfAny((byte)'\n', (byte)'\r');
            if (end < 0)
            {
                Keep(bytes);
                return found;
            }

            var line = bytes[..end];
            long length = end;
            if (_lineLength > 0)
            {
                Keep(line);
                line = _head[..(int)Math.Min(HeadSize, _lineLength)];
                length = _lineLength;
                _lineLength = 0;
            }

            found |= length == 0 && _begun ? EndEvent() : TakeLine(line[..Math.Min(HeadSize, line.Length)], length);
            var next = end + 1;
            if (bytes[end] == '\r')
            {
                _afterCr = next == bytes.Length;
                next += !_afterCr && bytes[next] == '\n' ? 1 : 0;
            }

            bytes = bytes[next..];
        }

        return found;
    }

    /// <summary>A read brought content at this time.</summary>
    public void TimeContent(TimeSpan now)
    {
        if (_firstContentAt == TimeSpan.MinValue)
        {
            _firstContentAt = _lastContentAt = now;
            return;
        }

        var gap = now - _lastContentAt;
        _lastContentAt = now;
        _longestGap = gap > _longestGap ? gap : _longestGap;
    }

    void Keep(ReadOnlySpan<byte> part)
    {
        if (_lineLength < HeadSize)
        {
            var room = HeadSize - (int)_lineLength;
            part[..Math.Min(room, part.Length)].CopyTo(_head[(int)_lineLength..]);
        }

        _lineLength += part.Length;
    }

    /// <summary>A line, as far as it is looked at, and its whole length.</summary>
    SseKind TakeLine(ReadOnlySpan<byte> line, long length)
    {
        if (!_begun)
        {
            _begun = true;
            if (line.StartsWith("\uFEFF"u8))
            {
                line = line[3..];
                length -= 3;
            }

            if (length == 0)
            {
                return SseKind.None;
            }
        }

        switch (line[0])
        {
            case (byte)'d' when IsField(ref line, ref length, "data"u8):
                TakeData(line, length);
                break;
            case (byte)'e' when IsField(ref line, ref length, "event"u8):
                TakeName(line, length);
                break;
            case (byte)'i' when IsField(ref line, ref length, "id"u8):
            case (byte)'r' when IsField(ref line, ref length, "retry"u8):
                break;
            case (byte)':':
                Pings++;
                break;
            default:
                HasForeignLines = true;
                break;
        }

        return SseKind.None;
    }

    /// <summary>What is left is the value, if it is the field.</summary>
    static bool IsField(ref ReadOnlySpan<byte> line, ref long length, ReadOnlySpan<byte> name)
    {
        if (!line.StartsWith(name) || (length > name.Length && line[name.Length] != ':'))
        {
            return false;
        }

        var skip = length == name.Length ? name.Length : length > name.Length + 1 && line[name.Length + 1] == ' ' ? name.Length + 2 : name.Length + 1;
        line = line[skip..];
        length -= skip;
        return true;
    }

    void TakeName(ReadOnlySpan<byte> name, long length)
    {
        _unknownLength = 0;
        _named = name.Length == length ? SseEvents.ByName(name) : null;
        if (_named is null && length > 0 && !name.SequenceEqual(SseEvents.Message.Utf8))   // by that name it is as if it had none
        {
            _unknownLength = Math.Min(name.Length, MostOfName);
            _unknown ??= new byte[2 * MostOfName];
            name[.._unknownLength].CopyTo(_unknown);
        }
    }

    void TakeData(ReadOnlySpan<byte> data, long length)
    {
        if (_dataLines++ == 0)
        {
            _isDone = length == SseEvents.Done.Utf8.Length && data.SequenceEqual(SseEvents.Done.Utf8);
            _byData = length == 0 ? null : SseEvents.ByData(data);   // also beside a name: a later line may take that back
        }
        else
        {
            _isDone = false;   // it is the end only as the whole of an event's data
            _byData ??= SseEvents.Message;
        }
    }

    SseKind EndEvent()
    {
        var kind = SseKind.None;
        if (_dataLines > 0)   // an event without data is none
        {
            var isUnknown = _unknownLength > 0 && !_isDone;
            var pending = Pending;
            kind = isUnknown ? SseKind.Content : pending?.Kind ?? SseKind.None;
            if (kind is SseKind.None)
            {
                Pings++;
            }
            else
            {
                Events++;
                Contents += kind is SseKind.Content ? 1 : 0;
                Errors += (kind & SseKind.Error) is not SseKind.None ? 1 : 0;
                IsOver = (kind & SseKind.Terminal) is not SseKind.None;
                _last = pending;
                _lastUnknownLength = (byte)(isUnknown ? _unknownLength : 0);
                if (isUnknown)
                {
                    _unknown.AsSpan(0, _unknownLength).CopyTo(_unknown.AsSpan(MostOfName));
                }
            }
        }

        _named = _byData = null;
        _unknownLength = _dataLines = 0;
        _isDone = false;
        return kind;
    }

    /// <summary>For a message that people and logs read: a name may be anything.</summary>
    static string Harmless(ReadOnlySpan<byte> name)
    {
        Span<char> text = stackalloc char[name.Length];
        for (var i = 0; i < name.Length; i++)
        {
            text[i] = char.IsAsciiLetterOrDigit((char)name[i]) || name[i] is (byte)'.' or (byte)'_' or (byte)'-' or (byte)':' ? (char)name[i] : '?';
        }

        return text.ToString();
    }

    [InlineArray(HeadSize)]
    struct Head
    {
        byte _first;
    }
}
