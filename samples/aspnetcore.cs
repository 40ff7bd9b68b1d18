#!/usr/bin/env dotnet
#:sdk Microsoft.NET.Sdk.Web
#:project ../src/Warmline.AspNetCore/Warmline.AspNetCore.csproj
#:project ../src/Warmline.MockLlm/Warmline.MockLlm.csproj
#:property PublishAot=false

// A web API before a model: streamed completions, health that is good only when the pool is warm, stats, and metrics for Prometheus.
// Runs until Ctrl+C. Meanwhile, in another terminal:
//   curl -N http://localhost:5000/chat -H 'content-type: application/json' -d '{ "prompt": "Hello" }'
//   curl http://localhost:5000/health      curl http://localhost:5000/metrics      curl http://localhost:5000/warmline/stats
using System.Net.Http.Headers;
using Warmline;
using Warmline.MockLlm;

var builder = WebApplication.CreateBuilder(args);
builder.Logging.AddFilter("Microsoft.AspNetCore", LogLevel.Warning).AddFilter("System.Net.Http.HttpClient", LogLevel.Warning);

// Without a key a provider of our own answers, with real TLS: some 24 tokens, 20 ms apart.
var key = builder.Configuration["OPENAI_API_KEY"];
await using var mock = key is null ? await MockLlmServer.StartAsync(new() { Tokens = 24, TokenGap = TimeSpan.FromMilliseconds(20) }) : null;
var provider = mock?.BaseAddress ?? new Uri(builder.Configuration["OPENAI_BASE_URL"] ?? "https://api.openai.com");

builder.Services.AddConnectionPool(options =>
{
    options.UsePreset(PoolPreset.BackendApi).UseStreamAndBatchLanes();
    options.Hosts[provider.GetLeftPart(UriPartial.Authority)] = new() { WarmConnections = 2 };   // opened before the server listens
    options.SslOptions = mock?.CreateClientSslOptions();                                         // trust the mock; leave it out for a real provider
}).Bind(builder.Configuration.GetSection("Llm"));                                                // what operators change, while it runs

builder.Services.AddHttpClient("openai", client =>
{
    client.BaseAddress = new Uri(provider, "v1/");
    client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", key ?? "any");
}).UseConnectionPool();
builder.Services.AddHealthChecks().AddConnectionPoolHealthCheck();

var app = builder.Build();
app.MapHealthChecks("/health");     // for the load balancer
app.MapPoolStats();                 // /warmline/stats and /warmline/live, for people and tools on this machine
app.MapPoolMetrics();               // /metrics, for a Prometheus on this machine: both refuse others unless told otherwise
app.MapPost("/chat", ChatAsync);
await app.RunAsync();

// Hands the provider's events on as they come. A caller who leaves cancels the token, which stops the provider, too.
static async Task<IResult> ChatAsync(
    Question question, IHttpClientFactory clients, ILogger<Question> log, HttpContext context, CancellationToken cancellationToken)
{
    using var request = new HttpRequestMessage(HttpMethod.Post, "chat/completions")
    {
        Content = JsonContent.Create(new { model = "gpt-4o-mini", stream = true, messages = new[] { new { role = "user", content = question.Prompt } } }),
    };
    try
    {
        var response = await clients.CreateClient("openai").SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellationToken);
        context.Response.RegisterForDispose(response);
        return response.IsSuccessStatusCode
            ? TypedResults.ServerSentEvents(response.ReadServerSentEventsAsync(cancellationToken))
            : TypedResults.StatusCode((int)response.StatusCode);
    }
    catch (PoolRejectedException full)
    {
        // Which limit, how much of it is in use, what to change: for the log. The caller is told to come back.
        log.LogWarning("No place for a call: {Why}", full.Message);
        context.Response.Headers.RetryAfter = "1";
        return TypedResults.StatusCode(StatusCodes.Status503ServiceUnavailable);
    }
}

internal sealed record Question(string Prompt);
