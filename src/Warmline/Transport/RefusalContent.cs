using System.Net;
using Warmline.Providers;

namespace Warmline.Transport;

/// <summary>
/// Stands in for the platform's content of a refusal, below the body that the caller reads: what passes is inspected, byte by byte the
/// same and never later than without it.
/// </summary>
internal sealed class RefusalContent : HttpContent
{
    readonly RefusalStream _stream;

    RefusalContent(HttpContent inner, Stream stream, string encodings, Action<RefusalAdvice> report)
    {
        Bodies.CopyHeaders(inner, this);
        _stream = new RefusalStream(stream, encodings, report);
    }

    /// <summary>The content with its bytes inspected, or unchanged where there are none or they cannot be decoded.</summary>
    /// <param name="inner">The platform's.</param>
    /// <param name="report">Called for what the body says, as soon as that has come; more than once if it says more.</param>
    public static HttpContent Of(HttpContent inner, Action<RefusalAdvice> report)
    {
        var encodings = inner.Headers.NonValidated.TryGetValues("Content-Encoding", out var values) ? values.ToString() : "";
        var stream = inner.ReadAsStream();
        return ErrorBody.CanDecode(encodings) && !ReferenceEquals(stream, Bodies.NoBody)
            ? new RefusalContent(inner, stream, encodings, report) : inner;
    }

    /// <summary>No more will be read. What has come by now is inspected; a later call does nothing.</summary>
    public void Conclude() => _stream.Conclude();

    protected override Task<Stream> CreateContentReadStreamAsync() => Task.FromResult<Stream>(_stream);

    protected override Stream CreateContentReadStream(CancellationToken cancellationToken) => _stream;

    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) => _stream.CopyToAsync(stream);

    protected override bool TryComputeLength(out long length)
    {
        length = 0;
        return false;   // where the answer says one, it is among the headers
    }
}

/// <summary>
/// A refusal's bytes as they are read. A caller that reads finds nothing changed; for one that disposes unread, what this machine already
/// has is looked at and nothing is waited for.
/// </summary>
internal sealed class RefusalStream(Stream inner, string encodings, Action<RefusalAdvice> report) : Stream
{
    // The whole beginning is read again each time, as decoders do not go on after an end of input. A body in one packet, as nearly all
    // are, is read once or twice; one that comes byte by byte must not cost the square of its length.
    const int FreeTries = 32;
    const int MostTries = 256;

    readonly Lock _gate = new();
    byte[] _seen = [];
    RefusalAdvice _known;
    int _count;
    int _tried;
    int _tries;
    bool _isOver;
    volatile bool _isReading;
    int _disposed;

    public override bool CanRead => inner.CanRead;

    public override bool CanSeek => false;

    public override bool CanWrite => false;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    public override int Read(Span<byte> buffer)
    {
        _isReading = true;
        int read;
        try
        {
            read = inner.Read(buffer);
        }
        finally
        {
            _isReading = false;
        }

        Inspect(buffer[..read], isEnd: read == 0 && buffer.Length > 0);
        return read;
    }

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        _isReading = true;
        ValueTask<int> pending;
        try
        {
            pending = inner.ReadAsync(buffer, cancellationToken);
        }
        catch
        {
            _isReading = false;
            throw;
        }

        return pending.IsCompletedSuccessfully ? new ValueTask<int>(Got(pending.Result, buffer)) : GetAsync(pending, buffer);
    }

    public void Conclude() => Inspect([], isEnd: true);

    public override void Flush() => inner.Flush();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        if (disposing && Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            if (!_isReading)
            {
                Glance();
            }

            Conclude();
            inner.Dispose();
        }

        base.Dispose(disposing);
    }

    async ValueTask<int> GetAsync(ValueTask<int> pending, Memory<byte> buffer)
    {
        int read;
        try
        {
            read = await pending.ConfigureAwait(false);
        }
        finally
        {
            _isReading = false;
        }

        return Got(read, buffer);
    }

    int Got(int read, Memory<byte> buffer)
    {
        _isReading = false;
        Inspect(buffer.Span[..read], isEnd: read == 0 && buffer.Length > 0);
        return read;
    }

    /// <summary>
    /// The caller leaves. What has come already is read, as long as no read has to wait; the body ends with this, so a read that would
    /// wait is given up with it.
    /// </summary>
    void Glance()
    {
        var buffer = new byte[4 * 1024];
        using var stop = new CancellationTokenSource();
        try
        {
            while (!_isOver)
            {
                var pending = inner.ReadAsync(buffer, stop.Token);
                if (!pending.IsCompletedSuccessfully)
                {
                    stop.Cancel();
                    _ = IgnoreAsync(pending);
                    return;
                }

                Got(pending.Result, buffer);
            }
        }
        catch (Exception)
        {
            // The body has failed, and its reader knows or does not care.
        }
    }

    static async Task IgnoreAsync(ValueTask<int> pending)
    {
        try
        {
            await pending.ConfigureAwait(false);
        }
        catch (Exception)
        {
            // As intended.
        }
    }

    void Inspect(ReadOnlySpan<byte> bytes, bool isEnd)
    {
        RefusalAdvice news;
        lock (_gate)
        {
            if (_isOver)
            {
                return;
            }

            var taken = bytes[..Math.Min(bytes.Length, ErrorBody.Largest - _count)];
            if (_seen.Length - _count < taken.Length)
            {
                Array.Resize(ref _seen, Math.Min(ErrorBody.Largest, Math.Max(1024, (_count + taken.Length) * 2)));
            }

            taken.CopyTo(_seen.AsSpan(_count));
            _count += taken.Length;
            _isOver = isEnd || _count == ErrorBody.Largest;
            if (_count == _tried || !(_isOver || IsWorthATry()))
            {
                return;
            }

            _tried = _count;
            _tries++;
            news = ErrorBody.Read(ErrorBody.Decode(_seen.AsSpan(0, _count), encodings)).Beyond(_known);
            _known = new RefusalAdvice(news.Wait ?? _known.Wait, news.SlowDown || _known.SlowDown);
            _seen = _isOver ? [] : _seen;
        }

        if (news != default)
        {
            report(news);
        }
    }

    bool IsWorthATry() => _tries < FreeTries || _count >= 2 * _tried || (_seen[_count - 1] is (byte)'}' or (byte)']' && _tries < MostTries);
}
