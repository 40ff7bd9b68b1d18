using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using System.Text;

namespace Warmline.Bench;

/// <summary>What the measurements share.</summary>
static class Measure
{
    public static double Median(IEnumerable<double> values)
    {
        var sorted = values.Order().ToArray();
        return sorted.Length % 2 == 1 ? sorted[sorted.Length / 2] : (sorted[(sorted.Length / 2) - 1] + sorted[sorted.Length / 2]) / 2;
    }

    public static SslClientAuthenticationOptions Trust(string caPem)
    {
        var policy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck };
        policy.CustomTrustStore.Add(X509Certificate2.CreateFromPem(caPem));
        return new SslClientAuthenticationOptions { CertificateChainPolicy = policy };
    }

    public static ByteArrayContent Json(byte[] body) => new(body) { Headers = { { "Content-Type", "application/json" } } };

    public static HttpRequestMessage Completion(Uri server, Version version, byte[] body) => Completion(server, version, Json(body));

    static HttpRequestMessage Completion(Uri server, Version version, HttpContent content) => new(HttpMethod.Post, new Uri(server, "/v1/chat/completions"))
    {
        Version = version,
        VersionPolicy = version.Major == 2 ? HttpVersionPolicy.RequestVersionOrLower : HttpVersionPolicy.RequestVersionExact,
        Content = content,
    };

    public static byte[] StreamPrompt { get; } = """{"model":"mock","stream":true,"messages":[{"role":"user","content":"xxxxxxxxxxxxxxxxxxxx"}]}"""u8.ToArray();

    public static byte[] Prompt(int bytes) => Encoding.UTF8.GetBytes($$"""{"model":"mock","messages":[{"role":"user","content":"{{new string('x', bytes)}}"}]}""");

    /// <summary>Sends one completion and reads the answer to its end, as an SDK does.</summary>
    public static async Task CallAsync(HttpClient client, Uri server, Version version, HttpContent content, PoolRequestOptions? wishes = null)
    {
        using var request = Completion(server, version, content);
        if (wishes is not null)
        {
            request.Options.SetPool(wishes);
        }

        using var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        response.EnsureSuccessStatusCode();
        await response.Content.CopyToAsync(Stream.Null);
    }
}
