using System.Net;
using System.Net.Http.Headers;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json;
using Warmline.Transport;

namespace Warmline.Cli.Demo;

/// <summary>An endpoint that somebody pays for.</summary>
/// <param name="Address">Where the calls go: chat completions, or messages.</param>
/// <param name="IsAnthropic">Which shape the calls have.</param>
/// <param name="Model">The model to ask.</param>
/// <param name="Key">The secret; never printed. Null: calls go without one.</param>
/// <param name="Authority">An authority to trust beside the platform's; null: none.</param>
internal sealed record RealTarget(Uri Address, bool IsAnthropic, string Model, string? Key, X509Certificate2? Authority)
{
    /// <summary>Newer models of OpenAI insist on <c>max_completion_tokens</c>, compatible servers know <c>max_tokens</c>.</summary>
    public string TokensField { get; init; } = "max_tokens";

    /// <summary>What may be shown: never a query.</summary>
    public string Display => Address.GetLeftPart(UriPartial.Path);

    // A record would print the key.
    public override string ToString() => Display;
}

/// <summary>The endpoint of <c>--url</c>, over the machine's own network.</summary>
internal sealed class RealEndpoint(RealTarget target, bool stream) : Endpoint
{
    static readonly TimeSpan ConnectTimeout = TimeSpan.FromSeconds(10);

    public override Uri Address => target.Address;

    public override INetwork Network { get; } = new SystemNetwork(new TcpKeepAliveOptions());

    protected override string Body => $$"""{"model":"{{JsonEncodedText.Encode(target.Model)}}","{{target.TokensField}}":{{Tokens}},"stream":{{(stream ? "true" : "false")}},"messages":[{"role":"user","content":"{{Prompt}}"}]}""";

    public override SslClientAuthenticationOptions? CreateSslOptions() => target.Authority is { } authority ? Trusting(authority) : null;

    /// <summary>Trusts an authority beside the platform's.</summary>
    public static SslClientAuthenticationOptions Trusting(X509Certificate2 authority) => new()
    {
        RemoteCertificateValidationCallback = (_, certificate, chain, errors) => errors is SslPolicyErrors.None
            || (errors is SslPolicyErrors.RemoteCertificateChainErrors && certificate is not null && IsSignedBy(authority, new X509Certificate2(certificate), chain)),
    };

    public override ValueTask DisposeAsync() => ValueTask.CompletedTask;

    protected override void AddHeaders(HttpRequestHeaders headers)
    {
        if (target.IsAnthropic)
        {
            headers.TryAddWithoutValidation("anthropic-version", "2023-06-01");
        }

        if (target.Key is { } key)
        {
            headers.TryAddWithoutValidation(target.IsAnthropic ? "x-api-key" : "authorization", target.IsAnthropic ? key : "Bearer " + key);
        }
    }

    /// <summary>
    /// One call before anything is measured, so that a wrong key or address is one clear sentence. Gives the target that works.
    /// </summary>
    /// <exception cref="DemoException">It does not work.</exception>
    public static async Task<RealTarget> CheckAsync(RealTarget target, TimeProvider time, CancellationToken stop)
    {
        await using var endpoint = new RealEndpoint(target, stream: false);
        using var handler = new PlainDialer(endpoint, time).CreateHandler();
        handler.ConnectTimeout = ConnectTimeout;
        using var client = new HttpClient(handler);
        try
        {
            using var request = endpoint.CreateRequest();
            using var response = await client.SendAsync(request, stop);
            if (response.IsSuccessStatusCode)
            {
                return target;
            }

            var said = await SaidAsync(response, target, stop);
            if (response.StatusCode is HttpStatusCode.BadRequest && target.TokensField == "max_tokens" && said.Contains("max_completion_tokens", StringComparison.Ordinal))
            {
                return await CheckAsync(target with { TokensField = "max_completion_tokens" }, time, stop);
            }

            throw new DemoException($"{target.Display} answered {(int)response.StatusCode}. " + response.StatusCode switch
            {
                // What the provider says then may hold a part of the key: it is not shown.
                HttpStatusCode.Unauthorized or HttpStatusCode.Forbidden => target.Key is null
                    ? "It wants a key: put it into an environment variable and name that with --key-env."
                    : $"It does not accept the key of --key-env: check it, and whether --api fits.",
                HttpStatusCode.NotFound => $"Check the address, and --model '{target.Model}'. {said}",
                HttpStatusCode.TooManyRequests => $"Its rate limit is reached: wait, or send fewer --calls. {said}",
                _ => said,
            });
        }
        catch (HttpRequestException failure)
        {
            throw new DemoException($"cannot reach {target.Display}: {Cause(failure)}");
        }
        catch (OperationCanceledException) when (!stop.IsCancellationRequested)
        {
            throw new DemoException($"cannot reach {target.Display}: no connection within {ConnectTimeout.TotalSeconds:0} s, or no answer within {client.Timeout.TotalSeconds:0} s. Check the address and the network.");
        }
    }

    public static string Cause(HttpRequestException failure, string option = "--url") => failure switch
    {
        { InnerException: SocketException { SocketErrorCode: SocketError.HostNotFound or SocketError.TryAgain or SocketError.NoData } } => "the host name cannot be resolved. Check " + option + ".",
        { InnerException: SocketException socket } => $"{socket.Message.TrimEnd('.')}. Check {option}, and whether this machine may connect without a proxy.",
        { InnerException: AuthenticationException tls } => $"TLS failed: {OneLine(tls.Message).TrimEnd('.')}. If its certificate comes from an authority of your own, name that with --ca-file.",
        { InnerException: { } inner } => OneLine(inner.Message),
        _ => OneLine(failure.Message),
    };

    /// <summary>The provider's own message, in one line, without the key.</summary>
    static async Task<string> SaidAsync(HttpResponseMessage response, RealTarget target, CancellationToken stop)
    {
        const int Most = 300;
        var text = await response.Content.ReadAsStringAsync(stop);
        try
        {
            using var json = JsonDocument.Parse(text);
            if (json.RootElement.TryGetProperty("error", out var error) && error.ValueKind is JsonValueKind.Object && error.TryGetProperty("message", out var message))
            {
                text = message.ToString();
            }
        }
        catch (Exception failure) when (failure is JsonException or InvalidOperationException)
        {
            // Not a provider's error body: the text as it is.
        }

        text = OneLine(target.Key is { Length: > 0 } key ? text.Replace(key, "***", StringComparison.Ordinal) : text);
        return text.Length == 0 ? "" : $"It says: {(text.Length > Most ? text[..Most] + "..." : text)}";
    }

    static string OneLine(string text) => string.Join(' ', text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));

    static bool IsSignedBy(X509Certificate2 authority, X509Certificate2 certificate, X509Chain? sent)
    {
        using var chain = new X509Chain();
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
        chain.ChainPolicy.CustomTrustStore.Add(authority);
        foreach (var element in sent?.ChainElements ?? Enumerable.Empty<X509ChainElement>())
        {
            chain.ChainPolicy.ExtraStore.Add(element.Certificate);   // intermediates that the server sent along
        }

        return chain.Build(certificate);
    }
}
