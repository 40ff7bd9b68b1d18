namespace Warmline.Scheduling;

/// <summary>Keys that lack permits of one kind, and how many permits would do.</summary>
internal sealed class PermitQueue
{
    readonly IndexedHeap<KeyState, KeyState.StarvingFirst> _keys = new();

    /// <summary>Who gets the next permit.</summary>
    public KeyState? First => _keys.First;

    /// <summary>Permits that are lacking, over all its keys.</summary>
    public int Wanted { get; private set; }

    /// <summary>Keys in it that have no connection and none coming.</summary>
    public int Starving { get; private set; }

    /// <summary>Puts the key in, or to its new place.</summary>
    public void Set(KeyState key, int need, double share)
    {
        if (key.WantsFrom != this)
        {
            key.WantsFrom?.Remove(key);
            key.WantsFrom = this;
        }
        else
        {
            Count(key, -1);
        }

        key.Wants = need;
        key.WantsShare = share;
        key.WantsAsStarving = key.IsStarving;
        Count(key, +1);
        _keys.Set(key);
    }

    public void Remove(KeyState key)
    {
        Count(key, -1);
        _keys.Remove(key);
        key.WantsFrom = null;
    }

    void Count(KeyState key, int sign)
    {
        Wanted += sign * key.Wants;
        Starving += key.WantsAsStarving ? sign : 0;
    }
}
