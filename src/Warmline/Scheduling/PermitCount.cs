namespace Warmline.Scheduling;

/// <summary>Permits in use and the keys that lack one: of the pool, of one origin, or of one tenant.</summary>
internal class PermitCount
{
    /// <summary>Permits in use: every connection that is not closed yet.</summary>
    public int InUse { get; private set; }

    /// <summary>Of these, connections that take streams.</summary>
    public int Open { get; private set; }

    /// <summary>Of these, connections that are closing: their permits are free in a moment.</summary>
    public int Closing { get; private set; }

    /// <summary>
    /// Of these, busy connections that drain so that another key gets the permit: it is free when their streams have ended.
    /// </summary>
    public int GivingWay { get; private set; }

    /// <summary>Idle connections. They are closed if another key lacks a permit.</summary>
    public int Idle { get; set; }

    /// <summary>Keys that need a connection and are blocked by the limit.</summary>
    public PermitQueue Wanting { get; } = new();

    public virtual void Count(ConnectionState connection, int sign)
    {
        InUse += connection.Phase is ConnectionPhase.Closed ? 0 : sign;
        Open += connection.Phase is ConnectionPhase.Open ? sign : 0;
        Closing += connection.Phase is ConnectionPhase.Closing ? sign : 0;
        GivingWay += connection.Phase is ConnectionPhase.Draining && connection.IsReclaimed ? sign : 0;
    }
}

/// <summary>The permits that some keys share: those of one origin, or of one tenant that has connections of its own.</summary>
internal class PermitGroup(string name) : PermitCount
{
    public string Name { get; } = name;

    /// <summary>The keys of the group; it is forgotten with the last.</summary>
    public List<KeyState> Keys { get; } = [];
}
