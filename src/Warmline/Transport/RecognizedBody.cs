using Warmline.Providers;

namespace Warmline.Transport;

/// <summary>What the bytes of a response body say: what it is, how far it has got, whether its end is near.</summary>
internal abstract class RecognizedBody(IExchange exchange, long? framedLength) : Stream
{
    protected const long Unknown = -1;

    SseWatcher? _events;
    BodyShape _shape;
    JsonLines _lines;
    bool _isDecoded;
    bool _errorSeen;
    bool _isGuessed;

    protected IExchange Attempt => exchange;

    /// <summary>The length that framed the body; unknown if something else did.</summary>
    protected long FramedLength { get; } = framedLength ?? Unknown;

    /// <summary>The exchange knows of the end: the body was read to its end, failed or was left.</summary>
    protected abstract bool HasEnded { get; }

    /// <summary>The events are not in the bytes that are read here, which are compressed.</summary>
    protected bool IsDecoded => _isDecoded;

    /// <summary>The last event, or line of JSON, said that nothing follows; or an error did, which ends most streams.</summary>
    protected bool HasSaidItsEnd => _shape.Kind is BodyKind.Json ? _lines.IsOver : _events is { IsNearEnd: true };

    /// <summary>It is a stream of events. <paramref name="isDecoded"/>: not in these bytes, which are compressed; whoever decodes them
    /// reports what it <see cref="Saw"/>.</summary>
    public void Watch(bool isDecoded)
    {
        _isDecoded = isDecoded;
        _events = new SseWatcher();
        exchange.Clocks.WatchContent();
        if (!HasEnded)
        {
            exchange.Events = _events;
        }
    }

    /// <summary>What it is shows when it begins. <paramref name="isEvents"/>: its headers call it a stream of events. <paramref
    /// name="isDecoded"/>: as above.</summary>
    public void Begin(bool isEvents, bool isDecoded)
    {
        _shape.Begin();
        _isDecoded = isDecoded;
        if (isEvents)
        {
            Watch(isDecoded);
        }
        else
        {
            exchange.Clocks.WatchContent();   // whitespace is no content, whatever it stands before
        }
    }

    /// <summary>These bytes of the body were returned to the caller.</summary>
    public void Saw(ReadOnlySpan<byte> bytes)
    {
        if (Recognize(bytes) is not (not SseKind.None and var found))
        {
            return;
        }

        exchange.Clocks.GotEvent();
        if ((found & SseKind.Content) is not SseKind.None)
        {
            _events!.TimeContent(exchange.Now);
        }

        if ((found & SseKind.Error) is not SseKind.None && !_errorSeen)
        {
            _errorSeen = true;
            exchange.StreamErrorSeen();
        }
    }

    /// <summary>What the events that end in these bytes say.</summary>
    protected SseKind Recognize(ReadOnlySpan<byte> bytes)
    {
        switch (_shape.Kind)
        {
            case BodyKind.Blank or BodyKind.MaybeEvents:
                return RecognizeBeginning(bytes);
            case BodyKind.Json:
                FeedLines(bytes);
                return SseKind.None;
            default:
                return FeedEvents(bytes);
        }
    }

    /// <summary>A text whose first line looked like an event's shows in its further lines that it is none.</summary>
    SseKind FeedEvents(ReadOnlySpan<byte> bytes)
    {
        if (_events is not { } events)
        {
            return SseKind.None;
        }

        var found = events.Feed(bytes);
        if (_isGuessed && events.HasForeignLines)
        {
            _events = null;
            exchange.Events = null;   // the guess was wrong: it is no stream in any count either
            _shape.GiveUp();
            exchange.Clocks.EndContent();
        }

        return _events is null ? SseKind.None : found;
    }

    SseKind RecognizeBeginning(ReadOnlySpan<byte> bytes)
    {
        _shape.Feed(bytes, out var before, out var start);
        switch (_shape.Kind)
        {
            case BodyKind.Events when _events is null:
                _isGuessed = true;
                Watch(_isDecoded);
                return FeedEvents(before) | FeedEvents(bytes[start..]);
            case BodyKind.Json:
                exchange.Clocks.EndContent();
                FeedLines(bytes[start..]);
                return SseKind.None;
            case BodyKind.Other or BodyKind.MaybeEvents when _events is null:
                exchange.Clocks.EndContent();
                return SseKind.None;
            default:
                return FeedEvents(bytes);
        }
    }

    /// <summary>Where the length is known, so is the end.</summary>
    void FeedLines(ReadOnlySpan<byte> bytes)
    {
        if (FramedLength == Unknown || _isDecoded)
        {
            _lines.Feed(bytes);
        }
    }

    /// <summary>The same error, where the answer was whole when it came; else null. The type stays, as callers catch it.</summary>
    protected IOException? BehindTerminal(Exception error)
    {
        var last = _shape.Kind is BodyKind.Json
            ? _lines.IsOver ? "its last line of JSON" : null
            : _events?.TerminalEvent is { } name ? $"its terminal event, {name}," : null;
        if (last is null)
        {
            return null;
        }

        var cause = error.InnerException ?? error;
        return error switch
        {
            HttpProtocolException failed => new HttpProtocolException(failed.ErrorCode, Explain(failed.Message), cause),
            HttpIOException failed => new HttpIOException(failed.HttpRequestError, Explain(failed.Message), cause),
            _ when error.GetType() == typeof(IOException) => new IOException(Explain(error.Message), cause),
            _ => null,
        };

        string Explain(string message)
        {
            var reason = $" ({(error as HttpIOException)?.HttpRequestError})";   // these exceptions append it to their messages themselves
            var text = message.EndsWith(reason, StringComparison.Ordinal) ? message[..^reason.Length] : message;
            return $"The response ended abnormally, but {last} had already arrived: {text}";
        }
    }
}
