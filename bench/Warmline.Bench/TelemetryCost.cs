using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Diagnostics.Metrics;
using System.Net;
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

/// <summary>What metrics and spans cost a call, without the call: everything that <see cref="CallTelemetry"/> records, once.</summary>
[MemoryDiagnoser(displayGenColumns: false)]
[SuppressMessage("Design", "CA1001", Justification = "The runner calls End.")]
public class TelemetryCost
{
    const int Rounds = 1_000;

    ConnectionPool _pool = null!;
    PooledCall _call = null!;
    HttpRequestMessage _request = null!;
    Activity? _caller;
    MeterListener? _listener;
    ActivityListener? _spans;

    /// <summary>Who listens.</summary>
    [Params("nobody", "caller's trace", "metrics", "spans", "all")]
    public string Heard { get; set; } = "";

    public static int Run(int iterations)
    {
        var job = Job.Default.WithToolchain(InProcessEmitToolchain.Instance).WithWarmupCount(6).WithIterationCount(iterations).WithIterationTime(TimeInterval.FromMilliseconds(100)).WithClock(new SchedulerCost.ProcessorClock());
        var config = ManualConfig.CreateEmpty().AddJob(job).AddColumnProvider(DefaultColumnProviders.Instance).AddLogger(NullLogger.Instance)
            .WithOptions(ConfigOptions.DisableLogFile | ConfigOptions.DisableOptimizationsValidator).WithArtifactsPath(Path.Combine(Path.GetTempPath(), "warmline-bench"));
        var summary = BenchmarkRunner.Run<TelemetryCost>(config);
        Console.WriteLine($"BenchmarkDotNet 0.14.0, .NET {Environment.Version}, {Environment.ProcessorCount} cores; median of {iterations} iterations, ns of processor time and bytes a call");
        foreach (var report in summary.Reports.Where(static report => report.Success))
        {
            Console.WriteLine($"{report.BenchmarkCase.Parameters[nameof(Heard)],-16} {report.ResultStatistics!.Median,8:0.0} ns {report.ResultStatistics.Min,8:0.0} least {report.ResultStatistics.Max,8:0.0} most {report.GcStats.GetBytesAllocatedPerOperation(report.BenchmarkCase),6} bytes");
        }

        return summary.Reports.All(static report => report.Success) && summary.Reports.Length > 0 ? 0 : 1;
    }

    /// <summary>A listener that takes what is recorded and keeps nothing.</summary>
    public static MeterListener HearMetrics()
    {
        var listener = new MeterListener
        {
            InstrumentPublished = static (instrument, listener) =>
            {
                if (instrument.Meter.Name == "Warmline")
                {
                    listener.EnableMeasurementEvents(instrument);
                }
            },
        };
        listener.SetMeasurementEventCallback<double>(static (_, _, _, _) => { });
        listener.SetMeasurementEventCallback<long>(static (_, _, _, _) => { });
        listener.Start();
        return listener;
    }

    /// <summary>A listener that wants every span in full and keeps none.</summary>
    public static ActivityListener HearSpans()
    {
        var listener = new ActivityListener
        {
            ShouldListenTo = static source => source.Name == "Warmline",
            Sample = static (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
        };
        ActivitySource.AddActivityListener(listener);
        return listener;
    }

    [GlobalSetup]
    public void Place()
    {
        _pool = new ConnectionPool();
        _request = new HttpRequestMessage(HttpMethod.Post, "https://api.provider.example/v1/chat/completions");
        _call = new PooledCall(_pool.Engine, CallTimeouts.Default, CancellationToken.None);
        _listener = Heard is "metrics" or "all" ? HearMetrics() : null;
        _spans = Heard is "spans" or "all" ? HearSpans() : null;
        _caller = Heard is "caller's trace" ? new Activity("caller").Start() : null;

        // A place, by a scheduler of its own: nothing is dialled.
        List<SchedulerAction> actions = [];
        var scheduler = new Scheduler(new SchedulerLimits(), seed: 1);
        scheduler.Acquire(_call, new ConnectionKey(true, "api.provider.example", 443), TimeSpan.Zero, actions);
        var connection = actions.First(static action => action.Kind is ActionKind.Dial).Connection;
        scheduler.DialSucceeded(connection, false, TimeSpan.Zero, TimeSpan.Zero, actions);
        _call.HeadersCame(HttpStatusCode.OK);
    }

    [GlobalCleanup]
    public void End()
    {
        _caller?.Stop();
        _listener?.Dispose();
        _spans?.Dispose();
        _request.Dispose();
        _pool.Dispose();
    }

    [Benchmark(OperationsPerInvoke = Rounds)]
    public void Tell()
    {
        for (var i = 0; i < Rounds; i++)
        {
            _call.IsPlaceRecorded = false;
            CallTelemetry.Begin(_call, _request);
            CallTelemetry.BeginWait(_call);
            CallTelemetry.RecordPlace(_call);
            CallTelemetry.RecordHeaders(_call, 200);
            _call.Trace?.TakeBack(_request);
            CallTelemetry.RecordEnd(_call);
        }
    }
}
