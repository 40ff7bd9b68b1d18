using System.Net;
using Microsoft.AspNetCore.Server.Kestrel.Core;

namespace Warmline.MockLlm;

/// <summary>
/// Which certificate the server presents. Whatever it is, <see cref="MockLlmServer.CertificateAuthority"/> is the authority a client
/// trusts.
/// </summary>
public enum MockCertificate
{
    /// <summary>Valid for localhost, 127.0.0.1, ::1, the address listened on and <see cref="MockLlmOptions.HostNames"/>.</summary>
    Valid,

    /// <summary>The right names, signed by the trusted authority, expired long ago.</summary>
    Expired,

    /// <summary>Signed by the trusted authority for a name that is none of the server's.</summary>
    WrongName,

    /// <summary>The right names, signed by a second authority that nobody trusts.</summary>
    Untrusted,
}

/// <summary>How a <see cref="MockLlmServer"/> listens, how long it takes and what it answers. Read once, when the server starts.</summary>
public sealed class MockLlmOptions
{
    /// <summary>The address to listen on. Default: 127.0.0.1.</summary>
    public IPAddress Address { get; set; } = IPAddress.Loopback;

    /// <summary>The TCP port to listen on, 0-65535. Default: 0, a free one.</summary>
    public int Port { get; set; }

    /// <summary>
    /// TLS with a certificate of an authority made at start. Default: true. Without it, HTTP/2 needs <see cref="Protocols"/> to be HTTP/2
    /// only (prior knowledge).
    /// </summary>
    public bool UseTls { get; set; } = true;

    /// <summary>The HTTP versions offered, over ALPN with TLS. Default: HTTP/1.1 and HTTP/2.</summary>
    public HttpProtocols Protocols { get; set; } = HttpProtocols.Http1AndHttp2;

    /// <summary>
    /// SETTINGS_MAX_CONCURRENT_STREAMS, at least 1; streams above it are refused. Default: 100, as public providers announce.
    /// <see cref="MockLlmServer.SetStreamLimit"/> announces less while it runs.
    /// </summary>
    public int MaxStreamsPerConnection { get; set; } = 100;

    /// <summary>
    /// Simulated round-trip time, 0 to 60 s: half of it passes each way, below TLS. Bandwidth is not limited. Default: 0.
    /// </summary>
    public TimeSpan RoundTripTime { get; set; }

    /// <summary>
    /// The first bytes of a connection are held for one more <see cref="RoundTripTime"/> after it was accepted, because the TCP handshake
    /// of a local client costs nothing. Default: true. Must be false for clients that use <see cref="MockLlmServer.CreateNetwork"/>: there
    /// the client pays for it.
    /// </summary>
    public bool TcpHandshakeAtServer { get; set; } = true;

    /// <summary>Time from the end of the request to the first byte of the answer, spent at the server. Default: 0.</summary>
    public TimeSpan ServiceTime { get; set; }

    /// <summary>Tokens per completion, 0 or more; a smaller <c>max_tokens</c> of the request wins. Default: 16.</summary>
    public int Tokens { get; set; } = 16;

    /// <summary>
    /// Time between two tokens of a stream; the schedule is absolute, so lateness does not add up. Default: 0, all at once.
    /// </summary>
    public TimeSpan TokenGap { get; set; }

    /// <summary>
    /// Time after which an idle connection is closed by the server (checked once a second). Default: 400 s, as the edge of public providers
    /// does.
    /// </summary>
    public TimeSpan IdleTimeout { get; set; } = TimeSpan.FromSeconds(400);

    /// <summary>
    /// The only API key accepted, as <c>Authorization: Bearer</c> or <c>x-api-key</c>; others get 401. Default: null, any or none.
    /// </summary>
    public string? RequiredApiKey { get; set; }

    /// <summary>A rate limit that is enforced. Default: null: nothing is, and the headers tell of limits that nobody reaches.</summary>
    public MockRateLimit? RateLimit { get; set; }

    /// <summary>More names or IP addresses for the certificate. Default: none.</summary>
    public IList<string> HostNames { get; } = new List<string>();

    /// <summary>The certificate presented. Default: <see cref="MockCertificate.Valid"/>.</summary>
    public MockCertificate Certificate { get; set; }

    /// <summary>
    /// Called for each request before its body is read; null leaves the answer as it is. Called from many threads. Default: null.
    /// </summary>
    public Func<MockRequest, MockReply?>? OnRequest { get; set; }

    /// <summary>
    /// Called for each accepted connection before a byte is read; null serves it normally. Called from many threads. Default: null.
    /// </summary>
    public Func<MockConnectionInfo, MockConnectionPlan?>? OnConnection { get; set; }

    /// <summary>
    /// Keeps a <see cref="MockRequestRecord"/> for every request until <see cref="MockLlmServer.ResetCounters"/>. Default: false.
    /// </summary>
    public bool RecordRequests { get; set; }

    internal void Validate()
    {
        var problems = new List<string>();
        Check(Port is >= 0 and <= 65535, nameof(Port), Port, "0 (a free port) to 65535");
        Check(MaxStreamsPerConnection >= 1, nameof(MaxStreamsPerConnection), MaxStreamsPerConnection, "1 or more (SetStreamLimit goes down to 0 later)");
        Check(RoundTripTime >= TimeSpan.Zero && RoundTripTime.TotalSeconds <= 60, nameof(RoundTripTime), RoundTripTime, "0 to 60 s");
        Check(ServiceTime >= TimeSpan.Zero, nameof(ServiceTime), ServiceTime, "0 or more");
        Check(TokenGap >= TimeSpan.Zero, nameof(TokenGap), TokenGap, "0 or more");
        Check(IdleTimeout > TimeSpan.Zero, nameof(IdleTimeout), IdleTimeout, "more than 0");
        Check(Tokens >= 0, nameof(Tokens), Tokens, "0 or more");
        Check(RateLimit?.Requests is null or >= 1, nameof(RateLimit) + "." + nameof(MockRateLimit.Requests), RateLimit?.Requests ?? 0, "1 or more, or null");
        Check(RateLimit?.Tokens is null or >= 1, nameof(RateLimit) + "." + nameof(MockRateLimit.Tokens), RateLimit?.Tokens ?? 0, "1 or more, or null");
        Check(RateLimit is null || (RateLimit.Window.TotalMilliseconds >= 10 && RateLimit.Window.TotalDays <= 1), nameof(RateLimit) + "." + nameof(MockRateLimit.Window),
            RateLimit?.Window ?? TimeSpan.Zero, "10 ms to 1 day");
        Check(Enum.IsDefined(Protocols) && Protocols is not HttpProtocols.None and <= HttpProtocols.Http1AndHttp2, nameof(Protocols), Protocols,
            "Http1, Http2 or Http1AndHttp2");
        Check(Enum.IsDefined(Certificate), nameof(Certificate), Certificate, "one of " + string.Join(", ", Enum.GetNames<MockCertificate>()));
        if (problems.Count > 0)
        {
            throw new ArgumentException("Invalid " + nameof(MockLlmOptions) + ": " + string.Join("; ", problems) + ".");
        }

        void Check(bool good, string name, object value, string range)
        {
            if (!good)
            {
                problems.Add($"{name} is {value}, must be {range}");
            }
        }
    }
}
