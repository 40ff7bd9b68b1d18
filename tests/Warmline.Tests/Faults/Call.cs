using System.Net.Sockets;
using System.Text;
using Warmline.Tests.Http;

namespace Warmline.Tests.Faults;

/// <summary>What a row wants of a call.</summary>
internal sealed record CallKind
{
    /// <summary>The caller disposes the answer when this was in it.</summary>
    public string? StopAt { get; init; }

    /// <summary>The request body; a small text when null, which can be sent again.</summary>
    public Func<HttpContent>? Content { get; init; }

    public HttpMethod Method { get; init; } = HttpMethod.Post;
}

/// <summary>A call as its caller saw it.</summary>
internal sealed class Call(int id, bool isTold, CallKind kind)
{
    string _text = "";

    public int Id => id;

    /// <summary>Whether the page tells it; the others only prepare.</summary>
    public bool IsTold => isTold;

    public CallKind Kind => kind;

    public Task Task { get; set; } = Task.CompletedTask;

    public CancellationTokenSource Cancel { get; } = new();

    public int? Status { get; set; }

    /// <summary>The body so far.</summary>
    public string Text { get => Volatile.Read(ref _text); set => Volatile.Write(ref _text, value); }

    public Exception? Error { get; set; }

    /// <summary>The answer was given as complete.</summary>
    public bool IsWhole { get; set; }

    /// <summary>The caller stopped where he wanted to.</summary>
    public bool Stopped { get; set; }

    /// <summary>It did not end, and was given up by the test.</summary>
    public bool Hangs { get; set; }

    /// <summary>How far the clock was turned until it ended.</summary>
    public TimeSpan Turned { get; set; }

    /// <summary>There was a connection on which the server would have taken it, when it failed.</summary>
    public bool WasAble { get; set; }

    /// <summary>What ended it, where that is a clock which the stage does not turn.</summary>
    public string? EndedBy { get; set; }

    public RequestVerdict? Verdict => Error switch
    {
        PoolRequestException failed => failed.Verdict,
        PoolConnectException failed => failed.Verdict,
        RequestStalledException stalled => stalled.Verdict,
        PoolRejectedException => RequestVerdict.NotSent,   // what it means
        _ => null,
    };

    /// <summary>The clock that ended it, and its limit.</summary>
    public (string Name, TimeSpan Limit)? Clock => Error switch
    {
        RequestStalledException stalled => ($"Timeouts.{stalled.Phase}", stalled.Limit),
        PoolTimeoutException => ("Timeouts.Pool", Stage.PoolLimit),
        PoolConnectException when Turned >= Stage.ConnectLimit => ("Timeouts.Connect", Stage.ConnectLimit),
        _ => null,
    };

    /// <summary>What the caller saw, in a few words.</summary>
    public string Outcome
    {
        get
        {
            var before = Status is { } status ? $"{status}" : null;
            return Hangs ? before is null ? "hangs" : $"{before}, then hangs"
                : Error is not null ? before is null ? Tell(Error) : $"{before}, then {Tell(Error)}"
                : Stopped ? before is null ? "left by the caller" : $"{before}, left by the caller" : $"{before}";
        }
    }

    static string Tell(Exception error) => error switch
    {
        PoolConnectException failed => $"PoolConnectException ({failed.Phase})",
        PoolTimeoutException failed => $"PoolTimeoutException ({failed.Reason})",
        PoolRequestException failed => $"PoolRequestException ({failed.HttpRequestError})",
        RequestStalledException stalled => $"RequestStalledException ({stalled.Phase})",
        IOException and not HttpIOException when error.InnerException is SocketException => "IOException",
        _ => Side.Tell(error),
    };
}

/// <summary>Calls whose request bodies are special.</summary>
internal static class Contents
{
    const int Parts = 300, PartBytes = 1024, LargeBytes = 64 * 1024 * 1024;   // more than the kernel's buffers of both sides take together

#pragma warning disable RS0030 // A body that comes slowly, as a browser's upload does.
    static readonly TimeProvider Clock = TimeProvider.System;
#pragma warning restore RS0030

    static readonly byte[] OwnBody = Encoding.ASCII.GetBytes("\"" + new string('x', 200 * 1024) + "\"");

    /// <summary>A body that is gone once it was read.</summary>
    public static CallKind OneShot { get; } = new() { Content = static () => new StreamContent(new OnceStream()) };

    /// <summary>A body that takes more than a second.</summary>
    public static CallKind Slow { get; } = NewSlow(static () => { });

    /// <summary>A body that takes more than a second, and tells when it was written to its end.</summary>
    public static CallKind NewSlow(Action ended) => new()
    {
        Content = () => new OwnContent(async (stream, ct) =>
        {
            for (var part = 0; part < Parts; part++)
            {
                await stream.WriteAsync(new byte[PartBytes], ct);
                await stream.FlushAsync(ct);
                await Task.Delay(TimeSpan.FromMilliseconds(4), Clock, ct);
            }

            ended();
        }),
    };

    /// <summary>The JSON of an SDK: a content of its own type, that tells its length.</summary>
    public static CallKind OwnJson { get; } = new()
    {
        Content = static () => new OwnContent(static (stream, ct) => stream.WriteAsync(OwnBody, ct).AsTask(), OwnBody.Length) { Headers = { ContentType = new("application/json") } },
    };

    static readonly byte[] LargeBody = new byte[LargeBytes];

    /// <summary>A body that no socket's buffers hold.</summary>
    public static CallKind Large { get; } = new() { Content = static () => new ReadOnlyMemoryContent(LargeBody) };

    /// <summary>More than the first window of an HTTP/2 connection.</summary>
    public static CallKind Megabyte { get; } = new() { Content = static () => new ByteArrayContent(new byte[1_000_000]) };

    sealed class OnceStream() : MemoryStream(Encoding.ASCII.GetBytes("{}"))
    {
        public override bool CanSeek => false;
    }
}
