namespace Warmline.MockLlm;

/// <summary>How a connection ended.</summary>
public enum MockConnectionEnd
{
    /// <summary>It is open.</summary>
    Open,

    /// <summary>The client closed it with FIN.</summary>
    ClientFin,

    /// <summary>The client (or something on the way) reset it.</summary>
    ClientReset,

    /// <summary>The server closed or reset it.</summary>
    Server,
}

/// <summary>One connection as the server saw it.</summary>
/// <param name="Id">Its number since the server started, from 1.</param>
/// <param name="Protocol"><c>HTTP/1.1</c>, <c>HTTP/2</c>, or null while that is not settled.</param>
/// <param name="Requests">Requests that arrived on it.</param>
/// <param name="StreamsOpen">Requests on it that are not answered to the end.</param>
/// <param name="PeakStreams">The most at one time.</param>
/// <param name="TlsResumed">The TLS session was resumed. Known by what the server sent: less than its certificate is long.</param>
/// <param name="End">How it ended.</param>
/// <param name="CloseNotify">The client said TLS close_notify before its FIN. Seen only where somebody reads: HTTP/1.1 does not while it
/// answers.</param>
public sealed record MockConnectionRecord(long Id, string? Protocol, int Requests, int StreamsOpen, int PeakStreams, bool TlsResumed, MockConnectionEnd End, bool CloseNotify);

/// <summary>One request as the server saw it, with <see cref="MockLlmOptions.RecordRequests"/>.</summary>
/// <param name="Sequence">Its number since the server started, from 1.</param>
/// <param name="ConnectionId">The number of its connection.</param>
/// <param name="Protocol"><c>HTTP/1.1</c> or <c>HTTP/2</c>.</param>
/// <param name="Method">The HTTP method.</param>
/// <param name="Path">The path without the query.</param>
/// <param name="MockId">The <c>x-mock-id</c> header, null without it.</param>
/// <param name="BodyLength">Bytes of its body that were read.</param>
/// <param name="Status">The status answered; 0 while there is none.</param>
/// <param name="Started">When its head had arrived.</param>
/// <param name="Ended">When the last byte of the answer was handed to the connection, or when it was broken off; null while it
/// runs.</param>
/// <param name="Aborted">The client went away before the answer ended.</param>
/// <param name="Processed">
/// False when the server did nothing with it but note its head: refused (REFUSED_STREAM), above a GOAWAY's last stream, or on a connection
/// that a script closed, reset or let vanish before. No id may have two records with true unless its client sent it twice without proof.
/// </param>
/// <param name="Attempt">Which attempt with the same <c>x-mock-id</c> it was, from 1, unprocessed ones counted; 1 without that
/// header.</param>
/// <param name="NumberOnConnection">Which request of its connection it was, from 1.</param>
/// <param name="Tokens">Tokens of a stream that were handed to the connection, whether somebody read them or not.</param>
public sealed record MockRequestRecord(
    long Sequence, long ConnectionId, string Protocol, string Method, string Path, string? MockId,
    long BodyLength, int Status, DateTimeOffset Started, DateTimeOffset? Ended, bool Aborted,
    bool Processed, int Attempt, int NumberOnConnection, int Tokens);

/// <summary>A consistent snapshot of what the server counted since it started or since <see cref="MockLlmServer.ResetCounters"/>.</summary>
public sealed record MockCounters
{
    /// <summary>TCP connections accepted.</summary>
    public long ConnectionsAccepted { get; init; }

    /// <summary>TCP connections open now.</summary>
    public int ConnectionsOpen { get; init; }

    /// <summary>The most connections open at one time.</summary>
    public int PeakConnections { get; init; }

    /// <summary>TLS handshakes completed, resumed ones included.</summary>
    public long TlsHandshakes { get; init; }

    /// <summary>TLS handshakes that resumed a session.</summary>
    public long TlsHandshakesResumed { get; init; }

    /// <summary>Connections that ended before their TLS handshake did, unless a script made them.</summary>
    public long TlsHandshakesFailed { get; init; }

    /// <summary>Requests whose head arrived.</summary>
    public long Requests { get; init; }

    /// <summary>Requests that were answered to the end, errors included.</summary>
    public long RequestsCompleted { get; init; }

    /// <summary>Requests that were not processed: see <see cref="MockRequestRecord.Processed"/>.</summary>
    public long RequestsUnprocessed { get; init; }

    /// <summary>Requests whose client went away before the answer ended.</summary>
    public long AbortedRequests { get; init; }

    /// <summary>Requests answered with 429, because of <see cref="MockLlmOptions.RateLimit"/> or because a script said so.</summary>
    public long TooManyRequests { get; init; }

    /// <summary>Requests not answered to the end yet, over HTTP/1.1 and HTTP/2.</summary>
    public int StreamsOpen { get; init; }

    /// <summary>The most at one time.</summary>
    public int PeakStreams { get; init; }

    /// <summary>The most at one time on one connection.</summary>
    public int PeakStreamsPerConnection { get; init; }

    /// <summary>SETTINGS frames injected by <see cref="MockLlmServer.SetStreamLimit"/> into live connections.</summary>
    public long SettingsInjected { get; init; }

    /// <summary>How many of the injected ones the client has acknowledged: from there on the new limit is in force.</summary>
    public long SettingsAcknowledged { get; init; }

    /// <summary>HTTP/2 streams a client opened above the limit in force, which is the last one it acknowledged.</summary>
    public long StreamsBeyondLimit { get; init; }

    /// <summary>Requests by path.</summary>
    public IReadOnlyDictionary<string, long> RequestsByPath { get; init; } = new Dictionary<string, long>();

    /// <summary>The connections, oldest first: all open ones and the last 10 000 closed ones.</summary>
    public IReadOnlyList<MockConnectionRecord> Connections { get; init; } = [];
}
