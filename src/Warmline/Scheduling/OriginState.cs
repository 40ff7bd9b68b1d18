namespace Warmline.Scheduling;

/// <summary>What all keys of one origin share: its permits, its pause.</summary>
internal sealed class OriginState(string name) : PermitGroup(name)
{
    /// <summary>Lower bound for a learned limit of resets.</summary>
    const int MinResets = 4;

    /// <summary>How long an origin that took PINGs for abuse gets none; doubled each time that it does so again.</summary>
    static readonly TimeSpan FirstPingPause = TimeSpan.FromHours(1);

    static readonly TimeSpan MaxPingPause = TimeSpan.FromDays(1);

    public bool IsPaused { get; set; }

    /// <summary>The pause does not end before.</summary>
    public TimeSpan PausedUntil { get; set; } = TimeSpan.MinValue;

    /// <summary>Connections opened before this time send no PINGs: the server took them for abuse.</summary>
    public TimeSpan PingsFrom { get; set; } = TimeSpan.MinValue;

    /// <summary>How long the last such pause is; zero before the first.</summary>
    public TimeSpan PingPause { get; set; }

    /// <summary>Resets that a connection may send at most, as the server's behaviour has shown.</summary>
    public int ResetLimit { get; set; } = int.MaxValue;

    /// <summary>When that is forgotten.</summary>
    public TimeSpan ResetLimitUntil { get; set; }

    /// <summary>What a handshake usually takes, the name's lookup not counted; zero before the first. The latest counts most.</summary>
    public TimeSpan UsualHandshake { get; set; }

    /// <summary>The last User-Agent of its callers, for tunnels; null before the first, and without a proxy.</summary>
    public string? UserAgent { get; set; }

    /// <summary>Whether calls that may use HTTP/1.1 are offered HTTP/2.</summary>
    public Http2Trust Http2 { get; } = new();

    /// <summary>
    /// The server took our resets, or our PINGs, for abuse (ENHANCE_YOUR_CALM): the origin gets fewer for a while. True if a pause of
    /// PINGs begins.
    /// </summary>
    public bool AskedForCalm(bool byPings, long resets, TimeSpan now, TimeSpan memory)
    {
        if (!byPings)
        {
            if (resets >= 2 * MinResets)   // after fewer it meant something else
            {
                ResetLimit = (int)Math.Min(resets / 2, ResetLimit);
                ResetLimitUntil = now + memory;
            }

            return false;
        }

        if (now < PingsFrom)
        {
            return false;   // another connection was on its way to the same end
        }

        PingPause = PingPause == TimeSpan.Zero ? FirstPingPause : PingPause * 2 < MaxPingPause ? PingPause * 2 : MaxPingPause;
        PingsFrom = now + PingPause;
        return true;
    }
}
