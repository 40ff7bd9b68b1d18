using System.Buffers.Binary;
using System.Text;

namespace Warmline.AspNetCore.Tests;

/// <summary>A protobuf message without its schema: fields by number, in their order. Enough to read what a collector gets (opentelemetry-proto 1.x).</summary>
internal sealed class Protobuf
{
    readonly List<(int Field, ulong Number, ReadOnlyMemory<byte> Bytes)> _fields = [];

    public Protobuf(ReadOnlyMemory<byte> message)
    {
        while (message.Length > 0)
        {
            var key = Varint(ref message);
            var (number, bytes) = (0UL, ReadOnlyMemory<byte>.Empty);
            switch (key & 7)
            {
                case 0:
                    number = Varint(ref message);
                    break;
                case 1:
                    number = BinaryPrimitives.ReadUInt64LittleEndian(message.Span);
                    message = message[8..];
                    break;
                case 2:
                    var length = (int)Varint(ref message);
                    (bytes, message) = (message[..length], message[length..]);
                    break;
                case 5:
                    number = BinaryPrimitives.ReadUInt32LittleEndian(message.Span);
                    message = message[4..];
                    break;
                default:
                    throw new InvalidDataException($"Wire type {key & 7}");
            }

            _fields.Add(((int)(key >> 3), number, bytes));
        }
    }

    public bool Has(int field) => _fields.Exists(known => known.Field == field);

    public ulong Number(int field) => _fields.FindLast(known => known.Field == field).Number;

    public double Double(int field) => BitConverter.UInt64BitsToDouble(Number(field));

    public string Text(int field) => Encoding.UTF8.GetString(_fields.FindLast(known => known.Field == field).Bytes.Span);

    public string Hex(int field) => Convert.ToHexStringLower(_fields.FindLast(known => known.Field == field).Bytes.Span);

    public IEnumerable<Protobuf> All(int field) => _fields.Where(known => known.Field == field).Select(known => new Protobuf(known.Bytes));

    /// <summary>A packed list of 8-byte numbers.</summary>
    public IReadOnlyList<ulong> Packed(int field) =>
        [.. _fields.Where(known => known.Field == field).SelectMany(known => known.Bytes.ToArray().Chunk(8)).Select(chunk => BinaryPrimitives.ReadUInt64LittleEndian(chunk))];

    /// <summary>A list of KeyValue as OpenTelemetry has them: strings, flags, whole numbers and others.</summary>
    public Dictionary<string, string> Attributes(int field) => All(field).ToDictionary(pair => pair.Text(1), pair =>
    {
        var value = pair.All(2).Single();
        return value.Has(1) ? value.Text(1) : value.Has(2) ? value.Number(2) == 1 ? "true" : "false" : value.Has(3) ? ((long)value.Number(3)).ToString() : value.Double(4).ToString();
    });

    static ulong Varint(ref ReadOnlyMemory<byte> message)
    {
        var (value, shift, at) = (0UL, 0, 0);
        for (; ; shift += 7)
        {
            var part = message.Span[at++];
            value |= (ulong)(part & 0x7f) << shift;
            if (part < 0x80)
            {
                message = message[at..];
                return value;
            }
        }
    }
}
