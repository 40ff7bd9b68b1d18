using Warmline.Tests.Http;
using Warmline.Tests.Support;
using static Warmline.Tests.Faults.Steps;

namespace Warmline.Tests.Faults;

/// <summary>What an HTTP/2 server may say about its connections and streams, and connections that many streams share.</summary>
internal static class Http2Faults
{
    const int Burst = 40;
    const string NoQueueClock = "waiting for a stream has no clock in the platform";
    const string AnyContent = "the pool gives a body again where it knows that it can be given (bytes, text, parts made of them, JSON that it serialised ahead); the platform tries with any";
    const string Spread = "the platform fills one connection before it opens the next";

    public static Fault[] All =>
    [
        new("GOAWAY above a running stream; a second call", async s =>
        {
            await s.CallAsync();
            await s.CallAsync();
        })
        { First = [Take, Head, Part, GoAwayAbove, Part, End], On = On.Http2 },
        new("GOAWAY below a running stream", Once) { First = [GoAwayBelow], On = On.Http2 },
        new("GOAWAY below a stream whose body cannot be sent again", s => s.CallAsync(Contents.OneShot)) { First = [GoAwayBelow], On = On.Http2 },
        new("GOAWAY below a stream in its upload", s => s.CallAsync(Contents.Slow))
        {
            First = [GoAwayBelowUpload], On = On.Http2, AnyReason = true, BareLosesAtTimes = true, Reason = AnyContent,
        },
        new("GOAWAY below a stream in its upload of 200 KB of JSON from a content of an SDK", s => s.CallAsync(Contents.OwnJson)) { First = [GoAwayBelowUpload], On = On.Http2 },
        new("GOAWAY below on every connection", Once) { Script = static _ => [GoAwayBelow], On = On.Http2 },
        new("REFUSED_STREAM once", Once) { First = [Refuse], On = On.Http2 },
        new("REFUSED_STREAM for 30 of 40, once each", Refused(30, Burst)) { Script = static _ => [RefuseOrAnswer], On = On.Http2, MostConnections = 40 },
        new("REFUSED_STREAM for ever", Refused(int.MaxValue, 1)) { Script = static _ => [RefuseOrAnswer], On = On.Http2 },
        new("RST_STREAM (CANCEL) before the headers", Once) { First = [Take, Cancel], On = On.Http2 },
        new("RST_STREAM (CANCEL) in mid-stream", Once) { First = [Take, Head, Part, Heard, Cancel], On = On.Http2 },
        new("one connection dies under 40 streams, each on its own", Dies) { Script = DiesUnder, On = On.Http1, MostLost = 1 },
        new("one connection of eight dies under 40 streams", async s =>
        {
            await s.WarmUpAsync(8);
            await Dies(s);
        })
        { Script = DiesUnder, On = On.Http2, MostLost = 8, MostConnections = 8, Reason = Spread },
        new("SETTINGS lowered to 1 stream, then four calls", async s =>
        {
            await s.PrepareAsync();
            await s.CueAsync();
            await s.BurstAsync(4);
        })
        { First = [Answer, Cue, Allow(1)], On = On.Http2, Options = OneConnection },
        new("SETTINGS lowered to 0 streams, and raised while three calls wait", async s =>
        {
            await s.PrepareAsync();
            await s.CueAsync();
            var calls = new[] { s.Send(), s.Send(), s.Send() };
            await Eventually.TrueAsync(() => s.Stats is null or { Queued: 3 }, s.Describe);
            await s.CueAsync("raise");
            await s.EndAsync(calls);
        })
        { First = [Answer, Cue, Allow(0), CueFor("raise"), Allow(100)], On = On.Http2, Options = OneConnection },
        new("SETTINGS lowered to 0 streams for good, one connection allowed", Lowered) { First = [Answer, Cue, Allow(0), Silence], On = On.Http2, Options = OneConnection, Reason = NoQueueClock },
        new("SETTINGS lowered to 0 streams for good on one connection", Lowered) { First = [Answer, Cue, Allow(0), Silence], On = On.Http2, Reason = NoQueueClock },
        new("SETTINGS that never allow a stream", async s =>
        {
            s.Server.FirstStreamLimit = 0;
            await s.WarmUpAsync(1);   // or the first request may overtake them
            await s.CallAsync();
        })
        { Script = static _ => [Cue], On = On.Http2, MostConnections = 10, BareEither = ["hangs", "HttpRequestException (Unknown)"], Reason = NoQueueClock },
    ];

    public static Task Once(Stage s) => s.CallAsync();

    static async Task Lowered(Stage s)
    {
        await s.PrepareAsync();
        await s.CueAsync();
        await s.CallAsync();
    }

    static Func<Stage, Task> Refused(int refusals, int calls) => s =>
    {
        s.Server.Refusals = refusals;
        return s.BurstAsync(calls);
    };

    static Step[] DiesUnder(int number) => number == 0 ? [Gather(Burst), Cue, Reset] : [Gather(Burst), Cue, EndAll];

    static async Task Dies(Stage s)
    {
        var calls = Enumerable.Range(0, Burst).Select(_ => s.Send()).ToArray();
        await Eventually.TrueAsync(() => calls.All(call => call.Text.Length > 0), s.Describe);
        await s.CueAsync();
        await s.EndAsync(calls);
    }

    static void OneConnection(ConnectionPoolOptions options) => options.MaxConnections = 1;
}
