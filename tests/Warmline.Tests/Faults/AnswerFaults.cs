using Warmline.Tests.Http;
using Warmline.Tests.Support;
using static Warmline.Tests.Faults.Http2Faults;
using static Warmline.Tests.Faults.Steps;

namespace Warmline.Tests.Faults;

/// <summary>Answers that do not come, break off or are none, and errors that are answers.</summary>
internal static class AnswerFaults
{
    const string Json = "Content-Type: application/json\r\n";
    const string Ping = ": keep-alive\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n";

    public const string NoClock = "before the headers only `HttpClient.Timeout` (100 s by default) would end it";
    const string NoReadClock = "no clock of the platform's runs while a body is read as a stream";

    static readonly TimeSpan Gap = TimeSpan.FromSeconds(20);

    public static Fault[] All =>
    [
        new("no headers", Once) { First = [Take, Silence], Reason = NoClock },
        new("silence in mid-body", Once) { First = [Take, Head, Part, Silence], Reason = NoReadClock },
        new("only pings, for 20 minutes", Dripped)
        { First = [Take, Head, Part, Drip(Ping, 60, Gap), Tell("pinged"), Silence], Reason = "bytes come, so a read clock alone would be content; the pool knows events from pings" },
        new("only blank lines where JSON should come, for 20 minutes", Dripped)
        { First = [Take, HeadOf(headers: Json), Drip("\n", 60, Gap), Tell("pinged"), Silence], Reason = "whitespace is no content: https://www.rfc-editor.org/rfc/rfc8259#section-2" },
        new("blank lines for 5 minutes, then JSON", Once) { First = [Take, HeadOf(headers: Json), Drip("\n", 15, Gap), Say("{}"), End] },
        new("a letter every 20 s, for 10 minutes", Once) { First = [Take, Head, Drip("x", 30, Gap), End] },
        new("JSON of which a letter comes every 20 s, for 20 minutes", Once) { First = [Take, HeadOf(headers: Json), Drip("1", 60, Gap), End] },
        new("the body ends before its length, with the connection", Once) { First = [Take, HeadOf(length: 100), Part, Heard, Fin] },
        new("the body ends before its length, in good order", Once) { First = [Take, HeadOf(length: 100), Part, End], On = On.Http2, Reason = "the platform does not compare the two on HTTP/2" },
        new("the body ends without its last chunk, with the connection", Once) { First = [Take, Head, Part, Heard, Fin] },
        new("the body ends without its last chunk behind the terminal event, with the connection", Once) { First = [Take, Head, Part, Say("data: [DONE]\n\n"), Heard, Fin] },
        new("the body ends within a chunk, with the connection", Once) { First = [Take, Head, Part, Heard, Raw("40\r\nhalf"), Fin], On = On.Http1 },
        new("RST in mid-body", Once) { First = [Take, Head, Part, Heard, Reset] },
        new("nonsense instead of an answer", Once) { First = [Take, Raw("This is neither a status line nor a frame, but it ends as a head does.\r\n\r\n"), Fin] },
        new("nonsense instead of a chunk", Once) { First = [Take, Head, Part, Heard, Raw("zz top\r\n"), Fin], On = On.Http1 },
        new("a frame of the wrong size in mid-stream", Once) { First = [Take, Head, Part, Heard, Frame(RawHttp2Server.Settings, 0, 0, 1, 2, 3, 4, 5), Silence], On = On.Http2 },
        new("100 KB of headers", Once) { First = [Take, HeadOf(headers: $"x-big: {new string('x', 100 * 1024)}\r\n"), Part, End] },
        new("429 with Retry-After", Once) { First = [AnswerWith(429, "Retry-After: 1\r\n")] },
        new("503", Once) { First = [AnswerWith(503)] },
        new("529 (overloaded)", Once) { First = [AnswerWith(529)] },
        new("an error event inside a 200 stream", Once)
        {
            First = [Take, Head, Part, Say("event: error\ndata: {\"type\": \"error\", \"error\": {\"type\": \"overloaded_error\", \"message\": \"Overloaded\"}}\n\n"), End],
        },
    ];

    static async Task Dripped(Stage s)
    {
        var call = s.Send();
        await s.Server.CuedAsync("pinged").WaitAsync(Stage.Ct);
        await s.PlayedAsync();
        if (!await s.ComesAsync(call.Task, unhurried: 1))
        {
            await Stage.LeaveAsync(call);
            s.Note = "open all the time";
        }
    }
}
