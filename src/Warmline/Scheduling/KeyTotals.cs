namespace Warmline.Scheduling;

/// <summary>Totals over the connections of one key, in every phase.</summary>
internal abstract class KeyTotals : Timed
{
    public int Dialing { get; private set; }

    public int AwaitingSettings { get; private set; }

    /// <summary>Dials that have been silent for too long.</summary>
    public int SilentDials { get; private set; }

    /// <summary>Connections that have awaited their SETTINGS for too long.</summary>
    public int SilentSettings { get; private set; }

    /// <summary>Streams that connections which await their SETTINGS, and are not silent, may carry until then.</summary>
    public int FirstStreams { get; private set; }

    /// <summary>Connections that take streams, full ones included.</summary>
    public int Usable { get; private set; }

    /// <summary>Leases on usable connections.</summary>
    public int Streams { get; private set; }

    /// <summary>Streams that the usable connections can carry together.</summary>
    public long OpenCapacity { get; private set; }

    /// <summary>Streams above the limits of their connections, after servers lowered these.</summary>
    public int Excess { get; private set; }

    /// <summary>Idle connections.</summary>
    public int Idle { get; set; }

    /// <summary>All leases, including those on draining connections.</summary>
    public int Leases { get; set; }

    /// <summary>It has no connection and no dial: its waiters depend on other keys to give way.</summary>
    public bool IsStarving => Usable + Dialing == 0;

    /// <summary>Connections that are ready; with HTTP/2, those whose SETTINGS have arrived.</summary>
    public int Ready => Usable - AwaitingSettings;

    /// <summary>Connections that are ready, or on their way and not silent.</summary>
    public int ReadyOrComing => Usable - SilentSettings + Dialing - SilentDials;

    /// <summary>Connections on their way that are not silent.</summary>
    public int Coming => Dialing - SilentDials + AwaitingSettings - SilentSettings;

    /// <summary>
    /// Adds (+1) or subtracts (-1) a connection's part of the totals. Called around each change of its phase, limit or streams, so that
    /// no total can drift.
    /// </summary>
    public void Count(ConnectionState connection, int sign)
    {
        Dialing += connection.Phase is ConnectionPhase.Dialing ? sign : 0;
        AwaitingSettings += connection.Phase is ConnectionPhase.AwaitingSettings ? sign : 0;
        if (connection.IsSilent)
        {
            SilentDials += connection.Phase is ConnectionPhase.Dialing ? sign : 0;
            SilentSettings += connection.Phase is ConnectionPhase.AwaitingSettings ? sign : 0;
        }
        else if (connection.Phase is ConnectionPhase.AwaitingSettings)
        {
            FirstStreams += sign * connection.Limit;
        }

        if (connection.IsUsable)
        {
            Usable += sign;
            Streams += sign * connection.Streams;
            OpenCapacity += sign * connection.Limit;
            Excess += sign * Math.Max(0, connection.Streams - connection.Limit);
        }
    }
}
