using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Http;

/// <summary>docs/http.md says what each behaviour did when it was last played, here and now.</summary>
public sealed class HttpDocsTests
{
    const string Head = """
        # HTTP through the pool

        What a user of an `HttpClient` relies on, played against real servers on loopback: through the pool and, beside it, through a bare `SocketsHttpHandler`. This page is
        written by the tests (`tests/Warmline.Tests/Http`), which fail when a row is no longer true.

        Errors are named by their public base type: the pool's own (`PoolRequestException` and others, see [errors](errors.md)) are `HttpRequestException`s that also
        carry a verdict. "Connection kept" means that the next call rode the same connection. HTTP/3, cookies kept by the handler and request trailers
        (`HttpRequestMessage` has no place for them) are not in the pool; the platform lacks the last of them as well.
        """;

    static readonly IReadOnlyList<(string Topic, Behaviour[] List)> Topics =
    [
        ("Request bodies", UploadBehaviours.All),
        ("Answers before the request body has ended", EarlyBehaviours.All),
        ("Answers", AnswerBehaviours.All),
        ("Bodies of answers, and leaving them", BodyBehaviours.All),
        ("Requests", RequestBehaviours.All),
        ("Redirects (`AllowAutoRedirect`)", RedirectBehaviours.All),
        ("Compressed answers (`AutomaticDecompression`)", CompressionBehaviours.All),
        ("Through a proxy", ProxyBehaviours.All),
    ];

    static readonly GeneratedPage Page = new("docs/http.md", "WARMLINE_ACCEPT_HTTP", Head, Behaviour.Header,
        [.. Topics.Select(topic => (topic.Topic, (IReadOnlyList<PageRow>)[.. topic.List.Select(behaviour => new PageRow(behaviour.Name, behaviour.RowAsync))]))])
    {
        PlatformColumn = "bare handler",
    };

    public static TheoryData<string> Names => [.. Page.Names];

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Names))]
    public Task The_page_tells_what_happens(string name) => Page.CheckRowAsync(name);

    [Fact]
    public Task The_page_has_these_rows_and_no_others() => Page.CheckFrameAsync();
}
