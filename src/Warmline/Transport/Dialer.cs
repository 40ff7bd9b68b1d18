using System.Globalization;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using Warmline.Options;

namespace Warmline.Transport;

/// <summary>A dial that failed: the message is one sentence that names the cause, the host and the port.</summary>
internal sealed class DialException(DialPhase phase, string message, Exception? inner, bool timedOut = false) : Exception(message, inner)
{
    /// <summary>The phase that failed.</summary>
    public DialPhase Phase { get; } = phase;

    /// <summary>Whether the connect timeout ended it.</summary>
    public bool TimedOut { get; } = timedOut;
}

/// <summary>How long each phase of a dial took.</summary>
[StructLayout(LayoutKind.Auto)]
internal readonly record struct DialTimings(TimeSpan Dns, TimeSpan Tcp, TimeSpan Tls)
{
    public TimeSpan Total => Dns + Tcp + Tls;
}

/// <summary>A connection that was dialled and authenticated, and carried nothing yet.</summary>
internal sealed class DialedConnection(Stream transport, bool isHttp2, DialTimings timings, IPEndPoint? remoteEndPoint, Stream? wire = null) : IDisposable
{
    /// <summary>An authenticated <see cref="SslStream"/>, or the plain stream of an http origin.</summary>
    public Stream Transport { get; } = transport;

    /// <summary>What the network gave, below TLS.</summary>
    public Stream Wire { get; } = wire ?? transport;

    public bool IsHttp2 { get; } = isHttp2;

    public DialTimings Timings { get; } = timings;

    public IPEndPoint? RemoteEndPoint { get; } = remoteEndPoint;

    public void Dispose() => Transport.Dispose();
}

/// <summary>Opens connections: DNS, TCP, TLS with ALPN; each phase timed, one timeout over all.</summary>
internal sealed class Dialer(INetwork network, DnsCache dns, SslClientAuthenticationOptions? ssl, Http2Mode mode, TimeProvider time)
{
    readonly INetwork _network = network;
    readonly DnsCache _dns = dns;
    readonly SslClientAuthenticationOptions? _ssl = ssl;
    readonly TimeProvider _time = time;

    /// <summary>Dials. Throws <see cref="DialException"/>, or <see cref="OperationCanceledException"/> when <paramref name="ct"/> is cancelled; in both cases
    /// nothing stays open.</summary>
    public async Task<DialedConnection> DialAsync(ConnectionKey key, TimeSpan connectTimeout, CancellationToken ct)
    {
        using var timeout = new CancellationTokenSource(connectTimeout, _time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(ct, timeout.Token);
        var dial = new Dial(this, key);
        try
        {
            return await dial.RunAsync(either.Token).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            dial.Transport?.Dispose();
            if (ct.IsCancellationRequested)
            {
                throw new OperationCanceledException(e.Message, e, ct);
            }

            if (timeout.IsCancellationRequested)   // what it broke off may have thrown anything
            {
                throw new DialException(dial.Phase, dial.DescribeTimeout(connectTimeout), e, timedOut: true);
            }

            throw e as DialException ?? new DialException(dial.Phase, dial.Describe(e), e);
        }
    }

    HttpProtocols Offered(HttpProtocols asked) => mode switch
    {
        Http2Mode.Disabled => HttpProtocols.Http1,
        Http2Mode.Required when asked == HttpProtocols.Any => HttpProtocols.Http2,
        _ => asked,
    };

    /// <summary>One run: what was reached when it failed.</summary>
    sealed class Dial(Dialer dialer, ConnectionKey key)
    {
        readonly HttpProtocols _protocols = dialer.Offered(key.Protocols);
        HappyEyeballs? _race;
        CertificateCheck? _certificate;

        public DialPhase Phase { get; private set; } = DialPhase.Dns;

        public Stream? Transport { get; private set; }

        string Authority => key.Host.Contains(':') ? $"[{key.Host}]:{key.Port}" : $"{key.Host}:{key.Port}";

        public async Task<DialedConnection> RunAsync(CancellationToken cancellationToken)
        {
            // 1 DNS
            TimeProvider time = dialer._time;
            long started = time.GetTimestamp();
            IPAddress[] addresses = await dialer._dns.ResolveAsync(key.Host, cancellationToken).ConfigureAwait(false);
            TimeSpan dnsTime = time.GetElapsedTime(started);

            // 2 TCP
            Phase = DialPhase.Tcp;
            started = time.GetTimestamp();
            _race = new HappyEyeballs(dialer._network.ConnectAsync, time);
            Transport = await _race.ConnectAsync(addresses, key.Port, cancellationToken).ConfigureAwait(false);
            TimeSpan tcpTime = time.GetElapsedTime(started);
            if (!key.IsHttps)
            {
                return new(Transport, _protocols == HttpProtocols.Http2, new(dnsTime, tcpTime, TimeSpan.Zero), _race.EndPoint);
            }

            // 3 TLS
            Phase = DialPhase.Tls;
            started = time.GetTimestamp();
            Stream wire = Transport;
            var secured = new SslStream(wire);
            Transport = secured;
            _certificate = new CertificateCheck(dialer._ssl?.RemoteCertificateValidationCallback, key.TlsName, time);
            await secured.AuthenticateAsClientAsync(TlsOptions.For(dialer._ssl, key.TlsName, _protocols, _certificate), cancellationToken).ConfigureAwait(false);
            bool isHttp2 = secured.NegotiatedApplicationProtocol == SslApplicationProtocol.Http2;
            if (_protocols == HttpProtocols.Http2 && !isHttp2)
            {
                throw new DialException(Phase, $"{Authority} does not speak HTTP/2, which is required: it picked {PickedProtocol(secured)} in the TLS handshake.", null);
            }

            return new(secured, isHttp2, new(dnsTime, tcpTime, time.GetElapsedTime(started)), _race.EndPoint, wire);
        }

        public string DescribeTimeout(TimeSpan limit)
        {
            string stage = Phase switch
            {
                DialPhase.Dns => "the host name was not resolved by then",
                DialPhase.Tcp => $"no answer to the TCP connection attempt by then (tried {string.Join(", ", _race!.Tried)})",
                _ => $"{_race!.EndPoint} took the TCP connection, but the TLS handshake was not finished by then",
            };
            return $"Connecting to {Authority} timed out after {limit.TotalSeconds.ToString("0.###", CultureInfo.InvariantCulture)} s: {stage}.";
        }

        public string Describe(Exception e) => Phase switch
        {
            DialPhase.Dns => $"The host name of {Authority} could not be resolved: {Sentence(e)}.",
            DialPhase.Tcp => $"The TCP connection to {Authority} ({_race?.EndPoint}) failed: {Sentence(e)}.",
            _ when _certificate?.Problem is { } problem => $"The TLS handshake with {Authority} failed: {problem}.",
            _ => $"The TLS handshake with {Authority} ({_race?.EndPoint}) failed: {Sentence(e.GetBaseException())}{NoHttp2Hint(e)}.",
        };

        string NoHttp2Hint(Exception e) => _protocols == HttpProtocols.Http2 && e.GetBaseException().Message.Contains("application protocol", StringComparison.OrdinalIgnoreCase)
            ? "; HTTP/2 is required and the server does not speak it"
            : "";

        static string PickedProtocol(SslStream secured) => secured.NegotiatedApplicationProtocol.Protocol.IsEmpty ? "none" : secured.NegotiatedApplicationProtocol.ToString();

        static string Sentence(Exception e)
        {
            string text = e.Message.TrimEnd('.', ' ');
            return e is SocketException socket ? $"{text} ({socket.SocketErrorCode})" : text;
        }
    }
}
