namespace Warmline.Scheduling;

/// <summary>What the dials of one key have shown about each other.</summary>
internal sealed class HedgeState
{
    /// <summary>Dials that fell silent in a row since the last one that led to a connection.</summary>
    public int SilentInRow { get; set; }

    /// <summary>
    /// A silent dial has used up its connect timeout. The dials beside it may go on, and no further ones start until they are over.
    /// </summary>
    public bool IsOver { get; set; }

    /// <summary>When any of the dials last advanced.</summary>
    public TimeSpan AdvancedAt { get; set; } = TimeSpan.MinValue / 2;

    /// <summary>When a dial last led to a usable connection.</summary>
    public TimeSpan GotThroughAt { get; set; } = TimeSpan.MinValue;
}
