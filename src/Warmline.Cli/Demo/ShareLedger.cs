namespace Warmline.Cli.Demo;

/// <summary>One call among others that share places.</summary>
/// <param name="Group">Whose: the number of its lane or tenant.</param>
/// <param name="Asked">When its caller asked for it.</param>
/// <param name="Got">When it got its place: when its head was at the server, less the way there.</param>
/// <param name="Left">When it left its place: when the server had sent the last byte, and the way back.</param>
/// <param name="Queue">The wait by the pool's own clock; null without a pool.</param>
internal readonly record struct SharedCall(int Group, DateTimeOffset Asked, DateTimeOffset Got, DateTimeOffset Left, TimeSpan? Queue)
{
    public TimeSpan Wait => Got > Asked ? Got - Asked : TimeSpan.Zero;
}

/// <summary>What is worked out of the calls of one way when they have ended: who held how much, who waited, what lay idle meanwhile. All
/// ways are judged by the same records, so nobody's own figures are believed.</summary>
internal sealed class ShareLedger
{
    readonly IReadOnlyList<SharedCall> _calls;
    readonly int _groups;
    readonly TimeSpan _halfWay;

    /// <param name="calls">All that ended well.</param>
    /// <param name="groups">How many lanes or tenants.</param>
    /// <param name="halfWay">Half a round trip.</param>
    public ShareLedger(IReadOnlyList<SharedCall> calls, int groups, TimeSpan halfWay)
    {
        (_calls, _groups, _halfWay) = (calls, groups, halfWay);
        Start = calls.Count == 0 ? default : calls.Min(call => call.Asked);
        End = calls.Count == 0 ? default : calls.Max(call => call.Left);
    }

    public DateTimeOffset Start { get; }

    public DateTimeOffset End { get; }

    public TimeSpan Duration => End - Start;

    /// <summary>From the start until the last call of a group was answered.</summary>
    public TimeSpan DoneAfter(int group) => Of(group).Select(call => call.Left - Start).DefaultIfEmpty().Max();

    /// <summary>From a group's first question to its first place.</summary>
    public TimeSpan FirstAfter(int group) => Of(group).Select(call => call.Got).DefaultIfEmpty().Min() - Of(group).Select(call => call.Asked).DefaultIfEmpty().Min();

    /// <summary>Calls a second of one group, from its first question to its last answer.</summary>
    public double Throughput(int group)
    {
        var took = DoneAfter(group) - (Of(group).Select(call => call.Asked).DefaultIfEmpty(Start).Min() - Start);
        return took > TimeSpan.Zero ? Math.Round(Of(group).Count() / took.TotalSeconds, 1) : 0;
    }

    public IReadOnlyList<TimeSpan> Waits(int group) => [.. Of(group).Select(call => call.Wait).Order()];

    public IReadOnlyList<TimeSpan> PoolWaits(int group) => [.. Of(group).Select(call => call.Queue).OfType<TimeSpan>().Order()];

    /// <summary>Nearest rank: a value that was measured. Null of nothing.</summary>
    public static TimeSpan? Percentile(IReadOnlyList<TimeSpan> ordered, double share) => ordered.Count == 0 ? null : ordered[Math.Max(0, (int)Math.Ceiling(share * ordered.Count) - 1)];

    /// <summary>Places that nobody had although somebody waited, on average over the time in which somebody did; of those no more count
    /// than the waiters might have had with so many for each group at most.</summary>
    public double Unused(int places, int each = int.MaxValue)
    {
        var (time, idle) = (0.0, 0.0);
        foreach (var (_, length, held, waiting) in Steps(TimeSpan.Zero))
        {
            var wanting = 0;
            for (var group = 0; group < _groups; group++)
            {
                wanting += Math.Clamp(waiting[group], 0, Math.Max(0, each - held[group]));
            }

            if (wanting > 0)
            {
                time += length;
                idle += length * Math.Min(wanting, Math.Max(0, places - held.Sum()));
            }
        }

        return time > 0 ? Math.Round(idle / time, 1) : 0;
    }

    /// <summary>
    /// The most places at one time of one group, or of all together. By the server's times alone, so that a call on its way is in nobody's
    /// count: never too many.
    /// </summary>
    public int Peak(int? group)
    {
        var most = 0;
        foreach (var (_, _, held, _) in Steps(_halfWay))
        {
            most = Math.Max(most, group is { } one ? held[one] : held.Sum());
        }

        return most;
    }

    /// <summary>Places of each group, on average over the time in which every group had somebody waiting, from when so many calls had left:
    /// the first places go to who comes first, as nobody waits yet, and nobody can be fair with what is not given back.</summary>
    public double[] HeldWhileAllWaited(int left)
    {
        var (time, mean) = (0.0, new double[_groups]);
        var from = _calls.Select(call => call.Left).Order().Skip(left - 1).FirstOrDefault(DateTimeOffset.MaxValue);
        foreach (var (at, length, held, waiting) in Steps(TimeSpan.Zero))
        {
            if (at >= from && Array.TrueForAll(waiting, count => count > 0))
            {
                time += length;
                for (var group = 0; group < _groups; group++)
                {
                    mean[group] += length * held[group];
                }
            }
        }

        return [.. mean.Select(sum => time > 0 ? sum / time : 0)];
    }

    /// <summary>
    /// How even the places are: 1 when all groups hold the same, 1/n when one of n holds everything (Jain, Chiu, Hawe 1984).
    /// </summary>
    public static double Jain(IReadOnlyList<double> held)
    {
        var (sum, squares) = (held.Sum(), held.Sum(value => value * value));
        return squares == 0 ? 0 : sum * sum / (held.Count * squares);
    }

    /// <summary>Places of some groups together over time, in so many columns.</summary>
    public double[] Over(int columns, params ReadOnlySpan<int> groups)
    {
        var series = new double[columns];
        var width = Duration / columns;
        foreach (var group in groups)
        {
            foreach (var call in Of(group))
            {
                for (var column = Math.Clamp((int)((call.Got - Start) / width), 0, columns - 1); column < columns && Start + (width * column) < call.Left; column++)
                {
                    var (from, to) = (Start + (width * column), Start + (width * (column + 1)));
                    series[column] += Math.Max(0, ((call.Left < to ? call.Left : to) - (call.Got > from ? call.Got : from)) / width);
                }
            }
        }

        return series;
    }

    IEnumerable<SharedCall> Of(int group) => _calls.Where(call => call.Group == group);

    /// <summary>
    /// Times between two changes, in seconds, with what each group holds and how many of it wait. The arrays are used again for the next
    /// step.
    /// </summary>
    IEnumerable<(DateTimeOffset At, double Length, int[] Held, int[] Waiting)> Steps(TimeSpan inset)
    {
        var changes = new List<(DateTimeOffset At, int Group, int Held, int Waiting)>(_calls.Count * 3);
        foreach (var call in _calls)
        {
            var (got, left) = (call.Got + inset > call.Asked ? call.Got + inset : call.Asked, call.Left - inset);
            changes.Add((call.Asked, call.Group, 0, 1));
            changes.Add((got, call.Group, 1, -1));
            changes.Add((left > got ? left : got, call.Group, -1, 0));
        }

        // Who leaves makes room before who comes takes it.
        changes.Sort((a, b) => a.At.CompareTo(b.At) is not 0 and var order ? order : a.Held.CompareTo(b.Held));
        var (held, waiting) = (new int[_groups], new int[_groups]);
        for (var i = 0; i < changes.Count; i++)
        {
            held[changes[i].Group] += changes[i].Held;
            waiting[changes[i].Group] += changes[i].Waiting;
            var length = i + 1 < changes.Count ? (changes[i + 1].At - changes[i].At).TotalSeconds : 0;
            if (length > 0)
            {
                yield return (changes[i].At, length, held, waiting);
            }
        }
    }
}
