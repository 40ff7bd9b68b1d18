using Warmline.Tests.Http;
using static Warmline.Tests.Faults.Steps;

namespace Warmline.Tests.Faults;

/// <summary>Connections that die between two calls, or as the second goes out.</summary>
internal static class IdleFaults
{
    static readonly TimeSpan Moment = TimeSpan.FromSeconds(2);

    const string Taken = AnswerFaults.NoClock + ". Here whoever drops the call takes its bytes, as some load balancers do; where packets are lost instead, TCP's probes tell the pool before the call ([pauses](performance.md))";

    public static Fault[] All =>
    [
        new("FIN while idle", EndsWhileIdle) { First = [Answer, Cue, Fin] },
        new("FIN without TLS's close_notify while idle", EndsWhileIdle) { First = [Answer, Cue, FinBelowTls] },
        new("RST while idle", EndsWhileIdle) { First = [Answer, Cue, Reset] },
        new("GOAWAY while idle", EndsWhileIdle) { First = [Answer, Cue, GoAwayAbove], On = On.Http2 },
        new("FIN as the next request comes, before it was read", Reused) { First = [Answer, Arrives, Fin], AnyReason = true },
        new("FIN when the next request was read", Reused) { First = [Answer, Take, Fin], AnyReason = true },
        new("RST as the next request comes, before it was read", Reused) { First = [Answer, Arrives, Reset], AnyReason = true },
        new("RST when the next request was read", Reused) { First = [Answer, Take, Reset], AnyReason = true },
        new("silent drop while idle: the call that meets it, and the next", Twice) { First = [Answer, BlackHole], On = On.Http1, Reason = Taken },
        new("silent drop while idle, with PINGs: the call that meets it, and the next", async s =>
        {
            await s.PrepareAsync();
            await s.EndByAsync("Http2.PingTimeout", s.Send());
            await s.CallAsync();
        })
        { First = [Answer, BlackHole], On = On.Http2, Reason = "the platform pings only where it is told to", Options = static options => (options.Http2.PingDelay, options.Http2.PingTimeout) = (TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(1)) },
        new("silent drop while idle, without PINGs: the call that meets it, and the next", Twice) { First = [Answer, BlackHole], On = On.Http2, Reason = Taken },
        new("silent drop of two idle connections: three calls", async s =>
        {
            await s.PrepareAsync(2);
            await Twice(s);
            await s.CallAsync();
        })
        { Script = static number => number < 2 ? [Gather(2), EndAll, BlackHole] : [], On = On.Http1, Reason = Taken },
        new("the server closes what is idle for 5 s: calls after pauses from 0 to 9 s", async s =>
        {
            for (var pause = 0; pause < 10; pause++)
            {
                await s.IdleAsync(TimeSpan.FromSeconds(pause));
                await s.CallAsync();
            }
        })
        { First = [CloseWhenIdleFor(TimeSpan.FromSeconds(5))], Rest = [CloseWhenIdleFor(TimeSpan.FromSeconds(5))] },
    ];

    static async Task EndsWhileIdle(Stage s)
    {
        await s.PrepareAsync();
        await s.CueAsync();
        await s.IdleAsync(Moment);
        await s.CallAsync();
    }

    static async Task Reused(Stage s)
    {
        await s.PrepareAsync();
        await s.CallAsync();
    }

    static async Task Twice(Stage s)
    {
        if (s.Calls.Count == 0)
        {
            await s.PrepareAsync();
        }

        await s.CallAsync();
        await s.CallAsync();
    }
}
