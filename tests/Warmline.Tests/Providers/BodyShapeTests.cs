using System.Text;
using System.Text.Json;
using Warmline.Providers;
using Xunit;

namespace Warmline.Tests.Providers;

/// <summary>What a body is shows in its first bytes, and that lines of JSON have ended in their last, however they are cut.</summary>
public sealed class BodyShapeTests
{
    const int Seed = 20_262;

    [Theory]
    [InlineData("", nameof(BodyKind.Blank))]
    [InlineData(" \t\r\n\n", nameof(BodyKind.Blank))]
    [InlineData("\uFEFF\n", nameof(BodyKind.Blank))]
    [InlineData("data", nameof(BodyKind.MaybeEvents))]
    [InlineData("data:", nameof(BodyKind.Events))]
    [InlineData("event: a\n", nameof(BodyKind.Events))]
    [InlineData("id:1", nameof(BodyKind.Events))]
    [InlineData("retry: 3", nameof(BodyKind.Events))]
    [InlineData(":", nameof(BodyKind.Events))]
    [InlineData("\uFEFFdata: 1", nameof(BodyKind.Events))]
    [InlineData("\uFEFF\r\n\r\n: ping", nameof(BodyKind.Events))]
    [InlineData(" \ndata: 1", nameof(BodyKind.Events))]
    [InlineData(" data: 1", nameof(BodyKind.Other))]
    [InlineData("\n\tdata: 1", nameof(BodyKind.Other))]
    [InlineData("\n\uFEFFdata: 1", nameof(BodyKind.Other))]
    [InlineData("Data: 1", nameof(BodyKind.Other))]
    [InlineData("data 1", nameof(BodyKind.Other))]
    [InlineData("dates", nameof(BodyKind.Other))]
    [InlineData("x", nameof(BodyKind.Other))]
    [InlineData("\0", nameof(BodyKind.Other))]
    [InlineData("\"data: 1\"", nameof(BodyKind.Other))]
    [InlineData("{", nameof(BodyKind.Json))]
    [InlineData("\uFEFF\n [", nameof(BodyKind.Json))]
    public void The_first_bytes_say_what_it_is(string body, string expected)
    {
        var bytes = Encoding.UTF8.GetBytes(body);
        foreach (var size in new[] { 1, 2, 3, 1000 })
        {
            var shape = default(BodyShape);
            Assert.Equal(BodyKind.Other, shape.Kind);   // not looked at
            shape.Begin();
            var line = "";
            foreach (var piece in bytes.Chunk(size).TakeWhile(_ => shape.Kind is BodyKind.Blank or BodyKind.MaybeEvents))
            {
                shape.Feed(piece, out var before, out var start);
                line = shape.Kind is BodyKind.Events ? Encoding.UTF8.GetString(before) + Encoding.UTF8.GetString(piece.AsSpan(start)) : "";
            }

            Assert.Equal(expected, shape.Kind.ToString());
            Assert.True(line.Length == 0 || body.TrimStart('\uFEFF', ' ', '\r', '\n').StartsWith(line, StringComparison.Ordinal), line);
        }
    }

    [Fact]
    public void Half_a_byte_order_mark_is_content()
    {
        var shape = default(BodyShape);
        shape.Begin();
        shape.Feed([0xEF, 0xBB], out _, out _);
        Assert.Equal(BodyKind.Blank, shape.Kind);
        shape.Feed(":"u8, out _, out _);
        Assert.Equal(BodyKind.Other, shape.Kind);
    }

    [Theory]
    [InlineData("""{"done":true}""", true)]
    [InlineData("""{ "a" : 1 , "done" : true , "b" : [ { } , "]" ] } """, true)]
    [InlineData("""{"done":false}{"done":true}""", true)]
    [InlineData("{\r\n  \"model\": \"m\",\r\n  \"done\":\ttrue\r\n}\r\n", true)]
    [InlineData("""{"is_finished":true,"event_type":"stream-end"}""", true)]
    [InlineData("""{"done":false}""", false)]
    [InlineData("""{"done":true""", false)]
    [InlineData("""{"done":true}{""", false)]
    [InlineData("""{"done":true}x""", false)]
    [InlineData("""{"done":true}{"done":false}""", false)]
    [InlineData("""{"done":true,"done":false}""", false)]
    [InlineData("""{"done":"true"}""", false)]
    [InlineData("""{"done":1,"true":true}""", false)]
    [InlineData("""{"done":{"done":true}}""", false)]
    [InlineData("""{"a":{"done":true}}""", false)]
    [InlineData("""{"a":"done","b":true}""", false)]
    [InlineData("""{"a":"\"done\":true,","b":"\\"}""", false)]
    [InlineData("""{"a":"{\"done\":true}"}""", false)]
    [InlineData("""{"undone":true,"done2":true,"don":true,"\"done":true}""", false)]
    [InlineData("""[{"done":true}]""", false)]
    [InlineData("""["done",true]""", false)]
    [InlineData("""[1]{"done":true}""", true)]
    public void The_last_line_says_that_it_is_the_last(string body, bool isOver)
    {
        foreach (var size in new[] { 1, 2, 3, 7, 1000 })
        {
            Assert.Equal(isOver, IsOver(Encoding.UTF8.GetBytes(body), size));
        }
    }

    [Fact]
    public void Values_made_at_random_are_read_as_a_parser_reads_them()
    {
        var random = new Random(Seed);
        for (var round = 0; round < 3_000; round++)
        {
            var values = Enumerable.Range(0, random.Next(1, 4)).Select(_ => "{" + Members(random, 0) + "}").ToArray();
            using var last = JsonDocument.Parse(values[^1]);
            var expected = last.RootElement.EnumerateObject().LastOrDefault(member => member.NameEquals("done")) is { Value.ValueKind: JsonValueKind.True };
            var body = string.Join(random.Next(2) == 0 ? "\n" : " ", values);
            Assert.True(expected == IsOver(Encoding.UTF8.GetBytes(body), random.Next(1, 9)), $"seed {Seed}, round {round}: {body}");
        }
    }

    [Fact]
    public void Reading_lines_allocates_nothing()
    {
        var bytes = Encoding.UTF8.GetBytes(string.Concat(Enumerable.Repeat("{\"message\":{\"content\":\"a \\\"b\\\"\"},\"done\":false}\n", 10_000)));
        var lines = default(JsonLines);
        lines.Feed(bytes);

        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var at = 0; at < bytes.Length; at += 333)
        {
            lines.Feed(bytes.AsSpan(at, Math.Min(333, bytes.Length - at)));
        }

        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    static bool IsOver(byte[] bytes, int size)
    {
        var lines = default(JsonLines);
        foreach (var piece in bytes.Chunk(size))
        {
            lines.Feed(piece);
        }

        return lines.IsOver;
    }

    static string Members(Random random, int depth) => string.Join(random.Next(2) == 0 ? "," : " , ",
        Enumerable.Range(0, random.Next(0, 4)).Select(_ => $"\"{Pick(random, "done", "done ", "don", "a", "\\\"done", "\\u0064one2")}\"{Pick(random, ":", " : ", ":\n")}{Value(random, depth)}"));

    static string Value(Random random, int depth) => random.Next(depth > 3 ? 6 : 8) switch
    {
        0 or 1 => "true",
        2 => "false",
        3 => "-1.5e3",
        4 => "null",
        5 => Pick(random, "\"\"", "\"\\\"done\\\":true\"", "\"}\"", "\"\\\\\"", "\"done\""),
        6 => "{" + Members(random, depth + 1) + "}",
        _ => "[" + string.Join(",", Enumerable.Range(0, random.Next(0, 3)).Select(_ => Value(random, depth + 1))) + "]",
    };

    static string Pick(Random random, params ReadOnlySpan<string> from) => from[random.Next(from.Length)];
}
