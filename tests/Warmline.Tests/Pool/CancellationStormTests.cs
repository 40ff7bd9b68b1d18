using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using Warmline.MockLlm;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>Alone in the process: unobserved exceptions and sockets are counted for all of it.</summary>
[CollectionDefinition(nameof(Alone), DisableParallelization = true)]
public sealed class Alone;

/// <summary>
/// Requests that are cancelled at every point of their way, over real sockets: whatever happens to a call, it gives back all that it took.
/// <c>WARMLINE_STORM_CALLS</c> and <c>WARMLINE_STORM_SEED</c> in the environment set how many calls and repeat a run.
/// </summary>
[Collection(nameof(Alone))]
public sealed class CancellationStormTests(ITestOutputHelper output)
{
    const int Workers = 48;

    static readonly int TotalCalls = Setting("WARMLINE_STORM_CALLS") ?? 100_000;

    enum Way
    {
        Finish,
        BeforeTheCall,
        AfterAMoment,
        WhenTheHeadersCame,
        WhileReading,
        DisposeUnread,
        DisposeWhileReading,
    }

    [Theory(Timeout = 600_000)]
    [InlineData(true, 80)]
    [InlineData(false, 20)]
    public async Task Calls_cancelled_at_random_points_leave_nothing_behind(bool http2, int percent)
    {
        var total = TotalCalls * percent / 100;
        var seed = Setting("WARMLINE_STORM_SEED") ?? Random.Shared.Next();
        output.WriteLine($"{total} calls, WARMLINE_STORM_SEED={seed}");
        var unobserved = new ConcurrentQueue<Exception>();
        void Note(object? sender, UnobservedTaskExceptionEventArgs args) => unobserved.Enqueue(args.Exception);
        TaskScheduler.UnobservedTaskException += Note;
        var unexpected = new ConcurrentQueue<string>();
        var ends = new ConcurrentDictionary<string, int>();
        int port;
        try
        {
            // Fewer places than workers, so that calls queue; now and then all connections are replaced, so that calls meet dials and ends.
            var rig = await Rig.StartAsync(http2, options => (options.MaxConnections, options.MaxConcurrentRequests, options.MaxIdleConnections) = (12, 32, 4));
            port = rig.Mock.BaseAddress.Port;
            var begun = 0;
            await Task.WhenAll(Enumerable.Range(0, Workers).Select(worker => Task.Run(async () =>
            {
                var random = new Random(seed + worker);
                for (int i; (i = Interlocked.Increment(ref begun)) <= total;)
                {
                    if (i % 997 == 0)
                    {
                        rig.Pool.Reconnect();
                    }

                    var end = await CallAsync(rig, random);
                    ends.AddOrUpdate(end, 1, static (_, count) => count + 1);
                    if (end.StartsWith('!'))
                    {
                        unexpected.Enqueue(end);
                    }
                }
            })));

            output.WriteLine(string.Join(", ", ends.OrderBy(end => end.Key, StringComparer.Ordinal).Select(end => $"{end.Key}: {end.Value}")));
            output.WriteLine(Rig.Describe(rig.Stats));
            Assert.Empty(unexpected.Take(5));
            await rig.QuietAsync();
            Assert.Equal((0, 0), (rig.Stats.Active, rig.Stats.Queued));
            Assert.InRange(rig.Stats.PeakConnections, 1, 12);
            Assert.InRange(rig.Stats.PeakActive, 1, 32);
            Assert.Equal(0, rig.Counters.StreamsBeyondLimit);
            Assert.DoesNotContain(rig.Logs.Entries, entry => entry.Level >= Microsoft.Extensions.Logging.LogLevel.Error);
            await rig.CallAsync();   // and the pool still works

            await rig.Pool.DisposeAsync();
            Assert.Equal((0, 0, 0), (rig.Stats.Active, rig.Stats.Queued, rig.Stats.Connections));
            await rig.MockAsync(counters => counters is { ConnectionsOpen: 0, StreamsOpen: 0 });
            await Eventually.TrueAsync(() => Sockets.To(port) == 0, () => $"{Sockets.To(port)} sockets are left");
            await rig.DisposeAsync();
        }
        finally
        {
            for (var i = 0; i < 3; i++)
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
                await Task.Yield();
            }

            TaskScheduler.UnobservedTaskException -= Note;
        }

        Assert.True(unobserved.IsEmpty, string.Join("\n\n", unobserved.Take(3)));
    }

    static async Task<string> CallAsync(Rig rig, Random random)
    {
        var way = (Way)random.Next(0, (int)Way.DisposeWhileReading + 1);
        using var cancel = new CancellationTokenSource();
        if (way is Way.BeforeTheCall)
        {
            await cancel.CancelAsync();
        }

        using var request = random.Next(3) switch
        {
            0 => Calls.Chat(),
            1 => Calls.Stream(tokens: random.Next(1, 200), gapMilliseconds: 0),
            _ => Calls.Stream(tokens: 1_000, gapMilliseconds: random.Next(1, 4)),
        };
        if (random.Next(4) == 0)
        {
            request.Content = new ByteArrayContent(new byte[random.Next(1, 200_000)]);
        }

        try
        {
            var sending = rig.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancel.Token);
            if (way is Way.AfterAMoment || (way is Way.Finish && request.Headers.Contains("x-mock-token-gap-ms")))
            {
                await MomentAsync(random);
                await cancel.CancelAsync();
            }

            var response = await sending;
            switch (way)
            {
                case Way.DisposeUnread:
                    response.Dispose();
                    return "disposed unread";
                case Way.WhenTheHeadersCame:
                    await cancel.CancelAsync();
                    break;
            }

            await using var body = await response.Content.ReadAsStreamAsync(Rig.Ct);
            var buffer = new byte[random.Next(1, 4096)];
            var reads = way is Way.WhileReading or Way.DisposeWhileReading ? random.Next(0, 12) : int.MaxValue;
            for (; reads > 0 && await body.ReadAsync(buffer, cancel.Token) > 0; reads--)
            {
            }

            if (way is Way.DisposeWhileReading)
            {
                response.Dispose();
                return "disposed in mid-body";
            }

            if (way is Way.WhileReading)
            {
                var reading = body.ReadAsync(buffer, cancel.Token).AsTask();
                await cancel.CancelAsync();
                await reading;
                response.Dispose();
                return "left in mid-body";
            }

            if (random.Next(2) == 0)
            {
                response.Dispose();
            }

            return "finished";
        }
        catch (OperationCanceledException error) when (cancel.IsCancellationRequested)
        {
            return error.CancellationToken == cancel.Token ? "cancelled" : $"!foreign token: {error}";
        }
        catch (Exception error)
        {
            return $"!{error}";
        }
    }

    /// <summary>From nothing up to some milliseconds, in steps that no clock makes: the call is at another point of its way each time.</summary>
    static async Task MomentAsync(Random random)
    {
        for (var hops = random.Next(2) == 0 ? random.Next(0, 5) : random.Next(0, 400); hops > 0; hops--)
        {
            await Task.Yield();
        }
    }

    static int? Setting(string name) => int.TryParse(Environment.GetEnvironmentVariable(name), NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : null;
}
