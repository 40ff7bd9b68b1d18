using Warmline.Tests.Http;
using Warmline.Tests.Support;
using static Warmline.Tests.Faults.Steps;

namespace Warmline.Tests.Faults;

/// <summary>HTTP/2 servers that take request bodies slowly or not at all, and what they count against a client.</summary>
internal static class ProgressFaults
{
    const int Window = 65_535;   // of the connection, where the server does not open it further (RFC 9113, section 6.9.2)
    const int MostResets = 100;
    const string NoWriteClock = "no clock of the platform's runs while a body is written";
    const string NoCount = "the platform counts no resets";

    public static Fault[] All =>
    [
        new("an upload of 1 MB that gets on by 64 KB each 2 s", async s =>
        {
            s.Server.GrantsCredit = false;
            await s.CallAsync(Contents.Megabyte);
        })
        { First = [TakeHead, Sip, Head, Part, End], On = On.Http2 },
        new("an upload of 1 MB that stands still after 64 KB", async s =>
        {
            s.Server.GrantsCredit = false;
            await s.CallAsync(Contents.Megabyte);
        })
        { First = [TakeHead, Silence], On = On.Http2, Reason = NoWriteClock },
        new("an upload that stands still, a small call behind it, and another 3 s later", async s =>
        {
            s.Server.GrantsCredit = false;
            await s.WarmUpAsync(1);
            var upload = s.Send(Contents.Megabyte);
            await Eventually.TrueAsync(() => s.Server.Ledger.Copies is [var copy] && copy.Uploaded == Window, s.Describe);
            var behind = s.Send();
            await Eventually.TrueAsync(() => s.Stats is null or { Active: 2 }, s.Describe);
            s.Time.Advance(TimeSpan.FromSeconds(3));
            var later = s.Send();
            await s.EndAsync(upload, behind, later);
        })
        { First = [TakeHead, Silence], On = On.Http2, Reason = $"{NoWriteClock}, and all calls share the one connection" },
        new($"a server that ends a connection at its {MostResets}th reset: a stream beside 120 calls that are cancelled", async s =>
        {
            s.Server.MostResets = MostResets;
            var stream = s.Send();
            await Eventually.TrueAsync(() => stream.Text.Length > 0, s.Describe);
            for (var i = 0; i < 120; i++)
            {
                var left = s.Send(isTold: false);
                await Eventually.TrueAsync(() => left.Task.IsCompleted || s.Server.Ledger.Of(left.Id).Count > 0, s.Describe);
                await Stage.LeaveAsync(left);
            }

            s.Server.Cue("end");
            await s.EndAsync(stream);
        })
        { Script = static number => number == 0 ? [Take, Head, Part, CueFor("end"), EndAll] : [CueFor("end")], On = On.Http2, MostConnections = 4, Reason = NoCount },
    ];

    /// <summary>Takes a window, lets time pass and opens the window again, until the body is whole.</summary>
    static Step Sip => async wire =>
    {
        for (long granted = Window; !wire.Current.Whole.IsCompleted; granted += Window)
        {
            while (wire.Current.Uploaded < granted && !wire.Current.Whole.IsCompleted)
            {
                await wire.Server.PollAsync();
            }

            wire.Server.Time.Advance(TimeSpan.FromSeconds(2));
            await ((Http2Wire)wire).GrantAsync(0, Window);
        }
    };
}
