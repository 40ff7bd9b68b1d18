using System.ClientModel;
using System.ClientModel.Primitives;
using System.Reflection;
using System.Text.RegularExpressions;
using OpenAI;
using OpenAI.Chat;

namespace Warmline.MockLlm.Tests;

/// <summary>docs/testing.md: its example runs, and it leaves out nothing that can be asked for.</summary>
public sealed partial class DocumentTests
{
    // The example.
    [Fact]
    public async Task A_full_provider_is_asked_again_when_it_says_and_no_answer_is_paid_for_twice()
    {
        await using var server = await MockLlmServer.StartAsync(new()
        {
            RecordRequests = true,
            OnRequest = request => request.Sequence switch
            {
                1 => new() { Status = 429, RetryAfter = TimeSpan.FromMilliseconds(20) },
                2 => new() { Fault = MockFault.Reset, BeforeBody = true },   // as a connection that was closed while idle
                _ => null,
            },
        });
        using var client = new HttpClient(new SocketsHttpHandler { SslOptions = server.CreateClientSslOptions() });
        var chat = new ChatClient("gpt-4o", new ApiKeyCredential("any"), new OpenAIClientOptions
        {
            Endpoint = new Uri(server.BaseAddress, "v1"), Transport = new HttpClientPipelineTransport(client),
        });

        await chat.CompleteChatAsync("Hello");

        Assert.Equal([429, 0, 200], server.GetRequests().Select(request => request.Status));
        Assert.Equal([true, false, true], server.GetRequests().Select(request => request.Processed));
    }

    [Fact]
    public void The_document_shows_that_example()
    {
        var document = Read("docs/testing.md");
        var start = document.IndexOf("```csharp", StringComparison.Ordinal) + "```csharp".Length;
        var shown = Lines(document[start..document.IndexOf("```", start, StringComparison.Ordinal)]).ToArray();

        Assert.Equal(Lines(Read("tests/Warmline.MockLlm.Tests/DocumentTests.cs")).SkipWhile(line => line != "// The example.").Skip(1).Take(shown.Length), shown);
    }

    [Fact]
    public void The_document_names_everything_that_can_be_asked_for()
    {
        var members = new[] { typeof(MockReply), typeof(MockConnectionPlan) }
            .SelectMany(type => type.GetProperties(BindingFlags.Public | BindingFlags.Instance).Select(property => property.Name))
            .Concat(Enum.GetNames<MockFault>()).Select(name => $"`{name}`");
        var headers = ControlHeader().Matches(Read("src/Warmline.MockLlm/Providers/ReplyPlan.cs")).Select(match => match.Value).ToArray();
        var remarks = Read("src/Warmline.MockLlm/MockLlmServer.cs");

        Assert.All(members.Concat(headers), name => Assert.Contains(name, Read("docs/testing.md"), StringComparison.Ordinal));
        Assert.All(headers, name => Assert.Contains($"<c>{name}</c>", remarks, StringComparison.Ordinal));
        Assert.True(headers.Length > 15);
    }

    [GeneratedRegex("x-mock-[a-z-]+[a-z]")]
    private static partial Regex ControlHeader();

    static IEnumerable<string> Lines(string text) => text.Split('\n').Select(line => line.Trim()).Where(line => line.Length > 0);

    static string Read(string path)
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(directory!.FullName, "Warmline.slnx")))
        {
            directory = directory.Parent;
        }

        return File.ReadAllText(Path.Combine(directory.FullName, path));
    }
}
