using System.Net;
using Warmline.MockLlm;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>
/// Every place at which a call can wait, against everything that can end it there: the right error, and nothing left behind: a pool that may carry one call at a
/// time carries the next one.
/// </summary>
public sealed class CancellationMatrixTests
{
    /// <summary>
    /// What becomes of the call. A dash: the cause has nothing to say at that place, and the call goes on.
    /// </summary>
    const string Expected = """
                 Caller     Pool     Connect                Write          FirstByte          Read          Total          Dispose           Reset
        Dns      cancelled  timeout  connect:Dns            -              -                  -             timeout        refused:Disposed  -
        Tcp      cancelled  timeout  connect:Tcp            -              -                  -             timeout        refused:Disposed  -
        Tls      cancelled  timeout  connect:Tls            -              -                  -             timeout        refused:Disposed  connect:Tls
        Settings cancelled  -        connect:Http2Settings  -              stalled:FirstByte  -             stalled:Total  aborted           connect:Http2Settings
        Queue    cancelled  timeout  -                      -              -                  -             timeout        refused:Disposed  served
        Upload   cancelled  -        -                      stalled:Write  -                  -             stalled:Total  aborted           broken
        Source   cancelled  -        -                      -              -                  -             stalled:Total  aborted           broken
        Headers  cancelled  -        -                      -              stalled:FirstByte  -             stalled:Total  aborted           broken
        Body     cancelled  -        -                      -              -                  stalled:Read  stalled:Total  aborted           IOException
        """;

    static readonly TimeSpan Limit = TimeSpan.FromHours(1);

    public enum Place
    {
        Dns,
        Tcp,
        Tls,
        Settings,
        Queue,
        Upload,
        Source,
        Headers,
        Body,
    }

    public enum Cause
    {
        Caller,
        Pool,
        Connect,
        Write,
        FirstByte,
        Read,
        Total,
        Dispose,
        Reset,
    }

    public static IEnumerable<TheoryDataRow<bool, Place, Cause, string>> Cells()
    {
        var lines = Expected.Split('\n').Select(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries)).ToArray();
        foreach (var http2 in new[] { true, false })
        {
            foreach (var line in lines[1..])
            {
                var place = Enum.Parse<Place>(line[0]);
                foreach (var (cause, outcome) in lines[0].Zip(line[1..]))
                {
                    if (http2 || place is not Place.Settings)
                    {
                        yield return new(http2, place, Enum.Parse<Cause>(cause), outcome);
                    }
                }
            }
        }
    }

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Cells))]
    public async Task A_call_ends_as_it_should_and_leaves_nothing_behind(bool http2, Place place, Cause cause, string expected)
    {
        var time = new ManualTime();
        await using var relay = new Relay(new SystemNetwork(new TcpKeepAliveOptions()));
        var dial = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        relay.Dns = place is Place.Dns ? dial.Task : relay.Dns;
        relay.Tcp = place is Place.Tcp ? dial.Task : relay.Tcp;
        var fault = true;
        var mock = new MockLlmOptions
        {
            OnConnection = _ => !Volatile.Read(ref fault) ? null : place switch
            {
                Place.Tls => new() { Act = MockConnectionAct.Silent },
                Place.Settings => new() { Act = MockConnectionAct.SilentAfterTls },
                _ => null,
            },
            OnRequest = request => !Volatile.Read(ref fault) ? null : place switch
            {
                Place.Headers => new() { DelayBeforeHeaders = Timeout.InfiniteTimeSpan },
                Place.Upload => new() { BeforeBody = true, DelayBeforeHeaders = Timeout.InfiniteTimeSpan },
                _ => null,
            },
        };
        mock.Protocols = http2 ? mock.Protocols : Microsoft.AspNetCore.Server.Kestrel.Core.HttpProtocols.Http1;
        await using var rig = await Rig.StartAsync(
            options =>
            {
                options.MaxConcurrentRequests = 1;   // a lease that is lost stops the pool
                (options.IdleTimeout, options.ConnectionLifetime) = (Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
                options.Timeouts = Clocks(Cause.Dispose);
                options.Timeouts.Connect = cause is Cause.Connect ? Limit : Limit * 500;
            },
            mock, time, relay);

        // 1 The call comes to the place, with one clock that runs.
        if (place >= Place.Queue)
        {
            await rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 1, Rig.Ct);   // a server may have the request before its own SETTINGS were read
        }

        var gate = new Gate();
        var running = place is Place.Queue ? await rig.HoldAsync(1, gate) : [];
        using var caller = new CancellationTokenSource();
        var content = place is Place.Upload or Place.Source ? new LongContent(endless: place is Place.Upload) : null;
        var reading = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var call = OutcomeAsync(rig, place, Clocks(cause), content, reading, caller.Token);
        await Task.WhenAny(call, ReachedAsync(rig, relay, place, content, reading.Task));
        Assert.False(call.IsCompleted, call.IsCompleted ? await call : "");

        // 2 The cause comes.
        switch (cause)
        {
            case Cause.Caller:
                await caller.CancelAsync();
                break;
            case Cause.Dispose:
                await rig.Pool.DisposeAsync();
                break;
            case Cause.Reset:
                relay.Reset();
                gate.Open();   // on HTTP/1.1 the other call meets the reset when it writes on
                break;
        }

        if (expected == "-")
        {
            for (var i = 0; i < 3; i++)
            {
                time.Advance(Limit * 2);
                Assert.False(call.IsCompleted, call.IsCompleted ? await call : "");
            }

            await caller.CancelAsync();
            expected = "cancelled";
        }
        else if (cause is not (Cause.Caller or Cause.Dispose or Cause.Reset))
        {
            // In steps: the call may not wait yet at the moment of the first.
            await Eventually.TrueAsync(() => Step(time, Limit * 2, call), () => Rig.Describe(rig.Stats));
        }

        // 3 The call has ended as it should. A broken connection that carried nothing yet is followed by a pause before the next dial.
        await Eventually.TrueAsync(
            () =>
            {
                if (place is Place.Settings && cause is Cause.Reset)
                {
                    relay.Reset();   // again: a request that was not written yet moved to another connection
                }

                return Step(time, TimeSpan.FromMilliseconds(100), call);
            },
            () => Rig.Describe(rig.Stats));
        var outcome = await call;
        if (place is Place.Settings && cause is Cause.Connect && outcome == "connect:Tls")
        {
            outcome = expected;   // it was not written yet, moved to another connection, and the clock ended that one's dial
        }

        if (place is Place.Tls && cause is Cause.Connect && outcome == "connect:Tcp")
        {
            outcome = expected;   // the clock ended the dial that had been started beside the silent one
        }

        Assert.Equal(expected, outcome);

        // 4 Nothing is left of it.
        Volatile.Write(ref fault, false);
        dial.SetResult();
        gate.Open();
        if (place is Place.Tls or Place.Settings)
        {
            relay.Reset();   // that connection would stay silent; where the platform was never asked for it, the clock ends it
            time.Advance(Limit * 501);
            await rig.StatsAsync(stats => stats.Connections == 0);
        }

        await Eventually.TrueAsync(() => running.All(other => other.IsCompleted));
        await rig.QuietAsync();
        Assert.Empty(rig.Pool.GetStreams());
        Assert.Empty(rig.Pool.GetWaiters());
        if (cause is not Cause.Dispose)
        {
            var next = rig.CallAsync();
            await Eventually.TrueAsync(() => Step(time, TimeSpan.FromMilliseconds(100), next), () => Rig.Describe(rig.Stats));   // a failed dial is followed by a pause
            await next;
        }
    }

    static bool Step(ManualTime time, TimeSpan by, Task call)
    {
        time.Advance(by);
        return call.IsCompleted;
    }

    /// <summary>All clocks of a call off, except for one.</summary>
    static PoolTimeouts Clocks(Cause only)
    {
        TimeSpan Of(Cause clock) => clock == only ? Limit : Timeout.InfiniteTimeSpan;
        return new() { Pool = Of(Cause.Pool), Write = Of(Cause.Write), FirstByte = Of(Cause.FirstByte), Read = Of(Cause.Read), Total = Of(Cause.Total) };
    }

    static async Task ReachedAsync(Rig rig, Relay relay, Place place, LongContent? content, Task reading)
    {
        switch (place)
        {
            case Place.Dns:
                await Eventually.TrueAsync(() => relay.Resolving == 1 && rig.Stats.Queued == 1);
                break;
            case Place.Tcp:
                await Eventually.TrueAsync(() => relay.Connecting == 1);
                break;
            case Place.Tls:
                await rig.MockAsync(counters => counters.ConnectionsOpen == 1);
                await Eventually.TrueAsync(() => relay.Sent > 0);
                break;
            case Place.Settings:
                await rig.StatsAsync(stats => stats.Active == 1);
                await rig.MockAsync(counters => counters.TlsHandshakes == 1);
                break;
            case Place.Queue:
                await rig.StatsAsync(stats => stats is { Active: 1, Queued: 1 });
                break;
            case Place.Headers:
                await rig.MockAsync(counters => counters.StreamsOpen == 1);
                break;
            case Place.Upload or Place.Source:
                await content!.Begun;
                await rig.MockAsync(counters => counters.StreamsOpen == 1);
                break;
            default:
                await reading;
                break;
        }
    }

    static async Task<string> OutcomeAsync(Rig rig, Place place, PoolTimeouts clocks, LongContent? content, TaskCompletionSource reading, CancellationToken caller)
    {
        using var request = (place is Place.Body ? Calls.Stream(tokens: 2, gapMilliseconds: 3_600_000) : Calls.Chat()).With(new PoolRequestOptions { Timeouts = clocks });
        request.Content = content ?? request.Content;
        try
        {
            using var response = await rig.SendAsync(request, caller);
            var body = await response.Content.ReadAsStreamAsync(caller);
            var buffer = new byte[4096];
            while (await body.ReadAsync(buffer, caller) > 0)
            {
                reading.TrySetResult();
            }

            return "served";
        }
        catch (Exception error)
        {
            return error switch
            {
                OperationCanceledException cancelled when cancelled.CancellationToken == caller && caller.IsCancellationRequested => "cancelled",
                PoolTimeoutException => "timeout",
                PoolRejectedException refused => $"refused:{refused.Reason}",
                PoolConnectException failed => $"connect:{failed.Phase}",
                RequestStalledException stalled => $"stalled:{stalled.Phase}",
                PoolAbortedException => "aborted",
                PoolRequestException => "broken",
                IOException => nameof(IOException),   // what a stream's reader expects, and HttpClient turns into an HttpRequestException where it reads
                _ => error.ToString(),
            };
        }
    }

    /// <summary>A body that begins and does not end: more than any window takes, or a source that has no more to give for now.</summary>
    sealed class LongContent(bool endless) : HttpContent
    {
        readonly TaskCompletionSource _begun = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public Task Begun => _begun.Task;

        protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) => SerializeToStreamAsync(stream, context, CancellationToken.None);

        protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken)
        {
            var piece = new byte[64 * 1024];
            await stream.WriteAsync(piece, cancellationToken);
            await stream.FlushAsync(cancellationToken);
            _begun.TrySetResult();
            while (endless)
            {
                await stream.WriteAsync(piece, cancellationToken);
            }

            await FakeNetwork.StallAsync<int>(cancellationToken);
        }

        protected override bool TryComputeLength(out long length)
        {
            length = 0;
            return false;
        }
    }
}
