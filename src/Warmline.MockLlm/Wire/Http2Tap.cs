using System.Buffers;
using System.Buffers.Binary;
using System.IO.Pipelines;
using Microsoft.AspNetCore.Connections;

namespace Warmline.MockLlm;

/// <summary>
/// Sits between Kestrel's HTTP/2 and TLS on one connection. It puts frames in between those of Kestrel (another stream limit, GOAWAY), cuts
/// a stream's body short, knows the order in which streams were opened, and counts those above the limit the client has acknowledged.
/// Kestrel takes the extra acknowledgement; the limit it enforces stays the one of the start.
/// </summary>
internal sealed class Http2Tap(CounterBoard board, StreamLimit limit, MockConnection? connection = null)
{
    const int PrefaceLength = 24;
    const ushort MaxConcurrentStreams = 3;

    readonly Lock _lock = new();
    readonly Queue<Announced> _unacknowledged = new();
    readonly Dictionary<int, StreamHalf> _open = [];
    readonly Dictionary<int, int> _order = [];
    readonly Dictionary<int, WatchedBody> _bodies = [];
    readonly List<WatchedBody> _awaited = [];
    readonly Queue<(byte[] Bytes, TaskCompletionSource? Left)> _toInject = new();
    FrameWalker _fromClient = new(PrefaceLength);
    FrameWalker _fromServer = new(0);
    Pipe? _serverOutput;
    bool _greeted, _inHeaderBlock;
    int? _toAnnounce;
    int _lastStream, _opened, _limitInForce = int.MaxValue;

    // Going away, in this order: the last stream that is processed is settled, the frame is on its way, it has left, the streams up to it
    // have ended.
    int _lastProcessed = int.MaxValue;
    bool _goAwayQueued, _goAwayLeft;
    int _payloadToPass;
    WatchedBody? _payloadOf;
    volatile bool _clientLeaves;

    [Flags]
    enum StreamHalf : byte
    {
        None = 0,
        ClientEnded = 1,
        ServerEnded = 2,
    }

    public bool ClientLeaves => _clientLeaves;

    public void Announce(int streams)
    {
        lock (_lock)
        {
            _toAnnounce = streams;
        }

        _serverOutput?.Reader.CancelPendingRead();
    }

    /// <summary>GOAWAY now: every stream that has arrived is served, later ones are not.</summary>
    public void GoAway()
    {
        lock (_lock)
        {
            GoAway_NeedsLock(_lastStream);
        }

        _serverOutput?.Reader.CancelPendingRead();
    }

    void GoAway_NeedsLock(int lastStream)
    {
        if (!_goAwayQueued)
        {
            (_goAwayQueued, _lastProcessed) = (true, Math.Min(_lastProcessed, lastStream));
            _toInject.Enqueue((FrameHeader.GoAwayFrame(_lastProcessed), null));
        }
    }

    /// <summary>Completes when the bytes have left, between two frames.</summary>
    public Task InjectAsync(byte[] bytes)
    {
        var left = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (_lock)
        {
            _toInject.Enqueue((bytes, left));
        }

        _serverOutput?.Reader.CancelPendingRead();
        return left.Task;
    }

    /// <summary>Which stream it is, from 1, in the order in which they were opened.</summary>
    /// <param name="stream">Its id.</param>
    /// <param name="isAbove">A GOAWAY says, or will say, that it is not processed.</param>
    public int? Order(int stream, out bool isAbove)
    {
        lock (_lock)
        {
            isAbove = stream > _lastProcessed;
            return _order.Remove(stream, out var order) ? order : null;
        }
    }

    /// <summary>Counts what passes of a stream's body, for <see cref="PassedAsync"/>.</summary>
    /// <param name="stream">Its id.</param>
    /// <param name="limit">Only so many bytes pass, the last ones with END_STREAM. Null: all.</param>
    public void Watch(int stream, long? limit)
    {
        lock (_lock)
        {
            _bodies[stream] = new WatchedBody { Left = limit ?? long.MaxValue };
        }
    }

    /// <summary>Completes when so many bytes of a watched body have left; Kestrel's own flush is over before.</summary>
    public Task PassedAsync(int stream, long bytes)
    {
        lock (_lock)
        {
            var body = _bodies[stream];
            if (body.Passed >= bytes)
            {
                return Task.CompletedTask;
            }

            body.Awaited = bytes;
            _awaited.Add(body);
            return body.Reached.Task;
        }
    }

    public async Task RunAsync(ConnectionContext context, ConnectionDelegate next)
    {
        var transport = context.Transport;
        // Inline both ways: a flush of Kestrel's runs straight through to TLS, so the tap costs a copy and no hop between threads.
        var output = new Pipe(new PipeOptions(readerScheduler: PipeScheduler.Inline, writerScheduler: PipeScheduler.Inline, useSynchronizationContext: false));
        _serverOutput = output;
        context.Transport = new DuplexPipe(new ClientFrames(transport.Input, this), output.Writer);
        var pump = PumpAsync(output.Reader, transport.Output);
        try
        {
            await next(context).ConfigureAwait(false);
        }
        finally
        {
            await output.Writer.CompleteAsync().ConfigureAwait(false);
            await pump.ConfigureAwait(false);
            context.Transport = transport;
        }
    }

    async Task PumpAsync(PipeReader from, PipeWriter to)
    {
        try
        {
            while (true)
            {
                var result = await from.ReadAsync().ConfigureAwait(false);
                var buffer = result.Buffer;
                if (!_greeted && buffer.Length > 0)
                {
                    buffer = Greet(buffer, to);
                }

                foreach (var segment in buffer)
                {
                    OnServerBytes(segment.Span, to);
                }

                from.AdvanceTo(result.Buffer.End);
                var injected = _greeted && !_inHeaderBlock && _fromServer.AtBoundary ? Inject(to) : null;
                var flush = await to.FlushAsync().ConfigureAwait(false);
                foreach (var left in injected ?? [])
                {
                    left.TrySetResult();
                }

                TellPassed();
                CloseWhenDrained();
                if (flush.IsCompleted || (result.IsCompleted && !result.IsCanceled))
                {
                    break;
                }
            }
        }
        catch (Exception)
        {
            // The client is gone; Kestrel learns it from the completed reader.
        }

        await from.CompleteAsync().ConfigureAwait(false);
    }

    /// <summary>The first frame is the server's SETTINGS: put the limit of now into it.</summary>
    ReadOnlySequence<byte> Greet(ReadOnlySequence<byte> buffer, PipeWriter to)
    {
        // Kestrel writes its SETTINGS as one piece, so the first bytes hold the whole frame.
        Span<byte> header = stackalloc byte[9];
        buffer.Slice(0, 9).CopyTo(header);
        var length = (header[0] << 16) | (header[1] << 8) | header[2];
        var frame = buffer.Slice(0, 9 + length).ToArray();
        lock (_lock)
        {
            _greeted = true;
            var streams = limit.Value;
            _toAnnounce = null;
            for (var at = 9; at < frame.Length; at += 6)
            {
                if (BinaryPrimitives.ReadUInt16BigEndian(frame.AsSpan(at)) == MaxConcurrentStreams)
                {
                    BinaryPrimitives.WriteInt32BigEndian(frame.AsSpan(at + 2), streams);
                }
            }

            _unacknowledged.Enqueue(new Announced(streams, Injected: false));
        }

        to.Write(frame);
        return buffer.Slice(9 + length);
    }

    /// <summary>The signals to give once what was put in has left.</summary>
    List<TaskCompletionSource>? Inject(PipeWriter to)
    {
        List<TaskCompletionSource>? signals = null;
        lock (_lock)
        {
            while (_toInject.TryDequeue(out var injected))
            {
                to.Write(injected.Bytes);
                if (injected.Left is { } left)
                {
                    (signals ??= []).Add(left);
                }
            }

            _goAwayLeft = _goAwayQueued;
            if (_toAnnounce is not { } streams)
            {
                return signals;
            }

            _toAnnounce = null;
            _unacknowledged.Enqueue(new Announced(streams, Injected: true));
            var frame = to.GetSpan(15);
            new FrameHeader(6, FrameHeader.Settings, 0, 0).Write(frame);
            BinaryPrimitives.WriteUInt16BigEndian(frame[9..], MaxConcurrentStreams);
            BinaryPrimitives.WriteInt32BigEndian(frame[11..], streams);
            to.Advance(15);
        }

        board.SettingsInjected();
        return signals;
    }

    /// <summary>After the GOAWAY and the last stream it lets live, the connection ends.</summary>
    void CloseWhenDrained()
    {
        lock (_lock)
        {
            if (!_goAwayLeft || _open.Keys.Any(stream => stream <= _lastProcessed))
            {
                return;
            }
        }

        connection?.Faults.Fail(MockFault.Fin);
    }

    void OnServerBytes(ReadOnlySpan<byte> bytes, PipeWriter to)
    {
        while (true)
        {
            var payload = _fromServer.Payload(ref bytes);
            var passed = Math.Min(payload.Length, _payloadToPass);
            to.Write(payload[..passed]);
            _payloadToPass -= passed;
            if (passed > 0 && _payloadOf is { } body)
            {
                body.Passed += passed;
            }

            if (!_fromServer.Next(ref bytes, out var frame))
            {
                return;
            }

            // Between HEADERS and its last CONTINUATION no other frame may stand.
            _inHeaderBlock = frame.Type is FrameHeader.Headers or FrameHeader.Continuation ? !frame.EndHeaders : _inHeaderBlock;
            _payloadOf = null;
            var cut = frame.Type == FrameHeader.Data ? Cut(frame) : frame;
            _payloadToPass = cut?.Length ?? 0;
            if (cut is not { } left)
            {
                continue;
            }

            left.Write(to.GetSpan(FrameHeader.Size));
            to.Advance(FrameHeader.Size);
            if (left.EndStream || left.Type == FrameHeader.Reset)
            {
                // Noted before the bytes leave, so a client that reacts to them is never counted as too early.
                Ended(left, StreamHalf.ServerEnded);
            }
        }
    }

    /// <summary>
    /// A frame of a body: as it is, or shorter with END_STREAM where it is truncated, or null when that end has gone before it.
    /// </summary>
    FrameHeader? Cut(FrameHeader frame)
    {
        const byte EndStream = 1;
        lock (_lock)
        {
            if (!_bodies.TryGetValue(frame.StreamId, out var body))
            {
                return frame;
            }

            if (body.Left < 0)
            {
                return null;
            }

            _payloadOf = body;
            var ends = frame.Length >= body.Left;
            frame = ends ? frame with { Length = (int)body.Left, Flags = EndStream } : frame;
            body.Left = ends ? -1 : body.Left - frame.Length;
            return frame;
        }
    }

    void TellPassed()
    {
        lock (_lock)
        {
            _awaited.RemoveAll(static body => body.Passed >= body.Awaited && body.Reached.TrySetResult());
        }
    }

    void OnClientBytes(ReadOnlySpan<byte> bytes)
    {
        while (_fromClient.Next(ref bytes, out var frame))
        {
            switch (frame.Type)
            {
                case FrameHeader.Settings when frame.Ack:
                    Acknowledged();
                    break;
                case FrameHeader.Headers:
                    Opened(frame.StreamId);
                    break;
                case FrameHeader.GoAway:
                    _clientLeaves = true;
                    break;
            }

            if (frame.EndStream || frame.Type == FrameHeader.Reset)
            {
                Ended(frame, StreamHalf.ClientEnded);
                CloseWhenDrained();
            }
        }
    }

    void Acknowledged()
    {
        Announced announced;
        lock (_lock)
        {
            if (!_unacknowledged.TryDequeue(out announced))
            {
                return;
            }

            _limitInForce = announced.Streams;
        }

        if (announced.Injected)
        {
            board.SettingsAcknowledged();
        }
    }

    void Opened(int stream)
    {
        bool beyond, goesAway = false;
        lock (_lock)
        {
            if (stream <= _lastStream)
            {
                return; // trailers
            }

            _lastStream = stream;
            beyond = _open.Count >= _limitInForce;
            _open.Add(stream, StreamHalf.None);
            _order.Add(stream, ++_opened);
            if (connection?.Plan.GoAwayAfterRequests is { } most)
            {
                _lastProcessed = _opened == Math.Max(1, most) ? (most <= 0 ? 0 : stream) : _lastProcessed;
                goesAway = _opened == Math.Max(1, connection.Plan.GoAwayAtRequest ?? most);
                if (goesAway)
                {
                    GoAway_NeedsLock(_lastProcessed);
                }
            }
        }

        if (goesAway)
        {
            _serverOutput?.Reader.CancelPendingRead();
        }

        if (beyond)
        {
            board.StreamBeyondLimit();
        }
    }

    void Ended(FrameHeader frame, StreamHalf half)
    {
        lock (_lock)
        {
            if (!_open.TryGetValue(frame.StreamId, out var ended))
            {
                return;
            }

            ended |= half;
            if (frame.Type == FrameHeader.Reset || ended == (StreamHalf.ClientEnded | StreamHalf.ServerEnded))
            {
                _open.Remove(frame.StreamId);
            }
            else
            {
                _open[frame.StreamId] = ended;
            }
        }
    }

    readonly record struct Announced(int Streams, bool Injected);

    sealed class ClientFrames(PipeReader inner, Http2Tap tap) : PipeReaderTap(inner)
    {
        protected override void OnBytes(ReadOnlySpan<byte> bytes) => tap.OnClientBytes(bytes);
    }
}
