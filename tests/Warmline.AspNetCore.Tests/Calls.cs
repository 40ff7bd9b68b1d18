using System.Text;

namespace Warmline.AspNetCore.Tests;

/// <summary>Calls to a mock provider.</summary>
internal static class Calls
{
    /// <summary>A completion, read to its end.</summary>
    public static async Task<string> CompleteAsync(HttpClient client, CancellationToken cancellationToken = default)
    {
        using var response = await client.SendAsync(Request(stream: false), cancellationToken.CanBeCanceled ? cancellationToken : Eventually.Ct);
        return await response.Content.ReadAsStringAsync(Eventually.Ct);
    }

    /// <summary>A streamed completion, of which nothing has been read yet.</summary>
    public static Task<HttpResponseMessage> StreamAsync(HttpClient client, params (string Name, string Value)[] headers)
    {
        var request = Request(stream: true);
        foreach (var (name, value) in headers)
        {
            request.Headers.Add(name, value);
        }

        return client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Eventually.Ct);
    }

    static HttpRequestMessage Request(bool stream) => new(HttpMethod.Post, "v1/chat/completions")
    {
        Content = new StringContent($$"""{"model":"gpt-4o","stream":{{(stream ? "true" : "false")}},"messages":[{"role":"user","content":"hi"}]}""", Encoding.UTF8, "application/json"),
    };
}
