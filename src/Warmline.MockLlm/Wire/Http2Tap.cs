using System.Buffers;
using System.Buffers.Binary;
using System.IO.Pipelines;
using Microsoft.AspNetCore.Connections;

namespace Warmline.MockLlm;

/// <summary>SETTINGS_MAX_CONCURRENT_STREAMS as the server wants it now, for connections to come and, through their taps, for those that live.</summary>
internal sealed class StreamLimit(int value)
{
    int _value = value;

    public int Value { get => Volatile.Read(ref _value); set => Volatile.Write(ref _value, value); }
}

internal readonly record struct FrameHeader(int Length, byte Type, byte Flags, int StreamId)
{
    public const byte Data = 0, Headers = 1, Reset = 3, Settings = 4, Continuation = 9;

    public bool EndStream => (Flags & 1) != 0 && Type is Data or Headers;

    public bool Ack => (Flags & 1) != 0;

    public bool EndHeaders => (Flags & 4) != 0;
}

/// <summary>Walks over the frames of one direction of an HTTP/2 connection, however the bytes are cut up.</summary>
internal struct FrameWalker(int preface)
{
    readonly byte[] _header = new byte[9];
    int _headerLength;
    int _skip = preface;

    public readonly bool AtBoundary => _headerLength == 0 && _skip == 0;

    /// <summary>Consumes bytes up to the end of the next frame header; false when the bytes end before.</summary>
    public bool Next(ref ReadOnlySpan<byte> bytes, out FrameHeader frame)
    {
        var skipped = Math.Min(_skip, bytes.Length);
        _skip -= skipped;
        var taken = Math.Min(9 - _headerLength, bytes.Length - skipped);
        bytes.Slice(skipped, taken).CopyTo(_header.AsSpan(_headerLength));
        _headerLength += taken;
        bytes = bytes[(skipped + taken)..];
        frame = default;
        if (_headerLength < 9)
        {
            return false;
        }

        _headerLength = 0;
        _skip = (_header[0] << 16) | (_header[1] << 8) | _header[2];
        frame = new FrameHeader(_skip, _header[3], _header[4], BinaryPrimitives.ReadInt32BigEndian(_header.AsSpan(5)) & int.MaxValue);
        return true;
    }
}

/// <summary>
/// Sits between Kestrel's HTTP/2 and TLS on one connection. It announces another stream limit by a real SETTINGS frame at a frame boundary, and it counts the
/// streams a client opens above the limit it has acknowledged. Kestrel takes the extra acknowledgement; the limit it enforces stays the one of the start.
/// </summary>
internal sealed class Http2Tap(CounterBoard board, StreamLimit limit)
{
    const int PrefaceLength = 24;
    const ushort MaxConcurrentStreams = 3;

    readonly Lock _lock = new();
    readonly Queue<Announced> _unacknowledged = new();
    readonly Dictionary<int, StreamHalf> _open = [];
    FrameWalker _fromClient = new(PrefaceLength);
    FrameWalker _fromServer = new(0);
    Pipe? _serverOutput;
    bool _greeted, _inHeaderBlock;
    int? _toAnnounce;
    int _lastStream, _limitInForce = int.MaxValue;

    [Flags]
    enum StreamHalf : byte
    {
        None = 0,
        ClientEnded = 1,
        ServerEnded = 2,
    }

    public void Announce(int streams)
    {
        lock (_lock)
        {
            _toAnnounce = streams;
        }

        _serverOutput?.Reader.CancelPendingRead();
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
                    OnServerBytes(segment.Span);
                    to.Write(segment.Span);
                }

                from.AdvanceTo(result.Buffer.End);
                if (_greeted && !_inHeaderBlock && _fromServer.AtBoundary)
                {
                    Inject(to);
                }

                var flush = await to.FlushAsync().ConfigureAwait(false);
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

    void Inject(PipeWriter to)
    {
        lock (_lock)
        {
            if (_toAnnounce is not { } streams)
            {
                return;
            }

            _toAnnounce = null;
            _unacknowledged.Enqueue(new Announced(streams, Injected: true));
            var frame = to.GetSpan(15);
            ReadOnlySpan<byte> head = [0, 0, 6, FrameHeader.Settings, 0, 0, 0, 0, 0, 0, (byte)MaxConcurrentStreams];
            head.CopyTo(frame);
            BinaryPrimitives.WriteInt32BigEndian(frame[11..], streams);
            to.Advance(15);
        }

        board.SettingsInjected();
    }

    void OnServerBytes(ReadOnlySpan<byte> bytes)
    {
        while (_fromServer.Next(ref bytes, out var frame))
        {
            // Between HEADERS and its last CONTINUATION no other frame may stand.
            _inHeaderBlock = frame.Type is FrameHeader.Headers or FrameHeader.Continuation ? !frame.EndHeaders : _inHeaderBlock;
            if (frame.EndStream || frame.Type == FrameHeader.Reset)
            {
                // Noted before the bytes leave, so a client that reacts to them is never counted as too early.
                Ended(frame, StreamHalf.ServerEnded);
            }
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
            }

            if (frame.EndStream || frame.Type == FrameHeader.Reset)
            {
                Ended(frame, StreamHalf.ClientEnded);
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
        bool beyond;
        lock (_lock)
        {
            if (stream <= _lastStream)
            {
                return; // trailers
            }

            _lastStream = stream;
            beyond = _open.Count >= _limitInForce;
            _open.Add(stream, StreamHalf.None);
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
