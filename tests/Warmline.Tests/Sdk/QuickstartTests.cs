using System.ClientModel;
using System.ClientModel.Primitives;
using Anthropic;
using OpenAI;
using OpenAI.Chat;
using Warmline.MockLlm;
using Warmline.Tests.Guards;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Sdk;

/// <summary>The lines of the README's "Use it": they compile, they run, and they are still the README's.</summary>
public sealed class QuickstartTests
{
    /// <summary>What the test's lines say more than the README's: the mock's address, trust and keys.</summary>
    static readonly (string Here, string Readme)[] Adapted =
    [
        ("new ConnectionPool(trustingTheMock)", "new ConnectionPool()"),
        ("{ Endpoint = openAiEndpoint, ", "{ "),
        ("BaseUrl = anthropicEndpoint, ", ""),
        ("WarmUpAsync(origin, ", "WarmUpAsync(new Uri(\"https://api.openai.com\"), "),
    ];

    [Fact(Timeout = Rig.Patience)]
    public async Task The_quickstart_runs()
    {
        await using var mock = await MockLlmServer.StartAsync(new() { RequiredApiKey = SdkRig.Key, RecordRequests = true }, cancellationToken: Rig.Ct);
        var trustingTheMock = Rig.Options(mock);
        var (origin, openAiEndpoint, anthropicEndpoint) = (mock.BaseAddress, new Uri(mock.BaseAddress, "v1"), mock.BaseAddress.ToString());
        var (openAiKey, anthropicKey) = (SdkRig.Key, SdkRig.Key);

        // README begins
        await using var pool = new ConnectionPool(trustingTheMock);          // one for the application; serves any number of hosts
        using var client = pool.CreateClient();               // an ordinary HttpClient

        var chat = new ChatClient("gpt-4o", new ApiKeyCredential(openAiKey),
            new OpenAIClientOptions { Endpoint = openAiEndpoint, Transport = new HttpClientPipelineTransport(client) });
        var claude = new AnthropicClient { BaseUrl = anthropicEndpoint, ApiKey = anthropicKey, HttpClient = client };

        await pool.WarmUpAsync(origin, connections: 4);   // the first calls pay no handshake
        Console.WriteLine(pool.GetStats());
        // README ends

        ChatCompletion completion = await chat.CompleteChatAsync(["Hello"], cancellationToken: Rig.Ct);
        await claude.Messages.Create(SdkRig.Hello, Rig.Ct);

        Assert.Equal(SdkRig.Expected, completion.Content[0].Text);
        Assert.All(mock.GetRequests(), request => Assert.Equal(("HTTP/2", 200), (request.Protocol, request.Status)));
        await Eventually.TrueAsync(() => pool.GetStats() is { TotalRequests: 2, ReusedConnections: 2, NewConnections: 4, Active: 0 }, () => Rig.Describe(pool.GetStats()));
    }

    [Fact]
    public void The_readme_says_what_runs_here()
    {
        var source = Lines(Repo.Read("tests/Warmline.Tests/Sdk/QuickstartTests.cs"));
        var usings = source.TakeWhile(line => !line.StartsWith("namespace", StringComparison.Ordinal)).ToList();
        var begin = source.IndexOf("// README begins");
        var ran = source[(begin + 1)..source.IndexOf("// README ends")]
            .Select(line => Adapted.Aggregate(line, (text, pair) => text.Replace(pair.Here, pair.Readme, StringComparison.Ordinal)));

        var readme = Repo.Read("README.md");
        var start = readme.IndexOf("```csharp", readme.IndexOf("## Use it", StringComparison.Ordinal), StringComparison.Ordinal) + "```csharp".Length;
        var shown = Lines(readme[start..readme.IndexOf("```", start, StringComparison.Ordinal)]);

        Assert.Equal(ran, shown.Where(line => !line.StartsWith("using ", StringComparison.Ordinal) || !line.EndsWith(';') || line.Contains('=', StringComparison.Ordinal))
            .Where(line => !line.StartsWith("// Pool:", StringComparison.Ordinal)));
        string[] ownUsings = ["using Warmline.MockLlm;", "using Warmline.Tests.Guards;", "using Warmline.Tests.Support;", "using Xunit;"];
        Assert.Equal(usings.Except(ownUsings).Append("using Warmline;"), shown.Where(line => line.StartsWith("using ", StringComparison.Ordinal) && !line.Contains('=', StringComparison.Ordinal)));
    }

    static List<string> Lines(string text) => [.. text.Split('\n').Select(line => line.Trim()).Where(line => line.Length > 0)];
}
