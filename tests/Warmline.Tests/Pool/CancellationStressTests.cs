using System.Collections.Concurrent;
using System.Globalization;
using Warmline.MockLlm;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>Alone: it looks at what the whole process leaves unobserved.</summary>
[CollectionDefinition(nameof(CancellationStressTests), DisableParallelization = true)]
public sealed class AloneDefinition;

/// <summary>Calls given up at random points over real sockets: whatever the moment, nothing may be left behind.</summary>
[Collection(nameof(CancellationStressTests))]
public sealed class CancellationStressTests
{
    const int Workers = 64;

    /// <summary>Calls to give up in a normal run.</summary>
    const int Total = 20_000;

#pragma warning disable RS0030 // A fault comes at a random time; nothing is synchronised by it.
    static readonly TimeProvider Clock = TimeProvider.System;
#pragma warning restore RS0030

    /// <summary>Where a call is given up.</summary>
    enum Point
    {
        BeforeSending,
        AtOnce,
        SoonAfter,
        InTheWaitForHeaders,
        WhileReading,
        DisposedUnread,
        DisposedHalfRead,
    }

    [Theory(Timeout = 3_600_000)]
    [InlineData(true, 9)]
    [InlineData(false, 1)]
    public async Task Calls_cancelled_at_random_points_leave_nothing_behind(bool http2, int tenths)
    {
        var unobserved = new ConcurrentQueue<Exception>();
        Collect();
        void Unobserved(object? sender, UnobservedTaskExceptionEventArgs e) => unobserved.Enqueue(e.Exception);
        TaskScheduler.UnobservedTaskException += Unobserved;
        try
        {
            var (seed, total) = Seeds.Of(1, Total / 10 * tenths);
            await RunAsync(http2, total, seed);
            Collect();
            Assert.True(unobserved.IsEmpty, $"seed {seed}: {unobserved.Count} unobserved exceptions, the first: {unobserved.FirstOrDefault()}");
        }
        finally
        {
            TaskScheduler.UnobservedTaskException -= Unobserved;
        }
    }

    static async Task RunAsync(bool http2, int total, int seed)
    {
        // Few connections and fewer places than workers, so that calls are also given up in the queue; on HTTP/1.1 without TLS, as most cancels cost a connection.
        await using var mock = await MockLlmServer.StartAsync(new MockLlmOptions { UseTls = http2, Tokens = 4 }, cancellationToken: Rig.Ct);
        var pool = new ConnectionPool(Rig.Options(mock, o =>
        {
            o.MaxConnections = http2 ? 4 : 32;
            o.MaxConcurrentRequests = Workers * 3 / 4;
            o.Timeouts.Pool = Timeout.InfiniteTimeSpan;
            o.Timeouts.Connect = TimeSpan.FromSeconds(60);   // the machine may be busy; nothing here is about dials that take long
        }));
        using var client = pool.CreateClient(mock.BaseAddress);
        var abandoned = new int[Enum.GetValues<Point>().Length];
        var failures = new ConcurrentDictionary<string, int>();
        var left = total;
        await Task.WhenAll(Enumerable.Range(0, Workers).Select(worker => Task.Run(async () =>
        {
            var random = new Random(seed + worker);
            while (Volatile.Read(ref left) > 0)
            {
                var point = (Point)random.Next(abandoned.Length);
                try
                {
                    if (await GiveUpAsync(client, point, random))
                    {
                        Interlocked.Increment(ref abandoned[(int)point]);
                        if (Interlocked.Decrement(ref left) % 5_000 == 0)
                        {
                            pool.Reconnect();   // so that calls are given up during dials too
                        }
                    }
                }
                catch (Exception error) when (error is not OperationCanceledException)
                {
                    failures.AddOrUpdate($"{point}: {error.GetType().Name} {error.Message}", 1, static (_, count) => count + 1);
                }
            }
        })));

        Assert.True(failures.IsEmpty, $"seed {seed}: {string.Join("\n", failures)}");
        Assert.All(abandoned, count => Assert.True(count > 0, $"seed {seed}: a point was never reached: {string.Join(", ", abandoned)}"));
        await Eventually.TrueAsync(() => pool.GetStats() is { Active: 0, Queued: 0 }, () => $"seed {seed}: {Rig.Describe(pool.GetStats())}");
        Assert.Empty(pool.GetStreams());
        Assert.Empty(pool.GetWaiters());

        // The pool still works, and lets go of every socket.
        using (var response = await client.SendAsync(Calls.Chat(), Rig.Ct))
        {
            response.EnsureSuccessStatusCode();
        }

        await pool.DisposeAsync();
        Assert.Equal((0, 0, 0), (pool.GetStats().Active, pool.GetStats().Queued, pool.GetStats().Connections));
        await Eventually.TrueAsync(() => mock.GetCounters() is { ConnectionsOpen: 0, StreamsOpen: 0 }, () => mock.GetCounters().ToString());
    }

    /// <summary>One call, given up at that point; false when it was through before.</summary>
    static async Task<bool> GiveUpAsync(HttpClient client, Point point, Random random)
    {
        using var request = point is Point.InTheWaitForHeaders ? Calls.Chat(headers: ("x-mock-service-ms", "10000")) : Calls.Stream(tokens: 1_000, gapMilliseconds: 1);
        using var cancel = point is Point.InTheWaitForHeaders ? new CancellationTokenSource(TimeSpan.FromMilliseconds(random.Next(1, 6)), Clock) : new CancellationTokenSource();
        try
        {
            if (point is Point.BeforeSending)
            {
                await cancel.CancelAsync();
            }

            var sending = client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancel.Token);
            switch (point)
            {
                case Point.AtOnce:
                    await cancel.CancelAsync();
                    break;
                case Point.SoonAfter:
                    Thread.SpinWait(random.Next(20_000));
                    await cancel.CancelAsync();
                    break;
            }

            using var response = await sending;
            response.EnsureSuccessStatusCode();
            var body = await response.Content.ReadAsStreamAsync(CancellationToken.None);
            if (point is Point.DisposedUnread)
            {
                return true;
            }

            var buffer = new byte[256];
            await body.ReadExactlyAsync(buffer.AsMemory(0, random.Next(1, buffer.Length)), CancellationToken.None);
            if (point is Point.DisposedHalfRead)
            {
                return true;
            }

            var reading = body.ReadAsync(buffer, cancel.Token);
            await cancel.CancelAsync();
            while (await reading > 0)
            {
                reading = body.ReadAsync(buffer, cancel.Token);
            }

            return false;
        }
        catch (OperationCanceledException)
        {
            return true;
        }
    }

    static void Collect()
    {
        for (var i = 0; i < 3; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }
    }
}
