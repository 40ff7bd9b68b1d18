using System.Net.Http.Headers;
using System.Text;

namespace Warmline.MockLlm.Tests;

/// <summary>What the tests share: clients that trust the server, and the smallest request.</summary>
static class Calls
{
    public static SocketsHttpHandler Handler(this MockLlmServer server, MockNetwork? network = null) => new()
    {
        SslOptions = server.CreateClientSslOptions(),
        ConnectCallback = network?.ConnectCallback,
        UseProxy = false,
    };

    public static HttpClient Client(this MockLlmServer server, MockNetwork? network = null, Version? version = null) => new(server.Handler(network))
    {
        BaseAddress = server.BaseAddress,
        DefaultRequestVersion = version ?? new Version(2, 0),
        DefaultVersionPolicy = version is null ? HttpVersionPolicy.RequestVersionOrLower : HttpVersionPolicy.RequestVersionExact,
    };

    public static HttpRequestMessage Chat(this HttpClient client, bool stream = false, params (string Name, string Value)[] headers)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, "v1/chat/completions")
        {
            Content = new StringContent($$"""{"model":"gpt-4o-mini","stream":{{(stream ? "true" : "false")}},"messages":[{"role":"user","content":"Hi"}]}""", Encoding.UTF8, new MediaTypeHeaderValue("application/json")),
            Version = client.DefaultRequestVersion,
            VersionPolicy = client.DefaultVersionPolicy,
        };
        foreach (var (name, value) in headers)
        {
            request.Headers.Add(name, value);
        }

        return request;
    }

    public static Task<HttpResponseMessage> ChatAsync(this HttpClient client, params (string Name, string Value)[] headers) => client.SendAsync(client.Chat(false, headers));

    public static Task<HttpResponseMessage> StreamAsync(this HttpClient client, params (string Name, string Value)[] headers) =>
        client.SendAsync(client.Chat(true, headers), HttpCompletionOption.ResponseHeadersRead);
}
