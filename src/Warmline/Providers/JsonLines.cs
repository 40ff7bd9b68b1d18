namespace Warmline.Providers;

/// <summary>
/// Reads along JSON values that follow each other, in pieces of any size, and knows whether the last of them said that it is the last: by
/// <c>"done":true</c> at its top
/// level (Ollama: https://docs.ollama.com/api/streaming) or <c>"is_finished":true</c> (Cohere's first chat API:
/// https://docs.cohere.com/v1/reference/chat-stream). Text inside
/// strings and members of inner objects say nothing. Keeps none of the data and allocates nothing. For one reader.
/// </summary>
internal struct JsonLines
{
    const byte Free = 0, Text = 1, Escape = 2, Name = 3, Value = 4;

    ushort _depth;
    byte _at;
    byte _name;   // 1: done, 2: is_finished
    byte _matched;
    bool _isObject;   // of the value at the top level
    bool _wantsName;
    bool _saysDone;

    /// <summary>The last value is whole and said that nothing follows.</summary>
    public bool IsOver { get; private set; }

    static ReadOnlySpan<byte> True => "true"u8;

    public void Feed(ReadOnlySpan<byte> bytes)
    {
        for (var at = 0; at < bytes.Length; at++)
        {
            switch (_at)
            {
                case Text:
                    var end = bytes[at..].IndexOfAny((byte)'"', (byte)'\\');
                    if (end < 0)
                    {
                        return;
                    }

                    at += end;
                    _at = bytes[at] == '"' ? Free : Escape;
                    break;
                case Escape:
                    _at = Text;
                    break;
                case Name:
                    MatchName(bytes[at]);
                    break;
                case Value:
                    MatchValue(bytes[at]);
                    break;
                default:
                    if (_depth > 1)
                    {
                        var next = bytes[at..].IndexOfAny("\"{}[]"u8);
                        if (next < 0)
                        {
                            return;
                        }

                        at += next;
                    }

                    Take(bytes[at]);
                    break;
            }
        }
    }

    static ReadOnlySpan<byte> NameOf(int name) => name == 1 ? "done"u8 : "is_finished"u8;

    void Take(byte next)
    {
        switch (next)
        {
            case (byte)'"':
                (_at, _matched, _name) = (_depth == 1 && _wantsName ? Name : Text, 0, 0);
                break;
            case (byte)'{' or (byte)'[':
                if (_depth == 0)
                {
                    (_isObject, _wantsName, _saysDone, IsOver) = (next == '{', next == '{', false, false);
                }

                _depth += _depth == ushort.MaxValue ? (ushort)0 : (ushort)1;   // so deep that it is no answer: its end is not known then
                break;
            case (byte)'}' or (byte)']':
                _depth -= _depth is 0 or ushort.MaxValue ? (ushort)0 : (ushort)1;
                IsOver = _depth == 0 && _saysDone;
                break;
            case (byte)',' when _depth == 1:
                _wantsName = _isObject;
                break;
            case (byte)':' when _depth == 1 && _wantsName:
                _wantsName = false;
                (_at, _matched) = (_name != 0 ? Value : Free, 0);
                break;
            default:
                IsOver &= _depth > 0 || next is (byte)' ' or (byte)'\t' or (byte)'\r' or (byte)'\n';
                break;
        }
    }

    /// <summary>Within a member's name. It is known when the quotation mark ends it.</summary>
    void MatchName(byte next)
    {
        if (next == '"')
        {
            _name = _name != 0 && _matched == NameOf(_name).Length ? _name : (byte)0;
            _at = Free;
            return;
        }

        if (_matched == 0)
        {
            _name = next switch { (byte)'d' => 1, (byte)'i' => 2, _ => 0 };
        }

        if (_name == 0 || _matched == NameOf(_name).Length || next != NameOf(_name)[_matched++])
        {
            (_name, _at) = (0, next == '\\' ? Escape : Text);
        }
    }

    /// <summary>Behind the colon of a name that is known.</summary>
    void MatchValue(byte next)
    {
        if (_matched == 0 && next is (byte)' ' or (byte)'\t' or (byte)'\r' or (byte)'\n')
        {
            return;
        }

        if (next == True[_matched])
        {
            if (++_matched == True.Length)
            {
                (_saysDone, _at) = (true, Free);
            }

            return;
        }

        (_saysDone, _at) = (false, Free);
        Take(next);
    }
}
