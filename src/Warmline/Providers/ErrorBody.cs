using System.IO.Compression;
using System.Text.Json;

namespace Warmline.Providers;

/// <summary>What the body of a refusal says beyond its headers. <c>default</c> says nothing.</summary>
/// <param name="Wait">How long to wait before the next request; above 0.</param>
/// <param name="SlowDown">The provider asks for slower growth.</param>
internal readonly record struct RefusalAdvice(TimeSpan? Wait, bool SlowDown)
{
    /// <summary>What this says and <paramref name="known"/> does not: a longer wait, the first call to slow down.</summary>
    public RefusalAdvice Beyond(RefusalAdvice known) =>
        new(Wait > (known.Wait ?? TimeSpan.Zero) ? Wait : null, SlowDown && !known.SlowDown);
}

/// <summary>
/// Reads the JSON in which providers refuse, as far as it has come. Two shapes are known; anything else says nothing, and nothing here
/// throws.
/// </summary>
/// <remarks>
/// <c>google.rpc.RetryInfo</c>, with <c>retryDelay</c> as a JSON Duration: seconds with up to nine decimals, ending in <c>s</c>
/// (googleapis: google/rpc/error_details.proto; protobuf: duration.proto). Gemini sends it among an error's <c>details</c>, and the error
/// of a stream within an array. OpenAI: <c>"code": "slow_down"</c>, which asks for slower growth
/// (platform.openai.com/docs/guides/error-codes).
/// </remarks>
internal static class ErrorBody
{
    /// <summary>Error bodies are smaller than this; anything beyond it is dropped, compressed or not.</summary>
    public const int Largest = 256 * 1024;

    const int Deepest = 63;        // a bit for each level
    const int LongestText = 256;   // longer than any type's name or duration

    static readonly JsonReaderOptions Options = new() { MaxDepth = Deepest, AllowMultipleValues = true };

    enum Name
    {
        Other,
        Code,
        Type,
        Delay,
    }

    /// <summary>What the beginning of a body says, whole or not.</summary>
    public static RefusalAdvice Read(ReadOnlySpan<byte> json)
    {
        var (wait, slowDown) = (0L, false);
        var reader = new Utf8JsonReader(json, isFinalBlock: false, new JsonReaderState(Options));
        Span<long> delays = stackalloc long[Deepest + 1];   // of the object that is open at each level
        var infos = 0UL;                                    // levels whose object is a RetryInfo
        var name = Name.Other;
        try
        {
            while (reader.Read())
            {
                switch (reader.TokenType)
                {
                    case JsonTokenType.StartObject:
                        delays[reader.CurrentDepth + 1] = 0;
                        infos &= ~(1UL << (reader.CurrentDepth + 1));
                        name = Name.Other;
                        break;
                    case JsonTokenType.PropertyName:
                        name = NameOf(ref reader);
                        break;
                    case JsonTokenType.String when name is not Name.Other:
                        var level = reader.CurrentDepth;
                        slowDown |= name is Name.Code && reader.ValueTextEquals("slow_down"u8);
                        infos |= name is Name.Type && IsRetryInfo(Text(ref reader)) ? 1UL << level : 0;
                        delays[level] = name is Name.Delay ? Duration(Text(ref reader)) : delays[level];
                        wait = (infos >> level & 1) == 1 ? Math.Max(wait, delays[level]) : wait;
                        name = Name.Other;
                        break;
                    default:
                        name = Name.Other;
                        break;
                }
            }
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException)   // the latter: text that is no UTF-8
        {
            // No JSON from here on. What stood before it counts.
        }

        return new RefusalAdvice(wait > 0 ? new TimeSpan(wait) : null, slowDown);
    }

    /// <summary>Whether bytes with this Content-Encoding can be read.</summary>
    public static bool CanDecode(string encodings)
    {
        foreach (var part in encodings.AsSpan().Split(','))
        {
            if (CompressionOf(encodings.AsSpan(part)) is Compression.Unknown)
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>The beginning of what was compressed, as far as it has come and at most <see cref="Largest"/> bytes of it.</summary>
    public static ReadOnlySpan<byte> Decode(ReadOnlySpan<byte> bytes, string encodings)
    {
        var last = encodings.LastIndexOf(',');
        var decoded = Decode(bytes, CompressionOf(encodings.AsSpan(last + 1)));
        return last < 0 ? decoded : Decode(decoded, encodings[..last]);
    }

    enum Compression
    {
        None,
        GZip,
        Deflate,
        Brotli,
        Unknown,
    }

    static Compression CompressionOf(ReadOnlySpan<char> name)
    {
        name = name.Trim();
        return name.IsEmpty || name.Equals("identity", StringComparison.OrdinalIgnoreCase) ? Compression.None
            : name.Equals("gzip", StringComparison.OrdinalIgnoreCase) ? Compression.GZip
            : name.Equals("x-gzip", StringComparison.OrdinalIgnoreCase) ? Compression.GZip   // RFC 9110, section 8.4.1.3
            : name.Equals("deflate", StringComparison.OrdinalIgnoreCase) ? Compression.Deflate
            : name.Equals("br", StringComparison.OrdinalIgnoreCase) ? Compression.Brotli
            : name.Equals("zstd", StringComparison.OrdinalIgnoreCase) || name.EndsWith("compress", StringComparison.OrdinalIgnoreCase) || name.Contains(';')
                ? Compression.Unknown
            : Compression.None;   // no coding that is in use, like "none" or "utf-8": it changes no byte
    }

    static ReadOnlySpan<byte> Decode(ReadOnlySpan<byte> bytes, Compression coding)
    {
        if (coding is Compression.None || bytes.IsEmpty)
        {
            return bytes;
        }

        using var from = new MemoryStream(bytes.ToArray());
        using Stream decoder = coding switch
        {
            Compression.GZip => new GZipStream(from, CompressionMode.Decompress),
            Compression.Brotli => new BrotliStream(from, CompressionMode.Decompress),

            // As Decompression does: many servers leave zlib's header out.
            _ when (bytes[0] & 0x0F) == 8 => new ZLibStream(from, CompressionMode.Decompress),
            _ => new DeflateStream(from, CompressionMode.Decompress),
        };
        var decoded = new byte[4 * 1024];
        var count = 0;
        try
        {
            for (int read; count < Largest && (read = decoder.Read(decoded, count, decoded.Length - count)) > 0;)
            {
                count += read;
                if (count == decoded.Length)
                {
                    Array.Resize(ref decoded, decoded.Length * 2);
                }
            }
        }
        catch (Exception error) when (error is InvalidDataException or IOException or InvalidOperationException)
        {
            // The rest has not come yet, or it is not valid compressed data. What was decoded counts.
        }

        return decoded.AsSpan(0, count);
    }

    static Name NameOf(ref Utf8JsonReader reader) =>
        reader.ValueTextEquals("code"u8) || reader.ValueTextEquals("type"u8) ? Name.Code
        : reader.ValueTextEquals("@type"u8) ? Name.Type
        : reader.ValueTextEquals("retryDelay"u8) ? Name.Delay
        : reader.ValueTextEquals("retry_delay"u8) ? Name.Delay   // the field's own name, which protobuf's JSON may use too
        : Name.Other;

    static string Text(ref Utf8JsonReader reader) => reader.ValueSpan.Length <= LongestText ? reader.GetString()! : "";

    static bool IsRetryInfo(string type)
    {
        const string Known = "google.rpc.RetryInfo";
        return type.EndsWith(Known, StringComparison.Ordinal) && (type.Length == Known.Length || type[^(Known.Length + 1)] == '/');
    }

    static long Duration(string text) =>
        text is [.. var number, 's'] && RateLimitHeaders.Scaled(number, TimeSpan.TicksPerSecond) is { } wait ? wait.Ticks : 0;
}
