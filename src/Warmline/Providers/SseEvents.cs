using System.Text;

namespace Warmline.Providers;

/// <summary>What an event of a stream means to whoever waits for it.</summary>
[Flags]
internal enum SseKind
{
    /// <summary>A sign of life and no more: a ping, or a comment.</summary>
    None = 0,

    /// <summary>The answer got on, and this is about it, but is none of it.</summary>
    Framing = 1,

    /// <summary>A piece of the answer itself. Whatever is not known to be something else counts as one.</summary>
    Content = 2,

    /// <summary>The provider reports a failure inside the stream. Something may still follow it.</summary>
    Error = 4,

    /// <summary>Nothing follows but the end of the body.</summary>
    Terminal = 8,
}

/// <summary>An event that is known by its name.</summary>
internal sealed class SseEvent(string name, SseKind kind)
{
    public string Name { get; } = name;

    public byte[] Utf8 { get; } = Encoding.ASCII.GetBytes(name);

    public SseKind Kind { get; } = kind;
}

/// <summary>
/// The events of the providers, as data. A stream is known by the shape of its events alone, not by its host or path, as gateways change
/// both. Names are looked for only where a name can stand: in an <c>event:</c> line, or, without one, as the <c>"type"</c> that begins an
/// event's JSON. Text that a model writes is inside a JSON string further on, and can end nothing.
/// </summary>
internal static class SseEvents
{
    /// <summary>OpenAI's chat completions, and all who copy them: https://platform.openai.com/docs/api-reference/chat-streaming.</summary>
    public static readonly SseEvent Done = new("[DONE]", SseKind.Terminal);

    /// <summary>
    /// Mid-stream failure of the same shape: <c>data: {"error":{…}}</c> (vLLM, OpenRouter). A <c>[DONE]</c> often follows.
    /// </summary>
    public static readonly SseEvent Error = new("error", SseKind.Error);

    /// <summary>An event whose name says nothing: what HTML calls it.</summary>
    public static readonly SseEvent Message = new("message", SseKind.Content);

    static readonly SseEvent[] Known =
    [
        // Both providers. The Responses API sends response.failed after it, so it ends nothing by itself.
        Error,

        // Anthropic: https://docs.anthropic.com/en/api/messages-streaming
        new("ping", SseKind.None),
        new("message_start", SseKind.Framing),
        new("content_block_start", SseKind.Framing),
        new("content_block_delta", SseKind.Content),
        new("content_block_stop", SseKind.Framing),
        new("message_delta", SseKind.Framing),
        new("message_stop", SseKind.Terminal),

        // OpenAI's Responses API: https://platform.openai.com/docs/api-reference/responses-streaming. Not documented there: keepalive
        // (openai-node#1964).
        new("keepalive", SseKind.None),
        new("response.created", SseKind.Framing),
        new("response.queued", SseKind.Framing),
        new("response.in_progress", SseKind.Framing),
        new("response.output_item.added", SseKind.Framing),
        new("response.output_item.done", SseKind.Framing),
        new("response.content_part.added", SseKind.Framing),
        new("response.content_part.done", SseKind.Framing),
        new("response.output_text.delta", SseKind.Content),
        new("response.output_text.done", SseKind.Framing),
        new("response.refusal.delta", SseKind.Content),
        new("response.refusal.done", SseKind.Framing),
        new("response.reasoning_text.delta", SseKind.Content),
        new("response.reasoning_text.done", SseKind.Framing),
        new("response.reasoning_summary_part.added", SseKind.Framing),
        new("response.reasoning_summary_part.done", SseKind.Framing),
        new("response.reasoning_summary_text.delta", SseKind.Content),
        new("response.reasoning_summary_text.done", SseKind.Framing),
        new("response.function_call_arguments.delta", SseKind.Content),
        new("response.function_call_arguments.done", SseKind.Framing),
        new("response.completed", SseKind.Terminal),
        new("response.incomplete", SseKind.Terminal),
        new("response.failed", SseKind.Terminal | SseKind.Error),
        new("response.error", SseKind.Terminal | SseKind.Error),
    ];

    static readonly SseEvent[][] ByLength = [.. Enumerable.Range(0, Known.Max(known => known.Utf8.Length) + 1).Select(length => Known.Where(known => known.Utf8.Length == length).ToArray())];

    public static SseEvent? ByName(ReadOnlySpan<byte> name)
    {
        foreach (var known in name.Length < ByLength.Length ? ByLength[name.Length] : [])
        {
            if (name.SequenceEqual(known.Utf8))
            {
                return known;
            }
        }

        return null;
    }

    /// <summary>What the beginning of an event's data tells where no <c>event:</c> line does: by the first member of its JSON.</summary>
    public static SseEvent ByData(ReadOnlySpan<byte> data)
    {
        var rest = data;
        if (Skip(ref rest, '{') && Skip(ref rest, '"'))
        {
            if (rest.StartsWith("type\""u8))
            {
                rest = rest["type\""u8.Length..];
                if (Skip(ref rest, ':') && Skip(ref rest, '"') && rest.IndexOf((byte)'"') is >= 0 and var end)
                {
                    return ByName(rest[..end]) ?? Message;
                }
            }
            else if (rest.StartsWith("error\""u8))
            {
                rest = rest["error\""u8.Length..];
                return Skip(ref rest, ':') && !rest.TrimStart((byte)' ').StartsWith("null"u8) ? Error : Message;
            }
        }

        return Message;
    }

    /// <summary>The same for an event that was read whole.</summary>
    public static SseKind KindOf(string name, ReadOnlySpan<byte> data)
    {
        if (data.SequenceEqual(Done.Utf8))
        {
            return SseKind.Terminal;
        }

        if (name is "message" or "")
        {
            return data.IsEmpty ? SseKind.None : ByData(data).Kind;
        }

        Span<byte> utf8 = stackalloc byte[ByLength.Length * 3];
        return name.Length < ByLength.Length ? ByName(utf8[..Encoding.UTF8.GetBytes(name, utf8)])?.Kind ?? SseKind.Content : SseKind.Content;
    }

    static bool Skip(ref ReadOnlySpan<byte> rest, char next)
    {
        for (var at = 0; at < rest.Length; at++)
        {
            if (rest[at] != ' ')
            {
                var found = rest[at] == next;
                rest = rest[(at + 1)..];
                return found;
            }
        }

        return false;
    }
}
