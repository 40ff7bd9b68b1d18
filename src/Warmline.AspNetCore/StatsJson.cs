using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;

namespace Warmline.AspNetCore;

/// <summary>What the stats endpoint answers.</summary>
internal sealed record StatsDocument(IReadOnlyList<PoolDocument> Pools);

/// <summary>One pool in it.</summary>
internal sealed record PoolDocument(string Name, PoolStats Stats, IReadOnlyList<WaiterInfo> Waiters, IReadOnlyList<StreamInfo> Streams);

/// <summary>
/// The records as they are, in camelCase; enums and the keys of dictionaries too. A time is a number of seconds, and its name says so:
/// <c>MaxQueueWait</c> is <c>maxQueueWaitSeconds</c>. A property that a record gains is in the JSON by itself.
/// </summary>
[JsonSourceGenerationOptions(GenerationMode = JsonSourceGenerationMode.Metadata, PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, DictionaryKeyPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(StatsDocument))]
internal sealed partial class StatsJson : JsonSerializerContext
{
    /// <summary>The contract of a whole document.</summary>
    public static JsonTypeInfo<StatsDocument> Document => field ??= Make();   // not at once: the generated half may not be initialised yet

    static JsonTypeInfo<StatsDocument> Make()
    {
        var options = new JsonSerializerOptions(Default.Options)
        {
            TypeInfoResolver = Default.WithAddedModifier(TellSeconds),
            Converters =
            {
                // One by one: the converter for any enumeration would need reflection. As keys they are words without.
                Word<PoolRejectionReason>(), Word<StreamPhase>(), Word<RateLimitKind>(),
            },
        };
        options.MakeReadOnly();
        return (JsonTypeInfo<StatsDocument>)options.GetTypeInfo(typeof(StatsDocument));
    }

    static JsonStringEnumConverter<T> Word<T>()
        where T : struct, Enum => new(JsonNamingPolicy.CamelCase, allowIntegerValues: false);

    static void TellSeconds(JsonTypeInfo type)
    {
        foreach (var property in type.Properties)
        {
            if (property.PropertyType == typeof(TimeSpan) || property.PropertyType == typeof(TimeSpan?))
            {
                property.Name += "Seconds";
                property.CustomConverter = property.PropertyType == typeof(TimeSpan) ? new Seconds() : new SecondsOrNull();
            }
        }
    }

    sealed class Seconds : JsonConverter<TimeSpan>
    {
        public override TimeSpan Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) => throw new NotSupportedException();

        public override void Write(Utf8JsonWriter writer, TimeSpan value, JsonSerializerOptions options) => writer.WriteNumberValue(value.TotalSeconds);
    }

    sealed class SecondsOrNull : JsonConverter<TimeSpan?>
    {
        public override TimeSpan? Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) => throw new NotSupportedException();

        public override void Write(Utf8JsonWriter writer, TimeSpan? value, JsonSerializerOptions options)
        {
            if (value is { } time)
            {
                writer.WriteNumberValue(time.TotalSeconds);
            }
            else
            {
                writer.WriteNullValue();
            }
        }
    }
}
