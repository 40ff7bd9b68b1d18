namespace Warmline.Scheduling;

/// <summary>The permits that a key waits for.</summary>
internal sealed class PermitWish
{
    public int Place = -1;

    /// <summary>The permit queue that the key is in, if any.</summary>
    public PermitQueue? Queue { get; set; }

    /// <summary>Number of permits that it waits for in that queue.</summary>
    public int Count { get; set; }

    /// <summary>Its tenant's connections divided by weight when it entered the queue; 0 where tenants share connections.</summary>
    public double Share { get; set; }

    /// <summary>Whether it was starving when it entered the queue.</summary>
    public bool IsStarving { get; set; }

    /// <summary>A smaller number means that it began to starve earlier. The key that has starved longest gets a permit first.</summary>
    public long StarvesSince { get; set; }
}
