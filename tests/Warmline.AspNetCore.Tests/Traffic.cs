using System.Net;
using System.Net.Sockets;
using System.Text;
using Warmline.MockLlm;

namespace Warmline.AspNetCore.Tests;

/// <summary>Calls of every kind and end to a mock provider, over a pool that is too small for them: what metrics have to tell.</summary>
internal sealed class Traffic : IAsyncDisposable
{
    Traffic(MockLlmServer mock) => Mock = mock;

    public MockLlmServer Mock { get; }

    public static async Task<Traffic> CreateAsync() => new(await MockLlmServer.StartAsync(cancellationToken: Eventually.Ct));

    public void Configure(ConnectionPoolOptions options)
    {
        options.SslOptions = Mock.CreateClientSslOptions();
        options.MaxConcurrentRequests = 4;
        options.Lanes["chat"] = new LaneOptions();
        options.Lanes["single"] = new LaneOptions { Ceiling = 1 };
        options.Tenants.Named["acme"] = new TenantOptions();
        options.Timeouts.Pool = Timeout.InfiniteTimeSpan;   // only the call that says so gives up waiting
        options.Timeouts.Connect = TimeSpan.FromMinutes(1);          // a busy machine is no failed dial
        options.UseProxy = false;
    }

    /// <summary>All of them, one kind after the other; ends when the pool has nothing in flight.</summary>
    public async Task RunAsync(ConnectionPool pool)
    {
        using var client = pool.CreateClient(Mock.BaseAddress);

        // More at once than there are places: some wait.
        await Task.WhenAll(Enumerable.Range(0, 24).Select(i => EndAsync(SendAsync(client, i % 2 == 0 ? "chat" : null, i % 3 == 0 ? "acme" : null, stream: i % 4 == 0))));

        await EndAsync(SendAsync(client, headers: ("x-mock-status", "503")));
        await Assert.ThrowsAnyAsync<HttpRequestException>(() => EndAsync(SendAsync(client, headers: ("x-mock-fault", "reset"))));

        // Left before its end, and meanwhile another of its lane is refused.
        using (await SendAsync(client, "single", stream: true, headers: [("x-mock-tokens", "4"), ("x-mock-token-gap-ms", "3600000")]))
        {
            var impatient = new PoolRequestOptions { Lane = "single", MaxQueueTime = TimeSpan.FromMilliseconds(50) };
            Assert.Equal(PoolRejectionReason.LaneCeiling, (await Assert.ThrowsAsync<PoolTimeoutException>(() => SendAsync(client, impatient))).Reason);
        }

        var silent = new PoolRequestOptions { Timeouts = new PoolTimeouts { FirstByte = TimeSpan.FromMilliseconds(200) } };
        await Assert.ThrowsAsync<RequestStalledException>(() => SendAsync(client, silent, headers: ("x-mock-service-ms", "never")));

        await Assert.ThrowsAsync<PoolConnectException>(() => client.PostAsync(new Uri($"http://127.0.0.1:{ClosedPort()}/v1"), null, Eventually.Ct));
        await EndAsync(SendAsync(client));   // so that a connection is open at the end

        // Nothing in flight, and no connection that is still being closed.
        await Eventually.TrueAsync(() => pool.GetStats() is { Active: 0, Queued: 0, Faults: { Abandoned: 1, Stalled: 1 } } stats && stats.Connections == stats.Idle, () => $"{pool.GetStats()} {pool.GetStats().Faults}");
    }

    public ValueTask DisposeAsync() => Mock.DisposeAsync();

    /// <summary>A port that nobody listens on: it was just given back.</summary>
    public static int ClosedPort()
    {
        using var free = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        free.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)free.LocalEndPoint!).Port;
    }

    static async Task EndAsync(Task<HttpResponseMessage> sent)
    {
        using var response = await sent;
        await response.Content.ReadAsByteArrayAsync(Eventually.Ct);
    }

    static Task<HttpResponseMessage> SendAsync(HttpClient client, string? lane = null, string? tenant = null, bool stream = false, params (string Name, string Value)[] headers) =>
        SendAsync(client, new PoolRequestOptions { Lane = lane, Tenant = tenant }, stream, headers);

    static Task<HttpResponseMessage> SendAsync(HttpClient client, PoolRequestOptions options, bool stream = false, params (string Name, string Value)[] headers)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, "v1/chat/completions")
        {
            Content = new StringContent($$"""{"model":"gpt-4o","stream":{{(stream ? "true" : "false")}},"messages":[{"role":"user","content":"hi"}]}""", Encoding.UTF8, "application/json"),
        };
        foreach (var (name, value) in headers)
        {
            request.Headers.Add(name, value);
        }

        request.Options.SetPool(options);
        return client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Eventually.Ct);
    }
}
