namespace Warmline;

/// <summary>RST_STREAM and PING frames that the connections of one key sent: counted by many writers, without the pool's lock.</summary>
internal sealed class SentFrames
{
    long _resets;
    long _pings;

    public long Resets => Interlocked.Read(ref _resets);

    public long Pings => Interlocked.Read(ref _pings);

    public void Add(int resets, int pings)
    {
        Interlocked.Add(ref _resets, resets);
        Interlocked.Add(ref _pings, pings);
    }
}
