using System.Text;
using System.Text.Json;

namespace Warmline.MockLlm;

/// <summary>
/// Tools: a request that offers any is answered with a call of the first one, until its conversation holds a tool's result; then with text.
/// The arguments fit the tool's schema as far as names and simple types go.
/// </summary>
internal sealed record ToolCall(string Name, string Arguments)
{
    /// <summary>The call to answer with; null when the answer is text.</summary>
    /// <param name="x">The request.</param>
    /// <param name="isAnthropic">Whose shape it has.</param>
    public static ToolCall? For(Exchange x, bool isAnthropic)
    {
        if (x.Property("tools") is not { ValueKind: JsonValueKind.Array } tools || tools.GetArrayLength() == 0 || HasResult(x))
        {
            return null;
        }

        var tool = isAnthropic ? tools[0] : Member(tools[0], "function");
        return Member(tool, "name") is { ValueKind: JsonValueKind.String } name
            ? new ToolCall(JsonEncodedText.Encode(name.GetString()!).ToString(), ArgumentsOf(Member(Member(tool, isAnthropic ? "input_schema" : "parameters"), "properties")))
            : null;
    }

    /// <summary>The arguments inside a JSON string.</summary>
    public string Escaped => JsonEncodedText.Encode(Arguments).ToString();

    static bool HasResult(Exchange x) => x.Property("messages") is { ValueKind: JsonValueKind.Array } messages && messages.EnumerateArray().Any(message =>
        Is(Member(message, "role"), "tool")
        || (Member(message, "content") is { ValueKind: JsonValueKind.Array } parts && parts.EnumerateArray().Any(part => Is(Member(part, "type"), "tool_result"))));

    static string ArgumentsOf(JsonElement? properties)
    {
        if (properties is not { ValueKind: JsonValueKind.Object } known)
        {
            return "{}";
        }

        var json = new StringBuilder("{");
        foreach (var property in known.EnumerateObject())
        {
            var type = Member(property.Value, "type") is { ValueKind: JsonValueKind.String } text ? text.GetString() : null;
            if (type switch { "string" => "\"mock\"", "number" or "integer" => "1", "boolean" => "true", _ => null } is { } value)
            {
                json.Append(json.Length > 1 ? "," : "").Append('"').Append(JsonEncodedText.Encode(property.Name)).Append("\":").Append(value);
            }
        }

        return json.Append('}').ToString();
    }

    static JsonElement? Member(JsonElement? element, string name) => element is { ValueKind: JsonValueKind.Object } parent && parent.TryGetProperty(name, out var member) ? member : null;

    static bool Is(JsonElement? element, string text) => element is { ValueKind: JsonValueKind.String } value && value.ValueEquals(text);
}
