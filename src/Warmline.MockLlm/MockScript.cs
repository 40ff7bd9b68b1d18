using System.Net;
using Microsoft.AspNetCore.Http;

namespace Warmline.MockLlm;

/// <summary>A request as <see cref="MockLlmOptions.OnRequest"/> sees it: the head only, the body is not read yet.</summary>
public sealed class MockRequest
{
    readonly IHeaderDictionary _headers;

    internal MockRequest(long sequence, long connectionId, int attempt, HttpRequest request)
    {
        Sequence = sequence;
        ConnectionId = connectionId;
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

/// <summary>What a script changes in one answer. Everything not set stays as the options and the request's <c>x-mock-*</c> headers say.</summary>
public sealed record MockReply
{
    /// <summary>The status; 400 and above come with an error body in the provider's shape. Default: null.</summary>
    public int? Status { get; init; }

    /// <summary>The message in the error body. Default: one that fits the status.</summary>
    public string? ErrorMessage { get; init; }

    /// <summary>Sent as <c>retry-after</c> in seconds (to OpenAI clients also as <c>retry-after-ms</c>). Default: null, none.</summary>
    public TimeSpan? RetryAfter { get; init; }

    /// <summary>Response headers to set, over those of the provider. Default: none.</summary>
    public IReadOnlyDictionary<string, string>? Headers { get; init; }

    /// <summary>
    /// Time before the response headers, in place of <see cref="MockLlmOptions.ServiceTime"/>; <see cref="Timeout.InfiniteTimeSpan"/>: they never come.
    /// </summary>
    public TimeSpan? DelayBeforeHeaders { get; init; }

    /// <summary>Tokens of the completion. Default: null.</summary>
    public int? Tokens { get; init; }

    /// <summary>Time between two tokens of a stream. Default: null.</summary>
    public TimeSpan? TokenGap { get; init; }

    /// <summary>Break off at once, before a byte is answered: HTTP/1.1 resets the connection, HTTP/2 the stream. Default: false.</summary>
    public bool Abort { get; init; }

    /// <summary>
    /// Break off a stream after so many tokens, which do arrive: HTTP/1.1 by FIN without the end of the body, HTTP/2 by RST_STREAM. Default: null, never.
    /// </summary>
    public int? AbortAfterTokens { get; init; }

    /// <summary>Answer without reading the request's body. Default: false.</summary>
    public bool BeforeBody { get; init; }
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

    /// <summary>Complete TLS, answer the first bytes with something that is neither a status line nor an HTTP/2 frame, then close.</summary>
    GarbageForHttp,
}

/// <summary>What a script wants of one connection.</summary>
public sealed record MockConnectionPlan
{
    /// <summary>What it does. Default: <see cref="MockConnectionAct.Serve"/>.</summary>
    public MockConnectionAct Act { get; init; }

    /// <summary>
    /// Close after the answer to this many requests, without a <c>Connection: close</c> before: HTTP/1.1 by FIN, HTTP/2 by GOAWAY. Default: null, never.
    /// </summary>
    public int? CloseAfterRequests { get; init; }
}
