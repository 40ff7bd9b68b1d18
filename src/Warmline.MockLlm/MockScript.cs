using System.Net;
using Microsoft.AspNetCore.Http;

namespace Warmline.MockLlm;

/// <summary>A request as <see cref="MockLlmOptions.OnRequest"/> sees it: the head only, the body is not read yet.</summary>
public sealed class MockRequest
{
    readonly IHeaderDictionary _headers;

    internal MockRequest(long sequence, long connectionId, int numberOnConnection, int attempt, HttpRequest request)
    {
        Sequence = sequence;
        ConnectionId = connectionId;
        NumberOnConnection = numberOnConnection;
        Attempt = attempt;
        Method = request.Method;
        Path = request.Path.Value ?? "/";
        Protocol = request.Protocol;
        _headers = request.Headers;
    }

    /// <summary>The request's number since the server started, from 1.</summary>
    public long Sequence { get; }

    /// <summary>The number of its connection, as in <see cref="MockConnectionRecord.Id"/>.</summary>
    public long ConnectionId { get; }

    /// <summary>
    /// Which request of its connection it is, from 1: from 2 on the connection is reused. HTTP/2 counts in the order in which the streams
    /// were opened.
    /// </summary>
    public int NumberOnConnection { get; }

    /// <summary>Which attempt with the same <c>x-mock-id</c> this is, from 1; 1 without that header.</summary>
    public int Attempt { get; }

    /// <summary>The HTTP method.</summary>
    public string Method { get; }

    /// <summary>The path without the query.</summary>
    public string Path { get; }

    /// <summary><c>HTTP/1.1</c> or <c>HTTP/2</c>.</summary>
    public string Protocol { get; }

    /// <summary>The <c>x-mock-id</c> header, null without it.</summary>
    public string? MockId => Header("x-mock-id");

    /// <summary>The value of a request header, null when it was not sent.</summary>
    public string? Header(string name) => _headers.TryGetValue(name, out var value) ? value.ToString() : null;
}

/// <summary>A connection as <see cref="MockLlmOptions.OnConnection"/> sees it, just accepted.</summary>
/// <param name="Id">Its number since the server started, from 1.</param>
/// <param name="RemoteEndPoint">The client's end.</param>
public sealed record MockConnectionInfo(long Id, EndPoint? RemoteEndPoint);

/// <summary>What a connection does instead of serving.</summary>
public enum MockConnectionAct
{
    /// <summary>Serve normally.</summary>
    Serve,

    /// <summary>Accept and stay silent: the TLS ClientHello (or the request, without TLS) is never answered.</summary>
    Silent,

    /// <summary>Complete TLS, then stay silent: no HTTP/2 SETTINGS, no HTTP/1.1 answer.</summary>
    SilentAfterTls,

    /// <summary>Close at once with FIN.</summary>
    Close,

    /// <summary>Close at once with RST.</summary>
    Reset,

    /// <summary>Answer the first bytes with something that is no TLS record, then close.</summary>
    GarbageForTls,

    /// <summary>
    /// Complete TLS, answer the first bytes with something that is neither a status line nor an HTTP/2 frame, then close.
    /// </summary>
    GarbageForHttp,
}

/// <summary>What a script wants of one connection.</summary>
public sealed record MockConnectionPlan
{
    /// <summary>What it does. Default: <see cref="MockConnectionAct.Serve"/>.</summary>
    public MockConnectionAct Act { get; init; }

    /// <summary>
    /// Close after the answer to this many requests, without a <c>Connection: close</c> before: HTTP/1.1 by FIN, HTTP/2 by GOAWAY. Default:
    /// null, never.
    /// </summary>
    public int? CloseAfterRequests { get; init; }

    /// <summary>
    /// <see cref="IdleFault"/> when no request has run for this time, more than 0; counted from the end of the handshake or of the last
    /// answer, by the server's clock and exact, other than <see cref="MockLlmOptions.IdleTimeout"/>. For <see cref="MockFault.Vanish"/>
    /// every byte of the client counts, an HTTP/2 PING too, as for a middlebox that forgets a flow. Default: null, never.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">0 or less.</exception>
    public TimeSpan? IdleTimeout
    {
        get;
        init => field = value is null || value > TimeSpan.Zero ? value : throw new ArgumentOutOfRangeException(nameof(IdleTimeout), value, "Must be more than 0.");
    }

    /// <summary>
    /// What happens after <see cref="IdleTimeout"/>: <see cref="MockFault.Fin"/> (the default), <see cref="MockFault.Reset"/>,
    /// <see cref="MockFault.GoAway"/> or
    /// <see cref="MockFault.Vanish"/>.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">Another one.</exception>
    public MockFault IdleFault
    {
        get;
        init => field = value >= MockFault.Fin ? value : throw new ArgumentOutOfRangeException(nameof(IdleFault), value, "Must be Fin, Reset, GoAway or Vanish.");
    } = MockFault.Fin;

    /// <summary>
    /// HTTP/2: only the first so many requests, 0 or more, are processed; the GOAWAY that comes with request <see cref="GoAwayAtRequest"/>
    /// names the last of them as its last stream. Requests after it are in flight above that: they wait unprocessed, and are recorded so.
    /// Then FIN. Default: null, never.
    /// </summary>
    public int? GoAwayAfterRequests { get; init; }

    /// <summary>
    /// The request, by its number on the connection, whose arrival sends the GOAWAY; at least 1. Default: null, that of
    /// <see cref="GoAwayAfterRequests"/>.
    /// </summary>
    public int? GoAwayAtRequest { get; init; }
}
