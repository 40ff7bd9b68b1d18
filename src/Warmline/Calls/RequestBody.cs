using Warmline.Options;
using Warmline.Pool;
using Warmline.Providers;
using Warmline.Transport;

namespace Warmline;

/// <summary>The body that a call sends, and what its size means for the send.</summary>
internal readonly struct RequestBody
{
    /// <summary>
    /// A body in memory up to this size goes into the socket's buffer as a whole. Where the server's HTTP/2 credit covers it too, its one
    /// write has nothing to wait for: it is not watched, the first-byte clock counts from its start, and it is through before placement
    /// could take it into account.
    /// </summary>
    const int SmallUpload = 16 * 1024;

    /// <summary>What a body of unknown length counts for among those that need the server's credit.</summary>
    const int UnknownUpload = 1024 * 1024;

    readonly long? _length;

    /// <param name="own">The content that the caller gave.</param>
    /// <param name="buffered">What was made of it, if it was serialised ahead.</param>
    public RequestBody(HttpContent? own, BufferedContent? buffered)
    {
        Content = buffered ?? own;
        _length = buffered?.Length ?? Content?.Headers.ContentLength;
        IsSmall = _length <= SmallUpload && Content is ByteArrayContent or ReadOnlyMemoryContent;
        IsLong = !IsSmall && Content is not null && _length is not <= SmallUpload;
    }

    public HttpContent? Content { get; }

    public bool IsSmall { get; }

    /// <summary>The server may answer it before its end.</summary>
    public bool IsLong { get; }

    /// <summary>What it weighs on its connection.</summary>
    public long Weight => IsSmall ? 0 : _length ?? 0;

    /// <summary>What it needs of the server's credit.</summary>
    public long Credit => _length ?? UnknownUpload;

    /// <summary>
    /// Whether the body is serialised ahead: the JSON of a POST, if it is small and its content is none that can be inspected and given
    /// again as it is.
    /// </summary>
    public static bool IsBuffered(HttpRequestMessage request) =>
        request.Content is { } content && request.Method == HttpMethod.Post && !Bodies.IsMemory(content) && RequestShape.IsJson(content)
        && BufferedContent.Takes(content, content.Headers.ContentLength);

    public static async ValueTask<BufferedContent?> BufferAsync(
        HttpContent content, PoolEngine engine, ConnectionKey key, TimeSpan total, CancellationToken cancellationToken)
    {
        try
        {
            return await BufferedContent.MakeAsync(
                content, content.Headers.ContentLength, engine.Buffers, total, engine.Time, cancellationToken).ConfigureAwait(false);
        }
        catch (BufferedContent.OverdueException)
        {
            throw new RequestStalledException(StallPhase.Total, total, total, RequestVerdict.NotSent, key.Origin, null);
        }
        catch (HttpRequestException failed) when (failed.GetType() == typeof(HttpRequestException))
        {
            // Also what the platform makes of an IOException in a content.
            throw new PoolRequestException(RequestVerdict.NotSent, failed.HttpRequestError, failed.Message, failed.InnerException);
        }
        catch (InvalidOperationException failed)   // the platform wraps these, and only these, where it sends the content itself
        {
            throw new PoolRequestException(RequestVerdict.NotSent, HttpRequestError.Unknown, CallErrors.SendFailed, failed);
        }
    }
}
