using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Diagnostics.Metrics;
using System.Net;
using System.Net.Security;
using System.Security.Authentication;
using Warmline.Options;

namespace Warmline.Transport;

/// <summary>
/// Hears what becomes of a slot. Called from any thread, also from inside a call to the slot, never under a lock of the slot's. The
/// platform may hold its own connection's lock: note the fact and return. Closing the slot from here is safe.
/// </summary>
internal interface ISlotOwner
{
    /// <summary>The server's HTTP/2 SETTINGS: the first, and each later one that sets the number of concurrent streams.</summary>
    void SettingsSeen(Slot slot, int maxConcurrentStreams);

    /// <summary>
    /// The connection takes no new stream: GOAWAY, the peer's end, a failed read. At most once, and not always: Closed may come without it.
    /// </summary>
    void Closing(Slot slot, ConnectionEnd end);

    /// <summary>RST_STREAM and PING frames were written: servers limit both.</summary>
    void FramesSent(Slot slot, int resets, int pings)
    {
    }

    /// <summary>The server's GOAWAY has come, with an error code, and with what it says beside it.</summary>
    void GoAwayReceived(Slot slot)
    {
    }

    /// <summary>
    /// The connection is closed, its socket too; exactly once. Later than the close was asked for: the peer answers it first, or does not
    /// in time.
    /// </summary>
    void Closed(Slot slot);
}

/// <summary>The slot's connection is gone: its handler wanted to open another.</summary>
internal sealed class SlotDeadException() : IOException("The connection of this slot is gone.");

/// <summary>One connection and the <see cref="SocketsHttpHandler"/> that drives it.</summary>
[SuppressMessage("Design", "CA1001", Justification = "Close disposes, with the meaning that the pool's vocabulary gives the word.")]
internal sealed class Slot
{
    /// <summary>A long answer must not wait for the window to grow, round trip by round trip, from the platform's 64 KB.</summary>
    const int StreamWindow = 1024 * 1024;

    readonly ClosingStream _wire;
    readonly ConnectionStream _stream;
    readonly Stream _transport;
    readonly SocketsHttpHandler _handler;
    readonly HttpMessageInvoker _invoker;
    CancellationTokenSource? _prime;
    long _sends;
    long _claimed;
    int _handedOver;

    public Slot(DialedConnection dialed, Http2Options http2, TimeProvider time, ISlotOwner owner, object? tag)
    {
        Tag = tag;
        IsHttp2 = dialed.IsHttp2;
        Timings = dialed.Timings;
        RemoteEndPoint = dialed.RemoteEndPoint;
        ProxyLogin = dialed.Forward?.Login;
        _transport = dialed.Transport;
        if (_transport is SslStream secured)   // asked now: it does not say when it is closed
        {
            (IsTls13, SentCertificate) = (secured.SslProtocol is SslProtocols.Tls13, secured.LocalCertificate is not null);
        }

        _wire = new ClosingStream(dialed, time);
        _stream = new ConnectionStream(_wire, dialed.IsHttp2, this, owner);
        _handler = new SocketsHttpHandler
        {
            // One connection, whose life is the pool's to end.
            MaxConnectionsPerServer = 1,
            EnableMultipleHttp2Connections = false,
            PooledConnectionIdleTimeout = Timeout.InfiniteTimeSpan,
            PooledConnectionLifetime = Timeout.InfiniteTimeSpan,
            ConnectCallback = HandOver,
            PlaintextStreamFilter = (_, _) => new(_stream),

            // What the pool does above the slots, or leaves to the caller.
            UseProxy = dialed.Forward is not null,
            Proxy = dialed.Forward,
            UseCookies = false,
            AllowAutoRedirect = false,
            AutomaticDecompression = DecompressionMethods.None,
            ActivityHeadersPropagator = null,
            MeterFactory = NoMeterFactory.Instance,

            // An abandoned HTTP/1.1 response ends its connection at once: reading a generation to its end costs more than a handshake.
            ResponseDrainTimeout = TimeSpan.Zero,
        };
        if (IsHttp2)
        {
            _handler.KeepAlivePingDelay = http2.PingDelay;

            // The platform would count an answer as late that only waits behind data. When a PING has failed is decided by what moves
            // (PingWatch).
            _handler.KeepAlivePingTimeout = TimeSpan.FromDays(24);
            if (http2.PingDelay != Timeout.InfiniteTimeSpan && http2.PingTimeout != Timeout.InfiniteTimeSpan)
            {
                _stream.Pings = new PingWatch(time, http2.PingTimeout, _wire.Progress, _stream.Lose);
            }

            // Also while idle: an answered ping is what makes an idle connection one to trust, and keeps the way open through NATs.
            _handler.KeepAlivePingPolicy = HttpKeepAlivePingPolicy.Always;
            _handler.InitialHttp2StreamWindowSize = StreamWindow;
        }

        _invoker = new HttpMessageInvoker(_handler, disposeHandler: false);
    }

    /// <summary>The owner's own.</summary>
    public object? Tag { get; }

    public bool IsHttp2 { get; }

    public Version Version => IsHttp2 ? HttpVersion.Version20 : HttpVersion.Version11;

    public DialTimings Timings { get; }

    /// <summary>The span in which the connection came about; null where nobody wanted it.</summary>
    public ActivityContext? Span { get; init; }

    public IPEndPoint? RemoteEndPoint { get; }

    /// <summary>What requests say in Proxy-Authorization, where a proxy forwards them and credentials are known.</summary>
    public string? ProxyLogin { get; set; }

    /// <summary>What the server's HTTP/2 frames said so far; null on HTTP/1.1.</summary>
    public Http2FrameWatcher? Frames => _stream.Frames;

    /// <summary>Bytes handed to the connection above TLS, counted before they are written.</summary>
    public long BytesWritten => _stream.BytesWritten;

    /// <summary>Whether any request was handed to the connection, as far as its headers.</summary>
    public bool SentRequest => _stream.SentRequest;

    /// <summary>Bytes that came from the connection above TLS.</summary>
    public long BytesRead => _stream.BytesRead;

    /// <summary>The HTTP/2 frames that were handed to the connection.</summary>
    public ref readonly Http2SentFrames Sent => ref _stream.Sent;

    /// <summary>PINGs since the server's last HEADERS or DATA.</summary>
    public int PingsInRow => _stream.PingsInRow;

    /// <summary>Lets no further PING out: the server takes them for abuse. The platform goes on to wait for the answer to the
    /// last.</summary>
    public void WithholdPings() => _stream.WithholdPings();

    /// <summary>Bytes of request bodies that the server allows on the whole connection beyond those that were sent.</summary>
    public long Credit => _stream.Credit;

    /// <summary>How long the server has allowed no byte more of any request body; zero while it does.</summary>
    public TimeSpan DryFor => _stream.DryFor;

    /// <summary>Whether the network has not taken yet what was written last.</summary>
    public bool IsWriting => _wire.IsWriting;

    /// <summary>Bytes written and acknowledged so far; null where the system does not say, or the connection has ended.</summary>
    public SendProgress? Progress() => IsClosed ? null : _wire.Progress();

    /// <summary>
    /// A request body of this length is about to be sent. Whether the server's credit surely covers it, beside all others that were claimed
    /// and may not be
    /// sent yet: then it has nothing to wait for.
    /// </summary>
    public bool Claim(long bytes)
    {
        return Frames is not { } frames
            || (Interlocked.Add(ref _claimed, bytes) <= _stream.Credit && frames.SawSettings && bytes <= frames.InitialWindowSize);
    }

    /// <summary>The body is sent, or will not be.</summary>
    public void Unclaim(long bytes) => Interlocked.Add(ref _claimed, -bytes);

    /// <summary>Requests that <see cref="SendAsync"/> was given so far.</summary>
    public long Sends => Volatile.Read(ref _sends);

    /// <summary>Whether an answer, or a part of one, has come.</summary>
    public bool HasAnswered => Frames is { } frames ? frames.Answers > 0 : BytesRead > 0;

    /// <summary>The error in which reading ended; null where the peer ended in good order, or the pool did.</summary>
    public Exception? EndCause => _stream.EndCause;

    /// <summary>What the server of a fresh HTTP/1.1 connection said before a request was sent; null for nothing.</summary>
    public string? FirstWords => _stream.HasFirstWords ? _stream.FirstWords : null;

    /// <summary>Whether the server may end the handshake after this side believes it to be over (RFC 8446, section 4.4.2.4).</summary>
    public bool IsTls13 { get; }

    /// <summary>Whether this side sent a certificate in the handshake.</summary>
    public bool SentCertificate { get; }

    /// <summary>Whether it was closed, by the pool or the platform; its socket may still wait for the peer's end.</summary>
    public bool IsClosed => _stream.IsClosed;

    /// <summary>Whether it takes no more requests: closed by anybody, or its end was seen.</summary>
    public bool HasEnded => IsClosed || _stream.IsClosing;

    /// <summary>
    /// Sends a request whose Version is the slot's and whose policy is <see cref="HttpVersionPolicy.RequestVersionExact"/>. On a connection
    /// that is gone it fails with an <see cref="HttpRequestException"/> (ConnectionError) whose inner exception is
    /// <see cref="SlotDeadException"/>; together with an unchanged <see cref="BytesWritten"/> that proves that nothing was sent.
    /// </summary>
    public Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken ct)
    {
        Interlocked.Increment(ref _sends);
        try
        {
            return _invoker.SendAsync(request, ct);
        }
        catch (ObjectDisposedException)   // Close came between the grant and this call
        {
            return Task.FromException<HttpResponseMessage>(new HttpRequestException(HttpRequestError.ConnectionError, null,
                new SlotDeadException()));
        }
    }

    /// <summary>Listens for an answer to the next request while its body is written; on HTTP/1.1, where the platform does not.</summary>
    public void WatchUpload(EarlyAnswer early) => _stream.WatchUpload(early);

    public void UploadBegan() => _stream.UploadBegan();

    /// <summary>The headers of the answer came, or the exchange failed.</summary>
    public void UploadEnded() => _stream.UploadEnded();

    /// <summary>
    /// Brings a fresh HTTP/2 connection to the point where a request only needs its HEADERS: preface and SETTINGS go out. A throw-away
    /// request is cancelled in the moment it asks for the connection, so it is never sent, and the handler goes on setting up. Completes
    /// when that request is over; the server's SETTINGS come through the owner. For a slot that sent nothing yet; HTTP/1.1 has nothing to
    /// prime.
    /// </summary>
    public async Task PrimeAsync(ConnectionKey key, CancellationToken ct)
    {
        // Set before the look at whether the connection was handed over, and read after it is: whoever comes second sees the other, so the
        // request is never sent. Not disposed: the hand-over may cancel it at any time.
        var cancel = new CancellationTokenSource();
        if (!IsHttp2 || Interlocked.CompareExchange(ref _prime, cancel, null) is not null || Volatile.Read(ref _handedOver) != 0)
        {
            return;
        }

        using var stop = ct.UnsafeRegister(static state => ((CancellationTokenSource)state!).Cancel(), cancel);
        using var request = new HttpRequestMessage(HttpMethod.Head, key.Origin) { Version = Version,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact };
        if (!string.Equals(key.TlsName, key.Host, StringComparison.Ordinal))
        {
            request.Headers.Host = key.TlsName;   // the handler tells connections apart by it
        }

        try
        {
            Task<HttpResponseMessage> send;
            using (ExecutionContext.SuppressFlow())
            {
                send = _invoker.SendAsync(request, cancel.Token);
            }

            (await send.ConfigureAwait(false)).Dispose();
        }
        catch (OperationCanceledException) when (!ct.IsCancellationRequested)
        {
            // As intended.
        }
    }

    /// <summary>
    /// Watches an idle HTTP/1.1 connection, so that its end is reported as closing while it is idle. <paramref name="sends"/> is the value
    /// of
    /// <see cref="Sends"/> when the connection became idle: when a request was sent since, nothing is watched. HTTP/2 is always watched.
    /// </summary>
    public void WatchIdle(long? sends = null)
    {
        // The count is taken first: when no request has begun by the time of the check, none had by the time of the count.
        long written = _stream.BytesWritten;
        if (sends is null || Sends == sends)
        {
            _stream.WatchIdle(written);
        }
    }

    /// <summary>
    /// Closes a connection that carries nothing, also when no request ever asked for it: requests in flight fail at once, the peer is told
    /// in good order.
    /// </summary>
    public void Close()
    {
        _wire.EndIsOurs();
        _handler.Dispose();
        _stream.Dispose();
    }

    /// <summary>Whether the connection, which has been idle for <paramref name="rested"/>, is still there as far as this machine knows.
    /// Where nobody knows, HTTP/2 is trusted for its pings, whose failure comes by itself.</summary>
    public WireState Look(TimeSpan rested) => HasEnded ? WireState.Ended
        : _wire.Look(rested) is var state && state is WireState.Unknown ? IsHttp2 ? WireState.Alive : WireState.Doubtful : state;

    /// <summary>
    /// The same for one that goes on being idle, as it was when its count of sends was <paramref name="sends"/>: what is lost is reported
    /// as closing.
    /// </summary>
    public void LookWhileIdle(long sends, TimeSpan rested)
    {
        if (Look(rested) is WireState.Lost && Sends == sends)
        {
            _stream.ReportClosing(ConnectionEnd.Lost);
        }
    }

    /// <summary>Closes a connection that carries nothing and is believed lost: nobody is waited for.</summary>
    public void Drop()
    {
        _wire.EndAtOnce();
        Close();
    }

    /// <summary>
    /// Closes a connection whose requests are cut. An HTTP/1.1 response under way ends at once and hard, so that the server stops
    /// generating it.
    /// </summary>
    public void Cut()
    {
        _wire.CutResponse();
        Close();
    }

    /// <summary>The pool is about to cut a request that was sent whole and has no answer yet: that can end in good order.</summary>
    public void CutWaits() => _wire.EndIsOurs();

    /// <summary>
    /// The reader leaves an HTTP/1.1 response before its end: the platform will close the connection, and that has to be hard.
    /// </summary>
    public void Abandon() => _wire.CutResponse();

    /// <summary>Ends a connection whose server spoke before it was asked, where no call needs it: what it said is a refusal.</summary>
    public void EndIfUnasked()
    {
        if (FirstWords is not null && Sends == 0)
        {
            _stream.ReportClosing(ConnectionEnd.InOrder);
        }
    }

    ValueTask<Stream> HandOver(SocketsHttpConnectionContext context, CancellationToken cancellationToken)
    {
        if (Interlocked.Exchange(ref _handedOver, 1) != 0)
        {
            throw new SlotDeadException();
        }

        // A connection that was kept warm may have ended unseen. The handler would write its first request before it reads; after that
        // nothing could prove that the request was not taken.
        var watch = _stream.Watching;   // from before; one that begins here sees at once what has arrived
        _stream.WatchIdle(_stream.BytesWritten);
        if (watch is not null && !_stream.IsClosing && _wire.Look(TimeSpan.Zero) is WireState.Ended)
        {
            return HandOverAsync(watch, cancellationToken);   // the system knows of the end, the watch is about to
        }

        return new(HandOver());
    }

    async ValueTask<Stream> HandOverAsync(Task watch, CancellationToken cancellationToken)
    {
        await watch.WaitAsync(cancellationToken).ConfigureAwait(false);
        return HandOver();
    }

    Stream HandOver()
    {
        if (_stream.IsClosing)
        {
            throw new SlotDeadException();
        }

        // Also when another request asked for the connection: a throw-away request that waits beside it would be sent.
        Volatile.Read(ref _prime)?.Cancel();

        return _transport;
    }

    /// <summary>
    /// The pool has its own instruments: the platform's would count everything a second time. A disposed meter's instruments reach no
    /// listener.
    /// </summary>
    sealed class NoMeterFactory : IMeterFactory
    {
        public static readonly NoMeterFactory Instance = new();

        readonly Meter _silent = new("Warmline.Silent");

        NoMeterFactory() => _silent.Dispose();

        public Meter Create(MeterOptions options) => _silent;

        public void Dispose()
        {
        }
    }
}
