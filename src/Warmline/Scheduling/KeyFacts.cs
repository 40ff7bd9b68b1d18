namespace Warmline.Scheduling;

/// <summary>Counters of one key, lane, tenant or the whole pool.</summary>
internal sealed class KeyFacts
{
    /// <summary>Used for the time saved until a handshake was measured: DNS, TCP and TLS over a fast link.</summary>
    static readonly TimeSpan AssumedHandshake = TimeSpan.FromMilliseconds(80);

    long _dials;
    long _waits;
    TimeSpan _waitTime;
    TimeSpan _handshakeTime;
    long _leases;
    TimeSpan _leaseTime;

    public long Requests { get; set; }

    public long Granted { get; private set; }

    public long Reused { get; private set; }

    public long Refusals { get; set; }

    public long DialsFailed { get; set; }

    /// <summary>Connections lost while idle, or closed together with one that was lost; counted for the pool only.</summary>
    public long Lost { get; set; }

    public int PeakLeases { get; private set; }

    public TimeSpan MaxWait { get; private set; }

    public long Dials => _dials;

    /// <summary>Mean duration of ended leases; null before the first.</summary>
    public TimeSpan? AverageLease => _leases == 0 ? null : _leaseTime / _leases;

    public TimeSpan AverageWait => _waits == 0 ? TimeSpan.Zero : _waitTime / _waits;

    public TimeSpan? AverageHandshake => _dials == 0 ? null : _handshakeTime / _dials;

    public TimeSpan TimeSaved => (AverageHandshake ?? AssumedHandshake) * Reused;

    public void CountGrant(Waiter waiter, int leases)
    {
        PeakLeases = Math.Max(PeakLeases, leases);
        if (waiter.WasGranted)
        {
            return;
        }

        Granted++;
        Reused += waiter.Reused ? 1 : 0;
        var wait = waiter.GrantedAt - waiter.AskedAt;
        _waits++;
        _waitTime += wait;
        MaxWait = wait > MaxWait ? wait : MaxWait;
    }

    public void CountLease(TimeSpan held)
    {
        _leases++;
        _leaseTime += held;
    }

    public void CountDial(TimeSpan handshake)
    {
        _dials++;
        _handshakeTime += handshake;
    }
}
