namespace Warmline;

/// <summary>Where the time of one call went. Read it by <see cref="PoolResponseExtensions.TryGetPoolTimings"/>.</summary>
public readonly record struct RequestTimings
{
    /// <summary>From asking for a place on a connection to having it; a wait for a dial is part of it.</summary>
    public TimeSpan Queue { get; init; }

    /// <summary>
    /// Resolving the host name, the proxy's where there is one, for the connection that the call rode; zero when the call
    /// <see cref="Reused"/> it.
    /// </summary>
    public TimeSpan Dns { get; init; }

    /// <summary>Opening the TCP connection, to the proxy where there is one; zero when the call <see cref="Reused"/> it.</summary>
    public TimeSpan Tcp { get; init; }

    /// <summary>From that TCP connection to the proxy's tunnel: <c>CONNECT</c>, and TLS to a proxy whose address is https; zero without a
    /// proxy, and when the call
    /// <see cref="Reused"/> the connection.</summary>
    public TimeSpan Proxy { get; init; }

    /// <summary>The TLS handshake; zero when the call <see cref="Reused"/> the connection.</summary>
    public TimeSpan Tls { get; init; }

    /// <summary>
    /// From having a place to the end of the request body; zero without one, for one of up to 16 KB in memory, which is handed over at
    /// once, and as long as it is not through.
    /// </summary>
    public TimeSpan Send { get; init; }

    /// <summary>From having a place to the response's headers.</summary>
    public TimeSpan FirstByte { get; init; }

    /// <summary>From having a place to the end of the response body; <see langword="null"/> as long as it has not ended.</summary>
    public TimeSpan? LastByte { get; init; }

    /// <summary>
    /// From having a place to the first piece of a streamed answer: the first server-sent event that is neither a ping nor known to be mere
    /// framing (<c>message_start</c>,
    /// <c>response.created</c> and their like). Of OpenAI's chat completions the first chunk counts, which brings the role and comes with
    /// the first token.
    /// <see langword="null"/> before it, and where the answer is no stream of events. Exact to the read that brought it.
    /// </summary>
    public TimeSpan? FirstToken { get; init; }

    /// <summary>Events so far that brought a piece of the answer: tokens, as most providers stream.</summary>
    public long Tokens { get; init; }

    /// <summary>
    /// The longest time between two reads that brought such events; <see langword="null"/> before the second. A caller who reads late makes
    /// it longer.
    /// </summary>
    public TimeSpan? LongestTokenGap { get; init; }

    /// <summary>The mean time from one such event to the next; <see langword="null"/> before the second read that brought some.</summary>
    public TimeSpan? MeanTokenGap { get; init; }

    /// <summary>The connection that carried the call; unique within the pool.</summary>
    public long ConnectionId { get; init; }

    /// <summary>How long that connection had been open.</summary>
    public TimeSpan ConnectionAge { get; init; }

    /// <summary>Whether the call needed no dial of its own.</summary>
    public bool Reused { get; init; }
}
