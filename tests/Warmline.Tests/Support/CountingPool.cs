using System.Buffers;
using Xunit;

namespace Warmline.Tests.Support;

/// <summary>Buffers that are known one by one: none may come back twice, and what came back is overwritten, so that whoever still reads it sends nonsense.</summary>
internal sealed class CountingPool : ArrayPool<byte>
{
    readonly Lock _gate = new();
    readonly HashSet<byte[]> _out = new(ReferenceEqualityComparer.Instance);

    public int Rented { get; private set; }

    public int Returned { get; private set; }

    /// <summary>Buffers that did not come back yet.</summary>
    public int Out => Rented - Returned;

    public override byte[] Rent(int minimumLength)
    {
        var bytes = new byte[minimumLength + 7];   // as the real one, seldom of the length asked for
        bytes.AsSpan().Fill((byte)'!');
        lock (_gate)
        {
            Rented++;
            _out.Add(bytes);
        }

        return bytes;
    }

    public override void Return(byte[] array, bool clearArray = false)
    {
        lock (_gate)
        {
            Assert.True(_out.Remove(array), "A buffer came back twice, or is none of this pool's.");
            Returned++;
        }

        array.AsSpan().Fill((byte)'?');
    }

    /// <summary>Every buffer has come back.</summary>
    public Task AllBackAsync() => Eventually.TrueAsync(() => Out == 0, () => $"{Rented} rented, {Returned} returned");
}
