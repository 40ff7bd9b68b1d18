using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Globalization;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;
using Warmline.Tests.Support;

namespace Warmline.Tests.Faults;

/// <summary>A server's connection that speaks HTTP/2. The client's headers are searched, not decoded: the platform writes them plainly.</summary>
internal sealed class Http2Wire(FaultServer server, Socket socket, int number) : Wire(server, socket, number)
{
    const byte WindowUpdate = 8, Continuation = 9, Ack = 1, EndStream = 1, EndHeaders = 4;
    const int MostInFrame = 16 * 1024, MaxConcurrentStreams = 100;
    const int RefusedStream = 7, CancelStream = 8;

    readonly ConcurrentDictionary<int, Copy> _streams = new();
    readonly ConcurrentDictionary<int, long> _lengths = new();
    int _settings;
    int _acknowledged;
    int _goingAbove = int.MaxValue;
    int _resets;

    public override bool IsHeard => _acknowledged >= _settings;

    protected override SslApplicationProtocol Protocol => SslApplicationProtocol.Http2;

    public override async Task HeadAsync(Copy copy, int status = 200, long? length = null, string headers = "")
    {
        if (length is { } known)
        {
            _lengths[copy.Stream] = known;
        }

        copy.SaidHead = true;
        List<byte> block = [.. status == 200 ? [0x88] : Literal(8, $"{status}"), .. HasType(headers) ? [] : Literal(31, "text/event-stream")];   // names by their place in HPACK's static table
        if (length is not null)
        {
            block.AddRange(Literal(28, string.Create(CultureInfo.InvariantCulture, $"{length}")));
        }

        foreach (var line in headers.Split("\r\n", StringSplitOptions.RemoveEmptyEntries))
        {
            var (name, value) = (line[..line.IndexOf(':', StringComparison.Ordinal)], line[(line.IndexOf(':', StringComparison.Ordinal) + 2)..]);
            block.AddRange([0, .. Text(name.ToLowerInvariant()), .. Text(value)]);
        }

        for (var at = 0; at < block.Count; at += MostInFrame)
        {
            var part = block.GetRange(at, Math.Min(MostInFrame, block.Count - at)).ToArray();
            await FrameAsync(at == 0 ? RawHttp2Server.Headers : Continuation, at + part.Length == block.Count ? EndHeaders : (byte)0, copy.Stream, part);
        }
    }

    public override Task PartAsync(Copy copy, string text)
    {
        copy.Said += text;
        return FrameAsync(RawHttp2Server.Data, 0, copy.Stream, Encoding.Latin1.GetBytes(text));
    }

    public override Task EndAsync(Copy copy)
    {
        copy.AnsweredWhole = !_lengths.TryGetValue(copy.Stream, out var length) || length == copy.Said.Length;
        Answered(copy);
        return FrameAsync(RawHttp2Server.Data, EndStream, copy.Stream, []);
    }

    public Task RefuseAsync(Copy copy)
    {
        copy.Disowned = true;
        Answered(copy);
        return FrameAsync(RawHttp2Server.Reset, 0, copy.Stream, [0, 0, 0, RefusedStream]);
    }

    public Task CancelAsync(Copy copy)
    {
        Answered(copy);
        return FrameAsync(RawHttp2Server.Reset, 0, copy.Stream, [0, 0, 0, CancelStream]);
    }

    /// <summary>No new streams, and of those that came none above the given one is processed.</summary>
    public Task GoAwayAsync(int lastStream)
    {
        IsGoing = true;
        _goingAbove = lastStream;
        foreach (var (stream, copy) in _streams)
        {
            copy.Disowned |= stream > lastStream;
        }

        var payload = new byte[8];
        BinaryPrimitives.WriteInt32BigEndian(payload, lastStream);
        return FrameAsync(RawHttp2Server.GoAway, 0, 0, payload);
    }

    public Task SettingsAsync(int maxConcurrentStreams)
    {
        _settings++;
        IsGoing = maxConcurrentStreams == 0;
        var payload = new byte[12];
        payload[1] = 3;   // SETTINGS_MAX_CONCURRENT_STREAMS
        BinaryPrimitives.WriteInt32BigEndian(payload.AsSpan(2), maxConcurrentStreams);
        payload[7] = 4;   // SETTINGS_INITIAL_WINDOW_SIZE
        BinaryPrimitives.WriteInt32BigEndian(payload.AsSpan(8), 1024 * 1024);
        return FrameAsync(RawHttp2Server.Settings, 0, 0, payload);
    }

    public Task FrameAsync(byte type, byte flags, int stream, byte[] payload)
    {
        var frame = new byte[9 + payload.Length];
        (frame[0], frame[1], frame[2], frame[3], frame[4]) = ((byte)(payload.Length >> 16), (byte)(payload.Length >> 8), (byte)payload.Length, type, flags);
        BinaryPrimitives.WriteInt32BigEndian(frame.AsSpan(5), stream);
        payload.CopyTo(frame, 9);
        return RawAsync(frame);
    }

    protected override async Task GreetAsync()
    {
        await Stream.ReadExactlyAsync(new byte[24], Server.End);   // the client's preface
        await SettingsAsync(Server.FirstStreamLimit ?? MaxConcurrentStreams);
    }

    protected override async Task ReadRequestsAsync()
    {
        var header = new byte[9];
        while (true)
        {
            await Stream.ReadExactlyAsync(header, Server.End);
            var payload = new byte[(header[0] << 16) | (header[1] << 8) | header[2]];
            await Stream.ReadExactlyAsync(payload, Server.End);
            if (IsDeaf)
            {
                await Task.Delay(Timeout.InfiniteTimeSpan, Server.Time, Server.End);   // what came was never seen
            }

            await HearAsync(header[3], header[4], BinaryPrimitives.ReadInt32BigEndian(header.AsSpan(5)), payload);
        }
    }

    async Task HearAsync(byte type, byte flags, int stream, byte[] payload)
    {
        switch (type)
        {
            case RawHttp2Server.Settings when (flags & Ack) != 0:
                _acknowledged++;
                break;
            case RawHttp2Server.Settings when State is not WireState.Ended:
                await FrameAsync(RawHttp2Server.Settings, Ack, 0, []);
                break;
            case RawHttp2Server.Ping when (flags & Ack) == 0 && State is not WireState.Ended:
                await FrameAsync(RawHttp2Server.Ping, Ack, 0, payload);
                break;
            case RawHttp2Server.Headers:
                _streams[stream] = Arrived(Encoding.Latin1.GetString(payload), stream);
                _streams[stream].Disowned = stream > _goingAbove;
                break;
            case RawHttp2Server.Data:
                _streams[stream].Uploaded += payload.Length;
                if (payload.Length > 0 && State is not WireState.Ended && Server.GrantsCredit)
                {
                    await GrantAsync(0, payload.Length);
                    await GrantAsync(stream, payload.Length);
                }

                break;
            case RawHttp2Server.Reset when _streams.TryGetValue(stream, out var left):
                left.NoteLeft();
                if (++_resets >= Server.MostResets)
                {
                    await FrameAsync(RawHttp2Server.GoAway, 0, 0, [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 11]);   // ENHANCE_YOUR_CALM
                    Reset();
                }

                break;
        }

        if (type is RawHttp2Server.Headers or RawHttp2Server.Data && (flags & EndStream) != 0)
        {
            _streams[stream].NoteWhole();
        }
    }

    public Task GrantAsync(int stream, int bytes)
    {
        var payload = new byte[4];
        BinaryPrimitives.WriteInt32BigEndian(payload, bytes);
        return FrameAsync(WindowUpdate, 0, stream, payload);
    }

    /// <summary>A header whose name stands in the static table, not indexed.</summary>
    static byte[] Literal(int name, string value) => [.. name < 15 ? [(byte)name] : new byte[] { 15, (byte)(name - 15) }, .. Text(value)];

    static byte[] Text(string text)
    {
        List<byte> coded = [];
        if (text.Length < 127)
        {
            coded.Add((byte)text.Length);
        }
        else
        {
            coded.Add(127);
            var rest = text.Length - 127;
            for (; rest >= 128; rest >>= 7)
            {
                coded.Add((byte)((rest & 127) | 128));
            }

            coded.Add((byte)rest);
        }

        return [.. coded, .. Encoding.Latin1.GetBytes(text)];
    }
}
