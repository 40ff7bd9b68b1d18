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

/// <summary>The lines of the README's "Use it" and "Share it": they compile, they run, and they are still the README's.</summary>
public sealed class QuickstartTests
{
    /// <summary>What the test's lines say more than the README's: the mock's address, trust and keys.</summary>
    static readonly (string Here, string Readme)[] Adapted =
    [
        ("openAiKey = SdkRig.Key", "openAiKey = Environment.GetEnvironmentVariable(\"OPENAI_API_KEY\")!"),
        ("anthropicKey = SdkRig.Key", "anthropicKey = Environment.GetEnvironmentVariable(\"ANTHROPIC_API_KEY\")!"),
        ("new ConnectionPool(trustingTheMock)", "new ConnectionPool()"),
        ("{ Endpoint = openAiEndpoint, ", "{ "),
        ("BaseUrl = anthropicEndpoint, ", ""),
        ("ConnectionPoolOptions { SslOptions = trust, ", "ConnectionPoolOptions { "),
        ("WarmUpAsync(origin, ", "WarmUpAsync(new Uri(\"https://api.openai.com\"), "),
    ];

    [Fact(Timeout = Rig.Patience)]
    public async Task The_quickstart_runs()
    {
        await using var mock = await MockLlmServer.StartAsync(new() { RequiredApiKey = SdkRig.Key, RecordRequests = true }, cancellationToken: Rig.Ct);
        var trustingTheMock = Rig.Options(mock);
        var (origin, openAiEndpoint, anthropicEndpoint) = (mock.BaseAddress, new Uri(mock.BaseAddress, "v1"), mock.BaseAddress.ToString());

        // README begins
        var openAiKey = SdkRig.Key;
        var anthropicKey = SdkRig.Key;

        await using var pool = new ConnectionPool(trustingTheMock);          // one for the application; serves any number of hosts
        using var client = pool.CreateClient();               // an ordinary HttpClient

        var chat = new ChatClient("gpt-4o", new ApiKeyCredential(openAiKey),
            new OpenAIClientOptions { Endpoint = openAiEndpoint, Transport = new HttpClientPipelineTransport(client) });
        var claude = new AnthropicClient { BaseUrl = anthropicEndpoint, ApiKey = anthropicKey, HttpClient = client };

        await pool.WarmUpAsync(origin, connections: 4);   // the first calls pay no handshake
        ChatCompletion answer = await chat.CompleteChatAsync("Hello");
        Console.WriteLine(answer.Content[0].Text);
        Console.WriteLine(pool.GetStats());
        // README ends

        await claude.Messages.Create(SdkRig.Hello, Rig.Ct);

        Assert.Equal(SdkRig.Expected, answer.Content[0].Text);
        Assert.All(mock.GetRequests(), request => Assert.Equal(("HTTP/2", 200), (request.Protocol, request.Status)));
        await Eventually.TrueAsync(() => pool.GetStats() is { TotalRequests: 2, ReusedConnections: 2, NewConnections: >= 4, Active: 0 }, () => Rig.Describe(pool.GetStats()));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task The_shared_pool_runs()
    {
        await using var mock = await MockLlmServer.StartAsync(new() { RequiredApiKey = SdkRig.Key }, cancellationToken: Rig.Ct);
        var trust = mock.CreateClientSslOptions();

        // README shares
        var options = new ConnectionPoolOptions { SslOptions = trust, MaxConcurrentRequests = 40 }.UseStreamAndBatchLanes();   // known by what a call asks for: a stream; embeddings, batches
        options.Lanes["stream"].Reserve = 10;                // never lent, so a stream never waits behind a batch
        options.Tenants.MaxConcurrentRequests = 10;          // for each; without it shares are still fair
        options.Tenants.Named["acme"] = new() { Weight = 4 };
        options.Pacing = true;                               // wait for a used-up rate limit instead of collecting 429s
        await using var pool = new ConnectionPool(options);   // in place of the one above; clients as there
        // README shared

        var chat = new ChatClient("gpt-4o", new ApiKeyCredential(SdkRig.Key), new OpenAIClientOptions { Endpoint = new Uri(mock.BaseAddress, "v1"), Transport = new HttpClientPipelineTransport(pool.CreateClient()) });

        // README shares
        using (PoolRequestOptions.Use(new() { Tenant = "acme", Priority = 1, MaxQueueTime = TimeSpan.FromSeconds(20) }))
        {
            await chat.CompleteChatAsync("Hello");           // whatever is called in here
        }

        foreach (var waiter in pool.GetWaiters())            // from anywhere, while calls run
        {
            Console.WriteLine(waiter);                       // who waits, how long, and for what
        }
        // README shared

        Assert.Equal((10, 40), (pool.GetStats().Lanes.Single(lane => lane.Lane == "stream").Reserve, pool.GetStats().Lanes.Single(lane => lane.Lane == "stream").Ceiling));
        Assert.Equal(1, pool.GetStats().TotalRequests);
    }

    [Fact]
    public void The_readme_says_what_is_shared_here() => Assert.Equal(Ran("// README shares", "// README shared"), Shown("## Share it"));

    [Fact]
    public void The_readme_says_what_runs_here()
    {
        var usings = Source.TakeWhile(line => !line.StartsWith("namespace", StringComparison.Ordinal)).ToList();
        var shown = Shown("## Use it");

        Assert.Equal(Ran("// README begins", "// README ends"), shown.Where(line => !line.StartsWith("using ", StringComparison.Ordinal) || !line.EndsWith(';') || line.Contains('=', StringComparison.Ordinal))
            .Where(line => !line.StartsWith("// Pool:", StringComparison.Ordinal)));
        string[] ownUsings = ["using Warmline.MockLlm;", "using Warmline.Tests.Guards;", "using Warmline.Tests.Support;", "using Xunit;"];
        Assert.Equal(usings.Except(ownUsings).Append("using Warmline;"), shown.Where(line => line.StartsWith("using ", StringComparison.Ordinal) && !line.Contains('=', StringComparison.Ordinal)));
    }

    static List<string> Source => Lines(Repo.Read("tests/Warmline.Tests/Sdk/QuickstartTests.cs"));

    /// <summary>The lines between the two marks, as often as they stand there, with what the README says in place of the mock's.</summary>
    static List<string> Ran(string begin, string end)
    {
        var ran = new List<string>();
        var isShown = false;
        foreach (var line in Source)
        {
            if (line == begin || line == end)
            {
                isShown = line == begin;
            }
            else if (isShown)
            {
                ran.Add(Adapted.Aggregate(line, (text, pair) => text.Replace(pair.Here, pair.Readme, StringComparison.Ordinal)));
            }
        }

        return ran;
    }

    static List<string> Shown(string heading)
    {
        var readme = Repo.Read("README.md");
        var start = readme.IndexOf("```csharp", readme.IndexOf(heading, StringComparison.Ordinal), StringComparison.Ordinal) + "```csharp".Length;
        return Lines(readme[start..readme.IndexOf("```", start, StringComparison.Ordinal)]);
    }

    static List<string> Lines(string text) => [.. text.Split('\n').Select(line => line.Trim()).Where(line => line.Length > 0)];
}
