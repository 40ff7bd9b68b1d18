using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Faults;

/// <summary>docs/faults.md says what each fault did when it was last played, here and now; what must hold in all of them is proved on the way.</summary>
public sealed class FaultsDocsTests
{
    /// <summary>Rows that are played side by side: much of their time is waiting for what does not happen.</summary>
    const int AtOnce = 4;

    const string Head = """
        # Faults

        What becomes of a call when the server, or the way to it, fails: played against servers on loopback that do on purpose what no good server does, through the pool and,
        beside it, through one `SocketsHttpHandler` with its defaults. This page is written by the tests (`tests/Warmline.Tests/Faults`), which fail when a row is no longer true.

        Each call is a POST that asks for a stream. In every row the server's own log proves of the pool:

        - no POST ran twice: a request is sent again only when the server declared that it had not processed the copy before;
        - none is lost that provably never ran: a call fails as `NotSent` or `Unprocessed` only when it was sent again as often as is allowed, its body could not be sent again, or
          there was no connection that would have taken it; and the verdict says what the log says;
        - nothing hangs beyond its clock;
        - no broken answer passes as whole.

        "Noticed" names the clock that ended the call: the tests turn the pool's clocks (`Timeouts.Connect` 5 s, `Pool` and `Write` 10 s, `Read` 30 s, `FirstByte` 60 s here; the
        [defaults](../README.md) are longer) and do not wait for them. "At once" is without any clock; "within n s" is after pauses of the pool's own, such as the one before it dials again.
        Connections are those that the server accepted. Of .NET's own handler "hangs" means: not ended 2 s after the last thing happened. Before the headers `HttpClient.Timeout` (100 s
        by default, none here) would end that; once a body is read as a stream nothing would. Answers of the server, 429 and 529 among them, are the caller's: the pool repeats none.
        """;

    static readonly IReadOnlyList<(string Topic, Fault[] List)> Faults =
    [
        ("Connections that die while they are idle, or as a call meets them", IdleFaults.All),
        ("GOAWAY, refused streams, SETTINGS, many streams on one connection", Http2Faults.All),
        ("Bodies that get on slowly over HTTP/2, and what servers count", ProgressFaults.All),
        ("Names, TCP, TLS and HTTP/2 handshakes", DialFaults.All),
        ("Answers", AnswerFaults.All),
        ("Uploads, left streams, tails", EndFaults.All),
    ];

    static readonly GeneratedPage Page = new("docs/faults.md", "WARMLINE_ACCEPT_FAULTS", Head, Fault.Header,
        [.. Faults.Select(topic => (topic.Topic, (IReadOnlyList<PageRow>)[.. topic.List.Select(fault => new PageRow(fault.Name, fault.RowAsync))]))])
    {
        PlatformColumn = ".NET's own handler",
    };

    public static TheoryData<string> Topics => [.. Page.Topics];

    [Theory(Timeout = 5 * Rig.Patience)]
    [MemberData(nameof(Topics))]
    public Task The_page_tells_what_happens(string topic) => Page.CheckTopicAsync(topic, AtOnce);

    [Fact]
    public Task The_page_has_these_rows_and_no_others() => Page.CheckFrameAsync(AtOnce);
}
