using System.Net;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Warmline.Tests.Http;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.HostCode;

/// <summary>A pool's life in which it logs what it can: a dial that fails, connections that open and end, a response that is held and one
/// that leaks, the line of figures, reloads, drain and dispose. It says in a few words how each step ended.</summary>
internal sealed class LoggerScenario : IAsyncDisposable
{
    const int MostCalls = 6;

    static readonly TimeSpan Threshold = TimeSpan.FromSeconds(60);

    readonly ManualTime _time = ManualTime.Early;
    readonly IConfigurationRoot _configuration;
    readonly ServiceProvider _services;
    readonly List<string> _told = [];
    RawHttp1Server? _server;

    public LoggerScenario(ILoggerFactory logs)
    {
        _configuration = new ConfigurationBuilder().AddInMemoryCollection([KeyValuePair.Create("MaxConnections", (string?)"2")]).Build();
        var services = new ServiceCollection();
        services.AddSingleton(logs);
        services.AddSingleton<TimeProvider>(_time);
        services.AddConnectionPool(static options =>
            (options.LeakThreshold, options.StatsLogInterval, options.UseProxy) = (Threshold, TimeSpan.FromHours(1), false)).Bind(_configuration);
        _services = services.BuildServiceProvider();
        Pool = _services.GetRequiredService<ConnectionPool>();
        Client = Pool.CreateClient();
    }

    public ConnectionPool Pool { get; }

    public HttpClient Client { get; }

    /// <summary>Plays it to the end, disposal included; a line for each step.</summary>
    public async Task<IReadOnlyList<string>> PlayAsync()
    {
        var refused = await Assert.ThrowsAsync<PoolConnectException>(() => Client.GetAsync(ClosedAddress(), Rig.Ct));
        Tell($"refused: {refused.Phase} {refused.Verdict}");

        // Each connection answers once and ends; two at a time are allowed.
        _server = new RawHttp1Server(AnswerAsync);
        var address = new Uri($"http://localhost:{_server.Port}/");
        for (var i = 0; i < MostCalls; i++)
        {
            Tell($"closing: {await CallAsync(new Uri(address, "close"))}");
        }

        var together = Enumerable.Range(0, MostCalls).Select(_ => CallAsync(address)).ToArray();
        Tell($"together: {string.Join(' ', await Task.WhenAll(together))}");
        await HoldAsync(address);
        await LeakAsync(address);
        await Eventually.TrueAsync(() =>
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
            return Pool.GetStats() is { Active: 0, Faults.Leaked: 1 };
        }, () => Rig.Describe(Pool.GetStats()));
        Tell("leak: found");

        _time.Advance(TimeSpan.FromHours(1));
        Reload("MaxConnections", "3");
        Tell($"reloaded: {Pool.GetStats().MaxConnections}");
        Reload("MaxConnections", "0");
        Reload("Enabled", "false");
        Reload("MaxConnections", "4");
        Reload("Enabled", "true");
        Tell($"reloaded: {Pool.GetStats().MaxConnections} {Pool.GetStats().Enabled}");
        Tell($"after: {await CallAsync(address)}");

        var running = await Client.GetAsync(new Uri(address, "stream"), HttpCompletionOption.ResponseHeadersRead, Rig.Ct);
        var draining = Pool.DrainAsync(TimeSpan.FromSeconds(20), Rig.Ct);
        await Eventually.TrueAsync(() => _time.HasTimerIn(TimeSpan.FromSeconds(15)));
        _time.Advance(TimeSpan.FromSeconds(15));
        await Eventually.TrueAsync(() => _time.HasTimerIn(TimeSpan.FromSeconds(5)));
        _time.Advance(TimeSpan.FromSeconds(5));
        Tell($"drained: {(await draining).Count} cut");
        await _services.DisposeAsync();
        running.Dispose();
        await Eventually.TrueAsync(() => Pool.GetStats().Active == 0);
        Tell($"disposed: {Pool.GetStats().Connections} connections, {Pool.GetStats().Queued} waiting");
        return _told;
    }

    public async ValueTask DisposeAsync()
    {
        await _services.DisposeAsync();
        Client.Dispose();
        if (_server is not null)
        {
            await _server.DisposeAsync();
        }
    }

    async Task AnswerAsync(RawHttp1 connection)
    {
        while (await connection.ReadHeadAsync() is { Length: > 0 } head)
        {
            if (head.StartsWith("GET /stream", StringComparison.Ordinal))
            {
                await connection.SayAsync("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\nbegun");
                await connection.ReadToEndAsync();
                return;
            }

            if (head.StartsWith("GET /close", StringComparison.Ordinal))
            {
                await connection.SayAsync(RawHttp1.Ok("ok", "Connection: close\r\n"));
                return;
            }

            await connection.SayAsync(RawHttp1.Ok("ok"));
        }
    }

    async Task<string> CallAsync(Uri address)
    {
        // The pause after a failed dial is a part of some waits.
        var call = Client.GetAsync(address, Rig.Ct);
        await Eventually.TrueAsync(() =>
        {
            _time.Advance(TimeSpan.FromMilliseconds(1));
            return call.IsCompleted;
        }, () => Rig.Describe(Pool.GetStats()));
        using var response = await call;
        return $"{(int)response.StatusCode}";
    }

    async Task HoldAsync(Uri address)
    {
        using var response = await Client.GetAsync(new Uri(address, "stream"), HttpCompletionOption.ResponseHeadersRead, Rig.Ct);
        _time.Advance(Threshold * 2);
        Tell($"held: {Pool.GetStats().Active}");
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    async Task LeakAsync(Uri address)
    {
        var response = await Client.GetAsync(new Uri(address, "stream"), HttpCompletionOption.ResponseHeadersRead, Rig.Ct);
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
    }

    void Reload(string key, string value)
    {
        _configuration[key] = value;
        _configuration.Reload();
    }

    void Tell(string what) => _told.Add(what);

    static Uri ClosedAddress()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return new Uri($"http://127.0.0.1:{((IPEndPoint)socket.LocalEndPoint!).Port}/");
    }
}
