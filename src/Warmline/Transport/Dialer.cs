using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Security.Authentication;
using Warmline.Options;

namespace Warmline.Transport;

/// <summary>A dial that failed: the message is one sentence that names the cause, the host and the port.</summary>
internal sealed class DialException(DialPhase phase, string message, Exception? inner, bool timedOut = false) : Exception(message, inner)
{
    /// <summary>The phase that failed.</summary>
    public DialPhase Phase { get; } = phase;

    /// <summary>Whether the connect timeout ended it.</summary>
    public bool TimedOut { get; } = timedOut;

    /// <summary>What the proxy answered that refused the tunnel; null otherwise.</summary>
    public HttpStatusCode? ProxyStatus { get; init; }

    /// <summary>The server does not speak HTTP/2, which alone was offered.</summary>
    public bool LacksHttp2 { get; init; }
}

/// <summary>How long each phase of a dial took.</summary>
[StructLayout(LayoutKind.Auto)]
internal readonly record struct DialTimings(TimeSpan Dns, TimeSpan Tcp, TimeSpan Tls)
{
    /// <summary>From the TCP connection to the proxy's tunnel; zero without a proxy.</summary>
    public TimeSpan Proxy { get; init; }

    public TimeSpan Total => Dns + Tcp + Proxy + Tls;
}

/// <summary>A connection that was dialled and authenticated, and carried nothing yet.</summary>
internal sealed class DialedConnection(Stream transport, bool isHttp2, DialTimings timings, IPEndPoint? remoteEndPoint,
    Stream? wire = null, INetwork? network = null) : IDisposable
{
    /// <summary>An authenticated <see cref="SslStream"/>, or the plain stream of an http origin.</summary>
    public Stream Transport { get; } = transport;

    /// <summary>What the network gave, below TLS.</summary>
    public Stream Wire { get; } = wire ?? transport;

    public bool IsHttp2 { get; } = isHttp2;

    public DialTimings Timings { get; } = timings;

    public IPEndPoint? RemoteEndPoint { get; } = remoteEndPoint;

    /// <summary>The address that it comes from; null when it is not a socket.</summary>
    public IPAddress? LocalAddress { get; } = AddressOf((wire ?? transport) as NetworkStream);

    /// <summary>What the network knows of it after it has been idle for <paramref name="rested"/>.</summary>
    public WireState Look(TimeSpan rested)
    {
        try
        {
            return network?.Look(Wire, rested) ?? WireState.Alive;
        }
        catch (Exception)   // the call that looks holds a lease
        {
            return WireState.Alive;
        }
    }

    /// <summary>Bytes written and acknowledged so far; null where the system does not say.</summary>
    public SendProgress? Progress() => network?.Progress(Wire);

    /// <summary>The proxy that forwards its requests; null for a tunnel, and without a proxy.</summary>
    public ForwardProxy? Forward { get; init; }

    public void Dispose() => Transport.Dispose();

    static IPAddress? AddressOf(NetworkStream? wire)
    {
        try
        {
            return wire?.Socket.LocalEndPoint is not IPEndPoint { Address: var address } ? null
                : address.IsIPv4MappedToIPv6 ? address.MapToIPv4() : address;
        }
        catch (SocketException)
        {
            return null;   // the system does not say
        }
    }
}

/// <summary>
/// Opens connections: DNS, TCP, the proxy's tunnel where there is a proxy, TLS with ALPN; each phase timed, one timeout over all but the
/// first. <paramref name="proxy"/> is asked for credentials only: which proxy there is stands in the key.
/// </summary>
internal sealed class Dialer(INetwork network, DnsCache dns, SslClientAuthenticationOptions? ssl, Http2Mode mode, TimeProvider time,
    IWebProxy? proxy = null)
{
    /// <summary>
    /// A lookup is not part of the time to connect: resolvers ask again after 5 s, and callers have their own time to wait. This ends one
    /// that would never come to an end; with its defaults glibc gives up after 30 s (resolv.conf(5): 3 servers, 2 attempts of 5 s).
    /// </summary>
    static readonly TimeSpan LongestLookup = TimeSpan.FromMinutes(1);

    readonly INetwork _network = network;
    readonly DnsCache _dns = dns;
    readonly SslClientAuthenticationOptions? _ssl = ssl;
    readonly TimeProvider _time = time;
    readonly IWebProxy? _proxy = proxy;

    /// <summary>The User-Agent that a tunnel is asked for with; null for a default.</summary>
    public Func<ConnectionKey, string?>? UserAgent { get; init; }

    /// <summary>Dials. Throws <see cref="DialException"/>, or <see cref="OperationCanceledException"/> when <paramref name="ct"/> is
    /// cancelled; in both cases nothing stays open.</summary>
    public Task<DialedConnection> DialAsync(ConnectionKey key, TimeSpan connectTimeout, CancellationToken ct) =>
        DialAsync(key, connectTimeout, null, ct);

    /// <inheritdoc cref="DialAsync(ConnectionKey, TimeSpan, CancellationToken)"/>
    public async Task<DialedConnection> DialAsync(ConnectionKey key, TimeSpan connectTimeout, DialUnderWay? underWay, CancellationToken ct)
    {
        using var timeout = new CancellationTokenSource(connectTimeout > LongestLookup || connectTimeout < TimeSpan.Zero
            ? connectTimeout : LongestLookup, _time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(ct, timeout.Token);
        var dial = new Dial(this, key, underWay);
        try
        {
            var dialed = await dial.RunAsync(() => timeout.CancelAfter(connectTimeout), either.Token).ConfigureAwait(false);
            dial.EndPhase();
            return dialed;
        }
        catch (Exception e)
        {
            dial.EndPhase(e);
            dial.Transport?.Dispose();
            if (ct.IsCancellationRequested)
            {
                throw new OperationCanceledException(e.Message, e, ct);
            }

            if (timeout.IsCancellationRequested)   // what it broke off may have thrown anything
            {
                throw new DialException(dial.Phase,
                    dial.DescribeTimeout(dial.Phase is DialPhase.Dns && connectTimeout < LongestLookup ? LongestLookup : connectTimeout),
                    e, timedOut: true);
            }

            throw e as DialException ?? new DialException(dial.Phase, dial.Describe(e), e) { LacksHttp2 = dial.IsRefusedHttp2(e) };
        }
    }

    HttpProtocols Offered(HttpProtocols asked) => mode switch
    {
        Http2Mode.Disabled => HttpProtocols.Http1,
        Http2Mode.Required when asked == HttpProtocols.Any => HttpProtocols.Http2,
        _ => asked,
    };

    /// <summary>One run: what was reached when it failed.</summary>
    sealed class Dial(Dialer dialer, ConnectionKey key, DialUnderWay? underWay)
    {
        readonly HttpProtocols _protocols = dialer.Offered(key.Protocols);
        HappyEyeballs? _race;
        CertificateCheck? _certificate;
        readonly Activity? _connect = Activity.Current;
        Stream? _wire;
        Activity? _span;

        public DialPhase Phase { get; private set; }

        public Stream? Transport { get; private set; }

        /// <summary>Whose name and port the first two phases are about.</summary>
        string FirstHop => key.Proxy is { } proxy ? $"the proxy {proxy}" : key.Authority;

        /// <summary>The address that was connected to, where a name stands before it: an address would only be said twice.</summary>
        string At => _race?.EndPoint is { } endPoint && !IPAddress.TryParse(key.DialedHost, out _) ? $" ({endPoint})" : "";

        bool Forwards => key.IsForwarded && _protocols is not HttpProtocols.Http2;

        string Target => key.Proxy is { } proxy ? $"{key.Authority} through the proxy {proxy}" : key.Authority;

        /// <summary><paramref name="begin"/>: the host's name is resolved, so the time to connect begins.</summary>
        public async Task<DialedConnection> RunAsync(Action begin, CancellationToken cancellationToken)
        {
            if (key.Proxy is { IsSupported: false } unsupported)
            {
                throw new DialException(DialPhase.Proxy, $"The proxy {unsupported} for {key.Authority} cannot be used: only proxies with an http:// or https:// address are supported.", null);
            }

            // 1 DNS
            Begin(DialPhase.Dns);
            TimeProvider time = dialer._time;
            long started = time.GetTimestamp();
            IPAddress[] addresses = await dialer._dns.ResolveAsync(key.DialedHost, cancellationToken).ConfigureAwait(false);
            begin();
            var timings = new DialTimings(time.GetElapsedTime(started), TimeSpan.Zero, TimeSpan.Zero);

            // 2 TCP
            timings = await ConnectAsync(addresses, timings, cancellationToken).ConfigureAwait(false);

            // 3 Proxy
            if (key.Proxy is { } forwarding && Forwards)
            {
                return await ForwardAsync(forwarding, timings, cancellationToken).ConfigureAwait(false);
            }

            if (key.Proxy is { } proxy)
            {
                string? basic = ProxyTunnel.BasicFor(proxy, dialer._proxy?.Credentials);
                started = time.GetTimestamp();
                var answer = await AskProxyAsync(proxy, basic, cancellationToken).ConfigureAwait(false);
                timings = timings with { Proxy = time.GetElapsedTime(started) };
                if (answer.WantsBasic && ProxyTunnel.BasicFor(proxy, dialer._proxy?.Credentials) is { } renewed && renewed != basic)
                {
                    // There are credentials that it has not seen, such as a password that was changed: once more, on a connection that it
                    // has not said no on.
                    basic = renewed;
                    await Transport!.DisposeAsync().ConfigureAwait(false);
                    timings = await ConnectAsync(addresses, timings, cancellationToken).ConfigureAwait(false);
                    started = time.GetTimestamp();
                    answer = await AskProxyAsync(proxy, basic, cancellationToken).ConfigureAwait(false);
                    timings = timings with { Proxy = timings.Proxy + time.GetElapsedTime(started) };
                }

                if (!answer.IsTunnel)
                {
                    throw new DialException(Phase,
                        $"The proxy {proxy} refused a tunnel to {key.Authority}: {Refusal(answer, basic is not null)}.",
                        null) { ProxyStatus = (HttpStatusCode)answer.Status };
                }
            }

            if (!key.IsHttps)
            {
                return new(Transport!, _protocols == HttpProtocols.Http2, timings, _race!.EndPoint, _wire, dialer._network);
            }

            // 4 TLS
            Begin(DialPhase.Tls);
            started = time.GetTimestamp();
            var secured = await SecureAsync(key.TlsName, _protocols, cancellationToken).ConfigureAwait(false);
            bool isHttp2 = secured.NegotiatedApplicationProtocol == SslApplicationProtocol.Http2;
            if (_protocols == HttpProtocols.Http2 && !isHttp2)
            {
                throw new DialException(Phase,
                    $"{key.Authority} does not speak HTTP/2, which is required: it picked {PickedProtocol(secured)} in the TLS handshake.",
                    null) { LacksHttp2 = true };
            }

            return new(secured, isHttp2, timings with { Tls = time.GetElapsedTime(started) }, _race!.EndPoint, _wire, dialer._network);
        }

        async Task<DialTimings> ConnectAsync(IPAddress[] addresses, DialTimings timings, CancellationToken cancellationToken)
        {
            Begin(DialPhase.Tcp);
            long started = dialer._time.GetTimestamp();
            _race = new HappyEyeballs(dialer._network.ConnectAsync, dialer._time);
            underWay?.Race = _race;
            _wire = null;
            try
            {
                Transport = _wire = await _race.ConnectAsync(addresses, key.DialedPort, cancellationToken).ConfigureAwait(false);
            }
            finally
            {
                dialer._dns.Note(key.DialedHost, _race.Tried, _wire is null ? null : _race.EndPoint!.Address);
            }

            return timings with { Tcp = timings.Tcp + dialer._time.GetElapsedTime(started) };
        }

        /// <summary>Plain http: the proxy is told with each request where it goes.</summary>
        async Task<DialedConnection> ForwardAsync(ProxyAddress proxy, DialTimings timings, CancellationToken cancellationToken)
        {
            Begin(DialPhase.Proxy);
            var started = dialer._time.GetTimestamp();
            if (proxy.IsHttps)
            {
                await SecureAsync(proxy.Host, HttpProtocols.Http1, cancellationToken).ConfigureAwait(false);
            }

            timings = timings with { Proxy = dialer._time.GetElapsedTime(started) };
            return new(Transport!, isHttp2: false, timings, _race!.EndPoint, _wire, dialer._network)
            {
                Forward = new ForwardProxy(proxy, ProxyTunnel.BasicFor(proxy, dialer._proxy?.Credentials)),
            };
        }

        async Task<ProxyAnswer> AskProxyAsync(ProxyAddress proxy, string? basic, CancellationToken cancellationToken)
        {
            Begin(DialPhase.Proxy);
            if (proxy.IsHttps)
            {
                await SecureAsync(proxy.Host, HttpProtocols.Http1, cancellationToken).ConfigureAwait(false);
            }

            var agent = dialer.UserAgent?.Invoke(key);
            return await ProxyTunnel.AskAsync(Transport!, key.Authority, basic, agent, cancellationToken).ConfigureAwait(false);
        }

        async Task<SslStream> SecureAsync(string name, HttpProtocols protocols, CancellationToken cancellationToken)
        {
            var secured = new SslStream(Transport!);
            Transport = secured;
            _certificate = new CertificateCheck(dialer._ssl?.RemoteCertificateValidationCallback, name, dialer._time);
            await secured.AuthenticateAsClientAsync(TlsOptions.For(dialer._ssl, name, protocols, _certificate), cancellationToken)
                .ConfigureAwait(false);
            return secured;
        }

        public void EndPhase(Exception? error = null)
        {
            if (error is not null)
            {
                _span?.Fail(error.GetType().FullName!, error.Message);
            }

            _span?.StopAnywhere();
            _span = null;
        }

        void Begin(DialPhase phase)
        {
            EndPhase();
            Phase = phase;
            underWay?.Advance(phase);
            _span = PoolActivities.StartPhase(_connect, phase);
        }

        public string DescribeTimeout(TimeSpan limit)
        {
            string stage = Phase switch
            {
                DialPhase.Dns => $"the {(key.Proxy is null ? "" : "proxy's ")}host name was not resolved by then",
                DialPhase.Tcp => $"no answer to the TCP connection attempt by then (tried {string.Join(", ", _race!.Tried)}); {OnTheWay}",
                DialPhase.Proxy when Forwards =>
                    "the proxy took the TCP connection, but the TLS handshake with it was not finished by then",
                DialPhase.Proxy => "the proxy took the TCP connection, but had not answered CONNECT by then",
                _ => $"{(key.Proxy is null ? $"{_race!.EndPoint} took the TCP connection" : "the proxy gave a tunnel")}, but the TLS handshake was not finished by then",
            };
            return $"Connecting to {Target} timed out after {limit.TotalSeconds.ToString("0.###", CultureInfo.InvariantCulture)} s: {stage}.";
        }

        public string Describe(Exception e) => Phase switch
        {
            DialPhase.Dns => $"The host name of {FirstHop} could not be resolved: {Sentence(e)}. Check the address's spelling, and the DNS of this machine or container.",
            DialPhase.Tcp => $"The TCP connection to {FirstHop}{At} failed: {Sentence(e)}.{TcpAdvice(e)}",
            DialPhase.Proxy when e is InvalidDataException or EndOfStreamException =>
                $"The proxy {key.Proxy} did not open a tunnel to {key.Authority}: {Sentence(e)}.",
            DialPhase.Proxy when e is AuthenticationException => $"The TLS handshake with {FirstHop}{At} failed: {_certificate?.Problem ?? Sentence(e.GetBaseException())}.{_certificate?.Advice}",
            DialPhase.Proxy when Forwards => $"The connection to {FirstHop} broke in the TLS handshake: {Sentence(e.GetBaseException())}.",
            DialPhase.Proxy => $"The connection to {FirstHop} broke before there was a tunnel to {key.Authority}: {Sentence(e.GetBaseException())}.",
            _ when _certificate?.Problem is { } problem => $"The TLS handshake with {Target} failed: {problem}.{_certificate.Advice}",
            _ => $"The TLS handshake with {Target}{At} failed: {Sentence(e.GetBaseException())}{NoHttp2Hint(e)}.",
        };

        /// <summary>What the proxy said, and what to change.</summary>
        string Refusal(ProxyAnswer answer, bool sentCredentials) => answer.Text + ((HttpStatusCode)answer.Status) switch
        {
            _ when answer is { WantsLogin: true, WantsBasic: false, Schemes.Count: > 0 } =>
                $" by {string.Join(", ", answer.Schemes)}; only Basic is supported",
            _ when answer.WantsLogin && sentCredentials => "; it does not accept the user name and password that it was given",
            _ when answer.WantsLogin => "; give a user name and password in the proxy's address (http://user:password@proxy.example:3128), or by Proxy.Credentials",
            HttpStatusCode.Forbidden or HttpStatusCode.MethodNotAllowed => $"; its rules do not allow {key.Host} or port {key.Port}",
            HttpStatusCode.BadGateway or HttpStatusCode.GatewayTimeout => $"; it could not reach {key.Authority}",
            _ => "",
        };

        string OnTheWay => key.Proxy is null
            ? "a firewall may be in the way, or calls have to take a proxy" : "a firewall may be in the way";

        string TcpAdvice(Exception e) => (e as SocketException)?.SocketErrorCode switch
        {
            SocketError.ConnectionRefused => " Does a server listen there?",
            SocketError.TimedOut or SocketError.HostUnreachable or SocketError.HostDown or SocketError.NetworkUnreachable or SocketError.NetworkDown => $" {char.ToUpperInvariant(OnTheWay[0])}{OnTheWay[1..]}.",
            _ => "",
        };

        public bool IsRefusedHttp2(Exception e) =>
            _protocols == HttpProtocols.Http2
                && e.GetBaseException().Message.Contains("application protocol", StringComparison.OrdinalIgnoreCase);

        string NoHttp2Hint(Exception e) => IsRefusedHttp2(e)
            ? "; HTTP/2 is required and the server does not speak it"
            : "";

        static string PickedProtocol(SslStream secured) =>
            secured.NegotiatedApplicationProtocol.Protocol.IsEmpty ? "none" : secured.NegotiatedApplicationProtocol.ToString();

        static string Sentence(Exception e)
        {
            string text = e.Message.TrimEnd('.', ' ');
            return e is SocketException socket ? $"{text} ({socket.SocketErrorCode})" : text;
        }
    }
}
