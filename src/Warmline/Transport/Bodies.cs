using System.Buffers;
using System.Net;
using System.Net.Http.Headers;
using Warmline.Providers;

namespace Warmline.Transport;

/// <summary>A call whose two bodies keep its lease. Each report comes once.</summary>
internal interface IExchange
{
    RequestClocks Clocks { get; }

    /// <summary>The time, on the clock of all times of the call.</summary>
    TimeSpan Now { get; }

    /// <summary>What is known of the response's stream of events; null for another response.</summary>
    SseWatcher? Events { get; set; }

    /// <summary>Whether leaving an answer unread costs the connection.</summary>
    bool EndsWithItsAnswer { get; }

    /// <summary>The platform pulls the request body.</summary>
    void UploadBegan();

    /// <summary>
    /// Whether a piece of the body surely has nothing to wait for but the network, when <paramref name="written"/> bytes went before it:
    /// the server's HTTP/2 credit covers it.
    /// </summary>
    bool IsCovered(long written, int bytes);

    /// <summary>No more of the request body will be pulled. <paramref name="cancelled"/>: the platform stopped it.</summary>
    void UploadEnded(bool whole, bool cancelled);

    /// <summary>
    /// The caller leaves the response body before its end. <paramref name="isCounted"/>: and before it had all that it could want of it.
    /// </summary>
    void ResponseAbandoned(bool isCounted);

    /// <summary>The response's stream of events brought an error. Comes for its first only.</summary>
    void StreamErrorSeen();

    /// <summary>The response was garbage-collected, neither read to its end nor disposed.</summary>
    void ResponseLeaked();

    /// <summary>The response body was read to its end, or will not be read any further.</summary>
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
    bool _isConsumed;

    public PooledContent(
        HttpResponseMessage response, HttpMethod method, IExchange exchange, DecompressionMethods decompress = DecompressionMethods.None)
    {
        var inner = response.Content;
        _inner = inner;
        Exchange = exchange;
        Bodies.CopyHeaders(inner, this);
        var stream = inner.ReadAsStream();
        var framing = Bodies.FramingOf(response, method);
        _body = new ResponseBody(stream, exchange, framing is Framing.None ? 0
            : framing is Framing.Message && !Bodies.IsChunked(response) ? inner.Headers.ContentLength : null);
        if (decompress is not DecompressionMethods.None)
        {
            _decoded = Decompression.Decode(_body, Headers, decompress);
        }

        if (ReferenceEquals(stream, Bodies.NoBody) || (framing is Framing.None && exchange.EndsWithItsAnswer))
        {
            _body.End(whole: true);   // nothing will come: the lease need not wait for a reader. On HTTP/2 headers alone do not prove it
        }
        else if (framing is Framing.Message && Bodies.CodingOf(Headers) is not Coding.Compressed and var coding)
        {
            _body.Begin(isEvents: coding is Coding.None && Bodies.IsCalledEventStream(Headers), isDecoded: _decoded is not null);
        }
    }

    public IExchange Exchange { get; }

    Stream Body => _decoded ?? _body;

    /// <summary>Reads on to the end, if that is near, for the sake of the connection.</summary>
    public ValueTask DrainAsync(int most, CancellationToken cancellationToken) => _body.DrainAsync(most, cancellationToken);

    protected override Task<Stream> CreateContentReadStreamAsync() => Task.FromResult(Consume());

    protected override Stream CreateContentReadStream(CancellationToken cancellationToken) => Consume();

    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) =>
        SerializeToStreamAsync(stream, context, CancellationToken.None);

    protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken)
    {
        Consume();
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
        using (Consume())
        {
            Body.CopyTo(stream);
        }
    }

    /// <summary>Once, as with the platform: what is left of a body that was read in part must not pass for the whole.</summary>
    Stream Consume() => Interlocked.Exchange(ref _isConsumed, true)
        ? throw new InvalidOperationException("The stream was already consumed. It cannot be read again.")
        : Body;

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

/// <summary>What ends the body of an answer.</summary>
internal enum Framing
{
    /// <summary>A length, chunks, the stream or the connection.</summary>
    Message,

    /// <summary>There is none, whatever Content-Length says.</summary>
    None,

    /// <summary>Its two ends: the connection is the caller's.</summary>
    Tunnel,
}

/// <summary>What an encoding does to the bytes of a body, from the least to the most.</summary>
internal enum Coding
{
    /// <summary>Nothing: none is named, or <c>identity</c> (RFC 9110, section 8.4.1).</summary>
    None,

    /// <summary>Not a known coding (<c>none</c>, <c>utf-8</c>): the bytes say whether they can be read.</summary>
    Unknown,

    /// <summary>It hides them.</summary>
    Compressed,
}

internal static class Bodies
{
    /// <summary>
    /// What the platform gives as the body of an answer that has none: the same stream for each, also for a response that is made by hand.
    /// </summary>
    public static readonly Stream NoBody = new HttpResponseMessage().Content.ReadAsStream();

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

    /// <summary>Called a stream of events, and under no encoding that would hide them.</summary>
    public static bool IsEventStream(HttpContent content) =>
        IsCalledEventStream(content.Headers) && CodingOf(content.Headers) is not Coding.Compressed;

    public static bool IsCalledEventStream(HttpContentHeaders headers)
    {
        const string Type = "text/event-stream";
        if (!headers.NonValidated.TryGetValues("Content-Type", out var values))
        {
            return false;
        }

        var value = values.ToString().AsSpan().Trim();
        return value.StartsWith(Type, StringComparison.OrdinalIgnoreCase)
            && (value.Length == Type.Length || value[Type.Length] is ';' or ' ' or '\t');
    }

    /// <summary>What Content-Encoding says: of several codings each may hide what the others leave readable.</summary>
    public static Coding CodingOf(HttpContentHeaders headers)
    {
        var coding = Coding.None;
        if (headers.NonValidated.TryGetValues("Content-Encoding", out var values))
        {
            foreach (var value in values)
            {
                foreach (var part in value.AsSpan().Split(','))
                {
                    var one = CodingOf(value.AsSpan(part).Trim());
                    coding = one > coding ? one : coding;
                }
            }
        }

        return coding;
    }

    /// <summary>
    /// The framing of HTTP/1.1 overrides a length: https://www.rfc-editor.org/rfc/rfc9112#section-6.3. The platform checks the same.
    /// </summary>
    public static bool IsChunked(HttpResponseMessage response) => response.Version.Major < 2
        && response.Headers.NonValidated.Contains("Transfer-Encoding") && response.Headers.TransferEncodingChunked == true;

    public static Framing FramingOf(HttpResponseMessage response, HttpMethod method) => response.StatusCode switch
    {
        _ when method == HttpMethod.Head => Framing.None,
        HttpStatusCode.NoContent or HttpStatusCode.NotModified => Framing.None,
        HttpStatusCode.SwitchingProtocols => Framing.Tunnel,
        >= HttpStatusCode.OK and < HttpStatusCode.MultipleChoices when method == HttpMethod.Connect => Framing.Tunnel,
        _ => Framing.Message,
    };

    static Coding CodingOf(ReadOnlySpan<char> coding)
    {
        if (coding.IsEmpty || coding.Equals("identity", StringComparison.OrdinalIgnoreCase))
        {
            return Coding.None;
        }

        foreach (var compressed in (ReadOnlySpan<string>)["gzip", "br", "deflate", "zstd", "x-gzip", "compress", "x-compress"])
        {
            if (coding.Equals(compressed, StringComparison.OrdinalIgnoreCase))
            {
                return Coding.Compressed;
            }
        }

        return Coding.Unknown;
    }

    /// <summary>Whether a content is nothing but bytes in memory. By its very type: one derived from it may write what it likes.</summary>
    public static bool IsMemory(HttpContent content) =>
        content.GetType() is var type
        && (type == typeof(StringContent) || type == typeof(ByteArrayContent) || type == typeof(ReadOnlyMemoryContent));

    /// <summary>Whether the body can be inspected: JSON of a POST, in memory.</summary>
    public static bool CanInspect(HttpRequestMessage request, HttpContent content) => request.Method == HttpMethod.Post
        && (content is BufferedContent || (IsMemory(content) && content.Headers.ContentLength <= RequestShape.LargestBody))
        && RequestShape.IsJson(content) && !RequestShape.IsEncoded(content);

    /// <summary>
    /// Whether a content can be written a second time: those types of the platform that keep their bytes, and what was buffered.
    /// </summary>
    public static bool IsReplayable(HttpContent content) =>
        content is ByteArrayContent or ReadOnlyMemoryContent || (content is MultipartContent parts && parts.All(IsReplayable));
}
