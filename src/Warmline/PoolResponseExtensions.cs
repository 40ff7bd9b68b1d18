using System.Net.ServerSentEvents;
using System.Runtime.CompilerServices;
using System.Text;
using Warmline.Providers;
using Warmline.Transport;

namespace Warmline;

/// <summary>The pool's facts on a response, and its events.</summary>
public static class PoolResponseExtensions
{
    /// <summary>Where the time of this call went; false when it did not go through a pool, or its content was replaced.
    /// Ask again after the body was read to have <see cref="RequestTimings.LastByte"/>.</summary>
    public static bool TryGetPoolTimings(this HttpResponseMessage response, out RequestTimings timings)
    {
        ArgumentNullException.ThrowIfNull(response);
        var call = (response.Content as PooledContent)?.Exchange as PooledCall;
        timings = call is null ? default : CallTelemetry.TimingsOf(call);
        return call is not null;
    }

    /// <summary>
    /// The server-sent events of the answer, one by one as they come; to be read once. The last is the provider's terminal event
    /// (<c>[DONE]</c>, <c>message_stop</c>, <c>response.completed</c>, <c>response.incomplete</c>, <c>response.failed</c>), or what came
    /// last before the end of the body. Leaving before it stops the provider: the stream is reset, the HTTP/1.1 connection closed. After it
    /// the connection is kept for the next call. An <c>error</c> event is given like any other. The response may come from any
    /// <see cref="HttpClient"/>; send with <see cref="HttpCompletionOption.ResponseHeadersRead"/>, or all events come at the end.
    /// A <c>Content-Encoding</c> that compresses nothing (empty, <c>identity</c>, <c>none</c>, …) does not matter.
    /// </summary>
    /// <exception cref="InvalidOperationException">The content is no <c>text/event-stream</c>: an error answer mostly; or it is compressed.
    /// Thrown at once.</exception>
    /// <exception cref="RequestStalledException">While reading: <see cref="PoolTimeouts.Read"/>, <see cref="PoolTimeouts.Content"/> or
    /// <see cref="PoolTimeouts.Total"/> was over.</exception>
    /// <exception cref="OperationCanceledException">While reading: the caller's token; the exchange was aborted.</exception>
    public static IAsyncEnumerable<SseItem<string>> ReadServerSentEventsAsync(
        this HttpResponseMessage response, CancellationToken cancellationToken = default) =>
        response.ReadServerSentEventsAsync(static (_, data) => Encoding.UTF8.GetString(data), cancellationToken);

    /// <inheritdoc cref="ReadServerSentEventsAsync(HttpResponseMessage, CancellationToken)"/>
    /// <param name="response">The response.</param>
    /// <param name="itemParser">Makes of an event's name and data what the caller wants. What it throws ends the reading, and the
    /// stream.</param>
    /// <param name="cancellationToken">Aborts the exchange.</param>
    public static IAsyncEnumerable<SseItem<T>> ReadServerSentEventsAsync<T>(
        this HttpResponseMessage response, SseItemParser<T> itemParser, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(response);
        ArgumentNullException.ThrowIfNull(itemParser);
        if (!Bodies.IsEventStream(response.Content))
        {
            var headers = response.Content.Headers;
            throw new InvalidOperationException(
                $"The response has the content type '{headers.ContentType?.MediaType ?? "none"}'"
                + $"{(headers.ContentEncoding.Count > 0 ? ", compressed," : "")} and the status {(int)response.StatusCode}, "
                + "and is no stream of server-sent events (text/event-stream). Ask for one in the request, and look at the status first.");
        }

        return ReadAsync(response.Content, itemParser, cancellationToken);
    }

    static async IAsyncEnumerable<SseItem<T>> ReadAsync<T>(
        HttpContent content, SseItemParser<T> itemParser, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var isOver = false;
        var body = await content.ReadAsStreamAsync(cancellationToken).ConfigureAwait(false);
        await using (body.ConfigureAwait(false))
        {
            var parser = SseParser.Create(body, (name, data) =>
            {
                isOver = (SseEvents.KindOf(name, data) & SseKind.Terminal) is not SseKind.None;
                return itemParser(name, data);
            });
            await foreach (var item in parser.EnumerateAsync(cancellationToken).ConfigureAwait(false))
            {
                yield return item;
                if (isOver)
                {
                    yield break;
                }
            }
        }
    }
}
