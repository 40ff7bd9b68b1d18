using System.Net;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using Warmline.Options;
using Warmline.Transport;

namespace Warmline.Cli.Probe;

/// <summary>What the process ends with.</summary>
internal static class ProbeExit
{
    public const int Answered = 0;
    public const int ErrorStatus = 1;
    public const int BadInput = 2;
    public const int Dns = 3;
    public const int Tcp = 4;
    public const int Proxy = 5;
    public const int Tls = 6;
    public const int Http = 7;
    public const int Timeout = 8;
    public const int Interrupted = 130;
}

/// <summary>The probe got no answer: one line, and what the process ends with.</summary>
internal sealed class ProbeException(int exitCode, string message) : Exception(message)
{
    public int ExitCode => exitCode;
}

/// <summary>What to probe and how. A class, as a record would print the headers.</summary>
internal sealed class ProbeSettings
{
    public required Uri Address { get; init; }

    public required HttpMethod Method { get; init; }

    /// <summary>Keys among them: never shown.</summary>
    public required IReadOnlyList<(string Name, string Value)> Headers { get; init; }

    public required X509Certificate2? Authority { get; init; }

    public required bool Insecure { get; init; }

    public required Http2Mode Mode { get; init; }

    /// <summary>Warm calls.</summary>
    public required int Count { get; init; }

    /// <summary>How long to watch an idle connection; null: not at all.</summary>
    public required TimeSpan? Idle { get; init; }

    /// <summary>For each dial, and again for each answer.</summary>
    public required TimeSpan Limit { get; init; }

    /// <summary>What may be shown: never a query.</summary>
    public string Display => Address.GetLeftPart(UriPartial.Path);

    /// <summary>Past the proxy of the environment.</summary>
    public bool Direct { get; init; }

    /// <summary>The pool's own key, proxy included.</summary>
    public ConnectionKey Key => PoolSettings.KeyOf(Address, Mode, Direct ? null : HttpClient.DefaultProxy);
}

/// <summary>One exchange.</summary>
internal sealed record ProbeCall(HttpStatusCode Status, TimeSpan FirstByte, TimeSpan Body, long Bytes)
{
    public TimeSpan Total => FirstByte + Body;
}

/// <summary>A connection and the first call on it. The handshake's bytes are those that came before the first request: far fewer when a TLS
/// session was resumed, as the certificates are left out.</summary>
internal sealed record ProbeConnection(DialTimings Dial, IPEndPoint? Remote, long HandshakeBytes, ProbeCall Call)
{
    public TimeSpan Total => Dial.Total + Call.Total;
}

/// <summary>What the TLS handshake agreed on.</summary>
internal sealed record ProbeTls(SslProtocols Version, TlsCipherSuite Cipher, string Alpn, X509Certificate2? Certificate);

/// <summary>What the server's HTTP/2 frames said it takes; no limit of streams is null.</summary>
internal sealed record ProbeHttp2(int? MaxConcurrentStreams, int InitialWindowSize, int MaxFrameSize, long ConnectionWindow);

/// <summary>What became of an idle connection.</summary>
/// <param name="Waited">Until it was closed, or until the watch ended.</param>
/// <param name="Ended">How the server ended it: goaway or closed; null when it did not.</param>
/// <param name="Answers">Whether a call on it was answered after the watch; null when none was made.</param>
internal sealed record ProbeIdle(TimeSpan Waited, string? Ended, bool? Answers);

/// <summary>What is known so far: filled step by step, so that an interrupted probe has something to tell.</summary>
internal sealed class ProbeResult
{
    public bool IsHttp2 { get; set; }

    public ProbeConnection? Cold { get; set; }

    public ProbeTls? Tls { get; set; }

    public List<ProbeCall> Warm { get; } = [];

    /// <summary>The second connection: DNS from the cache, TLS resumed where the server allows it.</summary>
    public ProbeConnection? Second { get; set; }

    public ProbeHttp2? Http2 { get; set; }

    /// <summary>Whether the server ended the first connection before the warm calls were through.</summary>
    public bool NotKept { get; set; }

    public ProbeIdle? Idle { get; set; }

    public bool Interrupted { get; set; }

    /// <summary>The middle one by total time; null without warm calls.</summary>
    public ProbeCall? WarmMedian => Warm.Count == 0 ? null : Warm.OrderBy(call => call.Total).ElementAt((Warm.Count - 1) / 2);

    /// <summary>Null without TLS or a second connection.</summary>
    public bool? Resumed => Tls is null || Second is null || Cold is null ? null : Second.HandshakeBytes * 2 < Cold.HandshakeBytes;
}
