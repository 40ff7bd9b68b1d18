#!/usr/bin/env dotnet
#:project ../src/Warmline/Warmline.csproj
#:project ../src/Warmline.MockLlm/Warmline.MockLlm.csproj
#:property PublishAot=false

// Two lanes in one pool: a chat that streams gets its place at once, whatever the batch beside it does.
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Runtime.CompilerServices;
using System.Text.Json.Nodes;
using Warmline;
using Warmline.MockLlm;

// Without a key a provider of our own answers, with real TLS.
var key = Environment.GetEnvironmentVariable("OPENAI_API_KEY");
await using var mock = key is null
    ? await MockLlmServer.StartAsync(new() { ServiceTime = TimeSpan.FromMilliseconds(300), Tokens = 12, TokenGap = TimeSpan.FromMilliseconds(25) }) : null;
var provider = mock?.BaseAddress ?? new Uri("https://api.openai.com");

// Ten calls at once, two of these places kept for streams. The lane of a call is known by what it asks for; a client can name it, too.
var options = new ConnectionPoolOptions { MaxConcurrentRequests = 10, SslOptions = mock?.CreateClientSslOptions() }.UseStreamAndBatchLanes();
options.Lanes["stream"].Reserve = 2;
await using var pool = new ConnectionPool(options);
using var chat = CreateClient(new PoolRequestOptions { Lane = "stream" });
using var bulk = CreateClient(new PoolRequestOptions { Lane = "batch", MaxQueueTime = TimeSpan.FromMinutes(1) });

// 40 batch calls fill all that they may have ...
var batch = Task.WhenAll(Enumerable.Range(0, 40).Select(_ => ClassifyAsync("a review")));

// ... and the chat does not wait behind them.
var chunks = 0;
await foreach (var chunk in StreamAsync("Tell me about pools."))
{
    Console.Write(chunk);
    chunks++;
}

Console.WriteLine();
await batch;

foreach (var lane in pool.GetStats().Lanes)
{
    Console.WriteLine($"{lane.Lane}: {lane.TotalRequests} calls, at most {lane.PeakActive} at once, longest wait {lane.MaxQueueWait.TotalMilliseconds:0} ms");
}

Console.WriteLine($"{chunks} chunks streamed while {batch.Result.Length} batch calls ran");

HttpClient CreateClient(PoolRequestOptions defaults)
{
    var client = pool.CreateClient(new Uri(provider, "v1"), defaults);
    client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", key ?? "any");
    return client;
}

// The pieces of the answer as they come. Whoever stops reading stops the provider, too: leaving the loop resets the stream.
async IAsyncEnumerable<string> StreamAsync(string prompt, [EnumeratorCancellation] CancellationToken cancellationToken = default)
{
    using var request = new HttpRequestMessage(HttpMethod.Post, "chat/completions")
    {
        Content = JsonContent.Create(new { model = "gpt-4o-mini", stream = true, messages = new[] { new { role = "user", content = prompt } } }),
    };
    using var response = await chat.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellationToken);
    response.EnsureSuccessStatusCode();
    await foreach (var item in response.ReadServerSentEventsAsync(cancellationToken))
    {
        if (item.Data != "[DONE]" && JsonNode.Parse(item.Data)?["choices"]?[0]?["delta"]?["content"]?.GetValue<string>() is { Length: > 0 } piece)
        {
            yield return piece;
        }
    }
}

async Task<string> ClassifyAsync(string text)
{
    using var response = await bulk.PostAsJsonAsync("chat/completions",
        new { model = "gpt-4o-mini", messages = new[] { new { role = "user", content = $"Good or bad? {text}" } } });
    var answer = await response.EnsureSuccessStatusCode().Content.ReadFromJsonAsync<JsonNode>();
    return answer!["choices"]![0]!["message"]!["content"]!.GetValue<string>();
}
