using System.Globalization;
using Spectre.Console;
using Warmline.Cli.Demo;

namespace Warmline.Cli.Sizing;

/// <summary>
/// What to change in a running pool, and why. Calls in flight follow from Little's law: arrivals times the mean time that a call holds its
/// place; how many places these need, from the theory of queues (M/M/c), and from the most that were in flight at once, where nothing held
/// that down.
/// </summary>
internal sealed class PoolAdvice
{
    /// <summary>Fewer calls than this have no mean worth the name.</summary>
    const int FewestCalls = 20;

    /// <summary>So few may all have come in a quiet hour: from less nobody should take connections away.</summary>
    const int FewestToShrink = 1_000;

    /// <summary>Below this, <see cref="ConnectionPoolOptions.MaxIdleConnections"/> or the idle time is worth a look.</summary>
    const double GoodReuse = 0.85;

    readonly PoolReading _pool;
    readonly bool _isWholeLife;
    readonly TimeSpan _lease;
    readonly double _arrivals;
    readonly double _inFlight;
    readonly bool _isHttp2;
    readonly bool _isMixed;
    readonly int _places;
    readonly int _streams;

    PoolAdvice(PoolReading pool, bool isWholeLife)
    {
        (_pool, _isWholeLife, _lease) = (pool, isWholeLife, pool.Lease!.Value);
        _arrivals = pool.Requests / pool.Age.TotalSeconds;
        _inFlight = _arrivals * _lease.TotalSeconds;
        var (http1, http2) = (pool.Origins.Where(origin => origin.IsHttp2 is false).Sum(origin => origin.Requests), pool.Origins.Where(origin => origin.IsHttp2 is true).Sum(origin => origin.Requests));
        _isHttp2 = http2 > http1;
        _isMixed = Math.Min(http1, http2) * 20 > http1 + http2;
        _streams = Math.Max(1, Math.Min(new Http2Options().MaxStreamsPerConnection, pool.Origins.Where(origin => origin is { IsHttp2: true, StreamLimit: > 0 }).Select(origin => origin.StreamLimit!.Value).DefaultIfEmpty(int.MaxValue).Min()));

        // Where calls were held back, the most in flight is the limit's doing; the arrivals, which count those that were refused as well,
        // are not.
        var maxWait = (_lease / 20) + (pool.Handshake ?? TimeSpan.Zero);
        _places = Math.Max(Queueing.PlacesFor(_inFlight, _lease, maxWait), pool.PeakActive);
        var connections = _isHttp2 && !_isMixed ? Math.Max(Math.Min((_places + 7) / 8, 8), (_places + _streams - 1) / _streams) : _places;
        MaxConnections = Math.Min(65_535, (connections + 4) / 5 * 5);
        MaxIdleConnections = Reuse < GoodReuse && pool.MaxIdleConnections * 2 >= MaxConnections ? MaxConnections : (MaxConnections + 1) / 2;
        var asked = pool.RefusedBy.ContainsKey("maxConcurrentRequests") || pool.PeakActive >= (pool.MaxConcurrentRequests ?? int.MaxValue);
        MaxConcurrentRequests = asked && _places >= pool.MaxConcurrentRequests ? Math.Max(_places, pool.MaxConcurrentRequests.Value * 5 / 4) : pool.MaxConcurrentRequests;
    }

    enum Verdict
    {
        Raise,
        Lower,
        Keep,
    }

    int MaxConnections { get; }

    int MaxIdleConnections { get; }

    int? MaxConcurrentRequests { get; }

    double Reuse => _pool.Granted == 0 ? 1 : (double)_pool.Reused / _pool.Granted;

    bool IsFull => _pool.PeakConnections >= _pool.MaxConnections;

    long RefusedForConnections => _pool.RefusedBy.GetValueOrDefault("maxConnections");

    /// <summary>A wait for a dial is no shortage.</summary>
    bool HasWaits => _pool.MaxQueueWait > TimeSpan.FromMilliseconds(50) + (2 * (_pool.Handshake ?? TimeSpan.Zero));

    Verdict OfConnections => MaxConnections > _pool.MaxConnections && (RefusedForConnections > 0 || (IsFull && HasWaits)) ? Verdict.Raise
        : IsRoomy && _pool.Ended >= FewestToShrink ? Verdict.Lower
        : Verdict.Keep;

    bool IsRoomy => MaxConnections * 2 <= _pool.MaxConnections && !IsFull && RefusedForConnections == 0;

    int ConnectionsToTake => OfConnections is Verdict.Keep ? _pool.MaxConnections : MaxConnections;

    int IdleToTake => OfConnections is not Verdict.Keep ? Math.Min(MaxIdleConnections, ConnectionsToTake)
        : Reuse >= GoodReuse ? _pool.MaxIdleConnections
        : Math.Max(_pool.MaxIdleConnections, Math.Min(MaxIdleConnections, ConnectionsToTake));

    string Code => $"new ConnectionPoolOptions {{ MaxConnections = {ConnectionsToTake}, MaxIdleConnections = {IdleToTake}{(MaxConcurrentRequests is { } most ? $", MaxConcurrentRequests = {most}" : "")} }}";

    /// <summary>Reads once, or twice with the time between, and advises on each pool that has had calls.</summary>
    /// <exception cref="DemoException">No pool has had enough.</exception>
    public static async Task<IReadOnlyList<PoolAdvice>> AdviseAsync(PoolSource source, TimeSpan? watch, TextWriter errors, TimeProvider time, CancellationToken stop)
    {
        var readings = await source.ReadAsync(stop);
        if (watch is { } length)
        {
            await errors.WriteLineAsync(string.Create(CultureInfo.InvariantCulture, $"watching for {length.TotalSeconds:0.#} s"));
            await Task.Delay(length, time, stop);
            // Pools may share a name; their order stays.
            var before = readings.GroupBy(pool => pool.Name).ToDictionary(pools => pools.Key, pools => new Queue<PoolReading>(pools));
            readings = [.. (await source.ReadAsync(stop)).Select(pool => before.TryGetValue(pool.Name, out var earlier) && earlier.TryDequeue(out var first) ? pool.Since(first) : pool)];
        }

        if (readings.Count == 0)
        {
            throw new DemoException("the application has no pool yet: it is made with its first use. Send it a call.");
        }

        var known = readings.Where(pool => pool is { Ended: >= FewestCalls, Lease: { } lease, Age: var age } && lease > TimeSpan.Zero && age > TimeSpan.Zero).ToArray();
        foreach (var pool in known.Length == 0 ? [] : readings.Except(known))
        {
            await errors.WriteLineAsync(TooLittle(pool));
        }

        return known.Length > 0 ? [.. known.Select(pool => new PoolAdvice(pool, watch is null))] : throw new DemoException(TooLittle(readings.MaxBy(pool => pool.Ended)!));
    }

    static string TooLittle(PoolReading pool) => string.Create(CultureInfo.InvariantCulture,
        $"the pool '{pool.Name}' has seen too little: {pool.Ended} calls ended in {pool.Age.TotalSeconds:0.#} s, and a recommendation needs {FewestCalls}. Give it traffic, or watch for longer with --for.");

    public void Write(IAnsiConsole console)
    {
        var page = new ReportPage(console);
        page.Write(Line($"Pool '{_pool.Name}', {(_isWholeLife ? "since it was made" : "watched for")} {(_isWholeLife ? $"{DemoText.Time(_pool.Age)} ago" : DemoText.Time(_pool.Age))}:"));
        console.WriteLine();
        foreach (var (name, value, note) in Figures())
        {
            console.WriteLine($"  {name,-20}{value,10}   {note}".TrimEnd());
        }

        console.WriteLine();
        foreach (var sentence in Sentences())
        {
            page.Write(sentence);
        }

        console.WriteLine();
        console.WriteLine(Code);
    }

    public object Document() => new
    {
        _pool.Name,
        Seconds = Math.Round(_pool.Age.TotalSeconds, 3),
        ArrivalsPerSecond = Math.Round(_arrivals, 4),
        MeanLeaseMs = Math.Round(_lease.TotalMilliseconds, 3),
        MeanInFlight = Math.Round(_inFlight, 3),
        _pool.PeakActive,
        _pool.PeakConnections,
        MaxQueueWaitMs = Math.Round(_pool.MaxQueueWait.TotalMilliseconds, 3),
        Refused = _pool.RefusedBy,
        ReuseRate = Math.Round(Reuse, 4),
        Http = _isMixed ? "mixed" : _isHttp2 ? "2" : "1.1",
        PlacesNeeded = _places,
        Now = new { _pool.MaxConnections, _pool.MaxIdleConnections, _pool.MaxConcurrentRequests },
        Recommended = new { MaxConnections = ConnectionsToTake, MaxIdleConnections = IdleToTake, MaxConcurrentRequests },
        Verdict = OfConnections.ToString().ToLowerInvariant(),
        Why = Sentences(),
        Code,
    };

    IEnumerable<(string Name, string Value, string Note)> Figures()
    {
        yield return ("arrivals", Small(_arrivals, "0.##", "<") + "/s", "");
        yield return ("a call holds", DemoText.Time(_lease), "its place, on average");
        yield return ("in flight, mean", Small(_inFlight, "0.#", "<"), "arrivals times that (Little's law)");
        yield return ("in flight, most", $"{_pool.PeakActive}", _isWholeLife ? "" : "since the pool was made");
        yield return ("connections, most", $"{_pool.PeakConnections}", $"of MaxConnections {_pool.MaxConnections}, over {(_isMixed ? "HTTP/1.1 and HTTP/2" : _isHttp2 ? "HTTP/2" : "HTTP/1.1")}");
        yield return ("longest wait", DemoText.Time(_pool.MaxQueueWait), $"{DemoText.Time(_pool.QueueWait)} on average");
        yield return ("refused", $"{_pool.RefusedBy.Values.Sum()}", string.Join(", ", _pool.RefusedBy.Select(reason => $"{reason.Key} {reason.Value}")));
        yield return ("reuse", Line($"{Reuse * 100:0.#} %"), "");
    }

    IEnumerable<string> Sentences()
    {
        var load = Line($"{Small(_inFlight, "0.#", "less than ")} calls {(_pool.RefusedBy.Count > 0 ? "would be in flight on average if none were refused" : "are in flight on average")}, {_pool.PeakActive} were at most; room for {_places} at once lets 99 of 100 calls start after at most a twentieth of the time that a call takes, a wait that nobody notices.");
        yield return (OfConnections, _isHttp2 && !_isMixed) switch
        {
            (Verdict.Raise, false) => $"Raise MaxConnections from {_pool.MaxConnections} to {MaxConnections}: {Shortage}. {load} Over HTTP/1.1 each needs a connection of its own.",
            (Verdict.Raise, true) => $"Raise MaxConnections from {_pool.MaxConnections} to {MaxConnections}: {Shortage}. {load} Over HTTP/2 a connection carries {_streams} of them.",
            (Verdict.Lower, false) => $"MaxConnections can go from {_pool.MaxConnections} to {MaxConnections}: {load} The rest is never used; a smaller number bounds what a burst can open, and changes nothing else.",
            (Verdict.Lower, true) => $"MaxConnections can go from {_pool.MaxConnections} to {MaxConnections}: {load} Over HTTP/2 a connection carries {_streams} of them. The rest is never used; a smaller number changes nothing else.",
            _ => $"Keep MaxConnections at {_pool.MaxConnections}: {(IsFull ? "it was reached, but nobody waited for long" : "it was never reached")}. {load}",
        };
        if (IsRoomy && OfConnections is Verdict.Keep)
        {
            yield return Line($"Only {_pool.Ended:N0} calls were seen: too few to shrink a pool by.");
        }

        if (MaxConcurrentRequests != _pool.MaxConcurrentRequests)
        {
            yield return $"Raise MaxConcurrentRequests from {_pool.MaxConcurrentRequests} to {MaxConcurrentRequests}: it is what calls wait for, and more connections would not help.";
        }

        if (Reuse < GoodReuse)
        {
            yield return Line($"Only {Reuse * 100:0.#} % of the calls found a connection open. {(IdleToTake > _pool.MaxIdleConnections ? $"Keep more of them between bursts: MaxIdleConnections {IdleToTake}. " : "")}If there are pauses between calls, look at IdleTimeout, and at Hosts[...].WarmConnections.");
        }

        foreach (var (reason, count) in _pool.RefusedBy.Where(reason => reason.Key is not ("maxConnections" or "maxConcurrentRequests")))
        {
            yield return $"{count} {(count == 1 ? "call was" : "calls were")} refused for {reason}: " + Remedy(reason);
        }
    }

    string Shortage => RefusedForConnections > 0 ? $"{RefusedForConnections} calls were refused because all were busy"
        : $"all were in use at times, and calls waited up to {DemoText.Time(_pool.MaxQueueWait)}";

    static string Remedy(string reason) => reason switch
    {
        "maxConnectionsPerHost" => "raise MaxConnectionsPerHost, or leave it unset.",
        "streamLimit" => "the server allows too few streams, and no connection could be added: raise MaxConnections.",
        "dialing" => "the dial was not ready in time, or failed: see the pool's log, and hold connections warm (Hosts[...].WarmConnections).",
        "backOff" => "dials failed before: the network or the provider, not the size.",
        "queueFull" => "more waited than MaxQueueLength allows: a larger pool helps, a longer queue only makes them wait.",
        "laneCeiling" or "laneReserve" or "laneQueueFull" => "look at the lanes' reserves and ceilings: more connections would not help them.",
        "tenantLimit" or "tenantConnections" or "tenantQueueFull" => "the tenant has all that it may have: look at Tenants.",
        "providerLimit" => "the provider's rate limit is used up: no size helps.",
        _ => "that is no matter of size.",
    };

    /// <summary>
    /// A mean of a pool with few calls is small and not nothing: it gets two digits behind the point, and what they cannot show is said to
    /// be less.
    /// </summary>
    static string Small(double value, string format, string less) => value switch
    {
        >= 1 => value.ToString(format, CultureInfo.InvariantCulture),
        >= 0.01 => value.ToString("0.##", CultureInfo.InvariantCulture),
        _ => less + "0.01",
    };

    static string Line(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}

/// <summary>The theory of queues, as far as a recommendation needs it.</summary>
internal static class Queueing
{
    /// <summary>The fewest places with which 99 in 100 calls start within a time, for calls that come at random (M/M/c).</summary>
    /// <param name="load">Calls in flight on average.</param>
    /// <param name="service">The mean time that a call holds its place.</param>
    /// <param name="maxWait">The time.</param>
    public static int PlacesFor(double load, TimeSpan service, TimeSpan maxWait)
    {
        // Erlang's B, by its recursion: the share of calls that would find all of c places taken if nobody waited. C, of those that have to
        // wait, follows from it.
        var blocked = 1.0;
        for (var places = 1; ; places++)
        {
            blocked = load * blocked / (places + (load * blocked));
            if (places <= load)
            {
                continue;
            }

            var waiting = blocked / (1 - (load / places * (1 - blocked)));
            if (waiting * Math.Exp(-(places - load) * (maxWait / service)) <= 0.01)
            {
                return places;
            }
        }
    }
}
