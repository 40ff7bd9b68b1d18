using System.Collections.Concurrent;
using System.IO.Compression;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Threading.Channels;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Xunit;
using HttpProtocols = Microsoft.AspNetCore.Server.Kestrel.Core.HttpProtocols;

namespace Warmline.Tests.Support;

/// <summary>A server whose streams of events a test plays piece by piece, and a pool that trusts it.</summary>
internal sealed class SseServer : IAsyncDisposable
{
    readonly TestAuthority _authority = new();
    readonly ConcurrentDictionary<string, bool> _connections = new();
    readonly Func<Play, Task> _play;
    X509Certificate2 _certificate = null!;
    KestrelServer _server = null!;
    int _aborted;
    int _requests;

    SseServer(Func<Play, Task> play) => _play = play;

    public ConnectionPool Pool { get; private set; } = null!;

    public HttpClient Client { get; private set; } = null!;

    /// <summary>Connections that carried a request.</summary>
    public int Connections => _connections.Count;

    /// <summary>Requests whose client went away before the answer's end.</summary>
    public int Aborted => Volatile.Read(ref _aborted);

    public int Requests => Volatile.Read(ref _requests);

    public ConnectionPoolOptions Options { get; private set; } = null!;

    public PoolStats Stats => Pool.GetStats();

    public Uri Address => new($"https://localhost:{_server.Port}");

    public static async Task<SseServer> StartAsync(bool http2, Func<Play, Task> play, Action<ConnectionPoolOptions>? configure = null, TimeProvider? time = null)
    {
        var server = new SseServer(play);
        server._certificate = server._authority.Issue();
        server._server = await KestrelServer.StartAsync(server._certificate, server.AnswerAsync, http2 ? HttpProtocols.Http1AndHttp2 : HttpProtocols.Http1);
        var options = new ConnectionPoolOptions { SslOptions = server._authority.Trust() };
        configure?.Invoke(options);
        server.Options = options;
        server.Pool = new ConnectionPool(options, timeProvider: time);
        server.Client = server.Pool.CreateClient(server.Address);
        return server;
    }

    /// <summary>Sends, and takes the response when its headers are there.</summary>
    public Task<HttpResponseMessage> SendAsync(PoolRequestOptions? options = null)
    {
        var request = Calls.Chat(stream: true);
        return Client.SendAsync(options is null ? request : request.With(options), HttpCompletionOption.ResponseHeadersRead, Rig.Ct);
    }

    /// <summary>So that a manual clock may be turned: the connection is up, and the server's SETTINGS are there.</summary>
    public async Task WarmUpAsync()
    {
        await Pool.WarmUpAsync(Address, 1, Rig.Ct);
        await Eventually.TrueAsync(() => Stats.Origins is [{ Connections: 1, Dialing: 0 }], () => Rig.Describe(Stats));
    }

    public Task QuietAsync() => Eventually.TrueAsync(() => Stats is { Active: 0, Queued: 0 }, () => Rig.Describe(Stats));

    public Task AbortedAsync(int count) => Eventually.TrueAsync(() => Aborted == count, () => $"{Aborted} of {Requests} aborted; {Rig.Describe(Stats)}");

    /// <summary>Reads until so much text has come, in pieces of that size at most.</summary>
    public static async Task<string> ReadUntilAsync(Stream body, string text, int pieces = 4096)
    {
        var (seen, buffer) = (new StringBuilder(), new byte[pieces]);
        while (!seen.ToString().EndsWith(text, StringComparison.Ordinal))
        {
            var read = await body.ReadAsync(buffer, Rig.Ct);
            Assert.True(read > 0, $"The stream ended after: {seen}");
            seen.Append(Encoding.UTF8.GetString(buffer, 0, read));
        }

        return seen.ToString();
    }

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        await Pool.DisposeAsync();
        await _server.DisposeAsync();
        _certificate.Dispose();
        _authority.Dispose();
    }

    async Task AnswerAsync(HttpContext http)
    {
        Interlocked.Increment(ref _requests);
        _connections.TryAdd(http.Features.Get<IHttpConnectionFeature>()!.ConnectionId, true);
        http.RequestAborted.Register(() => Interlocked.Increment(ref _aborted));
        await http.Request.Body.CopyToAsync(Stream.Null);
        http.Response.ContentType = "text/event-stream";
        try
        {
            await _play(new Play(http));
        }
        catch (OperationCanceledException)
        {
            // The client went away.
        }
    }

    /// <summary>One answer.</summary>
    internal sealed class Play(HttpContext http)
    {
        public HttpResponse Response => http.Response;

        public async Task SayAsync(string text)
        {
            await http.Response.WriteAsync(text, http.RequestAborted);
            await http.Response.Body.FlushAsync(http.RequestAborted);
        }

        /// <summary>Says what the test writes, until it writes no more.</summary>
        public async Task FollowAsync(ChannelReader<string> script, bool packs = false)
        {
            await using var gzip = packs ? new GZipStream(http.Response.Body, CompressionLevel.Fastest, leaveOpen: true) : null;
            await foreach (var text in script.ReadAllAsync(http.RequestAborted))
            {
                if (gzip is null)
                {
                    await SayAsync(text);
                    continue;
                }

                await gzip.WriteAsync(Encoding.UTF8.GetBytes(text), http.RequestAborted);
                await gzip.FlushAsync(http.RequestAborted);
                await http.Response.Body.FlushAsync(http.RequestAborted);
            }
        }

        /// <summary>Waits for the test, or the client's leaving.</summary>
        public Task UntilAsync(Task go) => go.WaitAsync(http.RequestAborted);

        public Task ForeverAsync() => UntilAsync(new TaskCompletionSource().Task);
    }
}
