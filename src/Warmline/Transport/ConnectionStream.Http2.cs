namespace Warmline.Transport;

/// <summary>What an HTTP/2 connection learns from the frames that it reads along, in both directions.</summary>
internal sealed partial class ConnectionStream
{
    const long NotDry = 0;

    Http2SentFrames _sent = new();
    PingWatch? _pings;
    long _dryAt = NotDry;        // when the last credit for request bodies was used up
    long _answersAtPing;
    int _pingsInRow;
    volatile bool _withholdsPings;
    bool _reportedGoAway;           // used by the reader alone

    /// <summary>The HTTP/2 frames that were handed to the connection.</summary>
    public ref readonly Http2SentFrames Sent => ref _sent;

    /// <summary>PINGs that were written since the server's last HEADERS or DATA: what servers count as too many.</summary>
    public int PingsInRow => Volatile.Read(ref _pingsInRow);

    /// <summary>Decides when an unanswered PING means that the connection is dead; set before it is used, on HTTP/2.</summary>
    public PingWatch? Pings { set => _pings = value; }

    /// <summary>Bytes of request bodies that the server allows beyond those that were sent.</summary>
    public long Credit => _frames is null ? long.MaxValue : _frames.ConnectionCredit - _sent.BodyBytes;

    /// <summary>How long the server has allowed no byte more of any request body; zero while it does.</summary>
    public TimeSpan DryFor => Volatile.Read(ref _dryAt) is not NotDry and var since ? inner.Time.GetElapsedTime(since) : TimeSpan.Zero;

    void SeeSent(Http2FrameWatcher frames, ReadOnlySpan<byte> buffer)
    {
        var (resets, pings, keepAlives) = (_sent.Resets, _sent.Pings, _sent.KeepAlives);
        _sent.Feed(buffer);
        (resets, pings, keepAlives) = (_sent.Resets - resets, _sent.Pings - pings, _sent.KeepAlives - keepAlives);
        if (pings > 0)
        {
            var answers = frames.Answers;
            Volatile.Write(ref _pingsInRow, (answers == _answersAtPing ? _pingsInRow : 0) + (int)pings);
            _answersAtPing = answers;
            if (keepAlives > 0)
            {
                _pings?.Sent(keepAlives);
            }
        }

        if (resets + pings > 0)
        {
            owner.FramesSent(slot, (int)resets, (int)pings);
        }

        if (_dryAt == NotDry && Credit <= 0)
        {
            // The reader may add credit between the look and the mark, and its own reset of the mark comes first then: so there is a second
            // look.
            Volatile.Write(ref _dryAt, Math.Max(1, inner.Time.GetTimestamp()));
            if (Credit > 0)
            {
                Volatile.Write(ref _dryAt, NotDry);
            }
        }
    }

    void SeeNews(Http2FrameWatcher frames, Http2News news)
    {
        if (news.HasFlag(Http2News.Settings))
        {
            owner.SettingsSeen(slot, frames.MaxConcurrentStreams);
        }

        if (news.HasFlag(Http2News.Credit))
        {
            Volatile.Write(ref _dryAt, NotDry);
        }

        if (news.HasFlag(Http2News.GoAway))
        {
            inner.PeerSaidGoAway();
            ReportClosing(frames.GoAwayCode == 0 ? ConnectionEnd.InOrder : ConnectionEnd.Alone);
        }

        if (news.HasFlag(Http2News.GoAwayEnd) && frames.GoAwayCode != 0 && !_reportedGoAway)
        {
            _reportedGoAway = true;
            owner.GoAwayReceived(slot);
        }
    }

    /// <summary>Lets no further PING out.</summary>
    public void WithholdPings()
    {
        _withholdsPings = true;
        _pings?.Dispose();   // the last may stay unanswered
    }

    /// <summary>Ends a connection that is believed dead: what is under way on it fails with <paramref name="cause"/>.</summary>
    public void Lose(Exception cause)
    {
        inner.Break(cause);   // first, so that whatever the report leads to fails with the cause
        ReportClosing(ConnectionEnd.Lost);
    }
}
