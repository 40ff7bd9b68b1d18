using Warmline.Options;

namespace Warmline.Tests.Scheduling;

/// <summary>A lane as the test sees it; also one that is not configured, and the calls that are in none.</summary>
internal sealed class ModelLane(string name, int index)
{
    public string Name { get; } = name;

    public int Index { get; } = index;

    public int Held { get; set; }

    public int Waiting { get; set; }

    public int Peak { get; set; }

    public long Requests { get; set; }

    public long Refused { get; set; }

    // What the limits in force say.
    public bool IsConfigured { get; set; }

    /// <summary>It was configured all the time: what it counted is not begun anew.</summary>
    public bool IsSteady { get; set; } = true;

    public int Reserve { get; set; }

    public int Ceiling { get; set; }

    public int MaxQueueLength { get; set; }

    /// <summary>The virtual time of the last grant, before that counted.</summary>
    public long Virtual { get; set; }

    /// <summary>What it holds beyond its reserve: who has least of that goes first.</summary>
    public int Excess => Math.Max(0, Held - Reserve);
}

/// <summary>A tenant as the test sees it.</summary>
internal sealed class ModelTenant(string name)
{
    public string Name { get; } = name;

    public TenantLimits Limits { get; set; }

    public int Held { get; set; }

    public int Waiting { get; set; }

    public int Peak { get; set; }

    public long Requests { get; set; }

    public long Refused { get; set; }

    public bool IsBusy => Held + Waiting > 0;

    /// <summary>Nothing is remembered of it.</summary>
    public void Forget()
    {
        Peak = 0;
        Requests = Refused = 0;
    }
}

/// <summary>What one tenant has in one lane.</summary>
internal sealed class ModelShare
{
    public int Held { get; set; }

    public int Waiting { get; set; }

    public long Virtual { get; set; }
}
