using System.Globalization;

namespace Warmline.Cli.Sizing;

/// <summary>
/// Pools of many sizes under the same calls, and where more connections stop to help. The knee is the smallest size whose 99th percentile
/// of the wait is at most
/// <see cref="MaxWait"/>, as is that of every larger size that was simulated.
/// </summary>
internal sealed record SizingCurve
{
    /// <summary>As many sizes as a picture can show apart.</summary>
    const int MostSizes = 64;

    /// <summary>Sizes shown beyond the knee, so that one sees that nothing more is to be had there.</summary>
    const int SizesBeyondKnee = 4;

    /// <summary>Sizes before the steps between them double: a knee far off is looked for in longer strides.</summary>
    const int SizesPerStride = 16;

    /// <summary>
    /// Sizes at once, on whatever processors there are: the same on every machine, so that all of them show the same sizes.
    /// </summary>
    const int Batch = 4;

    public required SimulationSettings Settings { get; init; }

    public required PoolSizing Formula { get; init; }

    public required TimeSpan MaxWait { get; init; }

    /// <summary>By size, rising.</summary>
    public required IReadOnlyList<SimulatedPool> Pools { get; init; }

    /// <summary>Null where none of the sizes keeps to <see cref="MaxWait"/>.</summary>
    public SimulatedPool? Knee => Pools.Reverse().TakeWhile(pool => pool.WaitP99 <= MaxWait).LastOrDefault();

    /// <summary>What the formula takes for this HTTP version.</summary>
    public int FormulaConnections => ConnectionsByFormula(Formula, Settings);

    /// <summary>At the formula's size; null where that was not simulated.</summary>
    public SimulatedPool? AtFormula => Pools.FirstOrDefault(pool => pool.Connections == FormulaConnections);

    /// <summary>The options of the knee's pool.</summary>
    public static string Code(int connections) => $"new ConnectionPoolOptions {{ MaxConnections = {connections}, MaxIdleConnections = {(connections + 1) / 2} }}";

    /// <summary>
    /// A wait that nobody notices beside the answer: a twentieth of it, and one handshake, as no size spares a call the dial of its own
    /// connection.
    /// </summary>
    public static TimeSpan DefaultMaxWait(SimulationSettings settings) => (settings.Response / 20) + settings.Handshake;

    /// <summary>Simulates.</summary>
    /// <param name="settings">The traffic.</param>
    /// <param name="formula">What the formula says of it.</param>
    /// <param name="maxWait">The bound of the knee.</param>
    /// <param name="range">The sizes; null: from a little below the calls at once to beyond the knee.</param>
    /// <param name="done">Told of each size that is done.</param>
    /// <param name="stop">Ends it early.</param>
    public static SizingCurve Simulate(SimulationSettings settings, PoolSizing formula, TimeSpan maxWait, (int From, int To)? range, Action<SimulatedPool> done, CancellationToken stop)
    {
        var pools = new SortedDictionary<int, SimulatedPool>();
        var curve = new SizingCurve { Settings = settings, Formula = formula, MaxWait = maxWait, Pools = [] };
        if (range is { } asked)
        {
            var step = Math.Max(1, (asked.To - asked.From + MostSizes) / MostSizes);
            Run([.. Enumerable.Range(0, ((asked.To - asked.From) / step) + 1).Select(i => asked.From + (i * step)), asked.To]);
        }
        else
        {
            // 1 upwards until the sizes stay below the bound
            var need = settings.IsHttp2 ? formula.Http2Connections / 2 : formula.ConcurrentCalls;
            var (size, stride, tried) = (Math.Max(1, need * 17 / 20), Math.Max(1, need / 20), 0);
            Run([curve.FormulaConnections]);
            while (pools.Count < MostSizes && size <= MostUseful(settings) && !IsBeyondKnee())
            {
                var batch = new List<int>();
                for (var i = 0; i < Batch && size <= MostUseful(settings); i++, size += stride)
                {
                    batch.Add(size);
                    stride *= ++tried % SizesPerStride == 0 ? 2 : 1;
                }

                Run(batch);
            }

            // 2 between the last size that is too small and the knee
            while (Gap() is var (low, high) && high - low > 1 && pools.Count < MostSizes + 16)
            {
                Run([low + ((high - low) / 2)]);
            }
        }

        return curve with { Pools = [.. pools.Values] };

        bool IsBeyondKnee() => pools.Keys.Last() >= curve.FormulaConnections && pools.Values.Reverse().TakeWhile(pool => pool.WaitP99 <= maxWait).Count() > SizesBeyondKnee;

        (int Low, int High)? Gap()
        {
            var knee = (curve with { Pools = [.. pools.Values] }).Knee;
            return knee is null ? null : (pools.Keys.TakeWhile(connections => connections < knee.Connections).DefaultIfEmpty(knee.Connections - 1).Last(), knee.Connections);
        }

        void Run(IReadOnlyList<int> sizes)
        {
            var gate = new Lock();
            Parallel.ForEach(sizes.Distinct().Where(connections => !pools.ContainsKey(connections)).ToArray(),
                new ParallelOptions { MaxDegreeOfParallelism = Environment.ProcessorCount, CancellationToken = stop },
                connections =>
                {
                    var pool = Simulation.Run(settings, connections, stop);
                    lock (gate)
                    {
                        pools[connections] = pool;
                        done(pool);
                    }
                });
        }
    }

    static int ConnectionsByFormula(PoolSizing formula, SimulationSettings settings) => settings.IsHttp2 ? formula.Http2Connections : formula.MaxConnections;

    /// <summary>Users who wait for their answers never have more calls than theirs; nobody needs more connections than calls.</summary>
    static int MostUseful(SimulationSettings settings) =>
        settings.Arrivals is ArrivalKind.Closed ? (int)Math.Min(65_535, (long)settings.Users * settings.CallsPerUser) : 65_535;
}

/// <summary>
/// Tells on standard error how far a simulation is: in one line that is rewritten, or a line for each size where that is no terminal.
/// </summary>
internal sealed class SizingProgress(TextWriter errors)
{
    readonly bool _isTerminal = !Console.IsErrorRedirected;
    int _sizes;

    public void Done(SimulatedPool pool)
    {
        var line = string.Create(CultureInfo.InvariantCulture, $"  {pool.Connections} connections: p99 wait {Demo.DemoText.Time(pool.WaitP99)}");
        if (_isTerminal)
        {
            errors.Write($"\r  {++_sizes} sizes simulated,{line}".PadRight(76));
        }
        else
        {
            errors.WriteLine(line);
        }
    }

    public void End()
    {
        if (_isTerminal)
        {
            errors.Write("\r" + new string(' ', 76) + "\r");
        }
    }
}
