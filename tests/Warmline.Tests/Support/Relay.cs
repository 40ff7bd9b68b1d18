using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using Warmline.Transport;

namespace Warmline.Tests.Support;

/// <summary>A way to the server that a test can hold up at DNS or TCP, and cut with a reset. The bytes pass as they are.</summary>
internal sealed class Relay(INetwork network) : INetwork, IAsyncDisposable
{
    readonly TcpListener _listener = Listen();
    readonly ConcurrentBag<Socket> _sockets = [];
    readonly CancellationTokenSource _end = new();
    int _resolving;
    int _connecting;
    long _sent;

    /// <summary>Lookups wait for this.</summary>
    public Task Dns { get; set; } = Task.CompletedTask;

    /// <summary>Connection attempts wait for this.</summary>
    public Task Tcp { get; set; } = Task.CompletedTask;

    /// <summary>Lookups that were begun.</summary>
    public int Resolving => Volatile.Read(ref _resolving);

    /// <summary>Connection attempts that were begun.</summary>
    public int Connecting => Volatile.Read(ref _connecting);

    /// <summary>Bytes that came from the client's side: once there are some, the client knows that it is connected.</summary>
    public long Sent => Interlocked.Read(ref _sent);

    public async ValueTask<IPAddress[]> ResolveAsync(string host, CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref _resolving);
        await Dns.WaitAsync(_end.Token);
        return [IPAddress.Loopback];
    }

    public async ValueTask<Stream> ConnectAsync(IPEndPoint endPoint, CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref _connecting);
        await Tcp.WaitAsync(cancellationToken);
        var accepting = _listener.AcceptSocketAsync(_end.Token);
        var stream = await network.ConnectAsync((IPEndPoint)_listener.LocalEndpoint, cancellationToken);
        var near = await accepting;
        var far = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        await far.ConnectAsync(endPoint, cancellationToken);
        near.NoDelay = true;
        _sockets.Add(near);
        _sockets.Add(far);
        _ = PumpAsync(near, far, fromClient: true);
        _ = PumpAsync(far, near, fromClient: false);
        return stream;
    }

    public WireState Look(Stream wire, TimeSpan rested) => network.Look(wire, rested);

    public IReadOnlyCollection<IPAddress> LocalAddresses() => network.LocalAddresses();

    /// <summary>Resets every connection, on both sides.</summary>
    public void Reset()
    {
        while (_sockets.TryTake(out var socket))
        {
            Reset(socket);
        }
    }

    static void Reset(Socket socket)
    {
        try
        {
            socket.LingerState = new LingerOption(true, 0);
            socket.Dispose();
        }
        catch (ObjectDisposedException)
        {
            // Both pumps come here.
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _end.CancelAsync();
        Reset();
        _listener.Dispose();
        _end.Dispose();
    }

    static TcpListener Listen()
    {
        var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return listener;
    }

    async Task PumpAsync(Socket from, Socket to, bool fromClient)
    {
        var buffer = new byte[64 * 1024];
        try
        {
            for (int count; (count = await from.ReceiveAsync(buffer)) > 0;)
            {
                await to.SendAsync(buffer.AsMemory(0, count));
                Interlocked.Add(ref _sent, fromClient ? count : 0);
            }

            to.Shutdown(SocketShutdown.Send);
        }
        catch (Exception error) when (error is SocketException or ObjectDisposedException)
        {
            // One side was reset, by its owner or by Reset: the other is too.
            Reset(to);
        }
    }
}
