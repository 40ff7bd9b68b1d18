using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Text.Json;

namespace Warmline.Bench;

/// <summary>
/// Calls with pauses between them, over a link that forgets idle flows or to a server that closes idle connections: what fails, what hangs, what comes late. Each user has a client of
/// his own, or another's calls would shorten his pauses; every way makes the same calls at the same times.
/// </summary>
sealed class Pauses(TimeProvider time, Uri server, string caFile, int calls, int users, double longest, double hang, int seed, string? peers, int sleepProcess)
{
    const int SleepEvery = 90;
    const int SleepFor = 25;

    readonly string _ca = File.ReadAllText(caFile);
    readonly byte[] _body = Measure.Prompt(20);
    readonly SleepingTime _clock = new(time);
    readonly List<Call>[] _results = [.. Enumerable.Range(0, 6).Select(_ => new List<Call>())];
    TaskCompletionSource _awake = Done();

    sealed record Call(bool Ok, bool Late, double Milliseconds, string Error);

    public async Task<int> RunAsync()
    {
        Console.WriteLine($"{calls} calls a way, {users} users, pauses of 0 to {longest} s, every other call a stream; a call that takes {hang} s hangs; seed {seed}");
        using var stop = new CancellationTokenSource();
        var sleeping = sleepProcess > 0 ? SleepAsync(stop.Token) : Task.CompletedTask;
        var running = new List<Task>();
        var external = peers is null ? [] : peers.Split(',').Select(StartPeer).ToArray();
        var names = new[] { "Warmline, HTTP/1.1", "Warmline, HTTP/2", "  one held warm, HTTP/1.1", "  one held warm, HTTP/2", ".NET, HTTP/1.1", ".NET, HTTP/2" };
        for (var way = 0; way < names.Length; way++)
        {
            for (var user = 0; user < users; user++)
            {
                running.Add(UserAsync(way, user));
            }
        }

        var all = Task.WhenAll(running);
        while (await Task.WhenAny(all, Task.Delay(TimeSpan.FromSeconds(10), time, CancellationToken.None)) != all)
        {
            Console.Error.Write($"\r{string.Join("  ", names.Select((name, way) => $"{name}: {Count(way)}"))}   ");
        }

        await all;
        await stop.CancelAsync();
        await sleeping.ContinueWith(static _ => { }, TaskScheduler.Default);
        Console.Error.WriteLine();
        Console.WriteLine($"{"",-25} {"calls",6} {"failed",7} {"hung",6} {"median",9} {"p99",9} {"slowest",9}");
        for (var way = 0; way < names.Length; way++)
        {
            Report(names[way], _results[way]);
        }

        foreach (var (name, peer) in external)
        {
            var lines = await peer.StandardOutput.ReadToEndAsync();
            await peer.WaitForExitAsync();
            Report(name, [.. lines.Split('\n', StringSplitOptions.RemoveEmptyEntries).Where(line => line.StartsWith('{')).Select(ParseCall)]);
        }

        return 0;
    }

    int Count(int way)
    {
        lock (_results)
        {
            return _results[way].Count;
        }
    }

    async Task UserAsync(int way, int user)
    {
        var version = way % 2 == 0 ? HttpVersion.Version11 : HttpVersion.Version20;
        var random = new Random(seed + user);   // the same pauses whatever the way
        await using var pool = way < 4 ? new ConnectionPool(Options(version, isWarm: way >= 2), null, _clock) : null;
        using var client = pool?.CreateClient() ?? new HttpClient(new SocketsHttpHandler { SslOptions = Measure.Trust(_ca), UseProxy = false }) { Timeout = Timeout.InfiniteTimeSpan };
        for (var i = 0; i < calls / users; i++)
        {
            await Task.Delay(TimeSpan.FromSeconds(random.NextDouble() * longest), time, CancellationToken.None);
            await _awake.Task;
            var call = await CallAsync(client, version, stream: i % 2 == 1);
            lock (_results)
            {
                _results[way].Add(call);
            }
        }
    }

    ConnectionPoolOptions Options(Version version, bool isWarm)
    {
        var options = new ConnectionPoolOptions { SslOptions = Measure.Trust(_ca), UseProxy = false };
        options.Http2.Mode = version.Major == 2 ? Http2Mode.Required : Http2Mode.Disabled;
        if (isWarm)
        {
            options.Hosts[server.GetLeftPart(UriPartial.Authority)] = new OriginOptions { WarmConnections = 1 };
        }

        if (longest < 10)   // the scaled run: a middlebox that forgets after two seconds wants probes every second
        {
            options.TcpKeepAlive = new TcpKeepAliveOptions { Idle = TimeSpan.FromSeconds(1), Interval = TimeSpan.FromSeconds(1) };
            options.Http2.PingDelay = TimeSpan.FromSeconds(1);
            options.Http2.PingTimeout = TimeSpan.FromSeconds(1);
        }

        return options;
    }

    async Task<Call> CallAsync(HttpClient client, Version version, bool stream)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(hang), time);
        var start = time.GetTimestamp();
        try
        {
            using var request = Measure.Completion(server, version, stream ? Measure.StreamPrompt : _body);
            using var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, limit.Token);
            response.EnsureSuccessStatusCode();
            await response.Content.CopyToAsync(Stream.Null, limit.Token);
            return new Call(true, false, time.GetElapsedTime(start).TotalMilliseconds, "");
        }
        catch (Exception error)
        {
            return new Call(false, limit.IsCancellationRequested, time.GetElapsedTime(start).TotalMilliseconds, limit.IsCancellationRequested ? "" : $"{error.GetType().Name}: {(error.InnerException ?? error).Message}");
        }
    }

    void Report(string name, List<Call> results)
    {
        if (results.Count == 0)
        {
            Console.WriteLine($"{name,-25} no results");
            return;
        }

        var times = results.Where(call => call.Ok).Select(call => call.Milliseconds).Order().ToArray();
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"{name,-25} {results.Count,6} {results.Count(call => call is { Ok: false, Late: false }),7} {results.Count(call => call.Late),6} {At(0.5),6:0} ms {At(0.99),6:0} ms {At(1),6:0} ms"));
        foreach (var error in results.Where(call => call.Error.Length > 0).GroupBy(call => call.Error))
        {
            Console.WriteLine($"{"",-25}   {error.Count()} x {error.Key}");
        }

        double At(double share) => times.Length == 0 ? double.NaN : times[Math.Min(times.Length - 1, (int)(share * times.Length))];
    }

    /// <summary>A peer prints one JSON object a call: ok, late, ms, error.</summary>
    static Call ParseCall(string line)
    {
        var call = JsonDocument.Parse(line).RootElement;
        return new Call(call.GetProperty("ok").GetBoolean(), call.GetProperty("late").GetBoolean(), call.GetProperty("ms").GetDouble(), call.GetProperty("error").GetString() ?? "");
    }

    (string Name, Process Process) StartPeer(string peer)
    {
        var folder = Path.Combine(AppContext.BaseDirectory, "peers");
        var (program, script) = peer.StartsWith("undici", StringComparison.Ordinal) ? ("node", "pauses.mjs") : ("/usr/bin/python3", "pauses.py");
        var start = new ProcessStartInfo(program, [Path.Combine(folder, script), server.ToString(), caFile, peer.EndsWith("h2", StringComparison.Ordinal) ? "2" : "1",
            .. new[] { calls, users, longest, hang, seed }.Select(value => value.ToString(CultureInfo.InvariantCulture))]) { RedirectStandardOutput = true, UseShellExecute = false };
        var process = Process.Start(start)!;
        return ($"{peer}", process);
    }

    /// <summary>Now and then the machine sleeps: the link stands still, nobody calls, and afterwards the clock on the wall is ahead of what was counted.</summary>
    async Task SleepAsync(CancellationToken stop)
    {
        while (true)
        {
            await Task.Delay(TimeSpan.FromSeconds(SleepEvery), time, stop);
            _awake = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            await Task.Delay(TimeSpan.FromSeconds(3), time, stop);   // calls under way end
            Signal("STOP");
            await Task.Delay(TimeSpan.FromSeconds(SleepFor), time, stop);
            Signal("CONT");
            _clock.Sleep(TimeSpan.FromHours(1));
            _awake.SetResult();
        }
    }

    void Signal(string name)
    {
        using var kill = Process.Start("kill", [$"-{name}", sleepProcess.ToString(CultureInfo.InvariantCulture)]);
        kill.WaitForExit();
    }

    static TaskCompletionSource Done()
    {
        var done = new TaskCompletionSource();
        done.SetResult();
        return done;
    }

    /// <summary>The clock on the wall can jump; what is counted does not see the sleep.</summary>
    sealed class SleepingTime(TimeProvider inner) : TimeProvider
    {
        long _slept;

        public override long TimestampFrequency => inner.TimestampFrequency;

        public override long GetTimestamp() => inner.GetTimestamp();

        public override DateTimeOffset GetUtcNow() => inner.GetUtcNow() + new TimeSpan(Volatile.Read(ref _slept));

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period) => inner.CreateTimer(callback, state, dueTime, period);

        public void Sleep(TimeSpan by) => Interlocked.Add(ref _slept, by.Ticks);
    }
}
