namespace Warmline.MockLlm;

/// <summary>What goes wrong: with one answer, or with the connection it is on and every other answer there.</summary>
public enum MockFault
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>
    /// HTTP/2: RST_STREAM with CANCEL. HTTP/1.1: RST of the connection before the answer, FIN without the end of the body within it.
    /// </summary>
    Cancel,

    /// <summary>As <see cref="Cancel"/>, with INTERNAL_ERROR.</summary>
    InternalError,

    /// <summary>
    /// As <see cref="Cancel"/>, with REFUSED_STREAM, the promise of RFC 9113 section 8.7 that the request was not processed: its body is
    /// not read.
    /// </summary>
    Refuse,

    /// <summary>
    /// HTTP/2: RST_STREAM with HTTP_1_1_REQUIRED, which asks the client to send the request again over HTTP/1.1: its body is not read. Over
    /// HTTP/1.1 nothing is wrong, and the answer comes.
    /// </summary>
    Downgrade,

    /// <summary>Nothing more comes, but the connection lives: HTTP/2 PINGs are acknowledged, other streams go on.</summary>
    Silence,

    /// <summary>
    /// The body ends in good order, but too early: a stream without its terminal event, other answers in the middle of their JSON.
    /// </summary>
    End,

    /// <summary>
    /// Within a stream an event whose data is no JSON, then the rest; before the answer bytes that are no HTTP, then FIN.
    /// </summary>
    Garbage,

    /// <summary>
    /// An error event in a stream that began with 200, then the end of the body: Anthropic's <c>event: error</c> (overloaded_error),
    /// OpenAI's error chunk, the Responses API's <c>error</c>. An answer that does not stream has the status 529 (Anthropic) or 503
    /// instead.
    /// </summary>
    ErrorEvent,

    /// <summary>As <see cref="ErrorEvent"/>, but <c>response.failed</c> where the Responses API is asked.</summary>
    Failed,

    /// <summary>The connection: FIN with no word before it.</summary>
    Fin,

    /// <summary>The connection: RST.</summary>
    Reset,

    /// <summary>
    /// The connection: GOAWAY that names the last stream that has arrived, those up to it are served, later ones never processed, then FIN.
    /// HTTP/1.1: FIN after the running answer.
    /// </summary>
    GoAway,

    /// <summary>
    /// The connection stays open and dead: what comes is read and ignored, nothing is sent any more, PING and SETTINGS are not
    /// acknowledged.
    /// </summary>
    Vanish,
}

/// <summary>
/// How a wait before the next attempt is told. The forms can be combined; seconds and date are the same header, of which the date wins.
/// </summary>
[Flags]
public enum MockRetryAfterForms
{
    /// <summary>As the provider does: <see cref="Seconds"/>, to OpenAI's clients <see cref="Milliseconds"/> too.</summary>
    Default = 0,

    /// <summary><c>retry-after: 2</c>; fractions of a second are written as such.</summary>
    Seconds = 1,

    /// <summary><c>retry-after: Wed, 21 Oct 2026 07:28:00 GMT</c>, rounded up to a second.</summary>
    HttpDate = 2,

    /// <summary><c>retry-after-ms: 2000</c>.</summary>
    Milliseconds = 4,
}

/// <summary>
/// What a script changes in one answer. Everything not set stays as the options and the request's <c>x-mock-*</c> headers say. Numbers and
/// times are 0 or more; what is below counts as 0.
/// </summary>
public sealed record MockReply
{
    /// <summary>The status; 400 and above come with an error body in the provider's shape. Default: null.</summary>
    public int? Status { get; init; }

    /// <summary>The message in the error body or error event. Default: one that fits the status.</summary>
    public string? ErrorMessage { get; init; }

    /// <summary>
    /// What the error body calls the error: OpenAI's <c>code</c>, such as <c>slow_down</c>, Anthropic's <c>type</c>. Default: what fits the
    /// status.
    /// </summary>
    public string? ErrorCode { get; init; }

    /// <summary>
    /// The wait before the next attempt, in <see cref="RetryAfterForms"/>. With status 429 the rate-limit headers agree: nothing left until
    /// then. Default: null, none.
    /// </summary>
    public TimeSpan? RetryAfter { get; init; }

    /// <summary>The headers that tell <see cref="RetryAfter"/>. Default: <see cref="MockRetryAfterForms.Default"/>.</summary>
    public MockRetryAfterForms? RetryAfterForms { get; init; }

    /// <summary>Sent as <c>x-should-retry: true</c> or <c>false</c>. Default: null, not sent.</summary>
    public bool? ShouldRetry { get; init; }

    /// <summary>Response headers to set, over those of the provider. Default: none.</summary>
    public IReadOnlyDictionary<string, string>? Headers { get; init; }

    /// <summary>So many more bytes of response headers (<c>x-mock-padding-1</c> and on). Default: null, none.</summary>
    public int? HeaderPadding { get; init; }

    /// <summary>
    /// Time before the response headers, in place of <see cref="MockLlmOptions.ServiceTime"/>; <see cref="Timeout.InfiniteTimeSpan"/>: they
    /// never come.
    /// </summary>
    public TimeSpan? DelayBeforeHeaders { get; init; }

    /// <summary>
    /// Time between the response headers and the first byte of the body; <see cref="Timeout.InfiniteTimeSpan"/>: it never comes. Default:
    /// null, none.
    /// </summary>
    public TimeSpan? DelayBeforeBody { get; init; }

    /// <summary>Tokens of the completion. Default: null.</summary>
    public int? Tokens { get; init; }

    /// <summary>Time between two tokens of a stream. Default: null.</summary>
    public TimeSpan? TokenGap { get; init; }

    /// <summary>
    /// Time between two pings of a stream while no token comes, also in a <see cref="MockFault.Silence"/>: Anthropic's <c>event: ping</c>,
    /// to OpenAI's clients the comment <c>: ping</c>. Default: null: Anthropic's every 15 s between tokens, none in a silence.
    /// </summary>
    public TimeSpan? PingInterval { get; init; }

    /// <summary>
    /// The body in pieces of so many bytes, each sent alone, <see cref="DribbleGap"/> apart. Default: null, in whole events.
    /// </summary>
    public int? DribbleBytes { get; init; }

    /// <summary>Time between two pieces of <see cref="DribbleBytes"/>. Default: null, none.</summary>
    public TimeSpan? DribbleGap { get; init; }

    /// <summary>
    /// The body is cut off after so many bytes, which do arrive, although more were promised: HTTP/1.1 by FIN (before the end of the
    /// content-length, or within a chunk), HTTP/2 by END_STREAM (before the end of the content-length, where there is one). Default: null,
    /// never.
    /// </summary>
    public int? TruncateAfterBytes { get; init; }

    /// <summary>
    /// Time between the last byte of a stream's events and the end of the body; <see cref="Timeout.InfiniteTimeSpan"/>: it never comes.
    /// Default: null, none.
    /// </summary>
    public TimeSpan? TailDelay { get; init; }

    /// <summary>So many bytes of SSE comments after the terminal event of a stream. Default: null, none.</summary>
    public int? ExtraBytes { get; init; }

    /// <summary>Break off at once, before a byte is answered: HTTP/1.1 resets the connection, HTTP/2 the stream. Default: false.</summary>
    public bool Abort { get; init; }

    /// <summary>
    /// Break off a stream after so many tokens, which do arrive: HTTP/1.1 by FIN without the end of the body, HTTP/2 by RST_STREAM.
    /// Default: null, never.
    /// </summary>
    public int? AbortAfterTokens { get; init; }

    /// <summary>Answer, or fail, without reading the request's body. Default: false.</summary>
    public bool BeforeBody { get; init; }

    /// <summary>
    /// The request's body is read at so many bytes a second, steadily, as over a narrow line; 0: it is never read. What the kernels hold
    /// between client and server, some megabytes, is taken at once. Default: null, as fast as it comes.
    /// </summary>
    public int? ReadBytesPerSecond { get; init; }

    /// <summary>
    /// What goes wrong, at the place that <see cref="FaultAfterTokens"/> says. A fault of the connection with <see cref="BeforeBody"/>
    /// comes before anything of the request but its head was looked at: such a request counts as not processed. Default: null.
    /// </summary>
    public MockFault? Fault { get; init; }

    /// <summary>
    /// Where <see cref="Fault"/> comes: after so many tokens of a stream, which do arrive (a number beyond the last: before the terminal
    /// event); in an answer that does not stream: in the middle of its body. Default: null: in place of the answer, when the request has
    /// been read whole.
    /// </summary>
    public int? FaultAfterTokens { get; init; }
}
