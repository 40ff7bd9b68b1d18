using Warmline.Tests.Support;
using static Warmline.Tests.Faults.Http2Faults;
using static Warmline.Tests.Faults.Steps;

namespace Warmline.Tests.Faults;

/// <summary>Uploads that are cut or answered early, streams that are left, tails behind a terminal event.</summary>
internal static class EndFaults
{
    static readonly CallKind UntilDone = new() { StopAt = "[DONE]" };

    const string Early = "on HTTP/1.1 the platform reads no answer before the body is sent, and on HTTP/2 it sends the rest all the same";
    const string Drains = "the platform reads an abandoned HTTP/1.1 answer on for up to 2 s, in which the provider goes on generating";

    static Step Done => Say("data: [DONE]\n\n");

    public static Fault[] All =>
    [
        new("the server dies in the upload, by RST", s => s.CallAsync(Contents.Slow)) { First = [TakeHead, Uploaded(4096), Reset], AnyReason = true, BareEither = ["HttpRequestException", "OperationCanceledException"] },
        new("the server dies in the upload, by FIN", s => s.CallAsync(Contents.Slow)) { First = [TakeHead, Uploaded(4096), Fin], AnyReason = true, BareEither = ["HttpRequestException", "OperationCanceledException"] },
        new("the server reads no more of the upload", s => s.CallAsync(Contents.Large)) { First = [TakeHead, BlackHole], Reason = AnswerFaults.NoClock },
        new("401 before the upload's end", RefusedEarly) { First = [TakeHead, Uploaded(4096), HeadOf(length: 2, status: 401), Say("no"), End, Silence], Reason = Early },
        new("413 before the upload's end", RefusedEarly) { First = [TakeHead, Uploaded(4096), HeadOf(length: 2, status: 413), Say("no"), End, Silence], Reason = Early },
        new("the caller leaves before the headers", async s =>
        {
            var call = s.Send();
            await s.Server.CuedAsync("taken").WaitAsync(Stage.Ct);
            await Stage.LeaveAsync(call);
            await ServerSeesItAsync(s);
        })
        { First = [Take, Tell("taken"), Silence] },
        new("the caller leaves in mid-stream", async s =>
        {
            await s.CallAsync(new CallKind { StopAt = "something" });
            await ServerSeesItAsync(s);
        })
        { First = [Take, Head, Part, Silence], Reason = Drains },
        new("a tail behind the terminal event, at once; the next call", Tail(TimeSpan.Zero)) { First = [Take, Head, Part, Done, CueFor("tail"), End] },
        new("a tail behind the terminal event, after 5 s; the next call", Tail(TimeSpan.FromSeconds(5))) { First = [Take, Head, Part, Done, CueFor("tail"), End] },
        new("FIN instead of a tail behind the terminal event; the next call", Tail(TimeSpan.Zero)) { First = [Take, Head, Part, Done, CueFor("tail"), Fin] },
        new("a tail behind the terminal event that never ends; the next call", Tail(null)) { First = [Take, Head, Part, Done] },
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

    static async Task RefusedEarly(Stage s)
    {
        var ended = false;
        await s.CallAsync(Contents.NewSlow(() => ended = true));
        var told = ended ? "after the whole upload" : "at once";
        var copy = s.Server.Ledger.Copies[0];
        await Eventually.TrueAsync(() => copy.Whole.IsCompleted || copy.Left.IsCompleted, s.Describe);   // the server reads its end later than the caller the answer
        s.Note = $"{told}{(copy.Left.IsCompleted ? ", the rest is not sent" : told == "at once" ? ", the rest is sent all the same" : "")}";
    }

    static async Task ServerSeesItAsync(Stage s) => s.Note = await s.ComesAsync(s.Server.Ledger.Copies[0].Left) ? "the server sees it at once" : "the server does not see it at once";
}
