using System.Net.NetworkInformation;

namespace Warmline.Pool;

/// <summary>
/// What only the whole process can know of its pools: how many dial the same origin, and which are open when it ends. It holds numbers,
/// names and weak references, so no pool lives longer for being counted.
/// </summary>
internal static class ProcessPools
{
    public const int Many = 3;
    const int MostOrigins = 256;

    public static readonly TimeSpan Window = TimeSpan.FromSeconds(60);

    static readonly Lock Gate = new();
    static readonly List<WeakReference<PoolEngine>> Pools = [];
    static readonly Dictionary<string, Observation> Origins = new(StringComparer.OrdinalIgnoreCase);
    static long _lastId;

    static ProcessPools()
    {
        AppDomain.CurrentDomain.ProcessExit += static (_, _) => LogLeftOpen();
        try
        {
            using (Background.SuppressFlow())   // the first pool's maker lends the listener nothing
            {
                NetworkChange.NetworkAddressChanged += static (_, _) => ReportAddressChange();
            }
        }
        catch (Exception)
        {
            // A sandbox may not allow to listen. Then the kernel's timers tell, later; and no pool could be made if this went further.
        }
    }

    public static long NextId() => Interlocked.Increment(ref _lastId);

    public static void Add(PoolEngine engine)
    {
        lock (Gate)
        {
            Pools.RemoveAll(static pool => !pool.TryGetTarget(out _));
            Pools.Add(new WeakReference<PoolEngine>(engine));
        }
    }

    public static void Remove(PoolEngine engine)
    {
        lock (Gate)
        {
            Pools.RemoveAll(pool => !pool.TryGetTarget(out var target) || target == engine);
        }
    }

    /// <summary>
    /// A pool has dialled an origin. Tells how many did so within <see cref="Window"/>, the first time that these are <see cref="Many"/>;
    /// else 0.
    /// </summary>
    public static int Dialed(string origin, long pool, DateTimeOffset now)
    {
        lock (Gate)
        {
            if (!Origins.TryGetValue(origin, out var seen))
            {
                if (Origins.Count >= MostOrigins)
                {
                    Origins.Remove(Origins.MinBy(static pair => pair.Value.Latest).Key);
                }

                Origins.Add(origin, seen = new Observation());
            }

            return seen.Add(pool, now);
        }
    }

    /// <summary>The process ends: its pools should have ended before.</summary>
    public static void LogLeftOpen()
    {
        foreach (var engine in Living())
        {
            engine.Advice.LogLeftOpen("the process ended");
        }
    }

    /// <summary>The machine's addresses have changed: another network, or none.</summary>
    public static void ReportAddressChange()
    {
        foreach (var engine in Living())
        {
            engine.Network.AddressesChanged();
        }
    }

    static PoolEngine[] Living()
    {
        lock (Gate)
        {
            return [.. Pools.Select(static pool => pool.TryGetTarget(out var engine) ? engine : null).OfType<PoolEngine>()];
        }
    }

    sealed class Observation
    {
        readonly List<(long Pool, DateTimeOffset At)> _pools = [];
        bool _told;

        public DateTimeOffset Latest { get; private set; }

        public int Add(long pool, DateTimeOffset now)
        {
            if (_told)
            {
                return 0;
            }

            Latest = now;
            _pools.RemoveAll(seen => seen.Pool == pool || (now - seen.At).Duration() > Window);
            _pools.Add((pool, now));
            _told = _pools.Count >= Many;
            return _told ? _pools.Count : 0;
        }
    }
}
