#!/usr/bin/env dotnet
#:project ../src/Warmline/Warmline.csproj
#:project ../src/Warmline.MockLlm/Warmline.MockLlm.csproj
#:package OpenAI@2.14.0
#:property PublishAot=false

// Tests of one's own code against a provider that fails: each starts a mock with a script, calls, and looks at what came and what the server saw.
// Any test framework does; here a method is a test, and an exception its failure.
using System.ClientModel;
using System.ClientModel.Primitives;
using OpenAI;
using OpenAI.Chat;
using Warmline;
using Warmline.MockLlm;

(string Name, Func<Task> Test)[] tests =
[
    ("a connection that was closed while idle costs nothing", StaleConnectionAsync),
    ("a 429 is asked again when the provider says, and answered once", RateLimitAsync),
    ("a stream that falls silent ends with an error, and the connection is not blamed", StallAsync),
];

foreach (var (name, test) in tests)
{
    await test();
    Console.WriteLine($"passed: {name}");
}

Console.WriteLine($"{tests.Length} passed");

static async Task StaleConnectionAsync()
{
    await using var server = await MockLlmServer.StartAsync(new() { RecordRequests = true });
    await using var pool = new ConnectionPool(new ConnectionPoolOptions { SslOptions = server.CreateClientSslOptions() });
    var assistant = new Assistant(pool, server.BaseAddress);

    await assistant.AskAsync("first");
    server.FailConnections(MockFault.Reset);                                // what a load balancer does to those idle for too long
    await server.WaitForAsync(counters => counters.ConnectionsOpen == 0);   // wait for what the server sees; never for time
    await assistant.AskAsync("second");

    Check(server.GetRequests() is [{ Processed: true, ConnectionId: 1 }, { Processed: true, ConnectionId: 2 }],
        "each question should have been worked on once, on a connection that lives");
}

static async Task RateLimitAsync()
{
    await using var server = await MockLlmServer.StartAsync(new()
    {
        RecordRequests = true,
        OnRequest = request => request.Sequence == 1 ? new() { Status = 429, RetryAfter = TimeSpan.FromMilliseconds(20) } : null,
    });
    await using var pool = new ConnectionPool(new ConnectionPoolOptions { SslOptions = server.CreateClientSslOptions() });

    await new Assistant(pool, server.BaseAddress).AskAsync("Hello");

    var statuses = server.GetRequests().Select(request => request.Status);
    Check(statuses.SequenceEqual([429, 200]), $"the SDK should have asked twice: {string.Join(", ", statuses)}");
}

static async Task StallAsync()
{
    // After three tokens nothing more comes, while the connection lives.
    await using var server = await MockLlmServer.StartAsync(new()
    {
        OnRequest = request => request.Sequence == 1 ? new() { Fault = MockFault.Silence, FaultAfterTokens = 3 } : null,
    });
    await using var pool = new ConnectionPool(new ConnectionPoolOptions
    {
        SslOptions = server.CreateClientSslOptions(),
        Timeouts = new() { Read = TimeSpan.FromMilliseconds(300) },
    });
    var assistant = new Assistant(pool, server.BaseAddress);

    var pieces = 0;
    try
    {
        await foreach (var piece in assistant.StreamAsync("Hello"))
        {
            pieces++;
        }

        throw new InvalidOperationException("The stream should have failed.");
    }
    catch (RequestStalledException stalled)
    {
        Check(stalled.Phase is StallPhase.Read && pieces >= 3, $"{pieces} pieces, then: {stalled.Message}");
    }

    await assistant.AskAsync("Are you there?");
    Check(server.GetCounters().ConnectionsAccepted == 1, "only the stream was reset; the next call rides the same connection");
}

static void Check(bool condition, string otherwise)
{
    if (!condition)
    {
        throw new InvalidOperationException(otherwise);
    }
}

/// <summary>The code under test: what your application has here.</summary>
internal sealed class Assistant(ConnectionPool pool, Uri provider)
{
    readonly ChatClient _chat = new("gpt-4o-mini", new ApiKeyCredential("any"),
        new OpenAIClientOptions { Endpoint = new Uri(provider, "v1"), Transport = new HttpClientPipelineTransport(pool.CreateClient()) });

    public async Task<string> AskAsync(string question) => (await _chat.CompleteChatAsync(question)).Value.Content[0].Text;

    public async IAsyncEnumerable<string> StreamAsync(string question)
    {
        await foreach (var update in _chat.CompleteChatStreamingAsync(question))
        {
            yield return string.Concat(update.ContentUpdate.Select(part => part.Text));
        }
    }
}
