using Warmline.Tests.Http;
using static Warmline.Tests.Faults.Http2Faults;
using static Warmline.Tests.Faults.Steps;

namespace Warmline.Tests.Faults;

/// <summary>Uploads that are cut or answered early, streams that are left, tails behind a terminal event.</summary>
internal static class EndFaults
{
    static readonly CallKind UntilDone = new() { StopAt = "[DONE]" };

    static Step Done => Say("data: [DONE]\n\n");

    public static Fault[] All =>
    [
        new("the server dies in the upload, by RST", s => s.CallAsync(Contents.Slow)) { First = [TakeHead, Uploaded(4096), Reset] },
        new("the server dies in the upload, by FIN", s => s.CallAsync(Contents.Slow)) { First = [TakeHead, Uploaded(4096), Fin] },
        new("the server reads no more of the upload", s => s.CallAsync(Contents.Large)) { First = [TakeHead, BlackHole] },
        new("401 before the upload's end", s => s.CallAsync(Contents.Slow)) { First = [TakeHead, Uploaded(4096), HeadOf(length: 2, status: 401), Say("no"), End, Silence] },
        new("413 before the upload's end, then RST", s => s.CallAsync(Contents.Slow)) { First = [TakeHead, Uploaded(4096), HeadOf(length: 2, status: 413), Say("no"), End, Cue, Reset] },
        new("the caller leaves before the headers", async s =>
        {
            var call = s.Send();
            await s.Server.CuedAsync("taken").WaitAsync(Stage.Ct);
            await Stage.LeaveAsync(call);
            await ServerSeesItAsync(s);
        })
        { First = [Take, CueOthers("taken"), Silence] },
        new("the caller leaves in mid-stream", async s =>
        {
            await s.CallAsync(new CallKind { StopAt = "something" });
            await ServerSeesItAsync(s);
        })
        { First = [Take, Head, Part, Silence] },
        new("a tail behind the terminal event, at once; the next call", Tail(TimeSpan.Zero)) { First = [Take, Head, Part, Done, CueFor("tail"), End] },
        new("a tail behind the terminal event, after 5 s; the next call", Tail(TimeSpan.FromSeconds(5))) { First = [Take, Head, Part, Done, CueFor("tail"), End] },
        new("a tail behind the terminal event that never ends; the next call", Tail(null)) { First = [Take, Head, Part, Done, CueFor("tail"), End] },
    ];

    static Func<Stage, Task> Tail(TimeSpan? after) => async s =>
    {
        await s.CallAsync(UntilDone);
        if (after > TimeSpan.Zero)
        {
            await s.IdleAsync(after.Value);
        }

        if (after is not null)
        {
            await s.CueAsync("tail");
        }

        await s.IdleAsync(TimeSpan.FromSeconds(2));
        await s.CallAsync();
    };

    static async Task ServerSeesItAsync(Stage s) => s.Note = await s.ComesAsync(s.Server.Ledger.Copies[0].Left) ? "the server sees it at once" : "the server does not see it at once";

    public static Step CueOthers(string name) => wire =>
    {
        wire.Server.Cue(name);
        return Task.CompletedTask;
    };
}
