using System.Buffers;
using System.IO.Pipelines;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http.Features;

namespace Warmline.MockLlm.Tests;

/// <summary>The tap alone: frames cut at every byte, and where an injected frame may stand.</summary>
public sealed class Http2TapTests
{
#pragma warning disable RS0030 // only time stamps
    readonly CounterBoard _board = new(TimeProvider.System, recordRequests: false);
#pragma warning restore RS0030
    readonly StreamLimit _limit = new(100);

    static byte[] Frame(byte type, byte flags, int stream, params byte[] payload) =>
        [0, (byte)(payload.Length >> 8), (byte)payload.Length, type, flags, 0, 0, 0, (byte)stream, .. payload];

    static byte[] Settings(byte streams) => Frame(4, 0, 0, 0, 3, 0, 0, 0, streams);

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(5)]
    [InlineData(13)]
    [InlineData(1000)]
    public void Walks_over_frames_however_they_are_cut(int cut)
    {
        byte[] bytes = [.. "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8, .. Frame(4, 0, 0), .. Frame(1, 5, 1, 1, 2, 3), .. Frame(0, 1, 3, new byte[40]), .. Frame(3, 0, 5, 0, 0, 0, 8)];
        var walker = new FrameWalker(24);
        var frames = new List<(int, int, int, int)>();
        foreach (var piece in bytes.Chunk(cut))
        {
            ReadOnlySpan<byte> rest = piece;
            while (walker.Next(ref rest, out var frame))
            {
                frames.Add((frame.Type, frame.Flags, frame.StreamId, frame.Length));
            }
        }

        Assert.Equal([(4, 0, 0, 0), (1, 5, 1, 3), (0, 1, 3, 40), (3, 0, 5, 4)], frames);
        Assert.True(walker.AtBoundary);
    }

    [Fact]
    public async Task Injects_only_between_frames_and_never_inside_a_header_block()
    {
        await using var connection = new Connection();
        var http = new TaskCompletionSource<IDuplexPipe>();
        var end = new TaskCompletionSource();
        var tap = new Http2Tap(_board, _limit);
        var run = tap.RunAsync(connection, context =>
        {
            http.SetResult(context.Transport);
            return end.Task;
        });
        var output = (await http.Task).Output;

        tap.Announce(7); // before the greeting: it carries the limit of then
        _limit.Value = 9;
        await output.WriteAsync(Settings(100));
        Assert.Equal(Settings(9), await connection.SentAsync());
        var headers = Frame(1, 0, 1, 1, 2, 3, 4);
        await output.WriteAsync(headers.AsMemory(0, 11)); // half a frame
        Assert.Equal(headers[..11], await connection.SentAsync());
        tap.Announce(7);
        await output.WriteAsync(headers.AsMemory(11)); // a whole one, but CONTINUATION must follow
        Assert.Equal(headers[11..], await connection.SentAsync());
        await output.WriteAsync(Frame(9, 4, 1, 5, 6));
        byte[] both = [.. Frame(9, 4, 1, 5, 6), .. Settings(7)];
        Assert.Equal(both, await connection.SentAsync());
        tap.Announce(3); // idle: at once
        Assert.Equal(Settings(3), await connection.SentAsync());

        var data = Frame(0, 0, 1, 1, 2, 3, 4);
        await output.WriteAsync(data.AsMemory(0, 10));
        Assert.Equal(data[..10], await connection.SentAsync());
        tap.Announce(4); // in the middle of a frame: after it
        await output.WriteAsync(data.AsMemory(10));
        both = [.. data[10..], .. Settings(4)];
        Assert.Equal(both, await connection.SentAsync());

        end.SetResult();
        await run;
        Assert.Equal(3, _board.Snapshot().SettingsInjected);
    }

    sealed class Connection : ConnectionContext
    {
        readonly Pipe _input = new(), _output = new(new PipeOptions(readerScheduler: PipeScheduler.Inline, writerScheduler: PipeScheduler.Inline));

        public Connection() => Transport = new DuplexPipe(_input.Reader, _output.Writer);

        public override IDuplexPipe Transport { get; set; }

        public override string ConnectionId { get; set; } = "1";

        public override IFeatureCollection Features { get; } = new FeatureCollection();

        public override IDictionary<object, object?> Items { get; set; } = new Dictionary<object, object?>();

        public async Task<byte[]> SentAsync()
        {
            var result = await _output.Reader.ReadAsync();
            var bytes = result.Buffer.ToArray();
            _output.Reader.AdvanceTo(result.Buffer.End);
            return bytes;
        }
    }
}
