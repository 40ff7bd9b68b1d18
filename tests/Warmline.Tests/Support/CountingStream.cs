namespace Warmline.Tests.Support;

/// <summary>Counts what is read from the stream below.</summary>
internal sealed class CountingStream(Stream inner) : PassingStream(inner)
{
    public long BytesRead { get; private set; }

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        int count = await base.ReadAsync(buffer, cancellationToken);
        BytesRead += count;
        return count;
    }
}
