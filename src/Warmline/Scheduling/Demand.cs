namespace Warmline.Scheduling;

/// <summary>How many further connections a key needs.</summary>
internal static class Demand
{
    /// <summary>
    /// How many further connections the spreading rule wants: one for every <c>TargetStreams</c> calls, including
    /// <paramref name="grantable"/> waiters, up to <c>SpreadConnections</c>.
    /// </summary>
    public static int MissingForSpread(KeyState key, SchedulerLimits limits, int grantable)
    {
        var target = Math.Min(limits.TargetStreams, key.StreamsPerConnection(limits));
        if (target == 0)
        {
            return 0;
        }

        var demand = key.Streams + grantable;
        return WithinHedge(key, Math.Min((demand + target - 1) / target, limits.SpreadConnections) - key.Usable - key.Dialing);
    }

    /// <summary>How many further connections it takes to give each of <paramref name="grantable"/> waiters a place.</summary>
    public static int MissingForNeed(KeyState key, SchedulerLimits limits, int grantable)
    {
        var each = key.StreamsPerConnection(limits);
        if (each == 0)
        {
            // The server allows no stream at present. Another connection would get the same answer; the existing one will report when
            // that changes.
            return key.Usable + key.Dialing == 0 ? 1 : 0;
        }

        var coming = ((long)key.Coming * each) - key.FirstStreams;
        var missing = (int)Math.Min(int.MaxValue, (Math.Max(0, grantable - coming) + each - 1) / each);

        // Until ALPN is known a connection may carry one stream or dozens: find out with a few.
        var few = Math.Max(0, limits.SpreadConnections - key.Dialing + key.SilentDials);
        return WithinHedge(key, key.SpeaksHttp2 is null ? Math.Min(missing, few) : missing);
    }

    /// <summary>
    /// Beside silent dials only one more is tried at a time until one succeeds, as they may all wait for an overloaded server.
    /// </summary>
    public static int WithinHedge(KeyState key, int missing) =>
        key.Hedge.SilentInRow > 0 ? Math.Min(missing, key.Hedge.IsOver ? 0 : Math.Max(0, 1 - key.Coming)) : missing;
}
