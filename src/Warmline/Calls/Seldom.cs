using System.Diagnostics;
using Warmline.Transport;

namespace Warmline;

/// <summary>What few calls need. It is an object of its own, because otherwise each call would carry the room for it.</summary>
internal sealed class Seldom
{
    public TaskCompletionSource? Settled;
    public TaskCompletionSource? UploadOver;
    public bool IsFailureCounted;

    /// <summary>How the last attempt failed; null as long as none has.</summary>
    public AttemptFailure? Failure { get; set; }

    /// <summary>Where the call comes from; only recorded where leaks are looked for.</summary>
    public StackTrace? TakenBy { get; set; }

    /// <summary>Since when the response is not read on; MaxValue once that was reported.</summary>
    public TimeSpan HeldSince { get; set; } = Exchange.Never;

    /// <summary>The reads that the leak watch had seen when it looked last.</summary>
    public int ReadsSeen { get; set; }

    /// <summary>The reads at the last check for waits that do not end.</summary>
    public int ReadsAtCheck { get; set; } = -1;

    /// <summary>The response was not read on between the last two checks.</summary>
    public bool IsUnread { get; set; }

    /// <summary>The body of a refusal that is read for the provider's advice.</summary>
    public RefusalContent? InspectedRefusal { get; set; }
}

/// <summary>How an attempt failed. Most calls have none.</summary>
internal sealed class AttemptFailure
{
    /// <summary>Whether the call may use HTTP/1.1 instead of the HTTP/2 on which the attempt failed.</summary>
    public bool MayFallBack { get; init; }

    /// <summary>The HTTP/2 error code in which the attempt ended; 0 for none.</summary>
    public uint ResetCode { get; init; }

    /// <summary>The server refused the TLS handshake of the attempt's connection, after this side believed it to be over.</summary>
    public DialException? TlsRefusal { get; init; }

    /// <summary>Whether the server can have worked on the call.</summary>
    public RequestVerdict Verdict { get; set; } = RequestVerdict.Unknown;

    /// <summary>The platform, or the request's own content, refused the attempt before anything was sent.</summary>
    public bool IsRefusedHere { get; set; }

    /// <summary>The pool's retry budget did not allow another attempt.</summary>
    public bool IsOverBudget { get; set; }
}
