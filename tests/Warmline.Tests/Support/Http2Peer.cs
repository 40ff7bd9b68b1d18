using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Threading.Channels;

namespace Warmline.Tests.Support;

/// <summary>A hand-made HTTP/2 server on one connection: says what the test tells it to say, and counts what it hears.</summary>
internal sealed class Http2Peer(Stream stream) : IAsyncDisposable
{
    public const byte Headers = 1;
    public const byte Settings = 4;
    public const byte Ping = 6;
    public const byte GoAway = 7;
    const int PrefaceLength = 24;
    const byte EndStreamAndHeaders = 5;
    const byte StatusOk = 0x88;   // HPACK: the static entry ":status: 200"

    readonly Channel<(byte Type, byte Flags, int StreamId)> _frames = Channel.CreateUnbounded<(byte, byte, int)>();
    readonly ConcurrentQueue<byte> _types = new();

    /// <summary>The types of all frames heard so far.</summary>
    public IReadOnlyCollection<byte> Heard => _types;

    /// <summary>Reads the client's preface, then its frames until the end, which it answers with its own.</summary>
    public async Task ListenAsync()
    {
        try
        {
            await stream.ReadExactlyAsync(new byte[PrefaceLength]);
            byte[] header = new byte[9];
            while (true)
            {
                await stream.ReadExactlyAsync(header);
                await stream.ReadExactlyAsync(new byte[(header[0] << 16) | (header[1] << 8) | header[2]]);
                _types.Enqueue(header[3]);
                _frames.Writer.TryWrite((header[3], header[4], BinaryPrimitives.ReadInt32BigEndian(header.AsSpan(5))));
            }
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException)
        {
            _frames.Writer.TryComplete();
            await stream.DisposeAsync();
        }
    }

    /// <summary>The next frame of a type; its stream.</summary>
    public async Task<int> HearAsync(byte type, byte flags = 0)
    {
        while (true)
        {
            (byte Type, byte Flags, int StreamId) frame = await _frames.Reader.ReadAsync();
            if (frame.Type == type && (frame.Flags & flags) == flags)
            {
                return frame.StreamId;
            }
        }
    }

    /// <summary>Completes when the client's end is read.</summary>
    public Task HungUp => _frames.Reader.Completion;

    public async Task SayAsync(byte type, byte flags, int streamId, params byte[] payload)
    {
        byte[] frame = new byte[9 + payload.Length];
        frame[1] = (byte)(payload.Length >> 8);
        frame[2] = (byte)payload.Length;
        frame[3] = type;
        frame[4] = flags;
        BinaryPrimitives.WriteInt32BigEndian(frame.AsSpan(5), streamId);
        payload.CopyTo(frame, 9);
        await stream.WriteAsync(frame);
        await stream.FlushAsync();
    }

    public Task SaySettingsAsync(byte maxConcurrentStreams) => SayAsync(Settings, 0, 0, 0, 3, 0, 0, 0, maxConcurrentStreams);

    public Task SayGoAwayAsync(byte lastStreamId) => SayAsync(GoAway, 0, 0, 0, 0, 0, lastStreamId, 0, 0, 0, 0);

    public Task AnswerAsync(int streamId) => SayAsync(Headers, EndStreamAndHeaders, streamId, StatusOk);

    public ValueTask DisposeAsync() => stream.DisposeAsync();
}
