using System.Buffers;
using System.Net;
using System.Net.Http.Json;

namespace Warmline.Transport;

/// <summary>
/// A request's content, serialised once into a pooled buffer before the request waits for its place: so it can be looked at, and given
/// again. It stands in for the caller's content, with the same headers. Its length is known, so it is sent with it, also where the
/// caller's content states none (RFC 9110, section 8.6). Where the request asks for chunks (<c>TransferEncodingChunked</c>) the platform
/// drops the length.
/// </summary>
/// <remarks>
/// The platform may pull a body while the call looks over, and again after: a stream that was refused, an answer that came early. Bytes
/// that change under it would be another call's. So each pull counts as a user, as the call does. The last user returns the buffer, and no
/// further use begins after that. A pull that did not end well keeps the buffer from the pool for good: it is unknown then what still reads
/// it, so the garbage collector has to take it.
/// </remarks>
internal sealed class BufferedContent : ByteArrayContent
{
    /// <summary>
    /// What is larger is not buffered: prompts are smaller, and a buffer for each file under way would be memory that no caller asked for.
    /// </summary>
    public const int Largest = Providers.RequestShape.LargestBody;

    const int FirstRent = 4 * 1024;

    readonly ArrayPool<byte> _pool;
    readonly byte[] _bytes;
    int _users = 1;
    int _isLeft;
    int _isDoubtful;

    BufferedContent(HttpContent content, ArrayPool<byte> pool, byte[] bytes, int length)
        : base(bytes, 0, length)
    {
        _pool = pool;
        _bytes = bytes;
        Length = length;
        Bodies.CopyHeaders(content, this);
    }

    public int Length { get; }

    /// <summary>The body; valid until <see cref="Leave"/>.</summary>
    public ReadOnlySpan<byte> Bytes => _bytes.AsSpan(0, Length);

    /// <summary>
    /// Whether a content of this length may be buffered. <see cref="JsonContent"/> states none, and is nearly always small: it is tried,
    /// unless it streams what it sends.
    /// </summary>
    public static bool Takes(HttpContent content, long? length) => length is { } stated ? stated is > 0 and <= Largest
        : content is JsonContent { Value: not IAsyncEnumerable<object?> };

    /// <summary>
    /// Serialises a content. Completes at once for all that are made of memory. Null for one that stated no length and is longer than
    /// <see cref="Largest"/>: it is sent as it is.
    /// </summary>
    /// <param name="content">The caller's.</param>
    /// <param name="length">Its length as it says.</param>
    /// <param name="pool">Where the buffer is from.</param>
    /// <param name="limit">How long it may take.</param>
    /// <param name="time">By this clock.</param>
    /// <param name="cancellationToken">The caller's.</param>
    /// <exception cref="HttpRequestException">It is not as long as it says. What the content itself throws comes as it is.</exception>
    /// <exception cref="OverdueException">It took too long.</exception>
    public static async ValueTask<BufferedContent?> MakeAsync(
        HttpContent content, long? length, ArrayPool<byte> pool, TimeSpan limit, TimeProvider time, CancellationToken cancellationToken)
    {
        var sink = new Sink(pool, (int)(length ?? FirstRent), (int)(length ?? Largest));
        Task? copy = null;
        try
        {
            try
            {
                copy = content.CopyToAsync(sink, cancellationToken);
                if (!copy.IsCompleted)
                {
                    // A content may heed no token. It then goes on by itself, and what it writes is taken no more.
                    _ = copy.ContinueWith(static ended => ended.Exception, CancellationToken.None,
                        TaskContinuationOptions.OnlyOnFaulted | TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
                }

                await (copy.IsCompleted ? copy : copy.WaitAsync(limit, time, cancellationToken)).ConfigureAwait(false);
            }
            catch (TimeoutException) when (copy is { IsCompleted: false })
            {
                throw new OverdueException();
            }
            catch (Exception) when (sink.IsOver)
            {
                // Reported below, whatever the content made of it.
            }

            return length is not { } stated ? sink.IsOver ? null : new BufferedContent(content, pool, sink.Detach(), sink.Count)
                : sink.IsOver ? throw new HttpRequestException(
                    $"The request's content is longer than the {stated} bytes of its Content-Length.")
                : sink.Count < stated ? throw new HttpRequestException(
                    $"The request's content is {sink.Count} bytes long; its Content-Length is {stated}.")
                : new BufferedContent(content, pool, sink.Detach(), sink.Count);
        }
        finally
        {
            sink.End();
        }
    }

    /// <summary>The caller's content has other headers than it had.</summary>
    public void TakeHeaders(HttpContent content)
    {
        Headers.Clear();
        Bodies.CopyHeaders(content, this);
    }

    /// <summary>The call is over, or was never begun. Counts at its first time only.</summary>
    public void Leave()
    {
        if (Interlocked.Exchange(ref _isLeft, 1) == 0)
        {
            Exit();
        }
    }

    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) =>
        SerializeToStreamAsync(stream, context, CancellationToken.None);

    protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken)
    {
        Enter();
        var whole = false;
        try
        {
            await stream.WriteAsync(_bytes.AsMemory(0, Length), cancellationToken).ConfigureAwait(false);
            whole = true;
        }
        finally
        {
            if (!whole)
            {
                Volatile.Write(ref _isDoubtful, 1);
            }

            Exit();
        }
    }

    // Ways to the bytes whose end could not be seen. The platform takes none of them, as it is only sent to asynchronously.
    protected override void SerializeToStream(Stream stream, TransportContext? context, CancellationToken cancellationToken) =>
        throw new NotSupportedException();

    protected override Task<Stream> CreateContentReadStreamAsync() => throw new NotSupportedException();

    protected override Stream CreateContentReadStream(CancellationToken cancellationToken) => throw new NotSupportedException();

    protected override bool TryComputeLength(out long length)
    {
        length = Length;
        return true;
    }

    void Enter()
    {
        int users;
        do
        {
            users = Volatile.Read(ref _users);
            ObjectDisposedException.ThrowIf(users == 0, this);
        }
        while (Interlocked.CompareExchange(ref _users, users + 1, users) != users);
    }

    void Exit()
    {
        if (Interlocked.Decrement(ref _users) == 0 && Volatile.Read(ref _isDoubtful) == 0)
        {
            _pool.Return(_bytes);
        }
    }

    /// <summary>The content took longer to write itself than the call may take.</summary>
    public sealed class OverdueException : TimeoutException;

    /// <summary>What the content writes itself into. It copies, so the content never holds the buffer.</summary>
    sealed class Sink(ArrayPool<byte> pool, int first, int most) : WriteOnlyStream
    {
        readonly Lock _gate = new();
        byte[]? _bytes = pool.Rent(first);

        public int Count { get; private set; }

        /// <summary>More was written than may be.</summary>
        public bool IsOver { get; private set; }

        /// <summary>The bytes are the caller's from here on.</summary>
        public byte[] Detach()
        {
            lock (_gate)
            {
                var bytes = _bytes!;
                _bytes = null;
                return bytes;
            }
        }

        /// <summary>Takes nothing more. Not the stream's own Dispose: that is the content's to call.</summary>
        public void End()
        {
            lock (_gate)
            {
                if (_bytes is { } bytes)
                {
                    pool.Return(bytes);
                    _bytes = null;
                }
            }
        }

        public override void Write(ReadOnlySpan<byte> buffer)
        {
            lock (_gate)
            {
                if (_bytes is null || IsOver || buffer.Length > most - Count)
                {
                    IsOver |= _bytes is not null;
                    throw new IOException("No more of the body is taken.");
                }

                if (buffer.Length > _bytes.Length - Count)
                {
                    var larger = pool.Rent(Math.Min(most, Math.Max(Count + buffer.Length, _bytes.Length * 2)));
                    _bytes.AsSpan(0, Count).CopyTo(larger);
                    pool.Return(_bytes);
                    _bytes = larger;
                }

                buffer.CopyTo(_bytes.AsSpan(Count));
                Count += buffer.Length;
            }
        }

        public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            cancellationToken.ThrowIfCancellationRequested();
            Write(buffer.Span);
            return default;
        }

        public override void Flush()
        {
        }

        public override Task FlushAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }
}

/// <summary>
/// Shows the bytes of a content that has them in memory, without a copy: such a content writes them as they are, at once.
/// </summary>
internal sealed class Inspect<T> : WriteOnlyStream
{
    [ThreadStatic]
    static Inspect<T>? _spare;

    Func<ReadOnlySpan<byte>, T>? _read;
    T? _seen;

    /// <summary>What is seen in the content's bytes; nothing in one that does not have them in memory.</summary>
    public static T? Into(HttpContent content, Func<ReadOnlySpan<byte>, T> read)
    {
        if (content is BufferedContent buffered)
        {
            return read(buffered.Bytes);
        }

        if (!Bodies.IsMemory(content))
        {
            return default;
        }

        var inspect = _spare ?? new Inspect<T>();
        _spare = null;
        inspect._read = read;
        try
        {
            content.CopyTo(inspect, null, CancellationToken.None);
        }
        catch (ObjectDisposedException)
        {
            // The send reports it.
        }

        var seen = inspect._seen;
        (inspect._read, inspect._seen) = (null, default);
        _spare = inspect;
        return seen;
    }

    public override void Write(ReadOnlySpan<byte> buffer) => _seen = _read!(buffer);

    public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        Write(buffer.Span);
        return default;
    }

    public override void Flush()
    {
    }
}

/// <summary>A stream that only takes.</summary>
internal abstract class WriteOnlyStream : Stream
{
    public override bool CanRead => false;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public abstract override void Write(ReadOnlySpan<byte> buffer);

    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public abstract override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default);

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();
}
