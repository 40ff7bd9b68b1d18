using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Faults;

/// <summary>docs/faults.md says what each fault did when it was last played, here and now; what must hold in all of them is proved on the way.</summary>
public sealed class FaultsDocsTests
{
    const string Head = """
        # Faults

        HEAD
        """;

    static readonly IReadOnlyList<(string Topic, Fault[] List)> Topics =
    [
        ("Connections that die while they are idle, or as a call meets them", IdleFaults.All),
        ("GOAWAY, refused streams, SETTINGS, many streams on one connection", Http2Faults.All),
        ("Names, TCP, TLS and HTTP/2 handshakes", DialFaults.All),
        ("Answers", AnswerFaults.All),
        ("Uploads, left streams, tails", EndFaults.All),
    ];

    static readonly GeneratedPage Page = new("docs/faults.md", "WARMLINE_ACCEPT_FAULTS", Head, Fault.Header,
        [.. Topics.Select(topic => (topic.Topic, (IReadOnlyList<(string, Func<Task<string>>)>)[.. topic.List.Select(fault => (fault.Name, (Func<Task<string>>)fault.RowAsync))]))]);

    public static TheoryData<string> Names => [.. Page.Names];

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Names))]
    public Task The_page_tells_what_happens(string name) => Page.CheckRowAsync(name);

    [Fact]
    public Task The_page_has_these_rows_and_no_others() => Page.CheckFrameAsync();
}
