using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Transport;

/// <summary>The idle watch against the handler's own reads, step by step: the inner stream allows one read at a time, as an SslStream does.</summary>
public sealed class ConnectionStreamTests : IDisposable
{
    readonly OneReadStream _inner = new();
    readonly SlotEvents _events = new();
    readonly byte[] _buffer = new byte[16];
    readonly ConnectionStream _stream;

    public ConnectionStreamTests() => _stream = new ConnectionStream(new ClosingStream(new DialedConnection(_inner, false, default, null), new ManualTime()), isHttp2: false, slot: null!, _events);

    public void Dispose()
    {
        _stream.Dispose();
        _inner.Dispose();
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task The_handlers_read_joins_a_pending_watch_and_gets_what_woke_it()
    {
        _stream.WatchIdle(0);
        Task<int> reading = _stream.ReadAsync(_buffer).AsTask();
        Assert.Equal(1, _inner.Begun);
        await _stream.WriteAsync(new byte[3]);
        _inner.Arrive(5);
        Assert.Equal(5, await reading);
        Assert.Equal(2, _inner.Begun);
        Assert.Empty(_events.All);
        Assert.Equal((3, 5), (_stream.BytesWritten, _stream.BytesRead));
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task The_handlers_look_at_an_idle_connection_joins_the_watch_and_the_next_request_works()
    {
        _stream.WatchIdle(0);
        Task<int> look = LookAsync();
        Assert.False(look.IsCompleted);
        await _stream.WriteAsync(new byte[3]);
        _inner.Arrive(5);
        Assert.Equal(5, await look);
        Assert.Empty(_events.All);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_watch_that_comes_while_the_handler_looks_starts_no_second_read_and_still_hears_the_end()
    {
        Task<int> look = LookAsync();
        _stream.WatchIdle(0);
        Assert.Equal(1, _inner.Begun);
        _inner.End();
        Assert.Equal(0, await look);
        Assert.Equal(["closing"], _events.All);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task Unasked_bytes_that_the_handlers_look_reads_are_an_end()
    {
        Task<int> look = LookAsync();
        _stream.WatchIdle(0);
        _inner.Arrive(5);
        Assert.Equal(5, await look);
        Assert.Equal(["closing"], _events.All);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_failed_read_is_an_end()
    {
        Task<int> reading = _stream.ReadAsync(_buffer).AsTask();
        _inner.Fail();
        await Assert.ThrowsAsync<IOException>(() => reading);
        Assert.Equal(["closing"], _events.All);
        await Assert.ThrowsAsync<IOException>(() => _stream.ReadAsync(_buffer).AsTask());
        _stream.Dispose();
        _stream.Dispose();
        Assert.Equal(["closing", "closed"], _events.All);
    }

    [Fact]
    public void A_watch_that_ends_because_of_our_own_close_says_only_closed()
    {
        _stream.WatchIdle(0);
        _stream.Dispose();
        Assert.Equal(["closed"], _events.All);
        _stream.WatchIdle(0);
        Assert.Equal(1, _inner.Begun);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_second_watch_after_the_first_was_answered_hears_the_end()
    {
        _stream.WatchIdle(0);
        await _stream.WriteAsync(new byte[3]);
        _inner.Arrive(5);
        Assert.Equal(5, await _stream.ReadAsync(_buffer));
        _stream.WatchIdle(_stream.BytesWritten);
        Assert.Empty(_events.All);
        _inner.End();
        Assert.Equal(["closing"], _events.All);
    }

    [Fact]
    public void A_synchronous_read_waits_for_the_watch()
    {
        _stream.WatchIdle(0);
        _stream.Write(new byte[3]);
        using var started = new ManualResetEventSlim();
        var reader = new Thread(() =>
        {
            started.Set();
            Assert.Equal(5, _stream.Read(_buffer));
        });
        reader.Start();
        started.Wait(TestContext.Current.CancellationToken);
        _inner.Arrive(5);
        reader.Join();
        Assert.Equal(5, _stream.BytesRead);
        Assert.Empty(_events.All);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task Reading_and_writing_allocate_nothing()
    {
        _inner.Arrive(5);
        Assert.Equal(5, await _stream.ReadAsync(_buffer));
        int read = 0;
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++)
        {
            _inner.Arrive(5);
            await _stream.WriteAsync(_buffer);
            read += await _stream.ReadAsync(_buffer);
        }

        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        Assert.Equal(5000, read);
    }

    /// <summary>What the handler does every 30 s with an idle connection.</summary>
    async Task<int> LookAsync()
    {
        Assert.Equal(0, await _stream.ReadAsync(Memory<byte>.Empty));
        return await _stream.ReadAsync(_buffer);
    }

    sealed class OneReadStream : Stream
    {
        readonly Lock _lock = new();
        TaskCompletionSource? _pending;
        int _available;
        bool _ended;
        bool _failed;
        bool _isReading;

        public int Begun { get; private set; }

        public override bool CanRead => true;

        public override bool CanWrite => true;

        public override bool CanSeek => false;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public void Arrive(int bytes) => Change(bytes, ended: false, failed: false);

        public void End() => Change(0, ended: true, failed: false);

        public void Fail() => Change(0, ended: false, failed: true);

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            lock (_lock)
            {
                Begun++;
                if (_isReading)
                {
                    throw new NotSupportedException("One read at a time.");
                }

                if (_available > 0 || _ended || _failed)
                {
                    return new(Take(buffer.Length));
                }

                _isReading = true;
                _pending = new TaskCompletionSource();
                return WaitAsync(_pending.Task, buffer.Length);
            }
        }

        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

        public override int Read(Span<byte> buffer)
        {
            lock (_lock)
            {
                Assert.False(_isReading);
                return Take(buffer.Length);
            }
        }

        public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) => ValueTask.CompletedTask;

        public override void Write(byte[] buffer, int offset, int count)
        {
        }

        public override void Write(ReadOnlySpan<byte> buffer)
        {
        }

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        protected override void Dispose(bool disposing)
        {
            Fail();
            base.Dispose(disposing);
        }

        async ValueTask<int> WaitAsync(Task arrival, int room)
        {
            await arrival;
            lock (_lock)
            {
                return Take(room);
            }
        }

        int Take(int room)
        {
            if (_failed)
            {
                throw new IOException("Reset.");
            }

            int count = Math.Min(room, _available);
            _available -= count;
            return count;
        }

        void Change(int arrived, bool ended, bool failed)
        {
            TaskCompletionSource? pending;
            lock (_lock)
            {
                _available += arrived;
                _ended |= ended;
                _failed |= failed;
                (pending, _pending) = (_pending, null);
                _isReading = false;
            }

            pending?.SetResult();
        }
    }
}
