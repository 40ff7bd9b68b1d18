using BenchmarkDotNet.Attributes;
using BenchmarkDotNet.Columns;
using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Jobs;
using BenchmarkDotNet.Loggers;
using BenchmarkDotNet.Running;
using BenchmarkDotNet.Toolchains.InProcess.Emit;
using Perfolizer.Horology;
using Warmline.Options;
using Warmline.Scheduling;

namespace Warmline.Bench;

/// <summary>
/// What one event costs the scheduler alone, at a steady number of waiters: no shell, no lock, no network. A round is a call that comes and waits and one that ends and gives its place to the
/// next, or one that comes and one that gives up; two events each, and the figures are for one.
/// </summary>
[MemoryDiagnoser(displayGenColumns: false)]
public class SchedulerCost
{
    const int Rounds = 1_000;
    const int Places = 40;
    const int MaxStreams = 20;

    readonly List<SchedulerAction> _actions = [];
    readonly Queue<Call> _leased = new();
    readonly Stack<Call> _spare = new();
    readonly List<Call> _waiting = [];
    readonly ConnectionKey[] _keys = [.. Enumerable.Range(0, 8).Select(i => new ConnectionKey(true, $"api{i}.provider.example", 443))];
    Random _random = new(1);
    Scheduler _scheduler = null!;
    string[] _tenants = [];
    TimeSpan _now;

    /// <summary>Calls that wait.</summary>
    [ParamsSource(nameof(WaiterCounts))]
    public int Waiters { get; set; }

    /// <summary>Whose calls they are, at random; 1: nobody's, as without tenants.</summary>
    [ParamsSource(nameof(TenantCounts))]
    public int Tenants { get; set; }

    /// <summary>Every other call in a lane with a reserve, the others in one without.</summary>
    [Params(false, true)]
    public bool Lanes { get; set; }

    /// <summary>8: a limit for the whole pool holds all of them back; 1: the connections of one origin are full.</summary>
    [ParamsSource(nameof(OriginCounts))]
    public int Origins { get; set; }

    public static IEnumerable<int> WaiterCounts { get; } = [10, 1_000, 10_000];

    public static IEnumerable<int> TenantCounts { get; private set; } = [];

    public static IEnumerable<int> OriginCounts { get; private set; } = [];

    /// <summary>Runs it, and prints what an event costs beside what it costs with 10 waiters.</summary>
    public static int Run(int iterations, int[] tenants, int[] origins)
    {
        (TenantCounts, OriginCounts) = (tenants, origins);

        // In this process: a benchmark project of its own would need the names that this one sees of the library.
        var job = Job.Default.WithToolchain(InProcessEmitToolchain.Instance).WithWarmupCount(4).WithIterationCount(iterations).WithIterationTime(TimeInterval.FromMilliseconds(100)).WithClock(new ProcessorClock());
        var config = ManualConfig.CreateEmpty().AddJob(job).AddColumnProvider(DefaultColumnProviders.Instance).AddLogger(NullLogger.Instance)
            .WithOptions(ConfigOptions.DisableLogFile | ConfigOptions.DisableOptimizationsValidator).WithArtifactsPath(Path.Combine(Path.GetTempPath(), "warmline-bench"));
        var summary = BenchmarkRunner.Run<SchedulerCost>(config);
        Console.WriteLine($"BenchmarkDotNet 0.14.0, .NET {Environment.Version}, {Environment.ProcessorCount} cores; median of {iterations} iterations, ns of processor time and bytes an event");
        Console.WriteLine($"{"",-14} {"origins",8} {"lanes",6} {"tenants",8} {"10 waiters",11} {"1,000",9} {"10,000",9} {"of 10's",8} {"bytes",6}");
        foreach (var row in summary.Reports.Where(report => report.Success).GroupBy(report => (report.BenchmarkCase.Descriptor.WorkloadMethod.Name, Origins: Value(report, nameof(Origins)), Lanes: Value(report, nameof(Lanes)), Tenants: Value(report, nameof(Tenants)))))
        {
            var medians = row.OrderBy(report => (int)Value(report, nameof(Waiters))).Select(report => report.ResultStatistics!.Median).ToArray();
            var bytes = row.Max(report => report.GcStats.GetBytesAllocatedPerOperation(report.BenchmarkCase) ?? 0);
            Console.WriteLine($"{row.Key.Name,-14} {row.Key.Origins,8} {row.Key.Lanes,6} {row.Key.Tenants,8} {string.Join(" ", medians.Select((ns, i) => i == 0 ? $"{ns,11:0}" : $"{ns,9:0}"))} {medians[^1] / medians[0],8:0.00} {bytes,6}");
        }

        return summary.Reports.All(report => report.Success) && summary.Reports.Length > 0 ? 0 : 1;

        static object Value(BenchmarkDotNet.Reports.BenchmarkReport report, string name) => report.BenchmarkCase.Parameters[name];
    }

    [GlobalSetup]
    public void Fill()
    {
        var lanes = new Dictionary<string, LaneSettings>();
        if (Lanes)
        {
            lanes["stream"] = new LaneSettings("stream", 10, int.MaxValue, int.MaxValue, CallTimeouts.Default);
            lanes["batch"] = new LaneSettings("batch", 0, int.MaxValue, int.MaxValue, CallTimeouts.Default);
        }

        (_random, _now, _tenants) = (new Random(1), TimeSpan.FromHours(1), [.. Enumerable.Range(0, Tenants).Select(i => Tenants == 1 ? "" : $"tenant-{i}")]);
        _scheduler = new Scheduler(
            new SchedulerLimits
            {
                MaxConnections = Origins == 1 ? Places / MaxStreams : 16,
                MaxConcurrentRequests = Origins == 1 ? int.MaxValue : Places,
                MaxStreamsPerConnection = MaxStreams,
                TargetStreams = MaxStreams,
                MaxQueueLength = int.MaxValue,
                ConnectionLifetime = Timeout.InfiniteTimeSpan,
                Sharing = new SharingSettings { Lanes = lanes },
            },
            seed: 1);
        _leased.Clear();
        _spare.Clear();
        _waiting.Clear();
        while (_waiting.Count < Waiters || _leased.Count < Places)
        {
            Ask();
            for (var i = 0; i < _actions.Count; i++)   // what was told grows while it is answered
            {
                if (_actions[i].Kind is ActionKind.Dial)
                {
                    _scheduler.DialSucceeded(_actions[i].Connection, true, TimeSpan.FromMilliseconds(1), _now, _actions);
                    _scheduler.SettingsSeen(_actions[i].Connection, 100, _now, _actions);
                }
            }

            Take();
        }

        while (_waiting.Count > Waiters)
        {
            GiveUp();
        }
    }

    [Benchmark(OperationsPerInvoke = 2 * Rounds)]
    public void WaitAndGrant()
    {
        for (var i = 0; i < Rounds; i++)
        {
            Ask();
            Take();
            End();
            Take();
        }
    }

    [Benchmark(OperationsPerInvoke = 2 * Rounds)]
    public void WaitAndCancel()
    {
        for (var i = 0; i < Rounds; i++)
        {
            Ask();
            Take();
            GiveUp();
            Take();
        }
    }

    void Ask()
    {
        var call = _spare.TryPop(out var used) ? used : new Call();
        _now += TimeSpan.FromTicks(50);
        call.LaneName = !Lanes ? "" : _random.Next(2) == 0 ? "stream" : "batch";
        call.TenantName = _tenants[_random.Next(_tenants.Length)];
        call.Deadline = _now + TimeSpan.FromMinutes(10);
        call.At = _waiting.Count;
        _waiting.Add(call);
        _scheduler.Acquire(call, _keys[_random.Next(Origins)], _now, _actions);
    }

    void End()
    {
        var call = _leased.Dequeue();
        _now += TimeSpan.FromTicks(50);
        _scheduler.Release(call, LeaseOutcome.Reusable, _now, _actions);
        _spare.Push(call);
    }

    void GiveUp()
    {
        var call = _waiting[_random.Next(_waiting.Count)];
        _now += TimeSpan.FromTicks(50);
        _scheduler.Cancel(call, _now, _actions);
        Forget(call);
        _spare.Push(call);
    }

    void Take()
    {
        foreach (var action in _actions)
        {
            if (action.Kind is ActionKind.Grant)
            {
                var call = (Call)action.Waiter;
                Forget(call);
                _leased.Enqueue(call);
            }
        }

        _actions.Clear();
    }

    /// <summary>Out of the list of those who wait, in no order.</summary>
    void Forget(Call call)
    {
        var last = _waiting[^1];
        (_waiting[call.At], last.At) = (last, call.At);
        _waiting.RemoveAt(_waiting.Count - 1);
    }

    sealed class Call : Waiter
    {
        /// <summary>Where it is among those who wait.</summary>
        public int At { get; set; }
    }

    /// <summary>The processor time of this process: what others do on the machine meanwhile is not in it, but for the caches that they take.</summary>
    internal sealed class ProcessorClock : IClock
    {
        public string Title => "processor time";

        public bool IsAvailable => true;

        public Frequency Frequency => new(TimeSpan.TicksPerSecond);

        public long GetTimestamp() => Environment.CpuUsage.TotalTime.Ticks;
    }
}
