using System.IO.Compression;
using System.Net;
using System.Net.Http.Headers;

namespace Warmline.Transport;

/// <summary>
/// Compressed answers, by the platform's rules: ask for what is missing in Accept-Encoding, and undo the last of Content-Encoding.
/// </summary>
internal static class Decompression
{
    const string AcceptEncoding = "Accept-Encoding";

    static readonly (DecompressionMethods Method, StringWithQualityHeaderValue Name)[] Known =
        [(DecompressionMethods.GZip, new("gzip")), (DecompressionMethods.Deflate, new("deflate")), (DecompressionMethods.Brotli, new("br"))];

    /// <summary>Adds what the caller does not ask for himself; what to take away again after the send.</summary>
    public static List<StringWithQualityHeaderValue> Ask(HttpRequestMessage request, DecompressionMethods methods)
    {
        var added = new List<StringWithQualityHeaderValue>(Known.Length);
        foreach (var (method, name) in Known)
        {
            if (methods.HasFlag(method) && !request.Headers.AcceptEncoding.Any(asked =>
                string.Equals(asked.Value, name.Value, StringComparison.OrdinalIgnoreCase)))
            {
                request.Headers.AcceptEncoding.Add(name);
                added.Add(name);
            }
        }

        return added;
    }

    public static void TakeBack(HttpRequestMessage request, List<StringWithQualityHeaderValue> added)
    {
        foreach (var name in added)
        {
            request.Headers.AcceptEncoding.Remove(name);
        }

        if (request.Headers.AcceptEncoding.Count == 0)
        {
            request.Headers.Remove(AcceptEncoding);
        }
    }

    /// <summary>
    /// The body as it was before its last encoding, whose traces leave the headers; null when that encoding is not ours to undo.
    /// </summary>
    public static Stream? Decode(ResponseBody body, HttpContentHeaders headers, DecompressionMethods methods)
    {
        var encoding = headers.ContentEncoding.LastOrDefault();
        if (Known.FirstOrDefault(known =>
            string.Equals(known.Name.Value, encoding, StringComparison.OrdinalIgnoreCase)
            && methods.HasFlag(known.Method)).Method is not (not DecompressionMethods.None and var method))
        {
            return null;
        }

        var others = headers.ContentEncoding.SkipLast(1).ToArray();
        headers.ContentEncoding.Clear();
        foreach (var other in others)
        {
            headers.ContentEncoding.Add(other);
        }

        headers.ContentLength = null;
        return new DecodedBody(body, method);
    }

    /// <summary>
    /// The decoder stops where the compressed data ends; the answer's own end, one read further, is what returns the connection.
    /// </summary>
    sealed class DecodedBody(ResponseBody body, DecompressionMethods method) : ReadOnlyStream
    {
        /// <summary>Nothing should follow the compressed data; so much is overlooked.</summary>
        const int MostOverlooked = 4096;

        Stream? _decoder;

        public override int Read(Span<byte> buffer)
        {
            if (_decoder is null)
            {
                Span<byte> first = stackalloc byte[1];
                _decoder = Decoder(first[..body.Read(first)].ToArray());
            }

            var read = _decoder.Read(buffer);
            body.Saw(buffer[..read]);
            if (read == 0 && buffer.Length > 0)
            {
                body.Drain(MostOverlooked);
            }

            return read;
        }

        public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            if (_decoder is null)
            {
                var first = new byte[1];
                _decoder = Decoder(first[..await body.ReadAsync(first, cancellationToken).ConfigureAwait(false)]);
            }

            var read = await _decoder.ReadAsync(buffer, cancellationToken).ConfigureAwait(false);
            body.Saw(buffer.Span[..read]);
            if (read == 0 && buffer.Length > 0)
            {
                await body.DrainAsync(MostOverlooked, cancellationToken).ConfigureAwait(false);
            }

            return read;
        }

        protected override void Dispose(bool disposing)
        {
            if (disposing)
            {
                _decoder?.Dispose();
                body.Dispose();
            }

            base.Dispose(disposing);
        }

        Stream Decoder(byte[] first)
        {
            var from = new Prefixed(first, body);
            return method switch
            {
                DecompressionMethods.GZip => new GZipStream(from, CompressionMode.Decompress, leaveOpen: true),
                DecompressionMethods.Brotli => new BrotliStream(from, CompressionMode.Decompress, leaveOpen: true),

                // "deflate" means zlib's format, and many servers send it without zlib's header, which begins with method 8.
                _ when first.Length == 0 || (first[0] & 0x0F) == 8 => new ZLibStream(from, CompressionMode.Decompress, leaveOpen: true),
                _ => new DeflateStream(from, CompressionMode.Decompress, leaveOpen: true),
            };
        }
    }

    /// <summary>A stream whose first bytes were read already.</summary>
    sealed class Prefixed(byte[] first, Stream rest) : ReadOnlyStream
    {
        int _given;

        public override int Read(Span<byte> buffer) => Given(buffer) is > 0 and var count ? count : rest.Read(buffer);

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) =>
            Given(buffer.Span) is > 0 and var count ? new(count) : rest.ReadAsync(buffer, cancellationToken);

        int Given(Span<byte> buffer)
        {
            var count = Math.Min(buffer.Length, first.Length - _given);
            first.AsSpan(_given, count).CopyTo(buffer);
            _given += count;
            return count;
        }
    }

    abstract class ReadOnlyStream : Stream
    {
        bool _isDisposed;

        public override bool CanRead => !_isDisposed;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public abstract override int Read(Span<byte> buffer);

        public abstract override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default);

        public override int Read(byte[] buffer, int offset, int count)
        {
            ValidateBufferArguments(buffer, offset, count);
            return Read(buffer.AsSpan(offset, count));
        }

        public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken)
        {
            ValidateBufferArguments(buffer, offset, count);
            return ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();
        }

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        protected override void Dispose(bool disposing)
        {
            _isDisposed = true;
            base.Dispose(disposing);
        }
    }
}
