using System.Buffers;
using System.Net;
using Warmline.Providers;

namespace Warmline.Transport;

/// <summary>Who holds the lease that two bodies keep open. Each report comes once.</summary>
internal interface IExchange
{
    RequestClocks Clocks { get; }

    /// <summary>On the clock by which the call's times are told.</summary>
    TimeSpan Now { get; }

    /// <summary>What the response's stream of events tells; null for another response.</summary>
    SseWatcher? Events { get; set; }

    /// <summary>Whether leaving an answer unread costs the connection.</summary>
    bool EndsWithItsAnswer { get; }

    /// <summary>The platform pulls the request body.</summary>
    void UploadBegan();

    /// <summary>No more of the request body will be pulled. <paramref name="cancelled"/>: the platform stopped it.</summary>
    void UploadEnded(bool whole, bool cancelled);

    /// <summary>The caller leaves the response body before its end.</summary>
    void ResponseAbandoned();

    /// <summary>The response's stream of events brought an error. Comes for its first only.</summary>
    void StreamErrorSeen();

    /// <summary>The caller let the response go, neither read to its end nor disposed.</summary>
    void ResponseLeaked();

    /// <summary>The response body was read to its end, or nobody will read it further.</summary>
    void ResponseEnded(bool whole);

    /// <summary>What the caller should see instead of the platform's exception; null to let it pass.</summary>
    Exception? Translate(Exception error, CancellationToken caller);
}

/// <summary>Stands in for the response's content: its end ends the lease.</summary>
internal sealed class PooledContent : HttpContent
{
    readonly HttpContent _inner;
    readonly ResponseBody _body;
    readonly Stream? _decoded;

    public PooledContent(HttpContent inner, IExchange exchange, bool hasBody, DecompressionMethods decompress = DecompressionMethods.None)
    {
        _inner = inner;
        Exchange = exchange;
        Bodies.CopyHeaders(inner, this);
        _body = new ResponseBody(inner.ReadAsStream(), exchange, hasBody ? inner.Headers.ContentLength : null);
        if (decompress is not DecompressionMethods.None)
        {
            _decoded = Decompression.Decode(_body, Headers, decompress);
        }

        if (hasBody && Bodies.IsEventStream(this))
        {
            _body.Watch(isDecoded: _decoded is not null);
        }

        if (!hasBody || inner.Headers.ContentLength == 0)
        {
            _body.End(whole: true);   // nothing will come: the lease need not wait for somebody to look
        }
    }

    public IExchange Exchange { get; }

    Stream Body => _decoded ?? _body;

    /// <summary>Reads on to the end, if that is near, for the sake of the connection.</summary>
    public ValueTask DrainAsync(int most, CancellationToken cancellationToken) => _body.DrainAsync(most, cancellationToken);

    protected override Task<Stream> CreateContentReadStreamAsync() => Task.FromResult(Body);

    protected override Stream CreateContentReadStream(CancellationToken cancellationToken) => Body;

    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) => SerializeToStreamAsync(stream, context, CancellationToken.None);

    protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken)
    {
        var buffer = ArrayPool<byte>.Shared.Rent(16 * 1024);
        try
        {
            for (int read; (read = await Body.ReadAsync(buffer, cancellationToken).ConfigureAwait(false)) > 0;)
            {
                await stream.WriteAsync(buffer.AsMemory(0, read), cancellationToken).ConfigureAwait(false);
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
            await Body.DisposeAsync().ConfigureAwait(false);
        }
    }

    protected override void SerializeToStream(Stream stream, TransportContext? context, CancellationToken cancellationToken)
    {
        using (Body)
        {
            Body.CopyTo(stream);
        }
    }

    protected override bool TryComputeLength(out long length)
    {
        length = _inner.Headers.ContentLength ?? 0;
        return _decoded is null && _inner.Headers.ContentLength is not null;
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            Body.Dispose();   // and with it, at its time, the platform's: it may still be read on
        }

        base.Dispose(disposing);
    }
}

internal static class Bodies
{
    public static void CopyHeaders(HttpContent from, HttpContent to)
    {
        foreach (var header in from.Headers.NonValidated)
        {
            if (header.Value.Count == 1)
            {
                to.Headers.TryAddWithoutValidation(header.Key, header.Value.ToString());
            }
            else
            {
                to.Headers.TryAddWithoutValidation(header.Key, header.Value);
            }
        }
    }

    /// <summary>By its type; not one that is compressed, whose events nobody here can see.</summary>
    public static bool IsEventStream(HttpContent content)
    {
        const string Type = "text/event-stream";
        if (!content.Headers.NonValidated.TryGetValues("Content-Type", out var values) || content.Headers.NonValidated.Contains("Content-Encoding"))
        {
            return false;
        }

        var value = values.ToString().AsSpan().Trim();
        return value.StartsWith(Type, StringComparison.OrdinalIgnoreCase) && (value.Length == Type.Length || value[Type.Length] is ';' or ' ' or '\t');
    }

    /// <summary>Whether a content is nothing but bytes in memory. By its very type: one derived from it may write what it likes.</summary>
    public static bool IsMemory(HttpContent content) =>
        content.GetType() is var type && (type == typeof(StringContent) || type == typeof(ByteArrayContent) || type == typeof(ReadOnlyMemoryContent));

    /// <summary>Whether a content can be written a second time: those types of the platform that keep their bytes, and what was buffered.</summary>
    public static bool IsReplayable(HttpContent content) =>
        content is ByteArrayContent or ReadOnlyMemoryContent || (content is MultipartContent parts && parts.All(IsReplayable));
}
