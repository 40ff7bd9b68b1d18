using System.Text;

namespace Warmline.Tests.Guards;

/// <summary>A C# source without its comments and without the text of its strings; the code in the holes of interpolated strings stays.</summary>
internal sealed class CSharpCode
{
    readonly string _text;
    readonly StringBuilder _code = new();
    int _at;

    CSharpCode(string text) => _text = text;

    public static string Of(string text)
    {
        var reader = new CSharpCode(text);
        reader.Code(closing: 0);
        return reader._code.ToString();
    }

    /// <summary>Reads code up to the end, or up to so many closing braces in a row that belong to no opening one.</summary>
    void Code(int closing)
    {
        var depth = 0;
        while (_at < _text.Length)
        {
            if (Is("//"))
            {
                Skip(_text.IndexOf('\n', _at));
            }
            else if (Is("/*"))
            {
                Skip(_text.IndexOf("*/", _at, StringComparison.Ordinal) + 2);
            }
            else if (_text[_at] == '\'')
            {
                Skip(_text.IndexOf('\'', _text[_at + 1] == '\\' ? _at + 3 : _at + 2) + 1);
            }
            else if (IsStringAhead(out var dollars, out var verbatim))
            {
                Text(dollars, verbatim);
            }
            else if (closing > 0 && depth == 0 && Run('}') >= closing)
            {
                _at += closing;
                return;
            }
            else
            {
                depth += _text[_at] switch { '{' => 1, '}' => -1, _ => 0 };
                _code.Append(_text[_at++]);
            }
        }
    }

    /// <summary>Reads a string from its first quote on.</summary>
    void Text(int dollars, bool verbatim)
    {
        var quotes = Run('"');
        var raw = !verbatim && quotes >= 3;
        quotes = raw ? quotes : 1;
        _at += quotes;
        _code.Append("\"\"");
        while (_at < _text.Length)
        {
            var braces = dollars > 0 ? Run('{') : 0;
            if (_text[_at] == '"' && (raw ? Run('"') >= quotes : !(verbatim && Run('"') > 1)))
            {
                _at += raw ? Run('"') : 1;
                return;
            }

            if (braces > 0 && (raw ? braces >= dollars : braces % 2 == 1))
            {
                _at += braces;
                _code.Append(' ');
                Code(closing: raw ? dollars : 1);
                _code.Append(' ');
            }
            else
            {
                _at += braces > 0 ? braces : _text[_at] == '"' || (_text[_at] == '\\' && !raw && !verbatim) ? 2 : 1;
            }
        }
    }

    bool IsStringAhead(out int dollars, out bool verbatim)
    {
        (dollars, verbatim) = (0, false);
        var at = _at;
        for (; at < _text.Length && _text[at] is '$' or '@'; at++)
        {
            dollars += _text[at] == '$' ? 1 : 0;
            verbatim |= _text[at] == '@';
        }

        if (at >= _text.Length || _text[at] != '"')
        {
            return false;
        }

        _at = at;
        return true;
    }

    bool Is(string start) => string.CompareOrdinal(_text, _at, start, 0, start.Length) == 0;

    int Run(char c)
    {
        var end = _at;
        while (end < _text.Length && _text[end] == c)
        {
            end++;
        }

        return end - _at;
    }

    void Skip(int to) => _at = to <= _at ? _text.Length : to;
}
