namespace Warmline.Scheduling;

/// <summary>What all keys of one origin share: its permits, its pause.</summary>
internal sealed class OriginState(string name) : PermitGroup(name)
{
    /// <summary>Lower bound for a learned limit of resets.</summary>
    const int MinResets = 4;

    /// <summary>How long an origin that treated PINGs as abuse gets none; doubled each time this happens again.</summary>
    static readonly TimeSpan FirstPingPause = TimeSpan.FromHours(1);

    static readonly TimeSpan MaxPingPause = TimeSpan.FromDays(1);

    public bool IsPaused { get; set; }

    /// <summary>The pause does not end before this time.</summary>
    public TimeSpan PausedUntil { get; set; } = TimeSpan.MinValue;

    /// <summary>Connections opened before this time send no PINGs, as the server treated them as abuse.</summary>
    public TimeSpan PingsFrom { get; set; } = TimeSpan.MinValue;

    /// <summary>The length of the last such pause; zero before the first.</summary>
    public TimeSpan PingPause { get; set; }

    /// <summary>Resets that a connection may send at most, as the server's behaviour has shown.</summary>
    public int ResetLimit { get; set; } = int.MaxValue;

    /// <summary>When <see cref="ResetLimit"/> is forgotten.</summary>
    public TimeSpan ResetLimitUntil { get; set; }

    /// <summary>The usual time of a handshake without the DNS lookup, with the latest weighted most; zero before the first.</summary>
    public TimeSpan UsualHandshake { get; set; }

    /// <summary>The last User-Agent of its callers, for proxy tunnels; null before the first, and without a proxy.</summary>
    public string? UserAgent { get; set; }

    /// <summary>Whether calls that may use HTTP/1.1 are offered HTTP/2.</summary>
    public Http2Trust Http2 { get; } = new();

    /// <summary>
    /// The server treated our resets or PINGs as abuse (ENHANCE_YOUR_CALM), so the origin gets fewer for a while. Returns true if a pause
    /// of PINGs begins.
    /// </summary>
    public bool AskedForCalm(bool byPings, long resets, TimeSpan now, TimeSpan memory)
    {
        if (!byPings)
        {
            if (resets >= 2 * MinResets)   // after fewer resets the server meant something else
            {
                ResetLimit = (int)Math.Min(resets / 2, ResetLimit);
                ResetLimitUntil = now + memory;
            }

            return false;
        }

        if (now < PingsFrom)
        {
            return false;   // another connection was about to end for the same reason
        }

        PingPause = PingPause == TimeSpan.Zero ? FirstPingPause : PingPause * 2 < MaxPingPause ? PingPause * 2 : MaxPingPause;
        PingsFrom = now + PingPause;
        return true;
    }
}
