using System.Net;
using System.Net.Sockets;
using Warmline.Transport;

namespace Warmline.Tests.Support;

/// <summary>A network that a test scripts: what a name resolves to, and what becomes of an attempt to connect.</summary>
internal sealed class FakeNetwork : INetwork
{
    readonly Lock _lock = new();
    readonly List<string> _resolved = [];

    /// <summary>How names resolve; by default to 127.0.0.1.</summary>
    public Func<string, CancellationToken, ValueTask<IPAddress[]>> Resolve { get; set; } = (_, _) => new([IPAddress.Loopback]);

    /// <summary>What an attempt yields; refused by default.</summary>
    public Func<IPEndPoint, CancellationToken, ValueTask<Stream>> Connect { get; set; } =
        (_, _) => ValueTask.FromException<Stream>(new SocketException((int)SocketError.ConnectionRefused));

    /// <summary>What a look at an idle connection finds.</summary>
    public Func<Stream, TimeSpan, WireState> LookAt { get; set; } = (_, _) => WireState.Alive;

    /// <summary>The machine's addresses; none tells nothing.</summary>
    public IReadOnlyCollection<IPAddress> Addresses { get; set; } = [];

    /// <summary>The names asked for, in order.</summary>
    public IReadOnlyList<string> Resolved
    {
        get
        {
            lock (_lock)
            {
                return [.. _resolved];
            }
        }
    }

    /// <summary>A step that never ends unless it is cancelled.</summary>
    public static async ValueTask<T> StallAsync<T>(CancellationToken cancellationToken)
    {
        await new TaskCompletionSource().Task.WaitAsync(cancellationToken);
        throw new InvalidOperationException("Unreachable.");
    }

    public ValueTask<IPAddress[]> ResolveAsync(string host, CancellationToken cancellationToken)
    {
        lock (_lock)
        {
            _resolved.Add(host);
        }

        return Resolve(host, cancellationToken);
    }

    public ValueTask<Stream> ConnectAsync(IPEndPoint endPoint, CancellationToken cancellationToken) => Connect(endPoint, cancellationToken);

    public WireState Look(Stream wire, TimeSpan rested) => LookAt(wire, rested);

    public IReadOnlyCollection<IPAddress> LocalAddresses() => Addresses;
}

/// <summary>A stream that knows whether it was disposed; reading it stalls.</summary>
internal sealed class FakeStream : Stream
{
    readonly TaskCompletionSource _disposed = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public Task Disposed => _disposed.Task;

    public bool IsDisposed => _disposed.Task.IsCompleted;

    public override bool CanRead => true;

    public override bool CanWrite => true;

    public override bool CanSeek => false;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) => FakeNetwork.StallAsync<int>(cancellationToken);

    public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) => ValueTask.CompletedTask;

    public override void Flush()
    {
    }

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count)
    {
    }

    protected override void Dispose(bool disposing)
    {
        _disposed.TrySetResult();
        base.Dispose(disposing);
    }
}
