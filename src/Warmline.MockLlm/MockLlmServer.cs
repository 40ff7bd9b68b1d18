using System.Net;
using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace Warmline.MockLlm;

/// <summary>
/// A provider that needs no key: OpenAI and Anthropic shapes over real TLS, HTTP/1.1 and HTTP/2, with a simulated round-trip time, scripted
/// faults and exact counters. For demos and for tests. All members are thread-safe.
/// </summary>
/// <remarks>
/// Per request, by headers, so from any language: <c>x-mock-status</c>, <c>x-mock-fault</c> (a <see cref="MockFault"/>, as <c>go-away</c>),
/// <c>x-mock-fault-after-tokens</c>,
/// <c>x-mock-before-body</c> (true), <c>x-mock-fail-first</c> (status and fault only in the first N attempts of the same <c>x-mock-id</c>;
/// 503 where neither is named),
/// <c>x-mock-error-code</c>, <c>x-mock-retry-after</c> (seconds), <c>x-mock-retry-after-forms</c> (such as <c>http-date,milliseconds</c>),
/// <c>x-mock-should-retry</c>, <c>x-mock-service-ms</c>,
/// <c>x-mock-body-delay-ms</c>, <c>x-mock-tail-delay-ms</c> (these three also <c>never</c>), <c>x-mock-tokens</c>,
/// <c>x-mock-token-gap-ms</c>, <c>x-mock-ping-ms</c>,
/// <c>x-mock-dribble-bytes</c>, <c>x-mock-dribble-gap-ms</c>, <c>x-mock-truncate-after-bytes</c>, <c>x-mock-extra-bytes</c>,
/// <c>x-mock-header-padding</c>, <c>x-mock-read-bytes-per-second</c>. They mean what the members of <see cref="MockReply"/> with those
/// names do; a script's reply wins over them. A request that offers tools is answered with a call of the first one until it brings a tool's
/// result (chat completions and messages).
/// </remarks>
public sealed class MockLlmServer : IAsyncDisposable
{
    static readonly TimeSpan StopTimeout = TimeSpan.FromSeconds(2);

    readonly MockLlmOptions _options;
    readonly MockCertificates _certificates;
    readonly DelayScheduler _scheduler;
    readonly CounterBoard _board;
    readonly StreamLimit _limit;
    readonly RequestPipeline _requests;
    readonly WebApplication _app;
    int _disposed;

    MockLlmServer(MockLlmOptions options, TimeProvider time, TimeProvider systemClock)
    {
        _options = options;
        _scheduler = new DelayScheduler(time, isSystemClock: ReferenceEquals(time, systemClock));
        _board = new CounterBoard(time, options.RecordRequests);
        _limit = new StreamLimit(options.MaxStreamsPerConnection);
        _requests = new RequestPipeline(options, _board, _scheduler, time);
        _certificates = MockCertificates.Create(
            ["localhost", "127.0.0.1", "::1", .. IsAny(options.Address) ? [] : new[] { options.Address.ToString() }, .. options.HostNames],
            options.Certificate, systemClock.GetUtcNow());
        _app = Build();
    }

    /// <summary>
    /// Where it listens: <c>https://localhost:port</c>, or the address when that is not a local one; <c>http</c> without TLS.
    /// </summary>
    public Uri BaseAddress { get; private set; } = null!;

    /// <summary>The authority that signed the server's certificate, without its key: trust this and nothing else.</summary>
    public X509Certificate2 CertificateAuthority => _certificates.Authority;

    /// <summary>Starts a server.</summary>
    /// <param name="options">Default: a free port on 127.0.0.1, TLS, HTTP/1.1 and HTTP/2, no delays. Not to be changed afterwards.</param>
    /// <param name="time">The clock of every delay and time stamp. Default: the system's.</param>
    /// <param name="cancellationToken">Ends the start.</param>
    /// <exception cref="ArgumentException">Options out of range; the message names all of them.</exception>
    /// <exception cref="IOException">The address or port is not free.</exception>
    public static async Task<MockLlmServer> StartAsync(MockLlmOptions? options = null, TimeProvider? time = null, CancellationToken cancellationToken = default)
    {
        options ??= new MockLlmOptions();
        options.Validate();
#pragma warning disable RS0030 // the outermost entry point: the one place that names the system clock
        var systemClock = TimeProvider.System;
#pragma warning restore RS0030
        var server = new MockLlmServer(options, time ?? systemClock, systemClock);
        try
        {
            await server._app.StartAsync(cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            await server.DisposeAsync().ConfigureAwait(false);
            throw;
        }

        var listening = new Uri(server._app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First());
        var host = IPAddress.IsLoopback(options.Address) || IsAny(options.Address) ? "localhost" : options.Address.ToString();
        server.BaseAddress = new UriBuilder(options.UseTls ? "https" : "http", host, listening.Port).Uri;
        return server;
    }

    /// <summary>
    /// TLS options for a client that trusts <see cref="CertificateAuthority"/> and nothing else, without revocation checks. New at each
    /// call.
    /// </summary>
    public SslClientAuthenticationOptions CreateClientSslOptions()
    {
        var policy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck };
        policy.CustomTrustStore.Add(CertificateAuthority);
        return new SslClientAuthenticationOptions { CertificateChainPolicy = policy, CertificateRevocationCheckMode = X509RevocationMode.NoCheck };
    }

    /// <summary>A consistent snapshot of all counters.</summary>
    public MockCounters GetCounters() => _board.Snapshot();

    /// <summary>
    /// Sets every count to zero and forgets closed connections, recorded requests and attempts; what is open now stays counted as open and
    /// as the peak.
    /// </summary>
    public void ResetCounters()
    {
        _board.Reset();
        _requests.Reset();
    }

    /// <summary>
    /// Completes when the counters satisfy the condition, at once if they do already. Looks after every change, but changes in quick
    /// succession may be seen as one: wait for totals and peaks, not for a passing value.
    /// </summary>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public Task WaitForAsync(Func<MockCounters, bool> reached, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(reached);
        return _board.WaitForAsync(reached, cancellationToken);
    }

    /// <summary>
    /// Announces another SETTINGS_MAX_CONCURRENT_STREAMS, 0 included, to every live HTTP/2 connection and to those to come. Returns before
    /// the frames are sent: see <see cref="MockCounters.SettingsInjected"/> and <see cref="MockCounters.SettingsAcknowledged"/>. Streams
    /// above it are counted (<see cref="MockCounters.StreamsBeyondLimit"/>) and served.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">
    /// Negative, or more than <see cref="MockLlmOptions.MaxStreamsPerConnection"/>, above which streams are refused.
    /// </exception>
    public void SetStreamLimit(int limit)
    {
        if (limit < 0 || limit > _options.MaxStreamsPerConnection)
        {
            throw new ArgumentOutOfRangeException(nameof(limit), limit,
                $"Must be 0 to {_options.MaxStreamsPerConnection}: the server refuses more than {nameof(MockLlmOptions.MaxStreamsPerConnection)} streams "
                + "whatever it announces. Start it with a higher one.");
        }

        _limit.Value = limit;
        foreach (var connection in _board.OpenConnections())
        {
            connection.Http2?.Announce(limit);
        }
    }

    /// <summary>Lets live connections fail now: all of them, or those that are chosen. Returns before the last of it has left.</summary>
    /// <param name="fault"><see cref="MockFault.Fin"/>, <see cref="MockFault.Reset"/>, <see cref="MockFault.GoAway"/> or
    /// <see cref="MockFault.Vanish"/>.</param>
    /// <param name="which">Chooses by what the server knows of a connection. Default: all.</param>
    /// <returns>How many were told to.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A fault that is none of a connection.</exception>
    public int FailConnections(MockFault fault, Func<MockConnectionRecord, bool>? which = null)
    {
        if (fault < MockFault.Fin)
        {
            throw new ArgumentOutOfRangeException(nameof(fault), fault, "Must be Fin, Reset, GoAway or Vanish: the others are of one answer.");
        }

        var chosen = _board.OpenConnections(which ?? (_ => true));
        foreach (var connection in chosen)
        {
            connection.Faults.Fail(fault);
        }

        return chosen.Length;
    }

    /// <summary>The network as seen by clients in this process: DNS and TCP take their time at the client.</summary>
    /// <exception cref="InvalidOperationException">
    /// With a round-trip time, <see cref="MockLlmOptions.TcpHandshakeAtServer"/> must be false, or TCP would be paid twice.
    /// </exception>
    public MockNetwork CreateNetwork() =>
        _options.TcpHandshakeAtServer && _options.RoundTripTime > TimeSpan.Zero
            ? throw new InvalidOperationException(
                $"The TCP handshake would be paid twice: start the server with {nameof(MockLlmOptions.TcpHandshakeAtServer)} = false.")
            : new MockNetwork(_scheduler, IsAny(_options.Address) ? IPAddress.Loopback : _options.Address, _options.RoundTripTime);

    /// <summary>
    /// The requests since the start or the last <see cref="ResetCounters"/>, in order of arrival; empty without
    /// <see cref="MockLlmOptions.RecordRequests"/>.
    /// </summary>
    public IReadOnlyList<MockRequestRecord> GetRequests() => _board.Requests();

    /// <summary>Stops: idle connections are closed in good order, running answers are cut.</summary>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
        {
            return;
        }

        var stopped = _app.StopAsync(CancellationToken.None);
        foreach (var connection in _board.OpenConnections())
        {
            if (connection.IsBusy)
            {
                connection.AbortNow("the server is stopping");
            }
        }

        await stopped.ConfigureAwait(false);
        await _app.DisposeAsync().ConfigureAwait(false);
        _scheduler.Dispose();
        _certificates.Dispose();
    }

    WebApplication Build()
    {
        // The empty builder: no configuration files, no environment, no logging, no signal handlers.
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.Services.AddSingleton<IHostLifetime, SilentLifetime>();
        builder.Services.Configure<HostOptions>(host => host.ShutdownTimeout = StopTimeout);
        builder.WebHost.UseKestrelCore().UseKestrelHttpsConfiguration().ConfigureKestrel(Configure);
        var app = builder.Build();
        app.Run(_requests.HandleAsync);
        return app;
    }

    void Configure(KestrelServerOptions kestrel)
    {
        var connections = new ConnectionPipeline(_options, _board, _scheduler, _limit, _certificates.Leaf.RawData.Length);
        kestrel.AddServerHeader = false;
        kestrel.Limits.MaxRequestBodySize = null;
        kestrel.Limits.MinRequestBodyDataRate = null; // a client may be as slow as a test wants it
        kestrel.Limits.MinResponseDataRate = null;
        kestrel.Limits.KeepAliveTimeout = _options.IdleTimeout;
        kestrel.Limits.Http2.MaxStreamsPerConnection = _options.MaxStreamsPerConnection;
        kestrel.Listen(_options.Address, _options.Port, listen =>
        {
            listen.Protocols = _options.Protocols;
            listen.Use(next => context => connections.BelowTlsAsync(context, next));
            if (_options.UseTls)
            {
                listen.UseHttps(new HttpsConnectionAdapterOptions { ServerCertificate = _certificates.Leaf });
            }

            listen.Use(next => context => connections.AboveTlsAsync(context, next));
        });
    }

    static bool IsAny(IPAddress address) => address.Equals(IPAddress.Any) || address.Equals(IPAddress.IPv6Any);

    /// <summary>Ctrl+C belongs to the process that runs the server, not to the server.</summary>
    sealed class SilentLifetime : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }
}
