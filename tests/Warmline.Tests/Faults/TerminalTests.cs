using Warmline.Tests.Support;
using Xunit;
using static Warmline.Tests.Faults.Steps;

namespace Warmline.Tests.Faults;

/// <summary>A stream breaks behind its terminal event: a reader that stops there has abandoned nothing, and one that reads on learns that
/// it had all.</summary>
public sealed class TerminalTests
{
    const string Line = "{\"done\":false}\n{\"done\":true}\n";
    const string Done = "data: {\"a\":1}\n\ndata: [DONE]\n\n";

    public static TheoryData<string, bool, string> Ends
    {
        get
        {
            var ends = new TheoryData<string, bool, string>();
            foreach (var stream in new[] { Done, "event: message_stop\ndata: {\"type\": \"message_stop\"}\n\n", "data: {\"type\":\"response.completed\"}\n\n" })
            {
                foreach (var end in new[] { "FIN", "FIN without close_notify", "RST" })
                {
                    ends.Add(end, false, stream);
                    ends.Add(end, true, stream);
                }

                ends.Add("half of the last chunk", false, stream);
                ends.Add("RST_STREAM", true, stream);
            }

            ends.Add("FIN", false, Line);
            ends.Add("RST_STREAM", true, Line);
            return ends;
        }
    }

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Ends))]
    public async Task A_reader_that_stops_at_the_terminal_event_has_abandoned_nothing(string end, bool http2, string stream)
    {
        await using var stage = Stage(end, http2, stream);
        var call = stage.Send(new CallKind { StopAt = stream });
        await Eventually.TrueAsync(() => call.Stopped && stage.Stats!.Active == 1, stage.Describe);

        stage.Server.Cue("break");

        await Eventually.TrueAsync(() => stage.Stats!.Active == 0, stage.Describe);
        await stage.EndAsync(call);
        var faults = stage.Stats!.Faults;
        Assert.Equal((0L, 0L, 0L), (faults.Abandoned, faults.FailedUnknown, faults.Stalled));
    }

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Ends))]
    public async Task A_reader_that_reads_on_learns_that_the_terminal_event_had_come(string end, bool http2, string stream)
    {
        await using var stage = Stage(end, http2, stream);
        var call = stage.Send();
        await Eventually.TrueAsync(() => call.Text.Length == stream.Length, stage.Describe);

        stage.Server.Cue("break");
        await stage.EndAsync(call);

        var error = Assert.IsAssignableFrom<IOException>(call.Error);
        var name = stream == Line ? "its last line of JSON" : "its terminal event, " + NameOf(stream) + ",";
        Assert.StartsWith($"The response ended abnormally, but {name} had already arrived:", error.Message, StringComparison.Ordinal);
        var faults = stage.Stats!.Faults;
        Assert.Equal((0L, 1L), (faults.Abandoned, faults.FailedUnknown));
    }

    static string NameOf(string stream) =>
        stream.Contains("DONE", StringComparison.Ordinal) ? "[DONE]" : stream.Contains("message_stop", StringComparison.Ordinal) ? "message_stop" : "response.completed";

    static Stage Stage(string end, bool http2, string stream) => new(isPool: true, http2, new Fault("", static _ => Task.CompletedTask)
    {
        First =
        [
            Take, Head, Say(stream), CueFor("break"), end switch
            {
                "FIN" => Fin,
                "FIN without close_notify" => FinBelowTls,
                "RST" => Reset,
                "RST_STREAM" => Cancel,
                _ => Raw("0\r\n"),
            },
            .. end.StartsWith("half", StringComparison.Ordinal) ? [Fin] : Array.Empty<Step>(),
        ],
    });
}
