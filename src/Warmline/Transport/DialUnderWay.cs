using System.Net;

namespace Warmline.Transport;

/// <summary>
/// A dial as its owner sees it: what it is busy with, and the way to end it. <paramref name="advanced"/> is told each phase that begins
/// after the first.
/// </summary>
internal sealed class DialUnderWay(Action<DialPhase> advanced, CancellationToken stop) : IDisposable
{
    readonly CancellationTokenSource _end = CancellationTokenSource.CreateLinkedTokenSource(stop);

    public CancellationToken Token => _end.Token;

    public DialPhase Step { get; private set; }

    public bool IsGivenUp { get; private set; }

    /// <summary>The latest race for a TCP connection; null before the first.</summary>
    public HappyEyeballs? Race { get; set; }

    /// <summary>The address that it is connected to, or those that it has tried.</summary>
    public IReadOnlyList<IPAddress> Addresses =>
        Race is not { } race ? [] : race.EndPoint is { } winner ? [winner.Address] : race.TriedNow();

    public void Advance(DialPhase step)
    {
        Step = step;
        if (step is not DialPhase.Dns)
        {
            advanced(step);
        }
    }

    public void GiveUp()
    {
        IsGivenUp = true;
        try
        {
            _end.Cancel();
        }
        catch (ObjectDisposedException)
        {
            // It has just ended by itself.
        }
    }

    public void Dispose() => _end.Dispose();
}
