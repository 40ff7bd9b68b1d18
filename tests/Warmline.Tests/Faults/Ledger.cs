namespace Warmline.Tests.Faults;

/// <summary>One arrival of a call's request at the server: what the server read of it, did about it and said to it. Written by the server alone.</summary>
internal sealed class Copy(int call, int connection, int stream)
{
    readonly TaskCompletionSource _whole = new(TaskCreationOptions.RunContinuationsAsynchronously);
    readonly TaskCompletionSource _left = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public int Call { get; } = call;

    public int Connection { get; } = connection;

    /// <summary>Its HTTP/2 stream; 0 on HTTP/1.1.</summary>
    public int Stream { get; } = stream;

    /// <summary>Bytes of the request body that came.</summary>
    public long Uploaded { get; set; }

    /// <summary>The server started its work on it.</summary>
    public bool Ran { get; set; }

    /// <summary>The server declared, in the protocol's own words, that it did not process it.</summary>
    public bool Disowned { get; set; }

    public bool SaidHead { get; set; }

    /// <summary>The body that was said so far.</summary>
    public string Said { get; set; } = "";

    /// <summary>The answer was ended as the protocol wants it, and as long as it claimed to be.</summary>
    public bool AnsweredWhole { get; set; }

    /// <summary>The server said its last word on it: the client ends it by itself.</summary>
    public bool IsOver { get; set; }

    /// <summary>The request came to its end.</summary>
    public Task Whole => _whole.Task;

    /// <summary>The client reset the stream, or ended the connection.</summary>
    public Task Left => _left.Task;

    public void NoteWhole() => _whole.TrySetResult();

    public void NoteLeft() => _left.TrySetResult();

    public override string ToString() =>
        $"call {Call} on connection {Connection}, stream {Stream}:{(Ran ? " ran" : "")}{(Disowned ? " disowned" : "")}{(SaidHead ? " head" : "")} {Said.Length} bytes{(AnsweredWhole ? " whole" : "")}{(Left.IsCompleted ? " left" : "")}";
}

/// <summary>The server's own log: what arrived, in order.</summary>
internal sealed class Ledger
{
    readonly Lock _lock = new();
    readonly List<Copy> _copies = [];

    public IReadOnlyList<Copy> Copies
    {
        get
        {
            lock (_lock)
            {
                return [.. _copies];
            }
        }
    }

    public IReadOnlyList<Copy> Of(int call) => [.. Copies.Where(copy => copy.Call == call)];

    public Copy Add(Copy copy)
    {
        lock (_lock)
        {
            _copies.Add(copy);
        }

        return copy;
    }
}
