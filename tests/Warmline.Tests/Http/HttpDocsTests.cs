using Warmline.Tests.Guards;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Http;

/// <summary>docs/http.md says what each behaviour did when it was last played, here and now.</summary>
public sealed class HttpDocsTests
{
    const string Document = "docs/http.md", Accept = "WARMLINE_ACCEPT_HTTP";

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
    ];

    public static TheoryData<string> Names => [.. Topics.SelectMany(topic => topic.List).Select(behaviour => behaviour.Name)];

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Names))]
    public async Task The_page_tells_what_happens(string name)
    {
        var row = await Topics.SelectMany(topic => topic.List).Single(behaviour => behaviour.Name == name).RowAsync();

        if (!IsAccepting)
        {
            var written = Repo.Read(Document).Split('\n').FirstOrDefault(line => line.StartsWith($"| {name} |", StringComparison.Ordinal));
            Assert.True(written == row, $"{Document} says\n  {written}\nand what happens is\n  {row}\nIf that is meant, run these tests once with {Accept}=1, read the file's diff and commit it.");
        }
    }

    [Fact]
    public async Task The_page_has_these_rows_and_no_others()
    {
        if (IsAccepting)
        {
            var page = Head + "\n";
            foreach (var (topic, list) in Topics)
            {
                page += $"\n## {topic}\n\n{Behaviour.Header}\n";
                foreach (var behaviour in list)
                {
                    page += await behaviour.RowAsync() + "\n";
                }
            }

            await File.WriteAllTextAsync(Path.Combine(Repo.Root, Document), page, Side.Ct);
        }

        static string Frame(string line) => line.StartsWith("| ", StringComparison.Ordinal) ? line[..(line.IndexOf(" |", 2, StringComparison.Ordinal) + 2)] : line;
        var expected = Topics.Aggregate(Head + "\n", (text, topic) => text + $"\n## {topic.Topic}\n\n{Behaviour.Header}\n" + string.Concat(topic.List.Select(behaviour => $"| {behaviour.Name} |\n")));
        Assert.Equal(string.Join('\n', expected.Split('\n').Select(Frame)), string.Join('\n', Repo.Read(Document).Split('\n').Select(Frame)));
    }

    static bool IsAccepting => Environment.GetEnvironmentVariable(Accept) == "1";
}
