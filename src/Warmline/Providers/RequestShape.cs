using System.Text;
using System.Text.Json;

namespace Warmline.Providers;

/// <summary>
/// What a request to an AI API tells of itself without being asked: a stream or not, bulk work or not, the model. Nothing here throws,
/// whatever the request holds.
/// </summary>
internal static class RequestShape
{
    /// <summary>A larger body is not looked at: prompts are smaller, and files and images tell nothing.</summary>
    public const int LargestBody = 256 * 1024;

    const int LongestModel = 64;

    static ReadOnlySpan<byte> ByteOrderMark => [0xEF, 0xBB, 0xBF];

    /// <summary>Whether the request's Accept names <c>text/event-stream</c>, alone or among others.</summary>
    public static bool AcceptsEvents(HttpRequestMessage request)
    {
        const string Type = "text/event-stream";
        if (!request.Headers.NonValidated.TryGetValues("Accept", out var values))
        {
            return false;
        }

        foreach (var value in values)
        {
            foreach (var part in value.AsSpan().Split(','))
            {
                var type = value.AsSpan(part).Trim();
                if (type.StartsWith(Type, StringComparison.OrdinalIgnoreCase) && (type.Length == Type.Length || type[Type.Length] is ';' or ' ' or '\t'))
                {
                    return true;
                }
            }
        }

        return false;
    }

    /// <summary>Whether the path ends in <c>/embeddings</c> or <c>/batches</c>: OpenAI's <c>/v1/embeddings</c> and <c>/v1/batches</c>,
    /// Azure's <c>/openai/deployments/…/embeddings</c>, Anthropic's
    /// <c>/v1/messages/batches</c>. By what was written: nothing is decoded, and the query does not count.</summary>
    public static bool IsBulk(Uri address)
    {
        var path = address.OriginalString.AsSpan();
        var end = path.IndexOfAny('?', '#');
        path = (end < 0 ? path : path[..end]).TrimEnd('/');
        return EndsIn(path, "/embeddings") || EndsIn(path, "/batches");

        // Not the host itself, which may be called so.
        static bool EndsIn(ReadOnlySpan<char> path, string segment) => path.EndsWith(segment, StringComparison.Ordinal) && path.Length > segment.Length && path[^(segment.Length + 1)] != '/';
    }

    /// <summary>Whether the content says that it is JSON: <c>application/json</c>, or a type that ends in <c>+json</c>.</summary>
    public static bool IsJson(HttpContent content)
    {
        if (!content.Headers.NonValidated.TryGetValues("Content-Type", out var values) || values.Count != 1)
        {
            return false;
        }

        var type = values.ToString().AsSpan();
        var end = type.IndexOf(';');
        type = (end < 0 ? type : type[..end]).Trim();
        return type.Equals("application/json", StringComparison.OrdinalIgnoreCase) || type.EndsWith("+json", StringComparison.OrdinalIgnoreCase);
    }

    /// <summary>Whether the content is compressed: its bytes are no JSON then, whatever its type says.</summary>
    public static bool IsEncoded(HttpContent content) => content.Headers.NonValidated.Contains("Content-Encoding");

    /// <summary>
    /// Whether a JSON object says <c>"stream": true</c>, at its top. Of several the last counts, as with most parsers; a name written with
    /// escapes may be overlooked; what is no JSON says nothing.
    /// </summary>
    public static bool AsksForStream(ReadOnlySpan<byte> json) => TryFind(json, "\"stream\""u8, out var value) && value.TokenType is JsonTokenType.True;

    /// <summary>The text of <c>"model"</c> at the top of a JSON object, at most 64 characters of it; null without one.</summary>
    public static string? ModelOf(ReadOnlySpan<byte> json)
    {
        if (!TryFind(json, "\"model\""u8, out var value) || value.TokenType is not JsonTokenType.String)
        {
            return null;
        }

        // A character takes 6 bytes at most (\u0041): what is longer than that is cut before it is decoded. An escape or a character in two
        // parts may be cut in its middle, which a name of a model does not hold.
        if (value.ValueSpan.Length > LongestModel * 6)
        {
            return Encoding.UTF8.GetString(value.ValueSpan[..LongestModel]);
        }

        try
        {
            var model = value.GetString()!;
            return model.Length <= LongestModel ? model : model[..LongestModel];
        }
        catch (InvalidOperationException)
        {
            return null;   // not UTF-8, or half a surrogate pair
        }
    }

    /// <summary>
    /// Stands at the last value of that name, at the top of an object. The vectorised search for the name comes first: most bodies that
    /// hold none are never parsed.
    /// </summary>
    static bool TryFind(ReadOnlySpan<byte> json, ReadOnlySpan<byte> quotedName, out Utf8JsonReader found)
    {
        found = default;
        var at = json.IndexOf(quotedName);
        if (at < 0)
        {
            return false;
        }

        json = json.StartsWith(ByteOrderMark) ? json[ByteOrderMark.Length..] : json;
        var name = quotedName[1..^1];
        var any = false;
        var reader = new Utf8JsonReader(json, new JsonReaderOptions { MaxDepth = 1_000 });
        try
        {
            if (!reader.Read() || reader.TokenType is not JsonTokenType.StartObject)
            {
                return false;
            }

            while (reader.Read())
            {
                if (reader.TokenType is JsonTokenType.PropertyName)
                {
                    var isIt = reader.ValueTextEquals(name);
                    reader.Read();
                    if (isIt)
                    {
                        found = reader;
                        any = true;
                    }

                    reader.Skip();
                }
            }

            return any;   // the whole was read: it is JSON to its end
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException)   // the latter: a name that is no UTF-8
        {
            return false;
        }
    }
}
