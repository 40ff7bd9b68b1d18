using System.Text;
using System.Threading.Channels;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Http;

/// <summary>What an HTTP/1.1 connection does while it watches an upload, step by step.</summary>
public sealed class EarlyWireTests : IDisposable
{
    const string Refusal = "HTTP/1.1 413 Too Large\r\n";

    readonly Wire _wire = new();
    readonly EarlyAnswer _early = new();
    readonly ConnectionStream _stream;

    public EarlyWireTests()
    {
        _stream = new ConnectionStream(new ClosingStream(new DialedConnection(_wire, false, default, null), new ManualTime()), isHttp2: false, slot: null!, new SlotEvents());
        _stream.WatchUpload(_early);
    }

    public void Dispose()
    {
        _stream.Dispose();
        _early.Dispose();
        _wire.Dispose();
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task After_a_refusal_nothing_reaches_the_wire_and_the_answer_is_read_whole()
    {
        await _stream.WriteAsync(new byte[3], Rig.Ct);
        _stream.UploadBegan();
        _wire.Say(Refusal);
        await Eventually.TrueAsync(() => _early.IsCancellationRequested);

        await _stream.WriteAsync(new byte[5], Rig.Ct);

        Assert.Equal((3L, true), (_wire.Written, _early.WasCut));
        Assert.Equal(Refusal, await ReadAsync(Refusal.Length));
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_write_that_hangs_is_ended_by_the_refusal()
    {
        _wire.Hangs = true;
        _stream.UploadBegan();
        var write = _stream.WriteAsync(new byte[3], Rig.Ct).AsTask();
        _wire.Say(Refusal);

        await write;
        Assert.True(_early.WasCut);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task An_acceptance_ends_nothing()
    {
        _stream.UploadBegan();
        _wire.Say("HTTP/1.1 200 OK\r\n");
        Assert.Equal("HTTP/1.1 200 OK\r\n", await ReadAsync(17));

        await _stream.WriteAsync(new byte[5], Rig.Ct);

        Assert.Equal((5L, false, false), (_wire.Written, _early.WasCut, _early.IsCancellationRequested));
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task After_a_write_that_fails_the_answer_is_looked_for()
    {
        _wire.WriteError = new IOException("broken pipe");
        await _stream.WriteAsync(new byte[3], Rig.Ct);
        Assert.True(_early is { WasCut: true, IsCancellationRequested: true });
        _wire.Say(Refusal);

        Assert.Equal(Refusal, await ReadAsync(Refusal.Length));
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Without_an_answer_the_writes_error_is_the_one_to_tell(bool resets)
    {
        _wire.WriteError = new IOException("broken pipe");
        await _stream.WriteAsync(new byte[3], Rig.Ct);
        _wire.End(resets ? new IOException("reset") : null);

        var error = await Assert.ThrowsAsync<IOException>(() => _stream.ReadAsync(new byte[10], Rig.Ct).AsTask());
        Assert.Equal("broken pipe", error.Message);
    }

    async Task<string> ReadAsync(int count)
    {
        var bytes = new byte[count];
        await _stream.ReadExactlyAsync(bytes, Rig.Ct);
        return Encoding.ASCII.GetString(bytes);
    }

    /// <summary>The wire below the connection: what the test says is read, what is written is counted.</summary>
    sealed class Wire : Stream
    {
        readonly Channel<byte[]> _said = Channel.CreateUnbounded<byte[]>();
        byte[] _left = [];

        public long Written { get; private set; }

        public bool Hangs { get; set; }

        public IOException? WriteError { get; set; }

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public void Say(string text) => _said.Writer.TryWrite(Encoding.ASCII.GetBytes(text));

        public void End(IOException? error) => _said.Writer.TryComplete(error);

        public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            while (_left.Length == 0)
            {
                if (!await _said.Reader.WaitToReadAsync(cancellationToken))
                {
                    return 0;
                }

                _ = _said.Reader.TryRead(out var next);
                _left = next ?? [];
            }

            var count = Math.Min(buffer.Length, _left.Length);
            _left.AsSpan(0, count).CopyTo(buffer.Span);
            _left = _left[count..];
            return count;
        }

        public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            if (WriteError is not null)
            {
                throw WriteError;
            }

            if (Hangs)
            {
                await new TaskCompletionSource().Task.WaitAsync(cancellationToken);
            }

            Written += buffer.Length;
        }

        public override void Flush()
        {
        }

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
